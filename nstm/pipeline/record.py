"""What a reconstruct job writes down of a fit beside its arrays: cost, what is unexplained, and how far it moved."""

from __future__ import annotations

import itertools
import resource
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from nstm.quality.blur import SURE, motion_blur
from nstm.spacetime.residual import in_noise_units, inner, lost_regions

if TYPE_CHECKING:
    from nstm.spacetime.result import Fit
    from nstm.spacetime.tiles import Tiles


def record_of(fit: Fit | Tiles, cutoff: float, exposure_s: float | None) -> dict[str, Any]:
    """Cost, residual, motion and blur of a fit as plain values.

    Args:
        fit: of all frames.
        cutoff: highest lateral frequency that the instrument transfers, cycles/um.
        exposure_s: time over which motion is smeared; ``None``: not known.
    """
    limit_px = 0.5 / cutoff / fit.pixel_um
    passband = fit.system.passband()
    regions = _regions(fit, passband, fit.residual)
    if fit.smooth_residual is not None:
        explained = _regions(fit, passband, fit.smooth_residual, fit.residual)
        regions += [region | {"slides": True} for region in explained]
    return {
        "seconds": fit.trace.seconds,
        "compile_seconds": fit.trace.compile_seconds,
        "peak_memory_mb": _peak_memory_mb(),
        "steps": len(fit.trace.loss),
        "loss": _sampled(fit.trace.loss * fit.scale**2),
        "loss_steps": _sampled(np.arange(1, len(fit.trace.loss) + 1)),
        "noise_variance": None if fit.noise_variance is None else float(np.nanmean(fit.noise_variance)),
        "planes": fit.frame_shape[0],
        "residual_noise_units": noise_units(fit),
        "motion_px": _motion(fit, regions, exposure_s) | {"resolution": limit_px},
        "regions": regions,
        "blurred_frames": _blurred(fit, passband, 2 * limit_px) if fit.located else [],
        "calibration_corrections": {k: np.asarray(v).tolist() for k, v in fit.parameters["illumination"].items()},
        "scale": fit.scale,
        "start": {
            "scene_coarsest": fit.settings.of_scene.scene_coarsest,
            "motion_rate": fit.settings.of_motion.motion_rate,
            "motion_sliding_levels": fit.settings.multigrid.motion_sliding_levels,
            "late_from": fit.settings.late_from,
            "seed": fit.settings.seed,
        },
        "plane_spread_s": float(np.ptp(fit.times_s, axis=-1).max()),
        "tile_px": list(fit.tiling.shape) if hasattr(fit, "tiling") else None,
    }


def noise_units(fit: Fit | Tiles) -> list[float | None]:
    """Residual of each frame in units of its noise; None where the noise is not known, or the frame was left out."""
    found = in_noise_units(inner(fit.residual, fit.settings.margin_px), fit.pixel_um, fit.system.passband())
    return [None] * len(fit.residual) if found is None else [float(v) if np.isfinite(v) else None for v in found]


def _seen(fit: Fit | Tiles) -> np.ndarray:
    """Numbers of the frames that were not left out."""
    return np.flatnonzero(np.isfinite(fit.residual).all(axis=(1, 2, 3)))


