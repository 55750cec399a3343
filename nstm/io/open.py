"""From files and an imaging system to labelled frames: lazily, in the stated order, with times and units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr

from nstm.acquisition import DataError, make_acquisitions
from nstm.io.files import Recording, channel_index, channel_names, open_recording, select_planes
from nstm.io.lazy import LazyFrames
from nstm.io.montage import frames_of_montage
from nstm.io.order import (
    PlaneOrder,
    UnknownOrder,
    contradictions,
    examples,
    is_monotonic,
    order_of_labels,
    parse_order,
    plane_order,
    run_of,
)
from nstm.io.protocol import Header, clean_text, shown


class SystemLike(Protocol):
    """What must be known of an imaging system to label its frames; see ``nstm.systems.ImagingSystem``."""

    block_axis: Any
    settings: Any  # .frames (order, planes, flips, exposure_s), .optics (pixel_um, z_step_um, na, ...)
    axis_labels: Any  # what files call the frame axes
    usual_order: Any  # of the planes of files that do not label them, or None
    usual_times: Any  # words about exposure and delays that are only usual for the instrument, or None

    @property
    def needed_optics(self) -> Sequence[str]:
        """Numbers of the optics that must be known."""
        ...

    @property
    def frame_axes(self) -> Mapping[str, int]:
        """Name and length of each frame axis."""
        ...

    def times(self, acquisitions: int, order: Sequence[str]) -> tuple[np.ndarray, str]:
        """Computed or assumed times ``(t, *frame_axes, z)``, s."""
        ...


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
        units = _units(recording, system.settings.optics, system.settings.frames.planes)
        optics, differences = stated_optics(recording, system, _text(channel))
    except DataError as error:
        text = str(error)
        raise type(error)(text if text.startswith(where) else f"{where}: {text}") from error
    lazy = LazyFrames(recording, choice.table, window)
    chunks = (1,) * choice.table.ndim + lazy.shape[-2:]
    notes = [_warn("file_note", f"{shown(h.path.name)}: {note}") for h in recording.headers for note in h.warnings]
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
        pixel_um=units.pixel_um,
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
    """The recording with large images divided into their frames, where ``frames.montage`` says so."""
    montage = system.settings.frames.montage
    if not montage:
        return recording
    axes, labels, flips = dict(system.frame_axes), dict(system.axis_labels), recording.flips
    files = (frames_of_montage(file, montage, axes, labels, flips) for file in recording.files)
    return replace(recording, files=tuple(files))


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


def stated_optics(
    recording: Recording, system: SystemLike, channel: str | None
) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
    """What is known of the optics, ``{name: {"value", "origin"}}``, and where file and config differ.

    The config wins. A difference counts from 1 % (wavelengths 2 %: filters have a width).

    Raises:
        DataError: a number that the system needs is in neither; all such are named.
    """
    found: dict[str, dict[str, Any]] = {}
    every = [_optics_in_file(header, channel) for header in recording.headers]
    in_file: dict[str, float] = next((stated for stated in every if stated), {})
    reasons = _varying(every)
    for name, tolerance in {"na": 0.01, "index": 0.01, **dict.fromkeys(_WAVELENGTHS, 0.02)}.items():
        if not hasattr(system.settings.optics, name):
            continue
        given, read = getattr(system.settings.optics, name), in_file.get(name)
        if given is not None:
            found[name] = {"value": float(given), "origin": "config"}
        elif read is not None:
            found[name] = {"value": read, "origin": "file"}
        if given is not None and read is not None and abs(read / given - 1) > tolerance:
            message = (
                f"the file states {name} = {read:g}, the config optics.{name} = {given:g}, which is used: "
                "check which is right"
            )
            reasons.append(_warn(f"{name}_differs", message))
    missing = [f"optics.{name}" for name in system.needed_optics if name not in found]
    if missing:
        raise DataError(f"{', '.join(missing)}: neither in the config nor in the file: give it in the config")
    na, index = (found[name]["value"] if name in found else None for name in ("na", "index"))
    if na is not None and index is not None and na >= index:
        raise DataError(
            f"na = {na:g} ({found['na']['origin']}) must be below the refractive index = {index:g} "
            f"({found['index']['origin']}): correct optics.na or optics.index"
        )
    return found, reasons


_WAVELENGTHS = ("emission_wavelength_um", "excitation_wavelength_um")


def _optics_in_file(header: Header, channel: str | None) -> dict[str, float]:
    """What a file says of the optics, for the channel that is read."""
    index = 0 if channel in (None, "all") else channel_index(header, str(channel))
    single = header.axes.get("C", 1) == 1 or channel not in (None, "all")
    own = header.channel_optics[index] if single and index < len(header.channel_optics) else {}
    return {**header.optics, **own}


def _varying(every: Sequence[Mapping[str, float]]) -> list[dict[str, str]]:
    """Whether the files of a sample state the same optics.

    Raises:
        DataError: they were recorded in different colours.
    """
    reasons = []
    for name in ("na", "index", *_WAVELENGTHS):
        values = [stated[name] for stated in every if name in stated]
        if not values or max(values) <= 1.02 * min(values):
            continue
        text = f"the files state different {name}: {', '.join(f'{v:g}' for v in sorted(set(values))[:5])}"
        if name in _WAVELENGTHS:
            raise DataError(f"{text}; files of one sample follow each other in time: give each colour a row of its own")
        reasons.append(_warn(f"{name}_varies", f"{text}: check that they belong together"))
    return reasons


@dataclass(frozen=True)
class _Choice:
    """Which planes make up the frames, and when they were taken."""

    table: np.ndarray  # (t, *frame_axes, z), number of the plane
    times: np.ndarray  # the same, s
    time_origin: str
    about: dict[str, Any]
    reasons: list[dict[str, str]]


@dataclass(frozen=True)
class _Units:
    pixel_um: float
    pixel_origin: str
    z_step_um: float | None
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
    times, origin, notes = _times(recording, system, table, list(order.axes))
    if origin == "computed" and system.usual_times:
        notes = [*notes, _warn("usual_times", f"{system.usual_times}: they were not measured, give your own")]
    shifts = getattr(system.settings.frames, "orientation_from_acquisition", None)
    if shifts is not None and any(shifts):
        text = (
            f"frames.orientation_from_acquisition = {[int(s) for s in shifts]} takes the orientations of one "
            "acquisition from several: motion is exaggerated, and the times of neighbouring acquisitions interleave"
        )
        notes = [*notes, _warn("composed", text)]
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


def _warn(code: str, message: str) -> dict[str, str]:
    return {"severity": "warn", "code": code, "message": message}


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
        return [_warn("channels_as_time", message)]
    return []


def _compared(
    labels: Mapping[str, int], order: PlaneOrder, count: int, axis_labels: Mapping[str, str]
) -> list[dict[str, str]]:
    reasons = []
    differences = contradictions(labels, order, axis_labels)
    if differences:
        text = f"{'; '.join(differences)}. The order {' '.join(order.axes)!r} is used: check frames.order"
        reasons.append(_warn("labels_differ", text))
    if order.dropped:
        each = (count - order.dropped) // order.axes["t"]
        text = (
            f"the last acquisition is incomplete: {order.dropped} of {each} planes, left out "
            f"({order.axes['t']} whole ones remain)"
        )
        reasons.append(_warn("dropped_planes", text))
    return reasons


def _times(
    recording: Recording, system: SystemLike, table: np.ndarray, order: Sequence[str]
) -> tuple[np.ndarray, str, list[dict[str, str]]]:
    """Times of all recorded acquisitions: those of the file if every plane has one, else the system's."""
    start, exposure = recording.joined("plane_start_s"), recording.joined("exposure_s")
    notes = []
    if start is not None:
        if is_monotonic(start[np.sort(table, axis=None)]):
            given = system.settings.frames.exposure_s
            if exposure is not None and given is not None and abs(float(np.median(exposure)) / given - 1) > 0.01:
                message = (
                    f"the file states exposures of {np.median(exposure):g} s, the config frames.exposure_s = "
                    f"{given:g}; the times and exposures of the file are used"
                )
                notes.append(_warn("exposure_differs", message))
            middle = start + (exposure if exposure is not None else given or 0.0) / 2
            return middle[table], "read", notes
        message = "the file's plane times do not grow from plane to plane and are not used: check the export"
        notes.append(_warn("times_unusable", message))
    points = _time_points(recording, table)
    if points is None:
        times, origin = system.times(table.shape[0], order)
        return np.asarray(times, dtype=np.float64), origin, notes
    within, origin = system.times(1, order)
    within = np.asarray(within, dtype=np.float64)
    if len(points) > 1:
        wait, longest = float(np.diff(points).min()), float(np.ptp(within))
        given = system.settings.frames.acquisition_interval_s
        if given is not None:
            if abs(wait / given - 1) > 0.01:
                message = (
                    f"the file starts an acquisition every {wait:g} s, the config states "
                    f"frames.acquisition_interval_s = {given:g}, which is used: check which is right"
                )
                notes.append(_warn("interval_differs", message))
            times, origin = system.times(table.shape[0], order)
            return np.asarray(times, dtype=np.float64), origin, notes
        if origin == "assumed":  # the frames fill the interval
            within = within * (wait / within.size)
        elif longest >= wait:
            raise DataError(
                f"the file starts an acquisition every {wait:g} s, but by exposure_s and the delays one takes "
                f"{longest:g} s: correct them in `frames`"
            )
    return within + points.reshape(-1, *[1] * (within.ndim - 1)), origin, notes


