"""Checks of the counts of raw frames: what no reconstruction can repair.

Thresholds are named here. Frames are counted from 0 in the order of the raw store (frame axes flattened,
the last one fastest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nstm.optics.noise import noise_variance
from nstm.quality.reasons import Reason, counted, reason, status_of
from nstm.settings import Camera

#: Share of saturated pixels of an acquisition.
SATURATED_WARN, SATURATED_FAIL = 1e-4, 0.02
#: Share of pixels at the largest count, where that count is not the declared limit, that looks like clipping.
CLIPPED_WARN = 1e-3
#: Share of pixels that are exactly zero.
ZERO_WARN = 0.3
#: Deviation of a frame's light from the median of its acquisition, relative.
STEP_WARN = 0.25
#: Light of a frame, relative to the median, below which it counts as dark.
DARK_FAIL = 0.1
#: Signal (standard deviation of the noise-free frame) over noise (standard deviation) of the median frame.
#: Structure of 40 photons at its brightest reaches 2.4, of 25 photons 1.9: there a fit loses 9 dB against 300 photons.
SNR_WARN, SNR_FAIL = 2.0, 0.05
#: Loss of light from the first to the last acquisition, relative.
BLEACHING_WARN = 0.5


def check_counts(
    frames: np.ndarray,
    *,
    index: int,
    pixel_um: float,
    passband: float,
    camera: Camera,
    counts: bool = True,
    used: np.ndarray | None = None,
    kinds: np.ndarray | None = None,
) -> tuple[dict[str, Any], list[Reason]]:
    """Figures and reasons that need nothing but the counts.

    Args:
        frames: ``(*frame_axes, z, y, x)``, counts as recorded.
        index: number of the acquisition.
        pixel_um: camera pixel in the sample, um.
        passband: highest lateral frequency of a frame, cycles/um.
        camera: offset and saturation.
        counts: whether frames are counts; contrast about zero has no level of light.
        used: ``(m,)`` bool, the frames that results are made of, where they can do without others: only these are
            judged. ``None``: all are needed.
        kinds: ``(m,)`` int, the kind of light of each frame (its colour), only within which brightness is compared.
            ``None``: all are of one kind.

    Returns:
        ``index, mean`` (counts above the offset), ``saturated_fraction, nan_fraction, dead_frames,
        intensity_by_frame`` (relative to the median frame of its kind; None of one that is not used, and of a kind
        with less than a tenth of the light of the brightest), ``noise_std`` (counts; None where the camera does not
        sample beyond the passband), ``signal_to_noise``; and what is wrong. With NaN or a dead frame that is needed
        nothing else is measured.
    """
    flat = frames.reshape(-1, *frames.shape[-3:])
    numbers = np.arange(len(flat)) if used is None else np.flatnonzero(used)
    looked_at = flat if used is None else flat[used]
    levels = _levels(looked_at, camera.offset)
    among = np.zeros(len(numbers), int) if kinds is None else kinds[numbers]
    light = _relative(levels, among) if counts else np.full(len(numbers), np.nan)
    relative: list[float | None] = [None] * len(flat)
    for number, value in zip(numbers, light.tolist(), strict=True):
        relative[number] = value if np.isfinite(value) else None
    entry: dict[str, Any] = {
        "index": index,
        "mean": float(np.mean(levels)),
        "saturated_fraction": _saturated(frames, camera),
        "nan_fraction": float(np.mean(~np.isfinite(frames))) if frames.dtype.kind == "f" else 0.0,
        "dead_frames": _dead(flat),
        "intensity_by_frame": relative,
        "noise_std": None,
        "signal_to_noise": None,
    }
    reasons = _damage(entry["nan_fraction"], entry["dead_frames"]) if used is None else []
    if not reasons:
        reasons = _light(levels, light, camera, numbers) if counts else []
        reasons += _counts(looked_at, camera)
        entry["noise_std"], entry["signal_to_noise"] = _noise(looked_at, pixel_um, passband)
        reasons += _signal(entry["signal_to_noise"])
    return entry, reasons


def _damage(nan: float, dead: Sequence[int]) -> list[Reason]:
    reasons: list[Reason] = []
    if nan:
        reasons.append(
            reason(
                "fail",
                "nan",
                f"{100 * nan:.2g} % of the pixels are NaN or infinite: export the raw counts of the camera, "
                "without masking, division or registration",
            )
        )
    if dead:
        reasons.append(
            reason(
                "fail",
                "dead_frame",
                f"frame(s) {counted(dead)} are constant (all zero or one value): the shutter or laser did not "
                "fire, or the file is incomplete; leave this acquisition out or export it again",
            )
        )
    return reasons


def check_sample(acquisitions: Sequence[Mapping[str, Any]]) -> tuple[str, list[Reason]]:
    """Verdict of a sample from its acquisitions: it fails only if none of them can be used."""
    failed = [a["index"] for a in acquisitions if a["status"] == "fail"]
    reasons: list[Reason] = []
    if failed:
        first = next(a for a in acquisitions if a["status"] == "fail")
        why = next(r["message"] for r in first["reasons"] if r["severity"] == "fail")
        every = len(failed) == len(acquisitions)
        what = "no acquisition can be used" if every else f"acquisition(s) {counted(failed)} are left out (NaN)"
        reasons.append(
            reason("fail" if every else "warn", "acquisitions_failed", f"{what}; acquisition {first['index']}: {why}")
        )
    by_code: dict[str, list[int]] = {}
    messages: dict[str, str] = {}
    for a in acquisitions:
        for r in a["reasons"]:
            if r["severity"] == "warn":
                by_code.setdefault(r["code"], []).append(a["index"])
                messages.setdefault(r["code"], r["message"])
    for code, indices in by_code.items():
        reasons.append(
            reason(
                "warn",
                code,
                f"acquisition(s) {counted(indices)}, the first: {messages[code]}",
            )
        )
    means = [a["mean"] for a in acquisitions if a["status"] != "fail"]
    if len(means) > 1 and means[0] > 0 and means[-1] < (1 - BLEACHING_WARN) * means[0]:
        reasons.append(
            reason(
                "warn",
                "bleaching",
                f"the light fell by {1 - means[-1] / means[0]:.0%} from the first to the last acquisition "
                "(bleaching or loss of focus): late results are noisier",
            )
        )
    return status_of(reasons), reasons


def _dead(flat: np.ndarray) -> list[int]:
    """Frames with a plane that holds one value only (a plane of NaN is reported as NaN)."""
    low, high = flat.min(axis=(-2, -1)), flat.max(axis=(-2, -1))
    return np.flatnonzero(np.any(low == high, axis=-1)).tolist()


def _levels(flat: np.ndarray, offset: float) -> np.ndarray:
    """Mean count above the offset of every frame, NaN left out."""
    finite = np.where(np.isfinite(flat), flat, 0) if flat.dtype.kind == "f" else flat
    return np.asarray(finite.mean(axis=(-3, -2, -1), dtype=np.float64) - offset)


def _relative(levels: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    """Levels over the median of their kind; NaN of a kind that has next to no light beside the brightest, or none."""
    medians = np.array([np.median(levels[kinds == kind]) for kind in kinds])
    lit = (medians > 0) & (medians >= DARK_FAIL * medians.max())
    return np.divide(levels, medians, out=np.full(levels.shape, np.nan), where=lit)


def _limit(dtype: np.dtype[Any], camera: Camera) -> float | None:
    if camera.saturation is not None:
        return camera.saturation
    return float(np.iinfo(dtype).max) if dtype.kind in "iu" else None


def _saturated(frames: np.ndarray, camera: Camera) -> float:
    limit = _limit(frames.dtype, camera)
    return 0.0 if limit is None else float(np.mean(frames >= limit))


def _light(levels: np.ndarray, relative: np.ndarray, camera: Camera, numbers: np.ndarray) -> list[Reason]:
    if not np.isfinite(relative).any():
        return [
            reason(
                "fail",
                "no_light",
                f"the mean count is {np.median(levels):.3g} above camera.offset = {camera.offset:g}: no light reached "
                "the camera, or the offset is wrong (it is the mean of a dark frame)",
            )
        ]
    dark = numbers[relative < DARK_FAIL].tolist()
    if dark:
        return [
            reason(
                "fail",
                "dark_frame",
                f"frame(s) {counted(dark)} have less than {DARK_FAIL:.0%} of the light of the others: the laser or "
                "shutter missed them; leave this acquisition out",
            )
        ]
    steps = np.nan_to_num(np.abs(relative - 1))
    step = float(np.max(steps))
    if step > STEP_WARN:
        return [
            reason(
                "warn",
                "uneven_light",
                f"frame {int(numbers[np.argmax(steps)])} differs by {step:.0%} in light from the median "
                "frame: check the laser power, polarisation and shutter; brightness of results may flicker",
            )
        ]
    return []


def _counts(flat: np.ndarray, camera: Camera) -> list[Reason]:
    """Saturation, clipping at a limit that was not declared, and counts cut off at zero."""
    saturated = _saturated(flat, camera)
    reasons: list[Reason] = []
    if saturated > SATURATED_WARN:
        fail = saturated > SATURATED_FAIL
        reasons.append(
            reason(
                "fail" if fail else "warn",
                "saturated",
                f"{saturated:.2%} of the pixels are saturated (count >= {_limit(flat.dtype, camera):g}): "
                + ("the patterns cannot be told from such frames; " if fail else "results are wrong at these places; ")
                + "record with less light or a shorter exposure",
            )
        )
    else:
        top = flat.max()
        clipped = float(np.mean(flat == top))
        if clipped > CLIPPED_WARN:
            reasons.append(
                reason(
                    "warn",
                    "clipped",
                    f"{clipped:.2%} of the pixels share the largest count, {float(top):g}: the camera probably "
                    "saturates there; set camera.saturation, or record with less light",
                )
            )
    zero = float(np.mean(flat == 0))
    if zero > ZERO_WARN:
        reasons.append(
            reason(
                "warn",
                "zeros",
                f"{zero:.0%} of the pixels are exactly zero: a background was subtracted or the counts were cut off; "
                "use the camera's own counts, the noise is not what is assumed here",
            )
        )
    return reasons


def _noise(flat: np.ndarray, pixel_um: float, passband: float) -> tuple[float | None, float | None]:
    """Noise (counts) and signal-to-noise of the median frame, frame by frame to keep memory small."""
    noise, signal = [], []
    for frame in flat:
        variance = noise_variance(frame.astype(np.float32), pixel_um, passband)
        if variance is None:
            return None, None
        noise.append(float(np.mean(variance)))
        total = float(np.mean(np.var(frame, axis=(-2, -1), dtype=np.float64)))
        signal.append(np.sqrt(max(total - noise[-1], 0.0) / max(noise[-1], 1e-30)))
    return float(np.sqrt(np.median(noise))), float(np.median(signal))


def _signal(snr: float | None) -> list[Reason]:
    if snr is None or snr >= SNR_WARN:
        return []
    if snr < SNR_FAIL:
        text = "there is nothing to see in these frames but noise: check focus, laser and filter"
        return [reason("fail", "no_signal", f"the signal is {snr:.3f} times the noise: {text}")]
    return [
        reason(
            "warn",
            "weak_signal",
            f"the signal is only {snr:.2f} times the noise: fine detail drowns in it; "
            "use more light or a longer exposure",
        )
    ]
