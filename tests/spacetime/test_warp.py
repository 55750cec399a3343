"""The warp against known fields, its adjoint and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from nstm.spacetime.warp import warp


def test_a_whole_pixel_shift_moves_the_image():
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 12, 15)).astype(np.float32))
    field = jnp.zeros((1, 2, 12, 15)).at[:, 0].set(2.0).at[:, 1].set(-3.0)
    out = warp(image, field)[0]
    np.testing.assert_allclose(out[:, :-2, 3:], image[:, 2:, :-3], rtol=1e-6)


def test_a_smooth_field_agrees_with_linear_interpolation_of_scipy():
    rng = np.random.default_rng(1)
    image = rng.normal(size=(1, 20, 17)).astype(np.float32)
    field = rng.normal(scale=4, size=(3, 2, 20, 17)).astype(np.float32)  # many points leave the field
    out = np.asarray(warp(jnp.asarray(image), jnp.asarray(field)))
    y, x = np.indices((20, 17))
    for m in range(3):
        points = np.stack([np.clip(y + field[m, 0], 0, 19), np.clip(x + field[m, 1], 0, 16)])
        np.testing.assert_allclose(out[m, 0], map_coordinates(image[0], points, order=1, mode="nearest"), atol=2e-5)


def test_the_derivative_of_the_image_is_the_adjoint():
    with jax.enable_x64(True):
        rng = np.random.default_rng(2)
        image, field = jnp.asarray(rng.normal(size=(2, 9, 8))), jnp.asarray(rng.normal(scale=3, size=(4, 2, 9, 8)))
        other = jnp.asarray(rng.normal(size=(4, 2, 9, 8)))
        out, pull_back = jax.vjp(lambda i: warp(i, field), image)
        adjoint = pull_back(other)[0]
        np.testing.assert_allclose(jnp.vdot(out, other), jnp.vdot(image, adjoint), rtol=1e-12)


@pytest.mark.parametrize("place", [(0, 0, 3, 4), (1, 1, 5, 2), (2, 0, 7, 7)])
def test_the_derivative_of_the_displacement_agrees_with_finite_differences(place):
    with jax.enable_x64(True):
        rng = np.random.default_rng(3)
        image, field = jnp.asarray(rng.normal(size=(1, 9, 8))), jnp.asarray(rng.uniform(-0.9, 0.9, size=(3, 2, 9, 8)))

        def total(f):
            return jnp.sum(warp(image, f) ** 2)

        step = 1e-6
        slope = (total(field.at[place].add(step)) - total(field.at[place].add(-step))) / (2 * step)
        np.testing.assert_allclose(jax.grad(total)(field)[place], slope, rtol=1e-5, atol=1e-7)
