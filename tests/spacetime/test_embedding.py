"""Rows of vertices, interpolation between them, and the resolutions of the levels."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from nstm.spacetime.embedding import Embedding, Lattice, Level, resolutions

#: Multipliers of Mueller et al., written down a second time.
PRIMES = (1, 2654435761, 805459861, 3674653429)


def shared_row(vertex, rows):
    """The published hash, in integers without a limit."""
    mixed = 0
    for v, prime in zip(vertex, PRIMES, strict=False):
        mixed ^= v * prime % 2**32
    return mixed % rows


def level_and_table(cells, most_rows, seed=0):
    level = Level(cells, most_rows)
    return level, jnp.asarray(np.random.default_rng(seed).normal(size=(level.rows, 2)))


def test_resolutions_of_the_published_dpc_scene():
    """0.05 to 0.4 cells per pixel of a box of 128 pixels: floor(6.4 b^l) with b^7 = 8."""
    cells = resolutions(np.array([6.4]), np.array([51.2]), 8)
    assert [c[0] for c in cells] == [6, 8, 11, 15, 21, 28, 38, 51]
    assert resolutions(np.array([0.01, 3]), np.array([0.5, 24]), 4) == ((1, 3), (1, 6), (1, 12), (1, 24))


@pytest.mark.parametrize("cells", [(7,), (102, 102), (4, 30, 31), (2, 5, 4, 3)])
def test_levels_that_fit_are_dense(cells):
    level = Level(cells, 2**16)
    vertices = np.indices([c + 1 for c in cells]).reshape(len(cells), -1)
    rows = np.asarray(level.row([jnp.asarray(v) for v in vertices]))
    assert level.rows == math.prod(c + 1 for c in cells)
    assert sorted(rows) == list(range(level.rows))


def test_neighbours_do_not_share_rows_of_a_large_level():
    """103 x 103 neighbours in 2^16 rows: the published program used 4967 of them, these primes use one for each."""
    level = Level((1023, 1023), 2**16)
    assert level.rows == 2**16
    vertices = np.indices((103, 103)).reshape(2, -1)
    rows = np.asarray(level.row([jnp.asarray(v) for v in vertices]))
    assert len(np.unique(rows)) == 103**2
    assert rows.min() >= 0
    assert rows.max() < 2**16


@pytest.mark.parametrize("cells", [(300, 300), (40, 50, 60), (3, 30, 30, 30)])
def test_rows_of_large_levels_are_those_of_the_published_hash(cells):
    level = Level(cells, 2**10)
    vertices = np.random.default_rng(0).integers(0, np.array(cells) + 1, size=(200, len(cells)))
    rows = level.row([jnp.asarray(v) for v in vertices.T])
    np.testing.assert_array_equal(rows, [shared_row(v.tolist(), 2**10) for v in vertices])


def test_a_dense_level_is_linear_interpolation_held_at_the_edge():
    with jax.enable_x64(True):
        level, table = level_and_table((5, 9), 2**16)
        places = np.random.default_rng(1).uniform(-0.2, 1.2, size=(2, 300))
        found = level.at(level.corners(table), [jnp.asarray(p) for p in places])
        at = places * [[5], [9]]
        for feature in range(2):
            grid = np.asarray(table[:, feature]).reshape(6, 10)
            expected = map_coordinates(grid, at, order=1, mode="nearest")
            np.testing.assert_allclose(found[:, feature], expected, atol=1e-12)


def test_a_level_with_shared_rows_is_the_weighted_sum_of_its_corners():
    with jax.enable_x64(True):
        level, table = level_and_table((20, 30, 40), 64)
        places = np.random.default_rng(1).uniform(size=(3, 20))
        found = level.at(level.corners(table), [jnp.asarray(p) for p in places])
        for place, values in zip(places.T, np.asarray(found), strict=True):
            low = np.floor(place * level.cells).astype(int)
            fraction = place * level.cells - low
            total = np.zeros(2)
            for step in itertools.product((0, 1), repeat=3):
                weight = np.prod(np.where(step, fraction, 1 - fraction))
                total += weight * np.asarray(table[shared_row((low + step).tolist(), 64)])
            np.testing.assert_allclose(values, total, atol=1e-12)


@pytest.mark.parametrize(("cells", "most_rows"), [((6, 7), 2**16), ((60, 70), 64), ((3, 8, 9), 100)])
def test_places_on_a_grid_have_the_features_of_places_anywhere(cells, most_rows):
    with jax.enable_x64(True):
        level, table = level_and_table(cells, most_rows)
        axes = [np.linspace(0.2, 1.0, 11 + axis) for axis in range(len(cells))]
        grid = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(len(cells), -1)
        everywhere = level.at(level.corners(table), [jnp.asarray(p) for p in grid])
        on_grid = Lattice(level, axes).features(table)
        np.testing.assert_allclose(on_grid.reshape(2, -1).T, everywhere, atol=1e-12)


def test_levels_open_one_after_the_other():
    embedding = Embedding([(2, 2), (4, 4), (8, 8), (16, 16)], 2, 16)
    tables = embedding.initial(jax.random.key(0))
    opened = embedding.opened(tables, jnp.float32(2.5 / 4))
    for table, after, weight in zip(tables, opened, (1, 1, 0.5, 0), strict=True):
        np.testing.assert_allclose(after, weight * table, atol=1e-9)
