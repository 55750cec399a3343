"""Checks of frames under random light: is there a pattern, does it change, can the grid hold the result?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: A frame with less than this share of the usual light is dead: its shutter was closed, or the frame was dropped.
DARK_SHARE = 0.2
#: Share of full pixels from which on a frame is left out: what they hide, the model would explain by wrong light.
SATURATED_SHARE = 1e-3
#: Fewest frames that say anything about an object under unknown light.
FEWEST = 3
#: Contrast of the light seen in the frames below which it is told, and below which nothing can be resolved by it.
#: Fully developed speckle as fine as the objective resolves is seen with 0.4 to 0.6.
LOW_CONTRAST, NO_CONTRAST = 0.15, 0.03
#: Correlation of the light of neighbouring frames above which the pattern counts as the same.
_REPEATED = 0.9
#: Share of the brightest place of the mean frame from which on light is looked for.
_BRIGHT = 0.2


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
    """Find dead (dark, or of one value), damaged and saturated frames.

    Args:
        frames: ``(L, y, x)`` counts, offset removed.
        saturation: count (offset removed) at which a pixel is full; ``None``: not known.
    """
    finite = np.isfinite(frames).all(axis=(-2, -1))
    light = np.where(finite, np.nan_to_num(frames).mean(axis=(-2, -1), dtype=np.float64), 0.0)
    typical = float(np.median(light[finite])) if finite.any() else 0.0
    dark = finite & (light <= DARK_SHARE * max(typical, 0.0))
    constant = finite & ~dark & (np.ptp(frames, axis=(-2, -1)) == 0)
    full = np.zeros(len(frames), bool)
    if saturation is not None:
        full = finite & ~constant & (np.mean(frames >= saturation, axis=(-2, -1)) > SATURATED_SHARE)
    reasons = []
    for code, which, text in (
        ("not_finite", ~finite, "hold NaN or infinity"),
        ("dead_frames", dark, f"have less than {DARK_SHARE:.0%} of the usual light"),
        ("dead_frames", constant, "hold one value only"),
        ("saturated_frames", full, f"are full at more than {SATURATED_SHARE:.1%} of their pixels"),
    ):
        if which.any():
            numbers = ", ".join(str(i) for i in np.flatnonzero(which))
            message = f"frames {numbers} {text}: left out of the reconstruction"
            reasons.append({"severity": "warn", "code": code, "message": message})
    return Usable(finite & ~dark & ~constant & ~full, reasons)


def light_contrast(frames: np.ndarray, noise: np.ndarray | None) -> float | None:
    """Standard deviation over mean of the light from frame to frame, where there is something to light.

    Args:
        frames: ``(L, y, x)``, counts with the offset removed.
        noise: ``(L,)`` variance of the noise of each; ``None``: not known, nothing is taken off.

    Returns:
        ``None`` where the frames hold no light.
    """
    changes, mean, bright = _changes(frames)
    if not bright.any():
        return None
    variance = np.sum(changes[:, bright] ** 2) / (len(frames) - 1) / bright.sum()
    if noise is not None:  # brighter places have more of it
        variance -= float(np.mean(noise)) * float(mean[bright].mean()) / max(float(mean.mean()), 1e-12)
    return float(np.sqrt(max(variance, 0)) / np.sqrt(np.mean(mean[bright] ** 2)))


def check(
    frames: np.ndarray, noise: np.ndarray | None, pitch_um: float, highest_um: float, faults: list[dict[str, Any]]
) -> dict[str, Any]:
    """Calibration of one acquisition.

    Args:
        frames: ``(L, y, x)`` that can be used, counts with the offset removed.
        noise: variance of the noise of each; ``None``: not known.
        pitch_um: pixel of the result, um.
        highest_um: highest frequency of the result, cycles/um.
        faults: what is wrong with single frames.
    """
    reasons = list(faults)
    contrast = light_contrast(frames, noise)
    if contrast is None:
        reasons.append(_reason("fail", "dark", "the frames hold no light above the camera offset"))
    elif contrast < NO_CONTRAST:
        text = f"the frames hardly differ (contrast of the light {contrast:.3f}): without a pattern there is no"
        reasons.append(_reason("fail", "no_pattern", f"{text} super-resolution; check that the patterns change"))
    elif contrast < LOW_CONTRAST:
        text = f"the contrast of the light is {contrast:.2f}, speckle has 0.4 to 0.6 in the frames"
        reasons.append(_reason("warn", "low_contrast", f"{text}: expect little more than deconvolution"))
    if contrast is not None and contrast >= NO_CONTRAST:
        reasons += _repeated(frames)
    if pitch_um > 1.02 / (2 * highest_um):
        text = f"a result pixel of {pitch_um:.4g} um cannot hold the resolution, {1 / (2 * highest_um):.4g} um can"
        reasons.append(_reason("warn", "coarse_grid", f"{text}: set optics.upsampling: 2"))
    severities = {r["severity"] for r in reasons}
    status = "fail" if "fail" in severities else "warn" if severities else "pass"
    return {"status": status, "reasons": reasons, "light_contrast": contrast}


def _changes(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What every frame has more than its share of the mean, the mean, and where that is bright."""
    mean = frames.mean(axis=0, dtype=np.float64)
    bright = mean > max(_BRIGHT * float(mean.max()), 0.0)
    gain = frames.mean(axis=(-2, -1), dtype=np.float64) / max(float(mean.mean()), 1e-12)
    return frames - gain[:, None, None] * mean, mean, bright


def _repeated(frames: np.ndarray) -> list[dict[str, Any]]:
    """Frames whose light is that of the frame before."""
    changes, _, bright = _changes(frames)
    flat = changes[:, bright] - changes[:, bright].mean(axis=1, keepdims=True)
    size = np.linalg.norm(flat, axis=1)
    alike = np.sum(flat[1:] * flat[:-1], axis=1) > _REPEATED * size[1:] * size[:-1]
    if not alike.any():
        return []
    text = f"{int(alike.sum())} of {len(frames)} frames have the light of the frame before"
    return [_reason("warn", "repeated_pattern", f"{text}: patterns must change from frame to frame")]


def _reason(severity: str, code: str, message: str) -> dict[str, Any]:
    return {"severity": severity, "code": code, "message": message}
