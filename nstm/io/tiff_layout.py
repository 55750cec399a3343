"""Where things lie in a TIFF: its directories, read here, and whether all of it fits together.

TIFF has no checksums. What tells a damaged file from a whole one is that every byte has one owner: places that lie
outside the file, or in each other, are errors; a long run of bytes that no page owns is worth a word.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from nstm.acquisition import DataError
from nstm.io.protocol import CHANGED, MAX_PLANES, shown

#: Private texts of Micro-Manager, one per page.
MICRO_MANAGER = 51123
COMPRESSION = 259
_MAX_TAGS = 4096
_PRIVATE = 32768
_MAX_PADDING = 4096
#: Bytes of a value by the number of its type (TIFF 6.0, section 2; BigTIFF); unknown types: 0.
_TYPE_BYTES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0], dtype=np.float64)
_INTEGERS: Mapping[int, np.dtype[Any]] = {1: np.dtype("u1"), 3: np.dtype("u2"), 4: np.dtype("u4"), 16: np.dtype("u8")}
#: Description, offsets and byte counts of strips and tiles, metadata of ImageJ and Micro-Manager.
_NEEDED_TAGS = (270, 273, 279, 324, 325, 50838, 50839, MICRO_MANAGER)
#: Directories elsewhere: sub-images, EXIF, GPS. What belongs to them is not followed.
_ELSEWHERE = (330, 34665, 34853)
#: What decides how the stored bytes become pixels: sizes, type, compression, strips, tiles.
_CODING_TAGS = (256, 257, 258, 259, 262, 266, 277, 278, 284, 317, 322, 323, 339)
#: Bits, compression, bit order, samples per pixel, predictor, kind of number: what is meant where they are absent.
_DEFAULTS = {258: 1, 259: 1, 266: 1, 277: 1, 317: 1, 339: 1}


@dataclass(frozen=True, eq=False)
class Directory:
    """One image file directory: one page."""

    offset: int
    entries: np.ndarray  # fields code, type, count, value; in the byte order of the file
    following: int  # place of the next one, 0 after the last

    @functools.cached_property
    def coding(self) -> bytes:
        """The entries that decide how pixels are decoded; pages where they are the same are decoded alike."""
        codes = self.entries["code"]
        return bytes(self.entries[_coding_places(codes.tobytes(), codes.dtype.str)].tobytes())


@functools.lru_cache(maxsize=64)
def _coding_places(codes: bytes, kind: str) -> np.ndarray:
    """Where among these codes those stand that decide how pixels are decoded."""
    return np.flatnonzero(np.isin(np.frombuffer(codes, kind), _CODING_TAGS))


@dataclass(frozen=True)
class Dialect:
    """Byte order (``<`` or ``>``) and width of the numbers of a TIFF."""

    order: str
    big: bool

    @functools.cached_property
    def entry(self) -> np.dtype[np.void]:
        """The layout of one entry of a directory."""
        width = 8 if self.big else 4
        fields = [("code", "u2"), ("type", "u2"), ("count", f"u{width}"), ("value", f"u{width}")]
        return np.dtype([(name, self.order + kind) for name, kind in fields])

    def directory(self, file: BinaryIO, offset: int) -> Directory | None:
        """The directory at ``offset``; ``None`` if the file ends within it."""
        file.seek(offset)
        count = self.integer(file.read(8 if self.big else 2))
        width = 8 if self.big else 4
        data = file.read(self.entry.itemsize * min(count, _MAX_TAGS) + width)
        if len(data) != self.entry.itemsize * count + width:
            return None
        return Directory(offset, np.frombuffer(data, self.entry, count), self.integer(data[-width:]))

    def integers(self, file: BinaryIO, directory: Directory, code: int) -> np.ndarray:
        """The values of a tag as int64; empty where it is absent, holds no integers or ends beyond the file."""
        data, kind = self._value(file, directory, code)
        stored = _INTEGERS.get(kind)
        if stored is None or len(data) % stored.itemsize:
            return np.empty(0, dtype=np.int64)
        return np.frombuffer(data, stored.newbyteorder(self.order)).astype(np.int64)  # type: ignore[arg-type]  # "<" or ">"

    def numbers(self, directory: Directory) -> Mapping[int, int]:
        """The tags that decide how pixels are decoded: absent ones have their default, those without one number -1."""
        return _numbers(self, directory.coding)

    def text(self, file: BinaryIO, directory: Directory, code: int) -> bytes:
        """The bytes of a tag; empty where it is absent or ends beyond the file."""
        return self._value(file, directory, code)[0]

    def segments(self, file: BinaryIO, directory: Directory) -> tuple[np.ndarray, np.ndarray]:
        """Offsets and byte counts of the strips or tiles."""
        tiled = 324 in directory.entries["code"]
        places, counts = (self.integers(file, directory, code) for code in ((324, 325) if tiled else (273, 279)))
        return places, counts

    def _value(self, file: BinaryIO, directory: Directory, code: int) -> tuple[bytes, int]:
        at = np.flatnonzero(directory.entries["code"] == code)
        if not at.size:
            return b"", 0
        entry = directory.entries[at[:1]]
        kind = int(entry["type"][0])
        length = int(_TYPE_BYTES[min(kind, _TYPE_BYTES.size - 1)]) * int(entry["count"][0])
        if length <= entry["value"].nbytes:
            return entry["value"].tobytes()[:length], kind
        if int(entry["value"][0]) + length > os.fstat(file.fileno()).st_size:
            return b"", kind
        file.seek(int(entry["value"][0]))
        return file.read(length), kind

    def integer(self, data: bytes) -> int:
        """``data`` as one number."""
        return int.from_bytes(data, "little" if self.order == "<" else "big")


@functools.lru_cache(maxsize=64)
def _numbers(dialect: Dialect, coding: bytes) -> Mapping[int, int]:
    told = dict.fromkeys(_CODING_TAGS, 0) | _DEFAULTS
    entries = np.frombuffer(coding, dialect.entry)
    codes, kinds, counts = (entries[name].tolist() for name in ("code", "type", "count"))
    for number, (code, kind, count) in enumerate(zip(codes, kinds, counts, strict=True)):
        data = entries["value"][number : number + 1].tobytes()  # as stored
        is_number = count == 1 and kind in _INTEGERS and codes.count(code) == 1
        told[code] = dialect.integer(data[: _INTEGERS[kind].itemsize]) if is_number else -1
    return told


@dataclass(frozen=True)
class Layout:
    """All directories of the chain of a TIFF."""

    path: Path
    dialect: Dialect
    size: int  # bytes of the file
    directories: tuple[Directory, ...]

    def has(self, code: int) -> bool:
        """Whether the first page has the tag."""
        return code in self.directories[0].entries["code"]

    def owned(self, private: bool) -> np.ndarray:
        """First byte and end of all that is no pixels, ``(n, 2)``: header, directories, values kept elsewhere.

        Values of ``private`` tags may lie among the pixels, for all that is known of them.
        """
        number = 8 if self.dialect.big else 4
        begin = np.array([d.offset for d in self.directories], dtype=np.int64)
        length = np.array([d.entries.nbytes for d in self.directories]) + number + (8 if self.dialect.big else 2)
        starts, lengths = _elsewhere(self.entries)
        inside = (lengths > 0) & (starts + lengths <= self.size)
        if not private:
            inside &= (self.entries["code"] < _PRIVATE) | np.isin(self.entries["code"], _NEEDED_TAGS)
        values = np.column_stack([starts, starts + lengths])[inside].astype(np.int64)
        return np.concatenate([[[0, 2 * number]], np.column_stack([begin, begin + length]), values])

    @functools.cached_property
    def by_offset(self) -> Mapping[int, Directory]:
        """The directories by their places."""
        return {directory.offset: directory for directory in self.directories}

    @functools.cached_property
    def entries(self) -> np.ndarray:
        """The entries of all directories, one after another."""
        return np.concatenate([d.entries for d in self.directories])


def read_layout(path: Path) -> Layout:
    """All image directories, by walking their chain (TIFF 6.0, section 2; BigTIFF).

    Raises:
        DataError: the chain leaves the file or bites its tail, or texts or places of pixels lie outside the file.
    """
    size, where = path.stat().st_size, shown(path)
    found: dict[int, Directory] = {}
    with path.open("rb") as file:
        head = file.read(16).ljust(16, b"\0")
        dialect = Dialect("<" if head[:2] == b"II" else ">", head[2:4] in (b"+\0", b"\0+"))
        offset = int(np.frombuffer(head, dialect.order + ("u8" if dialect.big else "u4"))[1])
        while offset:
            if offset in found or len(found) >= MAX_PLANES:
                raise DataError(f"{where}: the page after {len(found)} points back to an earlier one; {CHANGED}")
            directory = dialect.directory(file, min(offset, size))
            if directory is None:
                raise _cut(where, len(found), size)
            found[offset] = directory
            offset = directory.following
    if not found:
        raise DataError(f"{where}: truncated, or a TIFF file without a single page; export the file anew")
    layout = Layout(path, dialect, size, tuple(found.values()))
    starts, lengths = _elsewhere(layout.entries)
    beyond = (lengths > 0) & (starts + lengths > size) & np.isin(layout.entries["code"], _NEEDED_TAGS)
    if beyond.any():
        pages = np.repeat(np.arange(len(found)), [d.entries.size for d in layout.directories])
        raise _cut(where, int(pages[beyond][0]), size)
    return layout


def _cut(where: str, page: int, size: int) -> DataError:
    return DataError(
        f"{where}: truncated: the header of page {page + 1} reaches beyond the {size} bytes of the file; "
        "copy or export the file anew"
    )


def refuse_different(layout: Layout, directories: Iterable[Directory]) -> None:
    """Pages of one recording must have one size and type, and those compressed alike be coded alike.

    Raises:
        DataError: they differ.
    """
    where = shown(layout.path)
    first: dict[str, int] | None = None
    coded: dict[int, tuple[int, ...]] = {}
    known: set[bytes] = set()
    for directory in directories:
        if directory.coding in known:
            continue
        known.add(directory.coding)
        told = layout.dialect.numbers(directory)
        number = 1 + layout.directories.index(directory)
        if -1 in told.values():
            raise DataError(f"{where}: the header of page {number} holds no number where one must be; {CHANGED}")
        kind = {
            "width": told[256],
            "height": told[257],
            "bits": told[258],
            "samples per pixel": told[277],
            "kind of number": told[339],
        }
        coding = (told[266], told[317])  # bit order, predictor
        first = first or kind
        if kind != first or coded.setdefault(told[COMPRESSION], coding) != coding:
            said = ", ".join(f"{name} {first[name]} and {kind[name]}" for name in kind if kind[name] != first[name])
            raise DataError(
                f"{where}: pages differ: page {number} is not like the first "
                f"({said or 'another coding with the same compression'}); all planes must have one size and type: "
                "split the file, or it is damaged and must be copied anew"
            )


def refuse_overlaps(layout: Layout, pixels: np.ndarray) -> None:
    """No byte may belong to two planes, or to a plane and a directory.

    Args:
        layout: the directories.
        pixels: first byte, end and number of the plane of every run of pixels, ``(n, 3)``.

    Raises:
        DataError: some do.
    """
    others = layout.owned(private=False)
    runs = np.concatenate([pixels, np.column_stack([others, np.full(len(others), -1)])])
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    before = np.maximum.accumulate(runs[:, 1])[:-1]
    clash = np.flatnonzero((runs[1:, 0] < before) & ((runs[1:, 2] >= 0) | _reached_by_pixels(runs)))
    if clash.size:
        start, _, plane = runs[1:][clash[0]].tolist()
        raise DataError(
            f"{shown(layout.path)}: at byte {start} {f'plane {plane}' if plane >= 0 else 'a header'} begins within "
            f"{'another plane or a header' if plane >= 0 else 'a plane'}; {CHANGED}"
        )


def _reached_by_pixels(runs: np.ndarray) -> np.ndarray:
    """For every run but the first, whether pixels that began before reach into it."""
    ends = np.where(runs[:, 2] >= 0, runs[:, 1], 0)
    return np.maximum.accumulate(ends)[:-1] > runs[1:, 0]


def refuse_displaced(layout: Layout, pixels: np.ndarray) -> None:
    """Pixels that are not compressed must lie where they are said to lie.

    Where they lie a few bytes off, the padding beside them is taken for pixels, and as many pixels are left over on
    the other side. Padding is zero.

    Args:
        layout: the directories.
        pixels: first byte and end of every run of such pixels, ``(n, 2)``.

    Raises:
        DataError: some are displaced.
    """
    if not len(pixels):
        return
    others = layout.owned(private=True)
    runs = _merged(np.concatenate([pixels, others]))
    planes = _merged(pixels)
    before = dict(zip(planes[:, 0].tolist(), planes[:, 1].tolist(), strict=True))
    behind = dict(zip(planes[:, 1].tolist(), planes[:, 0].tolist(), strict=True))
    with layout.path.open("rb") as file:

        def has_bytes(start: int, length: int) -> np.ndarray:
            file.seek(start)
            return np.flatnonzero(np.frombuffer(file.read(length), dtype=np.uint8))

        for start, end in zip(runs[:, 1].tolist(), [*runs[1:, 0].tolist(), layout.size], strict=True):
            if not 0 < end - start <= _MAX_PADDING or (start not in behind and end not in before):
                continue
            used = has_bytes(start, end - start)
            if not used.size:
                continue
            early, late = int(used[-1]) + 1, end - start - int(used[0])
            if (start in behind and not has_bytes(behind[start], early).size) or (
                end in before and not has_bytes(before[end] - late, late).size
            ):
                raise DataError(
                    f"{shown(layout.path)}: the pixels beside byte {start} lie some bytes off the place that their "
                    f"header tells; {CHANGED}"
                )


def _merged(runs: np.ndarray) -> np.ndarray:
    """First byte and end of runs, sorted, those that touch or overlap as one."""
    runs = runs[np.argsort(runs[:, 0], kind="stable"), :2]
    ends = np.maximum.accumulate(runs[:, 1])
    new = np.append(True, runs[1:, 0] > ends[:-1])
    return np.column_stack([runs[new, 0], ends[np.append(np.flatnonzero(new)[1:] - 1, len(runs) - 1)]])


def left_over(layout: Layout, pixels: np.ndarray, own: Iterable[tuple[int, int]] = ()) -> int:
    """Length of the longest run of bytes that neither directories, nor ``pixels``, nor ``own`` account for.

    0 where a page refers to directories that are not followed.
    """
    if np.isin(layout.entries["code"], _ELSEWHERE).any():
        return 0
    end = np.array([[layout.size, layout.size]])
    runs = _merged(np.concatenate([layout.owned(private=True), pixels[:, :2], *[np.array([o]) for o in own], end]))
    return int(np.max(runs[1:, 0] - runs[:-1, 1], initial=0))


def _elsewhere(entries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First byte and length of the values that do not stand in the directory itself; length 0: they do."""
    length = _TYPE_BYTES[np.minimum(entries["type"], _TYPE_BYTES.size - 1)] * entries["count"]
    return entries["value"].astype(np.float64), np.where(length > entries.dtype["value"].itemsize, length, 0)


def segments_expected(told: Mapping[int, int]) -> int:
    """Strips or tiles that a page has by its sizes; ``told``: see :meth:`Dialect.numbers`."""
    if told[322]:
        return math.ceil(told[256] / told[322]) * math.ceil(told[257] / max(told[323], 1))
    return math.ceil(told[257] / (told[278] or told[257] or 1))


def bytes_expected(told: Mapping[int, int]) -> tuple[int, ...]:
    """Bytes of the pixels of a page of grey values that is not compressed: exactly, or in whole strips or tiles."""
    if told[322]:
        return (segments_expected(told) * told[323] * math.ceil(told[322] * told[258] / 8),)
    row = math.ceil(told[256] * told[258] / 8)
    return told[257] * row, segments_expected(told) * min(told[278] or told[257], told[257]) * row
