"""Every combination of representation and rendering: gradients, equal pictures, seeds, fits of moving samples."""

import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

import nstm
from nstm.settings import Reconstruction, override
from nstm.spacetime.checkpoint import Stopped
from nstm.spacetime.fit import _last_known, fit
from nstm.spacetime.networks import MotionNetwork, SceneNetwork
from nstm.spacetime.objective import make_objective
from nstm.spacetime.renderer import make_renderer, predict
from nstm.spacetime.rendering import Still
from nstm.spacetime.representation import KnownMotion
from nstm.systems.base import ForwardModel
from nstm.systems.dpc import Dpc
from tests.systems.test_dpc import PIXEL, TIMES, scattered, settings

SMALL = {"levels": 3, "scene_width": 8, "motion_width": 8, "table_log2": 6, "motion_finest": 0.3}
GRIDS = {"scene_levels": 3, "motion_levels": 2, "motion_finest_cells": 3}
ENGINES = [
    {},
    {"scene": "network"},
    {"motion": "network"},
    {"engine": "networks"},
    {"engine": "networks", "rendering": "once"},
    {"engine": "networks", "motion": "grids"},
]
CHANGING = [{"brightness_terms": 2}, {"scene": "network", "brightness_terms": 1}]


def chosen(engine, **more):
    networks = {**SMALL, **more.pop("networks", {})}
    return Reconstruction.model_validate({"padding_px": 0, "networks": networks, **engine, **more})


def instrument(shape=(14, 12)):
    return Dpc(settings()).forward((1, *shape), TIMES, {}, PIXEL, 0)


class Window(ForwardModel):
    """Sees the inner part of the scene, each frame with weights of its own; what leaves the field is out of sight."""

    nonnegative: ClassVar[bool] = True
    weights: jax.Array
    times: jax.Array
    scene_shape: tuple = eqx.field(static=True)
    output_field: tuple = eqx.field(static=True)

    def render(self, scenes, which):
        return jnp.einsum("nc,nkczyx->nzyx", self.weights[which], scenes[..., 4:-4, 4:-4])

    def output(self, scene):
        return scene


def window():
    weights = jnp.asarray(np.random.default_rng(5).normal(size=(4, 2)))
    field = ((0, 1), (0, 14), (0, 12))
    return Window(weights=weights, times=jnp.asarray(TIMES, float), scene_shape=(2, 1, 14, 12), output_field=field)


def random_like(tree, seed, size=0.3):
    """A tree of random numbers in the precision of the day."""
    leaves, structure = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(structure, [jnp.asarray(rng.normal(scale=size, size=a.shape), float) for a in leaves])


def value(objective, parameters, alpha):
    """What :meth:`Objective.gradient` is the derivative of, all frames at once."""
    renderer = objective.renderer
    shared, canonical = renderer.shared(parameters, alpha)
    nodes = renderer.nodes(parameters, alpha)
    moved, _ = renderer.moved(shared, nodes, jnp.arange(len(nodes)))
    seen = renderer.seen(moved, parameters["illumination"], jnp.arange(len(nodes)))
    total = jnp.sum(objective.weights / objective.weights.sum() * objective.errors(seen - objective.data))
    images = moved.reshape(-1, *moved.shape[2:]) if canonical is None else canonical[None]
    total += jnp.mean(jnp.stack([objective.penalty(image) for image in images]))
    changed = objective.schedule["constancy"] * renderer.change.surprise(shared[1])
    return total + objective.surprise(nodes, None) + changed


