"""What files say of themselves, read even where it is still open which position or channel is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nstm.io.files import Recording, channel_index, open_recording, select_planes
from nstm.io.open import turned
from nstm.io.order import is_monotonic, order_of_labels
from nstm.io.protocol import Header, PositionUnknown, shown
from nstm.systems.sim import Sim

#: More images in one file are not listed.
MOST_POSITIONS = 1000
#: More remarks of the readers are not kept.
MOST_NOTES = 20
#: Unnamed channels up to this number are taken for colours; more are the frames of an acquisition.
MOST_UNNAMED_COLOURS = 4
#: Axes by which files label the frames of structured illumination: orientation and phase.
FRAME_LABELS = Sim.axis_labels


@dataclass(frozen=True)
class Recorded:
    """The files of a recording, opened at one position."""

    recording: Recording
    position: str | None  # the one that was opened; None: the file holds one image
    positions: tuple[str, ...]  # all that were looked for; empty: the file holds one image

    @property
    def header(self) -> Header:
        """Header of the first file."""
        return self.recording.headers[0]


@dataclass(frozen=True)
class Channel:
    """One channel of a file."""

    cell: str | None  # what the column `channel` of the sheet must hold; None: the file holds one channel
    name: str
    optics: Mapping[str, float]


def open_any(path: str | Path, position: str | None = None, flips: Sequence[str] | None = None) -> Recorded:
    """Open the files of ``path``; of several positions the first where none is named.

    Args:
        path: file, folder or glob.
        position: name or number of one of several images in the file.
        flips: axes along which planes are turned; ``None``: as the format says.

    Raises:
        DataError: the files cannot be used, whatever position is meant.
    """
    try:
        recording = open_recording(path, position)
    except PositionUnknown as several:
        first = several.positions[0]
        return Recorded(turned(open_recording(path, first), flips), first, several.positions)
    return Recorded(turned(recording, flips), position, () if position is None else (position,))


def channels_of(header: Header) -> list[Channel]:
    """All channels along the axis C of a file."""
    count = header.axes.get("C", 1)
    names = [*header.channels, *[""] * count][:count]
    optics = [*header.channel_optics, *[{}] * count][:count]
    cells = [_cell(header, index, name) if count > 1 else None for index, name in enumerate(names)]
    return [Channel(cell, name, {**header.optics, **own}) for cell, name, own in zip(cells, names, optics, strict=True)]


def channel_of(header: Header, channel: str | None) -> Channel:
    """The channel that a row of the sheet means; the first where none is named, or none is called so."""
    channels = channels_of(header)
    return next((c for i, c in enumerate(channels) if channel in (c.cell, c.name, str(i))), channels[0])


def _cell(header: Header, index: int, name: str) -> str:
    """The name where it is unmistakable, else the number."""
    plain = name == name.strip() != "" and name != "all" and name.isprintable()
    return name if plain and header.channels.count(name) == 1 and channel_index(header, name) == index else str(index)


def has_colours(header: Header) -> bool:
    """Whether the axis C holds colours; a file that labels its nine frames as nine channels holds none."""
    count = header.axes.get("C", 1)
    told = any(header.channels) or any(header.channel_optics) or bool(FRAME_LABELS.keys() & header.axes.keys())
    return count > 1 and (told or count <= MOST_UNNAMED_COLOURS)


def frame_labels(axes: Mapping[str, int]) -> dict[str, int]:
    """Orientations and phases as far as the labels of a file tell them, by the names of the frame axes."""
    return {name: axes[label] for label, name in FRAME_LABELS.items() if label in axes}


def labelled_order(axes: Mapping[str, int]) -> str | None:
    """The order of frames that the labels of a file state by themselves, slowest first; ``None``: they do not."""
    frames = frame_labels(axes)
    if len(frames) < len(FRAME_LABELS):
        return None
    without_channels = {a: n for a, n in axes.items() if a != "C"}
    order = order_of_labels(without_channels, frames, axes.get("Z", 1), FRAME_LABELS)
    return None if order is None else " ".join(order)


def square_pixel_um(header: Header) -> float | None:
    """Pixel size in the sample, um; ``None`` where it is not stated or differs along y and x."""
    if header.pixel_um is None or abs(header.pixel_um[0] / header.pixel_um[1] - 1) > 0.01:
        return None
    return header.pixel_um[0]


def file_notes(recorded: Recorded) -> list[dict[str, str]]:
    """What the readers found odd, as reasons."""
    notes = [f"{shown(h.path.name)}: {note}" for h in recorded.recording.headers for note in h.warnings]
    return [{"severity": "warn", "code": "file_note", "message": note} for note in notes[:MOST_NOTES]]


def file_times(recording: Recording, channel: str | None) -> dict[str, Any]:
    """Times of the planes of one channel as the files state them, s; ``origin`` is ``None`` where none can be used.

    The interval of acquisitions is not known without the order of the frames.
    """
    names = ("duration_s", "frame_interval_s", "acquisition_interval_s", "exposure_s")
    found: dict[str, Any] = {"origin": None, **dict.fromkeys(names)}
    start, exposure = recording.joined("plane_start_s"), recording.joined("exposure_s")
    planes = select_planes(recording, channel)[0]
    if start is None or not is_monotonic(start[planes]):
        return found
    found |= {"origin": "read", "duration_s": float(start[planes[-1]] - start[planes[0]])}
    if planes.size > 1:
        found["frame_interval_s"] = float(np.median(np.diff(start[planes])))
    if exposure is not None:
        found["exposure_s"] = float(np.median(exposure[planes]))
    return found
