"""What a fit left unexplained, in units of the noise: in each frame, and where in the field.

The frequencies of a frame beyond the passband hold noise alone, which no fit follows; those within it hold what the
fit did not explain. The ratio of the two powers of a residual needs no other estimate of the noise: below 1 by the
share of the noise that the fit took for structure, above it where something is missing. In windows of a few pixels it
shows a small region that the mean over the field hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, label
from scipy.spatial import ConvexHull

from nstm.optics.grids import rfrequencies

Array = NDArray[np.floating]

#: Standard deviation of the windows, camera pixels; regions that are less than two of them apart are one.
WINDOW_PX = 4.0
#: Residual in a window, in units of the noise, that chance does not reach.
LOST = 1.6
#: How much larger residuals of volumes are where all is found: such a fit takes hardly any of the noise for structure.
DEEP = 1.1
#: Pixels that such a window averages over.
WINDOW_AREA_PX = 4 * np.pi * WINDOW_PX**2
#: Share of the spectrum that must lie beyond the passband.
_SMALLEST_SHARE = 0.02


@dataclass(frozen=True)
class _Band:
    """Part of the half spectrum of an image, and its share of all frequencies."""

    mask: NDArray[np.bool_]
    share: float

    def of(self, images: Array) -> Array:
        """The part of ``images (..., y, x)`` in this band."""
        spectrum = scipy.fft.rfft2(images) * self.mask
        return np.asarray(scipy.fft.irfft2(spectrum, s=images.shape[-2:]))

    def power(self, images: Array) -> Array:
        """Squared :meth:`of`, such that white noise has its variance on average."""
        return self.of(images) ** 2 / self.share


def _bands(shape_yx: tuple[int, int], pixel_um: float, passband: float) -> tuple[_Band, _Band] | None:
    """What the instrument transfers, and what holds noise alone; ``None`` where the camera samples no such part."""
    fy, fx = rfrequencies(shape_yx, pixel_um)
    radius = np.hypot(fy, fx)
    twice = np.full(radius.shape, 2.0)
    twice[:, 0] = 1
    if shape_yx[1] % 2 == 0:
        twice[:, -1] = 1
    within, beyond = (
        _Band(mask, float(np.sum(twice * mask) / np.prod(shape_yx)))
        for mask in (radius <= passband, radius > 1.02 * passband)
    )
    return None if beyond.share < _SMALLEST_SHARE else (within, beyond)


def inner(images: Array, margin_px: int) -> Array:
    """All but the margin of ``images (..., y, x)``."""
    return images[..., margin_px:-margin_px, margin_px:-margin_px] if margin_px else images


def in_noise_units(residual: Array, pixel_um: float, passband: float) -> Array | None:
    """Root mean square residual of each frame within the passband, in units of its noise.

    Args:
        residual: ``(m, z, y, x)``, measured minus predicted, counts.
        pixel_um: camera pixel in the sample, um.
        passband: highest lateral frequency of a frame, cycles/um.

    Returns:
        ``(m,)``, or ``None`` where the camera samples so coarsely that nothing is beyond the passband.
    """
    bands = _bands((residual.shape[-2], residual.shape[-1]), pixel_um, passband)
    if bands is None:
        return None
    unexplained, noise = (band.power(residual).mean(axis=(1, 2, 3)) for band in bands)
    return np.asarray(np.sqrt(unexplained / _positive(noise)))


def within_passband(residual: Array, pixel_um: float, passband: float) -> tuple[Array, Array] | None:
    """The residual within the passband, ``(m, z, y, x)``, and the noise variance of each frame ``(m,)``."""
    bands = _bands((residual.shape[-2], residual.shape[-1]), pixel_um, passband)
    if bands is None:
        return None
    within, beyond = bands
    return within.of(residual), beyond.power(residual).mean(axis=(1, 2, 3))


def local_noise_units(residual: Array, pixel_um: float, passband: float) -> Array | None:
    """The same in a window around every pixel, ``(m, z, y, x)``.

    The noise of a place is taken from all frames, scaled by the noise of each.
    """
    bands = _bands((residual.shape[-2], residual.shape[-1]), pixel_um, passband)
    if bands is None:
        return None
    window = (0, 0, WINDOW_PX, WINDOW_PX)
    unexplained, noise = (gaussian_filter(band.power(residual), window, mode="reflect") for band in bands)
    of_frame = noise.mean(axis=(1, 2, 3), keepdims=True)
    noise = noise.mean(axis=0) * of_frame / _positive(of_frame.mean())
    return np.asarray(np.sqrt(unexplained / _positive(noise)))


def lost_in_several_frames(residual: Array, pixel_um: float, passband: float) -> tuple[int, float]:
    """Pixels where the residual of two frames or more is more than chance explains, and their share of the field.

    Those within two windows of the border do not count: there structure enters that most frames do not show. None
    where nobody can tell.
    """
    found = local_noise_units(residual, pixel_um, passband)
    if found is None:
        return 0, 0.0
    border = slice(round(2 * WINDOW_PX), -round(2 * WINDOW_PX))
    lost = (found[..., border, border] > LOST).any(axis=1).sum(axis=0) > 1
    return int(lost.sum()), float(lost.mean()) if lost.size else 0.0


def lost_regions(
    residual: Array, pixel_um: float, passband: float, remaining: Array | None = None
) -> list[dict[str, Any]]:
    """Where in the field, and in which frames, the residual is more than chance explains; the worst first.

    Args:
        residual: as for :func:`in_noise_units`, as ``pixel_um`` and ``passband``.
        remaining: that of another fit: only regions that it does explain, two windows away from what it does not.

    Returns:
        For each region ``centre_um``, ``size_um`` (height and width of its box) and ``outline_um`` (corners of its
        convex hull), all (y, x) from the corner of the field; ``share`` of the field; ``frames`` (from 0) and
        ``planes``; ``residual_noise_units``, the largest. Empty where the noise is not known.
    """
    found = local_noise_units(residual, pixel_um, passband)
    if found is None:
        return []
    lost = found > LOST * (DEEP if residual.shape[1] > 1 else 1)
    still = None if remaining is None else local_noise_units(remaining, pixel_um, passband)
    if still is not None and (unexplained := (still > LOST).any(axis=(0, 1))).any():
        lost = lost & ~binary_dilation(unexplained, iterations=round(2 * WINDOW_PX))
    field = lost.any(axis=(0, 1))
    near = binary_dilation(field, iterations=round(WINDOW_PX))
    names, count = label(near, np.ones((3, 3)))
    regions = [_region(found, lost & field & (names == i), pixel_um) for i in range(1, count + 1)]
    return sorted(regions, key=lambda region: -region["residual_noise_units"])


def _region(found: Array, inside: NDArray[np.bool_], pixel_um: float) -> dict[str, Any]:
    pixels = np.argwhere(inside.any(axis=(0, 1)))
    corners = np.unique((pixels[:, None] + [[0, 0], [0, 1], [1, 0], [1, 1]]).reshape(-1, 2), axis=0)
    outline = corners[ConvexHull(corners).vertices]
    low, high = corners.min(axis=0), corners.max(axis=0)
    return {
        "centre_um": ((low + high) / 2 * pixel_um).tolist(),
        "size_um": ((high - low) * pixel_um).tolist(),
        "outline_um": (outline * pixel_um).tolist(),
        "share": len(pixels) / float(np.prod(inside.shape[-2:])),
        "frames": np.flatnonzero(inside.any(axis=(1, 2, 3))).tolist(),
        "planes": np.flatnonzero(inside.any(axis=(0, 2, 3))).tolist(),
        "residual_noise_units": float(found[inside].max()),
    }


def _positive(values: Array) -> Array:
    return np.maximum(values, np.finfo(np.float32).tiny)
