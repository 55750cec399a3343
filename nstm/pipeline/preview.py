"""A part of a recording in minutes, as a movie, and what the whole would cost by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
import xarray as xr
from scipy import ndimage

from nstm.pipeline.assemble import run_assemble
from nstm.pipeline.conventional import run_conventional
from nstm.pipeline.evaluate import acquisition_records
from nstm.pipeline.experiment import Experiment
from nstm.pipeline.inspect import inspect_sample, open_sample
from nstm.pipeline.movie import run_movie
from nstm.pipeline.panels import Shown
from nstm.pipeline.single import SAMPLE, Single, reconstruct_file, single_experiment
from nstm.pipeline.sizes import estimate_sizes
from nstm.settings import Reconstruction
from nstm.visual.tables import duration_text, size_text

#: Side of the region that is looked at where none is named, camera pixels, and how many acquisitions.
REGION_PX = 128
ACQUISITIONS = 3


@dataclass(frozen=True)
class Preview:
    """What a preview found.

    Args:
        warnings: of the gates.
        movie: beside the store.
        cost: of the preview and of the whole, in words.
    """

    warnings: list[str]
    movie: Path
    cost: str


def preview_file(
    config: Mapping[str, Any], base_dir: str | Path, system: str | None, row: Mapping[str, str], out_store: str | Path
) -> Preview:
    """Reconstruct a region of some acquisitions, show it beside the other methods, and say what the whole would cost.

    Without ``crop`` the region of 128 x 128 camera pixels with most structure is taken, without ``acquisitions`` three
    that are spread over the recording.

    Args:
        config: content of a config file.
        base_dir: folder that its paths start from.
        system: a key of ``systems:``.
        row: columns of a sheet's row.
        out_store: time-lapse store to write; the movie and a still picture stand beside it.

    Raises:
        DataError: as :func:`nstm.pipeline.single.reconstruct_file`.
    """
    with TemporaryDirectory() as name:
        whole_row = {k: v for k, v in row.items() if k not in ("crop", "acquisitions")}
        whole = single_experiment(config, base_dir, system, whole_row, Path(name))
        stage = whole.stage(SAMPLE, "inspect")
        found = inspect_sample(stage.sample, stage.system)
        chosen = dict(row)
        if found["status"] != "fail":  # else the reconstruction says why
            recording = open_sample(stage.sample, stage.system)
            chosen["crop"] = row.get("crop") or region_of(recording)
            chosen["acquisitions"] = row.get("acquisitions") or spread_over(recording.sizes["t"])
        movie = Path(str(out_store).removesuffix(".ome.zarr").removesuffix(".zarr") + ".mp4").absolute()
        costs: list[str] = []

        def look(single: Single) -> None:
            _show(single, movie)
            costs.append(cost_text(acquisition_records(single.jobs), _sizes(single), found, whole))

        warnings = reconstruct_file(config, base_dir, system, chosen, out_store, look)
    return Preview(warnings, movie, costs[0])


def region_of(recording: xr.Dataset, side: int = REGION_PX) -> str:
    """The square with most structure in the first acquisition, ``y0:y1,x0:x1``; "" where the field is no larger."""
    frames = recording["frames"].isel(t=0)
    mean = np.asarray(frames.mean([d for d in frames.dims if d not in ("y", "x")]).values, dtype=np.float64)
    ny, nx = mean.shape
    if max(ny, nx) <= side:
        return ""
    height, width = min(side, ny), min(side, nx)
    texture = ndimage.gaussian_gradient_magnitude(mean, 1.5)
    sums = np.pad(texture.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    y, x = (int(v) for v in np.unravel_index(int(inside.argmax()), inside.shape))
    return f"{y}:{y + height},{x}:{x + width}"


def spread_over(acquisitions: int, count: int = ACQUISITIONS) -> str:
    """``count`` acquisitions from the first on in equal steps, as a slice."""
    step = max(1, acquisitions // count)
    return f"0:{min(acquisitions, step * count)}:{step}"


def cost_text(
    records: list[dict[str, Any]], sizes: Mapping[str, int], found: Mapping[str, Any], whole: Experiment
) -> str:
    """What the preview took, and by it what the whole will take on the same machine.

    A fit takes time in proportion to the pixels and planes of its frames; compilation happens once per job.

    Args:
        records: of the acquisitions that were fitted.
        sizes: of the preview.
        found: ``inspect`` of the whole recording.
        whole: its experiment.
    """
    fitted = [r for r in records if r.get("seconds") is not None]
    if not fitted:
        return "nothing was fitted, so the cost of the whole is not known"
    compilation = max(float(r["compile_seconds"] or 0) for r in fitted)
    each = sum(float(r["seconds"]) - float(r["compile_seconds"] or 0) for r in fitted) / len(fitted)
    settings = cast(Reconstruction, whole.section(SAMPLE, "reconstruction"))
    full: Mapping[str, int] = found["sizes"]
    ratio = _padded(full, settings.padding_px) / _padded(sizes, settings.padding_px)
    jobs = whole.jobs(SAMPLE, full["t"])
    others = side_fits(settings, full["t"])
    total = each * ratio * (full["t"] + others) + compilation * len(jobs)
    longest = each * ratio * max(b - a + 1 for a, b in jobs) + compilation
    disk = estimate_sizes(found, whole, SAMPLE)["peak"]["bytes_at_most"]
    plus = f", and {others} more fits for what is held out, at rest or repeated" if others else ""
    part = (
        f"preview: {len(fitted)} acquisition(s) of {_shape(sizes)}, {duration_text(each)} each after "
        f"{duration_text(compilation)} of compilation"
    )
    return part + (
        f"\nthe whole: {full['t']} acquisition(s) of {_shape(full)}{plus}: about {duration_text(total)} of fits on a "
        f"machine like this, in {len(jobs)} job(s) of at most {duration_text(longest)}; "
        f"at most {size_text(disk)} on disk"
    )


def side_fits(settings: Reconstruction, acquisitions: int) -> int:
    """Fits beside one per acquisition: at rest, without a frame, and repeated."""
    still = acquisitions if settings.static is True else len([i for i in settings.static or [] if i < acquisitions])
    held = len([i for i in settings.held_out if i < acquisitions])
    return still + held * (2 * settings.held_out_frames + settings.seeds)


def _padded(sizes: Mapping[str, int], padding_px: int) -> float:
    return float(sizes["z"] * (sizes["y"] + 2 * padding_px) * (sizes["x"] + 2 * padding_px))


def _shape(sizes: Mapping[str, int]) -> str:
    planes = f"{sizes['z']} x " if sizes["z"] > 1 else ""
    return f"{planes}{sizes['y']} x {sizes['x']} px"


def _sizes(single: Single) -> dict[str, int]:
    stage = single.experiment.stage(SAMPLE, "inspect")
    return {str(k): int(v) for k, v in open_sample(stage.sample, stage.system).sizes.items()}


def _show(single: Single, movie: Path) -> None:
    """The movie of the preview, beside its store."""
    raw, illumination = single.folder / "raw.ome.zarr", single.folder / "illumination.json"
    stores = {"nstm": single.store}
    for name in single.experiment.baselines(SAMPLE):
        stores[name] = single.folder / f"{name}.ome.zarr"
        run_conventional(single.params("conventional"), raw, illumination, name, stores[name])
    motion = single.folder / "motion.ome.zarr"
    run_assemble(single.params("assemble"), raw, single.jobs, "motion", motion)
    run_movie(single.params("movie"), Shown(stores, motion=motion), movie, movie.with_suffix(".png"))
