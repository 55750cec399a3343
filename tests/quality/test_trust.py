"""Verdicts on reconstructions: known records, known words."""

import pytest

from nstm.quality import trust
from nstm.quality.trust import disagreement_reasons, verdict, verdict_of_sample, window_reasons

REGION = {
    "centre_um": [1.0, 2.0],
    "size_um": [0.5, 0.7],
    "outline_um": [[0.75, 1.65], [0.75, 2.35], [1.25, 2.35], [1.25, 1.65]],
    "share": 0.1,
    "frames": [6, 7],
    "planes": [0],
    "residual_noise_units": 4.2,
    "motion_px": 3.1,
    "between_frames": [6, 7],
}


def record(residual=0.85, error=None, static=None, step=0.5, total=3.0, **changes):
    return {
        "index": 2,
        "status": "pass",
        "reasons": [],
        "residual_noise_units": [residual] * 9,
        "held_out": [] if error is None else [{"frame": [0, 1], "error": error, "static_error": static}] * 3,
        "motion_px": {
            "total_rms": total,
            "total_max": 2 * total,
            "per_interval_max": step,
            "per_interval_95": [0.8 * step] * 8,
            "per_exposure_95": 0.4 * step,
            "resolution": 0.8,
        },
        **changes,
    }


def codes(entry):
    return [(r["severity"], r["code"]) for r in entry["reasons"]]


def test_a_good_fit_passes():
    entry = verdict(record(error=1.1, static=2.0))
    assert (entry["status"], entry["reasons"]) == ("pass", [])
    assert entry["residual_noise_units"] == pytest.approx(0.85)
    assert entry["held_out_error"] == pytest.approx(1.1)
    assert entry["held_out_ratio_to_static"] == pytest.approx(0.55)
    assert entry["motion_px_per_interval"] == 0.5


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"residual": trust.RESIDUAL_WARN + 0.01}, ("warn", "residual")),
        ({"residual": trust.RESIDUAL_FAIL + 0.01}, ("fail", "residual")),
        ({"residual": trust.DEEP * trust.RESIDUAL_WARN + 0.01, "planes": 8}, ("warn", "residual")),
        ({"residual": trust.DEEP * trust.RESIDUAL_FAIL + 0.01, "planes": 8}, ("fail", "residual")),
        ({"residual": 0.5}, ("warn", "overfitted")),
        ({"start": {"motion_sliding_levels": 2}}, ("warn", "slides")),
        (
            {"start": {"motion_sliding_levels": 2}, "regions": [{**REGION, "share": 0.9, "slides": True}]},
            ("warn", "slides"),
        ),
        ({"step": 2.0, "motion_px": {"per_interval_max": 2.5, "per_interval_95": [1.0]}}, ("warn", "fast")),
        ({"motion_px": {"per_interval_max": 6.0, "per_interval_95": [1.0, 5.0]}}, ("fail", "too_fast")),
        ({"motion_px": {"per_exposure_95": 0.9, "resolution": 0.8}}, ("warn", "moves_in_exposure")),
        ({"blurred_frames": [{"frame": 3, "length_px": 2.0, "direction_deg": 45.0}]}, ("warn", "blurred_frames")),
        ({"seeds": {"fits": 4, "motion_px": 0.7}}, ("warn", "seeds")),
        ({"error": 2.5, "static": 5.0}, ("warn", "held_out")),
        ({"error": 5.0, "static": 9.0}, ("fail", "held_out")),
        ({"error": 1.2, "static": 1.1}, ("warn", "worse_than_static")),
        ({"error": 1.4, "static": 1.0}, ("fail", "worse_than_static")),
        ({"residual_noise_units": [None] * 9}, ("warn", "noise_unknown")),
        ({"residual_noise_units": [0.8] * 8 + [1.2]}, ("warn", "outlier_frame")),
        ({"regions": [{**REGION, "share": 0.2}]}, ("warn", "lost_region")),
        ({"regions": [{**REGION, "share": 0.9}]}, ("warn", "lost")),
        ({"regions": [{**REGION, "share": 0.9, "frames": list(range(7))}]}, ("fail", "lost")),
    ],
)
def test_each_ground_of_doubt(changes, expected):
    entry = verdict(record(**changes))
    assert codes(entry) == [expected]
    assert entry["status"] == expected[0]


def test_a_frame_that_was_left_out_does_not_shift_the_numbers_of_others():
    (told,) = verdict(record(residual_noise_units=[None, 0.8, 0.8, 0.8, 1.2]))["reasons"]
    assert told["message"].startswith("frame 4 ")


def test_a_volume_that_takes_no_noise_for_structure_passes():
    assert verdict(record(residual=1.04, planes=8))["status"] == "pass"


def test_a_still_sample_need_not_beat_the_static_model():
    assert verdict(record(error=1.4, static=1.0, total=0.1, step=0.02))["status"] == "pass"


