"""Scene and motion as small networks behind hash embeddings (``engine: networks``).

``scene(r) = MLP(hash(r))`` and ``motion(r, t) = field x MLP(hash(r, t))`` (Cao et al., Nature Methods 2024, Methods).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nstm.settings import Networks
from nstm.spacetime.embedding import Embedding, Lattice, resolutions
from nstm.spacetime.representation import SHAKING, Coefficients, ContinuousScene, Motion, mean_squared_gradient
from nstm.spacetime.resampling import interpolation, spread

#: The scene's box reaches beyond the field by this share of it on every side, so that what moves in has a place.
_BEYOND = 0.5
#: Side of the box, in units of the field.
_BOX = 1 + 2 * _BEYOND


def layers(sizes: Sequence[int], key: Array) -> list[dict[str, Array]]:
    """Glorot-uniform kernels ``(in, out)`` and biases of 0."""
    keys = jax.random.split(key, len(sizes) - 1)
    kernel = jax.nn.initializers.glorot_uniform()
    return [
        {"kernel": kernel(k, (a, b)), "bias": jnp.zeros(b)} for k, a, b in zip(keys, sizes[:-1], sizes[1:], strict=True)
    ]


def perceptron(
    weights: list[dict[str, Array]], x: Float[Array, "p in"], activation: Callable[[Array], Array]
) -> Float[Array, "p out"]:
    """A multi-layer perceptron, its last layer linear."""
    for layer in weights[:-1]:
        x = activation(x @ layer["kernel"] + layer["bias"])
    return x @ weights[-1]["kernel"] + weights[-1]["bias"]


def _per_axis(space: Sequence[int], planes: float, plane: float) -> np.ndarray:
    """A number for each axis that moves."""
    return np.array([planes, plane, plane][-len(space) :])


class SceneNetwork(ContinuousScene):
    """A network with GELU asked at places in the canonical frame; the places of a rendering once never change."""

    embedding: Embedding
    lattices: tuple[Lattice, ...]
    shape: tuple[int, int, int] = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, channels: int, shape: tuple[int, int, int], settings: Networks) -> None:
        self.shape = shape
        side = _BOX * np.array(self.space)
        coarsest = side * _per_axis(self.space, settings.scene_coarsest_planes, settings.scene_coarsest)
        finest = side * _per_axis(self.space, settings.scene_finest_planes, settings.scene_finest)
        cells = resolutions(coarsest, finest, settings.levels)
        self.embedding = Embedding(cells, settings.features, settings.table_log2)
        self.sizes = (self.embedding.width, *[settings.scene_width] * settings.scene_depth, channels)
        axes = [(np.arange(n) / n + _BEYOND) / _BOX for n in self.space]
        self.lattices = tuple(Lattice(level, axes) for level in self.embedding.levels)

    @property
    def space(self) -> tuple[int, ...]:
        """(y, x) of a single plane, else (z, y, x)."""
        return self.shape if self.shape[0] > 1 else self.shape[1:]

    def initial(self, seed: int) -> Coefficients:
        """Random tables and layers."""
        tables, kernels = jax.random.split(jax.random.key(seed))
        return {"tables": self.embedding.initial(tables), "layers": layers(self.sizes, kernels)}

    def render(self, coefficients: Coefficients, alpha: Array) -> Float[Array, "c z y x"]:
        """The canonical scene."""
        tables = self.embedding.opened(coefficients["tables"], alpha)
        features = jnp.concatenate([at.features(t) for at, t in zip(self.lattices, tables, strict=True)])
        values = perceptron(coefficients["layers"], features.reshape(len(features), -1).T, jax.nn.gelu)
        return values.T.reshape(-1, *self.shape)

    def opened(self, coefficients: Coefficients, alpha: Array) -> Coefficients:
        """The layers, and tables with the corners of cells side by side."""
        tables = self.embedding.opened(coefficients["tables"], alpha)
        corners = [level.corners(t) for level, t in zip(self.embedding.levels, tables, strict=True)]
        return {"corners": corners, "layers": coefficients["layers"]}

    def at(self, opened: Coefficients, displacement: Float[Array, "n d *space"]) -> Float[Array, "n c *space"]:
        """The scene at ``r + displacement(r)``."""
        n, _, *space = displacement.shape
        places = []
        for axis, side in enumerate(space):
            here = jnp.arange(side, dtype=displacement.dtype).reshape(-1, *[1] * (len(space) - axis - 1))
            places.append((((here + displacement[:, axis]) / side + _BEYOND) / _BOX).reshape(-1))
        features = [
            level.at(corners, places) for level, corners in zip(self.embedding.levels, opened["corners"], strict=True)
        ]
        values = perceptron(opened["layers"], jnp.concatenate(features, axis=1), jax.nn.gelu)
        return jnp.moveaxis(values.reshape(n, *space, -1), -1, 1)


class MotionNetwork(Motion):
    """A network with ELU asked at places and times that never change; its unit is the field along each axis.

    A ``motion_uniform`` one knows the time only, and every pixel moves alike.
    """

    embedding: Embedding
    lattices: tuple[Lattice, ...]  # along time (its nodes themselves) and the axes of the field
    field: tuple[int, ...] = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)
    cells: int = eqx.field(static=True)
    pitch_px: float = eqx.field(static=True)
    freedom: int = eqx.field(static=True)
    shares: tuple[float, ...] = eqx.field(static=True)
    shaking: float = eqx.field(static=True)

    def __init__(self, shape: tuple[int, int, int], settings: Networks) -> None:
        self.field = shape if shape[0] > 1 else shape[1:]
        asked = () if settings.motion_uniform else self.field
        coarsest, finest = (
            np.array([times, *(np.array(self.field) * _per_axis(self.field, planes, plane))[: len(asked)]])
            for times, planes, plane in (
                (settings.motion_coarsest_times, settings.motion_coarsest_planes, settings.motion_coarsest),
                (settings.motion_finest_times, settings.motion_finest_planes, settings.motion_finest),
            )
        )
        cells = resolutions(coarsest, np.round(finest), settings.levels)
        self.embedding = Embedding(cells, settings.features, settings.table_log2)
        self.sizes = (self.embedding.width, *[settings.motion_width] * settings.motion_depth, len(self.field))
        space = [np.linspace(0, 1, n, endpoint=False) for n in asked]
        self.lattices = tuple(
            Lattice(level, [np.linspace(0, 1, level.cells[0] + 1), *space]) for level in self.embedding.levels
        )
        self.cells = max(cells[-1][1:], default=1)
        self.pitch_px = max(self.field) / self.cells
        self.freedom = len(self.field) * math.prod(cells[-1])
        self.shares, self.shaking = (1.0, 1.0), SHAKING * self.freedom

    def initial(self, seed: int) -> Coefficients:
        """Random tables and layers, other ones than those of a scene of the same seed."""
        tables, kernels = jax.random.split(jax.random.fold_in(jax.random.key(seed), 1))
        return {"tables": self.embedding.initial(tables), "layers": layers(self.sizes, kernels)}

    def at_rest(self) -> Coefficients:
        """Zeros."""
        return jax.tree.map(jnp.zeros_like, self.initial(0))

    def in_time(self, tau: np.ndarray) -> list[Float[Array, "t nodes"]]:
        """Matrices that interpolate each level to the times."""
        return [jnp.asarray(interpolation(level.cells[0] + 1, tau)) for level in self.embedding.levels]

    def nodes(
        self, coefficients: Coefficients, in_time: list[Float[Array, "t nodes"]], alpha: Array
    ) -> Float[Array, "t d *nodes"]:
        """The displacement of every pixel, or of one for all."""
        tables = self.embedding.opened(coefficients["tables"], alpha)
        features = []
        for lattice, table, times in zip(self.lattices, tables, in_time, strict=True):
            moments = jnp.tensordot(times, lattice.nodes(table), axes=(1, 1))
            features.append(spread(moments, lattice.matrices[1:]))
        together = jnp.moveaxis(jnp.concatenate(features, axis=1), 1, -1)
        count, *asked, width = together.shape
        values = perceptron(coefficients["layers"], together.reshape(-1, width), jax.nn.elu)
        scaled = values * jnp.asarray(self.field, values.dtype)
        return jnp.moveaxis(scaled.reshape(count, *asked or [1] * len(self.field), -1), -1, 1)

    def spread(self, nodes: Float[Array, "t d *nodes"]) -> Float[Array, "t d *space"]:
        """The displacement of every pixel."""
        return jnp.broadcast_to(nodes, (*nodes.shape[:2], *self.field))

    def roughness(self, nodes: Float[Array, "n k d *nodes"]) -> Float[Array, "b"]:
        """Mean squared gradient of the displacement (pixels per pixel): of the parts, of the field as a whole."""
        return mean_squared_gradient(nodes)
