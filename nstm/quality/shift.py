"""Shift of one image against another: the peak of their cross-correlation, refined."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Image = NDArray[np.floating]


def window_shift(first: Image, second: Image) -> tuple[NDArray[np.float64], float, float]:
    """Shift (y, x) in pixels that takes ``first`` to ``second``, the correlation there, and the power of both.

    The cross-correlation under a Hann window, its peak refined by a parabola, twice: the second time with the
    window of the second image moved along, because a window that stays pulls the shift towards zero.
    """
    shift = np.zeros(2)
    correlation = power = 0.0
    for _ in range(4):
        a, b = _windowed(first, -shift / 2), _windowed(second, shift / 2)
        power = float(np.sqrt(np.vdot(a, a) * np.vdot(b, b)))
        if power <= 0:
            return np.zeros(2), 0.0, 0.0
        cross = scipy.fft.irfft2(scipy.fft.rfft2(a).conj() * scipy.fft.rfft2(b), s=a.shape)
        peak = np.unravel_index(int(np.argmax(cross)), cross.shape)
        correlation = float(cross[peak]) / power
        step = np.array([_refined(cross, peak, axis) for axis in (0, 1)])
        if np.allclose(step, shift, atol=1e-3):
            break
        shift = np.clip(step, -0.25 * np.array(a.shape), 0.25 * np.array(a.shape))
    return shift, correlation, power


def _windowed(image: Image, centre: NDArray[np.float64]) -> Image:
    """The image without its mean under a Hann window whose centre is moved by ``centre`` pixels."""
    window = np.ones(image.shape)
    for axis, (n, c) in enumerate(zip(image.shape, centre, strict=True)):
        u = np.clip((np.arange(n) - (n - 1) / 2 - c) / n, -0.5, 0.5)
        window *= np.expand_dims(np.cos(np.pi * u) ** 2, 1 - axis)
    return (image - np.sum(image * window) / np.sum(window)) * window


def _refined(cross: Image, peak: tuple[np.intp, ...], axis: int) -> float:
    """Position of the peak along one axis, by a parabola through three samples, signed."""
    n = cross.shape[axis]
    line = [float(cross[tuple(np.add(peak, _unit(axis, d)) % cross.shape)]) for d in (-1, 0, 1)]
    curvature = line[0] - 2 * line[1] + line[2]
    offset = 0.5 * (line[0] - line[2]) / curvature if curvature < 0 else 0.0
    at = float(peak[axis])
    return (at - n if at > n // 2 else at) + offset


def _unit(axis: int, step: int) -> tuple[int, int]:
    return (step, 0) if axis == 0 else (0, step)
