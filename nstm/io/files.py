"""The files of a sample: one file, a folder or a glob; every file is a run of planes, taken in natural order."""

from __future__ import annotations

import functools
import glob
import math
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nstm.acquisition import DataError
from nstm.io.czi import CziReader
from nstm.io.mrc import MrcReader
from nstm.io.nikon import NikonReader
from nstm.io.numpy_files import NumpyReader
from nstm.io.pictures import PictureReader
from nstm.io.protocol import HEAD_BYTES, Header, ImageFile, Reader, clean_text, describe, shown
from nstm.io.tiff import TiffReader

MAX_PATH_BYTES = 4095
#: Readers of what microscopes write; the first that recognises the beginning of a file opens it, so the one with the
#: shortest mark is last.
MICROSCOPES: tuple[Reader, ...] = (TiffReader(), CziReader(), NikonReader(), MrcReader())
#: All readers. Pictures and arrays also stand beside recordings: in a folder they count only where there are none.
READERS: tuple[Reader, ...] = (*MICROSCOPES, PictureReader(), NumpyReader())


@dataclass(frozen=True)
class Recording:
    """The planes of one or several files, one after another; ``flips`` names the axes along which they are turned."""

    files: tuple[ImageFile, ...]
    flips: tuple[str, ...] = ()

    @property
    def headers(self) -> list[Header]:
        """Header of each file."""
        return [file.header for file in self.files]

    @property
    def planes(self) -> int:
        """Number of planes of all files."""
        return sum(header.planes for header in self.headers)

    @property
    def axes(self) -> dict[str, int]:
        """Labelled axes of all planes, slowest first; several files stand along ``file``."""
        if len(self.files) == 1:
            return dict(self.headers[0].axes)
        if all(dict(h.axes) == dict(self.headers[0].axes) for h in self.headers):
            return {"file": len(self.files), **self.headers[0].axes}
        return {"plane": self.planes}

    def read_plane(self, index: int) -> np.ndarray:
        """Plane ``index`` of all, ``(y, x)``."""
        number = int(np.searchsorted(self._first, index, side="right")) - 1
        plane = self.files[number].read_plane(index - int(self._first[number]))
        return plane[tuple(slice(None, None, -1 if axis in self.flips else 1) for axis in "yx")]

    @functools.cached_property
    def _first(self) -> np.ndarray:
        return np.cumsum([0, *(header.planes for header in self.headers)])

    def joined(self, name: str) -> np.ndarray | None:
        """A per-plane array of the headers over all planes; ``None`` unless every file states it."""
        parts = [getattr(header, name) for header in self.headers]
        return None if any(part is None for part in parts) else np.concatenate(parts)

    def stated(self, name: str) -> Any:
        """The first statement of the headers that is not ``None`` or empty."""
        return next((v for v in (getattr(h, name) for h in self.headers) if v is not None and v != ()), None)


