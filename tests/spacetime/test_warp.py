"""The warp against known fields, its adjoint and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from nstm.spacetime.warp import gather, pack, scatter, unpack, warp


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


def cubic(distance: np.ndarray) -> np.ndarray:
    """Kernel of Keys (IEEE Trans. Acoust. 29, 1153, 1981), eq. 15."""
    x = np.abs(distance)
    return np.where(x < 1, 1.5 * x**3 - 2.5 * x**2 + 1, np.where(x < 2, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2, 0))


def test_a_volume_is_linear_within_planes_as_scipy_has_it_and_cubic_along_z():
    rng = np.random.default_rng(4)
    volume = rng.normal(size=(2, 5, 9, 8)).astype(np.float32)
    field = rng.normal(scale=2, size=(2, 3, 5, 9, 8)).astype(np.float32)
    out = np.asarray(warp(jnp.asarray(volume), jnp.asarray(field)))
    places = np.indices((5, 9, 8))
    for m in range(2):
        limits = np.array([4, 8, 7]).reshape(3, 1, 1, 1)
        z, y, x = np.clip(places + field[m], 0, limits)
        for c in range(2):
            expected = np.zeros((5, 9, 8))
            for plane in range(-2, 7):  # the edge goes on
                same = np.full((5, 9, 8), np.clip(plane, 0, 4))
                expected += cubic(z - plane) * map_coordinates(volume[c], [same, y, x], order=1, mode="nearest")
            np.testing.assert_allclose(out[m, c], expected, atol=2e-5)


def test_a_volume_on_its_planes_has_no_kink():
    """The slope along z is the same from either side; that of linear interpolation jumps by the curvature."""
    volume = jnp.asarray(np.random.default_rng(6).normal(size=(1, 6, 4, 4)))

    def slope(z: float) -> np.ndarray:
        field = jnp.zeros((1, 3, 6, 4, 4)).at[:, 0].set(z)
        return np.asarray(jax.grad(lambda f: jnp.sum(warp(volume, f) ** 2))(field))[0, 0, 1:-1]

    np.testing.assert_allclose(slope(1e-4), slope(-1e-4), atol=2e-2)
    assert np.abs(slope(0.0)).max() > 1


@pytest.mark.parametrize("shape", [(1, 4, 6, 5), (2, 4, 6, 5), (2, 2, 4, 5), (1, 1, 4, 5)])
def test_the_derivative_of_a_volume_is_the_adjoint(shape):
    with jax.enable_x64(True):
        rng = np.random.default_rng(7)
        volume, field = jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.normal(scale=2, size=(2, 3, *shape[1:])))
        other = jnp.asarray(rng.normal(size=(2, *shape)))
        out, pull_back = jax.vjp(lambda v: warp(v, field), volume)
        np.testing.assert_allclose(jnp.vdot(out, other), jnp.vdot(volume, pull_back(other)[0]), rtol=1e-12)


def test_the_derivatives_of_a_warped_volume():
    with jax.enable_x64(True):
        rng = np.random.default_rng(5)
        volume, field = jnp.asarray(rng.normal(size=(2, 4, 6, 5))), jnp.asarray(rng.uniform(-0.9, 0.9, (2, 3, 4, 6, 5)))

        def total(f):
            return jnp.sum(warp(volume, f) ** 2)

        slope = jax.grad(total)(field)
        for place in [(0, 0, 1, 3, 2), (1, 1, 2, 2, 3), (0, 2, 2, 4, 1)]:
            step = 1e-6
            change = (total(field.at[place].add(step)) - total(field.at[place].add(-step))) / (2 * step)
            np.testing.assert_allclose(slope[place], change, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("space", [(9, 8), (5, 9, 8)])
def test_what_is_packed_once_and_added_up_is_the_derivative_of_all_times(space):
    rng = np.random.default_rng(6)
    image = jnp.asarray(rng.normal(size=(1, *space)).astype(np.float32))
    field = jnp.asarray(rng.normal(scale=2, size=(3, len(space), *space)).astype(np.float32))
    g = jnp.asarray(rng.normal(size=(3, 1, *space)).astype(np.float32))
    expected = jax.vjp(warp, image, field)[1](g)
    packed = pack(image)
    total = jnp.zeros_like(packed)
    for m in range(3):
        _, place = gather(packed, field[m : m + 1])
        total, toward_field = scatter(total, place, g[m : m + 1])
        np.testing.assert_allclose(toward_field[0], expected[1][m], atol=1e-5)
    np.testing.assert_allclose(unpack(total, space), expected[0], atol=1e-5)
