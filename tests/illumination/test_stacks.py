"""Estimates from three-beam stacks: truth, conventions, light from beyond the stack, and the gates."""

import json

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.conventional.sim import reconstruct, widefield
from nstm.illumination.sim import estimate

from .sim_frames import STACK_OPTICS, degrees, lit_stack, vectors_at

MODULATION = [[0.9, 0.6], [0.8, 0.5]]


@pytest.fixture(scope="module")
def stack():
    return _stack(0.0)


def _stack(axial_phase):
    """Eight planes, not square, of a sample three times as thick; two angles, uneven phases, 300 photons."""
    rng = np.random.default_rng(3)
    scene = np.zeros((24, 192, 224))
    # pieces of lines, as single points have all frequencies alike
    for _ in range(160):
        start, slope = rng.uniform(0, scene.shape, 3), rng.normal(0, 1, 3) * [0.08, 1, 1]
        line = (start + np.linspace(-12, 12, 60)[:, None] * slope).astype(int) % scene.shape
        scene[tuple(line.T)] += 1
    k = vectors_at(2.35, [0.4, 1.9])
    phases = 2 * np.pi * np.arange(5) / 5 + rng.normal(0, 0.06, (2, 5)) + [[0.7], [-2.0]]
    clean = lit_stack(scene, k, phases, MODULATION, slice(8, 16), axial_phase)
    clean *= 300 / np.quantile(clean, 0.999)
    truth = {"pattern_vectors": k, "phases": phases, "modulation": MODULATION, "intensity": np.ones((2, 5))}
    return rng.poisson(np.maximum(clean, 0)).astype(np.float32), truth, scene[8:16]


def test_truth_is_found_without_a_guess(stack):
    frames, truth, _ = stack
    found = estimate(frames, beams=3, **STACK_OPTICS)
    k, field = truth["pattern_vectors"], np.array(found["field_um"])
    moved = 2 * np.pi * (np.array(found["pattern_vectors"]) - k) @ (0.5 * field)
    wrong = degrees(np.array(found["phases"]) - truth["phases"] + moved[:, None])
    assert found["status"] == "pass"
    assert np.hypot(*((np.array(found["pattern_vectors"]) - k) * field).T).max() < 0.03
    assert np.abs(wrong.mean(axis=1)).max() < 1.5
    assert wrong.std(axis=1).max() < 2.0  # the phases' own errors are 3.4 degrees
    np.testing.assert_allclose(found["modulation"], MODULATION, rtol=0.05)


def test_reconstruction_with_found_parameters_is_that_with_true_ones(stack):
    frames, truth, scene = stack
    found = estimate(frames, beams=3, **STACK_OPTICS)
    sharp = {}
    for name, calibration in (("found", found), ("true", truth)):
        image = reconstruct(frames, [calibration] * 2, **STACK_OPTICS)
        assert image.shape == scene.shape
        sharp[name] = np.corrcoef(image[1:-1].ravel(), scene[1:-1].ravel())[0, 1]
    wide = np.corrcoef(widefield(frames).mean(axis=0)[1:-1].ravel(), scene[1:-1].ravel())[0, 1]
    assert sharp["found"] > sharp["true"] - 0.01
    assert sharp["true"] > 1.5 * wide


def test_an_axial_phase_is_found_and_taken_into_account():
    frames, _, scene = _stack(0.8)
    found = estimate(frames, beams=3, **STACK_OPTICS)
    np.testing.assert_allclose(found["axial_phase"], 0.8, atol=0.15)
    np.testing.assert_allclose(found["modulation"], MODULATION, rtol=0.08)
    sharp = {}
    for name, phase in (("found", found["axial_phase"]), ("none", [0.0, 0.0])):
        image = reconstruct(frames, [{**found, "axial_phase": phase}] * 2, **STACK_OPTICS)
        sharp[name] = np.corrcoef(image[1:-1].ravel(), scene[1:-1].ravel())[0, 1]
    assert sharp["found"] > sharp["none"] + 0.01


def test_a_sample_thicker_than_the_stack(shared_cases):
    about = json.loads((shared_cases / "sim" / "v3_128x16_mid.json").read_text())
    raw = tifffile.imread(shared_cases / "sim" / "v3_128x16_mid_raw.tif").astype(np.float32) - about["offset"]
    frames = raw.reshape(-1, 3, 5, *raw.shape[1:]).transpose(1, 2, 0, 3, 4)
    found = estimate(frames, beams=3, **STACK_OPTICS)
    k = np.array(about["k"])[:, ::-1] / 2
    assert found["status"] == "pass"
    assert np.hypot(*((np.array(found["pattern_vectors"]) - k) * found["field_um"]).T).max() < 0.01
    np.testing.assert_allclose(found["modulation"], np.transpose([about["mods"], about["mods2"]]), rtol=0.03)


def test_published_stack(shared_data):
    """Spacing within .5 %, angles within 5 mrad of those listed; its sections are direction, z, phase."""
    raw = tifffile.imread(shared_data / "sim" / "omx_3d" / "raw.tif").astype(np.float32)
    frames = raw.reshape(3, 9, 5, 64, 64).transpose(0, 2, 1, 3, 4)
    optics = STACK_OPTICS | {"na": 1.42, "emission_wavelength_um": 0.528, "index": 1.515}
    found = estimate(frames, beams=3, **optics)
    ky, kx = np.array(found["pattern_vectors"]).T
    assert found["status"] == "pass"
    np.testing.assert_allclose(0.5 / np.hypot(ky, kx), 0.2035, rtol=0.005)
    np.testing.assert_allclose(np.arctan2(ky, kx), [0.8043, 1.8555, -0.2388], atol=0.005)
    assert np.min(found["overlap_correlation"]) > 0.85


@pytest.mark.parametrize("seed", range(3))
def test_noise_and_widefield_stacks_fail(stack, seed):
    rng = np.random.default_rng(seed)
    wide = np.maximum(stack[0].mean(axis=(0, 1)), 0)
    for clean in (np.full((8, 96, 112), 60.0), wide):
        found = estimate(rng.poisson(np.broadcast_to(clean, (2, 5, 8, 96, 112))), beams=3, **STACK_OPTICS)
        assert found["status"] == "fail"
        assert "pass" not in found["angle_status"]


def test_a_stack_needs_its_optics(stack):
    with pytest.raises(DataError, match="z_step_um"):
        estimate(stack[0], beams=3, **{**STACK_OPTICS, "z_step_um": None})
