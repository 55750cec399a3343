"""The rolling-shutter DiffuserCam as a system: forward model, settings, calibration, baselines, and a fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

import nstm
from nstm.acquisition import DataError
from nstm.metrics import psnr_plain
from nstm.settings import Conventional, Reconstruction, override
from nstm.simulate.demo import CASES, record, write_pattern
from nstm.simulate.diffusercam import LenslessCamera, seen
from nstm.spacetime.memory import peak_bytes
from nstm.spacetime.renderer import make_renderer
from nstm.spacetime.result import load
from nstm.systems.diffusercam import DiffuserCam, DiffuserSettings

RNG = np.random.default_rng(4)
LENS = LenslessCamera(shape=(30, 36), exposure_lines=4)


def settings(path, lens=LENS, **more):
    given = {
        "optics": {"pixel_um": lens.pixel_um},
        "camera": {"offset": lens.offset},
        "frames": {"exposure_s": lens.exposure_s},
        "readout": {"line_time_s": lens.line_time_s, "rows_per_step": 6, "halves": "dual" if lens.dual else "single"},
        "psf": {"path": str(path), "background": 0},
        "colours": lens.colours,
    }
    return DiffuserSettings.model_validate(override_all(given, more))


def override_all(given, more):
    return {**given, **{k: {**given[k], **v} if isinstance(v, dict) and k in given else v for k, v in more.items()}}


def camera(tmp_path, lens=LENS, colours=1, **more):
    psf = RNG.random((colours, *lens.shape)).astype(np.float32)
    np.save(tmp_path / "psf.npy", psf[0] if colours == 1 else psf)
    return DiffuserCam(settings(tmp_path / "psf.npy", lens, **more)), psf / psf.sum(axis=(1, 2)).max()


def model_of(system, lens, padding_px=0):
    times = lens.times(1)[0][..., None]
    return system.forward((1, *lens.shape), times - times.min(), {}, lens.pixel_um, padding_px)


@pytest.mark.parametrize("dual", [True, False])
@pytest.mark.parametrize("colours", [1, 3])
def test_rows_see_the_scene_at_the_times_that_exposed_them(tmp_path, dual, colours):
    lens = LenslessCamera(shape=(30, 36), exposure_lines=4, dual=dual, colours=colours)
    system, psf = camera(tmp_path, lens, colours)
    model = model_of(system, lens)
    video = RNG.random((lens.readout.layers, colours, 15, 18)).astype(np.float32)
    shutter = lens.readout.shutter() / lens.exposure_lines
    frame = sum(shutter[t][:, None] * seen(scene, psf, lens.shape) for t, scene in enumerate(video))
    start = model.times[0, 0]
    layer = np.rint((np.asarray(model.times) - float(start)) / lens.line_time_s).astype(int)
    scenes = jnp.asarray(video[layer])[:, :, :, None] / model.unit
    rendered = np.concatenate([np.asarray(model.render(scenes[i : i + 1], jnp.array([i]))) for i in range(len(layer))])
    measured = system.measurements(frame[None, :, None].astype(np.float32))
    assert measured.shape == rendered.shape
    assert system.measured_axes((1, *lens.shape)) == {"rows": len(measured)}
    np.testing.assert_allclose(rendered, measured, rtol=2e-4, atol=1e-5)


def test_adjoint(tmp_path):
    system, _ = camera(tmp_path)
    model = model_of(system, LENS, padding_px=3)
    which = jnp.array([1])
    scenes = jnp.asarray(RNG.standard_normal((1, model.times.shape[1], *model.scene_shape)), jnp.float32)
    there, back = jax.vjp(lambda s: model.render(s, which), scenes)
    frame = jnp.asarray(RNG.standard_normal(there.shape), jnp.float32)
    assert float(jnp.vdot(there, frame)) == pytest.approx(float(jnp.vdot(scenes, back(frame)[0])), rel=1e-3)


def test_padding_shows_the_same_middle(tmp_path):
    system, _ = camera(tmp_path)
    plain, padded = model_of(system, LENS), model_of(system, LENS, padding_px=4)
    scene = RNG.random((1, 1, *plain.scene_shape[-2:])).astype(np.float32)
    wide = np.pad(scene, [(0, 0), (0, 0), (4, 4), (4, 4)])
    k = plain.times.shape[1]

    def rows(model, image):
        return model.render(jnp.broadcast_to(jnp.asarray(image) / model.unit, (1, k, *image.shape)), jnp.array([0]))

    np.testing.assert_allclose(rows(plain, scene), rows(padded, wide), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(padded.output(jnp.asarray(wide)) / padded.unit, scene, rtol=1e-6)


def test_an_even_scene_of_one_gives_about_one(tmp_path):
    system, _ = camera(tmp_path)
    model = model_of(system, LENS)
    even = jnp.ones((1, model.times.shape[1], *model.scene_shape))
    brightest = max(float(model.render(even, jnp.array([i])).max()) for i in range(len(model.times)))
    assert brightest == pytest.approx(1, rel=0.05)


def test_the_memory_of_a_fit_is_that_of_a_block_of_rows(tmp_path):
    lens = LenslessCamera(shape=(200, 240), exposure_lines=4)

    def planned(rows):
        system, _ = camera(tmp_path, lens, readout={"rows_per_step": rows})
        fitted = override(Reconstruction(steps=20), dict(system.fit_defaults))
        measured = system.measurements(np.ones((1, 1, 1, *lens.shape), np.float32))
        return peak_bytes(make_renderer(model_of(system, lens), fitted), measured.shape, fitted)

    few, more = planned(5), planned(80)
    assert more > 1.8 * few, (few, more)


def test_the_published_camera():
    published = {"exposure_s": 1.32e-3, "binning": 8}, {"line_time_s": 27.52e-6}
    frames, readout = published
    camera = DiffuserSettings.model_validate(
        {"optics": {"pixel_um": 1}, "frames": frames, "readout": readout, "psf": {"path": "psf.tif"}}
    )
    assert camera.exposure_lines == 6
    system = DiffuserCam(camera)
    times = system.scene_times(np.full((1, 1, 1), 1.32e-3 / 2), (1, 270, 320))
    assert times.shape == (1, 1, 140)
    assert times[0, 0, 0] == pytest.approx(0.5 * 8 * 27.52e-6)
    assert 1 / np.diff(times[0, 0]).mean() == pytest.approx(4542, rel=1e-3)  # frames per second
    assert system.result_shape((1, 270, 320)) == (1, 135, 160)
    assert system.fit_defaults["frames_at_once"] == 1, "memory of one block of rows"
    assert system.settings.readout.rows_per_step == 20


def test_parts_cover_the_frame(tmp_path):
    system, _ = camera(tmp_path)
    parts = system.parts(LENS.times(1)[0][..., None], (1, *LENS.shape))
    rows = sorted(part.rows for part in parts)
    assert [r for first, last in rows for r in range(first, last)] == list(range(30))
    times = {part.rows[0]: part.time_s for part in parts}
    assert times[0] == times[24] < times[6], "both halves at once, from the edges to the centre"


@pytest.mark.parametrize(
    ("section", "key", "value", "words"),
    [
        ("frames", "exposure_s", None, "exposure of a row"),
        ("frames", "exposure_s", 1e-6, "shorter than one line"),
        ("frames", "planes", 3, "has one plane"),
        ("readout", "halves", "both", "'dual' or 'single'"),
        ("readout", "rows_per_step", 0, "greater than or equal to 1"),
        ("psf", "path", "", "at least 1 character"),
    ],
)
def test_settings_are_checked(section, key, value, words):
    with pytest.raises(ValidationError, match=words):
        settings("psf.npy", **{section: {key: value}})


def test_what_does_not_fit_the_frames_is_refused_by_name(tmp_path):
    frames = np.ones((1, 1, 1, 30, 36), np.float32)

    def reason(system, frames=frames):
        found = system.calibrate(frames, 10.0)
        assert found["status"] == "fail"
        return found["reasons"][0]["message"]

    system, _ = camera(tmp_path)
    assert system.calibrate(frames, 10.0)["status"] == "pass"
    assert "NaN" in reason(system, np.full_like(frames, np.nan))
    assert "31 rows" in reason(system, np.ones((1, 1, 1, 31, 36), np.float32))
    assert "30 x 36" in reason(system, np.ones((1, 1, 1, 28, 36), np.float32))
    system.crop = "0:10,0:10"
    assert "crop" in reason(system)
    np.save(tmp_path / "psf.npy", np.zeros((30, 36)))
    assert "no light" in reason(DiffuserCam(settings(tmp_path / "psf.npy")))
    np.save(tmp_path / "two.npy", np.ones((2, 30, 36)))
    assert "(y, x), (colour, y, x) or (y, x, colour)" in reason(DiffuserCam(settings(tmp_path / "two.npy")))
    np.save(tmp_path / "three.npy", np.ones((30, 36, 3)))
    assert "3 colours" in reason(DiffuserCam(settings(tmp_path / "three.npy")))
    with pytest.raises(DataError, match="cannot be fitted in tiles"):
        system.cropped({}, (0, 0), 10.0)
    with pytest.raises(DataError, match="acquisition_interval_s"):
        system.times(2, [])


def test_a_pattern_is_read_from_any_file_and_binned(tmp_path):
    lens = LenslessCamera(shape=(60, 72), exposure_lines=8)
    write_pattern(tmp_path / "psf.tif", lens)
    np.savez(tmp_path / "psf.npz", h=lens.pattern, other=np.ones(3))
    frames = {"binning": 2, "exposure_s": lens.exposure_s}
    from_tiff = DiffuserCam(settings(tmp_path / "psf.tif", lens, frames=frames))
    from_npz = DiffuserCam(settings(tmp_path / "psf.npz", lens, frames=frames, psf={"array": "h"}))
    binned = from_tiff._psf((30, 36))
    assert binned.shape == (1, 30, 36)
    assert binned.sum() == pytest.approx(1)
    np.testing.assert_allclose(from_npz._psf((30, 36)), binned, atol=2e-5 * binned.max() + 1e-7)
    with tifffile.TiffFile(tmp_path / "psf.tif") as file:
        assert file.series[0].shape == (60, 72)


def test_the_example_holds_its_own_pattern(root):
    stored = tifffile.imread(root / "config/examples/diffusercam/psf.tif").astype(float)
    for case in ("diffusercam_moving", "diffusercam_colour"):
        expected = CASES[case].microscope.pattern
        assert np.abs(stored / stored.max() - expected / expected.max()).max() < 1e-4


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The small case with its system, frames and times."""
    recording = record("diffusercam_small")
    path = tmp_path_factory.mktemp("psf") / "psf.tif"
    write_pattern(path, recording.microscope)
    system = DiffuserCam(settings(path, recording.microscope, readout={"rows_per_step": 12}))
    return system, recording, recording.frames[0][:, :, None].astype(np.float32), recording.times[0][..., None]


