"""What Micro-Manager says of the planes of its stacks: which is which, and when each was taken.

Taken from the index map at the beginning of the file and the JSON text of every page
(https://micro-manager.org/Micro-Manager_File_Formats). The OME-XML of the first page is left aside: a stopped
acquisition has none, it speaks of all files of a set, and where a plane was never taken it names another one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import numpy as np

from nstm.acquisition import DataError
from nstm.io.protocol import Header, believable_pixel, clean_metadata, clean_text, shown
from nstm.io.tiff_layout import MICRO_MANAGER, Layout

_INDEX_MAP, _INDEX_MAP_BEGINS, _SUMMARY = 54773648, 3453623, 2355492
_MAX_JSON = 16 * 2**20
_NEVER_TAKEN = b"NULL"
_NAMES = {"position": "P", "time": "T", "z": "Z", "channel": "C"}
_INDICES = {"C": "ChannelIndex", "Z": "SliceIndex", "T": "FrameIndex", "P": "PositionIndex"}


@dataclass(frozen=True)
class Plane:
    """One page."""

    at: Mapping[str, int | str]  # T, Z, C, P (position), or what else an axis is called
    start_s: float | None
    exposure_s: float | None
    channel: str | None
    position: str | None


@dataclass(frozen=True)
class Stack:
    """A stack: its summary, and for every page in the order of the file the plane, ``None`` if it was never taken."""

    layout: Layout
    summary: Mapping[str, Any]
    first: Mapping[str, Any]  # the text of the first page
    planes: tuple[Plane | None, ...]

    @property
    def positions(self) -> dict[int | str | None, str]:
        """Number and name of every position.

        Raises:
            DataError: nothing was taken; or there are several, and of some page it is not known where it belongs.
        """
        if all(plane is None for plane in self.planes):
            raise DataError(f"{shown(self.layout.path)}: all pages are empty ones: nothing was recorded")
        found = {p.at.get("P"): p.position or f"Pos{p.at.get('P')}" for p in self.planes if p is not None}
        if len(found) > 2 and None in found:
            raise DataError(
                f"{shown(self.layout.path)}: Micro-Manager recorded several positions, but of some pages it cannot be "
                "read to which they belong: the file is damaged, copy it anew"
            )
        if len(found) == 2:
            found.pop(None, None)
        return found

    def pages(self, position: int | str | None) -> list[int]:
        """Numbers of the pages of a position."""
        return [i for i, p in enumerate(self.planes) if p is not None and p.at.get("P", position) == position]

    def described(self, header: Header, pages: Sequence[int]) -> Header:
        """``header`` with what is known of ``pages``."""
        planes = [self.planes[i] for i in pages]
        taken = [p for p in planes if p is not None]
        axes = _grid([{a: i for a, i in p.at.items() if a != "P"} for p in taken])
        starts, exposures = [p.start_s for p in taken], [p.exposure_s for p in taken]
        timed = all(s is not None for s in starts)
        pixel = _number(self.first.get("PixelSizeUm")) or _number(self.summary.get("PixelSize_um"))
        z_step = abs(_number(self.summary.get("z-step_um")) or 0.0)
        return replace(
            header,
            format=header.format.replace("TIFF", "Micro-Manager TIFF", 1),
            axes=({"I": len(taken)} if len(taken) > 1 else {}) if axes is None else axes,
            pixel_um=believable_pixel(pixel, pixel),
            z_step_um=z_step if believable_pixel(z_step, z_step) else None,
            plane_start_s=np.array(starts, dtype=np.float64) if timed else None,
            exposure_s=np.array(exposures, dtype=np.float64) if timed and None not in exposures else None,
            channels=self._channels(taken) if axes is not None and "C" in axes else (),
            metadata=clean_metadata({**header.metadata, **self._metadata()}),
            warnings=(*header.warnings, *self._warnings(len(taken), axes is not None)),
        )

    def _channels(self, planes: Sequence[Plane]) -> tuple[str, ...]:
        stated = self.summary.get("ChNames")
        known: dict[int | str, Any] = dict(enumerate(stated)) if isinstance(stated, list) else {}
        names = {p.at["C"]: p.channel or known.get(p.at["C"], p.at["C"]) for p in reversed(planes)}
        return tuple(clean_text(names[i]) for i in dict.fromkeys(p.at["C"] for p in planes))

    def _metadata(self) -> dict[str, Any]:
        told = {
            "micro_manager_version": self.summary.get("MicroManagerVersion"),
            "start": self.summary.get("StartTime") or self.first.get("Time"),
            "interval_ms": self.summary.get("Interval_ms"),
            "axis_order": self.summary.get("AxisOrder"),
            "intended": self.summary.get("IntendedDimensions"),
            "camera": self.first.get("Camera") or self.first.get("Core-Camera"),
            "binning": self.first.get("Binning"),
        }
        return {key: value for key, value in told.items() if value is not None}

    def _warnings(self, found: int, is_grid: bool) -> list[str]:
        warnings = []
        never = sum(p is None for p in self.planes)
        if never:
            warnings.append(f"{never} planes were never taken: Micro-Manager stored empty pages, which are left out")
        if not is_grid:
            warnings.append(
                "by what Micro-Manager says of them the planes fill no grid of times, sections and channels: "
                "they are taken in the order of the file"
            )
        intended = self._intended()
        if intended > found:
            warnings.append(
                f"Micro-Manager was to take {intended} planes, {found} are in this file: it was stopped, or the "
                "others are in further files of the set"
            )
        return warnings

    def _intended(self) -> int:
        """Planes of one position that were asked for; 0 where that is not told."""
        told = self.summary.get("IntendedDimensions")
        if isinstance(told, Mapping):
            counts = [told.get(name, 1) for name in ("time", "z", "channel")]
        else:
            counts = [self.summary.get(name, 0) for name in ("Frames", "Slices", "Channels")]
        return math.prod(counts) if all(isinstance(n, int) and 0 <= n < 2**31 for n in counts) else 0


def read_stack(layout: Layout) -> Stack:
    """Read what a stack says of its pages; what cannot be read is left out."""
    with layout.path.open("rb") as file:
        texts = (layout.dialect.text(file, d, MICRO_MANAGER).strip(b" \0") for d in layout.directories)
        places = _index_map(file, layout)
        first: Mapping[str, Any] = {}
        planes: list[Plane | None] = []
        for directory, text in zip(layout.directories, texts, strict=True):
            about = _json(text)
            first = first or about
            planes.append(None if text == _NEVER_TAKEN else _plane(about, places.get(directory.offset, {})))
        return Stack(layout, _summary(file, layout), first, tuple(planes))


def with_separate_file(header: Header, info: object) -> Header:
    """``header`` of a file with one plane, written by Micro-Manager as one of many; ``info``: ImageJ's info text."""
    about = _json(info.encode("utf-8", "replace")) if isinstance(info, str) else {}
    if header.planes != 1 or not {"ElapsedTime-ms", "Exposure-ms"} & about.keys():
        return header
    plane = _plane(about, {})
    warnings = header.warnings
    if all(plane.at.get(axis) == 0 for axis in "TZC"):
        order = _order_of_names(header.path.name)
        warnings = (
            *warnings,
            f"Micro-Manager wrote one file for each plane: they follow each other by name ({order}), "
            "frames.order must be given so",
        )
    return replace(
        header,
        plane_start_s=None if plane.start_s is None else np.array([plane.start_s]),
        exposure_s=None if plane.start_s is None or plane.exposure_s is None else np.array([plane.exposure_s]),
        warnings=warnings,
    )


