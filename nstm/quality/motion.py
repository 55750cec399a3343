"""How much a sample moves while an acquisition is taken, read from its raw frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nstm.quality.flow import BACKGROUND_PX, flow_between
from nstm.quality.shift import window_shift

Image = NDArray[np.floating]
#: Two images that are alike but for motion, and the time between them, s.
Pair = tuple[Image, Image, float]

#: Longest side of an image in which motion is looked for, pixels; larger ones are binned.
LARGEST_SIDE = 512
#: The displacement's error in units of the standard error of its differences, which neighbouring windows share.
_SHARED_ERROR = math.sqrt(2)
#: Smoothing of frames against noise and pattern, standard deviation, camera pixels.
_FRAME_SMOOTHING_PX = 2.0


def movement(pairs: Sequence[Pair], duration_s: float, interval_s: float) -> dict[str, Any] | None:
    """Displacements between images that would be the same if nothing moved, and what they mean for an acquisition.

    Args:
        pairs: consecutive ones, in the order of time.
        duration_s: from the first frame of an acquisition to its last.
        interval_s: from frame to frame.

    Returns:
        Camera pixels: ``between_px`` (rms over the structure and the pairs), its standard error ``error_px``,
        ``drift_px`` (mean (y, x) of every pair), ``in_acquisition_px`` (rms, from the first frame to the last),
        ``per_frame_px`` (rms) and ``per_frame_95_px`` (what a twentieth of the structure exceeds), both for a steady
        motion; ``seen``, the share of the structure found again. ``None`` where nothing was found again.
    """
    squares = errors = weights = seen = structure = 0.0
    drift, speeds, heaviness = [], [], []
    for first, second, _ in pairs:
        flow, scale = _binned_flow(first, second)
        weight = flow.believed
        squares += scale**2 * float(np.sum(weight * np.sum(flow.shift_px**2, axis=0)))
        errors += scale**2 * float(np.sum(weight * flow.error_px**2))
        weights, structure = weights + float(weight.sum()), structure + float(flow.weight.sum())
        speeds.append(scale * np.hypot(*flow.shift_px).ravel())
        heaviness.append(weight.ravel())
        total = max(float(weight.sum()), np.finfo(float).tiny)
        drift.append((scale * np.sum(flow.shift_px * weight, axis=(1, 2)) / total).tolist())
    if weights <= 0 or structure <= 0:
        return None
    seen = weights / structure
    error = _SHARED_ERROR * math.sqrt(errors / weights)
    between = math.sqrt(max(squares / weights - error**2, 0.0))
    fastest = _weighted_quantile(np.concatenate(speeds), np.concatenate(heaviness), 0.95)
    waits = float(np.mean([wait for *_, wait in pairs]))
    return {
        "between_px": between,
        "error_px": error,
        "drift_px": drift,
        "in_acquisition_px": between * duration_s / waits,
        "per_frame_px": between * interval_s / waits,
        "per_frame_95_px": math.sqrt(max(fastest**2 - error**2, 0.0)) * interval_s / waits,
        "seen": seen,
    }


def shake(blocks: Image, noise_std: float | None) -> float | None:
    """Unsteady shift of the whole field between consecutive frames, rms, camera pixels.

    What is common to all (a drift) is taken off. Within a block the pattern of the light changes too, which looks like
    up to 0.9 pixels of shift: only the large ones say something.

    Args:
        blocks: ``(block, frame, y, x)``, frames of a block one after another.
        noise_std: of a frame, counts.

    Returns:
        ``None`` where a block has fewer than three frames, and where noise alone would shift frames as much.
    """
    if blocks.shape[1] < 3 or noise_std is None:
        return None
    smooth = gaussian_filter(np.asarray(blocks, np.float64), (0, 0, _FRAME_SMOOTHING_PX, _FRAME_SMOOTHING_PX))
    detail = smooth - gaussian_filter(smooth, (0, 0, BACKGROUND_PX, BACKGROUND_PX))
    slopes = sum(float(np.mean(np.sum(g**2, axis=(-2, -1)))) for g in np.gradient(detail, axis=(-2, -1)))
    chance = math.sqrt(8 * noise_std**2 / max(slopes, np.finfo(float).tiny))
    shifts = np.array([window_shift(a, b)[0] for block in detail for a, b in pairwise(block)])
    unsteady = float(np.sqrt(np.mean(np.sum((shifts - np.median(shifts, axis=0)) ** 2, axis=1))))
    return unsteady if unsteady > 4 * chance else None


def _binned_flow(first: Image, second: Image) -> tuple[Any, int]:
    """The flow between both, of images binned to at most :data:`LARGEST_SIDE`, and the size of a bin."""
    bin_px = -(-max(first.shape) // LARGEST_SIDE)
    small = [_binned(np.asarray(image, np.float64), bin_px) for image in (first, second)]
    return flow_between(small[0], small[1]), bin_px


def _binned(image: Image, size: int) -> Image:
    rows, columns = (n // size for n in image.shape)
    cut = image[: rows * size, : columns * size]
    return np.asarray(cut.reshape(rows, size, columns, size).mean(axis=(1, 3)))


def _weighted_quantile(values: Image, weights: Image, share: float) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, share * total[-1])])
