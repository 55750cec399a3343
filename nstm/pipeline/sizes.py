"""How much disk a sample will need: an estimate before anything is run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
import xarray as xr

from nstm.acquisition import frame_axes_of
from nstm.io.shards import compressed, most_bytes
from nstm.pipeline.experiment import Experiment
from nstm.settings import Reconstruction

_FLOAT32 = 4
_GROUP_FILES = 2  # zarr.json of a store and of its array
_TIMES_FILES = 2  # zarr.json and the one chunk of the times of a raw store
#: Metadata that no store outgrows, bytes: of the store, of every source file and time, of every fitted acquisition.
_METADATA, _METADATA_PER_ENTRY, _METADATA_PER_FIT = 2**16, 2**9, 2**15


def estimate_sizes(
    inspected: Mapping[str, Any], experiment: Experiment, sample: str, compression: float | None = None
) -> dict[str, Any]:
    """Bytes and files of all stores of a sample.

    Args:
        inspected: what :func:`nstm.pipeline.inspect.inspect_sample` found; ``sizes`` and ``dtype`` are used.
        experiment: its settings say which results there will be, and what is kept.
        sample: name of the sample.
        compression: bytes before over bytes after, see :func:`compression_of`; ``None``: not known.

    Returns:
        ``raw``, ``jobs``, ``timelapse`` (by product), ``stays`` (what is left in the end) and ``peak`` (all stores
        at once, before what is not kept goes), each with ``bytes_at_most`` (no compression at all) and ``files``;
        ``raw``, ``stays`` and ``peak`` also with ``bytes_expected`` from ``compression``, which only raw frames
        have: results are floating point numbers and stay near their bound. Movies, figures and logs are not counted.
        Empty for a sample that cannot be used.
    """
    sizes = {str(axis): int(length) for axis, length in inspected["sizes"].items()}
    if not sizes:
        return {}
    metadata = _METADATA + _METADATA_PER_ENTRY * len(inspected["files"])
    raw = _raw(sizes, np.dtype(inspected["dtype"]), compression, metadata)
    times = sizes["t"] * _times_per_acquisition(sizes, experiment, sample)
    image = _image_shape(sizes, experiment, sample)
    products = experiment.fitted(sample, sizes["t"])
    directions = 2 if image[1] == 1 else 3
    channels = {
        name: directions if name == "motion" else image[0] for name in [*products, *experiment.baselines(sample)]
    }
    timelapse = {name: _timelapse((times, count, *image[1:]), metadata) for name, count in channels.items()}
    jobs = _jobs(experiment, sample, sizes["t"], times, image, metadata)
    keep = experiment.config.keep
    kept = [*timelapse.values(), *([raw] if keep.raw else []), *([jobs] if keep.jobs else [])]
    return {
        "raw": raw,
        "jobs": jobs,
        "timelapse": timelapse,
        "stays": _sum(kept),
        "peak": _sum([raw, jobs, *timelapse.values()]),
        "compression": compression,
        "keep": keep.model_dump(),
    }


def compression_of(acquisitions: xr.Dataset, planes: int = 6) -> float:
    """Bytes before over bytes after compression of raw frames, from some planes spread over the sample.

    Args:
        acquisitions: see :mod:`nstm.acquisition`.
        planes: how many are read.
    """
    frames = acquisitions["frames"]
    lead = ("t", *frame_axes_of(acquisitions), "z")
    lengths = [frames.sizes[axis] for axis in lead]
    chosen = np.unique(np.linspace(0, math.prod(lengths) - 1, planes).round().astype(int))
    places = (dict(zip(lead, map(int, np.unravel_index(i, lengths)), strict=True)) for i in chosen)
    return compression_ratio(frames.isel(place).values for place in places)


def compression_ratio(planes: Iterable[np.ndarray]) -> float:
    """Bytes before over bytes after compression of planes ``(y, x)``, as a store holds them."""
    pairs = [(plane.nbytes, len(compressed(plane))) for plane in planes]
    return sum(before for before, _ in pairs) / sum(after for _, after in pairs)


def sizes_text(estimate: Mapping[str, Any]) -> str:
    """The estimate as a table for people; empty for a sample that cannot be used."""
    if not estimate:
        return ""
    keep, per_acquisition = estimate["keep"], estimate["raw"]["files_per_acquisition"]
    rows = [
        ("raw.ome.zarr", estimate["raw"], f"{per_acquisition} per acquisition{_going(keep['raw'])}"),
        ("jobs", estimate["jobs"], _going(keep["jobs"]).removeprefix(", ")),
        *((f"timelapse/{name}.ome.zarr", entry, "") for name, entry in estimate["timelapse"].items()),
        ("stays", estimate["stays"], ""),
        ("needed while it runs", estimate["peak"], ""),
    ]
    width = max(len(name) for name, _, _ in rows)
    lines = [f"{'on disk':<{width}}  at most   expected     files"]
    for name, entry, note in rows:
        expected = entry.get("bytes_expected")
        expected = f"{_shown(expected):>9}" if expected is not None else f"{'':9}"
        lines.append(
            f"{name:<{width}} {_shown(entry['bytes_at_most']):>8}  {expected} {entry['files']:>9}  {note}".rstrip()
        )
    return "\n".join(lines)


def _raw(sizes: Mapping[str, int], dtype: np.dtype[Any], compression: float | None, metadata: int) -> dict[str, Any]:
    frames = math.prod(length for axis, length in sizes.items() if axis not in ("t", "z", "y", "x"))
    shape = (sizes["t"], frames, sizes["z"], sizes["y"], sizes["x"])
    pixels = math.prod(shape) * dtype.itemsize
    others = metadata + math.prod(shape[:3]) * 8
    return {
        "bytes_at_most": most_bytes(shape, dtype.itemsize) + others,
        "bytes_expected": None if compression is None else round(pixels / compression) + others,
        "files": sizes["t"] + _GROUP_FILES + _TIMES_FILES,
        "files_per_acquisition": 1,
    }


def _times_per_acquisition(sizes: Mapping[str, int], experiment: Experiment, sample: str) -> int:
    wanted = cast(Reconstruction, experiment.section(sample, "reconstruction")).output_times
    system = experiment.stage(sample, "convert").system
    if wanted == "orientations":
        return sizes[system.block_axis]
    if wanted == "windows":
        return -(-sizes[system.block_axis] // getattr(system.baselines["conventional"], "step", 1))
    each = [axis for axis in system.frame_axes if axis not in system.simultaneous_axes]
    return math.prod(sizes[axis] for axis in each) if wanted == "frames" else int(wanted)


def _image_shape(sizes: Mapping[str, int], experiment: Experiment, sample: str) -> tuple[int, int, int, int]:
    """Channels, planes, rows and columns of a result."""
    system = experiment.stage(sample, "convert").system
    return len(system.channels), *system.result_shape((sizes["z"], sizes["y"], sizes["x"]))


def _timelapse(shape: tuple[int, ...], metadata: int) -> dict[str, Any]:
    return {
        "bytes_at_most": most_bytes(shape, _FLOAT32) + metadata + _METADATA_PER_ENTRY * shape[0],
        "files": shape[0] + _GROUP_FILES,
    }


def _jobs(
    experiment: Experiment, sample: str, acquisitions: int, times: int, image: tuple[int, int, int, int], metadata: int
) -> dict[str, Any]:
    """The stores of all reconstruct jobs: scene, displacement and, where asked for, the scene without motion."""
    count = len(experiment.jobs(sample, acquisitions))
    static = "static" in experiment.fitted(sample, acquisitions)
    arrays = 3 if static else 2
    values = image[0] * (arrays - 1) + _directions(image)
    pixels = times * values * math.prod(image[1:]) * _FLOAT32
    return {
        "bytes_at_most": pixels + count * metadata + acquisitions * _METADATA_PER_FIT,
        "files": times * arrays + count * (arrays + 1),
    }


def _directions(image: tuple[int, int, int, int]) -> int:
    """Components of the motion of ``(c, z, y, x)``."""
    return 2 if image[1] == 1 else 3


def _sum(entries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    entries = list(entries)
    known = [entry.get("bytes_expected", entry["bytes_at_most"]) for entry in entries]
    return {
        "bytes_at_most": sum(entry["bytes_at_most"] for entry in entries),
        "bytes_expected": None if None in known else sum(known),
        "files": sum(entry["files"] for entry in entries),
    }


def _going(kept: bool) -> str:
    return "" if kept else ", removed in the end"


def _shown(count: int) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"
