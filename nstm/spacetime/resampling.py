"""From the nodes of a grid to places between them, axis by axis."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import CubicSpline


def interpolation(nodes: int, points: np.ndarray) -> np.ndarray:
    """Linear interpolation from equidistant ``nodes`` over [0, 1] to ``points`` in [0, 1]; ``(points, nodes)``."""
    if nodes == 1:
        return np.ones((len(points), 1), np.float32)
    position = np.clip(points, 0, 1) * (nodes - 1)
    left = np.minimum(position.astype(int), nodes - 2)
    weight = position - left
    matrix = np.zeros((len(points), nodes), np.float32)
    matrix[np.arange(len(points)), left] = 1 - weight
    matrix[np.arange(len(points)), left + 1] += weight
    return matrix


def spline(nodes: int, points: np.ndarray) -> np.ndarray:
    """Natural cubic spline through equidistant ``nodes`` (2 or more) over [0, 1] at ``points``; ``(points, nodes)``."""
    return CubicSpline(np.linspace(0, 1, nodes), np.eye(nodes), bc_type="natural")(points).astype(np.float32)


def spread(values: Array, matrices: Sequence[Array | None]) -> Array:
    """Apply a matrix ``(points, nodes)`` along each of the last axes; ``None`` leaves an axis as it is."""
    for axis, matrix in zip(range(-len(matrices), 0), matrices, strict=True):
        if matrix is None:
            continue
        if axis == -1:
            values = values @ matrix.T
        else:
            flat = values.reshape(*values.shape[: axis + 1], -1)  # what follows the axis becomes columns
            values = (matrix @ flat).reshape(*flat.shape[:-2], len(matrix), *values.shape[axis + 1 :])
    return values


def doubled(image: Float[Array, "... y x"], shape: tuple[int, int]) -> Float[Array, "... v u"]:
    """Linear interpolation from every second pixel (the last beyond the edge where needed) to every pixel."""
    for axis, n in zip((-2, -1), shape, strict=True):
        first = jax.lax.slice_in_dim(image, 0, image.shape[axis] - 1, axis=axis)
        after = jax.lax.slice_in_dim(image, 1, image.shape[axis], axis=axis)
        between = jnp.stack([first, 0.5 * (first + after)], axis=image.ndim + axis + 1)
        pairs = between.reshape(*image.shape[: image.ndim + axis], -1, *image.shape[image.ndim + axis + 1 :])
        last = jax.lax.slice_in_dim(image, image.shape[axis] - 1, image.shape[axis], axis=axis)
        image = jax.lax.slice_in_dim(jnp.concatenate([pairs, last], axis=axis), 0, n, axis=axis)
    return image
