"""Windows, interpolation and the two representations."""

import jax.numpy as jnp
import numpy as np
import pytest

from nstm.settings import Multigrid
from nstm.spacetime.multigrid import MotionGrids, SceneGrids, interpolation, windows


def test_windows_open_one_after_the_other_and_are_all_open_at_the_end():
    np.testing.assert_allclose(windows(jnp.float32(0), 8), 0)
    np.testing.assert_allclose(windows(jnp.float32(1), 8), 1)
    half = np.asarray(windows(jnp.float32(3.5 / 8), 8))
    np.testing.assert_allclose(half, [1, 1, 1, 0.5, 0, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("nodes", [1, 2, 5, 9])
def test_interpolation_is_exact_for_straight_lines(nodes):
    points = np.linspace(0, 1, 33)
    matrix = interpolation(nodes, points)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    if nodes > 1:
        np.testing.assert_allclose(matrix @ np.linspace(0, 1, nodes), points, atol=1e-6)


def test_the_finest_scene_grid_is_the_pixels_themselves():
    grids = SceneGrids(1, (1, 24, 40), Multigrid())
    coefficients = grids.zeros()
    assert coefficients[-1].shape == (1, 1, 24, 40)
    image = np.random.default_rng(0).normal(size=(1, 1, 24, 40)).astype(np.float32)
    coefficients[-1] = jnp.asarray(image)
    np.testing.assert_allclose(grids.render(coefficients, jnp.float32(1)), image, rtol=1e-6)
    assert not np.any(grids.render(coefficients, jnp.float32(0.5)))


def test_a_constant_motion_coefficient_moves_everything_alike_in_units_of_the_field():
    grids = MotionGrids((1, 24, 40), 2, Multigrid())
    coefficients = grids.zeros()
    coefficients[0] = coefficients[0].at[1].set(0.1)
    field = np.asarray(grids.render(coefficients, grids.in_time(np.array([0.0, 0.3, 1.0])), jnp.float32(1)))
    np.testing.assert_allclose(field[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(field[:, 1], 0.1 * np.sqrt(24 * 40), rtol=1e-5)


def test_roughness_of_a_shear_is_its_squared_gradient():
    grids = MotionGrids((1, 30, 30), 2, Multigrid())
    nodes = np.zeros((1, 2, *(m.shape[1] for m in grids.matrices)), np.float32)
    nodes[0, 1] = np.linspace(0, 3, nodes.shape[-2])[:, None]  # x moves with y: 3 px over 30 px
    np.testing.assert_allclose(grids.roughness(jnp.asarray(nodes)), 0.1**2 / 2, rtol=1e-4)
