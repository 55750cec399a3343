"""Blind SIM as an imaging system: its model is that of the simulation, its gates, its window, its forward model."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from nstm.acquisition import DataError
from nstm.metrics import psnr_equalised
from nstm.settings import Conventional
from nstm.simulate.imaging import stacked, system_of
from nstm.simulate.motion import still
from nstm.simulate.speckle import SpeckleMicroscope, simulate_speckle
from nstm.simulate.structures import Area, er_network
from nstm.systems.speckle import Speckle, SpeckleSettings

MICROSCOPE = SpeckleMicroscope(shape=(32, 32), guard_px=8, patterns=12, photons=1000)


@pytest.fixture(scope="module")
def recording():
    area = Area.of_field(MICROSCOPE.shape, MICROSCOPE.pixel_um, 1.2)
    return simulate_speckle(er_network(1, area, mesh_um=1.2, sheets=2), still(), MICROSCOPE, 1, seed=1)


@pytest.fixture(scope="module")
def system():
    return system_of(MICROSCOPE)


@pytest.fixture(scope="module")
def counts(recording):
    return stacked(recording)[0] - MICROSCOPE.offset


def changed(system, **sections):
    return Speckle(SpeckleSettings.model_validate({**system.settings.model_dump(exclude_unset=True), **sections}))


def test_bands(system):
    assert system.passband() == pytest.approx(2 / 0.52)
    assert system.cutoff({}) == pytest.approx(2 / 0.52 + 1.6 / 0.488) == pytest.approx(MICROSCOPE.reach)


def test_forward_model_is_the_simulated_microscope(system, recording):
    """With the true light and sample it gives the noise-free frames."""
    model = system.forward((1, 32, 32), recording.times[0][:, None], {}, MICROSCOPE.pixel_um, 0)
    root = np.sqrt(recording.patterns[0] / recording.patterns[0].mean(axis=0))
    lit = model.corrected(
        eqx.tree_at(lambda m: m.band, model, jnp.ones_like(model.band)).light({"amplitude": root - 1})
    )
    object_ = recording.truth[0] * recording.patterns[0].mean(axis=0)
    scenes = jnp.asarray(np.broadcast_to(object_, (12, 1, 1, 1, 64, 64)))
    frames = np.asarray(lit.render(scenes, jnp.arange(12)))[:, 0]
    inside = np.s_[:, 6:-6, 6:-6]
    error = frames[inside] - recording.clean[0][inside]
    assert np.sqrt(np.mean(error**2)) < 0.03 * np.sqrt(np.mean(recording.clean[0][inside] ** 2))


def test_patterns_are_positive_and_uniform_on_average(system, recording):
    model = system.forward((1, 32, 32), recording.times[0][:, None], {}, MICROSCOPE.pixel_um, 4)
    np.testing.assert_allclose(model.light(model.offsets())["patterns"], 1, rtol=1e-5)
    rng = np.random.default_rng(0)
    lit = model.light({"amplitude": jnp.asarray(rng.normal(size=model.patterns.shape), jnp.float32)})["patterns"]
    assert lit.min() >= 0
    np.testing.assert_allclose(lit.mean(axis=0), 1, rtol=1e-4)


@pytest.mark.parametrize("method", ["per_frame", "conjugate_gradient"])
def test_blind_sim_finds_sample_and_light(system, recording, counts, method):
    found = system.blind(method, counts, MICROSCOPE.pixel_um)
    assert found.density.shape == (64, 64)
    kc, pixel = system.cutoff({}), recording.spacing_um[0]
    widefield = system.baselines["widefield"].reconstruct(counts, [], MICROSCOPE.pixel_um, Conventional())[0, 0]
    truth = recording.truth[0]
    assert psnr_equalised(found.density, truth, pixel, kc) > psnr_equalised(widefield, truth, pixel, kc) + 1.5
    bright = truth > 0.4 * truth.max()
    light = recording.patterns[0]
    assert np.corrcoef(found.patterns[:, bright].ravel(), light[:, bright].ravel())[0, 1] > 0.7
    assert found.density.mean() == pytest.approx(truth.mean(), rel=0.1)


def test_calibration_tells_what_is_wrong(system, counts):
    pixel = MICROSCOPE.pixel_um
    good = system.calibrate(counts, pixel)
    assert good["status"] == "pass"
    assert 0.3 < good["light_contrast"] < 1.2
    rng = np.random.default_rng(0)
    mean = np.maximum(counts.mean(axis=0), 0)
    uniform = rng.poisson(np.broadcast_to(mean, counts.shape)).astype(np.float32)
    codes = {r["code"] for r in system.calibrate(uniform, pixel)["reasons"]}
    assert codes == {"no_pattern"}
    dead = counts.copy()
    dead[3] = 0
    found = system.calibrate(dead, pixel)
    assert found["status"] == "warn"
    assert "frames 3 have less" in found["reasons"][0]["message"]
    twice = counts.copy()
    twice[5] = twice[4]
    assert {r["code"] for r in system.calibrate(twice, pixel)["reasons"]} == {"repeated_pattern"}
    coarse = changed(system, optics={**system.settings.optics.model_dump(), "upsampling": 1})
    assert {r["code"] for r in coarse.calibrate(counts, pixel)["reasons"]} == {"coarse_grid"}
    assert system.calibrate(np.zeros_like(counts), pixel)["status"] == "fail"
    few = np.zeros_like(counts)
    few[:2] = counts[:2]
    few[2:] = np.nan
    assert "too_few_frames" in {r["code"] for r in system.calibrate(few, pixel)["reasons"]}


def test_saturated_frames_are_left_out(system, counts):
    full = changed(system, camera={"offset": 100.0, "saturation": float(counts.max()) + 100.5})
    clipped = counts.copy()
    clipped[2, 0, :4, :4] = counts.max() + 1
    calibration = full.calibrate(clipped, MICROSCOPE.pixel_um)
    assert {r["code"] for r in calibration["reasons"]} == {"saturated_frames"}
    assert np.isnan(full.blind("per_frame", clipped, MICROSCOPE.pixel_um).patterns[2]).all()


def test_baselines_are_the_solvers_that_were_chosen(system):
    two = changed(system, solver={"methods": ["nesterov", "per_frame"]}, window={"frames": 10, "step": 3})
    found = two.baselines
    assert list(found) == ["conventional", "per_frame", "widefield"]
    assert {(b.window, b.step) for b in found.values()} == {(10, 3)}
    assert "Nesterov" in found["conventional"].label
    assert system.baselines["conventional"].window == 12


def test_volumes_are_refused(system, counts):
    with pytest.raises(DataError, match="2 planes"):
        system.calibrate(np.repeat(counts, 2, axis=1), MICROSCOPE.pixel_um)


def test_window_longer_than_an_acquisition_is_refused():
    with pytest.raises(ValueError, match=r"window.frames = 30.*illumination.patterns = 20"):
        SpeckleSettings.model_validate(
            {"optics": {"na": 1.0, "emission_wavelength_um": 0.52}, "window": {"frames": 30}}
        )


def test_the_stacked_network_takes_windows_of_its_own_number_of_frames():
    from nstm.blindsim import SHIPPED, load_weights
    from nstm.systems.speckle_settings import STACKED_FRAMES

    solver = {"methods": ["ubsim"], "network": "stacked"}
    base = {"optics": {"na": 1.0, "emission_wavelength_um": 0.52}, "solver": solver}
    assert SpeckleSettings.model_validate(base).illumination.patterns == STACKED_FRAMES
    assert load_weights(SHIPPED["stacked"])[0].frames == STACKED_FRAMES
    with pytest.raises(ValueError, match="windows of 20 frames, these have 10"):
        SpeckleSettings.model_validate({**base, "window": {"frames": 10}})
    SpeckleSettings.model_validate({**base, "window": {"frames": 10}, "solver": {**solver, "weights": "own"}})


def test_unknown_light_lets_a_still_sample_be_fitted(system, recording):
    """The light is found along with the sample: the residual falls far below that of uniform light."""
    from nstm.settings import Reconstruction, override
    from nstm.spacetime import reconstruct

    frames, times = stacked(recording)
    base = override(Reconstruction(), {**system.fit_defaults, "steps": 60, "starts": 1, "padding_px": 4})

    def left(settings):
        fit = reconstruct(system, frames, times, settings, pixel_um=MICROSCOPE.pixel_um, move=False)
        return float(np.mean(fit.residual**2) / np.mean(fit.noise_variance))

    assert left(base) < 0.3 * left(override(base, {"illumination_rate": 0.0}))


def test_a_moving_sample_is_found_better_than_by_a_window():
    """A window takes it to be at rest, which mixes places; NSTM knows the time of every frame."""
    from nstm.settings import Reconstruction, override
    from nstm.simulate.motion import drift
    from nstm.spacetime import reconstruct

    m = SpeckleMicroscope(shape=(32, 32), guard_px=8, photons=1000)
    times = m.times(1).ravel()
    area, speed = Area.of_field(m.shape, m.pixel_um, 1.6), 0.6 / (times[-1] - times[0]) / np.sqrt(2)
    sample, middle = er_network(1, area, mesh_um=1.2, sheets=2), np.array([times.mean()])
    moving = simulate_speckle(sample, drift((speed, speed)), m, 1, seed=1, truth_times=middle)
    system, (frames, at) = system_of(m), stacked(moving)
    settings = override(Reconstruction(), {**system.fit_defaults, "steps": 80, "starts": 1, "sliding": False})
    fit = reconstruct(system, frames, at, settings, pixel_um=m.pixel_um)
    window = system.blind("per_frame", frames - m.offset, m.pixel_um).density

    def psnr(image):
        return psnr_equalised(image, moving.truth[0], moving.spacing_um[0], system.cutoff({}))

    assert psnr(fit.scene(middle)[0, 0, 0]) > psnr(window) + 3
