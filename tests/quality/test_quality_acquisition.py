"""Checks of an acquisition: each defect is found, named, and nothing else is; motion is measured as it was."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift, uniform_filter1d

from nstm.illumination.contrast import modulation_contrast
from nstm.quality.acquisition import Blocks, check_acquisition
from nstm.quality.flow import flow_between
from nstm.quality.motion import movement, shake
from nstm.quality.prospect import prospect, reasons_of
from nstm.quality.shift import window_shift
from nstm.quality.spectrum import Spectra, stripes
from nstm.simulate import SimMicroscope, drift, er_network, simulate_sim, structure_area
from nstm.simulate.diffusercam import LenslessCamera, caustics, seen
from nstm.simulate.imaging import system_of
from nstm.simulate.motion import rotation, still, vibration

SIDE = 96
MICROSCOPE = SimMicroscope(shape=(SIDE, SIDE))
SPAN_S = float(np.ptp(MICROSCOPE.times(1)))


def recorded(motion, microscope=MICROSCOPE, seed=1):
    return simulate_sim(er_network(seed, structure_area(microscope, 0.6)), motion, microscope, 1, seed)


def check(recording, frames=None, later_s=0.0):
    frames = recording.frames[0] if frames is None else frames
    times = recording.times[0][..., None] + later_s
    return check_acquisition(
        frames[..., None, :, :], times, ["angle", "phase"], system_of(MICROSCOPE), index=0, pixel_um=0.065
    )[0]


def codes(entry):
    return [r["code"] for r in entry["reasons"]]


@pytest.fixture(scope="module")
def resting():
    return recorded(still())


def test_a_good_recording_at_rest_passes(resting):
    entry = check(resting)
    assert (entry["status"], entry["reasons"]) == ("pass", [])
    assert entry["motion_px"] < 0.05
    assert entry["light"]["within_blocks"] < 0.05
    score = prospect([entry])
    assert score["verdict"] == "still"
    assert "as good" in score["message"]
    assert reasons_of(score) == []


@pytest.mark.parametrize("pixels", [0.5, 3.0, 16.0])
def test_a_drift_is_measured(pixels):
    entry = check(recorded(drift((0.6 * pixels * 0.065 / SPAN_S, 0.8 * pixels * 0.065 / SPAN_S))))
    assert entry["motion"]["in_acquisition_px"] == pytest.approx(pixels, rel=0.05)
    directions = np.array(entry["motion"]["drift_px"]) / entry["motion"]["between_px"]
    np.testing.assert_allclose(directions, [[0.6, 0.8]] * 2, atol=0.1)
    assert prospect([entry])["verdict"] == ("hard" if pixels == 16 else "worth")


def test_a_drift_is_measured_after_days_as_at_once():
    recording = recorded(drift((0, 3.0 * 0.065 / SPAN_S)))
    at_once, later = (check(recording, later_s=days * 86400.0)["motion"] for days in (0, 3))
    assert later["per_frame_px"] == pytest.approx(at_once["per_frame_px"], rel=1e-3)


def test_a_turn_without_net_shift_is_measured():
    centre = (SIDE * 0.065 / 2,) * 2
    entry = check(recorded(rotation(np.radians(4) / SPAN_S, centre)))
    np.testing.assert_allclose(entry["motion"]["drift_px"], 0, atol=0.3)
    radius = np.sqrt(SIDE**2 / 6)  # rms distance from the centre of a square
    assert entry["motion"]["in_acquisition_px"] == pytest.approx(np.radians(4) * radius, rel=0.15)


def test_a_shake_between_frames_is_not_taken_for_rest():
    entry = check(recorded(vibration((0.065, 0.1), SPAN_S / 2.5)))
    assert entry["motion_px"] < 0.2  # the means of the orientations hide it
    assert entry["shake_px"] > 1.0
    assert prospect([entry])["verdict"] != "still"


def test_what_cannot_be_followed_is_told():
    motion = {
        "between_px": 20.0,
        "in_acquisition_px": 40.0,
        "per_frame_95_px": 6.0,
        "per_exposure_px": 4.0,
        "seen": 0.9,
    }
    score = prospect([{"motion": motion, "shake_px": None, "signal_to_noise": 5.0}])
    assert score["verdict"] == "lost"
    assert "moves up to 6.0 camera pixels" in score["message"]
    assert "not recoverable" in score["message"]
    assert [r["severity"] for r in reasons_of(score)] == ["warn"]
    torn = prospect([{"motion": motion | {"per_frame_95_px": 1.0, "seen": 0.2}, "signal_to_noise": 5.0}])
    assert "only 20%" in torn["message"]
    assert prospect([{"motion": None, "signal_to_noise": 5.0}])["verdict"] == "unknown"


def test_a_blurred_frame_is_found_with_length_and_direction(resting):
    clean = resting.clean[0].copy()
    clean[1, 1] = uniform_filter1d(clean[1, 1], 4, axis=1, mode="nearest")
    frames = 100 + np.random.default_rng(0).poisson(clean).astype(np.uint16)
    entry = check(resting, frames)
    assert codes(entry) == ["blurred_frames"]
    assert "frame(s) 4 " in entry["reasons"][0]["message"]
    found = entry["blur"][4]
    assert found["length_px"] == pytest.approx(4, rel=0.25)
    assert min(found["direction_deg"], 180 - found["direction_deg"]) < 10


def test_stripes_of_the_camera_and_interference(resting):
    rng = np.random.default_rng(0)
    rows = rng.normal(scale=4.0, size=(SIDE, 1))
    entry = check(resting, np.rint(resting.frames[0] + 10 + rows).astype(np.uint16))
    assert codes(entry) == ["striped"]
    assert entry["stripes"]["rows"] == pytest.approx(rows.std() / entry["noise_std"], rel=0.3)
    assert entry["reasons"][0]["message"].startswith("the rows of the camera")
    y, x = np.indices((SIDE, SIDE))
    hum = 6 * np.sin(2 * np.pi * (0.40 * x + 0.30 * y))  # 0.5 cycles per pixel: beyond the passband of 0.35
    entry = check(resting, np.rint(resting.frames[0] + 10 + hum).astype(np.uint16))
    assert codes(entry) == ["interference"]
    assert "period of 0.13 um" in entry["reasons"][0]["message"]


def test_white_noise_has_no_stripes():
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(scale=3, size=(9, 1, SIDE, SIDE))
        found = stripes(Spectra.of(noise, 0.065, 5.4))
        assert found.peak < 1.3
        assert max(found.rows, found.columns) < 0.12
    assert stripes(Spectra.of(noise, 0.3, 5.4)) is None


def test_flicker_and_missing_modulation(resting):
    frames = resting.frames[0].astype(float)
    frames[0, 1] = 100 + (frames[0, 1] - 100) * 1.3
    assert "flicker" in codes(check(resting, np.rint(frames).astype(np.uint16)))
    frames = 100 + np.random.default_rng(0).poisson(np.repeat(resting.clean[0].mean(1, keepdims=True), 3, axis=1))
    entry = check(resting, frames.astype(np.uint16))
    assert codes(entry) == ["low_figure"]
    assert "modulation of order 1 over noise" in entry["reasons"][0]["message"]
    assert "angle 0, 1, 2" in entry["reasons"][0]["message"]


def test_modulation_over_noise_of_a_uniform_sample_is_that_of_its_pattern():
    x = np.indices((128, 128))[1]
    phases = 2 * np.pi * np.arange(3) / 3
    pattern = np.stack([1 + 0.5 * np.cos(2 * np.pi * 0.25 * x + p) for p in phases])[None, :, None]
    frames = 100 * pattern + np.random.default_rng(0).normal(scale=10, size=pattern.shape)
    ((found,),) = modulation_contrast(frames, 1, 0.065, 5.4)
    assert found == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize("moved", [(0.0, 0.4), (1.3, -2.6), (-5.0, 3.0)])
def test_shift_and_flow_of_known_displacements(moved):
    image = gaussian_filter(np.random.default_rng(3).standard_normal((128, 128)), 2.0)
    second = shift(image, moved, order=5)
    np.testing.assert_allclose(window_shift(image[32:80, 32:80], second[32:80, 32:80])[0], moved, atol=0.1)
    flow = flow_between(image[16:-16, 16:-16], second[16:-16, 16:-16])
    inner = flow.shift_px[:, 16:-16, 16:-16]
    np.testing.assert_allclose(inner.mean(axis=(1, 2)), moved, atol=0.05)
    assert inner.std() < 3 or np.ptp(inner[0]) < 0.5


def test_nothing_is_measured_where_nothing_is_seen_again():
    noise = np.random.default_rng(0).standard_normal((2, 96, 96))
    found = movement([(noise[0], noise[1], 1.0)], 2.0, 1.0)
    assert found is None or found["seen"] < 0.3
    assert movement([], 2.0, 1.0) is None
    assert shake(noise[:, None], 1.0) is None


def test_large_images_are_binned_without_a_change_of_unit():
    image = gaussian_filter(np.random.default_rng(0).standard_normal((600, 600)), 3.0)
    found = movement([(image[:, :560], image[:, 4:564], 1.0)], 1.0, 1.0)
    assert found["between_px"] == pytest.approx(4, rel=0.03)


class Sources:
    """A system whose blocks look different: only the same block of the next acquisition is comparable."""

    @staticmethod
    def alike(frames):
        return frames.reshape(-1, *frames.shape[-2:])[:0]


def test_blocks_that_differ_are_compared_with_the_acquisition_before():
    images = gaussian_filter(np.random.default_rng(0).standard_normal((2, 1, 64, 64)), (0, 0, 2, 2))
    times = np.array([[0.0], [1.0]])
    first = Blocks.of(images, times, 0, Sources())
    assert first.pairs(None) == []
    later = Blocks.of(np.roll(images, 2, axis=-1), times + 10, 0, Sources())
    found = movement(later.pairs(first), 1.0, 1.0)
    assert found["between_px"] == pytest.approx(2, rel=0.1)
    assert found["per_frame_px"] == pytest.approx(0.2, rel=0.1)


def test_real_recordings_are_not_refused(shared_data):
    import tifffile

    frames = tifffile.imread(shared_data / "sim" / "er_timelapse_tirf" / "ER_1.tif").reshape(3, 3, 3, 1, 112, 512)
    times = MICROSCOPE.times(3)[..., None]
    for index in range(3):
        entry, _ = check_acquisition(
            frames[index], times[index], ["angle", "phase"], system_of(MICROSCOPE), index=index, pixel_um=0.065
        )
        assert entry["status"] == "pass"
        assert entry["motion_px"] < 0.3


def test_the_colours_of_one_exposure_are_no_repeated_frames():
    lens = LenslessCamera(shape=(96, 128), colours=3)
    scene = np.zeros((3, *lens.scene_shape), np.float32)
    for colour, (light, x) in enumerate([(1.0, 12), (0.6, 30), (0.4, 48)]):
        scene[colour, 16:32, x : x + 10] = light
    clean = seen(scene, np.repeat(caustics(1, lens.shape)[None], 3, axis=0), lens.shape)
    frames = np.random.default_rng(0).poisson(5000 * clean / clean.max()) + lens.offset
    system = system_of(lens)
    entry, _ = check_acquisition(
        frames[None, :, None].astype(np.uint16),
        np.zeros((1, 3, 1)),
        list(system.frame_axes),
        system,
        index=0,
        pixel_um=10,
    )
    assert [r["code"] for r in entry["reasons"]] == []
    assert entry["intensity_by_frame"] == [1, 1, 1]
    assert (entry["shake_px"], entry["blur"]) == (None, [None] * 3)
