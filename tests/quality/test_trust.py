"""Verdicts on reconstructions: known records, known words."""

import pytest

from nstm.quality import trust
from nstm.quality.trust import verdict, verdict_of_sample


def record(residual=0.95, error=None, static=None, step=0.5, total=3.0, **changes):
    return {
        "index": 2,
        "status": "pass",
        "reasons": [],
        "residual_noise_units": [residual] * 9,
        "held_out": [] if error is None else [{"frame": [0, 1], "error": error, "static_error": static}] * 3,
        "motion_px": {"total_rms": total, "total_max": 2 * total, "per_interval_max": step},
        **changes,
    }


def codes(entry):
    return [(r["severity"], r["code"]) for r in entry["reasons"]]


def test_a_good_fit_passes():
    entry = verdict(record(error=1.1, static=2.0))
    assert (entry["status"], entry["reasons"]) == ("pass", [])
    assert entry["residual_noise_units"] == pytest.approx(0.95)
    assert entry["held_out_error"] == pytest.approx(1.1)
    assert entry["held_out_ratio_to_static"] == pytest.approx(0.55)
    assert entry["motion_px_per_interval"] == 0.5


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"residual": trust.RESIDUAL_WARN + 0.01}, ("warn", "residual")),
        ({"residual": trust.RESIDUAL_FAIL + 0.01}, ("fail", "residual")),
        ({"residual": 0.5}, ("warn", "overfitted")),
        ({"step": 2.5}, ("warn", "fast")),
        ({"step": 4.5}, ("fail", "too_fast")),
        ({"error": 1.7, "static": 2.0}, ("warn", "held_out")),
        ({"error": 3.2, "static": 5.0}, ("fail", "held_out")),
        ({"error": 1.2, "static": 1.1}, ("warn", "worse_than_static")),
        ({"error": 1.4, "static": 1.0}, ("fail", "worse_than_static")),
        ({"residual_noise_units": [None] * 9}, ("warn", "noise_unknown")),
        ({"residual_noise_units": [0.9] * 8 + [1.5]}, ("warn", "outlier_frame")),
    ],
)
def test_each_ground_of_doubt(changes, expected):
    entry = verdict(record(**changes))
    assert codes(entry) == [expected]
    assert entry["status"] == expected[0]


def test_a_still_sample_need_not_beat_the_static_model():
    assert verdict(record(error=1.05, static=1.0, total=0.1, step=0.02))["status"] == "pass"


def test_without_held_out_frames_there_is_no_ratio():
    entry = verdict(record())
    assert entry["held_out_error"] is None
    assert entry["held_out_ratio_to_static"] is None


def test_a_failed_fit_keeps_its_reason():
    why = [{"severity": "fail", "code": "fit", "message": "the loss became infinite"}]
    entry = verdict({"index": 1, "status": "fail", "reasons": why})
    assert (entry["status"], entry["reasons"]) == ("fail", why)
    assert verdict({"index": 1, "status": "fail", "reasons": []})["status"] == "fail"


def test_sample():
    fine, doubtful = verdict(record()), verdict(record(residual=1.2))
    failed = verdict({"index": 1, "status": "fail", "reasons": []})
    assert verdict_of_sample([fine, fine]) == ("pass", [])
    status, reasons = verdict_of_sample([fine, doubtful, failed])
    assert status == "warn"
    assert reasons[0]["message"] == "do not believe acquisition(s) 1"
    assert all(r["severity"] == "warn" for r in reasons)
    assert verdict_of_sample([failed])[0] == "fail"
    assert verdict_of_sample([])[0] == "fail"
