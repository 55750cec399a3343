"""Material displacement and trajectories from the engine's backward warp.

The engine says where the structure now at ``r`` lies in the canonical frame, ``X = r + d(r, t)``. The structure's
own movement is the inverse: the place ``s`` at an earlier time with ``s + d(s, t') = X``.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

_ITERATIONS = 30


def _at(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """``field (d, *space)`` at ``points (d, n)`` in pixels, linear, held at the edge."""
    return np.stack([map_coordinates(f, points, order=1, mode="nearest") for f in field])


def invert(displacement: np.ndarray, canonical: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Where canonical points are at a time: ``s`` with ``s + displacement(s) = canonical``, by fixed point.

    Args:
        displacement: ``(d, *space)``, pixels (backward warp) at that time.
        canonical: ``(d, n)``, pixels.
        start: ``(d, n)``, first guess, pixels.

    Returns:
        ``(d, n)``, pixels. Steps of 0.7 converge where the gradient lies between -1, where the warp folds and has no
        inverse, and 1.8.
    """
    points = start.copy()
    for _ in range(_ITERATIONS):
        step = canonical - points - _at(displacement, points)
        points += 0.7 * step
        if np.abs(step).max(initial=0.0) < 1e-3:
            break
    return points


def material_displacement(now: np.ndarray, before: np.ndarray, lattice: int) -> np.ndarray:
    """Movement since the earlier time of the structure that now lies at each pixel.

    Args:
        now: ``(d, *space)``, backward warp at the later time, pixels.
        before: the same at the earlier time.
        lattice: the inverse is found on every ``lattice``-th pixel and interpolated between: no more than the distance
            between which the displacement is smooth.

    Returns:
        ``(d, *space)``, pixels; a sample that moved +8 px along x gives +8 there.
    """
    shape = now.shape[1:]
    nodes = [np.unique(np.r_[np.arange(0, n, lattice), n - 1]).astype(float) for n in shape]
    grid = np.stack(np.meshgrid(*nodes, indexing="ij")).reshape(len(shape), -1)
    moved = grid - invert(before, grid + _at(now, grid), grid)
    moved = moved.reshape(len(shape), *map(len, nodes))
    between = [np.interp(np.arange(n), along, np.arange(len(along))) for n, along in zip(shape, nodes, strict=True)]
    points = np.stack(np.meshgrid(*between, indexing="ij")).reshape(len(shape), -1)
    return _at(moved, points).reshape(now.shape).astype(np.float32)


def trajectories(points: np.ndarray, displacements: np.ndarray) -> np.ndarray:
    """Paths of points of the sample.

    Args:
        points: ``(n, d)``, pixels at the first time.
        displacements: ``(t, d, *space)``, backward warp at each time, pixels.

    Returns:
        ``(t, n, d)``, pixels.
    """
    start = np.asarray(points, dtype=np.float64).T
    canonical = start + _at(displacements[0], start)
    path, last = [], start
    for field in displacements:
        last = invert(field, canonical, last)
        path.append(last.T)
    return np.stack(path)


def determined(
    slope_y: np.ndarray,
    slope_x: np.ndarray,
    noise_variance: np.ndarray,
    window_px: float,
    limit_px: float,
    chance: float = 0.0,
) -> np.ndarray:
    """Where the frames tell the displacement (Cramer-Rao bound of a shift of the scene within a window).

    Args:
        slope_y: ``(m, y, x)``, change of each predicted frame when the scene moves by a camera pixel along y, counts.
            It is not the gradient of the frame: the fringes of an illumination do not move with the sample.
        slope_x: the same along x.
        noise_variance: ``(m,)``, counts squared.
        window_px: standard deviation of the Gaussian window, camera pixels.
        limit_px: largest standard error allowed in the worst direction, camera pixels.
        chance: squared slope of a frame, in units of its noise variance, that comes from fitted noise; taken off.

    Returns:
        Boolean ``(y, x)``.
    """
    weights = 1 / np.maximum(noise_variance, np.finfo(np.float32).tiny)[:, None, None]
    area = 2 * np.pi * window_px**2
    a, b, c = (
        gaussian_filter((weights * term).sum(0), window_px, mode="nearest") * area
        for term in (slope_y * slope_y, slope_x * slope_x, slope_y * slope_x)
    )
    smallest = (a + b) / 2 - np.sqrt(((a - b) / 2) ** 2 + c**2) - chance * area * len(slope_y)
    # the information of all frames is shared by the two ends of each displacement
    return np.sqrt(2 / np.maximum(smallest, 1e-30)) < limit_px
