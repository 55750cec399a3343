"""How much of a pattern is seen in the raw frames, in units of their noise, without knowing the pattern.

With evenly stepped phases the Fourier component of order ``o`` over the phases holds the light that the pattern
modulates, ``D_o = sum_p frame_p exp(-2 pi i o p / phases)`` (Gustafsson 2000), whose amplitude is ``2 |D_o| / phases``.
Like the modulation contrast-to-noise ratio of SIMcheck (Ball et al., Sci. Rep. 5, 15915, 2015) it is judged where the
sample is bright; here the noise is read beyond the passband.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nstm.optics.grids import frequencies

#: Share of the field that counts: its brightest places.
BRIGHT = 0.1
#: Smoothing by which bright places are found, standard deviation, pixels.
_SMOOTHING_PX = 2.0
#: Share of the spectrum that must lie beyond the passband.
_SMALLEST_SHARE = 0.01


def modulation_contrast(
    frames: NDArray[np.floating], orders: int, pixel_um: float, passband: float
) -> list[list[float | None]]:
    """Amplitude of the modulated light over the noise (standard deviation) of a pixel, in the bright places.

    Args:
        frames: ``(angle, phase, z, y, x)``, counts, offset removed, none dark.
        orders: of the pattern: 1 for two beams, 2 for three.
        pixel_um: camera pixel in the sample, um.
        passband: highest frequency of a frame, cycles/um.

    Returns:
        One list for each order with a value for each angle; ``None`` where the camera samples nothing beyond the
        passband.
    """
    fy, fx = frequencies((frames.shape[-2], frames.shape[-1]), pixel_um)
    radius = np.hypot(fy, fx)
    within, beyond = radius <= passband, radius > 1.02 * passband
    if beyond.mean() < _SMALLEST_SHARE:
        return [[None] * len(frames) for _ in range(orders)]
    return [[_contrast(angle, order, within, beyond) for angle in frames] for order in range(1, orders + 1)]


def _contrast(
    frames: NDArray[np.floating], order: int, within: NDArray[np.bool_], beyond: NDArray[np.bool_]
) -> float | None:
    """Of one angle ``(phase, z, y, x)``."""
    levels = frames.mean(axis=(1, 2, 3), dtype=np.float64)
    if np.any(levels <= 0):
        return None
    count = len(frames)
    turns = np.exp(-2j * np.pi * order * np.arange(count) / count) * levels.mean() / levels
    component = np.tensordot(turns, frames, axes=1)
    spectrum = scipy.fft.fft2(component)
    seen, noise = (np.abs(scipy.fft.ifft2(spectrum * band)) ** 2 for band in (within, beyond))
    mean = gaussian_filter(frames.mean(axis=0, dtype=np.float64), (0, _SMOOTHING_PX, _SMOOTHING_PX))
    bright = mean >= np.quantile(mean, 1 - BRIGHT)
    variance = float(noise[bright].mean() / beyond.mean()) / count  # of a pixel of a frame
    modulated = float(seen[bright].mean()) - variance * count * float(within.mean())
    return math.sqrt(max(modulated, 0.0) * 4 / count**2 / variance) if variance > 0 else None
