"""Windows, interpolation and the two representations."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from nstm.settings import Multigrid
from nstm.spacetime.multigrid import MotionGrids, SceneGrids
from nstm.spacetime.representation import windows
from nstm.spacetime.resampling import doubled, interpolation, spline


def test_windows_open_one_after_the_other_and_are_all_open_at_the_end():
    np.testing.assert_allclose(windows(jnp.float32(0), 8), 0)
    np.testing.assert_allclose(windows(jnp.float32(1), 8), 1)
    half = np.asarray(windows(jnp.float32(3.5 / 8), 8))
    np.testing.assert_allclose(half, [1, 1, 1, 0.5, 0, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize(("side", "cells"), [(80, 12), (160, 12), (272, 12), (288, 12), (544, 23), (1056, 44)])
def test_cells_of_the_motion_are_as_small_in_large_fields(side, cells):
    grids = MotionGrids((1, side, side // 2), 9, Multigrid())
    assert grids.cells == cells
    assert MotionGrids((1, side, side // 2), 9, Multigrid(motion_finest_cells=7)).cells == 7


@pytest.mark.parametrize("nodes", [1, 2, 5, 9])
def test_interpolation_is_exact_for_straight_lines(nodes):
    points = np.linspace(0, 1, 33)
    matrix = interpolation(nodes, points)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    if nodes > 1:
        np.testing.assert_allclose(matrix @ np.linspace(0, 1, nodes), points, atol=1e-6)


@pytest.mark.parametrize("nodes", [2, 3, 13])
def test_a_spline_goes_through_its_nodes_and_is_exact_for_straight_lines(nodes):
    places = np.linspace(0, 1, nodes)
    np.testing.assert_allclose(spline(nodes, places), np.eye(nodes), atol=1e-6)
    points = np.linspace(0, 1, 50)
    np.testing.assert_allclose(spline(nodes, points) @ places, points, atol=1e-6)


def test_a_swirl_lies_between_the_nodes_of_a_motion_as_a_spline_draws_it():
    # a turn by 0.6 rad that fades from the middle, on the 12 cells of a field of 160 pixels
    def swirl(at):
        y, x = np.meshgrid(at, at, indexing="ij")
        return 0.6 * np.exp(-(y**2 + x**2) / 40**2) * x

    grid, field = np.linspace(-80, 80, 13), np.linspace(-80, 80, 160)
    errors = [
        np.abs(m @ swirl(grid) @ m.T - swirl(field)).max()
        for m in (draw(13, np.linspace(0, 1, 160)) for draw in (interpolation, spline))
    ]
    assert errors[0] > 0.4  # pixels
    assert errors[1] < 0.12


def test_the_finest_scene_grid_is_the_pixels_themselves():
    grids = SceneGrids(1, (1, 24, 40), Multigrid())
    coefficients = grids.initial(0)
    assert coefficients[-1].shape == (1, 1, 24, 40)
    image = np.random.default_rng(0).normal(size=(1, 1, 24, 40)).astype(np.float32)
    coefficients[-1] = jnp.asarray(image)
    np.testing.assert_allclose(grids.render(coefficients, jnp.float32(1)), image, rtol=1e-6)
    assert not np.any(grids.render(coefficients, jnp.float32(0.5)))


def test_a_constant_motion_coefficient_moves_everything_alike_in_units_of_the_field():
    grids = MotionGrids((1, 24, 40), 2, Multigrid())
    coefficients = grids.initial(0)
    coefficients[0] = coefficients[0].at[1].set(0.1)
    field = np.asarray(grids.render(coefficients, grids.in_time(np.array([0.0, 0.3, 1.0])), jnp.float32(1)))
    np.testing.assert_allclose(field[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(field[:, 1], 0.1 * np.sqrt(24 * 40), rtol=1e-5)


def test_a_shear_is_rough_as_a_whole_only():
    grids = MotionGrids((1, 30, 30), 2, Multigrid())
    nodes = np.zeros((1, 2, *(m.shape[1] for m in grids.matrices)), np.float32)
    nodes[0, 1] = np.linspace(0, 3, nodes.shape[-2])[:, None]  # x moves with y: 3 px over 30 px
    *apart, whole = grids.roughness(jnp.asarray(nodes))
    np.testing.assert_allclose(apart, 0, atol=1e-9)
    np.testing.assert_allclose(whole, 0.1**2 / 2, rtol=1e-4)
    nodes[0, 1] *= np.where(np.arange(nodes.shape[-1]) // 2 % 2, 1, -1)  # one way and the other: nothing as a whole
    *apart, whole = grids.roughness(jnp.asarray(nodes))
    assert max(apart) > 1 > 0.01 > whole


def test_a_ramp_is_a_ramp_at_every_octave():
    grids = SceneGrids(1, (6, 40, 57), Multigrid())
    assert max(grids.octaves) > 0
    coefficients = grids.initial(0)
    for level, c in enumerate(coefficients[:-1]):
        ramp = np.linspace(0, 1, c.shape[-1], dtype=np.float32) * np.ones(c.shape, np.float32)
        alone = [jnp.asarray(ramp) if i == level else jnp.zeros_like(z) for i, z in enumerate(coefficients)]
        image = np.asarray(grids.render(alone, jnp.float32(1)))
        np.testing.assert_allclose(image[0, 3, 20], np.linspace(0, 1, 57), atol=1e-5, err_msg=str(level))


@pytest.mark.parametrize("shape", [(7, 8), (8, 7), (16, 16)])
def test_doubling_is_linear_interpolation(shape):
    half = np.random.default_rng(0).normal(size=[n // 2 + 1 for n in shape]).astype(np.float32)
    points = np.meshgrid(*(np.arange(n) / 2 for n in shape), indexing="ij")
    np.testing.assert_allclose(doubled(jnp.asarray(half), shape), map_coordinates(half, points, order=1), atol=1e-6)


def test_a_volume_moves_along_three_axes():
    grids = MotionGrids((5, 24, 40), 2, Multigrid())
    coefficients = grids.initial(0)
    assert coefficients[0].shape == (3, 2, 2, 2, 2)
    coefficients[0] = coefficients[0].at[0, 1].set(0.1)  # along z, at the end
    times = np.linspace(0, 1, 5)
    field = np.asarray(grids.render(coefficients, grids.in_time(times), jnp.float32(1)))
    assert field.shape == (5, 3, 5, 24, 40)
    # from rest to that displacement, counted from the mean
    expected = np.broadcast_to(0.1 * np.sqrt(24 * 40) * (times - 0.5)[:, None, None, None], (5, 5, 24, 40))
    np.testing.assert_allclose(field[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(field[:, 1:], 0, atol=1e-6)


def test_what_does_not_change_is_no_motion_of_a_volume():
    """Only a deformed canonical scene tells a displacement that stays from none: the grids cannot have one."""
    grids = MotionGrids((5, 24, 40), 4, Multigrid())
    numbers = [np.random.default_rng(0).normal(size=(c.shape[0], 1, *c.shape[2:])) for c in grids.initial(0)]
    lasting = [jnp.broadcast_to(jnp.float32(n), c.shape) for n, c in zip(numbers, grids.initial(0), strict=True)]
    field = grids.render(lasting, grids.in_time(np.linspace(0, 1, 3)), jnp.float32(1))
    np.testing.assert_allclose(field, 0, atol=1e-4)
