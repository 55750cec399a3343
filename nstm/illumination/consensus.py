"""One illumination for all acquisitions of a sample: the pattern belongs to the microscope, not to the moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: An acquisition whose vector lies further from the median, in frequency bins, found something else.
OUTLIER_BINS = 0.5
#: Phases that scatter more than this between acquisitions cannot be inherited, rad.
PHASE_SPREAD_RAD = 0.5

Calibration = Mapping[str, Any]


def _centre_phase(calibration: Calibration, angle: int) -> np.ndarray:
    """Phases of order 1 at the centre of the field, where they do not depend on a small error of the vector."""
    k = np.array(calibration["pattern_vectors"][angle])
    centre = 0.5 * np.array(calibration["field_um"])
    return np.array(calibration["phases"][angle]) + 2 * np.pi * float(k @ centre)


def _at_origin(centre_phase: np.ndarray, k: np.ndarray, field_um: Sequence[float]) -> list[float]:
    phases = centre_phase - 2 * np.pi * float(np.array(k) @ (0.5 * np.array(field_um)))
    return [float(v) for v in np.angle(np.exp(1j * phases))]


def _aligned(calibrations: Sequence[Calibration], angle: int) -> list[tuple[int, Calibration]]:
    """Acquisitions whose pattern of this orientation was found and agrees with the others."""
    found = [(c.get("acquisition", t), c) for t, c in enumerate(calibrations) if c["angle_status"][angle] != "fail"]
    if len(found) < 3:
        return found
    middle = np.median([c["pattern_vectors"][angle] for _, c in found], axis=0)
    bin_ = 1 / np.array(found[0][1]["field_um"])
    return [
        (t, c)
        for t, c in found
        if np.max(np.abs(np.array(c["pattern_vectors"][angle]) - middle) / bin_) <= OUTLIER_BINS
    ]


def consensus(calibrations: Sequence[Calibration]) -> dict[str, Any]:
    """Median of pattern vectors and modulation over the acquisitions in which the pattern was found.

    Args:
        calibrations: results of :func:`nstm.illumination.sim.estimate`, one per acquisition, same field; each may say
            which ``acquisition`` it is, else they are counted.

    Returns:
        A calibration; phases are circular means at the centre of the field, ``phase_spread_rad`` says how far they
        scatter between acquisitions, ``members`` lists the acquisitions behind each orientation. It fails only where
        an orientation was found in no acquisition.
    """
    first = calibrations[0]
    out: dict[str, Any] = {k: list(v) if isinstance(v, list) else v for k, v in first.items() if k != "acquisition"}
    angles, total = len(first["pattern_vectors"]), len(calibrations)
    reasons: list[dict[str, str]] = []
    out["members"], out["phase_spread_rad"] = [], []
    for angle in range(angles):
        aligned = _aligned(calibrations, angle)
        members = [t for t, _ in aligned]
        out["members"].append(members)
        if not members:
            out["angle_status"][angle] = "fail"
            out["phase_spread_rad"].append(float(np.pi))
            message = f"orientation {angle}: the pattern was found in none of {total} acquisitions"
            reasons.append({"severity": "fail", "code": "pattern_not_found", "message": message})
            continue
        good = [c for _, c in aligned]
        k = np.median([c["pattern_vectors"][angle] for c in good], axis=0)
        mean = np.exp(1j * np.stack([_centre_phase(c, angle) for c in good])).mean(axis=0)
        spread = np.sqrt(-2 * np.log(np.clip(np.abs(mean), 1e-6, 1.0)))
        out["pattern_vectors"][angle] = [float(v) for v in k]
        out["phases"][angle] = _at_origin(np.angle(mean), k, first["field_um"])
        for key in ("modulation", "intensity", "overlap_correlation", "peak_ratio"):
            out[key][angle] = [float(v) for v in np.median([c[key][angle] for c in good], axis=0)]
        for key in ("peak_strength", "vector_error"):
            out[key][angle] = float(np.median([c[key][angle] for c in good]))
        if "axial_phase" in first:  # half a turn is none
            double = np.mean([np.exp(2j * c["axial_phase"][angle]) for c in good])
            out["axial_phase"][angle] = float(0.5 * np.angle(double))
        out["phases_fitted"][angle] = any(c["phases_fitted"][angle] for c in good)
        out["phase_spread_rad"].append(float(spread.max()))
        weak = sum(c["angle_status"][angle] == "warn" for c in good)
        out["angle_status"][angle] = "warn" if 2 * weak >= len(good) and weak else "pass"
        if len(members) < total:
            message = f"orientation {angle}: the pattern was found in {len(members)} of {total} acquisitions"
            reasons.append({"severity": "warn", "code": "pattern_sometimes_lost", "message": message})
        elif out["angle_status"][angle] == "warn":
            message = f"orientation {angle}: doubtful in {weak} of {total} acquisitions, see there"
            reasons.append({"severity": "warn", "code": "pattern_doubtful", "message": message})
    severities = {r["severity"] for r in reasons}
    out["status"] = "fail" if "fail" in severities else "warn" if "warn" in severities else "pass"
    out["reasons"] = reasons
    return out


def with_consensus(calibration: Calibration, agreed: Calibration) -> dict[str, Any]:
    """Vectors and modulation of the consensus with the phases and intensities of one acquisition.

    The phases at the centre of the field are kept while the vector changes. Where the acquisition's own pattern was
    not found (or is another one than the consensus), its phases are inherited too, with a reason; if phases scatter
    between acquisitions there is nothing to inherit and the orientation fails.

    Args:
        calibration: estimate of this acquisition.
        agreed: result of :func:`consensus`.
    """
    out: dict[str, Any] = {k: list(v) if isinstance(v, list) else v for k, v in calibration.items()}
    reasons: list[dict[str, str]] = []
    bin_ = 1 / np.array(calibration["field_um"])
    for angle, k in enumerate(agreed["pattern_vectors"]):
        own = np.array(calibration["pattern_vectors"][angle])
        found = calibration["angle_status"][angle] != "fail"
        close = np.max(np.abs(own - np.array(k)) / bin_) <= 2 * OUTLIER_BINS
        out["pattern_vectors"][angle] = list(k)
        out["modulation"][angle] = list(agreed["modulation"][angle])
        out["angle_status"][angle] = agreed["angle_status"][angle]
        if agreed["angle_status"][angle] == "fail":
            continue
        if found and close:
            out["phases"][angle] = _at_origin(_centre_phase(calibration, angle), np.array(k), calibration["field_um"])
            continue
        out["phases"][angle] = list(agreed["phases"][angle])
        if "axial_phase" in agreed:
            out["axial_phase"][angle] = agreed["axial_phase"][angle]
        out["intensity"][angle] = list(agreed["intensity"][angle])
        spread = agreed["phase_spread_rad"][angle]
        usable = spread <= PHASE_SPREAD_RAD
        out["angle_status"][angle] = "warn" if usable else "fail"
        members = len(agreed["members"][angle])
        message = (
            f"orientation {angle}: the pattern was not found in this acquisition; vector, modulation and phases are "
            f"those of {members} other acquisition{'s' if members > 1 else ', so that nobody knows if phases repeat'}"
        )
        if not usable:
            message += ", but phases do not repeat between acquisitions, so this one cannot be reconstructed"
        reasons.append({"severity": "warn" if usable else "fail", "code": "pattern_inherited", "message": message})
    reasons += [dict(r) for r in agreed["reasons"]]
    # what was said of the lost orientations themselves is answered by the consensus
    kept = [dict(r) for r in calibration["reasons"] if r["severity"] != "fail"]
    out["reasons"] = kept + reasons
    severities = {r["severity"] for r in out["reasons"]}
    out["status"] = "fail" if "fail" in severities else "warn" if "warn" in severities else "pass"
    return out
