"""Rule ``reconstruct``: the space-time fits of one batch of acquisitions, one store per job."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from nstm.acquisition import DataError, frame_axes_of
from nstm.io.jsonfile import read_json
from nstm.io.store import open_raw, replace_whole
from nstm.pipeline.experiment import Stage
from nstm.pipeline.lineage import lineage
from nstm.pipeline.timeaxis import time_axis
from nstm.settings import Reconstruction
from nstm.systems.base import Calibration, ImagingSystem

JOB_SCHEMA = 1


@dataclass
class _Results:
    """Arrays of one acquisition: ``scene (t, c, z, y, x)``, ``displacement (t, d, z, y, x)`` um, ``static`` or None."""

    scene: np.ndarray
    displacement: np.ndarray
    static: np.ndarray | None
    record: dict[str, Any]


def run_reconstruct(
    params: Mapping[str, Any], raw_store: Path, illumination_json: Path, first: int, last: int, out_store: Path
) -> None:
    """Fit the acquisitions ``first`` to ``last`` and write ``jobs/{first}-{last}.zarr``.

    Every acquisition is fitted by itself from a cold start, so the arrays do not depend on how acquisitions are
    grouped into jobs. An acquisition that failed its checks or whose fit broke down is NaN, with the reason.
    """
    _prepare_device()
    stage = Stage.from_params(params)
    raw = open_raw(raw_store)
    system = stage.system_of(raw)
    calibrations = read_json(illumination_json)["acquisitions"]
    settings = stage.reconstruction
    axis = time_axis(raw, system.block_axis, settings.output_times)
    results = []
    for index in range(first, last + 1):
        times = axis.times_s[axis.of(index)]
        results.append(_one(system, settings, raw.isel(t=index), index, calibrations[index], times))
    inside = np.concatenate([axis.of(i) for i in range(first, last + 1)])
    _write(out_store, results, axis.times_s[inside], first, last, lineage(raw, params))


def _one(
    system: ImagingSystem,
    settings: Reconstruction,
    acquisition: xr.Dataset,
    index: int,
    calibration: Calibration,
    times_s: np.ndarray,
) -> _Results:
    from nstm.spacetime import FitError, reconstruct

    pixel = acquisition.attrs["pixel_um"]
    shape = _output_shape(acquisition, system)
    record: dict[str, Any] = {"index": index, "status": "fail", "reasons": list(calibration["reasons"])}
    wants_static = settings.static if isinstance(settings.static, bool) else index in settings.static
    empty = np.full((len(times_s), len(system.channels), *shape), np.nan, np.float32)
    nothing = _Results(
        empty,
        np.full((len(times_s), 2 if shape[0] == 1 else 3, *shape), np.nan, np.float32),
        empty if settings.static else None,
        record,
    )
    if calibration["status"] == "fail":
        return nothing
    frames, frame_times = acquisition["frames"].values, acquisition["time"].values
    shared = {"calibration": calibration, "pixel_um": pixel}
    label = f"acquisition {index}"
    try:
        fit = reconstruct(system, frames, frame_times, settings, progress=label, **shared)
    except (FitError, DataError) as error:
        record["reasons"].append({"severity": "fail", "code": "fit", "message": str(error)})
        return nothing
    static, held_out, status = None, [], calibration["status"]
    try:
        if wants_static:
            static = reconstruct(
                system, frames, frame_times, settings, move=False, progress=f"{label} static", **shared
            )
        if index in settings.held_out:
            settings = fit.settings.model_copy(update={"starts": 1})  # the start that was kept
            held_out = [
                _held_out(system, settings, frames, frame_times, which, shared)
                for which in rotating(acquisition, system.block_axis, settings.held_out_frames)
            ]
    except (FitError, DataError) as error:  # what judges a fit must not cost the fit
        message = f"the static or held-out fits broke down: {error}"
        record["reasons"].append({"severity": "warn", "code": "side_fit", "message": message})
        status = "warn"
    record |= {
        "status": status,
        "seconds": fit.trace.seconds,
        "compile_seconds": fit.trace.compile_seconds,
        "peak_memory_mb": _peak_memory_mb(),
        "steps": len(fit.trace.loss),
        "loss": _sampled(fit.trace.loss * fit.scale**2),
        "loss_steps": _sampled(np.arange(1, len(fit.trace.loss) + 1)),
        "noise_variance": None if fit.noise_variance is None else float(fit.noise_variance.mean()),
        "residual_noise_units": _noise_units(fit),
        "static_residual_noise_units": None if static is None else _noise_units(static),
        "held_out": held_out,
        "motion_px": _motion_px(fit, frame_times),
        "calibration_corrections": {k: np.asarray(v).tolist() for k, v in fit.parameters["illumination"].items()},
        "scale": fit.scale,
        "start": {
            "scene_coarsest": fit.settings.multigrid.scene_coarsest,
            "motion_rate": fit.settings.multigrid.motion_rate,
        },
    }
    at_rest = empty if settings.static else None
    if static is not None:
        at_rest = np.broadcast_to(static.scene(times_s[:1]), empty.shape)
    return _Results(fit.scene(times_s), fit.motion(times_s), at_rest, record)


def rotating(acquisition: xr.Dataset, block_axis: str, count: int) -> list[int]:
    """Flat indices of up to ``count`` frames to hold out, one from each block in turn, never the same twice."""
    axes = frame_axes_of(acquisition)
    lengths = [acquisition.sizes[a] for a in axes]
    flat = np.moveaxis(np.arange(int(np.prod(lengths))).reshape(lengths), axes.index(block_axis), 0)
    flat = flat.reshape(flat.shape[0], -1)
    blocks, others = flat.shape
    turns = [(i % blocks, (i // blocks + i % blocks) % others) for i in range(min(count, blocks * others))]
    return list(dict.fromkeys(int(flat[turn]) for turn in turns))


def _held_out(
    system: ImagingSystem, settings: Reconstruction, frames: Any, times: Any, which: int, shared: dict[str, Any]
) -> dict[str, Any]:
    """Prediction error of one frame by fits that did not see it, in units of its noise."""
    from nstm.spacetime import reconstruct

    errors = []
    for move in (True, False):
        fit = reconstruct(
            system, frames, times, settings, move=move, held_out=which, progress=f"without frame {which}", **shared
        )
        errors.append(_noise_units(fit)[which])
    lengths = list(system.frame_axes.values())
    return {
        "frame": [int(i) for i in np.unravel_index(which, lengths)],
        "error": errors[0],
        "static_error": errors[1],
    }


def _noise_units(fit: Any) -> list[float | None]:
    """Root mean square residual of each frame in units of its noise; None where the noise is not known."""
    if fit.noise_variance is None:
        return [None] * len(fit.residual)
    square = np.mean(fit.residual**2, axis=tuple(range(1, fit.residual.ndim)))
    return [float(v) for v in np.sqrt(square / np.maximum(fit.noise_variance, 1e-12))]


def _motion_px(fit: Any, frame_times: np.ndarray) -> dict[str, float | None]:
    """Displacement between neighbouring frames and over the acquisition, camera pixels, where it is determined."""
    times = np.unique(frame_times)
    if len(times) < 2:
        return {"total_rms": None, "total_max": None, "per_interval_max": None}
    steps = np.linalg.norm(fit.motion(times)[1:], axis=1) / fit.pixel_um
    total = np.linalg.norm(fit.motion(times[[0, -1]])[1], axis=0) / fit.pixel_um
    if not np.isfinite(total).any():
        return {"total_rms": None, "total_max": None, "per_interval_max": None}
    return {
        "total_rms": float(np.sqrt(np.nanmean(total**2))),
        "total_max": float(np.nanpercentile(total, 99)),
        "per_interval_max": float(max(np.nanpercentile(s, 99) for s in steps)),
    }


def _sampled(values: np.ndarray, count: int = 200) -> list[float]:
    keep = np.unique(np.linspace(0, len(values) - 1, min(count, len(values))).astype(int))
    return [float(v) for v in values[keep]]


def _output_shape(acquisition: xr.Dataset, system: ImagingSystem) -> tuple[int, int, int]:
    sizes, ratio = acquisition.sizes, system.grid_ratio
    return sizes["z"], round(sizes["y"] * ratio), round(sizes["x"] * ratio)


def _write(
    out_store: Path, results: list[_Results], times_s: np.ndarray, first: int, last: int, provenance: dict[str, Any]
) -> None:
    with replace_whole(out_store) as partial:
        group = zarr.create_group(str(partial))
        for name in ("scene", "displacement", "static"):
            parts = [getattr(r, name) for r in results]
            if parts[0] is None:
                continue
            whole = np.concatenate(parts)
            array = group.create_array(name, shape=whole.shape, chunks=(1, *whole.shape[1:]), dtype="float32")
            array[:] = whole
        group.attrs["nstm"] = {
            "schema": JOB_SCHEMA,
            "first": first,
            "last": last,
            "times_s": [float(t) for t in times_s],
            "acquisitions": [r.record for r in results],
            "provenance": provenance,
        }


def _peak_memory_mb() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _prepare_device() -> None:
    """All jobs of an experiment share compiled programs; a job of one thread keeps to it.

    Snakemake tells the threads of a job through ``OMP_NUM_THREADS``. Jobs side by side that each take every core are
    slower than jobs of one thread, and sums that are split between threads would depend on their number.
    """
    if os.environ.get("OMP_NUM_THREADS") == "1" and "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    import jax

    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", ".jax_cache")
    jax.config.update("jax_compilation_cache_dir", os.path.abspath(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
