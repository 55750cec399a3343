"""The end of the fit of a volume: what L-BFGS adds to it, what stopping and resuming do, and its prior."""

import importlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nstm
from nstm.metrics import psnr_equalised
from nstm.settings import Reconstruction, override
from nstm.simulate import VolumeMicroscope, simulate_volume
from nstm.simulate.imaging import calibration_of, stacked, system_of
from nstm.simulate.motion import drift, still
from nstm.simulate.sim import structure_area
from nstm.simulate.structures import er_network, filaments, through_depth
from nstm.spacetime import finish
from nstm.spacetime.checkpoint import Stopped
from nstm.spacetime.objective import make_objective
from nstm.spacetime.renderer import make_renderer
from nstm.spacetime.rendering import Still
from nstm.spacetime.result import forward_model

fitting = importlib.import_module("nstm.spacetime.fit")

FEW = Reconstruction.model_validate({"steps": 120, "starts": 1, "padding_px": 4, "multigrid": {"final_share": 0.5}})
BEGUN = override(FEW, {"steps": 60, "illumination_rate": 0.0, "multigrid": {"final_share": 0.0}})
PIXEL_UM = 0.08


@pytest.fixture(scope="module")
def recording():
    """Six planes of filaments at rest."""
    m = VolumeMicroscope(shape=(24, 24), planes=6, photons=1000.0, guard_px=8, sub_exposures=1, order="angle phase z")
    points = filaments(94, structure_area(m, 0.6))
    return simulate_volume(through_depth(points, 94, 0.0, 5 * m.z_step_um).merged(0.4 * PIXEL_UM), still(), m, 1, 94)


@pytest.fixture(scope="module")
def fitted(recording):
    """Fits the recording at rest."""
    system, (frames, times) = system_of(recording.microscope), stacked(recording)

    def fit(settings, **options):
        known = calibration_of(recording)
        return nstm.reconstruct(system, frames, times, settings, calibration=known, move=False, **options)

    return fit


def quality(recording, fit):
    """Equalised PSNR, dB."""
    cutoff = fit.system.cutoff(fit.calibration)
    pairs = zip(fit.scene(recording.truth_times[:1]), recording.truth.astype(float), strict=False)
    return float(np.mean([psnr_equalised(s[0], t, PIXEL_UM / 2, cutoff) for s, t in pairs]))


