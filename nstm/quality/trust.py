"""How far a reconstruction can be believed, from what it did not explain and what it could not predict.

The thresholds come from 60 simulated fits (two- and three-beam SIM of networks and filaments, 64 and 128 pixels, 60 to
2000 photons; still, drifting, turning, swirling, deforming, vibrating, jumping or appearing structure). Equalised PSNR
against the truth tells which of them found the motion:

======================================  ==============  =============================
quantity, in units of the noise         found, > 34 dB  lost in a part; altogether
======================================  ==============  =============================
residual within the passband            0.81 to 0.92    0.86 to 1.12; 1.03 to 2.7
the same in the worst window            1.2 to 1.54     1.6 to 4.7; 2.1 to 8.0
frames held out                         1.2 to 1.9      1.8 to 3.3; 2.8 to 10
======================================  ==============  =============================

The motion over an acquisition spread by 0.06 to 0.10 pixels over fits with fresh noise where it was found, and by 0.07
to 0.25 where it was lost: a small spread says that chance decides nothing, not that the motion is right.

The mean over the field does not see a lost region, the windows do. Frames blurred by 2 pixels or more during their
exposure had 7 or more standard errors, no frame of a found fit had more than 3. Not seen by any of these: a whole
sample that swirls so far that its border was never recorded twice (31 dB), and a blur that all frames share. A fit of a
volume takes hardly any of the noise for structure: 0.99 to 1.04 where the motion was found, up to 1.7 in the worst
window, so its limits of the residual are a tenth higher. Where
there is so much light that the noise is far below the details of the model (bright DPC, 2 % noise), a fit with the
right motion may leave several times the noise: the verdict is then too strict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nstm.quality.reasons import Reason, counted, reason, status_of
from nstm.spacetime.residual import DEEP

#: Residual of a plane within the passband, rms in units of the noise: something is left over; the motion was not found.
RESIDUAL_WARN, RESIDUAL_FAIL = 1.0, 1.2
#: Residual below which noise has been fitted as if it were structure.
RESIDUAL_OVERFITTED = 0.6
#: Largest single frame relative to the mean over frames: one frame does not fit the others.
FRAME_OUTLIER = 1.3
#: Share of the field and of the frames above which what is lost is the sample, not a region of it.
LOST_SHARE = 0.5
#: Regions that are described one by one.
MOST_REGIONS = 3
#: Error of predicting frames that the fit did not see, rms in units of the noise.
HELD_OUT_WARN, HELD_OUT_FAIL = 2.2, 4.5
#: The same relative to the error of the static model on the same frames, where the sample moves.
RATIO_WARN, RATIO_FAIL = 1.02, 1.25
#: Displacement between neighbouring frames, camera pixels: at the fastest places, and of a twentieth of the field.
STEP_WARN, STEP_FAIL = 2.0, 4.0
#: Total displacement (rms, camera pixels) below which a sample counts as still.
STILL_PX = 0.3
#: Difference of learned iterations from conjugate gradients as the objective sees it, a share of these, above which
#: neither is to be believed; on images that the network was not trained on, 0.011 to 0.015.
DISAGREEMENT_WARN = 0.1
#: Spread of the total displacement over fits with fresh noise, rms, camera pixels.
SPREAD_WARN_PX = 0.2


def verdict(record: Mapping[str, Any]) -> dict[str, Any]:
    """Judge the reconstruction of one acquisition.

    Args:
        record: the acquisition's entry in its job store.

    Returns:
        The entry of ``trust.json``: ``index, status, reasons, residual_noise_units`` (rms over frames, within the
        passband), ``held_out_error`` (rms, noise units), ``held_out_ratio_to_static, motion_px_per_interval``,
        ``motion_px`` (displacements in camera pixels between frames and in an exposure, and the ``resolution``, half
        a period at the cutoff), ``regions`` that were lost, with outlines in um
        (:func:`nstm.spacetime.residual.lost_regions`), or are explained only by parts that slide past each other
        (``slides``), ``blurred_frames`` and the spread over ``seeds``; None or empty for what was not measured.
    """
    reasons = [dict(r) for r in record.get("reasons") or []]
    residuals = _finite(record.get("residual_noise_units"))
    held_out, static = _held_out(record.get("held_out") or [])
    motion = record.get("motion_px") or {}
    step = _number(motion.get("per_interval_max"))
    ratio = held_out / static if held_out is not None and static else None
    regions, blurred = list(record.get("regions") or []), list(record.get("blurred_frames") or [])
    slid = [region for region in regions if region.get("slides")]
    entry = {
        "index": record.get("index"),
        "residual_noise_units": _rms(residuals),
        "held_out_error": held_out,
        "held_out_ratio_to_static": ratio,
        "motion_px_per_interval": step,
        "motion_px": dict(motion),
        "regions": regions,
        "blurred_frames": blurred,
        "seeds": record.get("seeds"),
    }
    if record.get("status") != "fail":  # what failed has its own reasons and no figures
        usual = DEEP if record.get("planes", 1) > 1 else 1.0
        reasons += _residual_reasons(record.get("residual_noise_units") or [], usual)
        reasons += _region_reasons([region for region in regions if not region.get("slides")], len(residuals))
        reasons += _held_out_reasons(held_out, ratio, _number(motion.get("total_rms")))
        reasons += _sliding_reasons(record.get("start") or {}, slid) + _step_reasons(motion)
        reasons += _blur_reasons(motion, blurred)
        reasons += _seed_reasons(record.get("seeds") or {})
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
    by_code: dict[str, list[tuple[int, str]]] = {}
    for entry in entries:
        for r in entry["reasons"]:
            by_code.setdefault(r["code"], []).append((entry["index"], r["message"]))
    for code, told in by_code.items():
        where = sorted({index for index, _ in told})
        first = ", the first" if len(where) > 1 else ""
        more = len({m for index, m in told if index == told[0][0]}) - 1
        text = f"acquisition(s) {counted(where)}{first}: {told[0][1]}" + (
            f" (and {more} more like this)" if more else ""
        )
        reasons.append(reason("warn", code, text))
    return status_of(reasons), reasons


def _residual_reasons(of_frames: Sequence[Any], usual: float) -> list[Reason]:
    residuals = _finite(of_frames)
    if residuals.size == 0:
        text = "the noise is unknown (the camera samples too coarsely to show it), so the residual says nothing"
        return [reason("warn", "noise_unknown", text)]
    mean, worst = float(_rms(residuals) or 0), float(residuals.max())
    if mean > RESIDUAL_FAIL * usual:
        text = (
            f"the frames differ from the fit by {mean:.2f} times the noise: the motion or the illumination was not "
            "found and this acquisition cannot be recovered as it was fitted; do not interpret it"
        )
        return [reason("fail", "residual", text)]
    if worst > FRAME_OUTLIER * mean:
        number = next(i for i, value in enumerate(of_frames) if _number(value) == worst)
        text = (
            f"frame {number} (counted from 0) differs from the fit by {worst:.2f} times the noise, "
            f"all frames together by {mean:.2f}: look for a jump, a flash, a shake or a wrong phase there"
        )
        return [reason("warn", "outlier_frame", text)]
    if mean > RESIDUAL_WARN * usual:
        text = (
            f"the frames differ from the fit by {mean:.2f} times the noise: part of what happened is not explained "
            "(fast or appearing structure, or a lost motion); do not believe fine detail where it moves"
        )
        return [reason("warn", "residual", text)]
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
    if ratio is not None and ratio > RATIO_WARN and (total_px or 0) > STILL_PX:
        text = (
            f"unseen frames are predicted {ratio:.2f} times as badly as by a sample that does not move: the motion "
            "found is not real or not right; use the static result or the conventional one"
        )
        reasons.append(reason("fail" if ratio > RATIO_FAIL else "warn", "worse_than_static", text))
    return reasons


def _region_reasons(regions: Sequence[Mapping[str, Any]], frames: int) -> list[Reason]:
    """Where the fit is lost: the sample as a whole, or the worst regions by name."""
    lost = sorted({frame for region in regions for frame in region["frames"]})
    share = sum(region["share"] for region in regions)
    if share > LOST_SHARE:
        most = max(region["residual_noise_units"] for region in regions)
        every = len(lost) > LOST_SHARE * frames
        text = f"over {share:.0%} of the field frame(s) {counted(lost)} differ from the fit by up to {most:.1f} times "
        text += "the noise: " + (
            "the motion was not found and this acquisition cannot be recovered as it was fitted; do not interpret it"
            if every
            else "do not believe the result at their times"
        )
        return [reason("fail" if every else "warn", "lost", text)]
    reasons = [reason("warn", "lost_region", _region_text(region)) for region in regions[:MOST_REGIONS]]
    if len(regions) > MOST_REGIONS:
        text = f"{len(regions) - MOST_REGIONS} more marked regions are not explained either; trust.json lists them"
        reasons.append(reason("warn", "lost_regions", text))
    return reasons


def _place(region: Mapping[str, Any]) -> str:
    """A region that movie and figures outline."""
    (height, width), (y, x) = region["size_um"], region["centre_um"]
    planes = f", plane(s) {counted(region['planes'])}" if len(region["planes"]) > 1 or any(region["planes"]) else ""
    return f"the marked region ({height:.1f} x {width:.1f} um around (y, x) = ({y:.1f}, {x:.1f}) um{planes})"


def _region_text(region: Mapping[str, Any]) -> str:
    """What happened in a region, and what not to do there."""
    where, step, between = _place(region), _number(region.get("motion_px")), region.get("between_frames")
    frames, most = counted(region["frames"]), f"{region['residual_noise_units']:.1f} times the noise"
    if step is not None and step >= 1 and between:
        first, last = sorted(between)
        why = f"between frames {first} and {last} the sample moved {step:.1f} px in {where}; frame(s) {frames}"
        return f"{why} are not explained there ({most}): do not read structure there"
    why = "structure appeared or vanished, or its motion was not found"
    return f"frame(s) {frames} are not explained in {where}, {most}: {why}; do not read structure there"


def _sliding_reasons(start: Mapping[str, Any], regions: Sequence[Mapping[str, Any]]) -> list[Reason]:
    """Where, and in which frames, only parts that slide past each other explain what was seen."""
    if not start.get("motion_sliding_levels"):
        return []
    would = "structure that appears, fades or switches would be explained so too, wrongly"
    compare = "compare with reconstruction.brightness_terms = 3"
    if not regions:
        text = f"the frames are explained with grids for parts that slide past each other: {would}; {compare}"
        return [reason("warn", "slides", text)]
    more = f" and {len(regions) - 1} more marked regions" if len(regions) > 1 else ""
    lost = counted(sorted({frame for region in regions for frame in region["frames"]}))
    text = (
        f"frame(s) {lost} are explained only by parts that slide past each other in {_place(regions[0])}{more}: "
        f"{would}; do not read structure there unless parts are known to slide, and {compare}"
    )
    return [reason("warn", "slides", text)]


def _step_reasons(motion: Mapping[str, Any]) -> list[Reason]:
    """Displacement between neighbouring frames against what fits can follow."""
    fastest, usual = _number(motion.get("per_interval_max")), _finite(motion.get("per_interval_95"))
    if usual.size and usual.max() > STEP_FAIL:
        text = (
            f"a twentieth of the sample moves {usual.max():.1f} camera pixels or more from one frame to the next "
            f"(number {int(usual.argmax())} in time, from 0), more than can be followed: such a motion cannot be "
            "recovered; record faster"
        )
        return [reason("fail", "too_fast", text)]
    if fastest is None or fastest <= STEP_WARN:
        return []
    text = (
        f"somewhere the sample moves {fastest:.1f} camera pixels from frame to frame: look at the fastest places with "
        "care"
    )
    return [reason("warn", "fast", text)]


def _blur_reasons(motion: Mapping[str, Any], blurred: Sequence[Mapping[str, Any]]) -> list[Reason]:
    """Motion during exposures: where it is more than the finest detail, and what the frames themselves show of it."""
    reasons: list[Reason] = []
    during, resolution = _number(motion.get("per_exposure_95")), _number(motion.get("resolution"))
    if during is not None and resolution is not None and during > resolution:
        text = (
            f"the sample moves up to {during:.1f} camera pixels during an exposure, the finest detail measures "
            f"{resolution:.1f}: along the motion, detail below {during:.1f} camera pixels is blurred away"
        )
        reasons.append(reason("warn", "moves_in_exposure", text))
    if blurred:
        worst = max(blurred, key=lambda b: b["length_px"])
        text = (
            f"frame(s) {counted(b['frame'] for b in blurred)} are blurred, the worst by {worst['length_px']:.1f} "
            f"camera pixels at {worst['direction_deg']:.0f} degrees (from x towards y): the sample moved, shook or "
            "lost focus during these exposures; do not believe fine detail at their times"
        )
        reasons.append(reason("warn", "blurred_frames", text))
    return reasons


def _seed_reasons(seeds: Mapping[str, Any]) -> list[Reason]:
    spread = _number(seeds.get("motion_px"))
    if spread is None or spread <= SPREAD_WARN_PX:
        return []
    text = (
        f"{seeds.get('fits')} fits with fresh noise differ by {spread:.1f} camera pixels (rms) in the motion over the "
        "acquisition: chance decides what is found; do not measure displacements here"
    )
    return [reason("warn", "seeds", text)]


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


def disagreement_reasons(name: str, disagreement: Sequence[float | None]) -> list[Reason]:
    """What to say of a result of which some windows were also solved by an independent method.

    Args:
        name: of its store.
        disagreement: difference from conjugate gradients in every such window, a share of these; NaN where there is
            none because one of the two is not finite.
    """
    compared, reasons = _finite(disagreement), []
    if compared.size < len(disagreement):
        text = (
            f"{name} could not be compared with conjugate gradients in {len(disagreement) - compared.size} of "
            f"{len(disagreement)} windows solved by both: one of the two is not finite; do not use these windows"
        )
        reasons.append(reason("warn", "solvers_not_compared", text))
    worst = float(compared.max(initial=0))
    if worst > DISAGREEMENT_WARN:
        text = (
            f"{name} differs by up to {worst:.0%} from conjugate gradients, in {compared.size} windows solved by both: "
            "the network does not suit these frames; use an iterative solver, or train on structures like these"
        )
        reasons.append(reason("warn", "solvers_differ", text))
    return reasons


def window_reasons(stores: Mapping[str, Mapping[str, Any]], records: Sequence[Mapping[str, Any]]) -> list[Reason]:
    """Whether the sample moves by more than the resolution within the windows that take it to be at rest.

    Args:
        stores: attributes of the time-lapse stores by name; those made of frames under unknown light have ``at_rest``,
            the share of an acquisition that a window covers.
        records: of the fits, which know the motion.
    """
    names = [name for name, about in stores.items() if about.get("at_rest")]
    if not names:
        return []
    share = max(float(stores[name]["at_rest"]) for name in names)
    motions = [(r["index"], r.get("motion_px") or {}) for r in records]
    moved = [(i, _number(m.get("total_rms")), _number(m.get("resolution"))) for i, m in motions]
    fast = [(i, share * step, finest) for i, step, finest in moved if step and finest and share * step > finest]
    if not fast:
        return []
    index, step, finest = max(fast, key=lambda found: found[1])
    text = (
        f"in acquisition(s) {counted(i for i, _, _ in fast)} the sample moves within a window, in acquisition {index} "
        f"by {step:.1f} camera pixels where the finest detail measures {finest:.1f}: {', '.join(names)} take it to be "
        "at rest and are blurred; use fewer frames (window.frames) or nstm"
    )
    return [reason("warn", "moves_in_window", text)]
