"""What is lost is found where it is and when it was, blurred frames are told, and good fits are left alone."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates, shift, uniform_filter1d

import nstm
from nstm.pipeline.record import record_of
from nstm.quality import trust
from nstm.quality.blur import SURE, motion_blur
from nstm.quality.trust import verdict
from nstm.settings import Reconstruction
from nstm.spacetime.residual import in_noise_units, local_noise_units, lost_in_several_frames, lost_regions
from nstm.systems.sim import Sim, SimSettings
from tests.spacetime.test_reconstruct import blobs
from tests.systems.test_sim import calibration, settings

PIXEL, PASSBAND = 0.065, 5.4
SIDE = 48


def noise(shape=(9, 1, 64, 64), seed=0, deviation=3.0):
    return np.random.default_rng(seed).normal(scale=deviation, size=shape)


def test_white_noise_is_one_whatever_its_size():
    deviation = np.linspace(1, 5, 9)[:, None, None, None]
    found = in_noise_units(deviation * noise(deviation=1), PIXEL, PASSBAND)
    np.testing.assert_allclose(found, 1, atol=0.06)  # 1600 coefficients within the passband: 2 % of standard error


def test_a_camera_that_samples_nothing_beyond_the_passband_tells_nothing():
    assert in_noise_units(noise(), PIXEL, 12.0) is None
    assert local_noise_units(noise(), PIXEL, 12.0) is None
    assert lost_regions(noise(), PIXEL, 12.0) == []
    assert motion_blur(noise(), noise(), PIXEL, 12.0) is None


def test_noise_alone_makes_no_region():
    """Nine frames of 256 x 256 pixels, four times, brighter in the middle: about 30 000 windows."""
    y, x = np.indices((256, 256)) / 255 - 0.5
    uneven = 1 + 4 * np.exp(-(x**2 + y**2) / 0.05)
    for seed in range(4):
        assert lost_regions(uneven * noise((9, 1, 256, 256), seed), PIXEL, PASSBAND) == []


def test_a_region_has_its_place_its_frames_and_its_planes():
    residual = noise((9, 3, 64, 96))
    spot = np.zeros((64, 96))
    spot[40, 70] = 1
    residual[5:7, 1] += 800 * gaussian_filter(spot, 2.0)  # 10 times the noise in its middle
    (region,) = lost_regions(residual, PIXEL, PASSBAND)
    np.testing.assert_allclose(region["centre_um"], [40.5 * PIXEL, 70.5 * PIXEL], atol=2 * PIXEL)
    assert (region["frames"], region["planes"]) == ([5, 6], [1])
    assert 0.3 < region["size_um"][0] < 2.0
    outline = np.array(region["outline_um"])
    np.testing.assert_allclose((outline.min(axis=0) + outline.max(axis=0)) / 2, region["centre_um"])
    assert 0.005 < region["share"] < 0.15
    assert 4 < region["residual_noise_units"] < 10


def structure(seed=1):
    dots = np.random.default_rng(seed).random((64, 64)) < 0.03
    return gaussian_filter(dots * 2000.0, 1.2)


@pytest.mark.parametrize(("along", "degrees"), [("y", 90), ("x", 0)])
def test_frames_moved_during_their_exposure_are_told_with_length_and_direction(along, degrees):
    sharp = np.repeat(structure()[None, None], 9, axis=0)
    frames = sharp.copy()
    axis = {"y": -2, "x": -1}[along]
    frames[4] = uniform_filter1d(sharp[4], 3, axis=axis, mode="nearest")
    found = motion_blur(frames + noise() - sharp, sharp, PIXEL, PASSBAND)
    blurred = [i for i, b in enumerate(found) if b.significance > SURE]
    assert blurred == [4]
    # three samples in a row have the variance of an even spread over sqrt(8) pixels
    assert found[4].length_px == pytest.approx(np.sqrt(8), rel=0.2)
    assert min(abs(found[4].direction_deg - d) for d in (degrees, degrees + 180)) < 10


def test_sharp_frames_are_not_blurred_even_where_they_are_shifted_or_dimmed():
    """180 frames without blur: none comes near the limit, and a wrong shift only by a length below it."""
    largest = 0.0
    for seed in range(20):
        sharp = np.repeat(structure(seed)[None, None], 9, axis=0)
        frames = sharp.copy()
        frames[1] = shift(sharp[1], (0, 0.15, -0.1), order=3, mode="nearest")
        frames[2] = 0.9 * sharp[2] + 20
        shifted, *others = np.roll(motion_blur(frames + noise(seed=seed) - sharp, sharp, PIXEL, PASSBAND), -1)
        largest = max(largest, *(b.significance for b in others))
        assert shifted.length_px < 0.8  # the second order of the shift: 0.18 sqrt(12) pixels
    assert largest < 0.8 * SURE


@pytest.fixture(scope="module")
def recording():
    """What ``(frame number) -> sample`` gives as frames, fitted and judged."""
    system = Sim(SimSettings.model_validate(settings(camera={"offset": 100}).model_dump()))
    known, times = calibration(), 0.02 * np.arange(9.0).reshape(3, 3, 1)
    model = system.forward((1, SIDE, SIDE), times, known, PIXEL, 0)
    # so short a fit comes less close to the noise with the whole weight of the priors
    grids = {"motion_smoothness": 0.25, "motion_steadiness": 0.25}
    steps = Reconstruction.model_validate({"steps": 200, "padding_px": 0, "multigrid": grids})

    def judged(sample, **changes):
        scenes = np.stack([sample(i) for i in range(9)])[:, None, None, None]
        frames = 100 + np.asarray(model.render(200 * scenes.astype(np.float32), np.arange(9)))
        frames = frames + np.random.default_rng(1).normal(scale=2.0, size=frames.shape)
        how = steps.model_copy(update=changes)
        fit = nstm.reconstruct(system, frames.reshape(3, 3, 1, SIDE, SIDE), times, how, calibration=known)
        about = {"index": 0, "status": "pass", "reasons": []}
        return verdict(about | record_of(fit, system.cutoff(known), exposure_s=0.01))

    return judged


def spot(y, x):
    """A bright spot at a place in result pixels."""
    v, u = np.indices((2 * SIDE, 2 * SIDE))
    return 3 * np.exp(-((v - y) ** 2 + (u - x) ** 2) / (2 * 2.5**2))


@pytest.mark.parametrize("step", [0, 1], ids=["still", "moving"])
def test_what_was_found_passes(recording, step):
    entry = recording(lambda i: blobs((0, step * i)))
    assert (entry["status"], entry["reasons"], entry["regions"]) == ("pass", [], [])
    motion = entry["motion_px"]
    # half a camera pixel per frame of 20 ms, half of it in an exposure of 10 ms
    np.testing.assert_allclose(motion["per_interval_95"], step / 2, atol=0.12)
    assert motion["per_exposure_95"] == pytest.approx(step / 4, abs=0.06)


def test_a_structure_that_appears_is_a_region_in_a_fit_that_is_otherwise_good(recording):
    def sample(i):
        return blobs((0, 0.5 * i)) + (0.3 * spot(60, 30) if i >= 5 else 0)

    entry, slid = recording(sample, sliding=False), recording(sample)
    assert entry["residual_noise_units"] < trust.RESIDUAL_WARN  # the mean over the field does not see it
    (region,) = entry["regions"]
    np.testing.assert_allclose(region["centre_um"], [30 * PIXEL, 15 * PIXEL], atol=3 * PIXEL)
    (why,) = entry["reasons"]
    assert (why["severity"], why["code"]) == ("warn", "lost_region")
    y, x = region["centre_um"]
    assert f"in the marked region ({' x '.join(f'{s:.1f}' for s in region['size_um'])} um" in why["message"]
    assert f"around (y, x) = ({y:.1f}, {x:.1f}) um" in why["message"]
    assert "do not read structure there" in why["message"]
    # parts that slide make up for it; the region is told all the same
    assert slid["status"] == "warn"
    assert slid["regions"][-1]["slides"]
    assert slid["regions"][-1]["outline_um"] == region["outline_um"]
    (why,) = (r["message"] for r in slid["reasons"] if r["code"] == "slides")
    assert "explained only by parts that slide past each other in the marked region" in why
    assert f"around (y, x) = ({y:.1f}, {x:.1f}) um" in why


def test_a_region_that_jumps_is_told_with_the_frames_between(recording):
    y, x = np.indices((2 * SIDE, 2 * SIDE))
    near = np.exp(-((y - 60) ** 2 + (x - 40) ** 2) / (2 * 10**2))

    def sample(i):
        return map_coordinates(blobs((0, 0.3 * i)), [y, x - (16 if i >= 6 else 0) * near], order=3, mode="wrap")

    entry = recording(sample, sliding=False)
    worst = entry["regions"][0]
    np.testing.assert_allclose(worst["centre_um"], [30 * PIXEL, 20 * PIXEL], atol=5 * PIXEL)
    assert worst["between_frames"] == [5, 6]
    assert entry["status"] == "warn"
    assert "between frames 5 and 6 the sample moved" in " ".join(r["message"] for r in entry["reasons"])
    slid = recording(sample)  # what only a jump explains is told, too
    assert slid["status"] == "warn"
    assert all(region["slides"] for region in slid["regions"])
    np.testing.assert_allclose(slid["regions"][0]["centre_um"], [30 * PIXEL, 20 * PIXEL], atol=5 * PIXEL)
    assert "fast" in [r["code"] for r in slid["reasons"]]


def test_a_sample_that_shakes_between_frames_cannot_be_recovered(recording):
    shake = np.random.default_rng(4).uniform(-8, 8, (9, 2))
    entry = recording(lambda i: blobs(shake[i]))
    assert entry["status"] == "fail"
    assert "cannot be recovered" in " ".join(r["message"] for r in entry["reasons"] if r["severity"] == "fail")


def test_what_is_lost_in_several_frames_away_from_the_border_counts_for_parts_that_slide():
    rng = np.random.default_rng(0)
    residual = rng.normal(size=(6, 1, 64, 64))
    y, x = np.mgrid[:64, :64]
    lost = 2.0 * np.exp(-((y - 32) ** 2 + (x - 32) ** 2) / (2 * 3.0**2))  # broad: within the passband
    at_the_border = np.roll(lost, 32, axis=0)
    assert lost_in_several_frames(residual, 0.1, 2.0) == (0, 0)
    for frames, there, expected in (([1], lost, False), ([1, 4], lost, True), ([1, 4], at_the_border, False)):
        changed = residual.copy()
        changed[frames] += there
        assert (lost_in_several_frames(changed, 0.1, 2.0)[0] > 0) == expected


def test_a_region_that_two_fits_lost_is_not_one_that_the_other_explains():
    rng = np.random.default_rng(0)
    white = rng.normal(size=(9, 1, 96, 96))
    y, x = np.indices((96, 96))
    here, there = (3 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 50) for a, b in ((25, 25), (70, 70)))
    smooth, partly = white.copy(), white.copy()
    smooth[4:7] += here + there
    partly[4:7] += there
    both, explained, nothing = (
        lost_regions(smooth, PIXEL, PASSBAND, remaining) for remaining in (None, partly, smooth)
    )
    assert len(both) == 2
    (region,) = explained
    np.testing.assert_allclose(region["centre_um"], [25 * PIXEL, 25 * PIXEL], atol=2 * PIXEL)
    assert region["frames"] == [4, 5, 6]
    assert nothing == []


@pytest.mark.parametrize(("planes", "regions"), [(1, 1), (3, 0)])
def test_a_volume_takes_no_noise_for_structure_so_its_windows_may_hold_more(planes, regions):
    y, x = np.indices((64, 64))
    signal = np.exp(-((y - 32) ** 2 + (x - 32) ** 2) / (2 * 8.0**2)) * np.cos(x)  # within the passband
    residual = noise((9, planes, 64, 64))
    while local_noise_units(residual, PIXEL, PASSBAND).max() < 1.66:
        residual[4, 0] += 0.1 * signal
    assert len(lost_regions(residual, PIXEL, PASSBAND)) == regions