def _order_of_names(name: str) -> str:
    """The axes by which names like this one are sorted, in words."""
    if re.fullmatch(r"img_\d+_.*_\d+\.tif", name):
        return "time, channel, section"
    return ", ".join(re.findall(r"_([a-z]+)\d+", name)[:6]) or "as the names are sorted"


def _plane(about: Mapping[str, Any], mapped: Mapping[str, int]) -> Plane:
    elapsed, exposure = _number(about.get("ElapsedTime-ms")), _number(about.get("Exposure-ms"))
    channel, position = about.get("Channel"), about.get("PositionName")
    return Plane(
        at=_place(about) or mapped,
        start_s=None if elapsed is None else elapsed / 1000,
        exposure_s=None if exposure is None else exposure / 1000,
        channel=clean_text(channel) if isinstance(channel, str) else None,
        position=clean_text(position) if isinstance(position, str) and position.strip() else None,
    )


def _place(about: Mapping[str, Any]) -> dict[str, int | str]:
    axes = about.get("Axes") or about.get("completeCoords")
    if isinstance(axes, Mapping):
        named = {_NAMES.get(name, clean_text(name, 40)): place for name, place in axes.items()}
        return {name: place for name, place in named.items() if isinstance(place, int | str)}
    found = {axis: about[name] for axis, name in _INDICES.items() if isinstance(about.get(name), int)}
    return found if {"T", "Z", "C"} <= found.keys() else {}


