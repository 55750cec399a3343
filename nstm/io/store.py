"""OME-Zarr stores (NGFF 0.5, zarr v3): the raw frames of a sample and the time-lapse results.

The NGFF metadata are written by ome-zarr. The array is made here and not by its ``write_image``, which has no
way to take frames or results as they are read or computed; see :mod:`nstm.io.shards`. Beside ``"ome"`` a block
``"nstm"`` holds what NGFF has no place for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
import zarr
from zarr.storage import LocalStore

from nstm.acquisition import Channel, DataError, in_colour, make_acquisitions
from nstm.io.jsonfile import plain
from nstm.io.protocol import shown
from nstm.io.shards import codec, missing_shards, write_shards
from nstm.io.whole import replace_whole

__all__ = [
    "SCHEMA",
    "is_raw",
    "open_raw",
    "open_timelapse",
    "raw_status",
    "replace_whole",
    "write_failed",
    "write_raw",
    "write_timelapse",
]

SCHEMA = 1
_RAW_AXES = (("t", "time", "second"), ("raw", "channel", None), *((a, "space", "micrometer") for a in "zyx"))
_TIMELAPSE_AXES = (("t", "time", "second"), ("c", "channel", None), *((a, "space", "micrometer") for a in "zyx"))
#: Range that viewers show at first: percentiles, and pixels of a time that they are taken from.
_SHOWN_PERCENT, _LOOKED_AT = (0.1, 99.9), 2**20
_PRIMARY = ("FF0000", "00FF00", "0000FF")
_REMEDY = "delete it and run the workflow again"
StorePath = str | os.PathLike[str]


def write_raw(
    path: StorePath,
    acquisitions: xr.Dataset,
    provenance: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
    ahead: Callable[[float], None] | None = None,
) -> None:
    """Write the frames of a sample as ``raw.ome.zarr``, one file per acquisition.

    Axes are ``t raw z y x``; ``raw`` is the frame axes flattened, the last fastest. The times stand in an array
    ``times (t, raw, z)``, s. Memory: a few planes.

    Args:
        path: the store, replaced if it exists, whole or not at all.
        acquisitions: see :mod:`nstm.acquisition`.
        provenance: JSON-able; where the frames come from (files, hashes, versions, optics). A function is called
            when all frames are written.
        ahead: called in another thread with the share of the frames that will soon be read.

    Raises:
        DataError: the frames cannot be read.
        OSError: the store cannot be written.
    """
    frames, time = acquisitions["frames"], acquisitions["time"]
    count, lead, sides = frames.sizes["t"], frames.shape[1:-3], frames.shape[-3:]
    attrs = acquisitions.attrs
    shape = (count, math.prod(lead), *sides)
    with replace_whole(path) as temporary:
        group = _new_group(temporary)
        _new_array(group, shape, frames.dtype, [axis[0] for axis in _RAW_AXES])
        planes = da.asarray(frames.data).rechunk((*(1,) * (frames.ndim - 2), *frames.shape[-2:]))
        write_shards(temporary / "0", planes, ahead)
        times = time.values.reshape(shape[:3])
        names = ["t", "raw", "z"]
        stored = group.create_array("times", data=times, chunks=times.shape, dimension_names=names, fill_value=math.nan)
        stored.attrs["unit"] = "second"
        reasons = list(attrs["source"].get("reasons", []))
        block = {
            "schema": SCHEMA,
            "status": "warn" if reasons else "pass",
            "reasons": reasons,
            "frame_axes": [[name, frames.sizes[name]] for name in attrs["frame_axes"]],
            "pixel_um": attrs["pixel_um"],
            "z_step_um": attrs["z_step_um"],
            "time_origin": attrs["time_origin"],
            "files_per_acquisition": 1,
            "source": attrs["source"],
            "provenance": dict(provenance() if callable(provenance) else provenance),
        }
        starts = times.reshape(count, -1).min(axis=1)
        _write_metadata(group, _RAW_AXES, _scale(starts, attrs["z_step_um"], attrs["pixel_um"]), "raw", block)


def write_failed(path: StorePath, reasons: Sequence[Mapping[str, str]]) -> None:
    """Write, in place of ``raw.ome.zarr``, a store without frames that says why there are none."""
    with replace_whole(path) as temporary:
        _new_group(temporary).attrs["nstm"] = plain({"schema": SCHEMA, "status": "fail", "reasons": list(reasons)})


def raw_status(path: StorePath) -> tuple[str, list[dict[str, str]]]:
    """Status (pass, warn, fail) and reasons of a raw store.

    Raises:
        DataError: no such store, or not one of ours.
    """
    block = _block(path, _open_group(path))
    status, reasons = block.get("status"), block.get("reasons")
    if status not in ("pass", "warn", "fail") or not isinstance(reasons, list) or not all(map(_is_reason, reasons)):
        raise DataError(f"{shown(path)}: no valid status in the store: {_REMEDY}")
    return status, [dict(reason) for reason in reasons]


def is_raw(path: StorePath) -> bool:
    """Whether a store is that of raw frames, or says why there are none; else it is a time-lapse store.

    Raises:
        DataError: no such store, or not one of ours.
    """
    return "status" in _block(path, _open_group(path))


def open_raw(path: StorePath) -> xr.Dataset:
    """The frames of a raw store, read when asked for; see :mod:`nstm.acquisition`.

    Raises:
        DataError: the sample could not be converted (the reasons are told), or the store is damaged.
    """
    status, reasons = raw_status(path)
    if status == "fail":
        told = "; ".join(reason["message"] for reason in reasons) or "no reason given"
        raise DataError(f"{shown(path)}: this sample could not be converted: {told}")
    group = _open_group(path)
    block = _block(path, group)
    array = _array(path, group, "0")
    try:
        axes = {str(name): int(length) for name, length in block["frame_axes"]}
        times = np.asarray(_array(path, group, "times")[...], dtype=np.float64)
        split = (array.shape[0], *axes.values(), *array.shape[2:])
        if times.shape != array.shape[:3] or math.prod(axes.values()) != array.shape[1]:
            raise ValueError(f"times {times.shape}, frames {array.shape}, axes {axes}")
        return make_acquisitions(
            _lazy(array).reshape(split),
            times.reshape(split[:-2]),
            list(axes),
            pixel_um=block["pixel_um"],
            z_step_um=block["z_step_um"],
            time_origin=block["time_origin"],
            source={**block["source"], "provenance": block.get("provenance", {})},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{shown(path)}: the store does not fit together ({error}): {_REMEDY}") from error


def write_timelapse(
    path: StorePath,
    images: Any,
    times_s: Sequence[float] | np.ndarray,
    pixel_um: float,
    z_step_um: float | None,
    label: str,
    channels: Sequence[str | Channel],
    effective_transfer: str,
    flags: Sequence[str],
    provenance: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write results as a time-lapse store ``t c z y x``, float32, one time after another.

    Args:
        path: the store, replaced if it exists, whole or not at all.
        images: array (numpy or dask) ``(t, c, z, y, x)``, or an iterable of one ``(c, z, y, x)`` per time; what
            does not exist at a time is NaN. Memory: one time.
        times_s: time of each image, s.
        pixel_um: pixel of the result, um.
        z_step_um: distance of planes, um; ``None`` for one plane.
        label: what the images are, in words.
        channels: one per channel; a name stands for a channel of which nothing more is known.
        effective_transfer: which transfer function the images have, in words.
        flags: for each time ``""`` or why there is no (or no good) result.
        provenance: JSON-able; where the result comes from.
        extra: more entries of the block ``nstm``.

    Raises:
        ValueError: the lengths do not fit together.
        OSError: the store cannot be written.
    """
    times = np.asarray(times_s, dtype=np.float64)
    quantities = [c if isinstance(c, Channel) else Channel(c) for c in channels]
    block = {
        "schema": SCHEMA,
        "times_s": times.tolist(),
        "flags": list(flags),
        "effective_transfer": effective_transfer,
        "label": label,
        "channels": [c.name for c in quantities],
        "channel_about": [{"unit": c.unit, "colour": c.colour, "main": c.main} for c in quantities],
        "pixel_um": float(pixel_um),
        "z_step_um": None if z_step_um is None else float(z_step_um),
        "provenance": dict(provenance),
    }
    clash = sorted(block.keys() & (extra or {}).keys())
    if clash:
        raise ValueError(f"extra entries {clash} are written already")
    if times.ndim != 1 or not times.size or not np.all(np.isfinite(times)) or len(flags) != times.size:
        raise ValueError(f"{times.shape} times, all finite, and one flag for each are needed; flags: {len(flags)}")
    with replace_whole(path) as temporary:
        group = _new_group(temporary)
        _write_metadata(group, _TIMELAPSE_AXES, _scale(times, z_step_um, pixel_um), label, {**block, **(extra or {})})
        ranges = _write_images(group, images, times.size, len(channels))
        ome: Any = group.attrs.asdict()["ome"]
        group.attrs["ome"] = {**ome, "omero": _display(quantities, ranges)}


