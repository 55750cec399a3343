"""Stores as ImageJ hyperstacks, for programs that do not read OME-Zarr."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import xarray as xr

from nstm.acquisition import DataError, frame_axes_of
from nstm.io.protocol import clean_text, shown
from nstm.io.store import is_raw, open_raw, open_timelapse, replace_whole
from nstm.pipeline.lineage import versions

#: ImageJ's format has 32-bit offsets; what every plane needs besides its pixels: directory and label.
MAX_BYTES = 2**32 - 2**20
_PLANE_BYTES = 2**9
#: Types of pixels that ImageJ knows; all others are written as float32.
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")
#: Pixels beyond the display range at each end, percent, and the planes that it is taken from.
_SATURATED_PERCENT, _SAMPLED_PLANES = 0.1, 16


@dataclass(frozen=True)
class _Hyperstack:
    """Images with dims ``(t, *frame axes or c, z, y, x)``; what stands between ``t`` and ``z`` are the channels."""

    images: xr.DataArray
    times_s: np.ndarray  # (t, channels, z)
    channels: list[str]
    pixel_um: float
    z_step_um: float | None
    remarks: list[str]

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """``(t, z, c, y, x)``, the order of ImageJ."""
        t, z, y, x = (self.images.sizes[axis] for axis in "tzyx")
        return t, z, len(self.channels), y, x

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels that are written."""
        return self.images.dtype if self.images.dtype.name in _IMAGEJ_TYPES else np.dtype(np.float32)

    def slices(self) -> Iterator[np.ndarray]:
        """The channels ``(c, y, x)`` of every plane of every time, in the order of the file."""
        t, z, *_ = self.shape
        for place in np.ndindex(t, z):
            yield self.slice(*place)

    def slice(self, t: int, z: int) -> np.ndarray:
        """All channels of a plane, ``(c, y, x)``; only they are in memory."""
        found = self.images.isel(t=t, z=z).values
        return found.reshape(-1, *found.shape[-2:]).astype(self.dtype, copy=False)


def export_imagej(store: str | Path, out_tif: str | Path, times: str | None = None) -> None:
    """Write a store as TZCYX hyperstack with pixel size, distance of planes, frame interval and display range.

    Frames of a raw store are the channels, their counts as they are; missing results stay NaN. The frame interval is
    the mean one; the exact times stand in the labels of the planes and in the property ``Info``. Memory: the channels
    of one plane.

    Args:
        store: raw or time-lapse store.
        out_tif: the file to write.
        times: part along ``t`` (acquisitions of a raw store, times of a time lapse): ``"3"`` or
            ``"start:stop:step"``; ``None``: all.

    Raises:
        DataError: no such store, larger than ImageJ's format allows (4 GB), no such times, or the output is a folder.
    """
    if Path(out_tif).is_dir():
        raise DataError(f"{out_tif} is a folder: name the TIFF file to write, e.g. {Path(out_tif) / 'out.tif'}")
    stack = _raw_stack(store, times) if is_raw(store) else _timelapse_stack(store, times)
    _refuse_large(store, stack)
    per_um = 1 / stack.pixel_um
    with replace_whole(out_tif) as partial:
        tifffile.imwrite(
            partial,
            (plane for channels in stack.slices() for plane in channels),
            shape=stack.shape,
            dtype=stack.dtype,
            imagej=True,
            resolution=(per_um, per_um),
            metadata=_metadata(store, stack),
        )


def parse_times(text: str | None, count: int) -> slice:
    """The part ``"3"`` or ``"start:stop:step"`` of ``count`` times.

    Raises:
        DataError: not such a text, or nothing chosen.
    """
    if text is None or not text.strip():
        return slice(None)
    match = re.fullmatch(r"([0-9]{1,9})|([0-9]{0,9}):([0-9]{0,9})(?::(0*[1-9][0-9]{0,8})?)?", text.strip())
    fault = f"times is {clean_text(text, 60)!r}"
    if not match:
        raise DataError(f"{fault}: give one number or start:stop:step with a positive step, e.g. 3, 0:20 or 0:20:2")
    number = match[1]
    chosen = (
        slice(int(number), int(number) + 1) if number else slice(*(int(p) if p else None for p in match.groups()[1:]))
    )
    if not range(count)[chosen]:
        raise DataError(f"{fault}: chooses none of the {count} times of the store, numbered from 0")
    return chosen


