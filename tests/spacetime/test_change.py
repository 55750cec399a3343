"""Structure that fades while it is recorded: found as that, carried along, and told from structure that stays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nstm
from nstm.settings import Reconstruction
from nstm.spacetime.change import Change
from nstm.spacetime.result import load
from nstm.systems.sim import Sim, SimSettings
from tests.spacetime.test_reconstruct import blobs
from tests.systems.test_sim import calibration, settings

PIXEL, SIDE = 0.065, 48
TIMES = 0.02 * np.arange(9.0).reshape(3, 3, 1)


def spot(y, x):
    """A bright spot at a place in result pixels."""
    v, u = np.indices((2 * SIDE, 2 * SIDE))
    return 3 * np.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * 2.5**2))


def test_a_change_moves_with_the_scene_and_leaves_its_geometric_mean():
    with jax.enable_x64(True):
        change = Change((64, 48), 2)
        coefficients = change.initial()
        finest = coefficients["levels"][-1].astype(float)
        coefficients["levels"][-1] = finest.at[0, 5:10, 3:8].set(0.7)  # a block of nodes, linear in time
        grids = change.grids(coefficients, jnp.asarray(1.0))
        place = change.places[0][7], change.places[1][5]
        still, shifted = np.zeros((3, 2, 64, 48)), np.zeros((3, 2, 64, 48))
        shifted[:, 1] = -5.0  # what is at x lies at x - 5 in the canonical frame
        in_time = change.in_time(np.array([0, 0.5, 1]))
        ones = jnp.ones((3, 1, 64, 48))
        at_rest, moved = (change.seen(ones, grids, jnp.asarray(d), in_time)[:, 0] for d in (still, shifted))
        np.testing.assert_allclose(at_rest[:, *place], np.exp([-0.7, 0, 0.7]), rtol=1e-6)
        np.testing.assert_allclose(moved[:, place[0], place[1] + 5], at_rest[:, *place], rtol=1e-6)
        np.testing.assert_allclose(moved[:, place[0], place[1] - 9], 1)  # where it would lie at rest
        np.testing.assert_allclose(at_rest[:, 50:, 40:], 1)


def test_no_terms_are_no_coefficients():
    change = Change((32, 32), 0)
    assert change.initial() == {}
    assert change.in_time(np.linspace(0, 1, 4)).shape == (4, 0)


@pytest.fixture(scope="module")
def fitted():
    """``(frame number) -> sample``, fitted with some terms; the fit and the true scenes in its units."""
    system = Sim(SimSettings.model_validate(settings(camera={"offset": 100}).model_dump()))
    known = calibration()
    model = system.forward((1, SIDE, SIDE), TIMES, known, PIXEL, 0)
    short = {"steps": 200, "padding_px": 0, "starts": 1, "sliding": False}

    def made(sample, terms, move=True):
        scenes = 200 * np.stack([sample(i) for i in range(9)])[:, None, None, None].astype(np.float32)
        frames = 100 + np.asarray(model.render(scenes, np.arange(9)))
        frames = frames + np.random.default_rng(1).normal(scale=2.0, size=frames.shape)
        how = Reconstruction.model_validate({**short, "brightness_terms": terms})
        raw = frames.reshape(3, 3, 1, SIDE, SIDE)
        fit = nstm.reconstruct(system, raw, TIMES, how, calibration=known, move=move)
        truth = np.stack([np.asarray(model.output(jnp.asarray(s[0]))) for s in scenes])
        return fit, truth

    return made


def fading(i):
    """Blobs that drift, and a spot that drifts with them and fades to a fifth."""
    return blobs((0, 0.5 * i)) + (1 - 0.1 * i) * spot(60, 30 + 0.5 * i)


def error(fit, truth, rows=slice(48, 72), columns=slice(18, 48)):
    """Largest root mean square error around the spot at the first, the middle and the last frame, a share of it."""
    at = [0, 4, 8]
    found, true = (of[:, 0, 0, rows, columns] for of in (fit.scene(TIMES.ravel()[at]), truth[at]))
    return float(np.max(np.sqrt(np.mean((found - true) ** 2, axis=(-2, -1)) / np.mean(true**2, axis=(-2, -1)))))


def test_what_fades_is_found_where_a_constant_brightness_misses_it(fitted, tmp_path):
    (changing, truth), (constant, _) = fitted(fading, 3), fitted(fading, 0)
    assert error(constant, truth) > 0.3  # it shrinks the spot instead
    assert error(changing, truth) < 0.1
    assert np.mean(changing.residual**2) < 0.9 * np.mean(constant.residual**2)
    changing.save(tmp_path / "fit.npz")
    again = load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(again.scene(TIMES.ravel()[:2]), changing.scene(TIMES.ravel()[:2]))


def test_what_stays_as_bright_hardly_changes(fitted):
    fit, truth = fitted(lambda i: blobs((0, 0.5 * i)), 3)
    assert error(fit, truth, slice(None), slice(None)) < 0.1  # 0.083 without terms


def test_a_sample_at_rest_may_change_and_stays_at_rest(fitted):
    fit, truth = fitted(lambda i: blobs((0, 0)) + (1 - 0.1 * i) * spot(60, 30), 3, move=False)
    assert error(fit, truth) < 0.12  # 0.55 without terms
    assert all(not np.any(level) for level in fit.parameters["motion"])
    assert np.mean(fit.residual**2) < 1.1 * fit.noise_variance.mean()
