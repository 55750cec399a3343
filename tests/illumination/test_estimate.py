"""Estimation of pattern vectors, phases and modulation: truth, conventions, real data, and the gates."""

import json

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.illumination.sim import estimate

from .sim_frames import OPTICS, degrees, dots, lit_frames, load_case, read_mrc, vectors_at


def _errors(found, k, phases, modulation, field_um):
    """k error in bins, phase errors at the field's centre in degrees, relative modulation errors."""
    vectors = np.array(found["pattern_vectors"])
    bins = np.hypot(*((vectors - k) * np.array(field_um)).T)
    moved = 2 * np.pi * (vectors - k) @ (0.5 * np.array(field_um))
    return (
        bins,
        degrees(np.array(found["phases"]) - phases + moved[:, None]),
        np.array(found["modulation"]) / modulation,
    )


@pytest.mark.parametrize(
    ("name", "bins_allowed", "phase_allowed"),
    [("b2_512_mid", 0.01, 1.3), ("b2_256_mid", 0.02, 2.6), ("b3_256_mid", 0.02, 1.6), ("b2_256p40_mid", 0.02, 3.5)],
)
def test_truth_is_found_without_a_guess(shared_cases, name, bins_allowed, phase_allowed):
    frames, optics, beams, k, phases, modulation = load_case(shared_cases, name)
    found = estimate(frames, beams=beams, **optics)
    bins, phase, ratio = _errors(found, k, phases, modulation, found["field_um"])
    assert found["status"] == "pass"
    assert bins.max() < bins_allowed
    assert np.abs(phase).max() < phase_allowed
    assert phase.std() < 2.0
    assert np.abs(ratio - 1).max() < 0.03
    assert np.mean(found["intensity"]) == pytest.approx(1)
    json.dumps(found)


@pytest.mark.parametrize(("beams", "phases"), [(2, 3), (2, 5), (3, 5), (3, 7)])
def test_convention_of_sign_phase_and_order(rng, beams, phases):
    """A field that is not square, any number of angles and phases, the formula of the calibration as the truth."""
    k = vectors_at(4.2 if beams == 2 else 2.2, [0.3, 1.9])
    truth = np.array([[0.5], [-1.2]]) + 2 * np.pi * np.arange(phases) / phases
    modulation = [[0.8, 0.5][: beams - 1]] * 2
    frames = lit_frames(dots((96, 128), 900, rng), k, truth, modulation, rng)
    found = estimate(frames, beams=beams, **OPTICS)
    bins, phase, ratio = _errors(found, k, truth, np.array(modulation), found["field_um"])
    assert found["status"] == "pass"
    assert bins.max() < 0.03
    assert np.abs(phase).max() < 3
    assert np.abs(ratio - 1).max() < 0.08


def test_sign_of_the_vector_follows_the_phases(rng):
    k = vectors_at(4.2, [0.3])
    falling = -2 * np.pi * np.arange(3)[None] / 3 + 0.4
    frames = lit_frames(dots((128, 128), 900, rng), k, falling, [[0.8]], rng)
    found = estimate(frames, beams=2, **OPTICS)
    np.testing.assert_allclose(found["pattern_vectors"], -k, atol=0.01)
    assert np.abs(degrees(np.array(found["phases"]) + falling)).max() < 6


def test_pattern_beyond_the_passband_is_found(rng):
    """TIRF: excitation is shorter than emission, so |k| may exceed the cut-off of detection."""
    k = vectors_at(1.03 * 2 * 1.4 / 0.515, [0.2, 1.25, 2.3])
    phases = np.tile(2 * np.pi * np.arange(3) / 3, (3, 1))
    frames = lit_frames(dots((192, 192), 2500, rng), k, phases, [[0.9]] * 3, rng, photons=500)
    found = estimate(frames, beams=2, index=1.518, excitation_wavelength_um=0.488, **OPTICS)
    assert found["status"] == "pass"
    assert (np.hypot(*(np.array(found["pattern_vectors"]) - k).T) * 192 * 0.065).max() < 0.03