def _regions(
    fit: Fit | Tiles, passband: float, residual: np.ndarray, remaining: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Regions of the field that ``residual`` shows; none where a pixel of a measurement sees the whole scene."""
    if not fit.located:
        return []
    seen = _seen(fit)

    def compared(of: np.ndarray) -> np.ndarray:
        return inner(of[seen], fit.settings.margin_px)

    left = None if remaining is None else compared(remaining)
    found = lost_regions(compared(residual), fit.pixel_um, passband, left)
    return [_within_field(r | {"frames": [int(seen[i]) for i in r["frames"]]}, fit) for r in found]


def _within_field(region: dict[str, Any], fit: Fit | Tiles) -> dict[str, Any]:
    """A region of what is compared, in um from the corner of the field."""
    margin_um = fit.settings.margin_px * fit.pixel_um
    return region | {key: (np.asarray(region[key]) + margin_um).tolist() for key in ("centre_um", "outline_um")}


def spread_of(scenes: np.ndarray, motions: np.ndarray) -> dict[str, Any]:
    """Standard deviation over repeated fits.

    Args:
        scenes: ``(repetition, z, y, x)``.
        motions: ``(repetition, d, z, y, x)``, camera pixels, NaN where not determined.

    Returns:
        ``fits``, ``scene_share`` (rms over the field, as a share of the standard deviation over the field of their
        mean), ``motion_px`` (rms over where every fit knows the motion, lengths of the deviations; None where there is
        no such place).
    """
    known = np.isfinite(motions).all(axis=(0, 1))
    deviation = np.sqrt(np.mean(np.sum(np.var(motions, axis=0, ddof=1), axis=0)[known])) if known.any() else None
    return {
        "fits": len(scenes),
        "scene_share": float(np.sqrt(np.mean(np.var(scenes, axis=0, ddof=1))) / np.std(scenes.mean(axis=0))),
        "motion_px": None if deviation is None else float(deviation),
    }


def _motion(fit: Fit | Tiles, regions: list[dict[str, Any]], exposure_s: float | None) -> dict[str, Any]:
    """Displacements in camera pixels where they are determined; puts the largest step in each of the ``regions``."""
    times = fit.seen_s.mean(axis=1)
    order = np.argsort(times)
    # the planes of a volume count together: a displacement for each of them would cost more than it tells
    looks = np.unique(fit.seen_s) if fit.frame_shape[0] == 1 else times[order]
    found: dict[str, Any] = {
        "total_rms": None, "total_max": None, "per_interval_max": None,
        "per_interval_95": [], "per_interval_99": [], "per_exposure_95": None,
    }  # fmt: skip
    if len(times) < 2 or times[order[0]] == times[order[-1]]:
        return found
    steps = np.linalg.norm(fit.motion(times[order])[1:], axis=1) / fit.pixel_um
    total = np.linalg.norm(fit.motion(looks[[0, -1]])[1], axis=0) / fit.pixel_um
    for region in regions:
        region |= _step_within(region, steps, order, fit)
    if not np.isfinite(total).any():
        return found
    if len(looks) != len(times):  # measurements that see the scene at several times, or several at one time
        steps = np.linalg.norm(fit.motion(looks)[1:], axis=1) / fit.pixel_um
    p95, p99 = (np.nanpercentile(steps, q, axis=(1, 2, 3)) for q in (95, 99))
    waits = np.diff(looks)
    found |= {
        "total_rms": float(np.sqrt(np.nanmean(total**2))),
        "total_max": float(np.nanpercentile(total, 99)),
        "per_interval_max": float(p99.max()),
        "per_interval_95": p95.tolist(),
        "per_interval_99": p99.tolist(),
    }
    if exposure_s is not None:
        found["per_exposure_95"] = float((p95 / np.maximum(waits, 1e-9)).max() * exposure_s)
    return found


def _step_within(region: dict[str, Any], steps: np.ndarray, order: np.ndarray, fit: Fit | Tiles) -> dict[str, Any]:
    """The largest step that the fit finds within a region next to one of its frames, and the frames before and after.

    Where the motion is not determined there is none.
    """
    size, middle = np.array(region["size_um"]), np.array(region["centre_um"])
    low, high = (np.round(v / fit.output_pixel_um).astype(int) for v in (middle - size / 2, middle + size / 2))
    seen = steps[:, region["planes"], max(0, low[0]) : high[0], max(0, low[1]) : high[1]]
    within = seen.reshape(len(steps), -1)
    near = [i for i, pair in enumerate(itertools.pairwise(order)) if set(pair) & set(region["frames"])]
    sizes = {i: float(np.nanpercentile(within[i], 95)) for i in near if np.isfinite(within[i]).any()}
    if not sizes:
        return {"motion_px": None, "between_frames": None}
    worst = max(sizes, key=lambda i: sizes[i])
    return {"motion_px": sizes[worst], "between_frames": [int(order[worst]), int(order[worst + 1])]}


def _blurred(fit: Fit | Tiles, passband: float, limit_px: float) -> list[dict[str, Any]]:
    """Frames that are surely blurred beyond the others, by more than the period at the cutoff."""
    seen = _seen(fit)
    residual, predicted = (inner(of[seen], fit.settings.margin_px) for of in (fit.residual, fit.predicted()))
    found = motion_blur(residual, predicted, fit.pixel_um, passband) or []
    return [
        {"frame": i, "length_px": b.length_px, "direction_deg": b.direction_deg, "significance": b.significance}
        for i, b in zip(seen.tolist(), found, strict=False)
        if b.significance > SURE and b.length_px > limit_px
    ]


def _sampled(values: np.ndarray, count: int = 200) -> list[float]:
    keep = np.unique(np.linspace(0, len(values) - 1, min(count, len(values))).astype(int))
    return [float(v) for v in values[keep]]


def _peak_memory_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
