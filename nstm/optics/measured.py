"""Measured transfer functions: radial tables as DeltaVision, TIFF and MRC files of makeotf hold them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from nstm.acquisition import DataError
from nstm.io.mrc import read_mrc_array
from nstm.optics.otf import RadialOtf


@dataclass(frozen=True)
class MeasuredOtf:
    """Transfer functions of the orders as they were measured.

    Attributes:
        tables: complex ``(order, kz, kr)``, 1 at the origin of order 0; ``kz`` in FFT order, one for a single plane.
        pitch: distance of the samples along ``kr``, cycles/um.
        axial_pitch: the same along ``kz``.
    """

    tables: np.ndarray
    pitch: float
    axial_pitch: float

    def at(self, orders: int, planes: int, z_step_um: float | None, cutoff: float) -> RadialOtf:
        """On the axial frequencies of a stack (interpolated), up to the lateral ``cutoff`` (cycles/um).

        A file with one order gives it to all; one for stacks gives single planes its sum over ``kz``, in focus.

        Raises:
            DataError: a stack, but the file was measured in a single plane.
        """
        tables = self.tables[np.minimum(np.arange(orders + 1), len(self.tables) - 1)]
        if planes == 1:
            tables = tables.sum(axis=1, keepdims=True)
            tables = tables / np.abs(tables[0, 0, 0])
        elif tables.shape[1] == 1:
            raise DataError("the measured transfer function is that of a single plane: a stack needs one along kz")
        else:
            kz = np.fft.fftshift(np.fft.fftfreq(tables.shape[1], 1 / tables.shape[1])) * self.axial_pitch
            if z_step_um is None:
                raise DataError("a stack needs optics.z_step_um: give it in the config")
            wanted = np.fft.fftfreq(planes, z_step_um)
            tables = _along_kz(np.fft.fftshift(tables, axes=1), kz, wanted)
        inside = int(np.ceil(cutoff / self.pitch))
        return RadialOtf(tables[..., : inside + 1].astype(np.complex64), self.pitch, cutoff)


def _along_kz(tables: np.ndarray, kz: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Linear interpolation of ``(order, kz, kr)``, nothing beyond the ends."""
    place = np.interp(wanted, kz, np.arange(kz.size))
    low = np.minimum(place.astype(int), kz.size - 2)
    part = (place - low)[:, None]
    inside = ((wanted >= kz[0]) & (wanted <= kz[-1]))[:, None]
    return (tables[:, low] * (1 - part) + tables[:, low + 1] * part) * inside


def read_otf(path: Path, *, pixel_um: float, z_step_um: float | None) -> MeasuredOtf:
    """Read the transfer functions of a file: DeltaVision or MRC (complex), or TIFF as makeotf or :func:`write_otf` do.

    Args:
        path: the file; sections are orders, rows ``kr``, columns ``kz``.
        pixel_um: pixel of the beads, um; only a TIFF of :func:`write_otf` says it itself.
        z_step_um: distance of their planes, um; the same.

    Raises:
        DataError: not such a file.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file of transfer functions (optics.otf)")
    if path.suffix.lower() in (".tif", ".tiff"):
        try:
            with tifffile.TiffFile(path) as file:
                pages, description = file.asarray(), file.pages[0].description  # type: ignore[union-attr]  # the first page is never a frame
        except (OSError, tifffile.TiffFileError) as error:
            raise DataError(f"{path}: cannot be read as a transfer function: {error}") from None
        pages = np.asarray(pages, np.float32)
        pages = pages.reshape(-1, *pages.shape[-2:])
        values = pages[..., 0::2] + 1j * pages[..., 1::2] if pages.shape[-1] % 2 == 0 else pages.astype(complex)
        stated = _pitches(description)
    else:
        values, stated = read_mrc_array(path), {}
    if values.shape[1] == 1:  # radius along the columns of a single plane
        values = values.transpose(0, 2, 1)
    tables = np.ascontiguousarray(values.transpose(0, 2, 1))
    if tables.shape[2] < 8 or not abs(tables[0, 0, 0]) > 0:
        raise DataError(f"{path}: {values.shape} values do not hold a transfer function (orders, kr, kz)")
    depth = tables.shape[1] * (z_step_um or 1.0)
    return MeasuredOtf(
        tables / np.abs(tables[0, 0, 0]),
        stated.get("kr_per_um", 1 / (2 * (tables.shape[2] - 1) * pixel_um)),
        stated.get("kz_per_um", 1 / depth),
    )


def write_otf(path: Path, otf: MeasuredOtf) -> None:
    """Write a TIFF as makeotf does: a page per order, rows ``kr``, real and imaginary parts along ``kz`` in turn.

    The pitches stand as JSON in the description.
    """
    values = otf.tables.transpose(0, 2, 1)
    pages = np.stack([values.real, values.imag], axis=-1).reshape(*values.shape[:2], -1).astype(np.float32)
    pitches = {"kr_per_um": otf.pitch, "kz_per_um": otf.axial_pitch}
    tifffile.imwrite(path, pages, photometric="minisblack", description=json.dumps(pitches), metadata=None)


def _pitches(description: str) -> dict[str, float]:
    try:
        found = json.loads(description)
    except ValueError:
        return {}
    return {k: float(found[k]) for k in ("kr_per_um", "kz_per_um") if isinstance(found, dict) and k in found}
