"""The recordings below a folder: one source per recording, position and channel, grouped by what is alike."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nstm.acquisition import DataError
from nstm.io.files import MICROSCOPES, READERS, find_files, natural_key, open_recording
from nstm.io.protocol import HEAD_BYTES, OPTICS_RANGE, Reader, clean_text, shown
from nstm.pipeline.draft import Source
from nstm.pipeline.recorded import Channel, Recorded, channels_of, has_colours, open_any

MOST_FILES = 10_000
#: An acquisition of a multi-shot microscope has at least so many planes.
LEAST_PLANES = 3
_SKIPPED = ("results", "config", "simulated")
#: Axes whose length does not tell one microscope setting from another.
_COUNTED = ("T", "I", "file", "plane")


@dataclass
class Found:
    """What a folder holds: sources with the pattern that names their files, and what was left out and why."""

    sources: list[tuple[str, Source]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def scan(folder: Path, readers: Sequence[Reader] = MICROSCOPES) -> Found:
    """Open every recording below ``folder``, told by content; damaged ones and single images are left out.

    Hidden files and folders, zarr stores and results are not looked into; pictures and arrays (PNG, BMP, NumPy) need
    not be recordings and are left to the user.

    Raises:
        DataError: too many files for a folder of recordings.
    """
    found, single = Found(), []
    for path in _files(folder):
        if not _is_image(path, readers):
            continue
        if not _fits_a_cell(path):
            found.left_out.append(f"{shown(path)}: such a path cannot stand in the sample sheet: rename the file")
            continue
        try:
            recorded = open_any(path)
        except (DataError, OSError) as error:
            found.left_out.append(clean_text(error, 400))
            continue
        if recorded.recording.planes == 1 and not recorded.positions:
            single.append(recorded)
        else:
            _add(found, str(path), recorded)
    for pattern, recorded in _sets(single):
        _add(found, pattern, recorded)
    found.sources.sort(key=lambda entry: natural_key(entry[0]))
    return found


def family(source: Source, readers: Sequence[Reader] = READERS) -> str:
    """The usual ending of the files of a source's format, without the dot."""
    head = _head(source.header.path)
    return next(reader for reader in readers if reader.recognises(head)).suffixes[0].lstrip(".")


def alike(source: Source) -> tuple[object, ...]:
    """What sources must share to share a system: format, labels of the frames, sampling and optics."""
    axes = source.recorded.recording.axes
    colours = ("C",) if has_colours(source.header) else ()
    labels = tuple((a, n) for a, n in axes.items() if a not in (*_COUNTED, *colours))
    pixel = source.header.pixel_um
    optics = tuple(_rounded(source.channel.optics.get(name)) for name in OPTICS_RANGE)
    return family(source), labels, pixel and tuple(map(_rounded, pixel)), optics


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")


def _files(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and not f.startswith(".") and ".zarr" not in f)
        for name in sorted(names):
            if name.startswith("."):
                continue
            count += 1
            if count > MOST_FILES:
                raise DataError(f"{shown(folder)} holds more than {MOST_FILES} files: name a smaller folder")
            yield Path(place) / name


def _fits_a_cell(path: Path) -> bool:
    return str(path).isprintable() and path.name == path.name.strip()


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _is_image(path: Path, readers: Sequence[Reader]) -> bool:
    """Whether a file is an image by its content, or claims to be one by its name."""
    if not path.is_file():  # pipes, sockets, links to nowhere
        return False
    if any(path.suffix.lower() in reader.suffixes for reader in readers):
        return True
    try:
        head = _head(path)
    except OSError:
        return False
    return any(reader.recognises(head) for reader in readers)


def _add(found: Found, pattern: str, recorded: Recorded) -> None:
    """Every position and channel of a recording."""
    for position in recorded.positions or (None,):
        try:
            here = recorded if position == recorded.position else _at(recorded, position)
        except (DataError, OSError) as error:
            found.left_out.append(clean_text(error, 400))
            continue
        for channel in _colours(here):
            planes = here.recording.planes // (here.header.axes["C"] if channel.cell else 1)
            if planes < LEAST_PLANES:
                only = f"{planes} plane{'s' * (planes > 1)}"
                found.left_out.append(
                    f"{shown(pattern)}: {only}, fewer than an acquisition of several shots has (if one image holds "
                    "several frames as tiles, add it by hand with frames.montage)"
                )
                break
            found.sources.append((pattern, Source(here, channel)))


def _at(recorded: Recorded, position: str | None) -> Recorded:
    """The same recording at another position."""
    return Recorded(open_recording(recorded.header.path, position), position, recorded.positions)


def _colours(recorded: Recorded) -> list[Channel]:
    channels = channels_of(recorded.header)
    return channels if has_colours(recorded.header) else [Channel(None, "", channels[0].optics)]


def _sets(single: Iterable[Recorded]) -> Iterator[tuple[str, Recorded]]:
    """Images of one plane whose names differ in their numbers only are one recording; others stand alone."""
    sets: dict[tuple[str, tuple[int, int], str], list[Recorded]] = {}
    for recorded in single:
        path, header = recorded.header.path, recorded.header
        pattern = str(path.parent / re.sub(r"[0-9]+", "*", glob.escape(path.name)))
        sets.setdefault((pattern, header.plane_shape, header.dtype.name), []).append(recorded)
    for (pattern, *_), members in sets.items():
        whole = _together(pattern, members)
        if whole is not None:
            yield pattern, whole
        else:
            yield from ((str(member.header.path), member) for member in members)


def _together(pattern: str, members: Sequence[Recorded]) -> Recorded | None:
    """Several images as one recording, if the pattern names these files and no others."""
    try:
        if len(members) > 1 and set(find_files(pattern)) == {member.header.path for member in members}:
            return open_any(pattern)
    except (DataError, OSError):
        pass
    return None
