"""Noise of raw frames, read where the microscope transfers no signal."""

from __future__ import annotations

import numpy as np
from scipy.fft import rfft2

from nstm.optics.grids import frequencies

#: Share of the half spectrum that must lie beyond the passband for an estimate.
_SMALLEST_SHARE = 0.02


def noise_variance(frames: np.ndarray, pixel_um: float, passband: float) -> np.ndarray | None:
    """Mean noise variance of each frame from its spectrum beyond the passband.

    Args:
        frames: ``(..., y, x)``, counts.
        pixel_um: camera pixel in the sample, um.
        passband: highest frequency of a frame, cycles/um.

    Returns:
        ``(...)``, counts squared, or ``None`` where the camera samples so coarsely that nothing is beyond it.
    """
    ny, nx = frames.shape[-2:]
    fy, fx = frequencies((ny, nx), pixel_um)
    fx = np.abs(fx[:, : nx // 2 + 1])
    beyond = (np.hypot(fy, fx) > 1.02 * passband) & (fx > 0)
    if beyond.mean() < _SMALLEST_SHARE:
        return None
    window = (np.hanning(ny)[:, None] * np.hanning(nx)[None, :]).astype(np.float32)  # borders would leak signal
    flat = frames - frames.mean(axis=(-2, -1), keepdims=True)
    power = np.abs(rfft2(flat * window)) ** 2
    return power[..., beyond].mean(axis=-1) / np.sum(window**2)