def open_timelapse(path: StorePath) -> xr.DataArray:
    """A time-lapse store, read when asked for.

    Returns:
        dims ``(t, c, z, y, x)``, coordinate ``t`` in s; ``attrs`` is the block ``nstm`` (with ``pixel_um`` and
        ``z_step_um``).

    Raises:
        DataError: no such store, not one of ours, or damaged.
    """
    group = _open_group(path)
    block = _block(path, group)
    array = _array(path, group, "0")
    lists = [block.get(key) for key in ("times_s", "flags", "channels")]
    times, flags, channels = (v if isinstance(v, list) else [] for v in lists)
    if not all(isinstance(v, list) for v in lists) or array.ndim != 5:
        raise DataError(f"{shown(path)}: not a time-lapse store: name one of results/SAMPLE/timelapse")
    if (len(times), len(flags), len(channels)) != (array.shape[0], array.shape[0], array.shape[1]):
        raise DataError(
            f"{shown(path)}: {len(times)} times, {len(flags)} flags and {len(channels)} channels do not fit images "
            f"of shape {array.shape}: {_REMEDY}"
        )
    if not all(isinstance(t, int | float) and math.isfinite(t) for t in times) or not _positive(block.get("pixel_um")):
        raise DataError(f"{shown(path)}: times or pixel size are no numbers: {_REMEDY}")
    coords = {"t": ("t", np.array(times, dtype=np.float64), {"units": "s"}), "c": [str(c) for c in channels]}
    return xr.DataArray(_lazy(array), dims=("t", "c", "z", "y", "x"), coords=coords, attrs=dict(block))


