"""Noise of raw frames, read where the microscope transfers no signal."""

from __future__ import annotations

import numpy as np
from scipy.fft import dctn

#: Share of the spectrum that must lie beyond the passband for an estimate.
_SMALLEST_SHARE = 0.01
#: Frequencies that count as the highest where the passband has no end, cycles per pixel.
_HIGHEST = 0.4


def noise_variance(frames: np.ndarray, pixel_um: float, passband: float) -> np.ndarray | None:
    """Mean noise variance of each frame from its cosine transform beyond the passband.

    The cosine transform gives every pixel the same weight, which a window would not: the noise of bright places is
    larger. What the edges of the field leak into it stands near its axes; the corners, where both frequencies exceed
    ``passband / sqrt(2)``, hold noise only.

    Args:
        frames: ``(..., y, x)``, counts.
        pixel_um: camera pixel in the sample, um.
        passband: highest frequency of a frame, cycles/um.

    Returns:
        ``(...)``, counts squared, or ``None`` where the camera samples so coarsely that nothing is beyond it.
    """
    limit = 1.02 * passband / np.sqrt(2) * pixel_um
    return _power_above(frames, limit, limit)


def noise_at_most(frames: np.ndarray) -> np.ndarray:
    """Upper bound of that noise where nothing is beyond the passband: the power at the camera's highest frequencies.

    It holds what the instrument transfers to them, too.

    Args:
        frames: ``(..., y, x)``, counts; a few rows or columns are enough.

    Returns:
        ``(...)``, counts squared.
    """
    least = (min(_HIGHEST, (n - 1.5) / (2 * n)) for n in frames.shape[-2:])  # a few rows have few frequencies
    power = _power_above(frames, *least)
    assert power is not None
    return power


def _power_above(frames: np.ndarray, least_y: float, least_x: float) -> np.ndarray | None:
    """Mean power where both frequencies exceed these (cycles per pixel), such that white noise has its variance."""
    sides = zip(frames.shape[-2:], (least_y, least_x), strict=True)
    beyond = np.logical_and.outer(*(np.arange(n) / (2 * n) > least for n, least in sides))
    if beyond.mean() < _SMALLEST_SHARE:
        return None
    spectrum = dctn(frames - frames.mean(axis=(-2, -1), keepdims=True), axes=(-2, -1), norm="ortho")
    return np.asarray((spectrum[..., beyond] ** 2).mean(axis=-1))