def natural_key(path: Path | str) -> list[tuple[int, int, str]]:
    """Sorts ``frame2`` before ``frame10``."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(1, int(p), p) if i % 2 else (0, 0, p) for i, p in enumerate(parts)]


def find_files(path: str | Path, readers: Sequence[Reader] = READERS) -> list[Path]:
    """The files of ``path``: a file, the image files of a folder, or the matches of a glob; naturally sorted.

    A path that exists is taken literally, even where it holds ``*`` or ``[``. Files of a folder count when their
    name or their beginning is that of an image format, so notes beside the data do no harm.

    Raises:
        DataError: nothing there.
    """
    text = str(path)
    if "\0" in text:
        raise DataError(f"{shown(text)}: a path cannot hold a NUL character")
    path = Path(text).expanduser()
    if len(text.encode(errors="replace")) > MAX_PATH_BYTES or any(len(os.fsencode(p)) > 255 for p in path.parts):
        raise DataError(f"{shown(text)}: the path is longer than file systems allow: correct `path`")
    if path.is_file():
        return [path]
    if path.is_dir():
        if (path / "zarr.json").exists() or (path / ".zattrs").exists():
            raise DataError(f"{shown(path)}: a zarr store, not raw data; give the files that the microscope wrote")
        inside = [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
        ranks = [[r for r in readers if r in MICROSCOPES], *([r] for r in readers if r not in MICROSCOPES)]
        files = next(filter(None, (_files_of(inside, rank) for rank in ranks)), [])
        if not files:
            raise DataError(f"{shown(path)}: no image files in this folder; known: {', '.join(_suffixes(readers))}")
    else:
        files = [Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file()]
        if not files:
            glob_used = glob.has_magic(str(path))
            raise DataError(
                f"{shown(path)}: {'no file matches this pattern' if glob_used else 'no such file or folder'}; "
                "correct `path` (relative paths start at the sample sheet)"
            )
    return sorted(files, key=natural_key)


def open_recording(path: str | Path, position: str | None = None, readers: Sequence[Reader] = READERS) -> Recording:
    """Read the headers of all files of ``path``.

    Raises:
        DataError: nothing there, a file of unknown type, truncated or empty, or files that do not fit together.
    """
    files = []
    for file in find_files(path, readers):
        head = _head(file)
        reader = _reader(head, readers)
        if reader is None:
            raise DataError(
                f"{shown(file)}: this is {describe(head)}; readable are {', '.join(r.name for r in readers)} "
                "files (told by content, not by name): export the recording as one of these"
            )
        files.append(reader.open(file, position))
    _alike([f.header for f in files])
    return Recording(tuple(files))


def select_planes(recording: Recording, channel: str | None) -> tuple[np.ndarray, dict[str, int], str | None]:
    """Numbers of the planes of one channel, the axes that are left, and the name of the channel.

    ``channel`` is a name or an index along the axis C of each file; ``all`` takes every plane, whatever the labels.

    Raises:
        DataError: no such channel.
    """
    if channel in (None, "all"):
        return np.arange(recording.planes), recording.axes, None
    assert channel is not None
    parts, first, name = [], 0, None
    for header in recording.headers:
        index, name = _channel(header, channel)
        planes = np.arange(first, first + header.planes).reshape(tuple(header.axes.values()))
        if "C" in header.axes:
            planes = np.take(planes, index, axis=list(header.axes).index("C"))
        parts.append(planes.ravel())
        first += header.planes
    chosen = np.concatenate(parts)
    if "plane" in recording.axes:  # files that differ in length are only counted
        return chosen, {"plane": chosen.size}, name
    return chosen, {a: n for a, n in recording.axes.items() if a != "C"}, name


def channel_index(header: Header, channel: str) -> int:
    """Where ``channel`` (name or number) stands along the axis C of a file.

    Raises:
        DataError: no such channel.
    """
    return _channel(header, channel)[0]


def channel_names(header: Header) -> str:
    """The channels of a file as ``0: 'GFP', 1: 'RFP'``."""
    count = header.axes.get("C", 1)
    names = [*header.channels, *[""] * count][: min(count, 20)]
    return ", ".join(f"{i}: {name!r}" if name else str(i) for i, name in enumerate(names))


def _channel(header: Header, channel: str) -> tuple[int, str]:
    count = header.axes.get("C", 1)
    names = list(header.channels)[:count]
    if names.count(channel) == 1:
        return names.index(channel), channel
    if channel.isdecimal() and int(channel) < count:
        return int(channel), names[int(channel)] if int(channel) < len(names) else channel
    raise DataError(
        f"{shown(header.path)}: no channel {clean_text(channel)!r} in the file; allowed: {channel_names(header)} "
        "(or `all`: every plane, whatever the labels say)"
    )


def _files_of(files: Sequence[Path], readers: Sequence[Reader]) -> list[Path]:
    return [f for f in files if f.suffix.lower() in _suffixes(readers) or _reader(_head(f), readers)]


def _suffixes(readers: Sequence[Reader]) -> tuple[str, ...]:
    return tuple(suffix for reader in readers for suffix in reader.suffixes)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _reader(head: bytes, readers: Sequence[Reader]) -> Reader | None:
    return next((reader for reader in readers if reader.recognises(head)), None)


def _alike(headers: Sequence[Header]) -> None:
    """All planes have one size and type; the file that differs from most is named."""
    kinds = [(h.plane_shape, h.dtype.name) for h in headers]
    usual = Counter(kinds).most_common(1)[0][0]
    for header, kind in zip(headers, kinds, strict=True):
        if kind != usual:
            raise DataError(
                f"{shown(header.path)}: planes of {kind[0][0]} x {kind[0][1]} {kind[1]}, but the other files have "
                f"{usual[0][0]} x {usual[0][1]} {usual[1]}: remove this file or correct `path`"
            )


def spans(axes: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """For every axis (slowest first) the planes from one step to the next and to the end of the axis."""
    names = list(axes)
    inner = [math.prod(list(axes.values())[i + 1 :]) for i in range(len(names))]
    return {name: (step, step * axes[name]) for name, step in zip(names, inner, strict=True)}
