"""The facts of a recording as plain values: of its files alone, and of its data as the config describes them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from nstm.io.files import find_files
from nstm.io.open import printable
from nstm.io.protocol import OPTICS_RANGE
from nstm.pipeline.counts import count_range
from nstm.pipeline.missing import missing
from nstm.pipeline.recorded import (
    Recorded,
    channel_of,
    channels_of,
    file_times,
    has_colours,
    open_any,
    square_pixel_um,
)

_SAMPLING = ("pixel_um", "z_step_um")


def file_facts(recorded: Recorded, channel: str | None = None, settings: Any = None) -> dict[str, Any]:
    """What can be told without knowing how the frames are labelled.

    Args:
        recorded: files of a recording.
        channel: the one whose optics count; ``None``: the first.
        settings: those of the imaging system, whose numbers win; ``None``: there is no config.

    Raises:
        DataError: a plane cannot be decoded.
    """
    recording, header = recorded.recording, recorded.header
    looked_at = channel_of(header, channel)
    stated = {
        **looked_at.optics,
        "pixel_um": square_pixel_um(header),
        "z_step_um": recording.stated("z_step_um"),
    }
    given = {} if settings is None else settings.optics.model_dump(mode="json")
    saturation = None if settings is None else settings.camera.saturation
    return {
        "files": [{"path": printable(h.path), "bytes": h.file_bytes} for h in recording.headers],
        "bytes": sum(h.file_bytes for h in recording.headers),
        "format": header.format,
        "source_axes": recording.axes,
        "dtype": header.dtype.name,
        "plane_shape": list(header.plane_shape),
        **_choices(recorded),
        "channel": channel,
        "position": recorded.position,
        "flips": list(recording.flips),
        **_optics(given, {name: (value, "file") for name, value in stated.items() if given.get(name) is None}),
        "times": file_times(recording, looked_at.cell if has_colours(header) else None),
        "counts": count_range(recording.read_plane, recording.planes, header.plane_shape, saturation),
        "metadata": dict(header.metadata),
        "raw_bytes": recording.planes * math.prod(header.plane_shape) * header.dtype.itemsize,
    }


def usable_facts(acquisitions: xr.Dataset, sample: Any, system: Any) -> dict[str, Any]:
    """Facts of acquisitions as they will be converted.

    Args:
        acquisitions: see :mod:`nstm.acquisition`.
        sample: row of the sheet.
        system: its imaging system.

    Raises:
        DataError: a plane cannot be decoded.
    """
    source, optics = acquisitions.attrs["source"], system.settings.optics
    first = open_any(find_files(sample.path)[0], sample.position)  # further files of a sample offer the same
    known = {name: (entry["value"], entry["origin"]) for name, entry in source["optics"].items()}
    known["pixel_um"] = acquisitions.attrs["pixel_um"], source["pixel_origin"]
    known["z_step_um"] = acquisitions.attrs["z_step_um"], "file" if optics.z_step_um is None else "config"
    times = time_facts(acquisitions)
    exposure = file_times(first.recording, sample.channel)["exposure_s"] if times["origin"] == "read" else None
    kept = ("files", "format", "dtype", "plane_shape", "channel", "position", "crop", "order", "order_origin", "flips")
    return {
        **{key: source[key] for key in (*kept, "recorded_acquisitions", "dropped_planes", "metadata")},
        "bytes": sum(file["bytes"] for file in source["files"]),
        "source_axes": source["axes"],
        **_choices(first),
        "sizes": {str(name): int(length) for name, length in acquisitions["frames"].sizes.items()},
        **_optics(optics.model_dump(mode="json"), known),
        "times": {**times, "exposure_s": system.settings.frames.exposure_s if exposure is None else exposure},
        "counts": _frame_counts(acquisitions["frames"], system.settings.camera.saturation),
        "missing": [missing("frames.exposure_s", sample.system, needed=False)] if times["origin"] == "assumed" else [],
        "raw_bytes": int(acquisitions["frames"].nbytes),
    }


def time_facts(acquisitions: xr.Dataset) -> dict[str, Any]:
    """Where the times come from, how long the recording is, and the usual steps of frames and acquisitions, s."""
    times = np.sort(acquisitions["time"].values.reshape(acquisitions.sizes["t"], -1), axis=1)
    steps, starts = np.diff(times, axis=1), np.diff(times[:, 0])
    return {
        "origin": acquisitions.attrs["time_origin"],
        "duration_s": float(times.max() - times.min()),
        "frame_interval_s": float(np.median(steps)) if steps.size else None,
        "acquisition_interval_s": float(np.median(starts)) if starts.size else None,
    }


def _choices(recorded: Recorded) -> dict[str, Any]:
    """The channels and positions that a file offers."""
    return {
        "channels": [{"channel": c.cell, "name": c.name, **c.optics} for c in channels_of(recorded.header)],
        "positions": list(recorded.positions),
    }


def _optics(given: Mapping[str, Any], known: Mapping[str, tuple[float | None, str]]) -> dict[str, Any]:
    """Sampling and optics with the origin of each number.

    Args:
        given: numbers of the config.
        known: value and origin of those that are settled; what is not here comes from the config.
    """
    values = {**given, **{name: value for name, (value, _) in known.items()}}
    values = {name: value for name, value in values.items() if value is not None}
    origins = {name: known[name][1] if name in known else "config" for name in (*OPTICS_RANGE, *_SAMPLING)}
    return {
        "pixel_um": values.get("pixel_um"),
        "pixel_origin": origins["pixel_um"] if "pixel_um" in values else None,
        "z_step_um": values.get("z_step_um"),
        "optics": values,
        "optics_origin": {name: origin for name, origin in origins.items() if name in values},
    }


def _frame_counts(frames: xr.DataArray, saturation: float | None) -> dict[str, Any]:
    """Range of the counts in the planes of ``(t, *frame_axes, z, y, x)``."""
    shape = frames.shape[:-2]

    def read_plane(number: int) -> np.ndarray:
        return np.asarray(frames[tuple(int(i) for i in np.unravel_index(number, shape))].values)

    return count_range(read_plane, math.prod(shape), (frames.sizes["y"], frames.sizes["x"]), saturation)
