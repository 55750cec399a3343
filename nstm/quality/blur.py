"""Motion blur inside single frames: what a fit, sharp in time, predicts too sharply.

A structure that moves by ``L`` during an exposure is spread evenly over ``L`` along its path: to second order the frame
gains ``L^2 / 24`` times its second derivative along the path (half the variance of the spread). The residual of every
frame is compared with the second derivatives of what was predicted for it; brightness, offset and a shift of the frame
are fitted beside them. A blur longer than the structure is wide is underestimated. What blurs all frames alike, along
one direction, is in the scene itself and cannot be seen here: velocity times exposure tells of that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nstm.spacetime.residual import within_passband

Array = NDArray[np.floating]

#: Length in units of its standard error (of the squared length) from which a blur is believed.
SURE = 5.0


@dataclass(frozen=True)
class Blur:
    """Motion during one exposure: length (camera pixels), direction (degrees from +x towards +y), standard errors."""

    length_px: float
    direction_deg: float
    significance: float


def motion_blur(residual: Array, predicted: Array, pixel_um: float, passband: float) -> list[Blur] | None:
    """Blur of each frame beyond that of the others, along its worst direction.

    Args:
        residual: ``(m, z, y, x)``, measured minus predicted, counts.
        predicted: the same shape, counts.
        pixel_um: camera pixel in the sample, um.
        passband: highest lateral frequency of a frame, cycles/um.

    Returns:
        One for each frame, of length 0 where there is none; ``None`` where the noise is not known.
    """
    found = within_passband(residual, pixel_um, passband)
    if found is None:
        return None
    within, noise = found
    ny, nx = residual.shape[-2:]
    window = np.hanning(ny)[:, None] * np.hanning(nx)  # derivatives at the border are not those of the sample
    return [_of_frame(r, p, v, window) for r, p, v in zip(within, predicted, noise, strict=True)]


def _of_frame(residual: Array, predicted: Array, noise_variance: float, window: Array) -> Blur:
    """Least squares of one frame ``(z, y, x)``; the standard error follows from white noise of the given variance."""
    slope_y, slope_x = np.gradient(predicted, axis=(-2, -1))
    mixed = np.gradient(slope_y, axis=-1)
    yy, xx = (np.roll(predicted, 1, axis) + np.roll(predicted, -1, axis) - 2 * predicted for axis in (-2, -1))
    terms = [predicted, np.ones_like(predicted), slope_y, slope_x, yy, 2 * mixed, xx]
    matrix = np.stack([(t * window).ravel() for t in terms], axis=1)
    scale = np.maximum(np.linalg.norm(matrix, axis=0), np.finfo(np.float32).tiny)
    matrix /= scale
    inverse = np.linalg.pinv(matrix.T @ matrix)
    weighted = matrix * np.tile(window.ravel(), len(predicted))[:, None]
    spread = inverse @ (weighted.T @ weighted) @ inverse * noise_variance
    fitted = inverse @ (matrix.T @ (residual * window).ravel()) / scale
    along_yy, along_yx, along_xx = fitted[-3:]
    values, directions = np.linalg.eigh([[along_yy, along_yx], [along_yx, along_xx]])
    along_y, along_x = directions[:, 1]
    weights = np.array([along_y**2, 2 * along_y * along_x, along_x**2]) / scale[-3:]
    error = float(np.sqrt(max(weights @ spread[-3:, -3:] @ weights, np.finfo(np.float32).tiny)))
    longest = max(0.0, float(values[1]))
    direction = float(np.degrees(np.arctan2(along_y, along_x)) % 180)
    return Blur(float(np.sqrt(24 * longest)), direction, longest / error)