def test_regions_that_only_sliding_parts_explain_are_told_with_their_place_and_frames():
    slid = {**REGION, "slides": True}
    (told,) = verdict(record(start={"motion_sliding_levels": 2}, regions=[slid, {**slid, "frames": [2]}]))["reasons"]
    assert told["message"].startswith(
        "frame(s) 2, 6, 7 are explained only by parts that slide past each other in the marked region (0.5 x 0.7 um "
        "around (y, x) = (1.0, 2.0) um) and 1 more marked regions: "
    )
    (told,) = verdict(record(start={"motion_sliding_levels": 2}))["reasons"]  # asked for, nothing else was tried
    assert told["message"].startswith("the frames are explained with grids for parts that slide past each other: ")


def test_a_lost_region_is_told_with_its_place_its_frames_and_its_motion():
    entry = verdict(record(regions=[REGION]))
    assert entry["regions"][0]["outline_um"] == REGION["outline_um"]
    assert entry["reasons"][0]["message"] == (
        "between frames 6 and 7 the sample moved 3.1 px in the marked region (0.5 x 0.7 um around (y, x) = (1.0, 2.0) "
        "um); frame(s) 6, 7 are not explained there (4.2 times the noise): do not read structure there"
    )
    unknown = verdict(record(regions=[{**REGION, "motion_px": None, "between_frames": None, "planes": [2, 3]}]))
    assert unknown["reasons"][0]["message"] == (
        "frame(s) 6, 7 are not explained in the marked region (0.5 x 0.7 um around (y, x) = (1.0, 2.0) um, plane(s) 2, "
        "3), 4.2 times the noise: structure appeared or vanished, or its motion was not found; "
        "do not read structure there"
    )


def test_of_many_regions_the_worst_are_told_and_the_others_counted():
    entry = verdict(record(regions=[{**REGION, "centre_um": [1.0 + i, 2.0]} for i in range(5)]))
    assert [code for _, code in codes(entry)] == ["lost_region"] * 3 + ["lost_regions"]
    assert entry["reasons"][-1]["message"].startswith("2 more marked regions")
    _, reasons = verdict_of_sample([entry])
    assert [r["code"] for r in reasons] == ["lost_region", "lost_regions"]
    assert reasons[0]["message"].endswith("(and 2 more like this)")


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
    fine, doubtful = verdict(record()), verdict(record(residual=1.1))
    failed = verdict({"index": 1, "status": "fail", "reasons": []})
    assert verdict_of_sample([fine, fine]) == ("pass", [])
    status, reasons = verdict_of_sample([fine, doubtful, failed])
    assert status == "warn"
    assert reasons[0]["message"] == "do not believe acquisition(s) 1"
    assert all(r["severity"] == "warn" for r in reasons)
    assert verdict_of_sample([failed])[0] == "fail"
    assert verdict_of_sample([])[0] == "fail"


def test_learned_iterations_that_differ_from_conjugate_gradients():
    limit = trust.DISAGREEMENT_WARN
    assert disagreement_reasons("ubsim", []) == []
    assert disagreement_reasons("ubsim", [0.01, limit]) == []
    (found,) = disagreement_reasons("ubsim", [0.01, limit + 0.02])
    assert (found["severity"], found["code"]) == ("warn", "solvers_differ")
    assert "ubsim differs by up to 12% from conjugate gradients, in 2 windows solved by both" in found["message"]


@pytest.mark.parametrize("missing", [float("nan"), None])
def test_windows_that_could_not_be_compared_are_told(missing):
    (found,) = disagreement_reasons("ubsim", [0.01, missing])
    assert (found["severity"], found["code"]) == ("warn", "solvers_not_compared")
    assert "could not be compared with conjugate gradients in 1 of 2 windows" in found["message"]
    both = disagreement_reasons("ubsim", [missing, 0.5])
    assert [r["code"] for r in both] == ["solvers_not_compared", "solvers_differ"]
    assert "up to 50% from conjugate gradients, in 1 windows" in both[1]["message"]


def test_a_sample_that_moves_within_the_windows_that_take_it_to_be_at_rest():
    """A window of half an acquisition sees half of its motion; the finest detail measures 0.8 pixels."""
    stores = {"conventional": {"at_rest": 0.5}, "ubsim": {"at_rest": 0.25}, "widefield": {}}
    still, moving = record(total=1.6), record(total=3.0) | {"index": 4}
    assert window_reasons({"widefield": {}}, [moving]) == [], "no store takes it to be at rest"
    assert window_reasons(stores, [still, {"index": 3}]) == [], "not more than the detail, and not known"
    (found,) = window_reasons(stores, [still, moving, record(total=2.0) | {"index": 5}])
    assert (found["severity"], found["code"]) == ("warn", "moves_in_window")
    assert found["message"].startswith(
        "in acquisition(s) 4, 5 the sample moves within a window, in acquisition 4 by 1.5 camera pixels where the "
        "finest detail measures 0.8: conventional, ubsim take it to be at rest and are blurred"
    )