@pytest.mark.parametrize("engine", [*ENGINES, *CHANGING, "still"], ids=str)
def test_gradients_are_those_of_finite_differences(engine):
    with jax.enable_x64(True):
        still, engine = engine == "still", {} if engine == "still" else engine
        priors = {"scene_tikhonov": 0.02, "scene_smoothness": 3, "motion_smoothness": 2, "motion_steadiness": 1}
        fitted = chosen(engine, margin_px=1, multigrid={**GRIDS, **priors}, networks=priors)
        renderer = make_renderer(window(), fitted)
        if still:
            renderer = eqx.tree_at(lambda r: r.rendering, renderer, Still())
        data = np.random.default_rng(0).normal(size=(4, 1, 6, 4))
        objective = make_objective(renderer, data, fitted, np.array([1, 2, 0, 1.0]), noise_variance=0.01)
        parameters, direction = (random_like(renderer.initial(0), seed) for seed in (1, 2))
        parameters["motion"] = jax.tree.map(lambda a: 0.24 * a, parameters["motion"])
        displacement = jnp.abs(renderer.nodes(parameters, jnp.asarray(1.0))).max()
        assert 0.3 < displacement < 4
        alpha = jnp.asarray(0.8)
        gradient, _ = jax.jit(lambda p: objective.gradient(p, alpha, None))(parameters)
        found = sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
        at = jax.jit(lambda s: value(objective, jax.tree.map(lambda p, d: p + s * d, parameters, direction), alpha))
        np.testing.assert_allclose(found, (at(1e-6) - at(-1e-6)) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize("engine", [{}, {"engine": "networks"}], ids=str)
def test_a_round_of_small_steps_has_the_gradient_of_one_step_of_all_frames(engine):
    with jax.enable_x64(True):
        free = {**GRIDS, "motion_smoothness": 0, "motion_steadiness": 0}  # both look at the frames of a step
        fitted = chosen(engine, frames_per_step=2, multigrid=free)
        renderer = make_renderer(window(), fitted)
        data = np.random.default_rng(0).normal(size=(4, 1, 6, 4))
        objective = make_objective(renderer, data, fitted, noise_variance=0.01)
        parameters = random_like(renderer.initial(0), 1, 0.1)
        parts = [objective.frames(jnp.int32(step)) for step in (6, 7)]
        assert sorted(np.concatenate(parts)) == [0, 1, 2, 3]
        assert any(set(parts[0].tolist()) != set(objective.frames(jnp.int32(s)).tolist()) for s in (8, 10, 12))
        alpha = jnp.asarray(1.0)
        slopes = [objective.gradient(parameters, alpha, which)[0] for which in parts]
        whole, _ = make_objective(renderer, data, chosen(engine, multigrid=free), None, 0.01).gradient(
            parameters, alpha, None
        )
        mean = jax.tree.map(lambda a, b: (a + b) / 2, *slopes)
        for a, b in zip(jax.tree.leaves(mean), jax.tree.leaves(whole), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 20, 26), (4, 10, 12)])
def test_a_scene_rendered_once_is_the_scene_asked_at_every_pixel(shape):
    with jax.enable_x64(True):
        scene = SceneNetwork(2, shape, chosen({}).networks)
        coefficients = random_like(scene.initial(0), 0)
        alpha = jnp.asarray(0.7)
        once = scene.render(coefficients, alpha).reshape(2, *scene.space)
        rest = jnp.zeros((3, len(scene.space), *scene.space))
        asked = scene.at(scene.opened(coefficients, alpha), rest)
        np.testing.assert_allclose(asked, jnp.broadcast_to(once, asked.shape), atol=1e-12)
        two_along_x = rest.at[:, -1].set(2.0)
        asked = scene.at(scene.opened(coefficients, alpha), two_along_x)
        np.testing.assert_allclose(asked[0, ..., :-2], once[..., 2:], atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 20, 26), (4, 10, 12)])
