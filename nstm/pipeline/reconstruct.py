"""Rule ``reconstruct``: the space-time fits of one batch of acquisitions, one store per job."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr

from nstm.acquisition import DataError, frame_shape_of
from nstm.io.jsonfile import read_json
from nstm.io.store import open_raw, replace_whole
from nstm.pipeline.device import prepare_device
from nstm.pipeline.experiment import Stage
from nstm.pipeline.fits import SNAPSHOTS
from nstm.pipeline.lineage import lineage
from nstm.pipeline.progress import Progress, until_terminated
from nstm.pipeline.record import noise_units, record_of, spread_of
from nstm.pipeline.timeaxis import measured_at, time_axis
from nstm.quality.reasons import status_of
from nstm.settings import Reconstruction
from nstm.systems.base import Calibration, ImagingSystem

if TYPE_CHECKING:
    from nstm.spacetime.result import Fit
    from nstm.spacetime.tiles import Tiles

JOB_SCHEMA = 1


def run_reconstruct(
    params: Mapping[str, Any],
    raw_store: Path,
    illumination_json: Path,
    first: int,
    last: int,
    out_store: Path,
    checkpoints: Path | None = None,
    gpus: int = 0,
    allow_cpu: bool = False,
    attempt: int = 1,
) -> None:
    """Fit the acquisitions ``first`` to ``last`` and write ``jobs/{first}-{last}.zarr``.

    Every acquisition is fitted by itself from a cold start, so the arrays do not depend on how acquisitions are
    grouped into jobs. An acquisition that failed its checks or whose fit broke down is NaN, with the reason.

    Args:
        params: of the stage.
        raw_store: frames of the sample.
        illumination_json: calibration of every acquisition.
        first: number of the first acquisition.
        last: number of the last one.
        out_store: store to write.
        checkpoints: folder of the progress of all jobs: a job that was stopped goes on from there to the same arrays.
        gpus: GPUs that the job asked for.
        allow_cpu: whether the CPU will do where there is no GPU.
        attempt: 2 and more where the job failed before: then less of the memory of a GPU is taken.

    Raises:
        DataError: a GPU was asked for and cannot be used.
        Stopped: SIGTERM came; the progress stands in ``checkpoints``.
    """
    print(f"computing on {prepare_device(gpus, allow_cpu)}", file=sys.stderr)
    from nstm.spacetime.checkpoint import Stopped

    stage = Stage.from_params(params)
    raw = open_raw(raw_store)
    system = stage.system_of(raw)
    calibrations = read_json(illumination_json)["acquisitions"][first : last + 1]
    axis = time_axis(raw, system, stage.reconstruction.output_times)
    measured = measured_at(raw, system, axis)
    origin = lineage(raw, params)
    progress = Progress(checkpoints, {"lineage": origin, "calibrations": calibrations, "first": first, "last": last})
    results = []
    with until_terminated() as stop:
        for index, calibration in enumerate(calibrations, start=first):
            if stop():
                raise Stopped(f"the job was stopped before acquisition {index} of {first} to {last}")
            kept = progress.finished(index)
            if kept is None:
                fits = _Fits(
                    system, stage.reconstruction, raw.isel(t=index), index, calibration, progress, stop, attempt
                )
                kept = _one(fits, axis.times_s[axis.of(index)], measured[axis.of(index)])
                progress.keep(index, *kept)
            results.append(kept)
    inside = np.concatenate([axis.of(i) for i in range(first, last + 1)])
    _write(out_store, results, axis.times_s[inside], first, last, origin)
    progress.clear()


@dataclass(frozen=True)
class _Fits:
    """The fits of one acquisition, each with checkpoints of its own."""

    system: ImagingSystem
    settings: Reconstruction
    acquisition: xr.Dataset
    index: int
    calibration: Calibration
    progress: Progress
    stop: Callable[[], bool]
    attempt: int = 1

    def __call__(
        self, name: str = "", settings: Reconstruction | None = None, frames: np.ndarray | None = None, **options: Any
    ) -> Fit | Tiles:
        """A fit called ``name``: of other ``settings`` or ``frames`` than the acquisition's where given.

        ``options`` are those of :func:`nstm.spacetime.reconstruct`.
        """
        from nstm.spacetime import reconstruct
        from nstm.spacetime.checkpoint import CheckpointError

        folder = self.progress.of_fit(self.index, name.replace(" ", "-") or "moving")
        given = {
            "calibration": self.calibration,
            "pixel_um": self.acquisition.attrs["pixel_um"],
            "progress": f"acquisition {self.index} {name}".strip(),
            "checkpoint": folder,
            "stop": self.stop,
            "attempt": self.attempt,
            **options,
        }
        if frames is None:
            frames = self.acquisition["frames"].values
        times, settings = self.acquisition["time"].values, settings or self.settings
        try:
            return reconstruct(self.system, frames, times, settings, **given)
        except CheckpointError as error:
            print(f"{error}: this fit begins anew", file=sys.stderr)
            shutil.rmtree(given["checkpoint"])
            return reconstruct(self.system, frames, times, settings, **given)


#: Arrays of one acquisition by name (``scene (t, c, z, y, x)``, ``displacement (t, d, z, y, x)`` um, and ``static``
#: like ``scene`` where some acquisition of the job asks for it, ``snapshots (s, c, z, y, x)`` of the first acquisition
#: of the sample), and its record.
_Results = tuple[dict[str, np.ndarray], dict[str, Any]]


def _one(fits: _Fits, times_s: np.ndarray, measured: np.ndarray) -> _Results:
    """Results of one acquisition at the times of the time lapse; NaN where nothing was ``measured``."""
    from nstm.spacetime import FitError
    from nstm.spacetime.reconstruct import start_of

    settings, index = fits.settings, fits.index
    frame_shape = frame_shape_of(fits.acquisition)
    shape = fits.system.result_shape(frame_shape)
    scene = np.full((len(times_s), len(fits.system.channels), *shape), np.nan, np.float32)
    arrays = {
        "scene": scene,
        "displacement": np.full((len(times_s), 2 if shape[0] == 1 else 3, *shape), np.nan, np.float32),
        **({"static": scene} if settings.static else {}),
    }
    record: dict[str, Any] = {"index": index, "status": "fail", "reasons": list(fits.calibration["reasons"])}
    if fits.calibration["status"] == "fail":
        return arrays, record
    record["reasons"] = reasons_against_fit(fits.system, fits.calibration, settings)
    begin = time.process_time()
    kept = [math.ceil(share * settings.steps) for share in settings.snapshots] if index == 0 else []
    try:
        fit = fits(snapshots=kept)
    except (FitError, DataError) as error:
        record["reasons"].append({"severity": "fail", "code": "fit", "message": str(error)})
        return arrays, record
    arrays["scene"] = _at(fit.scene, times_s, measured, scene)
    arrays["displacement"] = _at(fit.motion, times_s, measured, arrays["displacement"])
    if snapshots := fit.snapshots:
        arrays[SNAPSHOTS] = np.stack(list(snapshots.values()))
        record["snapshot_steps"] = list(snapshots)
    record |= {
        "status": status_of(record["reasons"]),
        "cpu_seconds": time.process_time() - begin,
        **record_of(fit, fits.system.cutoff(fits.calibration), fits.system.smeared_s),
        "static_residual_noise_units": None,
        "held_out": [],
        "seeds": None,
    }
    try:
        if settings.static if isinstance(settings.static, bool) else index in settings.static:
            static = fits("static", move=False)
            arrays["static"] = _at(lambda times: static.scene(times[:1]), times_s, measured, scene)
            record["static_residual_noise_units"] = noise_units(static)
        if index in settings.held_out:
            record["held_out"] = [
                _held_out(fits, start_of(fit.settings, fits.settings), which)
                for which in rotating(
                    fits.system.measured_axes(frame_shape), fits.system.block_axis, settings.held_out_frames
                )
                if which not in fits.calibration.get("left_out", ())
            ]
            if settings.seeds:
                record["seeds"] = _seeds(fits, fit)
    except (FitError, DataError) as error:  # what judges a fit must not cost the fit
        message = f"the static, held-out or repeated fits broke down: {error}"
        record["reasons"].append({"severity": "warn", "code": "side_fit", "message": message})
        record["status"] = "warn"
    return arrays, record


def reasons_against_fit(
    system: ImagingSystem, calibration: Calibration, settings: Reconstruction
) -> list[dict[str, Any]]:
    """What the calibration was warned of, but for what a fit that refines the illumination finds better itself."""
    refined = system.refined_by_fit if settings.illumination_rate > 0 else frozenset()
    return [dict(r) for r in calibration["reasons"] if r["severity"] == "fail" or r["code"] not in refined]


def _at(
    render: Callable[[np.ndarray], np.ndarray], times_s: np.ndarray, measured: np.ndarray, nothing: np.ndarray
) -> np.ndarray:
    """What ``render`` gives at the times that were measured, and ``nothing`` at the others."""
    found = nothing.copy()
    if measured.any():
        found[measured] = render(times_s[measured])
    return found


def rotating(axes: Mapping[str, int], block_axis: str, count: int) -> list[int]:
    """Flat indices of up to ``count`` measurements to hold out, one from each block in turn, never the same twice.

    Args:
        axes: name and length of the axes of the measurements.
        block_axis: the one whose positions are blocks; where there is none, they are spread evenly.
        count: how many.
    """
    lengths, names = list(axes.values()), list(axes)
    if block_axis not in names:
        every = int(np.prod(lengths))
        count = min(count, every)
        return [int((i + 0.5) * every / count) for i in range(count)]
    first = names.index(block_axis)
    flat = np.moveaxis(np.arange(int(np.prod(lengths))).reshape(lengths), first, 0)
    flat = flat.reshape(flat.shape[0], -1)
    blocks, others = flat.shape
    turns = [(i % blocks, (i // blocks + i % blocks) % others) for i in range(min(count, blocks * others))]
    return list(dict.fromkeys(int(flat[turn]) for turn in turns))


def _held_out(fits: _Fits, settings: Reconstruction, which: int) -> dict[str, Any]:
    """Prediction error of one frame by fits that did not see it, in units of its noise.

    ``settings`` are those of the start that was kept for all frames.
    """
    alone = settings.model_copy(update={"starts": 1})
    errors = [
        noise_units(fits(f"{name} without frame {which}", alone, move=move, held_out=which))[which]
        for name, move in (("moving", True), ("static", False))
    ]
    lengths = list(fits.system.measured_axes(frame_shape_of(fits.acquisition)).values())
    return {
        "frame": [int(i) for i in np.unravel_index(which, lengths)],
        "error": errors[0],
        "static_error": errors[1],
    }


def _seeds(fits: _Fits, fit: Fit | Tiles) -> dict[str, Any] | None:
    """How much scene and motion change when the frames are fitted again with fresh noise and from other seeds.

    Every repetition adds to the frames noise of the size that they have, so that the spread is what one more dose of
    noise does; an engine that starts at random gets another seed too. A fit that only chance has found spreads by far
    more than the noise. ``None`` where the noise is not known.
    """
    from nstm.spacetime.reconstruct import start_of

    if fit.noise_variance is None:
        return None
    frames = fits.acquisition["frames"].values.astype(np.float32)
    counts = frames - np.float32(fits.system.settings.camera.offset)
    start = start_of(fit.settings, fits.settings)
    deviation = fits.system.noise_of_frames(counts, fit.noise_variance).astype(np.float32)
    main = next((i for i, channel in enumerate(fits.system.channels) if channel.main), 0)
    times = np.unique(fit.times_s)
    middle, ends = times[[len(times) // 2]], times[[0, -1]]
    scenes, motions = [], []
    for seed in range(1, fits.settings.seeds + 1):
        noise = np.random.default_rng([fits.index, seed]).standard_normal(frames.shape, np.float32)
        again = start.model_copy(update={"starts": 1, "seed": start.seed + seed})
        repeated = fits(f"seed {seed}", again, frames + deviation * noise)
        scenes.append(repeated.scene(middle)[0, main])
        motions.append(repeated.motion(ends)[1] / fit.pixel_um)
    return spread_of(np.stack(scenes), np.stack(motions))


def _write(
    out_store: Path, results: list[_Results], times_s: np.ndarray, first: int, last: int, provenance: dict[str, Any]
) -> None:
    with replace_whole(out_store) as partial:
        group = zarr.create_group(str(partial))
        for name in results[0][0]:
            whole = np.concatenate([arrays[name] for arrays, _ in results if name in arrays])
            array = group.create_array(name, shape=whole.shape, chunks=(1, *whole.shape[1:]), dtype="float32")
            array[:] = whole
        group.attrs["nstm"] = {
            "schema": JOB_SCHEMA,
            "first": first,
            "last": last,
            "times_s": [float(t) for t in times_s],
            "acquisitions": [record for _, record in results],
            "provenance": provenance,
        }
