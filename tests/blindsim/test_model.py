"""Gradients and line search are exact."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nstm.blindsim.line_search import best_step, expansion, moved, polynomial
from nstm.blindsim.model import BlindModel, Unknowns, along, patterns_of, start


def case(shape=(12, 10), frames=5, seed=0):
    """A random model with random unknowns and a random direction, float64."""
    rng = np.random.default_rng(seed)
    transfer = np.fft.rfft2(np.exp(-(np.hypot(*np.indices(shape)) ** 2) / 4), s=shape)
    transfer = np.abs(transfer) / np.abs(transfer).max()
    data = rng.random((frames, *shape))
    points = [
        Unknowns(jnp.asarray(rng.normal(size=shape)), jnp.asarray(rng.normal(size=(frames - 1, *shape))))
        for _ in range(2)
    ]
    return BlindModel.of(data, transfer), points[0], points[1], data, transfer


def direct(unknowns, data, transfer):
    """The cost as it is defined, in real space."""
    shape = data.shape[-2:]
    seen = jnp.fft.irfft2(transfer * jnp.fft.rfft2(unknowns.object**2 * patterns_of(unknowns)), s=shape)
    return jnp.sum((data - seen) ** 2)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("shape", [(12, 10), (9, 11), (8, 7)])
def test_gradient_is_that_of_autodiff(shape):
    model, unknowns, _, data, transfer = case(shape)
    residual = model.residual(unknowns)
    assert float(model.cost(residual)) == pytest.approx(float(direct(unknowns, data, transfer)), rel=1e-12)
    expected = jax.grad(direct)(unknowns, data, transfer)
    found = model.gradient(unknowns, residual)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-9 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("shape", [(12, 10), (9, 11)])
def test_cost_along_a_line_is_the_polynomial(shape):
    model, unknowns, direction, data, transfer = case(shape)
    coefficients = polynomial(model, model.residual(unknowns), expansion(model, unknowns, direction))
    assert coefficients.shape == (9,)
    for step in (-1.3, -0.1, 0.02, 0.4, 2.0):
        expected = float(direct(along(unknowns, direction, step), data, transfer))
        assert float(jnp.polyval(coefficients[::-1], step)) == pytest.approx(expected, rel=1e-10)
    slope = sum(
        float(jnp.vdot(a, b)) for a, b in zip(jax.grad(direct)(unknowns, data, transfer), direction, strict=True)
    )
    assert float(coefficients[1]) == pytest.approx(slope, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_step_is_the_best_root_of_the_derivative(seed):
    model, unknowns, _, _, _ = case(seed=seed)
    residual = model.residual(unknowns)
    downhill = jax.tree.map(jnp.negative, model.gradient(unknowns, residual))
    coefficients = np.asarray(polynomial(model, residual, expansion(model, unknowns, downhill)))
    curve = np.polynomial.Polynomial(coefficients)
    roots = curve.deriv().roots()
    real = roots[(np.abs(roots.imag) < 1e-9) & (roots.real > 0)].real
    best = real[np.argmin(curve(real))]
    assert float(best_step(jnp.asarray(coefficients))) == pytest.approx(best, rel=1e-5)


def test_no_step_uphill_or_where_nothing_falls():
    model, unknowns, _, _, _ = case()
    residual = model.residual(unknowns)
    uphill = model.gradient(unknowns, residual)
    assert float(moved(model, unknowns, residual, uphill)[0]) == 0
    nothing = jax.tree.map(jnp.zeros_like, unknowns)
    step, same, cost = moved(model, unknowns, residual, nothing)
    assert float(step) == 0
    np.testing.assert_array_equal(same, residual)
    assert float(cost) == pytest.approx(float(model.cost(residual)))


def test_residual_after_a_step_is_that_of_the_new_place():
    model, unknowns, _, _, _ = case()
    residual = model.residual(unknowns)
    downhill = jax.tree.map(jnp.negative, model.gradient(unknowns, residual))
    step, there, cost = moved(model, unknowns, residual, downhill)
    fresh = model.residual(along(unknowns, downhill, step))
    np.testing.assert_allclose(there, fresh, atol=1e-10)
    assert float(cost) == pytest.approx(float(model.cost(fresh)), rel=1e-10)


def test_patterns_are_uniform_on_average_and_start_flat():
    _, unknowns, _, data, _ = case()
    np.testing.assert_allclose(patterns_of(unknowns).mean(axis=0), 1, atol=1e-12)
    begin = start(data)
    np.testing.assert_allclose(patterns_of(begin), 1)
    np.testing.assert_allclose(begin.object**2, data.mean(axis=0), rtol=1e-12)
    assert start(np.zeros((3, 4, 4)) + np.eye(4)).object.min() > 0
