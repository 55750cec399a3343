"""How rough a motion is at every scale."""

import jax.numpy as jnp
import numpy as np
import pytest

from nstm.spacetime.octaves import Octaves

NODES, PITCH = (13, 9), (4.0, 5.0)


@pytest.mark.parametrize(("waves", "octave"), [((1, 1), 0), ((0, 2), 1), ((6, 2), 2), ((10, 6), 3)])
def test_a_wave_counts_in_its_own_octave_only(waves, octave):
    # of these no part is a slope of the field as a whole
    y, x = (np.cos(np.pi * i * (np.arange(n) + 0.5) / n) for i, n in zip(waves, NODES, strict=True))
    *found, whole = np.asarray(Octaves(NODES, PITCH).mean_squared_gradients(jnp.asarray(3.0 * y[:, None] * x)))
    assert len(found) == 4
    assert found[octave] > 0
    np.testing.assert_allclose(np.delete(found, octave), 0, atol=1e-6 * found[octave])
    assert whole < 1e-6 * found[octave]


def test_together_they_are_the_mean_squared_gradient():
    octaves = Octaves(NODES, PITCH)
    waves = np.zeros(NODES)
    waves[4, 2] = waves[2, 6] = 1.0
    y, x = (np.cos(np.pi * np.arange(n)[:, None] * (np.arange(n) + 0.5) / n) for n in NODES)
    values = y.T @ waves @ x
    *found, _ = np.asarray(octaves.mean_squared_gradients(jnp.asarray(values)))
    numbers = (np.prod(NODES) - 1) * np.array(octaves.shares)  # all but the mean
    expected = sum(
        0.25 * waves[i, j] ** 2 * ((np.pi * i / 13 / 4) ** 2 + (np.pi * j / 9 / 5) ** 2) for i, j in np.argwhere(waves)
    )
    assert sum(octaves.shares) == pytest.approx(1)
    np.testing.assert_allclose(np.sum(found * numbers) / np.prod(NODES), expected, rtol=1e-5)


def test_one_cell_along_an_axis_is_enough():
    octaves = Octaves((2, 13, 13), (4.0, 4.0, 4.0))
    values = np.random.default_rng(0).normal(size=(3, 2, 13, 13))
    found = np.asarray(octaves.mean_squared_gradients(jnp.asarray(values, jnp.float32)))
    assert np.isfinite(found).all()
    assert len(found) == len(octaves.shares) + 1