def _new_group(path: Path) -> zarr.Group:
    return zarr.create_group(LocalStore(path), zarr_format=3)


def _new_array(group: zarr.Group, shape: tuple[int, ...], dtype: Any, names: list[str]) -> zarr.Array[Any]:
    dtype = np.dtype(dtype)
    return group.create_array(
        "0",
        shape=shape,
        dtype=dtype,
        chunks=(1, 1, 1, *shape[-2:]),
        shards=(1, *shape[1:]),
        compressors=codec(dtype),
        fill_value=dtype.type("nan") if dtype.kind == "f" else 0,
        dimension_names=names,
        config={"write_empty_chunks": True},  # a missing shard is then always a damage, never zeros
    )


def _write_images(group: zarr.Group, images: Any, count: int, channels: int) -> np.ndarray:
    """Write the images; darkest and brightest of each channel ``(c, 2)``, outliers left out, NaN where none is."""
    names = [axis[0] for axis in _TIMELAPSE_AXES]
    each: Iterable[Any] = images if not hasattr(images, "shape") else (images[t] for t in range(images.shape[0]))
    array, written = None, 0
    ranges = np.full((count, channels, 2), np.nan)
    for t, image in enumerate(each):
        frame = np.asarray(image, dtype=np.float32)
        if array is None:
            if frame.ndim != 4 or frame.shape[0] != channels:
                raise ValueError(f"images of shape {frame.shape}, needed (c, z, y, x) with {channels} channels")
            array = _new_array(group, (count, *frame.shape), np.float32, names)
        if t >= count or frame.shape != array.shape[1:]:
            raise ValueError(f"image {t} of shape {frame.shape} where {array.shape} was begun")
        array[t] = frame
        written += 1
        for c, values in enumerate(frame.reshape(channels, -1)):
            some = values[:: max(1, values.size // _LOOKED_AT)]
            if np.isfinite(some).any():
                ranges[t, c] = np.percentile(some[np.isfinite(some)], _SHOWN_PERCENT)
    if written != count:
        raise ValueError(f"{written} images for {count} times")
    return np.stack([np.fmin.reduce(ranges[..., 0], axis=0), np.fmax.reduce(ranges[..., 1], axis=0)], axis=-1)


def _display(channels: Sequence[Channel], ranges: np.ndarray) -> dict[str, Any]:
    """NGFF's ``omero`` block: how viewers show the channels at first; the first time may hold nothing but NaN."""
    main = next((i for i, channel in enumerate(channels) if channel.main), 0)
    together, shown = in_colour(channels), []
    for index, (channel, (low, high)) in enumerate(zip(channels, ranges.tolist(), strict=True)):
        low, high = (low, high) if high > low else (0.0, 1.0)
        if channel.colour == "signed":
            low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
        window = {"start": low, "end": high, "min": low, "max": high}
        colour = _PRIMARY[index] if together else "FFFFFF"
        active = together or index == main
        shown.append({"label": channel.name, "color": colour, "window": window, "active": active})
    return {"channels": shown}


def _write_metadata(
    group: zarr.Group,
    axes: Sequence[tuple[str, str, str | None]],
    scale: list[float],
    name: str,
    block: Mapping[str, Any],
) -> None:
    from ome_zarr.format import FormatV05  # not earlier: it takes longer to load than a store to read
    from ome_zarr.writer import write_multiscales_metadata

    described = [{"name": n, "type": kind} | ({"unit": unit} if unit else {}) for n, kind, unit in axes]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}]
    write_multiscales_metadata(group, datasets, fmt=FormatV05(), axes=described, name=name)
    group.attrs["nstm"] = plain(block)