def mean_psnr(images, times, recording):
    truth = [recording.truth[np.abs(recording.truth_times - t).argmin(), 0] for t in times]
    pixel = recording.microscope.pixel_um
    return np.mean([psnr_plain(a[0, 0], b, pixel, 0.5 / pixel) for a, b in zip(images, truth, strict=True)])


def test_a_fit_finds_the_video(small, tmp_path):
    system, recording, frames, times = small
    chosen = override(override(Reconstruction(), dict(system.fit_defaults)), {"steps": 300, "starts": 1})
    fit = nstm.reconstruct(system, frames, times, chosen)
    seen_s = recording.truth_times[::5]
    assert mean_psnr(fit.scene(seen_s), seen_s, recording) > 22
    assert fit.seen_s.min() == pytest.approx(recording.truth_times[0])
    assert fit.seen_s.max() == pytest.approx(recording.truth_times[-1])
    motion = fit.motion(seen_s[[0, -1]])[1]
    known = np.isfinite(motion).all(axis=0)
    assert 0.1 < known.mean() < 0.9, "only where there is something to see"
    true = recording.material_displacement(seen_s[0], seen_s[-1])[:, None]
    error = np.linalg.norm(motion - true, axis=0)[known] / recording.microscope.pixel_um
    assert np.median(error) < 1.5
    with pytest.raises(DataError, match="nothing was measured outside"):
        fit.scene(np.array([seen_s[-1] + 1.0]))
    fit.save(tmp_path / "fit.npz")
    np.testing.assert_array_equal(load(tmp_path / "fit.npz").scene(seen_s[:1]), fit.scene(seen_s[:1]))