def _time_points(recording: Recording, table: np.ndarray) -> np.ndarray | None:
    """Start of every acquisition, s, where the file tells it and its time points are the acquisitions."""
    if len(recording.files) != 1:
        return None
    header = recording.files[0].header
    points = header.time_point_s
    if points is None or len(points) < table.shape[0] or len(points) != header.axes.get("T", 1):
        return None
    whole = np.arange(header.planes).reshape(tuple(header.axes.values()))
    moment = np.moveaxis(whole, list(header.axes).index("T"), 0) if "T" in header.axes else whole[None]
    of_plane = np.empty(header.planes, int)
    of_plane[moment.reshape(len(points), -1)] = np.arange(len(points))[:, None]
    by_acquisition = of_plane[table.reshape(table.shape[0], -1)]
    if np.any(by_acquisition != np.arange(table.shape[0])[:, None]) or not is_monotonic(points):
        return None
    return np.asarray(points - points[0], dtype=np.float64)[: table.shape[0]]


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


def _units(recording: Recording, optics: Any, planes: int) -> _Units:
    """Pixel size and distance of planes: the config's, else the file's; a difference of 1 % is told."""
    reasons = []
    stated = recording.stated("pixel_um")
    for name, what in (("pixel_um", "pixel sizes"), ("z_step_um", "distances of planes")):
        if len({getattr(h, name) for h in recording.headers} - {None}) > 1:
            text = f"the files state different {what}: check that they belong together"
            reasons.append(_warn(f"{name.removesuffix('_um')}_varies", text))
    if optics.pixel_um is None:
        if stated is None:
            raise DataError("the pixel size is neither in the file nor in the config: give optics.pixel_um")
        if abs(stated[0] / stated[1] - 1) > 0.01:
            raise DataError(
                f"the file states pixels of {stated[0]:g} x {stated[1]:g} um (y, x); only square pixels can be "
                "used: give optics.pixel_um if the file is wrong"
            )
    elif stated is not None and max(abs(s / optics.pixel_um - 1) for s in stated) > 0.01:
        message = (
            f"the file states pixels of {stated[0]:g} x {stated[1]:g} um (y, x), the config optics.pixel_um = "
            f"{optics.pixel_um:g}, which is used: check which is right"
        )
        reasons.append(_warn("pixel_size_differs", message))
    z_step = None
    if planes > 1:
        in_file = recording.stated("z_step_um")
        z_step = optics.z_step_um if optics.z_step_um is not None else in_file
        if z_step is None:
            raise DataError("the distance of planes is neither in the file nor in the config: give optics.z_step_um")
        if in_file is not None and abs(in_file / z_step - 1) > 0.01:
            message = (
                f"the file states planes {in_file:g} um apart, the config optics.z_step_um = {z_step:g}, "
                "which is used: check which is right"
            )
            reasons.append(_warn("z_step_differs", message))
    origin = "file" if optics.pixel_um is None else "config"
    return _Units(float(optics.pixel_um or stated[0]), origin, z_step, reasons)
