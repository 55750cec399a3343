"""Light of differential phase contrast: frames relative to their background, and whether they fit their sources.

A *calibration* is a JSON-able dict:

``status``, ``reasons``   pass | warn | fail, and why, in plain words
``background``            mean counts of every frame, offset removed
``intensity``             light of every frame, 1 before it decayed or flickered
``unexplained``           share of the frames' power, best sample at rest taken off
``order``                 the order of the frames that explains them best, as positions in the order given
``order_unexplained``     the share that this order leaves
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.fft
from scipy.ndimage import uniform_filter

from nstm.acquisition import DataError
from nstm.optics.dpc import Transfer

#: Side of the part in the middle of the field that is looked at, camera pixels.
CHECKED_PX = 256
#: What another order of the frames leaves unexplained, relative to theirs, below which theirs is doubtful or wrong.
ORDER_WARN, ORDER_FAIL = 0.85, 0.6
#: A share of pixels this bright or dark (in units of the background) is no weak sample.
STRONG, STRONG_SHARE = 0.5, 0.05
#: Mean of a frame over its background, minus 1, that shows a wrong background.
BACKGROUND_WARN, BACKGROUND_FAIL = 0.25, 2.0
#: Share of the light that a phase may add to the mean of a frame, and loss of light up to which it counts as steady.
MOST_RISE, STEADY_LIGHT = 0.01, 0.002
#: Power of what differs between frames, in units of the noise, below which there is nothing to reconstruct.
CONTRAST_WARN = 1.3
#: Penalty of the least-squares sample, in units of the squared transfer.
_WEIGHT = 1e-2
_MOST_FRAMES_PERMUTED = 5

Reason = dict[str, str]


def over_background(frames: np.ndarray, background: np.ndarray) -> np.ndarray:
    """``frames / background - 1``, float32.

    Args:
        frames: ``(source, y, x)``, counts with the offset removed.
        background: counts of the empty field, broadcastable with ``frames``.

    Raises:
        DataError: the background is not positive everywhere.
    """
    if not np.all(background > 0):
        raise DataError(
            "the background is not positive everywhere: check camera.offset, the background images and the light"
        )
    return np.asarray(frames / background - 1, np.float32)


def over_lowpass(frames: np.ndarray, share: float) -> np.ndarray:
    """Every frame over its own mean within a square box, scaled to mean 0, float32.

    Args:
        frames: ``(source, y, x)``, counts with the offset removed.
        share: side of the box in units of the frames' height.
    """
    size = max(1, round(share * frames.shape[-2]))
    smooth = np.stack([uniform_filter(f, size) for f in np.asarray(frames, np.float64)])
    flat = over_background(frames, smooth) + 1
    return over_background(flat, flat.mean(axis=(-2, -1), keepdims=True))


def intensity(images: np.ndarray, transfer: Transfer | None) -> np.ndarray:
    """Light of every frame relative to the first of a steady decay, else to the brightest.

    The mean of an image tells its light, and by some 0.1 % also how the phase rises across the field, which opposite
    sources show with opposite signs. What follows neither a decay nor a rise is light that flickers.

    Args:
        images: ``(source, y, x)``, in the order of time.
        transfer: of the sources.
    """
    light = np.log(np.maximum(1 + images.mean(axis=(-2, -1), dtype=np.float64), 1e-3))
    columns = [np.ones(len(light)), np.arange(len(light))]
    if transfer is not None:  # of the lowest frequency along y and x
        rises = np.stack([transfer.phase[:, 1, 0], transfer.phase[:, 0, 1]])
        columns += list(MOST_RISE * rises / np.maximum(np.abs(rises).max(), 1e-12))
    found = np.linalg.lstsq(np.stack(columns, axis=1), light, rcond=None)[0]
    decay = found[1] * np.arange(len(light))
    if np.abs(light - found[0] - decay).max() > MOST_RISE:
        return np.asarray(np.exp(light - light.max()))
    return np.exp(decay) if np.abs(decay[-1]) > STEADY_LIGHT else np.ones(len(light))


def check(
    frames: np.ndarray, images: np.ndarray, transfer: Transfer | None, noise: np.ndarray | None
) -> dict[str, Any]:
    """Calibration of one acquisition: do the images look as their sources make them?

    Args:
        frames: ``(source, y, x)``, counts with the offset removed.
        images: the same over their background, minus 1.
        transfer: of the sources, for images of the size of :func:`middle`; ``None`` where the light cannot be checked.
        noise: variance of each of ``images``; ``None`` where it is not known.
    """
    reasons = _judge_background(images) + _judge_contrast(images, noise)
    calibration: dict[str, Any] = {
        "background": [float(v) for v in frames.mean(axis=(-2, -1), dtype=np.float64)],
        "intensity": [float(v) for v in intensity(images, transfer)],
    }
    if transfer is not None and not any(r["severity"] == "fail" for r in reasons):
        found = explained(middle(images), transfer)
        calibration |= found
        reasons += _judge_order(found)
    return {"status": _worst(reasons), "reasons": reasons, **calibration}


def dark(frames: np.ndarray, message: str) -> dict[str, Any]:
    """Calibration of frames that cannot be compared with a background."""
    background = [float(v) for v in frames.mean(axis=(-2, -1), dtype=np.float64)]
    return {"status": "fail", "reasons": [_reason("fail", "background", message)], "background": background}


def middle(images: np.ndarray) -> np.ndarray:
    """The middle of the field, at most :data:`CHECKED_PX` pixels wide."""
    sides = [min(n, CHECKED_PX) for n in images.shape[-2:]]
    y, x = ((n - s) // 2 for n, s in zip(images.shape[-2:], sides, strict=True))
    return images[..., y : y + sides[0], x : x + sides[1]]


def explained(images: np.ndarray, transfer: Transfer) -> dict[str, Any]:
    """How well one weak sample explains the images, as they are ordered and in the best order.

    The sample that fits best is taken off in every order of the images by one product of small matrices. To turn
    every source into its opposite only turns the sign of the phase, which this cannot tell.

    Args:
        images: ``(source, y, x)``.
        transfer: of the sources in the order given.
    """
    count = len(images)
    window = np.hanning(images.shape[-2])[:, None] * np.hanning(images.shape[-1])
    spectra = scipy.fft.rfft2((images - images.mean(axis=(-2, -1), keepdims=True)) * window)
    h = np.stack([transfer.absorption + 0j, 1j * transfer.phase], axis=-1)
    reached = np.sum(np.abs(h) ** 2, axis=(0, -1)) > _WEIGHT
    h, s = np.moveaxis(h[:, reached], 0, 1), spectra[:, reached]  # (f, source, 2), (source, f)
    adjoint = h.conj().swapaxes(1, 2)
    left = np.eye(count) - h @ np.linalg.solve(adjoint @ h + _WEIGHT * np.eye(2), adjoint)
    power = np.einsum("abf,cdf->abcd", np.moveaxis(left, 0, -1), s.conj()[:, None] * s[None], optimize=True).real
    total = float(np.sum(np.abs(s) ** 2))
    source = np.arange(count)

    def unexplained(order: tuple[int, ...]) -> float:
        image = np.array(order)
        return float(power[source[:, None], source, image[:, None], image].sum() / max(total, 1e-30))

    own = unexplained(tuple(range(count)))
    best, least = min(((o, unexplained(o)) for o in _orders(count)), key=lambda found: found[1])
    if least > own * (1 - 1e-6):
        best, least = tuple(range(count)), own
    return {"unexplained": own, "order": list(best), "order_unexplained": least}


def _orders(count: int) -> Iterator[tuple[int, ...]]:
    """Every order of a few frames; of many, those in which two have changed places."""
    if count <= _MOST_FRAMES_PERMUTED:
        yield from itertools.permutations(range(count))
        return
    for a, b in itertools.combinations(range(count), 2):
        order = list(range(count))
        order[a], order[b] = b, a
        yield tuple(order)


def _judge_background(images: np.ndarray) -> list[Reason]:
    means = images.mean(axis=(-2, -1), dtype=np.float64)
    worst = int(np.argmax(np.abs(means)))
    figures = f"frame {worst} (counted from 0) lies {means[worst]:+.2g} from its background on average"
    if abs(means[worst]) > BACKGROUND_FAIL:
        return [
            _reason(
                "fail",
                "background",
                f"{figures}: these are no images over their background; set background.method: lowpass, or given",
            )
        ]
    reasons = []
    if abs(means[worst]) > BACKGROUND_WARN:
        reasons.append(
            _reason("warn", "background", f"{figures}: the background or the light has changed; check the background")
        )
    strong = float(np.mean(np.abs(images) > STRONG))
    if strong > STRONG_SHARE:
        reasons.append(
            _reason(
                "warn",
                "not_weak",
                f"{strong:.0%} of the pixels differ from the background by more than {STRONG:.0%}: the sample is not "
                "weak, absorption and phase come out too small and bent there",
            )
        )
    return reasons


def _judge_contrast(images: np.ndarray, noise: np.ndarray | None) -> list[Reason]:
    same = [(a, b) for a, b in itertools.combinations(range(len(images)), 2) if np.array_equal(images[a], images[b])]
    if same:
        a, b = same[0]
        return [
            _reason(
                "fail",
                "source_twice",
                f"frames {a} and {b} are the same image: one of them is missing; check frames.order and the files",
            )
        ]
    if noise is None or len(images) < 2:
        return []
    between = float(np.mean(np.var(images, axis=0, ddof=1, dtype=np.float64)))
    usual = float(np.mean(noise))
    if between < CONTRAST_WARN * usual:
        return [
            _reason(
                "warn",
                "no_contrast",
                f"the frames differ among themselves by {math.sqrt(between / max(usual, 1e-30)):.2f} times the noise "
                "only: the sources did not change, or there is no phase to see (check focus and frames.order)",
            )
        ]
    return []


def _judge_order(found: dict[str, Any]) -> list[Reason]:
    own, least, order = found["unexplained"], found["order_unexplained"], found["order"]
    count = len(order)
    if count < 3:  # two images never contradict one sample
        return []
    if least < ORDER_WARN * own:
        text = (
            f"one sample leaves {own:.0%} of the frames unexplained, but {least:.0%} if they belong to the sources in "
            f"the order {order}: check the order of illumination.rotations_deg (or map, leds) and frames.order"
        )
        return [_reason("fail" if least < ORDER_FAIL * own else "warn", "source_order", text)]
    if own > 1.2 * (count - 2) / count:
        return [
            _reason(
                "warn",
                "not_explained",
                f"one sample leaves {own:.0%} of the frames unexplained, more than of mere noise: fast motion, or a "
                "wrong source, na, emission_wavelength_um, pixel_um or source_coordinates",
            )
        ]
    return []


def _reason(severity: str, code: str, message: str) -> Reason:
    return {"severity": severity, "code": code, "message": message}


def _worst(reasons: list[Reason]) -> str:
    severities = {r["severity"] for r in reasons}
    return "fail" if "fail" in severities else "warn" if "warn" in severities else "pass"
