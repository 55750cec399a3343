"""The fine grid that simulated emitters are put on before the microscope blurs them."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Array = NDArray[np.float64]
Image = NDArray[np.float32]

#: Samples per camera pixel and side of the grid that the points are put on.
FINE = 4
#: Samples of the truth per camera pixel and side.
TRUTH_RATIO = 2


class FineGrid:
    """The camera's field with a guard band around it, ``FINE`` samples per pixel.

    Attributes:
        shape: samples along y and x.
        step: their distance, um.
        frequency: (y, x // 2 + 1) distance from the origin of the half spectrum, cycles/um.
        pixel: (y, x // 2 + 1) transfer of the integration over a camera pixel.
    """

    def __init__(self, shape: tuple[int, int], pixel_um: float, guard_px: int) -> None:
        self.field, self.guard = shape, guard_px
        guarded = [scipy.fft.next_fast_len(n + 2 * guard_px, real=True) for n in shape]
        self.shape = (guarded[0] * FINE, guarded[1] * FINE)
        self.step = pixel_um / FINE
        fy = np.fft.fftfreq(self.shape[0], self.step)[:, None]
        fx = np.fft.rfftfreq(self.shape[1], self.step)[None, :]
        self.frequency = np.hypot(fy, fx)
        self.pixel = np.sinc(fy * pixel_um) * np.sinc(fx * pixel_um)
        # putting with bilinear weights is a triangle filter of one sample: undone
        self._put = (np.sinc(fy * self.step) * np.sinc(fx * self.step)) ** 2
        nyquist = 0.5 * TRUTH_RATIO / pixel_um
        self._limit = roll_off(self.frequency, 0.8 * nyquist, 0.98 * nyquist)

    def spectra(self, positions: Array, weights: Array) -> NDArray[np.complex64]:
        """Half spectra ``(k, y, x // 2 + 1)`` of points (n, 2) um with ``k`` weights each, ``(n, k)``.

        The unit of density is light per camera pixel. What lies outside is dropped.
        """
        at = positions / self.step + self.guard * FINE
        low = np.floor(at).astype(np.int64)
        keep = np.all((low >= 0) & (low < np.array(self.shape) - 1), axis=1)
        low, part, weights = low[keep], (at - np.floor(at))[keep], weights[keep] * FINE**2
        index = low[:, 0] * self.shape[1] + low[:, 1]
        density = np.zeros((weights.shape[1], self.shape[0] * self.shape[1]), np.float32)
        for dy in (0, 1):
            for dx in (0, 1):
                share = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
                for total, weight in zip(density, weights.T, strict=True):
                    total += np.bincount(index + dy * self.shape[1] + dx, weight * share, total.size)
        return np.asarray(scipy.fft.rfft2(density.reshape(-1, *self.shape)))

    def seen(self, spectrum: NDArray[np.complex64], transfer: Array) -> Image:
        """What the camera records of spectra ``(..., y, x // 2 + 1)`` through ``transfer`` and its pixel."""
        return self._images(spectrum, transfer * self.pixel / self._put, 1)

    def limited(self, spectrum: NDArray[np.complex64]) -> Image:
        """The density itself, ``TRUTH_RATIO`` samples per camera pixel, limited to what these can hold."""
        return self._images(spectrum, self._limit / self._put, TRUTH_RATIO)

    def _images(self, spectrum: NDArray[np.complex64], transfer: Array, ratio: int) -> Image:
        blurred = scipy.fft.irfft2(spectrum * transfer.astype(np.float32), s=self.shape)
        fine = blurred[..., :: FINE // ratio, :: FINE // ratio]
        guard, (height, width) = self.guard * ratio, self.field
        return np.asarray(fine[..., guard : guard + height * ratio, guard : guard + width * ratio])


def roll_off(f: Array, start: float, end: float) -> Array:
    """1 below ``start``, 0 above ``end``, half a cosine between."""
    u = np.clip((f - start) / (end - start), 0, 1)
    return 0.5 + 0.5 * np.cos(np.pi * u)
