"""Structural similarity at several scales.

Wang, Simoncelli and Bovik, Asilomar Conference on Signals, Systems and Computers 2003.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, uniform_filter

from nstm.metrics.image import Image, crop

#: Exponents of the scales, finest first.
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
#: Radius and standard deviation of the Gaussian window, pixel; constants of contrast and luminance.
_RADIUS, _SIGMA, _K1, _K2 = 5, 1.5, 0.01, 0.03


def ms_ssim(image: Image, truth: Image, scales: int = len(WEIGHTS)) -> float:
    """MS-SSIM of ``(y, x)`` images on one grid, without the border, after the best gain and offset.

    The range is max - min of the truth. Means over the places where the window fits; a negative one counts as 0.

    Args:
        image: any scale and offset.
        truth: the same shape.
        scales: how many, from the finest; with fewer than 5 their exponents are scaled to sum 1.

    Returns:
        At most 1; NaN for images with NaN or without contrast, and where the window does not fit at the coarsest scale
        (five scales need 176 pixels).
    """
    if not 1 <= scales <= len(WEIGHTS):
        raise ValueError(f"scales = {scales}: 1 to {len(WEIGHTS)}")
    b = np.asarray(crop(truth), np.float64)
    a = _matched(np.asarray(crop(image), np.float64), b)
    extent = float(np.ptp(b))
    if not np.all(np.isfinite(a)) or not extent > 0 or min(b.shape) >> (scales - 1) < 2 * _RADIUS + 1:
        return float("nan")
    weights = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales])
    figure = 1.0
    for scale, weight in enumerate(weights):
        if scale:
            a, b = (uniform_filter(i, 2)[1::2, 1::2] for i in (a, b))
        whole, contrast = _similarity(a, b, extent)
        figure *= max(contrast if scale < scales - 1 else whole, 0.0) ** weight
    return figure


def scales_of(shape: tuple[int, ...]) -> int:
    """The most scales that images ``(y, x)`` are large enough for; 0: too small for one."""
    side = min(crop(np.zeros(shape)).shape)
    return sum(side >> scale >= 2 * _RADIUS + 1 for scale in range(len(WEIGHTS)))


def _similarity(a: Image, b: Image, extent: float) -> tuple[float, float]:
    """Means of the similarity, and of its part that is contrast and structure."""
    inside = (slice(_RADIUS, -_RADIUS),) * 2
    mean_a, mean_b, aa, bb, ab = (
        gaussian_filter(i, _SIGMA, radius=_RADIUS)[inside] for i in (a, b, a * a, b * b, a * b)
    )
    variance = aa - mean_a**2 + bb - mean_b**2
    contrast = (2 * (ab - mean_a * mean_b) + (_K2 * extent) ** 2) / (variance + (_K2 * extent) ** 2)
    luminance = (2 * mean_a * mean_b + (_K1 * extent) ** 2) / (mean_a**2 + mean_b**2 + (_K1 * extent) ** 2)
    return float(np.mean(luminance * contrast)), float(np.mean(contrast))


def _matched(image: Image, truth: Image) -> Image:
    """The image with gain and offset of least squares."""
    centred = image - image.mean()
    power = float(np.vdot(centred, centred))
    gain = float(np.vdot(centred, truth - truth.mean())) / power if power > 0 else 1.0
    return np.asarray(centred * gain + truth.mean())
