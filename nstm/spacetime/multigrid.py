"""Scene and motion as sums of coefficient grids from coarse to fine (``engine: multigrid``).

The scene is ``sum_l w_l(alpha) R_l c_l`` with ``R_l`` linear interpolation of a grid of ``n_l`` cells onto the
pixels; the motion is the same with a time axis, piecewise linear. The windows ``w_l`` open one after the other
(Cao et al., Nature Methods 2024, Methods, coarse-to-fine).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nstm.settings import Multigrid
from nstm.spacetime.representation import (
    SHAKING,
    Motion,
    Scene,
    mean_squared_gradient,
    usual_squared_gradient,
    windows,
)

#: Time intervals of the finest motion grid where the settings do not say.
_MOST_INTERVALS = 8
#: Squared gradient of the displacement up to which neighbours of parts that slide count as alike.
_ALIKE = 1e-3


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


def _mean_in_time(nodes: int) -> np.ndarray:
    """What the mean of linear interpolation over [0, 1] takes of each of ``nodes``."""
    shares = np.ones(nodes, np.float32)
    shares[[0, -1]] = 0.5
    return shares / shares.sum()


def geometric(first: float, last: float, levels: int) -> list[int]:
    """``levels`` whole numbers from ``first`` to ``last``, geometric."""
    return [max(1, round(v)) for v in np.geomspace(first, last, levels)] if levels > 1 else [max(1, round(last))]


def sides(cells: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Cells along each axis when the longest side has ``cells``: cells are cubes, every side has at least one."""
    return tuple(max(1, round(cells * n / max(shape))) for n in shape)


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


def _half(shape: tuple[int, int]) -> tuple[int, int]:
    return shape[0] // 2 + 1, shape[1] // 2 + 1


class SceneGrids(Scene):
    """Interpolation of the scene's grids; the finest may be the pixels themselves.

    What is coarser than every second (fourth, ...) pixel is summed on those pixels and doubled, which costs far less
    than interpolating every level to all pixels.
    """

    matrices: list[tuple[Float[Array, "points nodes"] | None, ...]]  # along z, y, x, for each level
    shapes: tuple[tuple[int, int, int], ...] = eqx.field(static=True)
    octaves: tuple[int, ...] = eqx.field(static=True)  # of each level: how often it is doubled
    lattices: tuple[tuple[int, int], ...] = eqx.field(static=True)  # (y, x) of each octave, finest first
    channels: int = eqx.field(static=True)

    def __init__(self, channels: int, shape: tuple[int, int, int], settings: Multigrid) -> None:
        self.channels = channels
        longest = max(shape)
        lattices = [shape[1:]]
        while min(lattices[-1]) > 8:
            lattices.append(_half(lattices[-1]))
        self.lattices = tuple(lattices)
        self.matrices, shapes, octaves = [], [], []
        for cells in geometric(
            settings.scene_coarsest * longest, settings.scene_finest * longest, settings.scene_levels
        ):
            if cells >= longest:
                self.matrices.append((None, None, None))
                shapes.append(shape)
                octaves.append(0)
                continue
            nodes = [n + 1 for n in sides(cells, shape)]
            octave = max(o for o, lattice in enumerate(lattices) if o == 0 or min(np.subtract(lattice, nodes[1:])) >= 0)
            octaves.append(octave)
            shapes.append((nodes[0] if shape[0] > 1 else 1, nodes[1], nodes[2]))
            along = [np.arange(n) * 2**octave / (full - 1) for n, full in zip(lattices[octave], shape[1:], strict=True)]
            deep = None if shape[0] == 1 else jnp.asarray(interpolation(nodes[0], np.linspace(0, 1, shape[0])))
            plane = (jnp.asarray(interpolation(n, at)) for n, at in zip(nodes[1:], along, strict=True))
            self.matrices.append((deep, *plane))
        self.shapes, self.octaves = tuple(shapes), tuple(octaves)

    def initial(self, seed: int) -> list[Array]:
        """Coefficients of an empty scene, whatever the seed."""
        return [jnp.zeros((self.channels, *shape), jnp.float32) for shape in self.shapes]

    def render(self, coefficients: list[Array], alpha: Array) -> Float[Array, "c z y x"]:
        """The canonical scene."""
        weights = windows(alpha, len(coefficients))
        total: Array | None = None
        for octave in range(max(self.octaves), -1, -1):
            if total is not None:
                total = doubled(total, self.lattices[octave])
            for weight, c, matrices, own in zip(weights, coefficients, self.matrices, self.octaves, strict=True):
                if own == octave:
                    part = spread(weight * c, matrices)
                    total = part if total is None else total + part
        assert total is not None
        return total