def _raw_stack(store: str | Path, times: str | None) -> _Hyperstack:
    raw = open_raw(store)
    raw = raw.isel(t=parse_times(times, raw.sizes["t"]))
    axes = frame_axes_of(raw)
    lengths = [raw.sizes[axis] for axis in axes]
    names = [" ".join(f"{a} {i}" for a, i in zip(axes, place, strict=True)) for place in np.ndindex(*lengths)]
    origin = raw.attrs["time_origin"]
    product = " x ".join(f"{length} {axis}" for axis, length in zip(axes, lengths, strict=True))
    return _Hyperstack(
        raw["frames"],
        raw["time"].values.reshape(raw.sizes["t"], -1, raw.sizes["z"]),
        names,
        raw.attrs["pixel_um"],
        raw.attrs["z_step_um"],
        [
            f"raw frames; channels are {product}, the last fastest",
            f"times are {origin}" + (" (equal steps; the microscope states none)" if origin == "assumed" else ""),
        ],
    )


def _timelapse_stack(store: str | Path, times: str | None) -> _Hyperstack:
    images = open_timelapse(store)
    chosen = parse_times(times, images.sizes["t"])
    flags = images.attrs["flags"][chosen]
    images = images.isel(t=chosen)
    at = images["t"].values
    remarks = [clean_text(images.attrs.get("label", ""))]
    remarks += [f"time {t:.9g} s: {clean_text(flag)}" for t, flag in zip(at, flags, strict=True) if flag]
    return _Hyperstack(
        images,
        np.broadcast_to(at[:, None, None], (images.sizes["t"], images.sizes["c"], images.sizes["z"])),
        [clean_text(name) for name in images["c"].values],
        float(images.attrs["pixel_um"]),
        images.attrs.get("z_step_um"),
        remarks,
    )


def _refuse_large(store: str | Path, stack: _Hyperstack) -> None:
    t, *inside, y, x = stack.shape
    each = math.prod(inside) * (y * x * stack.dtype.itemsize + _PLANE_BYTES)
    if t * each <= MAX_BYTES:
        return
    fit = MAX_BYTES // each
    part = f"export a part, e.g. times 0:{fit} ({fit} of {t} fit), or " if fit else ""
    raise DataError(
        f"{shown(store)}: {t * each / 1e9:.1f} GB as an ImageJ hyperstack, which holds at most "
        f"{MAX_BYTES / 1e9:.1f} GB: {part}open the store itself in Fiji"
    )


def _metadata(store: str | Path, stack: _Hyperstack) -> dict[str, Any]:
    t, _, c, *_ = stack.shape
    starts = stack.times_s.reshape(t, -1).min(axis=1)
    in_file_order = np.moveaxis(stack.times_s, 1, 2).reshape(-1)  # (t, z, c)
    labels = [f"{stack.channels[i % c]}, {time:.9g} s" for i, time in enumerate(in_file_order)]
    per_time = (np.ptp(stack.times_s.reshape(t, -1), axis=1) == 0).all()
    told = starts if per_time else in_file_order
    remarks = [f"{shown(store)}, written by nstm {versions()['nstm']}", *filter(None, stack.remarks)]
    if stack.dtype != stack.images.dtype:
        remarks.append(f"pixels were {stack.images.dtype}, rounded to {stack.dtype}")
    listed = ", ".join(f"{time:.9g}" for time in told)
    remarks.append(f"{'times' if per_time else 'times of all planes in the order of the file'} / s: {listed}")
    metadata: dict[str, Any] = {
        "axes": "TZCYX",
        "mode": "grayscale",
        "unit": "micron",
        "finterval": float(np.mean(np.diff(starts))) if t > 1 else 0.0,
        "tunit": "s",
        "Info": "\n".join(remarks),
        "Labels": labels,
    }
    if stack.z_step_um:
        metadata["spacing"] = float(stack.z_step_um)
    limits = _display_range(stack)
    if limits is not None:
        metadata |= {"min": limits[0], "max": limits[1]}
        if c > 1:
            metadata["Ranges"] = limits * c
    return metadata


def _display_range(stack: _Hyperstack) -> tuple[float, float] | None:
    """Percentiles of the finite pixels of some planes, one range for all; ``None`` where there are none."""
    t, z, *_ = stack.shape
    chosen = np.unique(np.linspace(0, t * z - 1, _SAMPLED_PLANES).round().astype(int))
    found = [_percentiles(stack.slice(*divmod(int(i), z))) for i in chosen]
    ranges = [pair for pair in found if pair is not None]
    if not ranges:
        return None
    low, high = min(pair[0] for pair in ranges), max(pair[1] for pair in ranges)
    return low, high if high > low else low + 1


def _percentiles(images: np.ndarray) -> Sequence[float] | None:
    finite = images[np.isfinite(images)]
    return np.percentile(finite, (_SATURATED_PERCENT, 100 - _SATURATED_PERCENT)).tolist() if finite.size else None