def test_networks_take_blocks_of_rows_in_turn(small):
    system, recording, frames, times = small
    little = {"levels": 3, "table_log2": 10, "scene_width": 16, "motion_width": 8, "scene_rate": 3e-2}
    changes = {"engine": "networks", "steps": 60, "starts": 1, "frames_per_step": 1, "networks": little}
    fit = nstm.reconstruct(
        system, frames, times, override(override(Reconstruction(), dict(system.fit_defaults)), changes)
    )
    assert fit.trace.loss[-1] < 0.5 * fit.trace.loss[2]
    assert fit.scene(recording.truth_times[:2]).shape == (2, 1, 1, 32, 40)


def test_baselines(small):
    system, recording, frames, times = small
    since = recording.truth_times[::7] - times.min()
    found = {
        name: series.reconstruct(frames - 100, {}, 10.0, Conventional(), since)
        for name, series in system.baselines.items()
    }
    assert set(found) == {"wiener", "admm", "conventional"}
    for name, images in found.items():
        assert images.shape == (len(since), 1, 1, 32, 40)
        assert np.all(np.isfinite(images))
        assert np.ptp(images, axis=0).max() == 0 if name != "conventional" else np.ptp(images, axis=0).max() > 0
    psnr = {name: mean_psnr(images, recording.truth_times[::7], recording) for name, images in found.items()}
    assert psnr["conventional"] > max(psnr["wiener"], psnr["admm"]) + 3, psnr


def test_an_acquisition_that_cannot_be_used_is_not_taken_for_a_good_one(small):
    system, _, frames, _ = small
    good = system.calibrate(frames, 1.0)
    bad = system.calibrate(np.full_like(frames, np.nan), 1.0)
    agreed = system.consensus([bad, good])
    assert agreed["status"] == good["status"] == "pass"
    assert system.with_consensus(bad, agreed)["status"] == "fail"