def test_camera_at_its_own_limit_does_not_alias_the_vector(rng):
    optics = OPTICS | {"pixel_um": 0.091}  # Nyquist 5.49/um, just the cut-off
    k = vectors_at(5.2, [0.2])
    frames = lit_frames(dots((128, 128), 1500, rng), k, np.arange(3)[None] * 2.0944, [[0.9]], rng, 500, optics=optics)
    found = estimate(frames, beams=2, **optics)
    assert found["status"] in ("pass", "warn")
    np.testing.assert_allclose(found["pattern_vectors"], k, atol=0.01)


def test_uneven_phases_and_bleaching_are_fitted(rng):
    k = vectors_at(4.2, [0.3, 1.4, 2.4])
    phases = 2 * np.pi * np.arange(3) / 3 + rng.normal(0, np.radians(8), (3, 3))
    intensity = np.linspace(1.0, 0.75, 9).reshape(3, 3)
    frames = lit_frames(dots((160, 160), 1500, rng), k, phases, [[0.8]] * 3, rng, 500, intensity)
    found = estimate(frames, beams=2, **OPTICS)
    _, phase, _ = _errors(found, k, phases, 0.8, found["field_um"])
    assert np.abs(phase).max() < 3.5
    np.testing.assert_allclose(found["intensity"], intensity / intensity.mean(), rtol=0.04)
    plain = estimate(frames, beams=2, fit_phases=False, **OPTICS)
    steps = degrees(np.diff(plain["phases"], axis=1) - 2 * np.pi / 3)
    np.testing.assert_allclose(steps, 0, atol=0.01)


def test_known_vectors_are_kept(rng):
    k = vectors_at(4.2, [0.3])
    frames = lit_frames(dots((96, 96), 700, rng), k, np.arange(3)[None] * 2.0944 + 1, [[0.8]], rng)
    found = estimate(frames, beams=2, pattern_vectors=k, **OPTICS)
    np.testing.assert_allclose(found["pattern_vectors"], k)
    assert np.abs(degrees(np.array(found["phases"]) - np.arange(3) * 2.0944 - 1)).max() < 4


@pytest.mark.parametrize("photons", [60.0, 8.0])
def test_the_error_of_the_vector_is_told(rng, photons):
    """Over patterns and noise, errors are those that the parts of the field tell."""
    k, phases = vectors_at(4.2, [0.3, 1.3, 2.4]), np.tile(np.arange(3) * 2.0944, (3, 1))
    ratio = []
    for _ in range(4):
        frames = lit_frames(dots((96, 96), 300, rng), k, phases, [[0.8]] * 3, rng, photons=photons)
        found = estimate(frames, beams=2, **OPTICS)
        ratio += list(
            np.hypot(*((np.array(found["pattern_vectors"]) - k) * found["field_um"]).T) / found["vector_error"]
        )
    assert 0.4 < np.sqrt(np.mean(np.square(ratio))) < 1.6


@pytest.mark.parametrize("beams", [2, 3])
def test_noise_alone_fails(rng, beams):
    frames = rng.poisson(100, (2, 2 * beams - 1, 128, 160)).astype(np.float32)
    found = estimate(frames, beams=beams, **OPTICS)
    assert found["status"] == "fail"
    assert found["angle_status"] == ["fail", "fail"]
    assert {r["code"] for r in found["reasons"]} == {"pattern_not_found"}
    json.dumps(found)


@pytest.mark.parametrize("beams", [2, 3])
def test_widefield_frames_fail(rng, beams):
    clean = np.tile(lit_frames(dots((128, 128), 900, rng), [[0, 0]], [[0]], [[0]], rng), (1, 2 * beams - 1, 1, 1))
    found = estimate(rng.poisson(clean).astype(np.float32), beams=beams, **OPTICS)
    assert found["status"] == "fail"
    identical = estimate(clean, beams=beams, **OPTICS)
    assert identical["status"] == "fail"


def test_same_orientation_twice_fails(rng):
    k = vectors_at(4.2, [0.3, 0.3])
    frames = lit_frames(dots((128, 128), 900, rng), k, np.tile(np.arange(3) * 2.0944, (2, 1)), [[0.8]] * 2, rng)
    found = estimate(frames, beams=2, **OPTICS)
    assert found["status"] == "fail"
    assert "orientation_twice" in {r["code"] for r in found["reasons"]}


