"""From files and an imaging system to labelled frames: lazily, in the stated order, with times and units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from nstm.acquisition import DataError, make_acquisitions
from nstm.io.binning import Binned
from nstm.io.files import Recording, channel_names, open_recording, select_planes
from nstm.io.lazy import LazyFrames
from nstm.io.montage import frames_of_montage
from nstm.io.order import (
    PlaneOrder,
    UnknownOrder,
    contradictions,
    examples,
    order_of_labels,
    parse_order,
    plane_order,
    run_of,
)
from nstm.io.plane_times import plane_times
from nstm.io.protocol import clean_text, shown
from nstm.io.stated import SystemLike, stated_optics, stated_units, warn


def open_acquisitions(
    path: str | Path,
    system: SystemLike,
    *,
    channel: str | int | None = None,
    position: str | int | None = None,
    acquisitions: str | None = None,
    crop: str | None = None,
) -> xr.Dataset:
    """Open raw data: headers now, pixels when asked for.

    The planes of the file or files (of one channel and position) are taken in file order and labelled by
    ``system.settings.frames.order``, slowest axis first; ``t`` is what is left. What the files say of their axes
    is only compared with that.

    Args:
        path: file, folder or glob; the files of a folder or glob follow each other in natural order.
        system: the imaging system, for its frame axes, order, pixel size and times.
        channel: name or index along the file's axis C; ``all``: every plane, whatever the labels say.
        position: name or index of one of several images in the file.
        acquisitions: which of the recorded ones, ``"3"`` or ``"start:stop:step"``; taken before
            ``orientation_from_acquisition`` is applied.
        crop: ``"y0:y1,x0:x1"``, camera pixels.

    Returns:
        See :mod:`nstm.acquisition`; ``attrs["source"]["reasons"]`` lists what to know, each a dict of severity
        ``warn``, code and message.

    Raises:
        DataError: files and settings do not fit together; the message says what to do.
    """
    recording, where = open_recording(path, _text(position)), shown(path)
    try:
        recording = _divided(turned(recording, system.settings.frames.flips), system)
        choice = _choose(recording, system, _text(channel), acquisitions)
        window = parse_crop(crop, recording.headers[0].plane_shape)
        units = stated_units(recording, system.settings.optics, system.settings.frames.planes)
        optics, differences = stated_optics(recording, system, _text(channel))
    except DataError as error:
        text = str(error)
        raise type(error)(text if text.startswith(where) else f"{where}: {text}") from error
    lazy = LazyFrames(recording, choice.table, window)
    chunks = (1,) * choice.table.ndim + lazy.shape[-2:]
    notes = [warn("file_note", f"{shown(h.path.name)}: {note}") for h in recording.headers for note in h.warnings]
    source = {
        "path": printable(path),
        **_about(recording),
        **choice.about,
        "position": _text(position),
        "acquisitions": acquisitions or None,
        "crop": crop or None,
        "flips": list(recording.flips),
        "pixel_origin": units.pixel_origin,
        "optics": optics,
        "reasons": [*notes[:20], *choice.reasons, *units.reasons, *differences],
    }
    return make_acquisitions(
        da.from_array(lazy, chunks=chunks, name=False, asarray=False, fancy=False, meta=np.empty(0, lazy.dtype)),
        choice.times,
        list(system.frame_axes),
        pixel_um=units.pixel_um * system.settings.frames.binning,
        z_step_um=units.z_step_um,
        time_origin=choice.time_origin,
        source=source,
    )


def parse_acquisitions(text: str | None, count: int) -> np.ndarray:
    """Numbers of the acquisitions chosen by ``"3"`` or ``"start:stop:step"`` out of ``count``.

    Raises:
        DataError: not such a text, or nothing chosen.
    """
    if text is None or not text.strip():
        return np.arange(count)
    match = re.fullmatch(r"(-?[0-9]{1,9})|(-?[0-9]{0,9}):(-?[0-9]{0,9})(?::(0*[1-9][0-9]{0,8})?)?", text.strip())
    fault = f"acquisitions is {clean_text(text, 60)!r}"
    if not match or "-" in match.groups():
        raise DataError(f"{fault}: give one number or start:stop:step with a positive step, e.g. 3, 0:20 or 0:20:2")
    if match[1]:
        number = int(match[1])
        if not -count <= number < count:
            raise DataError(f"{fault}, but the file holds {count} whole acquisitions, numbered 0 to {count - 1}")
        return np.array([number % count])
    chosen = np.arange(count)[slice(*(int(p) if p else None for p in match.groups()[1:]))]
    if not chosen.size:
        raise DataError(f"{fault}: chooses none of the {count} whole acquisitions in the file, numbered from 0")
    return chosen


def parse_crop(text: str | None, shape: tuple[int, int]) -> tuple[slice, slice]:
    """The window ``"y0:y1,x0:x1"`` of planes of ``shape``, camera pixels.

    Raises:
        DataError: not such a text, empty, or beyond the planes.
    """
    if text is None or not text.strip():
        return slice(0, shape[0]), slice(0, shape[1])
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9}),([0-9]{1,9}):([0-9]{1,9})", text.replace(" ", ""))
    if match:
        y0, y1, x0, x1 = map(int, match.groups())
        if y0 < y1 <= shape[0] and x0 < x1 <= shape[1]:
            return slice(y0, y1), slice(x0, x1)
    raise DataError(
        f"crop is {clean_text(text, 60)!r}: give y0:y1,x0:x1 in camera pixels within the planes of "
        f"{shape[0]} x {shape[1]}, e.g. 0:{shape[0]},0:{shape[1]}"
    )


def _divided(recording: Recording, system: SystemLike) -> Recording:
    """The recording with large images divided into their frames and binned, where ``frames`` says so."""
    montage, binning = system.settings.frames.montage, system.settings.frames.binning
    if montage:
        axes, labels, flips = dict(system.frame_axes), dict(system.axis_labels), recording.flips
        files = (frames_of_montage(file, montage, axes, labels, flips) for file in recording.files)
        recording = replace(recording, files=tuple(files))
    if binning > 1:
        recording = replace(recording, files=tuple(Binned(file, binning) for file in recording.files))
    return recording


def turned(recording: Recording, flips: Sequence[str] | None) -> Recording:
    """The recording with its planes turned along ``flips``; ``None``: so that the first row is the top one."""
    if flips is None:
        upward = {header.rows_upward for header in recording.headers}
        if len(upward) > 1:
            raise DataError(
                "some of the files store the lowest row first, others the top one: give frames.flips, or one sample "
                "for each kind of file"
            )
        flips = ("y",) if upward == {True} else ()
    return replace(recording, flips=tuple(flips))


@dataclass(frozen=True)
class _Choice:
    """Which planes make up the frames, and when they were taken."""

    table: np.ndarray  # (t, *frame_axes, z), number of the plane
    times: np.ndarray  # the same, s
    time_origin: str
    about: dict[str, Any]
    reasons: list[dict[str, str]]


def _choose(recording: Recording, system: SystemLike, channel: str | None, acquisitions: str | None) -> _Choice:
    frame_axes = dict(system.frame_axes)
    planes, labels, name = select_planes(recording, channel)
    if channel is None and "C" not in labels and any(h.axes.get("C", 1) > 1 for h in recording.headers):
        raise _channel_missing(recording)
    order, order_origin = _order(recording, system, planes.size, labels)
    reasons = _channels(recording, labels, order) if channel is None else []
    reasons += _compared(labels, order, planes.size, system.axis_labels)
    table = planes[order.table(frame_axes)]
    times, origin, notes = plane_times(recording, system, table, list(order.axes))
    if origin == "computed" and system.usual_times:
        notes = [*notes, warn("usual_times", f"{system.usual_times}: they were not measured, give your own")]
    shifts = getattr(system.settings.frames, "orientation_from_acquisition", None)
    if shifts is not None and any(shifts):
        text = (
            f"frames.orientation_from_acquisition = {[int(s) for s in shifts]} takes the orientations of one "
            "acquisition from several: motion is exaggerated, and the times of neighbouring acquisitions interleave"
        )
        notes = [*notes, warn("composed", text)]
    composed = _compose(parse_acquisitions(acquisitions, table.shape[0]), shifts, system)
    index = np.moveaxis(np.broadcast_to(composed, (*table.shape[1:], composed.shape[-1])), -1, 0)
    about = {
        "order": " ".join(order.axes),
        "order_origin": order_origin,
        "dropped_planes": order.dropped,
        "recorded_acquisitions": order.axes["t"],
        "channel": name if name is not None else channel,
        "orientation_from_acquisition": None if shifts is None else [int(s) for s in shifts],
    }
    return _Choice(
        np.take_along_axis(table, index, 0), np.take_along_axis(times, index, 0), origin, about, [*reasons, *notes]
    )


def _about(recording: Recording) -> dict[str, Any]:
    first = recording.headers[0]
    return {
        "files": [{"path": printable(h.path), "bytes": h.file_bytes} for h in recording.headers],
        "format": first.format,
        "axes": recording.axes,
        "dtype": first.dtype.name,
        "plane_shape": list(first.plane_shape),
        "metadata": dict(first.metadata),
    }


def printable(path: str | Path) -> str:
    """``path`` as text that can be stored as UTF-8, whatever bytes the name holds."""
    return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def _text(value: str | int | None) -> str | None:
    return None if value is None or not str(value).strip() else str(value).strip()


def _said(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{a} = {n}" for a, n in labels.items()) or "nothing (one plane)"


def _order(recording: Recording, system: SystemLike, count: int, labels: Mapping[str, int]) -> tuple[PlaneOrder, str]:
    """The order of the planes and where it comes from: ``config``, the labels of the ``file``, or the ``instrument``.

    Raises:
        UnknownOrder: neither tells it.
        DataError: the planes do not fit it, or a channel must be chosen first.
    """
    frames, axes = system.settings.frames, dict(system.frame_axes)
    if frames.order:
        return plane_order(count, parse_order(frames.order, axes, frames.planes), axes, frames.planes), "config"
    without_channels = {a: n for a, n in labels.items() if a != "C"}
    names, origin = order_of_labels(without_channels, axes, frames.planes, system.axis_labels), "file"
    if names is None and system.usual_order:
        names, origin = parse_order(system.usual_order, axes, frames.planes), "instrument"
    if names is None:
        stated = recording.stated("channels")
        raise UnknownOrder(
            f"frames.order is missing: {count} planes, of which the file says {_said(labels)}"
            f"{f', channels {channel_names(recording.headers[0])}' if stated else ''}; one acquisition has "
            f"{_said({**axes, 'z': frames.planes})}. The order is never guessed: give it, slowest axis first, "
            f"e.g. {examples(axes, frames.planes)}"
        )
    if labels.get("C", 1) > 1:
        raise _channel_missing(recording)
    return plane_order(count, names, axes, frames.planes), origin


def _channel_missing(recording: Recording) -> DataError:
    labels = recording.headers[0].axes
    return DataError(
        f"the file has {labels.get('C', 1)} channels ({_said(labels)}): give `channel`, one of "
        f"{channel_names(recording.headers[0])} (or `all`: every plane, whatever the labels say, and frames.order)"
    )


def _channels(recording: Recording, labels: Mapping[str, int], order: PlaneOrder) -> list[dict[str, str]]:
    """Whether the axis C, where no channel is asked for, is another name of frames; else it must be asked for."""
    count = labels.get("C", 1)
    if count < 2:
        return []
    run = run_of("C", labels, order)
    if run is None:
        raise _channel_missing(recording)
    if "t" in run:
        if any(any(header.channels) or any(header.channel_optics) for header in recording.headers):
            raise _channel_missing(recording)  # colours by name or wavelength are no times
        message = f"the file labels {count} channels, taken as times: give `channel` if they are colours"
        return [warn("channels_as_time", message)]
    return []


def _compared(
    labels: Mapping[str, int], order: PlaneOrder, count: int, axis_labels: Mapping[str, str]
) -> list[dict[str, str]]:
    reasons = []
    differences = contradictions(labels, order, axis_labels)
    if differences:
        text = f"{'; '.join(differences)}. The order {' '.join(order.axes)!r} is used: check frames.order"
        reasons.append(warn("labels_differ", text))
    if order.dropped:
        each = (count - order.dropped) // order.axes["t"]
        text = (
            f"the last acquisition is incomplete: {order.dropped} of {each} planes, left out "
            f"({order.axes['t']} whole ones remain)"
        )
        reasons.append(warn("dropped_planes", text))
    return reasons


def _compose(chosen: np.ndarray, shifts: Sequence[int] | None, system: SystemLike) -> np.ndarray:
    """Number of the recorded acquisition that each frame of a composed one comes from.

    Returns:
        int of shape ``(*ones or block positions, 1, acquisitions)``: the axes of a frame, z, and last the
        acquisitions.
    """
    frame_axes = list(system.frame_axes)
    shape = [1] * (len(frame_axes) + 1)
    if shifts is None:
        return chosen.reshape(*shape, -1)
    blocks = system.frame_axes[system.block_axis]
    if len(shifts) != blocks or any(isinstance(s, bool) or int(s) != s or s < 0 for s in shifts):
        raise DataError(
            f"frames.orientation_from_acquisition is {clean_text(list(shifts), 60)}: give {blocks} numbers "
            f"(one per {system.block_axis}), each 0 or more"
        )
    count = chosen.size - max(shifts)
    if count < 1:
        raise DataError(
            f"frames.orientation_from_acquisition reaches {max(shifts)} acquisitions ahead, but there are only "
            f"{chosen.size}: use smaller numbers or more acquisitions"
        )
    shape[frame_axes.index(system.block_axis)] = blocks
    return np.stack([chosen[s : s + count] for s in shifts]).reshape(*shape, count)
