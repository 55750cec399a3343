"""Checks of raw frames: each defect is found, named, and nothing else is."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nstm.quality.raw import check_counts, check_sample
from nstm.quality.reasons import status_of
from nstm.settings import Camera

SHAPE = (3, 3, 1, 96, 96)
PIXEL, PASSBAND = 0.065, 5.4


def scene(seed=0, shape=(96, 96)):
    image = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 2.5)
    return gaussian_filter(np.maximum(image / image.std(), 0), 1.5)  # no kinks: they reach beyond the passband


def good(seed=0, photons=100.0, read=2.0):
    rng = np.random.default_rng(seed)
    clean = photons * np.broadcast_to(scene(), SHAPE)
    return np.rint(rng.poisson(clean) + rng.normal(100, read, SHAPE)).astype(np.uint16)


def check(frames, camera=None, **changes):
    arguments = {
        "index": 4,
        "pixel_um": PIXEL,
        "passband": PASSBAND,
        "camera": camera or Camera(offset=100),
        **changes,
    }
    entry, reasons = check_counts(frames, **arguments)
    return entry | {"status": status_of(reasons), "reasons": reasons}


def codes(entry):
    return [(r["severity"], r["code"]) for r in entry["reasons"]]


def test_good_frames_pass_with_true_figures():
    frames = good()
    entry = check(frames)
    assert (entry["index"], entry["status"], entry["reasons"]) == (4, "pass", [])
    clean = 100 * scene()
    assert entry["mean"] == pytest.approx(clean.mean(), rel=0.01)
    assert entry["noise_std"] == pytest.approx(np.sqrt(clean.mean() + 4), rel=0.03)
    assert entry["signal_to_noise"] == pytest.approx(clean.std() / entry["noise_std"], rel=0.1)
    assert entry["intensity_by_frame"] == pytest.approx([1] * 9, abs=0.02)
    assert (entry["nan_fraction"], entry["saturated_fraction"], entry["dead_frames"]) == (0, 0, [])


def test_brightness_is_compared_within_a_colour():
    colours = np.tile(np.arange(3), 3)
    light = np.array([1, 0.9, 0.0])[colours].reshape(3, 3, 1, 1, 1)  # a yellow scene
    frames = np.rint(100 + light * (good(1).astype(float) - 100) + np.random.default_rng(0).normal(0, 2, SHAPE))
    entry = check(frames, kinds=colours)
    assert codes(entry) == []
    assert entry["intensity_by_frame"][:2] == pytest.approx([1, 1], abs=0.05)
    frames[1, 1] = 100 + 0.05 * (frames[1, 1] - 100)
    assert codes(check(frames, kinds=colours)) == [("fail", "dark_frame")]
    assert "frame(s) 4 have" in check(frames, kinds=colours)["reasons"][0]["message"]


def test_nan():
    frames = good().astype(np.float32)
    frames[1, 1, 0, 3:5, 3] = np.nan
    entry = check(frames)
    assert codes(entry) == [("fail", "nan")]
    assert entry["nan_fraction"] == pytest.approx(2 / frames.size)
    assert np.isfinite(entry["mean"])


def test_all_nan_does_not_break():
    entry = check(np.full(SHAPE, np.nan, np.float32))
    assert entry["status"] == "fail"


@pytest.mark.parametrize("value", [0, 100, 65535])
def test_constant_frames(value):
    frames = good()
    frames[0, 2] = frames[2, 1] = value
    entry = check(frames)
    assert ("fail", "dead_frame") in codes(entry)
    assert entry["dead_frames"] == [2, 7]
    assert "2, 7" in entry["reasons"][0]["message"]


def test_frames_that_are_not_used_are_counted_and_not_judged():
    frames = good().astype(np.float32)
    frames[0, 2], frames[1, 1, 0, 3, 3], frames[2, 1] = 0, np.nan, 65535
    used = np.array([True, True, False, True, False, True, True, False, True])
    entry = check(frames, Camera(offset=100, saturation=65535), used=used)
    assert (entry["status"], entry["dead_frames"]) == ("pass", [2, 7])
    assert entry["nan_fraction"] > 0 < entry["saturated_fraction"]
    assert entry["mean"] == pytest.approx(check(good())["mean"], rel=0.02)
    assert [light is None for light in entry["intensity_by_frame"]] == (~used).tolist()
    frames[2, 2] = 100 + 1.6 * (frames[2, 2] - 100)
    (told,) = check(frames, Camera(offset=100), used=used)["reasons"]
    assert "frame 8 differs" in told["message"]


def test_all_zero_sample():
    entry = check(np.zeros(SHAPE, np.uint16), Camera())
    assert codes(entry) == [("fail", "dead_frame")]
    assert entry["intensity_by_frame"] == [None] * 9


@pytest.mark.parametrize(("share", "severity"), [(0.001, "warn"), (0.1, "fail")])
def test_saturation_at_the_type_and_at_the_setting(share, severity):
    frames = good()
    pixels = np.random.default_rng(1).random(frames.shape) < share
    frames[pixels] = 65535
    assert (severity, "saturated") in codes(check(frames))
    frames[pixels] = 4095
    assert (severity, "saturated") in codes(check(frames, Camera(offset=100, saturation=4095)))


def test_undeclared_clipping_is_noticed():
    frames = np.minimum(good(), 200).astype(np.uint16)
    entry = check(frames)
    assert ("warn", "clipped") in codes(entry)
    assert "200" in entry["reasons"][0]["message"]


def test_float_frames_have_no_limit_of_their_own():
    assert check(good().astype(np.float32))["saturated_fraction"] == 0


def test_zeros():
    frames = np.maximum(good().astype(int) - 110, 0).astype(np.uint16)
    assert ("warn", "zeros") in codes(check(frames, Camera()))


def test_wrong_offset():
    assert codes(check(good(), Camera(offset=900))) == [("fail", "no_light")]


def test_dark_and_uneven_frames():
    frames = good().astype(float)
    frames[1, 0] = 100 + (frames[1, 0] - 100) * 0.05
    assert codes(check(np.rint(frames).astype(np.uint16))) == [("fail", "dark_frame")]
    frames = good().astype(float)
    frames[1, 0] = 100 + (frames[1, 0] - 100) * 1.6
    entry = check(np.rint(frames).astype(np.uint16))
    assert codes(entry) == [("warn", "uneven_light")]
    assert "frame 3" in entry["reasons"][0]["message"]


def test_weak_and_no_signal():
    rng = np.random.default_rng(0)
    noise = rng.normal(130, 10, SHAPE)
    assert ("fail", "no_signal") in codes(check(np.rint(noise).astype(np.uint16)))
    weak = noise + 3 * (scene() - scene().mean()) / scene().std()
    assert codes(check(np.rint(weak).astype(np.uint16))) == [("warn", "weak_signal")]


def test_coarse_sampling_leaves_the_noise_unknown():
    entry = check(good(), pixel_um=0.3)
    assert (entry["noise_std"], entry["signal_to_noise"], entry["status"]) == (None, None, "pass")


def test_sample_fails_only_if_nothing_is_usable():
    fine = check(good())
    bad = {**check(np.zeros(SHAPE, np.uint16)), "index": 7}
    assert check_sample([fine, fine]) == ("pass", [])
    status, reasons = check_sample([fine, bad])
    assert status == "warn"
    assert "acquisition(s) 7 are left out" in reasons[0]["message"]
    status, reasons = check_sample([bad, bad])
    assert (status, reasons[0]["severity"]) == ("fail", "fail")
    assert "constant" in reasons[0]["message"]


def test_sample_collects_warnings_and_sees_bleaching():
    bright, dim = {**check(good()), "index": 0}, {**check(good(photons=30)), "index": 1}
    status, reasons = check_sample([bright, dim])
    assert (status, [r["code"] for r in reasons]) == ("warn", ["bleaching"])
    warned = {**bright, "reasons": [{"severity": "warn", "code": "x", "message": "why"}], "status": "warn"}
    _, reasons = check_sample([warned, {**warned, "index": 1}])
    assert [r["message"] for r in reasons] == ["acquisition(s) 0, 1, the first: why"]
