"""DPC as an imaging system: forward model, files of the sources, checks, baselines, and fits of moving samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from pydantic import ValidationError
from skimage.metrics import structural_similarity

import nstm
from nstm.acquisition import DataError
from nstm.settings import Conventional, Reconstruction
from nstm.systems.dpc import ABSORPTION_UNIT, Dpc, DpcSettings

PIXEL, WAVELENGTH = 0.454, 0.525
TIMES = np.arange(4.0)[:, None]


def settings(**changes):
    optics = {"na": 0.25, "emission_wavelength_um": WAVELENGTH, "pixel_um": PIXEL}
    changes = {"background": {"method": "none"}, **changes}
    return DpcSettings.model_validate({"optics": {**optics, **changes.pop("optics", {})}, **changes})


def case_of(folder, name):
    with np.load(folder / "spacetime" / f"{name}.npz") as data:
        return dict(data)


def forward(system, shape=(48, 56), padding=0):
    return system.forward((1, *shape), TIMES, {}, PIXEL, padding)


def sample(shape, centre, width=4.0):
    y, x = np.indices(shape)
    return np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (2 * width**2))


def frames_of(system, phase, absorption=0.0, noise=0.005):
    """Measurements ``(source, 1, y, x)`` of a sample at rest."""
    model = forward(system, phase.shape)
    scene = jnp.asarray(np.stack([np.broadcast_to(absorption, phase.shape) / ABSORPTION_UNIT, phase]))
    images = model.render(jnp.broadcast_to(scene[None, None, :, None], (4, 1, 2, 1, *phase.shape)), jnp.arange(4))
    return np.asarray(images) + np.random.default_rng(0).normal(scale=noise, size=images.shape)


def scattered(shape=(64, 64), seed=3):
    rng = np.random.default_rng(seed)
    return sum(rng.uniform(0.2, 0.8) * sample(shape, rng.uniform(0, 64, 2), rng.uniform(1.5, 4)) for _ in range(25))


@pytest.mark.parametrize("name", ["dpc_swirl", "dpc_translation", "dpc64_swirl"])
@pytest.mark.parametrize("measured", [False, True])
def test_clean_frames_of_the_published_simulator_are_reproduced(shared_cases, name, measured):
    case = case_of(shared_cases, name)
    path = str(shared_cases / "spacetime" / f"{name}.npz")
    light = {"source_map": path, "source_map_array": "s"} if measured else {}
    system = Dpc(settings(illumination=light, model="phase"))
    assert system.frame_axes == {"illumination": 4}
    model = forward(system, case["img"].shape[1:])
    phase = jnp.asarray(case["phase_gt"][:, None, None, None] / WAVELENGTH)
    found = model.render(phase, jnp.arange(4))[:, 0]
    np.testing.assert_allclose(found, case["img_clean"], atol=2e-6)


@pytest.mark.parametrize(("model", "late"), [("absorption_and_phase", True), ("phase", False)])
def test_the_absorption_may_join_later(model, late):
    system = Dpc(settings(model=model))
    whole = forward(system)
    assert whole.joins_late is late
    scenes = jnp.asarray(np.random.default_rng(0).normal(size=(4, 1, *whole.scene_shape)), jnp.float32)
    frames = jnp.arange(4)
    np.testing.assert_array_equal(whole.joined(jnp.float32(1)).render(scenes, frames), whole.render(scenes, frames))
    without = whole.joined(jnp.float32(0)).render(scenes, frames)
    phase = scenes.at[:, :, :-1].set(0)
    np.testing.assert_allclose(without, whole.render(phase, frames), atol=1e-6)
    if late:
        half = whole.joined(jnp.float32(0.5)).render(scenes, frames)
        np.testing.assert_allclose(half, (without + whole.render(scenes, frames)) / 2, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 20), (17, 15)])
def test_rendering_and_its_derivative_are_adjoint(shape):
    with jax.enable_x64(True):
        model = forward(Dpc(settings(optics={"inner_na": 0.1})), shape, padding=3)
        rng = np.random.default_rng(0)
        scenes = jnp.asarray(rng.normal(size=(3, 1, *model.scene_shape)))
        which = jnp.array([2, 0, 3])
        out, pull_back = jax.vjp(lambda s: model.render(s, which), scenes)
        other = jnp.asarray(rng.normal(size=out.shape))
        assert out.shape == (3, 1, *shape)
        assert out.dtype == jnp.float64
        np.testing.assert_allclose(jnp.vdot(out, other), jnp.vdot(scenes, pull_back(other)[0]), rtol=1e-12)


def test_padding_moves_the_field_but_not_the_images():
    """A small sample in the middle looks the same whatever surrounds the field."""
    system, images = Dpc(settings()), []
    for padding in (0, 6):
        model = forward(system, (64, 60), padding)
        _, (y, _), (x, _) = model.output_field
        scene = np.stack([sample(model.scene_shape[2:], (y + 30, x + 28), 2.0)] * 2)[:, None]
        images.append(model.render(jnp.broadcast_to(scene, (4, 1, *scene.shape)), jnp.arange(4)))
        np.testing.assert_allclose(model.output(jnp.asarray(scene)).shape, (2, 1, 64, 60))
    assert model.scene_shape[2] >= 76
    np.testing.assert_allclose(images[1], images[0], atol=0.02 * float(jnp.abs(images[0]).max()))


def test_the_output_is_in_real_units_and_holds_what_some_source_transfers():
    model = forward(Dpc(settings()))
    scene = jnp.asarray(np.random.default_rng(0).normal(size=model.scene_shape).astype(np.float32))
    spectra = np.abs(np.fft.fft2(np.asarray(model.output(scene))[:, 0]))
    fy, fx = np.fft.fftfreq(48, PIXEL)[:, None], np.fft.fftfreq(56, PIXEL)
    beyond = np.hypot(fy, fx) > 2 * 0.25 / WAVELENGTH
    assert spectra[:, beyond].max() < 1e-4 * spectra.max()
    assert spectra[1, 0, 0] < 1e-3
    np.testing.assert_allclose(spectra[0, 0, 0], ABSORPTION_UNIT * abs(scene[0].sum()), rtol=1e-3)
    np.testing.assert_allclose(spectra[1, 2, 3], np.abs(np.fft.fft2(scene[1, 0]))[2, 3], rtol=1e-3)


def test_absorbing_darkens_twice_as_much_as_its_amplitude():
    frames = frames_of(Dpc(settings()), np.zeros((48, 56)), absorption=0.01, noise=0)
    np.testing.assert_allclose(frames, -0.02, rtol=1e-5)


def test_frames_are_taken_relative_to_their_background(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.normal(scale=0.02, size=(4, 1, 40, 40)).astype(np.float32)
    counts = (1 + images) * np.array([500, 600, 700, 800], np.float32)[:, None, None, None]
    np.testing.assert_array_equal(Dpc(settings()).measurements(images), images)
    given = Dpc(settings(background={"method": "given", "counts": [500, 600, 700, 800]}))
    np.testing.assert_allclose(given.measurements(counts), images, atol=1e-5)
    np.save(tmp_path / "empty.npy", 100 + np.broadcast_to(counts / (1 + images), images.shape)[:, 0])
    empty = {"method": "given", "images": str(tmp_path / "empty.npy")}
    system = Dpc(settings(background=empty, camera={"offset": 100}))
    np.testing.assert_allclose(system.measurements(counts), images, atol=1e-5)
    lowpass = Dpc(settings(background={"method": "lowpass"})).measurements(counts)
    assert np.corrcoef(lowpass.ravel(), images.ravel())[0, 1] > 0.98
    dimmed = {"intensity": [1, 0.9, 0.8, 0.7]}
    light = np.array(dimmed["intensity"], np.float32)[:, None, None, None]
    np.testing.assert_allclose(given.measurements(counts * light, dimmed), images, atol=1e-5)
    with pytest.raises(DataError, match=r"background\.counts has 3 entries"):
        Dpc(settings(background={"method": "given", "counts": [1, 2, 3]})).measurements(counts)
    with pytest.raises(DataError, match=r"empty\.npy: the array has shape \(4, 40, 40\)"):
        system.measurements(counts[..., :30])


def test_the_noise_of_a_measurement_is_told_in_counts():
    rng = np.random.default_rng(4)
    clean = 10_000 * (1 + frames_of(Dpc(settings()), scattered(), noise=0.0))
    counts = clean + rng.normal(scale=70, size=clean.shape)
    for background in ({"method": "given", "counts": [10_000]}, {"method": "lowpass"}):
        system = Dpc(settings(background=background))
        variance = np.var(system.measurements(counts) - system.measurements(clean), axis=(1, 2, 3))
        deviation = system.noise_of_frames(counts, variance)
        assert np.broadcast_to(deviation, counts.shape).mean() == pytest.approx(70, rel=0.02)
    plain = Dpc(settings()).noise_of_frames(counts, np.full(4, 0.01**2))
    np.testing.assert_allclose(plain, 0.01)


def half_disc_maps(shape, pixel=PIXEL):
    fy, fx = np.fft.fftfreq(shape[0], pixel)[:, None], np.fft.fftfreq(shape[1], pixel)
    lit = np.hypot(fy, fx) <= 0.25 / WAVELENGTH
    return np.stack([lit & half for half in (fy >= 0, fx <= 0, fy <= 0, fx >= 0)]).astype(np.float32)


def test_a_source_map_of_another_size_or_order_is_refused_by_name(tmp_path):
    path = tmp_path / "sources.npy"
    np.save(path, half_disc_maps((48, 56)))
    system = Dpc(settings(illumination={"source_map": str(path)}))
    expected = forward(Dpc(settings())).transfer
    np.testing.assert_allclose(forward(system).transfer, expected, atol=1e-6)
    with pytest.raises(DataError, match=r"sources\.npy.*made for images of \(48, 56\) pixels, these have \(56, 48\)"):
        forward(system, (56, 48))
    centred = {"source_map": str(path), "source_map_order": "centred"}
    with pytest.raises(DataError, match=r"sources\.npy.*source_map_order: fft"):
        forward(Dpc(settings(illumination=centred)))
    np.save(path, np.fft.fftshift(half_disc_maps((48, 56)), axes=(1, 2)))
    with pytest.raises(DataError, match="source_map_order: centred"):
        forward(system)
    np.testing.assert_allclose(forward(Dpc(settings(illumination=centred))).transfer, expected, atol=1e-6)
    np.save(path, np.moveaxis(half_disc_maps((48, 56)), 0, -1))
    with pytest.raises(DataError, match=r"made for images of \(56, 4\)"):
        forward(system)


def test_cropped_images_get_transfer_functions_of_their_own(tmp_path):
    path = tmp_path / "sources.tif"
    tifffile.imwrite(path, half_disc_maps((256, 300)), photometric="minisblack")
    light = {"source_map": str(path), "source_map_px": [256, 300]}
    cropped = forward(Dpc(settings(illumination=light)), (100, 90), padding=5)
    own = forward(Dpc(settings()), (100, 90), padding=5)
    assert cropped.transfer.shape == own.transfer.shape
    assert np.linalg.norm(cropped.transfer - own.transfer) < 0.05 * np.linalg.norm(own.transfer)


@pytest.mark.parametrize("change", [lambda m: -m, lambda m: m * np.array([1, 1, 0, 1])[:, None, None]])
def test_maps_that_are_no_light_are_refused(tmp_path, change):
    np.save(tmp_path / "sources.npy", change(half_disc_maps((48, 56))))
    with pytest.raises(DataError, match="must shine somewhere"):
        forward(Dpc(settings(illumination={"source_map": str(tmp_path / "sources.npy")})))


def test_leds_are_sources():
    leds = [[[0.1, 0.0, 1]], [[0.0, -0.1, 1], [0.02, -0.15, 2]], [[-0.1, 0, 1]]]
    system = Dpc(settings(illumination={"leds": leds}))
    assert system.frame_axes == {"illumination": 3}
    np.testing.assert_allclose(system.passband(), (0.25 + np.hypot(0.02, 0.15)) / WAVELENGTH)
    model = system.forward((1, 48, 56), np.arange(3.0)[:, None], {}, PIXEL, 0)
    np.testing.assert_allclose(model.transfer[0, 1], -model.transfer[2, 1], atol=1e-6)


def codes(calibration):
    return {r["code"] for r in calibration["reasons"]}


def test_frames_as_expected_pass_and_others_are_told_apart():
    system = Dpc(settings())
    frames = frames_of(system, scattered())
    good = system.calibrate(frames, PIXEL)
    assert (good["status"], good["order"], codes(good)) == ("pass", [0, 1, 2, 3], set())
    assert good["unexplained"] < 0.15
    turned = system.calibrate(frames[[0, 2, 1, 3]], PIXEL)
    assert turned["status"] == "fail"
    assert codes(turned) == {"source_order"}
    assert codes(system.calibrate(frames[[0, 1, 1, 3]], PIXEL)) == {"source_twice"}
    noise = np.random.default_rng(0).normal(size=frames.shape)
    assert "no_contrast" in codes(system.calibrate(0.01 * noise, PIXEL))
    assert codes(system.calibrate(10 * frames, PIXEL)) >= {"not_weak"}
    assert "background" in codes(system.calibrate(frames + 0.4, PIXEL))
    for counts in (1000 * (1 + frames), np.full_like(frames, np.nan)):
        assert system.calibrate(counts, PIXEL)["status"] == "fail"
    with pytest.raises(DataError, match="2 planes"):
        system.calibrate(np.repeat(frames, 2, axis=1), PIXEL)


def test_frames_without_light_fail():
    system = Dpc(settings(background={"method": "lowpass"}))
    found = system.calibrate(np.zeros((4, 1, 64, 64), np.float32), PIXEL)
    assert found["status"] == "fail"
    assert "not positive" in found["reasons"][0]["message"]
    fine = {"status": "pass", "reasons": []}
    assert system.consensus([found, fine]) is fine
    assert system.with_consensus(found, fine) is found


def test_baselines_take_a_window_of_all_sources():
    system = Dpc(settings())
    truth = scattered()
    frames = frames_of(system, truth, absorption=0.1 * truth)
    assert {name: b.window for name, b in system.baselines.items()} == {"conventional": None, "widefield": None}
    found = system.baselines["conventional"].reconstruct(frames, [], PIXEL, Conventional())
    assert found.shape == (2, 1, 64, 64)
    assert np.corrcoef(found[1].ravel(), truth.ravel())[0, 1] > 0.95
    bright = system.baselines["widefield"].reconstruct(frames, [], PIXEL, Conventional())
    assert bright.shape == (1, 1, 64, 64)
    np.testing.assert_allclose(bright[0, 0], 1 + frames[:, 0].mean(0), rtol=1e-5)
    phase_only = Dpc(settings(model="phase"))
    assert [c.name for c in phase_only.channels] == ["phase"]
    assert phase_only.baselines["conventional"].reconstruct(frames, [], PIXEL, Conventional()).shape == (1, 1, 64, 64)


def test_the_passband_is_that_of_objective_and_light():
    assert Dpc(settings()).passband() == pytest.approx(2 * 0.25 / WAVELENGTH)
    assert Dpc(settings(optics={"illumination_na": 0.1})).cutoff({}) == pytest.approx(0.35 / WAVELENGTH)
    # light beyond the objective's aperture does not reach the camera
    assert Dpc(settings(optics={"illumination_na": 0.4})).passband() == pytest.approx(0.5 / WAVELENGTH)
    with pytest.raises(DataError, match=r"optics\.na is neither"):
        Dpc(settings(optics={"na": None})).passband()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optics": {"inner_na": 0.3}}, "inner_na"),
        ({"optics": {"illumination_na": 0.4, "inner_na": 0.3}}, "dark-field"),
        ({"illumination": {"source_map": "a.npz", "leds": [[[0, 0, 1]]]}}, "one of them"),
        ({"illumination": {"leds": [[[0, 0, -1]]]}}, "negative"),
        ({"illumination": {"rotations_deg": []}}, "rotations_deg"),
        ({"illumination": {"source_coordinates": "image"}}, "source_coordinates"),
        ({"background": {"method": "given"}}, "counts or images"),
        ({"background": {"method": "lowpass", "counts": [1]}}, "not used"),
        ({"model": "absorption"}, "model"),
    ],
)
def test_impossible_settings_are_refused_by_name(changes, words):
    with pytest.raises(ValidationError, match=words):
        settings(**changes)


def quality_of(found, truth):
    """PSNR (dB) and SSIM of the published figures, mean over the frames."""
    cut = found.shape[-1] // 8
    scores = []
    for a, b in zip(found[..., cut:-cut, cut:-cut], truth[..., cut:-cut, cut:-cut], strict=True):
        a, b = a - a.mean(), b - b.mean()
        extent = np.ptp(b)
        scores.append(
            [10 * np.log10(extent**2 / np.mean((a - b) ** 2)), structural_similarity(a, b, data_range=extent)]
        )
    return np.mean(scores, axis=0)


@pytest.mark.parametrize("model", ["phase", "absorption_and_phase"])
def test_the_published_swirl_is_recovered(shared_cases, model):
    """The level to reach: 22 dB and 0.75 (published code 12.2 dB after 500 epochs, Tikhonov 11.6 dB)."""
    case = case_of(shared_cases, "dpc_swirl")
    system = Dpc(settings(model=model))
    rates = {"scene_rate": 3e-2, "motion_rate": 4e-3}
    fitted = Reconstruction.model_validate({"padding_px": 0, "multigrid": rates})
    result = nstm.reconstruct(system, case["img"][:, None], TIMES, fitted)
    found = result.scene(TIMES.ravel())
    assert found.shape == (4, len(system.channels), 1, 128, 128)
    psnr, ssim = quality_of(found[:, -1, 0], case["phase_gt"] / WAVELENGTH)
    assert psnr > 22.8
    assert ssim > 0.83
    if model == "absorption_and_phase":
        assert np.std(found[:, 0]) < 0.02


def real_cells(folder, corner, side, step_px=(0, 0)):
    """Frames of real cells at rest and their system; the window moves so that the cells move by ``step_px`` a frame."""
    optics = {"na": 0.5, "illumination_na": 0.5, "inner_na": 0.45, "emission_wavelength_um": 0.523, "pixel_um": 0.12}
    light = {"rotations_deg": [180, 0, 90, 270], "source_coordinates": "wave"}
    system = Dpc(settings(optics=optics, illumination=light, background={"method": "lowpass"}))
    frames = []
    for i in range(4):
        y, x = np.array(corner) - i * np.array(step_px)
        frames.append(tifffile.imread(folder / "dpc" / "cells_20x" / f"r{i + 1}.tif")[y : y + side, x : x + side])
    return system, np.stack(frames)[:, None].astype(np.float32)


@pytest.mark.parametrize("step_px", [(0, 0), (0, 2)])
def test_real_cells_at_rest_and_shifted(shared_data, step_px):
    """Thick cells, so strong priors (docs/dpc.md); 6 pixels in all."""
    system, frames = real_cells(shared_data, (1440, 1450), 192, step_px)
    grids = {"scene_rate": 3e-2, "motion_rate": 1e-3, "motion_smoothness": 200, "motion_steadiness": 200}
    fitted = Reconstruction.model_validate({"steps": 300, "starts": 1, "multigrid": grids})
    fit = nstm.reconstruct(system, frames, TIMES, fitted, pixel_um=0.12)
    motion = fit.motion(TIMES.ravel())[1:, :, 0] / 0.12
    error = np.linalg.norm(motion - np.reshape(step_px, (2, 1, 1)), axis=1)
    known = np.isfinite(error)
    assert 0.2 < known.mean() < 0.8, "the medium beside the cells tells nothing"
    assert np.percentile(error[known], 95) < (0.3 if step_px == (0, 0) else 0.2)


def test_real_cells_delay_the_light(shared_data):
    """Half rings, split along y and then x, given by the waves that they send: cells are denser than what is around."""
    system, frames = real_cells(shared_data, (1100, 1450), 512)
    found = system.calibrate(frames, 0.12)
    assert found["order"] == [0, 1, 2, 3]
    assert codes(found) == {"not_weak"}
    phase = system.baselines["conventional"].reconstruct(frames, [], 0.12, Conventional())[1, 0]
    cell, beside = phase[260:340, 240:340], phase[20:100, 420:500]
    assert np.median(cell) > np.median(beside) + 1
