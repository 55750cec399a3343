"""Features of places from tables at several resolutions (Mueller et al., ACM Trans. Graph. 41, 102, 2022).

Every level lays a lattice of cells over a box; a place has the features of the corners of its cell, interpolated
linearly. A vertex has a row of its own in the level's table as long as there are rows enough, else it shares the one
that its hash says.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nstm.spacetime.representation import windows
from nstm.spacetime.resampling import spread

#: Multipliers of the hash (the paper above); the first axis needs none.
PRIMES = (1, 2654435761, 805459861, 3674653429)
#: Largest entry of a table at the start.
START = 1e-4


def resolutions(coarsest: np.ndarray, finest: np.ndarray, levels: int) -> tuple[tuple[int, ...], ...]:
    """Cells along each axis by level, geometric from the coarsest (at least 1) to the finest, rounded down."""
    first = np.maximum(coarsest, 1.0)
    growth = np.log(np.maximum(finest, first) / first) / max(levels - 1, 1)
    cells = [np.floor(first * np.exp(growth * level) + 1e-9).astype(int) for level in range(levels)]
    return tuple(tuple(np.maximum(c, 1).tolist()) for c in cells)


class Level(eqx.Module):
    """One lattice: its cells along each axis and the rows of its table."""

    cells: tuple[int, ...] = eqx.field(static=True)
    rows: int = eqx.field(static=True)

    def __init__(self, cells: tuple[int, ...], most_rows: int) -> None:
        self.cells = cells
        self.rows = min(math.prod(c + 1 for c in cells), most_rows)

    @property
    def dense(self) -> bool:
        """Every vertex has a row of its own."""
        return self.rows == math.prod(c + 1 for c in self.cells)

    def row(self, vertex: Sequence[Int[Array, "*p"]]) -> Int[Array, "*p"]:
        """Row of a vertex, given by its number (not negative) along each axis; a hash where rows are shared."""
        if self.dense:
            row = vertex[0]
            for v, c in zip(vertex[1:], self.cells[1:], strict=True):
                row = row * (c + 1) + v
            return row
        mixed = jnp.zeros((), jnp.uint32)
        for v, prime in zip(vertex, PRIMES, strict=False):
            mixed = mixed ^ (v.astype(jnp.uint32) * jnp.uint32(prime))
        return (mixed % jnp.uint32(self.rows)).astype(jnp.int32)

    def corners(self, table: Float[Array, "rows f"]) -> Float[Array, "rows _"]:
        """The table with the features of a cell's corners side by side where rows follow the lattice.

        A place is then one gather of neighbours in memory, and its derivative one scatter.
        """
        if not self.dense:
            return table
        for axis in range(len(self.cells)):
            table = jnp.concatenate([table, jnp.roll(table, -math.prod(c + 1 for c in self.cells[axis + 1 :]), 0)], 1)
        return table

    def at(self, corners: Float[Array, "rows _"], places: Sequence[Float[Array, "p"]]) -> Float[Array, "p f"]:
        """Features at places, given by their share of the box along each axis; held at its edge."""
        first, fractions = [], []
        for place, count in zip(places, self.cells, strict=True):
            along = jnp.clip(place, 0, 1) * count
            low = jnp.minimum(jnp.floor(jax.lax.stop_gradient(along)), count - 1)
            first.append(low.astype(jnp.int32))
            fractions.append((along - low)[:, None])
        if self.dense:
            values = corners.at[self.row(first)].get(mode="promise_in_bounds")
            parts = jnp.split(values, 2 ** len(first), axis=1)
        else:
            steps = [tuple(number >> axis & 1 for axis in range(len(first))) for number in range(2 ** len(first))]
            rows = [self.row([v + s for v, s in zip(first, step, strict=True)]) for step in steps]
            parts = [corners.at[row].get(mode="promise_in_bounds") for row in rows]
        for fraction in reversed(fractions):  # the last axis is the first to halve the corners
            half = len(parts) // 2
            parts = [a + (b - a) * fraction for a, b in zip(parts[:half], parts[half:], strict=True)]
        return parts[0]


class Lattice(eqx.Module):
    """Interpolation of a level onto places that never change and lie on a grid: one matrix for each axis.

    Only the vertices that some place needs are read.
    """

    rows: Int[Array, "*nodes"]
    matrices: tuple[Float[Array, "points nodes"], ...]

    def __init__(self, level: Level, axes: Sequence[np.ndarray]) -> None:
        vertices, matrices = [], []
        for along, count in zip(axes, level.cells, strict=True):
            place = np.clip(along, 0, 1) * count
            low = np.minimum(place.astype(int), count - 1)
            needed = np.unique([low, low + 1])
            matrix = np.zeros((len(along), len(needed)))
            at = np.arange(len(along)), np.searchsorted(needed, low)
            matrix[at] = 1 - (place - low)
            matrix[at[0], at[1] + 1] = place - low
            vertices.append(jnp.asarray(needed, jnp.int32))
            matrices.append(jnp.asarray(matrix, float))
        self.rows = level.row(jnp.meshgrid(*vertices, indexing="ij")) if len(axes) > 1 else level.row(vertices)
        self.matrices = tuple(matrices)

    def nodes(self, table: Float[Array, "rows f"]) -> Float[Array, "f *nodes"]:
        """Features of the vertices."""
        return jnp.moveaxis(table[self.rows], -1, 0)

    def features(self, table: Float[Array, "rows f"]) -> Float[Array, "f *points"]:
        """Features on the grid of places."""
        return spread(self.nodes(table), self.matrices)


class Embedding(eqx.Module):
    """Several levels, each with a window of its own."""

    levels: tuple[Level, ...]
    features: int = eqx.field(static=True)

    def __init__(self, cells: Sequence[tuple[int, ...]], features: int, table_log2: int) -> None:
        self.levels = tuple(Level(c, 2**table_log2) for c in cells)
        self.features = features

    @property
    def width(self) -> int:
        """Features of a place, of all levels."""
        return len(self.levels) * self.features

    def initial(self, key: Array) -> list[Float[Array, "rows f"]]:
        """Tables of small random numbers."""
        keys = jax.random.split(key, len(self.levels))
        return [
            jax.random.uniform(k, (level.rows, self.features), maxval=START)
            for k, level in zip(keys, self.levels, strict=True)
        ]

    def opened(self, tables: list[Float[Array, "rows f"]], alpha: Array) -> list[Float[Array, "rows f"]]:
        """The tables with the windows of ``alpha`` applied."""
        return [weight * table for weight, table in zip(windows(alpha, len(tables)), tables, strict=True)]