def _scale(times: np.ndarray, z_step_um: float | None, pixel_um: float) -> list[float]:
    """NGFF scale of the five axes; times may be irregular (they stand in ``nstm``): the median step."""
    steps = np.diff(np.sort(times))
    steps = steps[steps > 0]
    step = float(np.median(steps)) if steps.size else 1.0
    return [step, 1.0, float(z_step_um or 1.0), float(pixel_um), float(pixel_um)]


def _open_group(path: StorePath) -> zarr.Group:
    if not Path(path, "zarr.json").is_file():
        raise DataError(f"{shown(path)}: no store (no zarr.json in it): name one, or run the workflow to make it")
    try:
        return zarr.open_group(LocalStore(Path(path), read_only=True), mode="r", zarr_format=3)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{shown(path)}: the store cannot be read ({error}): {_REMEDY}") from error


def _block(path: StorePath, group: zarr.Group) -> dict[str, Any]:
    block: Any = group.attrs.asdict().get("nstm")
    schema = block.get("schema") if isinstance(block, dict) else None
    if not isinstance(block, dict) or schema is None:
        raise DataError(f"{shown(path)}: not a store of nstm (no block 'nstm' in its attributes)")
    if schema != SCHEMA:
        raise DataError(f"{shown(path)}: schema {schema!r}, this version reads {SCHEMA}: {_REMEDY}")
    return block


def _array(path: StorePath, group: zarr.Group, name: str) -> zarr.Array[Any]:
    array = group.get(name)
    if not isinstance(array, zarr.Array):
        raise DataError(f"{shown(path)}: the array {name!r} is missing: {_REMEDY}")
    if name == "0":
        shards = array.shards or array.chunks
        missing = missing_shards(Path(path, name), array.shape, shards)
        if missing:
            named = sorted({first[0] for first in missing})[:5]
            raise DataError(f"{shown(path)}: the data of t = {named} are missing: {_REMEDY}")
    return array


def _lazy(array: zarr.Array[Any]) -> da.Array:
    return da.from_array(array, chunks=(1, 1, 1, *array.shape[-2:]), name=False)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value) and value > 0


def _is_reason(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(k), str) for k in ("severity", "code", "message"))
