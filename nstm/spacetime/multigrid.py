"""Scene and motion as sums of coefficient grids from coarse to fine (``engine: multigrid``).

The scene is ``sum_l w_l(alpha) R_l c_l`` with ``R_l`` linear interpolation of a grid of ``n_l`` cells onto the
pixels; the motion is the same with a time axis, piecewise linear. The windows ``w_l`` open one after the other
(Cao et al., Nature Methods 2024, Methods, coarse-to-fine).
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nstm.settings import Multigrid


def windows(alpha: Float[Array, ""], levels: int) -> Float[Array, "levels"]:
    """Weight of every level, ``1/2 - 1/2 cos(pi clip(alpha N - l, 0, 1))``; all open at ``alpha = 1``."""
    return 0.5 - 0.5 * jnp.cos(jnp.pi * jnp.clip(alpha * levels - jnp.arange(levels), 0, 1))


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


def geometric(first: float, last: float, levels: int) -> list[int]:
    """``levels`` whole numbers from ``first`` to ``last``, geometric."""
    return [max(1, round(v)) for v in np.geomspace(first, last, levels)] if levels > 1 else [max(1, round(last))]


def _sides(cells: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Cells along y and x when the longer side has ``cells``: cells are square, every side has at least one."""
    longest = max(shape)
    return max(1, round(cells * shape[0] / longest)), max(1, round(cells * shape[1] / longest))


class SceneGrids(eqx.Module):
    """Interpolation of the scene's grids; the finest may be the pixels themselves."""

    rows: list[Float[Array, "y n"] | None]
    columns: list[Float[Array, "x n"] | None]
    sides: tuple[tuple[int, int], ...] = eqx.field(static=True)
    channels: int = eqx.field(static=True)

    def __init__(self, channels: int, shape: tuple[int, int], settings: Multigrid) -> None:
        self.channels = channels
        longest = max(shape)
        cells = geometric(settings.scene_coarsest * longest, settings.scene_finest * longest, settings.scene_levels)
        self.rows, self.columns = [], []
        sides: list[tuple[int, int]] = []
        y, x = np.linspace(0, 1, shape[0]), np.linspace(0, 1, shape[1])
        for c in cells:
            if c >= longest:
                sides.append(shape)
                self.rows.append(None)
                self.columns.append(None)
                continue
            ny, nx = _sides(c, shape)
            sides.append((ny + 1, nx + 1))
            self.rows.append(jnp.asarray(interpolation(ny + 1, y)))
            self.columns.append(jnp.asarray(interpolation(nx + 1, x)))
        self.sides = tuple(sides)

    def zeros(self) -> list[Array]:
        """Coefficients of an empty scene."""
        return [jnp.zeros((self.channels, *side), jnp.float32) for side in self.sides]

    def render(self, coefficients: list[Array], alpha: Array) -> Float[Array, "c y x"]:
        """The canonical scene."""
        weights = windows(alpha, len(coefficients))
        scene = jnp.zeros((), jnp.float32)
        for weight, c, rows, columns in zip(weights, coefficients, self.rows, self.columns, strict=True):
            c = weight * c
            scene = scene + (c if rows is None or columns is None else rows @ c @ columns.T)
        return scene


class MotionGrids(eqx.Module):
    """Interpolation of the motion's grids in time and space.

    All levels are summed on one grid of nodes, twice as fine as the finest level, which is then interpolated onto
    the pixels once.
    """

    levels_rows: list[Float[Array, "j n"]]
    levels_columns: list[Float[Array, "i n"]]
    rows: Float[Array, "y j"]
    columns: Float[Array, "x i"]
    shapes: tuple[tuple[int, int, int], ...] = eqx.field(static=True)
    unit_px: float = eqx.field(static=True)

    def __init__(self, shape: tuple[int, int], time_intervals: int, settings: Multigrid) -> None:
        cells = geometric(settings.motion_coarsest_cells, settings.motion_finest_cells, settings.motion_levels)
        times = geometric(1, time_intervals, settings.motion_levels)
        fine = [2 * n + 1 for n in _sides(max(cells), shape)]
        j, i = np.linspace(0, 1, fine[0]), np.linspace(0, 1, fine[1])
        self.levels_rows, self.levels_columns = [], []
        shapes: list[tuple[int, int, int]] = []
        for c, t in zip(cells, times, strict=True):
            ny, nx = _sides(c, shape)
            shapes.append((t + 1, ny + 1, nx + 1))
            self.levels_rows.append(jnp.asarray(interpolation(ny + 1, j)))
            self.levels_columns.append(jnp.asarray(interpolation(nx + 1, i)))
        self.shapes = tuple(shapes)
        self.rows = jnp.asarray(interpolation(fine[0], np.linspace(0, 1, shape[0])))
        self.columns = jnp.asarray(interpolation(fine[1], np.linspace(0, 1, shape[1])))
        self.unit_px = float(np.sqrt(shape[0] * shape[1]))

    def zeros(self) -> list[Array]:
        """Coefficients of a sample at rest."""
        return [jnp.zeros((2, *s), jnp.float32) for s in self.shapes]

    def in_time(self, tau: np.ndarray) -> list[Array]:
        """Matrices that interpolate each level to the times ``tau`` in [0, 1]."""
        return [jnp.asarray(interpolation(s[0], tau)) for s in self.shapes]

    def render(self, coefficients: list[Array], in_time: list[Array], alpha: Array) -> Float[Array, "m 2 y x"]:
        """Displacement of the backward warp in pixels at the times of ``in_time``."""
        return self.spread(self.nodes(coefficients, in_time, alpha))

    def spread(self, nodes: Float[Array, "m 2 j i"]) -> Float[Array, "m 2 y x"]:
        """The displacement between the nodes."""
        return self.rows @ nodes @ self.columns.T

    def nodes(self, coefficients: list[Array], in_time: list[Array], alpha: Array) -> Float[Array, "m 2 j i"]:
        """The displacement on the nodes, in pixels."""
        weights = windows(alpha, len(coefficients))
        total = jnp.zeros((), jnp.float32)
        for weight, c, t, rows, columns in zip(
            weights, coefficients, in_time, self.levels_rows, self.levels_columns, strict=True
        ):
            at = jnp.tensordot(t, weight * c, axes=(1, 1))  # m 2 n n
            total = total + rows @ at @ columns.T
        return total * self.unit_px

    def roughness(self, nodes: Float[Array, "... j i"]) -> Float[Array, ""]:
        """Mean squared gradient of the displacement (pixels per pixel), a gauge where nothing tells the motion."""
        pitch_y, pitch_x = (len(m) / max(1, m.shape[1] - 1) for m in (self.rows, self.columns))
        return jnp.mean((jnp.diff(nodes, axis=-2) / pitch_y) ** 2) + jnp.mean((jnp.diff(nodes, axis=-1) / pitch_x) ** 2)
