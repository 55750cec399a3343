"""Consensus of the acquisitions of a sample."""

import copy

import numpy as np
import pytest

from nstm.illumination.consensus import consensus, with_consensus
from nstm.illumination.sim import estimate

from .sim_frames import OPTICS, degrees, dots, lit_frames, vectors_at

K = vectors_at(4.2, [0.3, 1.4])
PHASES = np.tile(2 * np.pi * np.arange(3) / 3, (2, 1)) + 0.7


@pytest.fixture(scope="module")
def calibrations():
    rng = np.random.default_rng(3)
    scene = dots((96, 128), 900, rng)
    return [estimate(lit_frames(scene, K, PHASES, [[0.8]] * 2, rng), beams=2, **OPTICS) for _ in range(3)]


def _lose(calibration, angle):
    lost = copy.deepcopy(calibration)
    lost["angle_status"][angle] = lost["status"] = "fail"
    lost["pattern_vectors"][angle] = [1.0, 1.0]
    lost["reasons"] = [{"severity": "fail", "code": "pattern_not_found", "message": "lost"}]
    return lost


def test_consensus_is_as_good_as_its_members(calibrations):
    agreed = consensus(calibrations)
    assert agreed["status"] == "pass"
    np.testing.assert_allclose(agreed["pattern_vectors"], K, atol=0.005)
    assert np.abs(degrees(np.array(agreed["phases"]) - PHASES)).max() < 6
    assert max(agreed["phase_spread_rad"]) < 0.1


def test_phase_at_the_centre_survives_a_change_of_vector(calibrations):
    agreed = consensus(calibrations)
    agreed["pattern_vectors"] = (np.array(agreed["pattern_vectors"]) + np.array([0.02, -0.03])).tolist()
    moved = with_consensus(calibrations[0], agreed)
    centre = 0.5 * np.array(calibrations[0]["field_um"])
    for a in range(2):
        before = np.array(calibrations[0]["phases"][a]) + 2 * np.pi * np.dot(
            calibrations[0]["pattern_vectors"][a], centre
        )
        after = np.array(moved["phases"][a]) + 2 * np.pi * np.dot(moved["pattern_vectors"][a], centre)
        np.testing.assert_allclose(degrees(after - before), 0, atol=1e-6)
    assert moved["modulation"] == agreed["modulation"]


def test_lost_acquisition_inherits_and_says_so(calibrations):
    lost = _lose(calibrations[1], 0)
    agreed = consensus([calibrations[0], lost, calibrations[2]])
    assert agreed["status"] == "warn"
    assert agreed["members"] == [[0, 2], [0, 1, 2]]
    used = with_consensus(lost, agreed)
    assert used["status"] == "warn"
    assert "pattern_inherited" in {r["code"] for r in used["reasons"]}
    assert used["phases"][0] == agreed["phases"][0]
    assert used["angle_status"] == ["warn", "pass"]


def test_phases_that_do_not_repeat_are_not_inherited(calibrations):
    turned = copy.deepcopy(calibrations[2])
    turned["phases"][0] = [p + 2.0 for p in turned["phases"][0]]
    lost = _lose(calibrations[1], 0)
    used = with_consensus(lost, consensus([calibrations[0], lost, turned]))
    assert used["status"] == "fail"
    assert used["angle_status"][0] == "fail"


def test_outlier_is_left_out(calibrations):
    wrong = copy.deepcopy(calibrations[1])
    wrong["pattern_vectors"][1] = [3.0, 3.0]
    agreed = consensus([calibrations[0], wrong, calibrations[2]])
    assert agreed["members"][1] == [0, 2]
    np.testing.assert_allclose(agreed["pattern_vectors"], K, atol=0.005)
    assert "pattern_inherited" in {r["code"] for r in with_consensus(wrong, agreed)["reasons"]}


def test_orientation_never_found_fails(calibrations):
    agreed = consensus([_lose(c, 0) for c in calibrations])
    assert agreed["status"] == "fail"
    assert with_consensus(_lose(calibrations[0], 0), agreed)["status"] == "fail"
