"""How far a reconstruction can be believed, from what it did not explain and what it could not predict.

The thresholds come from simulated SIM of a moving network. A fit that found the motion left residuals of 0.94
(true illumination) to 1.08 (illumination estimated from the moving frames) of the noise, a static fit 2.8. A fit
that loses a motion may still come down to 1.05: the residual alone does not tell, the held-out frames do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nstm.quality.reasons import Reason, counted, reason, status_of

#: Residual, rms in units of the noise: something is left over; most of what moved is not explained.
RESIDUAL_WARN, RESIDUAL_FAIL = 1.1, 1.5
#: Residual below which noise has been fitted as if it were structure.
RESIDUAL_OVERFITTED = 0.7
#: Largest single frame relative to the mean over frames: one frame does not fit the others.
FRAME_OUTLIER = 1.5
#: Error of predicting frames that the fit did not see, rms in units of the noise.
HELD_OUT_WARN, HELD_OUT_FAIL = 1.5, 3.0
#: The same relative to the error of the static model on the same frames.
RATIO_WARN, RATIO_FAIL = 1.02, 1.25
#: Displacement between neighbouring frames, camera pixels.
STEP_WARN, STEP_FAIL = 2.0, 4.0
#: Total displacement (rms, camera pixels) below which a sample counts as still.
STILL_PX = 0.3


def verdict(record: Mapping[str, Any]) -> dict[str, Any]:
    """Judge the reconstruction of one acquisition.

    Args:
        record: the acquisition's entry in its job store.

    Returns:
        The entry of ``trust.json``: ``index, status, reasons, residual_noise_units`` (rms over frames),
        ``held_out_error`` (rms, noise units), ``held_out_ratio_to_static, motion_px_per_interval``;
        None for what was not measured.
    """
    reasons = [dict(r) for r in record.get("reasons") or []]
    residuals = _finite(record.get("residual_noise_units"))
    held_out, static = _held_out(record.get("held_out") or [])
    motion = record.get("motion_px") or {}
    step = _number(motion.get("per_interval_max"))
    ratio = held_out / static if held_out is not None and static else None
    entry = {
        "index": record.get("index"),
        "residual_noise_units": _rms(residuals),
        "held_out_error": held_out,
        "held_out_ratio_to_static": ratio,
        "motion_px_per_interval": step,
    }
    if record.get("status") != "fail":  # what failed has its own reasons and no figures
        reasons += _residual_reasons(residuals)
        reasons += _held_out_reasons(held_out, ratio, _number(motion.get("total_rms")))
        reasons += _step_reasons(step)
    elif not any(r.get("severity") == "fail" for r in reasons):
        reasons.append(reason("fail", "not_reconstructed", "this acquisition was not reconstructed"))
    return {**entry, "status": status_of(reasons), "reasons": reasons}


def verdict_of_sample(entries: Sequence[Mapping[str, Any]]) -> tuple[str, list[Reason]]:
    """One verdict for a sample: it fails only if every acquisition does."""
    failed = [e["index"] for e in entries if e["status"] == "fail"]
    reasons: list[Reason] = []
    if not entries or len(failed) == len(entries):
        why = next(
            (r["message"] for e in entries for r in e["reasons"] if r["severity"] == "fail"), "nothing was fitted"
        )
        return "fail", [reason("fail", "no_acquisition", f"no acquisition can be believed: {why}")]
    if failed:
        reasons.append(reason("warn", "acquisitions_failed", f"do not believe acquisition(s) {counted(failed)}"))
    seen: dict[str, tuple[list[int], str]] = {}
    for entry in entries:
        for r in entry["reasons"]:
            seen.setdefault(r["code"], ([], r["message"]))[0].append(entry["index"])
    for code, (indices, message) in seen.items():
        where = counted(sorted(set(indices)))
        reasons.append(reason("warn", code, f"acquisition(s) {where}: {message}"))
    return status_of(reasons), reasons


def _residual_reasons(residuals: np.ndarray) -> list[Reason]:
    if residuals.size == 0:
        text = "the noise is unknown (the camera samples too coarsely to show it), so the residual says nothing"
        return [reason("warn", "noise_unknown", text)]
    mean, worst = float(_rms(residuals) or 0), float(residuals.max())
    if mean > RESIDUAL_FAIL:
        text = (
            f"the frames differ from the fit by {mean:.2f} times the noise: the motion or the illumination was not "
            "found and this acquisition cannot be recovered as it was fitted; do not interpret it"
        )
        return [reason("fail", "residual", text)]
    if mean > RESIDUAL_WARN:
        text = (
            f"the frames differ from the fit by {mean:.2f} times the noise: part of what happened is not explained "
            "(fast or appearing structure, or a lost motion); do not believe fine detail where it moves"
        )
        return [reason("warn", "residual", text)]
    if worst > FRAME_OUTLIER * mean:
        text = (
            f"frame {int(residuals.argmax())} (counted from 0) differs from the fit by {worst:.2f} times the noise, "
            "far more than the others: look for a jump, a flash or a wrong phase there"
        )
        return [reason("warn", "outlier_frame", text)]
    if mean < RESIDUAL_OVERFITTED:
        text = (
            f"the frames differ from the fit by only {mean:.2f} times the noise: noise was fitted as structure; "
            "use fewer steps and do not believe the finest detail"
        )
        return [reason("warn", "overfitted", text)]
    return []


def _held_out_reasons(error: float | None, ratio: float | None, total_px: float | None) -> list[Reason]:
    reasons: list[Reason] = []
    if error is None:
        return reasons
    if error > HELD_OUT_WARN:
        text = (
            f"frames that the fit did not see are predicted only to {error:.2f} times the noise: between the frames "
            "the result is a guess"
        )
        reasons.append(reason("fail" if error > HELD_OUT_FAIL else "warn", "held_out", text))
    if ratio is not None and ratio > RATIO_WARN and (ratio > RATIO_FAIL or (total_px or 0) > STILL_PX):
        text = (
            f"unseen frames are predicted {ratio:.2f} times as badly as by a sample that does not move: the motion "
            "found is not real or not right; use the static result or the conventional one"
        )
        reasons.append(reason("fail" if ratio > RATIO_FAIL else "warn", "worse_than_static", text))
    return reasons


def _step_reasons(step: float | None) -> list[Reason]:
    if step is None or step <= STEP_WARN:
        return []
    if step > STEP_FAIL:
        text = (
            f"somewhere the sample moves {step:.1f} camera pixels from frame to frame, more than can be followed: "
            "such a motion cannot be recovered; record faster"
        )
        return [reason("fail", "too_fast", text)]
    text = (
        f"somewhere the sample moves {step:.1f} camera pixels from frame to frame: look at the fastest places with care"
    )
    return [reason("warn", "fast", text)]


def _held_out(entries: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    """Root mean square of the errors and of the static model's on the same frames."""
    both = [(_number(e.get("error")), _number(e.get("static_error"))) for e in entries]
    errors = np.array([a for a, _ in both if a is not None])
    static = np.array([b for a, b in both if a is not None and b is not None])
    return _rms(errors), _rms(static) if static.size == errors.size else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


def _finite(values: Any) -> np.ndarray:
    return np.array([v for v in (_number(v) for v in values or []) if v is not None], dtype=np.float64)


def _rms(values: np.ndarray) -> float | None:
    return float(np.sqrt(np.mean(values**2))) if values.size else None
