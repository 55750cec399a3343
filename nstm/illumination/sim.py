"""Illumination of structured illumination microscopy: pattern vectors, phases, modulation and how far to trust them.

A *calibration* is a JSON-able dict. Lists run over orientations (``angle``), then phases or orders:

``status``, ``reasons``        pass | warn | fail, and why, in plain words
``angle_status``               the same per orientation
``pattern_vectors``            ``[ky, kx]``, cycles/um, of order 1 (three beams: the finest order is twice that)
``phases``                     rad, order 1, at the centre of camera pixel (0, 0)
``modulation``                 one number per order
``intensity``                  relative intensity of each frame, mean 1 over the acquisition
``overlap_correlation``        correlation of each order with band 0 where they overlap, noise included
``peak_ratio``                 power of the found match over the next best one (one number, repeated per order)
``peak_strength``              power of the found match over the mean of chance matches
``vector_error``               standard error of the finest order's vector, bins: how parts of the field agree on it
``phases_fitted``              False: equal phase steps fitted as well and were kept
``axial_phase``                rad, of order 1 of a three-beam stack along z, in the focal plane; else, and if small, 0
``field_um``                   height and width of the field

so that frame (a, p) is lit by ``intensity (1 + sum_o m_o cos(o (2 pi k.r + phase)))``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nstm.acquisition import DataError
from nstm.illumination.axial import axial_phase
from nstm.illumination.bands import Detection, Peak, find_peak, nominal_phases
from nstm.illumination.consensus import consensus, with_consensus
from nstm.illumination.fit import Orientation, OrientationFit
from nstm.optics.lens import Lens

__all__ = ["consensus", "estimate", "with_consensus"]

#: Pattern frequencies that are searched, finest order, in units of the detection cut-off. Excitation is shorter
#: than emission, so a two-beam pattern through the same objective may lie beyond the cut-off.
SEARCH = (0.3, 1.3)
#: Frequency of the finest pattern, in the same units, by which it is looked for in a stack.
GUESS = 0.85
#: Chance matches of noise, and of a moving sample without a pattern, reach strength 30 or ratio 1.8 in 150 trials,
#: never both; a pattern that can be used has a strength of some hundred.
FAIL_STRENGTH, WARN_STRENGTH = 30.0, 60.0
FAIL_RATIO, WARN_RATIO = 1.5, 2.5
#: Correlation of all orders with band 0 that leaves no doubt: without a pattern it stays below 0.5.
CLEAR_CORRELATION = 0.7
#: Standard error of a vector, bins. A reconstruction loses 1 dB to .03 bins, 7 dB to .1; of 551
#: simulated orientations in fields of 96 pixels none that passed was more than .081 off (with .05 two were, by .11 and
#: .15), and 1 of 98 in fields of 256 pixels is warned of.
WARN_VECTOR, FAIL_VECTOR = 0.035, 0.3
FAIL_MODULATION, WARN_MODULATION = 0.05, 0.2
#: Modulation of each order above which something is wrong. Light reaches 1, order 1 of three beams sqrt(2): beams of
#: amplitudes 1, x, 1 give ``x^2 + 2 + 4 x cos + 2 cos`` (Gustafsson et al., Biophys. J. 94, 4957, 2008).
HIGH_MODULATION = {1: (1.2,), 2: (1.7, 1.2)}
#: An axial phase below this is taken as 0, rad: a stack of 1 um tells it no better, and it costs 1 % of order 1.
AXIAL_PHASE_RAD = 0.15
#: Vectors of the orientations of one instrument have nearly the same length.
LENGTH_SPREAD = 0.06
#: Scatter of the frames' means about one rate of bleaching above which the light itself flickers (relative).
FLICKER = 0.04

Reason = dict[str, str]


def estimate(
    frames: np.ndarray,
    *,
    beams: int,
    pattern_vectors: Sequence[Sequence[float]] | None = None,
    fit_phases: bool = True,
    **optics: Any,
) -> dict[str, Any]:
    """Estimate the illumination of one acquisition of a plane or a stack; no guess is needed.

    Band separation and the match of the bands follow Gustafsson (2000), weighting and fit see
    :mod:`nstm.illumination.bands` and :mod:`nstm.illumination.fit`.

    Args:
        frames: ``(angle, phase, y, x)`` or ``(angle, phase, z, y, x)``, counts with the camera offset removed.
        beams: 2 (one order) or 3 (two orders, the second at twice the vector).
        pattern_vectors: known vectors ``[ky, kx]`` (cycles/um, order 1); given, they are not searched nor refined.
        fit_phases: False keeps equal phase steps and the intensities of the frame means.
        **optics: of :class:`nstm.optics.lens.Lens`; of a stack also what only volumes need.

    Returns:
        The calibration (see the module). A pattern that is not found is reported as such: its numbers stand as
        they came out, ``status`` is ``fail`` and nothing is substituted.

    Raises:
        DataError: the shape or the values of ``frames`` do not allow an estimate.
    """
    frames = _checked(frames, beams)
    orders, lens = beams - 1, Lens(**optics)
    detection = Detection.of(frames.shape[-3:], lens, orders, GUESS * lens.cutoff / orders)
    overall = float(frames.mean(dtype=np.float64))
    trend = _trend(frames.mean(axis=(-3, -2, -1), dtype=np.float64))
    rows: list[dict[str, Any]] = []
    reasons: list[Reason] = []
    for angle, images in enumerate(frames):
        means = images.mean(axis=(-3, -2, -1), dtype=np.float64)
        if means.min() <= 0 or overall <= 0:
            rows.append(_dark_row(images.shape[0], orders))
            found = [_reason("fail", "dark", f"orientation {angle}: {_DARK}")]
        else:
            known = None if pattern_vectors is None else np.asarray(pattern_vectors[angle], float)
            row, peak = _orientation(images, detection, lens, orders, trend[angle], known, fit_phases)
            row["intensity"] = [float(v) for v in np.array(row["intensity"]) * means.mean() / overall]
            rows.append(row)
            found = _judge(angle, row, peak)
        rows[-1]["angle_status"] = _worst(found)
        reasons += found
    calibration = {key: [row[key] for row in rows] for key in rows[0]}
    light = float(np.mean(calibration["intensity"]))
    calibration["intensity"] = [[v / light for v in row] for row in calibration["intensity"]]
    reasons += _judge_together(calibration, detection)
    return {
        "status": _worst(reasons),
        "reasons": reasons,
        **calibration,
        "beams": beams,
        "field_um": [float(n * lens.pixel_um) for n in detection.shape],
        "cutoff_per_um": detection.cutoff,
    }


_DARK = (
    "a frame holds no light once the camera offset is removed: check camera.offset, "
    "and whether frames are missing or the order of the frames is right"
)


def _checked(frames: np.ndarray, beams: int) -> np.ndarray:
    if beams not in (2, 3):
        raise DataError(f"beams is {beams}, allowed: 2 or 3")
    if frames.ndim not in (4, 5):
        raise DataError(f"frames have shape {frames.shape}, expected (angle, phase, y, x) or (angle, phase, z, y, x)")
    needed = 2 * beams - 1
    if frames.shape[1] < needed:
        raise DataError(
            f"{frames.shape[1]} phases cannot separate {needed} bands: {beams}-beam SIM needs at least {needed} phases"
        )
    if min(frames.shape[-2:]) < 32:
        raise DataError(f"the field is {frames.shape[-2:]} pixel, at least 32 x 32 are needed to find a pattern")
    frames = np.asarray(frames, np.float32)
    if not np.all(np.isfinite(frames)):
        raise DataError("frames hold NaN or infinity: remove or repair those frames first")
    return frames if frames.ndim == 5 else frames[:, :, None]


def _trend(means: np.ndarray) -> np.ndarray:
    """Relative intensity of the frames within each orientation (angle, phase), mean 1, from the means of the frames.

    The sample's own content at the pattern's frequency moves the mean of a frame by a percent or so, whatever the
    light. So one rate of bleaching is fitted to all orientations, and only a lamp that flickers by more than
    :data:`FLICKER` is followed frame by frame.
    """
    log = np.log(np.maximum(means, 1e-12))
    log = log - log.mean(axis=1, keepdims=True)
    step = np.arange(means.shape[1]) - (means.shape[1] - 1) / 2
    bleached = np.broadcast_to(step * np.mean(log @ step) / (step @ step), log.shape)
    steady = np.std(log - bleached) <= FLICKER
    intensity = np.exp(bleached if steady else log)
    return intensity / intensity.mean(axis=1, keepdims=True)


def _orientation(
    images: np.ndarray,
    detection: Detection,
    lens: Lens,
    orders: int,
    intensity: np.ndarray,
    known: np.ndarray | None,
    fit_phases: bool,
) -> tuple[dict[str, Any], Peak | None]:
    """Numbers of one orientation; no peak where the vector was given."""
    prepared = Orientation(images, detection, orders, intensity)
    peak = None
    if known is None:
        limits = (SEARCH[0] * detection.cutoff, min(SEARCH[1] * detection.cutoff, lens.finest_pattern))
        peak = find_peak(prepared.bands(), detection, prepared.band_noise(0), limits)
        known = peak.k
    if images.shape[-3] > 1:
        prepared.detection = Detection.of(images.shape[-3:], lens, orders, float(np.hypot(*known)))
    fit = prepared.fit(known, refine=peak is not None, fit_phases=fit_phases)
    phase = 0.0
    if images.shape[-3] > 1 and orders == 2 and lens.measured is None:
        phase = axial_phase(prepared, images.shape[-3], lens, fit.k)
        if abs(phase) <= AXIAL_PHASE_RAD:
            phase = 0.0
        else:
            tilted = replace(lens, axial_phase_rad=phase)
            prepared.detection = Detection.of(images.shape[-3:], tilted, orders, float(np.hypot(*fit.k)))
            fit = prepared.fit(fit.k, refine=peak is not None, fit_phases=fit_phases)
    return {**_row(fit, peak, orders), "axial_phase": phase}, peak


def _row(fit: OrientationFit, peak: Peak | None, orders: int) -> dict[str, Any]:
    ratio = peak.ratio if peak else math.inf
    return {
        "pattern_vectors": [float(v) for v in fit.k],
        "phases": [float(v) for v in fit.phases],
        "modulation": [float(v) for v in fit.modulation],
        "intensity": [float(v) for v in fit.intensity],
        "overlap_correlation": [float(v) for v in fit.overlap_correlation],
        "peak_ratio": [float(min(ratio, 1e6))] * orders,
        "peak_strength": float(min(peak.strength * orders if peak else 1e6, 1e6)),
        "vector_error": float(min(fit.spread, 1e6)),
        "phases_fitted": bool(fit.phases_fitted),
    }


def _dark_row(phases: int, orders: int) -> dict[str, Any]:
    """Nothing was measured: zeros, so that they cannot be mistaken for an estimate."""
    return {
        "pattern_vectors": [0.0, 0.0],
        "phases": [float(v) for v in nominal_phases(phases)],
        "modulation": [0.0] * orders,
        "intensity": [1.0] * phases,
        "overlap_correlation": [0.0] * orders,
        "peak_ratio": [0.0] * orders,
        "peak_strength": 0.0,
        "vector_error": 1e6,
        "phases_fitted": False,
        "axial_phase": 0.0,
    }


def _reason(severity: str, code: str, message: str) -> Reason:
    return {"severity": severity, "code": code, "message": message}


def _worst(reasons: list[Reason]) -> str:
    severities = {r["severity"] for r in reasons}
    return "fail" if "fail" in severities else "warn" if "warn" in severities else "pass"


def _judge(angle: int, row: dict[str, Any], peak: Peak | None) -> list[Reason]:
    """What speaks against the estimate of one orientation."""
    name = f"orientation {angle}"
    if peak is not None:
        strength, ratio = row["peak_strength"], row["peak_ratio"][0]
        figures = f"match {strength:.0f} times chance, {ratio:.1f} times the next best"
        if strength < FAIL_STRENGTH or ratio < FAIL_RATIO:
            return [
                _reason(
                    "fail",
                    "pattern_not_found",
                    f"{name}: no illumination pattern was found ({figures}): too little light or contrast, or wrong "
                    "frames.order, pixel_um, na, emission_wavelength_um or beams",
                )
            ]
        clear = min(row["overlap_correlation"]) > CLEAR_CORRELATION
        if not clear and (strength < WARN_STRENGTH or ratio < WARN_RATIO):
            return [
                _reason(
                    "warn",
                    "pattern_weak",
                    f"{name}: the illumination pattern is weak ({figures}): compare its vector with other acquisitions",
                ),
                *_judge_modulation(name, row),
                *_judge_vector(name, row),
            ]
    found = _judge_modulation(name, row) + _judge_vector(name, row)
    if peak is not None and peak.ratio_mirrored < 1.5:
        found.append(
            _reason(
                "warn",
                "phase_steps",
                f"{name}: the phases do not step by a whole period over the frames, so the sign of the pattern vector "
                "is uncertain: check the number of phases and frames.order",
            )
        )
    return found


def _judge_vector(name: str, row: dict[str, Any]) -> list[Reason]:
    error = row["vector_error"]
    if error <= WARN_VECTOR:
        return []
    severity = "warn" if error <= FAIL_VECTOR else "fail"
    message = (
        f"{name}: the pattern vector is known to {error:.3f} frequency bins only ({WARN_VECTOR:g} would do): too "
        "little light, contrast or structure, or parts of the field that do not show the same pattern"
    )
    return [_reason(severity, "vector_uncertain", message)]


def _judge_modulation(name: str, row: dict[str, Any]) -> list[Reason]:
    found = []
    for order, m in enumerate(row["modulation"], 1):
        if m < FAIL_MODULATION:
            found.append(
                _reason(
                    "fail",
                    "no_modulation",
                    f"{name}: order {order} of the pattern has modulation {m:.2f}: it is not there; check beams "
                    "(2 or 3), and the polarisation and alignment of the microscope",
                )
            )
        elif m < WARN_MODULATION:
            found.append(
                _reason(
                    "warn",
                    "low_modulation",
                    f"{name}: order {order} of the pattern has modulation {m:.2f} only: expect noise at fine detail "
                    "(out-of-focus light, misalignment, or motion during the exposure)",
                )
            )
        elif m > HIGH_MODULATION[len(row["modulation"])][order - 1]:
            found.append(
                _reason(
                    "warn",
                    "high_modulation",
                    f"{name}: order {order} of the pattern has modulation {m:.2f}, more than light can have: check "
                    "na, emission_wavelength_um, pixel_um and camera.offset",
                )
            )
    return found


def _judge_together(calibration: dict[str, Any], detection: Detection) -> list[Reason]:
    """What the orientations of one acquisition say of each other; downgrades ``angle_status`` in place."""
    good = [a for a, status in enumerate(calibration["angle_status"]) if status != "fail"]
    vectors = {a: np.array(calibration["pattern_vectors"][a]) for a in good}
    reasons: list[Reason] = []
    for a in good:
        same = [b for b in good if b < a and _same_direction(vectors[a], vectors[b], detection)]
        if same:
            calibration["angle_status"][a] = "fail"
            message = f"orientations {same[0]} and {a} have the same pattern vector: check frames.order (angle, phase)"
            reasons.append(_reason("fail", "orientation_twice", message))
    if len(good) > 2:
        lengths = {a: float(np.hypot(*v)) for a, v in vectors.items()}
        middle = float(np.median(list(lengths.values())))
        for a, length in lengths.items():
            if abs(length - middle) > LENGTH_SPREAD * middle:
                if calibration["angle_status"][a] == "pass":
                    calibration["angle_status"][a] = "warn"
                message = (
                    f"orientation {a}: period {1 / length:.3f} um, the others have {1 / middle:.3f} um: "
                    "a wrong match, or orientations of different patterns"
                )
                reasons.append(_reason("warn", "pattern_length", message))
    return reasons


def _same_direction(a: np.ndarray, b: np.ndarray, detection: Detection) -> bool:
    near = 2.0 * detection.bin
    return bool(np.all(np.abs(a - b) < near) or np.all(np.abs(a + b) < near))