def test_dark_frames_fail_with_a_reason(rng):
    found = estimate(np.zeros((1, 3, 64, 64), np.float32), beams=2, **OPTICS)
    assert found["status"] == "fail"
    assert found["reasons"][0]["code"] == "dark"


@pytest.mark.parametrize(
    ("frames", "beams", "word"),
    [
        (np.ones((3, 3, 64, 64)), 3, "phases"),
        (np.ones((3, 3, 64)), 2, "shape"),
        (np.ones((3, 3, 16, 64)), 2, "32"),
        (np.full((3, 3, 64, 64), np.nan), 2, "NaN"),
        (np.ones((3, 3, 64, 64)), 4, "beams"),
    ],
)
def test_unusable_frames_are_refused(frames, beams, word):
    with pytest.raises(DataError, match=word):
        estimate(frames, beams=beams, **OPTICS)


def test_real_er_time_lapse(shared_data):
    """The published pattern vectors, in all acquisitions of both fields."""
    listed = np.array([[-0.0146, -0.3711], [0.3135, -0.1982], [0.3291, 0.1729]])
    for name in ("ER_1.tif", "ER_2.tif"):
        stack = tifffile.imread(shared_data / "sim" / "er_timelapse_tirf" / name).astype(np.float32)
        for frames in stack.reshape(3, 3, 3, 112, 512) - 100:
            found = estimate(frames, pixel_um=0.065, na=1.49, emission_wavelength_um=0.525, beams=2)
            assert {r["code"] for r in found["reasons"]} <= {"vector_uncertain"}
            np.testing.assert_allclose(np.array(found["pattern_vectors"]) * 0.065, listed, atol=0.002)


def test_real_recording_with_a_dim_orientation(shared_data):
    """Orientation 0 is too dim, 1 is weak, 2 is good but not well known: exactly that is said."""
    frames = read_mrc(shared_data / "sim" / "microtubules_dv" / "MT.mrc")
    found = estimate(frames, pixel_um=0.0626, na=1.3, emission_wavelength_um=0.525, beams=2)
    assert found["angle_status"] == ["fail", "warn", "warn"]
    assert found["status"] == "fail"
    assert {r["code"] for r in found["reasons"] if "orientation 2" in r["message"]} == {"vector_uncertain"}
    assert found["vector_error"][2] < 0.06
    ky, kx = np.array(found["pattern_vectors"][2]) * 0.0626
    assert np.hypot(ky, kx) == pytest.approx(0.3469, abs=0.002)
    assert np.degrees(np.arctan2(ky, kx)) % 360 == pytest.approx(205, abs=1)


def test_real_three_beam_recording(shared_data):
    """Pixel and NA are not published: with these, order 2 (period 4.08 px) lies well inside the passband."""
    stack = tifffile.imread(shared_data / "sim" / "microtubules_3beam_15frames" / "raw_15x128x128.tif")
    frames = stack.astype(np.float32).reshape(3, 5, 128, 128)
    found = estimate(frames, pixel_um=0.0626, na=1.4, emission_wavelength_um=0.525, beams=3)
    listed = [[0.0293, 0.1182], [-0.0879, 0.0859], [0.1162, 0.0322]]
    assert found["status"] != "fail"
    np.testing.assert_allclose(np.array(found["pattern_vectors"]) * 0.0626, listed, atol=0.002)


def test_moving_sample(shared_cases):
    """Swirl over the 15 frames: vectors within a third of a bin of an 80 pixel field."""
    case = np.load(shared_cases / "spacetime" / "sim2d_swirl.npz")
    found = estimate(
        case["raw_camera"],
        pixel_um=float(case["ps"]),
        na=float(case["na"]),
        emission_wavelength_um=float(case["wavelength"]),
        beams=3,
        pixel_integration=False,
    )
    angle = case["k0angles"]  # the phases of the case fall with the index, so the vector is turned round
    k = np.stack([np.sin(angle), np.cos(angle)], axis=1) / case["line_spacing"][:, None]
    assert found["status"] != "fail"
    assert (np.hypot(*(np.array(found["pattern_vectors"]) - k).T) * 80 * float(case["ps"])).max() < 0.35
