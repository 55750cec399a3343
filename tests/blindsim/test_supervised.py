"""Networks that are shown what to find: what they are before training, their size, and that they learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nstm.acquisition import DataError
from nstm.blindsim.supervised import WIDTHS, Supervised, squared_error
from nstm.blindsim.training import Plan, train
from nstm.blindsim.unet import parameters

#: As smooth as what an objective passes.
FRAMES = gaussian_filter(np.random.default_rng(0).uniform(0, 20, (3, 5, 16, 16)), (0, 0, 1.5, 1.5), mode="wrap")
FRAMES = np.maximum(FRAMES - 8, 0).astype(np.float32)


@pytest.mark.parametrize("kind", WIDTHS)
def test_a_new_one_gives_the_mean_and_is_small(kind):
    network = Supervised.new(kind, 5)
    np.testing.assert_allclose(network(jnp.asarray(FRAMES[0])), FRAMES[0].mean(axis=0), atol=1e-5)
    assert 10_000 < parameters(Supervised.new(kind, 20)) < 100_000
    with pytest.raises(DataError, match="takes 5 frames"):
        network(jnp.zeros((4, 16, 16)))
    with pytest.raises(DataError, match="sides that 4 divides"):
        network(jnp.zeros((5, 18, 16)))


@pytest.mark.parametrize("kind", WIDTHS)
def test_it_learns_and_moves_with_its_frames(kind):
    """Periodic borders: shifted frames give the shifted object (by what the U-Net halves twice)."""
    batch = (FRAMES, np.sqrt(FRAMES.mean(axis=1)))
    plan = Plan(epochs=40, rate=1e-3, clip=1.0)
    network, history = train(Supervised.new(kind, 5), squared_error, lambda epoch: [batch], [batch], plan)
    before = float(squared_error(Supervised.new(kind, 5), batch))
    assert min(history.validation) < 0.5 * before
    found = jax.vmap(network)(jnp.asarray(FRAMES))
    shifted = jax.vmap(network)(jnp.roll(jnp.asarray(FRAMES), (4, 8), (-2, -1)))
    np.testing.assert_allclose(shifted, jnp.roll(found, (4, 8), (-2, -1)), atol=1e-4)
