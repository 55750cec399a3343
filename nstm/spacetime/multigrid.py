"""Scene and motion as sums of coefficient grids from coarse to fine (``engine: multigrid``).

The scene is ``sum_l w_l(alpha) R_l c_l`` with ``R_l`` linear interpolation of a grid of ``n_l`` cells onto the
pixels; the motion is the same with a time axis, piecewise linear in time and, since its cells are large, a cubic
spline in space. The windows ``w_l`` open one after the other (Cao et al., Nature Methods 2024, Methods,
coarse-to-fine).
"""

from __future__ import annotations

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nstm.settings import Multigrid
from nstm.spacetime.octaves import Octaves
from nstm.spacetime.representation import SHAKING, Motion, Scene, usual_squared_gradient, windows
from nstm.spacetime.resampling import doubled, interpolation, spline, spread

#: Time intervals of the finest motion grid where the settings do not say.
_MOST_INTERVALS = 8
#: Cells of the finest motion grid where the settings do not say: so many at least, and none larger than that.
_FEWEST_CELLS, _LARGEST_CELL_PX = 12, 24
#: Squared gradient of the displacement up to which neighbours of parts that slide count as alike.
_ALIKE = 1e-3


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
    the pixels once. The level in the middle is one cell with a time for every frame: samples shake as a whole, which
    the parts must not make up for before it opens. A single plane moves along y and x, a volume along z, y and x.
    Levels for parts that slide past each other come last.
    """

    levels: list[tuple[Float[Array, "points nodes"], ...]]  # of each level, along the axes of the displacement
    matrices: tuple[Float[Array, "points nodes"], ...]
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    unit_px: float = eqx.field(static=True)
    cells: int = eqx.field(static=True)
    pitch_px: float = eqx.field(static=True)
    freedom: int = eqx.field(static=True)
    shares: tuple[float, ...] = eqx.field(static=True)
    shaking: float = eqx.field(static=True)
    slides: bool = eqx.field(static=True)
    octaves: Octaves
    pitches: tuple[float, ...] = eqx.field(static=True)  # of the nodes, pixels

    def __init__(self, shape: tuple[int, int, int], frames: int, settings: Multigrid) -> None:
        space = shape if shape[0] > 1 else shape[1:]
        self.cells = settings.motion_finest_cells or max(_FEWEST_CELLS, math.ceil(max(space) / _LARGEST_CELL_PX))
        cells = geometric(settings.motion_coarsest_cells, self.cells, settings.motion_levels)
        every = max(1, frames - 1)
        times = geometric(1, settings.motion_time_nodes or min(_MOST_INTERVALS, every), settings.motion_levels)
        grids = list(zip(cells, times, strict=True))
        grids.insert(len(grids) // 2, (1, every))
        sliding = [self.cells * 2 ** (i + 1) for i in range(settings.motion_sliding_levels)]
        finest = sliding[-1] if sliding else cells[-1]
        fine = [2 * n + 1 for n in sides(finest, space)]
        nodes = [np.linspace(0, 1, n) for n in fine]
        self.levels, shapes = [], []
        for c, t in [*grids, *((c, times[-1]) for c in sliding)]:
            counts = [n + 1 for n in sides(c, space)]
            shapes.append((t + 1, *counts))
            self.levels.append(tuple(jnp.asarray(spline(n, at)) for n, at in zip(counts, nodes, strict=True)))
        self.shapes = tuple(shapes)
        self.matrices = tuple(
            jnp.asarray(spline(n, np.linspace(0, 1, full))) for n, full in zip(fine, space, strict=True)
        )
        self.unit_px = float(np.sqrt(shape[1] * shape[2]))
        # where nothing slides, neighbours still move alike: the finer levels are for a few edges
        self.slides = bool(sliding)
        alike, free = (len(space) * times[-1] * math.prod(sides(c, space)) for c in (self.cells, finest))
        self.freedom, self.shaking = free, SHAKING * alike
        self.pitches = tuple(full / (n - 1) for n, full in zip(fine, space, strict=True))
        self.pitch_px = min(self.pitches)
        # every second node: between them the finest level knows nothing
        self.octaves = Octaves([n // 2 + 1 for n in fine], [2 * pitch for pitch in self.pitches])
        self.shares = (1.0,) if self.slides else (*self.octaves.shares, 1.0)

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

    def roughness(self, nodes: Float[Array, "n k d *nodes"]) -> Float[Array, "b"]:
        """Mean squared gradient of the displacement (pixels per pixel), octave by octave, last that of the whole.

        Where parts slide, the usual one of all.
        """
        if self.slides:
            return usual_squared_gradient(nodes, self.pitches, _ALIKE)[None]
        return self.octaves.mean_squared_gradients(nodes[(..., *[slice(None, None, 2)] * len(self.matrices))])

    def with_sliding(self, coefficients: list[Array]) -> list[Array]:
        """Coefficients of the same motion found without the levels for parts that slide."""
        return [*coefficients, *self.at_rest()[len(coefficients) :]]
