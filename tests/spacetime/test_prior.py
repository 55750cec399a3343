"""The prior on the motion: what moves as a whole says nothing of how the parts move against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nstm.settings import Reconstruction
from nstm.spacetime.objective import make_objective
from nstm.spacetime.renderer import make_renderer
from nstm.spacetime.representation import KnownMotion
from tests.spacetime.test_engines import window

SETTINGS = Reconstruction.model_validate({"multigrid": {"scene_levels": 2, "motion_levels": 3}})


def nodes_of(renderer, frames, seed=0):
    shape = [m.shape[1] for m in renderer.motion.matrices]
    return np.random.default_rng(seed).normal(size=(frames, 1, 2, *shape))


def as_a_whole(nodes, seed=1):
    """A shift, a turn and a stretch of every frame, along the places of the nodes."""
    rng = np.random.default_rng(seed)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in nodes.shape[-2:]), indexing="ij"))
    linear, shift = rng.normal(size=(len(nodes), 2, 2)), rng.normal(size=(len(nodes), 2))
    return (np.einsum("nij,jyx->niyx", linear, places) + shift[:, :, None, None])[:, None]


@pytest.fixture
def renderer():
    with jax.enable_x64(True):
        yield make_renderer(window(), SETTINGS)


def test_parts_move_against_each_other_alike_however_the_whole_moves(renderer):
    nodes = nodes_of(renderer, 4)
    moved = nodes + as_a_whole(nodes)
    still, moving = (np.asarray(renderer.motion.roughness(jnp.asarray(n))) for n in (nodes, moved))
    np.testing.assert_allclose(moving[:-1], still[:-1], rtol=1e-9)
    assert moving[-1] > 10 * still[-1]
    still, moving = (np.asarray(renderer.unsteadiness(jnp.asarray(n))) for n in (nodes, moved))
    np.testing.assert_allclose(moving[:-2], still[:-2], rtol=1e-9)
    assert (moving[-2:] > 2 * still[-2:]).all()


def test_a_steady_motion_does_not_shake(renderer):
    steady = np.arange(4.0)[:, None, None, None, None] * nodes_of(renderer, 1)
    np.testing.assert_allclose(renderer.unsteadiness(jnp.asarray(steady)), 0, atol=1e-20)


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_a_few_frames_and_rest_have_finite_slopes(renderer, frames):
    objective = make_objective(renderer, np.ones((4, 1, 10, 8), np.float32), SETTINGS, noise_variance=0.01)
    which = jnp.arange(frames)
    for nodes in (nodes_of(renderer, frames), 0 * nodes_of(renderer, frames)):
        value, slope = jax.value_and_grad(objective.surprise)(jnp.asarray(nodes), which)
        assert np.isfinite(value)
        assert np.isfinite(slope).all()
        assert np.any(slope) == np.any(nodes)


def test_a_motion_that_is_given_has_no_prior():
    model = window()
    times = np.asarray(model.times)
    given = KnownMotion(np.random.default_rng(0).normal(size=(*times.shape, 2, 14, 12)).astype(np.float32), times)
    renderer = make_renderer(model, SETTINGS, given)
    objective = make_objective(renderer, np.ones((4, 1, 10, 8), np.float32), SETTINGS, noise_variance=0.01)
    assert float(objective.surprise(renderer.nodes({"motion": []}, jnp.float32(1)), None)) == 0
