"""Before anything is fitted: is motion worth modelling, and can it be?

Measured on 72 simulated recordings at rest and of eight motions (two- and three-beam SIM, 64 to 128 pixels, 25 to 2000
photons, haze, bleaching; ``benchmarks/prospect.py``, figures in docs/results.md). What the conventional result loses
against the same sample at rest follows from how far the structure is spread over an acquisition in units of the noise,
``10 log10(1 + (k spread signal / noise)^2)``; a fit finds nearly every motion below 2 pixels from frame to frame, and
none that is reliable above 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from nstm.quality.reasons import Reason, reason

Verdict = Literal["still", "worth", "hard", "lost", "unknown"]

#: Expected loss of the conventional result below which it is as good, dB.
STILL_DB = 1.0
#: Displacement of a twentieth of the structure from frame to frame, camera pixels: some are lost; nothing is reliable.
HARD_PX, LOST_PX = 2.0, 4.0
#: Unsteady shifts from frame to frame that are no effect of the pattern, camera pixels.
SHAKE_PX = 1.0
#: Share of the structure that must be found again from image to image.
SEEN = 0.5
#: Displacement between images below which it may be a difference of the patterns, camera pixels.
SURE_PX = 0.12
#: Spread (standard deviation of the places) of a steady motion per length, and of a shake per rms step.
_STEADY, _SHAKEN = 0.3, 0.85
#: Of the expected loss, and the signal over noise above which other errors than noise limit the result.
_LOSS, _MOST_SNR = 0.85, 50.0

_ADVICE: Mapping[str, str] = {
    "still": "a conventional reconstruction is as good",
    "worth": "a reconstruction with motion is worth its time",
    "hard": "more than is always found: believe a reconstruction with motion only as far as its trust goes",
    "lost": "more than can be followed: not recoverable from these frames; record faster",
    "unknown": "the motion cannot be told from the raw frames; the trust of a reconstruction tells",
}


def prospect(acquisitions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The motion score of a sample.

    Args:
        acquisitions: entries of ``quality.json``, of which ``motion``, ``shake_px`` and ``signal_to_noise`` count.

    Returns:
        ``verdict`` (still | worth | hard | lost | unknown) and ``message``; medians over the acquisitions of
        ``between_px`` (from image to image), ``in_acquisition_px``, ``per_frame_95_px``, ``per_exposure_px`` and
        ``shake_px``, all in camera pixels, and ``seen``; ``conventional_loss_db``, what the conventional result is
        expected to lose; ``None`` where not known.
    """
    measured = [a["motion"] for a in acquisitions if a.get("motion")]
    names = ("between_px", "in_acquisition_px", "per_frame_95_px", "per_exposure_px", "seen")
    found = {name: _median(m.get(name) for m in measured) for name in names}
    found["shake_px"] = _median(a.get("shake_px") for a in acquisitions)
    snr = _median(a.get("signal_to_noise") for a in acquisitions)
    moved = found["in_acquisition_px"] if (found["between_px"] or 0) > SURE_PX else found["in_acquisition_px"] and 0.0
    loss = _loss_db(moved, found["shake_px"], snr)
    verdict = _verdict(found, loss)
    return {"verdict": verdict, "message": _message(verdict, found, loss), **found, "conventional_loss_db": loss}


def reasons_of(score: Mapping[str, Any]) -> list[Reason]:
    """The warning that a motion score gives, if any; a gate stays open, for the conventional result has its worth."""
    codes = {"hard": "fast_motion", "lost": "motion_too_fast"}
    code = codes.get(score["verdict"])
    return [reason("warn", code, score["message"])] if code else []


def _verdict(found: Mapping[str, float | None], loss: float | None) -> Verdict:
    step, shaken = found["per_frame_95_px"], _shaken(found["shake_px"])
    if step is None or loss is None:
        return "unknown"
    fastest = max(step, shaken)
    if fastest > LOST_PX or (found["seen"] or 0.0) < SEEN:
        return "lost"
    if fastest > HARD_PX:
        return "hard"
    return "still" if loss < STILL_DB else "worth"


def _message(verdict: Verdict, found: Mapping[str, float | None], loss: float | None) -> str:
    """What was measured and what follows from it."""
    if verdict == "unknown":
        return _ADVICE[verdict]
    total, step, seen = (float(found[k] or 0) for k in ("in_acquisition_px", "per_frame_95_px", "seen"))
    shaken, exposed = _shaken(found["shake_px"]), found["per_exposure_px"]
    if verdict == "lost" and seen < SEEN:
        told = f"only {seen:.0%} of the structure is found again from one orientation or image to the next"
    elif verdict in ("hard", "lost"):
        told = f"between frames the sample moves up to {max(step, shaken):.1f} camera pixels"
    else:
        told = f"the sample moves {total:.1f} camera pixels (rms) within an acquisition"
    if shaken:
        told += f" and shakes by {shaken:.1f} from frame to frame"
    if verdict == "worth" and loss is not None:
        told += f", which costs the conventional result about {loss:.0f} dB"
    if exposed is not None and exposed > 1:
        told += f"; it moves {exposed:.1f} during an exposure, which blurs every frame"
    return f"{told}: {_ADVICE[verdict]}"


def _shaken(shake_px: float | None) -> float:
    return shake_px if shake_px is not None and shake_px > SHAKE_PX else 0.0


def _loss_db(total_px: float | None, shake_px: float | None, snr: float | None) -> float | None:
    if total_px is None or snr is None:
        return None
    spread = math.hypot(_STEADY * total_px, _SHAKEN * _shaken(shake_px))
    return 10 * math.log10(1 + (_LOSS * spread * min(snr, _MOST_SNR)) ** 2)


def _median(values: Any) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else None
