"""Results between two output times, carried along the displacement that was found from the one to the other."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

#: Window over which a displacement that is known nearby is continued to where it is not, pixels of the result.
_NEAR_PX = 6.0
#: Repetitions of the search for what stands at a place at the time between.
_ROUNDS = 2


def between(before: np.ndarray, after: np.ndarray, displacement_px: np.ndarray, share: float) -> np.ndarray:
    """The volume at ``share`` of the way from one time to the next, every structure moved evenly along its path.

    A structure that stands at ``x`` at the time after was at ``x - d(x)`` before and is at ``x - (1 - share) d(x)``
    in between; its brightness goes evenly from the one to the other. Where the displacement is not known, it is
    continued from nearby, and far from all that is known the two pictures fade into each other.

    Args:
        before: ``(z, y, x)`` at the time before.
        after: the same at the time after.
        displacement_px: ``(d, z, y, x)``, material displacement from before to after at the structure's place after,
            pixels along (y, x) or (z, y, x); NaN where it is not known.
        share: 0 (before) to 1 (after).

    Returns:
        ``(z, y, x)`` float32.
    """
    moved = continued(displacement_px)
    axes = np.indices(after.shape, dtype=np.float32)
    moving = axes[-len(moved) :]
    step = moved
    for _ in range(_ROUNDS):
        step = _at(moved, axes, moving + (1 - share) * step)
    place_after = moving + (1 - share) * step
    place_before = place_after - step
    first, second = _sampled(before, axes, place_before), _sampled(after, axes, place_after)
    return np.asarray((1 - share) * first + share * second, dtype=np.float32)


def continued(displacement: np.ndarray) -> np.ndarray:
    """``displacement (d, z, y, x)`` without NaN: smoothly continued from where it is known, 0 far from there."""
    known = np.isfinite(displacement).all(axis=0)
    if known.all():
        return np.asarray(displacement, dtype=np.float32)
    sigma = (0, _NEAR_PX, _NEAR_PX)
    weight = ndimage.gaussian_filter(known.astype(np.float32), sigma)
    filled = [ndimage.gaussian_filter(np.where(known, d, 0).astype(np.float32), sigma) for d in displacement]
    near = np.stack(filled) / np.maximum(weight, 1e-3)
    return np.where(known, displacement, near).astype(np.float32)


def _places(axes: np.ndarray, moving: np.ndarray) -> np.ndarray:
    return np.concatenate([axes[: len(axes) - len(moving)], moving])


def _at(fields: np.ndarray, axes: np.ndarray, moving: np.ndarray) -> np.ndarray:
    places = _places(axes, moving)
    return np.stack([ndimage.map_coordinates(f, places, order=1, mode="nearest") for f in fields])


def _sampled(volume: np.ndarray, axes: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Values of a volume; cubic within a plane, so that the picture does not soften between its times."""
    clean = np.nan_to_num(volume)
    if volume.shape[0] == 1:
        return np.asarray(ndimage.map_coordinates(clean[0], moving[-2:, 0], order=3, mode="nearest"))[None]
    return np.asarray(ndimage.map_coordinates(clean, _places(axes, moving), order=1, mode="nearest"))
