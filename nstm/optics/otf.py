"""Incoherent transfer functions of objective and camera, in two dimensions, and tables of them for all orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: Samples of a table along the radius, up to the cut-off.
_TABLE_SAMPLES = 2048


def cutoff(na: float, wavelength_um: float) -> float:
    """Highest frequency that an objective transfers incoherently, ``2 NA / lambda``, cycles/um."""
    return 2.0 * na / wavelength_um


def incoherent_otf(f_radius: Any, na: float, wavelength_um: float) -> Any:
    """Transfer function of an aberration-free circular pupil (Goodman, Fourier Optics, 6-32).

    Args:
        f_radius: distance from the origin of frequency space, cycles/um, any shape (numpy or JAX).
        na: detection numerical aperture.
        wavelength_um: emission wavelength (vacuum), um.

    Returns:
        Array like ``f_radius``: ``2/pi (arccos q - q sqrt(1 - q^2))``, 1 at the origin, 0 from the cut-off on.
    """
    xp = f_radius.__array_namespace__() if hasattr(f_radius, "__array_namespace__") else np
    q = xp.minimum(f_radius * (1.0 / cutoff(na, wavelength_um)), 1.0)
    return (2.0 / np.pi) * (xp.arccos(q) - q * xp.sqrt(1.0 - q * q))


def pixel_transfer(fy: Any, fx: Any, pixel_um: float) -> Any:
    """Transfer function of the integration over a square camera pixel, ``sinc(fy p) sinc(fx p)``.

    Args:
        fy: frequencies along y, cycles/um, broadcastable with ``fx`` (numpy or JAX).
        fx: frequencies along x, cycles/um.
        pixel_um: side of the pixel in the sample, um.
    """
    xp = fy.__array_namespace__() if hasattr(fy, "__array_namespace__") else np
    return xp.sinc(fy * pixel_um) * xp.sinc(fx * pixel_um)


@dataclass(frozen=True)
class RadialOtf:
    """Transfer functions of the orders of a pattern, symmetric about the optical axis.

    Attributes:
        tables: ``(order, kz, kr)``, real or complex, 1 at the origin of order 0; ``kz`` in FFT order.
        pitch: distance of the samples along ``kr``, cycles/um; the first is at 0, beyond the last there is nothing.
        cutoff: highest lateral frequency, cycles/um.
    """

    tables: np.ndarray
    pitch: float
    cutoff: float

    def __call__(self, order: int, radius: np.ndarray) -> np.ndarray:
        """Transfer ``(kz, *radius.shape)`` of an order at lateral frequencies, cycles/um."""
        table = self.tables[order]
        padded = np.concatenate([table, np.zeros((len(table), 2), table.dtype)], axis=1)
        place = np.minimum(radius * np.float32(1 / self.pitch), np.float32(table.shape[1]))
        low = place.astype(np.int32)
        part = place - low
        return padded[:, low] * (1 - part) + padded[:, low + 1] * part

    def tables_at(self, radius: np.ndarray) -> np.ndarray:
        """Transfer ``(order, kz, *radius.shape)`` of all orders at lateral frequencies, cycles/um."""
        return np.stack([self(order, radius.astype(np.float32)) for order in range(len(self.tables))])

    def within(self, planes: int, depth: int, indices: np.ndarray) -> RadialOtf:
        """Root of the mean power that a stack of ``planes`` passes of a sample that goes on beyond its ends.

        A stack is a window, so its spectrum at ``kz`` holds what is transferred around ``kz``: with ``c`` the transform
        of the squared transfer, the power is ``sum_d (1 - |d| / planes) c(d) exp(-2 pi i kz d)``.

        Args:
            planes: planes of the stack, at most half of those of the tables.
            depth: planes of the transform whose axial frequencies are asked for.
            indices: those, along its FFT order.
        """
        covariance = np.fft.ifft(np.abs(self.tables.astype(complex)) ** 2, axis=1)
        lags = np.arange(1 - planes, planes)
        wave = np.exp(-2j * np.pi / depth * np.outer(indices, lags)) * (1 - np.abs(lags) / planes)
        power = np.einsum("kd,odr->okr", wave, covariance[:, lags]).real
        return RadialOtf(np.sqrt(np.maximum(power, 0)).astype(np.float32), self.pitch, self.cutoff)

    def at_planes(self, planes: np.ndarray) -> RadialOtf:
        """The tables of some indices along ``kz``."""
        return RadialOtf(self.tables[:, planes], self.pitch, self.cutoff)


def flat_otf(na: float, wavelength_um: float, orders: int) -> RadialOtf:
    """Table of :func:`incoherent_otf`, the same for order 0 to ``orders``: a single plane sees no axial pattern."""
    highest = cutoff(na, wavelength_um)
    radius = np.linspace(0, highest, _TABLE_SAMPLES + 1)
    table = incoherent_otf(radius, na, wavelength_um).astype(np.float32)
    return RadialOtf(np.tile(table, (orders + 1, 1, 1)), highest / _TABLE_SAMPLES, highest)