def test_a_volume_is_finished(recording, fitted, tmp_path):
    whole = fitted(FEW, snapshots=(40, 90, 120))
    assert sorted(whole.trace.snapshots) == [40, 90, 120]
    for one, other in zip(jax.tree.leaves(whole.parameters), jax.tree.leaves(whole.trace.snapshots[120]), strict=True):
        np.testing.assert_array_equal(one, other)
    begun = fitted(BEGUN)
    noise = whole.noise_variance.mean() / whole.scale**2
    assert whole.trace.loss[-1] < 1.3 * noise < 2.5 * noise < begun.trace.loss[-1]
    assert quality(recording, whole) > quality(recording, begun) + 3
    assert (len(whole.trace.loss), len(begun.trace.loss)) == (120, 60)
    np.testing.assert_array_equal(whole.trace.loss[:60], begun.trace.loss)

    asked, options = [], {"checkpoint": tmp_path / "kept", "checkpoint_seconds": 0.0}
    with pytest.raises(Stopped, match="at step 100 of 120: its progress is in"):
        fitted(FEW, stop=lambda: len(asked) == 4 or bool(asked.append(1)), **options)
    again = fitted(FEW, **options)
    for one, other in zip(jax.tree.leaves(whole.parameters), jax.tree.leaves(again.parameters), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(whole.trace.loss, again.trace.loss)
    assert whole.trace.early == again.trace.early
    dispatches = []
    fitted(FEW, stop=lambda: bool(dispatches.append(1)), **options)
    assert not dispatches  # a finished fit is not finished again


def test_what_lies_between_planes_is_not_negative(recording):
    """A bright line half way between two planes, as far as the planes can hold it, costs next to nothing."""
    settings = override(FEW, {"multigrid": {"scene_smoothness": 0.0}})
    frames, times = stacked(recording)
    system = system_of(recording.microscope)
    model = forward_model(system, settings, calibration_of(recording), frames.shape[-3:], PIXEL_UM, times)
    objective = make_objective(make_renderer(model, settings), np.zeros((15, 6, 24, 24)), settings)
    depth = model.scene_shape[1]
    f = np.fft.fftfreq(depth)
    held = np.where(np.abs(f) < 0.4, np.exp(-2j * np.pi * f * (depth / 2 + 0.5)), 0)  # what the optics pass
    line = np.fft.ifft(held).real
    image = np.zeros(model.scene_shape, np.float32)
    image[0, :, 10, 10] = line
    below = np.mean(np.minimum(image, 0) ** 2)
    cost = float(objective.penalty(jnp.asarray(image)))
    weight = settings.of_scene.scene_nonnegativity
    assert below > 0
    assert cost < 0.05 * weight * below
    dark = float(objective.penalty(jnp.asarray(-np.ones_like(image))))
    assert dark == pytest.approx(weight)  # what is negative everywhere is no sidelobe


def test_a_volume_that_is_at_the_noise_already_ends_there_and_is_not_begun_again(fitted, tmp_path, monkeypatch):
    settings = override(FEW, {"stop_at_noise": 1e6})
    ended = fitted(settings, checkpoint=tmp_path, checkpoint_seconds=1e6)
    assert ended.trace.early
    assert len(ended.trace.loss) == 60  # 48 of the 60 steps open all levels, 20 are a dispatch

    def never(*_):
        raise AssertionError("nothing is left to do")

    for name in ("_advance", "finished"):
        monkeypatch.setattr(fitting, name, never)
    again = fitted(settings, checkpoint=tmp_path)
    for one, other in zip(jax.tree.leaves(ended.parameters), jax.tree.leaves(again.parameters), strict=True):
        np.testing.assert_array_equal(one, other)


def test_only_grids_of_a_volume_are_finished(recording):
    frames, times = stacked(recording)
    system = system_of(recording.microscope)
    known = calibration_of(recording)
    volume = make_renderer(forward_model(system, FEW, known, frames.shape[-3:], PIXEL_UM, times), FEW)
    assert finish.iterations(volume, FEW) == 60
    assert finish.iterations(volume, BEGUN) == 0
    assert finish.iterations(volume, override(FEW, {"steps": 1, "multigrid": {"final_share": 0.9}})) == 0
    networks = override(FEW, {"engine": "networks"})
    assert finish.iterations(make_renderer(volume.model, networks), networks) == 0
    plane = replace(volume, model=replace(volume.model, scene_shape=(1, 1, 80, 80)))
    assert finish.iterations(plane, FEW) == 0


def test_what_is_sought_counts_alike(recording):
    """Of a scene whose frequencies are evened out, all that the frames tell are equally curved."""
    frames, times = stacked(recording)
    system = system_of(recording.microscope)
    model = forward_model(system, FEW, calibration_of(recording), frames.shape[-3:], PIXEL_UM, times)
    renderer = make_renderer(model, FEW)
    objective = make_objective(renderer, np.zeros((15, 6, 24, 24)), FEW)
    begun = renderer.initial(0)
    evenly = finish.even(objective, begun)["scene"]
    assert float(evenly.max() / evenly.min()) == pytest.approx(0.003**-0.5, rel=0.02)

    shape, axes = begun["scene"][-1].shape, (-3, -2, -1)
    f = [
        np.fft.fftfreq(shape[1], 0.125),
        np.fft.fftfreq(shape[2], PIXEL_UM / 2),
        np.fft.rfftfreq(shape[3], PIXEL_UM / 2),
    ]
    kz, ky, kx = np.meshgrid(*f, indexing="ij")
    told = (np.abs(kz) < 0.7) & (np.hypot(ky, kx) < 3)
    ratios = []
    for seed in range(8):
        scene = jax.random.normal(jax.random.PRNGKey(100 + seed), shape)
        evened = jnp.fft.irfftn(jnp.fft.rfftn(scene, axes=axes) * evenly, s=shape[-3:], axes=axes)
        without = {**begun, "scene": [*begun["scene"][:-1], evened]}
        blind = replace(objective, schedule=objective.schedule | {"nonnegativity": 0.0, "scene_smoothness": 0.0})
        slope = blind.gradient(without, jnp.float32(1), None)[0]["scene"][-1]
        bent = np.fft.rfftn(slope, axes=axes) * np.asarray(evenly)
        ratios.append((np.conj(np.fft.rfftn(scene, axes=axes)) * bent).real[0][told].mean() / scene.size)
    assert np.mean(ratios) == pytest.approx(1, abs=0.35)  # .003 of the largest are added, and probes are few


@pytest.mark.parametrize("move", [True, False])
def test_scene_and_motion_are_finished_together(move):
    """From a drift that is half of the true one the frames lead to the rest; a sample at rest stays there."""
    m = VolumeMicroscope(shape=(24, 24), planes=6, photons=1000.0, guard_px=8, sub_exposures=1, order="angle phase z")
    points = through_depth(er_network(5, structure_area(m, 0.6)), 5, 0.0, 5 * m.z_step_um)
    seconds = float(np.ptp(m.times(1)))
    moving = drift((0.0, 0.0, 2 * PIXEL_UM / seconds))
    recording = simulate_volume(points.merged(0.4 * PIXEL_UM), moving, m, 1, 5)
    frames, times = stacked(recording)
    system = system_of(m)
    data = (frames.reshape(15, 6, 24, 24) - m.offset) / float(frames.max())
    model = forward_model(system, FEW, calibration_of(recording), frames.shape[-3:], PIXEL_UM, times)
    settings = FEW if move else override(FEW, {"brightness_terms": 1})
    renderer = make_renderer(model, settings)
    begun = renderer.initial(0)
    if not move:  # the frames would tell where what changes is, too
        renderer = replace(renderer, rendering=Still())
        begun["change"] = jax.tree.map(lambda a: a + jnp.linspace(-1, 1, a.size).reshape(a.shape), begun["change"])
    objective = make_objective(renderer, data, settings, noise_variance=1e-6)
    if move:  # the coarsest level holds what moves as a whole: half of the drift, backward from the middle
        share = np.linspace(0.5, -0.5, begun["motion"][0].shape[1])[:, None, None, None]
        begun["motion"][0] = begun["motion"][0].at[2].set(2.0 * share / renderer.motion.unit_px * np.ones((1, 2, 2, 2)))
    held = replace(objective, schedule=objective.schedule | {"motion": jnp.float32(0)})
    *_, (_, sharp, _, before) = finish.finished(held, begun, None, 40)
    *_, (_, found, _, after) = finish.finished(objective, sharp, None, 40)
    changed = [float(np.abs(a - b).max()) for a, b in zip(found["motion"], begun["motion"], strict=True)]
    if not move:
        assert max(changed) == 0
        return
    *_, (_, _, _, frozen) = finish.finished(held, sharp, None, 40)
    assert after.mean() < 0.6 * frozen.mean() < 0.6 * before.mean()


def test_light_waits_for_a_sharp_volume(recording, fitted):
    """The light of a volume is left alone until L-BFGS has a sharp scene to tell it by, and there only if asked for."""

    def changed(parameters):
        return max(float(np.abs(a).max()) for a in jax.tree.leaves(parameters["illumination"]))

    fit = fitted(FEW, snapshots=(60,))
    assert changed(fit.trace.snapshots[60]) == 0
    assert 0 < changed(fit.parameters) < 0.2
    assert changed(fitted(override(FEW, {"steps": 20, "illumination_rate": 0.0})).parameters) == 0