class MotionGrids(Motion):
    """Interpolation of the motion's grids in time and space.

    All levels are summed on one grid of nodes, twice as fine as the finest level, which is then interpolated onto
    the pixels once. The last level is one cell with a time for every frame: samples shake as a whole. A single plane
    moves along y and x, a volume along z, y and x. Levels for parts that slide past each other stand before the last.
    """

    levels: list[tuple[Float[Array, "points nodes"], ...]]  # of each level, along the axes of the displacement
    matrices: tuple[Float[Array, "points nodes"], ...]
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    unit_px: float = eqx.field(static=True)
    cells: int = eqx.field(static=True)
    freedom: int = eqx.field(static=True)
    shaking: float = eqx.field(static=True)
    slides: bool = eqx.field(static=True)

    def __init__(self, shape: tuple[int, int, int], frames: int, settings: Multigrid) -> None:
        space = shape if shape[0] > 1 else shape[1:]
        cells = geometric(settings.motion_coarsest_cells, settings.motion_finest_cells, settings.motion_levels)
        every = max(1, frames - 1)
        times = geometric(1, settings.motion_time_nodes or min(_MOST_INTERVALS, every), settings.motion_levels)
        sliding = [settings.motion_finest_cells * 2 ** (i + 1) for i in range(settings.motion_sliding_levels)]
        cells, times = cells + sliding, times + [times[-1]] * len(sliding)
        fine = [2 * n + 1 for n in sides(max(cells), space)]
        nodes = [np.linspace(0, 1, n) for n in fine]
        self.levels, shapes = [], []
        for c, t in [*zip(cells, times, strict=True), (1, every)]:
            counts = [n + 1 for n in sides(c, space)]
            shapes.append((t + 1, *counts))
            self.levels.append(tuple(jnp.asarray(interpolation(n, at)) for n, at in zip(counts, nodes, strict=True)))
        self.shapes = tuple(shapes)
        self.matrices = tuple(
            jnp.asarray(interpolation(n, np.linspace(0, 1, full))) for n, full in zip(fine, space, strict=True)
        )
        self.unit_px = float(np.sqrt(shape[1] * shape[2]))
        # where nothing slides, neighbours still move alike: the finer levels are for a few edges
        self.cells, self.slides = settings.motion_finest_cells, bool(sliding)
        alike, free = (len(space) * times[-1] * math.prod(sides(c, space)) for c in (self.cells, cells[-1]))
        self.freedom, self.shaking = free, SHAKING * alike

    def initial(self, seed: int) -> list[Array]:
        """Coefficients of a sample at rest, whatever the seed."""
        return self.at_rest()

    def at_rest(self) -> list[Array]:
        """Zeros."""
        return [jnp.zeros((len(self.matrices), *s), jnp.float32) for s in self.shapes]

    def in_time(self, tau: np.ndarray) -> list[Array]:
        """Matrices that interpolate each level to the times ``tau`` in [0, 1].

        That of a volume is counted from its mean over the acquisition. A displacement that lasts is a deformed
        canonical scene, which little else forbids, and along z it is then between the planes of the frames.
        """
        of_time = [interpolation(s[0], tau) for s in self.shapes]
        if len(self.matrices) == 3:
            of_time = [matrix - _mean_in_time(s[0]) for matrix, s in zip(of_time, self.shapes, strict=True)]
        return [jnp.asarray(matrix) for matrix in of_time]

    def spread(self, nodes: Float[Array, "m d *nodes"]) -> Float[Array, "m d *space"]:
        """The displacement between the nodes."""
        return spread(nodes, self.matrices)

    def nodes(self, coefficients: list[Array], in_time: list[Array], alpha: Array) -> Float[Array, "m d *nodes"]:
        """The displacement on the nodes, in pixels."""
        weights = windows(alpha, len(coefficients))
        total = jnp.zeros((), jnp.float32)
        for weight, c, t, matrices in zip(weights, coefficients, in_time, self.levels, strict=True):
            total = total + spread(jnp.tensordot(t, weight * c, axes=(1, 1)), matrices)
        return total * self.unit_px

    def roughness(self, nodes: Float[Array, "... *nodes"]) -> Float[Array, "2"]:
        """Mean squared gradient of the displacement (pixels per pixel), or the usual one, of all, where parts slide."""
        pitches = tuple(len(matrix) / max(1, matrix.shape[1] - 1) for matrix in self.matrices)
        if self.slides:
            return jnp.stack([usual_squared_gradient(nodes, pitches, _ALIKE), jnp.zeros((), nodes.dtype)])
        return mean_squared_gradient(nodes, pitches)

    def with_sliding(self, coefficients: list[Array]) -> list[Array]:
        """Coefficients of the same motion found without the levels for parts that slide."""
        return [*coefficients[:-1], *self.at_rest()[len(coefficients) - 1 : -1], coefficients[-1]]