def _grid(places: Sequence[Mapping[str, int | str]]) -> dict[str, int] | None:
    """Axes and lengths, slowest first, if the planes as they follow each other fill a grid; else ``None``.

    A grid has no holes; the second file of a set may begin anywhere.
    """
    steps: dict[str, np.ndarray] = {}
    for name in {name for place in places for name in place}:
        values = [place.get(name) for place in places]
        seen = {value: number for number, value in enumerate(dict.fromkeys(values))}
        numbers = [value for value in seen if isinstance(value, int)]
        if numbers and max(numbers) - min(numbers) != len(seen) - 1:
            return None
        if len(seen) > 1:
            steps[name] = np.array([seen[value] for value in values])
    names = sorted(steps, key=lambda name: np.count_nonzero(np.diff(steps[name])))
    shape = tuple(int(steps[name].max()) + 1 for name in names)
    if math.prod(shape) != len(places):
        return None
    regular = np.indices(shape).reshape(len(shape), -1)
    if any(not np.array_equal(steps[name], row) for name, row in zip(names, regular, strict=True)):
        return None
    return dict(zip(names, shape, strict=True))


def _index_map(file: BinaryIO, layout: Layout) -> dict[int, dict[str, int]]:
    """For the place of a directory the indices of its plane; an axis that was not used has the index -1 there."""
    header, place = _unsigned(file, layout, 8, 2)
    if header != _INDEX_MAP:
        return {}
    begin, count = _unsigned(file, layout, place, 2)
    if begin != _INDEX_MAP_BEGINS:
        return {}
    found = {}
    entries = _unsigned(file, layout, place + 8, 5 * min(count, len(layout.directories)))
    for *indices, offset in zip(*[iter(entries)] * 5, strict=False):
        found[offset] = {a: i if i < 2**31 else 0 for a, i in zip("CZTP", indices, strict=True)}
    return found


def _summary(file: BinaryIO, layout: Layout) -> Mapping[str, Any]:
    begin, length = _unsigned(file, layout, 32, 2)
    if begin != _SUMMARY or length > min(layout.size, _MAX_JSON):
        return {}
    file.seek(40)
    return _json(file.read(length))


def _unsigned(file: BinaryIO, layout: Layout, place: int, count: int) -> list[int]:
    """``count`` numbers of 4 bytes; 0 beyond the end of the file."""
    file.seek(place)
    data = file.read(4 * count).ljust(4 * count, b"\0")
    return [int(n) for n in np.frombuffer(data, layout.dialect.order + "u4")]


def _json(text: bytes) -> Mapping[str, Any]:
    """The object that ``text`` is in JSON; empty if it is none."""
    if len(text) > _MAX_JSON:
        return {}
    try:
        found = json.loads(text.strip(b" \0\r\n\t"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
