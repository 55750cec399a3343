"""Which frames of a stack can be used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: A frame with less than this share of the usual light is dead: its shutter was closed, or the frame was dropped.
DARK_SHARE = 0.2
#: Share of full pixels from which on a frame is left out: what they hide, the model would explain by wrong light.
SATURATED_SHARE = 1e-3


@dataclass(frozen=True)
class Usable:
    """Which frames can be used, and why the others cannot.

    Attributes:
        used: (L,) bool.
        reasons: ``{"severity", "code", "message"}``, one per kind of fault.
    """

    used: np.ndarray
    reasons: list[dict[str, Any]]


def usable(frames: np.ndarray, saturation: float | None = None) -> Usable:
    """Find dead, damaged and saturated frames.

    Args:
        frames: ``(L, y, x)`` counts, offset removed.
        saturation: count (offset removed) at which a pixel is full; ``None``: not known.
    """
    finite = np.isfinite(frames).all(axis=(-2, -1))
    light = np.where(finite, np.nan_to_num(frames).mean(axis=(-2, -1), dtype=np.float64), 0.0)
    typical = float(np.median(light[finite])) if finite.any() else 0.0
    dark = finite & (light <= DARK_SHARE * max(typical, 0.0))
    full = np.zeros(len(frames), bool)
    if saturation is not None:
        full = finite & (np.mean(frames >= saturation, axis=(-2, -1)) > SATURATED_SHARE)
    reasons = []
    for code, which, text in (
        ("not_finite", ~finite, "hold NaN or infinity"),
        ("dead_frames", dark, f"have less than {DARK_SHARE:.0%} of the usual light"),
        ("saturated_frames", full, f"are full at more than {SATURATED_SHARE:.1%} of their pixels"),
    ):
        if which.any():
            numbers = ", ".join(str(i) for i in np.flatnonzero(which))
            message = f"frames {numbers} {text}: left out of the reconstruction"
            reasons.append({"severity": "warn", "code": code, "message": message})
    return Usable(finite & ~dark & ~full, reasons)