def test_a_motion_network_is_its_perceptron_at_every_place_and_time(shape):
    """Against one place at a time, looked up as the scene's places are."""
    with jax.enable_x64(True):
        motion = MotionNetwork(shape, chosen({}).networks)
        coefficients = random_like(motion.initial(0), 0)
        space, tau = [n for n in shape if n > 1], np.array([0.0, 0.31, 1.0])
        field = motion.render(coefficients, motion.in_time(tau), jnp.asarray(1.0))
        assert field.shape == (3, len(space), *space)
        place = [n // 2 for n in space]
        for t, time in enumerate(tau):
            share = [time, *(p / n for p, n in zip(place, space, strict=True))]
            x = jnp.concatenate(
                [
                    level.at(level.corners(table), [jnp.asarray([s]) for s in share])[0]
                    for level, table in zip(motion.embedding.levels, coefficients["tables"], strict=True)
                ]
            )
            first, second, last = coefficients["layers"]
            for layer in (first, second):
                x = jnp.dot(x, layer["kernel"]) + layer["bias"]
                x = jnp.where(x > 0, x, jnp.exp(x) - 1)
            expected = (jnp.dot(x, last["kernel"]) + last["bias"]) * jnp.asarray(space)
            np.testing.assert_allclose(field[(t, slice(None), *place)], expected, atol=1e-7)


def test_what_joins_late_is_left_alone_until_then():
    """At stage 0.4 nothing moves the absorption; at 0.75 half of it is there, at 1 all."""
    late = chosen({}, multigrid=GRIDS, late_from=0.5)
    objective = make_objective(
        make_renderer(instrument(), late), np.random.default_rng(0).normal(size=(4, 1, 14, 12)), late
    )
    np.testing.assert_allclose([objective.share(jnp.float32(a)) for a in (0.4, 0.75, 1)], [0, 0.5, 1], atol=1e-6)
    parameters = random_like(objective.renderer.initial(0), 0)
    parameters["scene"] = [c.at[0].set(0) for c in parameters["scene"]]
    for alpha, moved in ((0.4, False), (1.0, True)):
        slope, _ = objective.gradient(parameters, jnp.float32(alpha), None)
        assert any(np.any(c[0]) for c in slope["scene"]) is moved
        assert np.any(slope["scene"][0][1])
    always = make_objective(objective.renderer, objective.data, chosen({}, multigrid=GRIDS))
    assert [float(always.share(jnp.float32(a))) for a in (0, 0.4, 1)] == [1, 1, 1]


def test_a_uniform_motion_moves_every_pixel_alike():
    motion = MotionNetwork((1, 20, 26), chosen({}, networks={"motion_uniform": True}).networks)
    coefficients = random_like(motion.initial(0), 0)
    field = np.asarray(motion.render(coefficients, motion.in_time(np.array([0, 0.2, 1])), jnp.float32(1)))
    assert field.shape == (3, 2, 20, 26)
    assert np.ptp(field, axis=(-2, -1)).max() == 0
    assert np.ptp(field[:, 0, 0, 0]) > 0.01


def test_a_network_at_rest_does_not_move():
    motion = MotionNetwork((1, 20, 26), chosen({}).networks)
    assert not np.any(motion.render(motion.at_rest(), motion.in_time(np.linspace(0, 1, 4)), jnp.float32(1)))


def test_the_seed_decides_where_networks_start():
    renderer = make_renderer(instrument(), chosen({"engine": "networks"}))
    leaves = [[np.asarray(a) for a in jax.tree.leaves(renderer.initial(seed))] for seed in (3, 3, 4)]
    assert all(np.array_equal(a, b) for a, b in zip(leaves[0], leaves[1], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(leaves[0], leaves[2], strict=True))


@pytest.mark.parametrize("changes", [{"engine": "networks", "scene": "grids"}, {"rendering": "per_pixel"}])
def test_grids_cannot_be_asked_between_pixels(changes):
    with pytest.raises(ValidationError, match="set rendering: once, or scene: network"):
        Reconstruction.model_validate(changes)


def moving(shift_px, noise=0.003):
    """Four frames of scattered spots that move along x, ``shift_px`` from one to the next, and their absorption-free
    system."""
    system, phase = Dpc(settings(model="phase")), scattered((64, 64))
    model = system.forward((1, 64, 64), TIMES, {}, PIXEL, 0)
    scenes = np.stack([np.roll(phase, shift_px * i, axis=-1) for i in range(4)])
    images = np.asarray(model.render(jnp.asarray(scenes, jnp.float32)[:, None, None, None], jnp.arange(4)))
    return system, images + np.random.default_rng(0).normal(scale=noise, size=images.shape), scenes


def known_shift(shift_px):
    displacement = np.zeros((4, 1, 2, 64, 64))
    displacement[:, 0, 1] = -shift_px * np.arange(4.0)[:, None, None]
    return KnownMotion(displacement, TIMES)


def test_a_known_motion_is_the_warp_it_was_given():
    with jax.enable_x64(True):
        motion = known_shift(2)
        renderer = make_renderer(instrument((64, 64)), chosen({}), motion)
        image = np.random.default_rng(0).normal(size=(1, 64, 64))
        shared = renderer.rendering.shared(Picture(jnp.asarray(image)), None, jnp.asarray(1.0), (64, 64))[0]
        moved, _ = renderer.moved((shared, None), renderer.nodes({"motion": []}, jnp.asarray(1.0)), jnp.arange(4))
        for i in range(4):
            expected = np.roll(image[0], 2 * i, axis=-1)
            np.testing.assert_allclose(moved[i, 0, 0, :, 8:], expected[:, 8:], atol=1e-14)
        between = motion.render([], motion.in_time(np.array([0.5 / 3])), jnp.asarray(1.0))
        np.testing.assert_allclose(between[0, 1], -1.0)


class Picture(eqx.Module):
    """A scene that is an image."""

    image: jax.Array

    def render(self, coefficients, alpha):
        return self.image[:, None]


def test_a_fit_with_the_true_motion_explains_the_frames():
    system, frames, _ = moving(2)
    model = system.forward((1, 64, 64), TIMES, {}, PIXEL, 0)
    short = Reconstruction.model_validate({"steps": 150, "multigrid": {"scene_rate": 3e-2}})
    known = make_renderer(model, short, known_shift(2))
    state, trace = fit(known, frames, short, noise_variance=0.003**2)
    _, static = fit(known, frames, short, noise_variance=0.003**2, move=False)
    assert state.parameters["motion"] == []
    assert trace.loss[-1] < 2 * 0.003**2
    assert static.loss[-1] > 10 * trace.loss[-1]
    np.testing.assert_allclose(np.mean((frames - predict(known, state.parameters)) ** 2), trace.loss[-1], rtol=0.2)


@functools.cache
def fast():
    """Networks that learn a small field in few steps."""
    rates = {"scene_rate": 1e-2, "motion_rate": 5e-4, "scene_width": 32, "motion_width": 16}
    fast = {"engine": "networks", "steps": 300, "padding_px": 0, "networks": rates, "illumination_rate": 0}
    return override(override(Reconstruction(), dict(Dpc.fit_defaults)), fast)


@pytest.fixture(scope="module")
def fitted():
    system, frames, scenes = moving(1)
    return system, frames, scenes, nstm.reconstruct(system, frames, TIMES, fast(), pixel_um=PIXEL, calibration=PASS)


PASS = {"status": "pass", "reasons": []}


def test_networks_find_a_motion_and_beat_the_static_model(fitted):
    system, frames, scenes, result = fitted
    static = nstm.reconstruct(system, frames, TIMES, fast(), pixel_um=PIXEL, calibration=PASS, move=False)
    assert static.trace.loss[-1] > 3 * result.trace.loss[-1]
    moved = result.motion(np.array([0.0, 3.0]))[1][:, 0, 16:-16, 16:-16]
    np.testing.assert_allclose(np.nanmedian(moved[1]), 3 * PIXEL, rtol=0.15)
    found = result.scene(np.array([0.0, 3.0]))[:, 0, 0]
    for image, truth in zip(found, scenes[[0, 3]], strict=True):
        assert np.corrcoef(image[8:-8, 8:-8].ravel(), truth[8:-8, 8:-8].ravel())[0, 1] > 0.9


def test_a_saved_fit_of_networks_is_the_same_fit(fitted, tmp_path):
    *_, result = fitted
    result.save(tmp_path / "fit.npz")
    again = nstm.load(tmp_path / "fit.npz")
    assert jax.tree.structure(again.parameters) == jax.tree.structure(result.parameters)
    at = np.array([0.0, 1.7])
    np.testing.assert_array_equal(again.scene(at), result.scene(at))
    np.testing.assert_array_equal(again.motion(at), result.motion(at))


def test_networks_that_were_stopped_go_on_as_if_they_had_not(tmp_path):
    _, frames, _ = moving(1)
    few = override(fast(), {"steps": 60, "frames_per_step": 2, "networks": SMALL})
    renderer = make_renderer(instrument((64, 64)), few)
    whole, trace = fit(renderer, frames, few)
    with pytest.raises(Stopped):
        fit(renderer, frames, few, checkpoint=tmp_path / "fit.npz", stop=lambda: True)
    again, resumed = fit(renderer, frames, few, checkpoint=tmp_path / "fit.npz")
    assert again.step == 60
    for one, other in zip(*(jax.tree.leaves((s.parameters, s.moments)) for s in (whole, again)), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(trace.loss, resumed.loss)


def test_frames_without_a_turn_keep_their_last_known_error():
    errors = np.array([[-1, 2, -1], [3, -1, -1], [-1, -1, 1.0]])
    known = _last_known(errors, np.array([9.0, 8, 7]))
    np.testing.assert_array_equal(known, [[9, 2, 7], [3, 2, 7], [3, 2, 1]])


@pytest.mark.parametrize(("flat", "steps"), [(None, 400), (0.01, 360)])
def test_a_flat_loss_ends_the_fit_once_all_levels_are_open(flat, steps):
    """Nothing falls for frames without light: 320 steps until all is open, then two windows of 20."""
    few = chosen({}, steps=400, stop_when_flat=flat, multigrid={"scene_levels": 2, "motion_levels": 2})
    state, trace = fit(make_renderer(instrument(), few), np.zeros((4, 1, 14, 12)), few)
    assert state.step == len(trace.loss) == steps
    assert trace.early == (flat is not None)


def test_a_fit_may_stop_at_the_noise():
    """Frames without light are at any noise as soon as that is looked at, with all levels open: after 320 steps."""
    few = chosen({}, steps=400, stop_at_noise=1.0, multigrid={"scene_levels": 2, "motion_levels": 2})
    renderer, dark = make_renderer(instrument(), few), np.zeros((4, 1, 14, 12))
    state, trace = fit(renderer, dark, few, noise_variance=1e-3)
    assert (state.step, trace.early) == (340, True)
    state, trace = fit(renderer, dark, few)  # the noise is not known
    assert (state.step, trace.early) == (400, False)


def test_the_margin_of_frames_does_not_count():
    few = chosen({}, steps=20, margin_px=2, multigrid={"scene_levels": 2})
    renderer = make_renderer(instrument(), few)
    data = np.random.default_rng(0).normal(size=(4, 1, 14, 12))
    changed = data.copy()
    changed[..., :2] += 5
    changed[..., -1, :] -= 5
    one, other = (fit(renderer, d, few)[0].parameters for d in (data, changed))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))
