"""The segments of a CZI file: the list of its planes, where their pixels lie, metadata, time stamps (ZISRAW 1.0).

Every place, size and count that the file states is compared with the length of the file before anything is read by
it; nothing larger than one short header is read before that.
"""

from __future__ import annotations

import itertools
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from nstm.acquisition import DataError
from nstm.io.czi_metadata import plane_times
from nstm.io.protocol import MAX_PLANES, shown

#: Letters of the axes that the format knows, apart from X and Y.
AXES = "TSRHZCIBVM"
MAX_XML_BYTES = 32 * 2**20
MAX_NOTE_BYTES = 2**16
_MAX_ATTACHMENTS = 10_000
_SEGMENT = struct.Struct("<16sqq")  # name, bytes allocated, bytes used
_FILE = struct.Struct("<16x16s16siqqiq")  # guid of the set, of this file, part, places of list and metadata, open, ...
_ENTRY = struct.Struct("<2siqiiB5xi")  # schema, pixel type, place, part, compression, pyramid, number of axes
_AXIS = struct.Struct("<4siifi")  # name, start, size, coordinate, stored size
_SUBBLOCK = struct.Struct("<iiq")  # bytes of the note, of attachments, of pixels
_ATTACHMENT = struct.Struct("<2s10xqi16s8s80s")  # schema, place, part, guid, type, name
_ANEW = "the file is damaged or cut: copy it anew, or open it in ZEN and save it anew"


class Entry(NamedTuple):
    """What is said of one subblock: which plane it is, its size, and where it lies."""

    pixel_type: int
    compression: int
    place: int  # of the segment, bytes from the start of the file
    start: Mapping[str, int]  # index along each axis that is stated, but for x and y
    planes: int  # how many it holds
    size: tuple[int, int]  # (y, x) in the image
    stored: tuple[int, int]  # (y, x) in the file; smaller in the levels of a pyramid


class Subblock(NamedTuple):
    """A subblock that lies whole in the file."""

    entry: Entry  # as the list of planes has it
    own: Entry  # as the subblock itself has it
    place: int  # of the pixels
    pixel_bytes: int
    times: tuple[float | None, float | None]  # start and exposure, s, as its own XML states them


class Segments:
    """The segments of an open CZI file.

    Raises:
        DataError: no CZI file, cut, never finished, or one of several files of a set.
    """

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._where = file, shown(path)
        self.file_bytes = os.fstat(file.fileno()).st_size
        self._segment(0, b"ZISRAWFILE", "the header")
        guid, own, part, self._list, self._metadata, still_open, self._attachments = _FILE.unpack(
            self._take(_FILE.size, "the header")
        )
        if part != 0 or guid != own:
            raise DataError(
                f"{self._where}: part {part} of an image that is spread over several files: open it in ZEN and save "
                "it as one file"
            )
        if self._list == 0:
            raise DataError(
                f"{self._where}: the list of planes was never written, the recording was broken off: open it in ZEN "
                "and save it anew"
            )
        self.warnings = ("the program that wrote the file did not close it",) if still_open else ()

    def entries(self) -> list[Entry]:
        """The list of all subblocks, also those of pyramids, in the order in which they lie in the file."""
        self._segment(self._list, b"ZISRAWDIRECTORY", "the list of planes")
        count = struct.unpack("<i124x", self._take(128, "the list of planes"))[0]
        if not 0 <= count <= MAX_PLANES or count * _ENTRY.size > self.file_bytes:
            raise self._bad(f"a list of {count} planes in {self.file_bytes} bytes")
        found = sorted((self._entry() for _ in range(count)), key=lambda entry: entry.place)
        if any(a.place == b.place for a, b in itertools.pairwise(found)):
            raise self._bad("the list of planes names one place twice")
        return found

    def subblock(self, entry: Entry) -> Subblock:
        """The header of the subblock that ``entry`` names."""
        what = f"the plane at byte {entry.place}"
        used = self._segment(entry.place, b"ZISRAWSUBBLOCK", what)
        note, attached, pixels = _SUBBLOCK.unpack(self._take(_SUBBLOCK.size, what))
        own = self._entry()
        head = max(256, self._file.tell() - entry.place - _SEGMENT.size)
        if min(note, attached, pixels) < 0 or used not in (0, head + note + attached + pixels):
            raise self._bad(f"{what} states sizes that contradict each other")
        if own.pixel_type != entry.pixel_type or own.stored != entry.stored:
            raise self._bad(f"{what} is not what the list of planes says of it")
        start = entry.place + _SEGMENT.size + head
        self._seek(start + note, pixels, what)
        self._seek(start, note, what)
        times = plane_times(self._take(note, what)) if note <= MAX_NOTE_BYTES else (None, None)
        return Subblock(entry, own, start + note, pixels, times)

    def metadata(self) -> bytes:
        """The XML text about the whole file; empty where it has none."""
        if self._metadata == 0:
            return b""
        self._segment(self._metadata, b"ZISRAWMETADATA", "the metadata")
        length = struct.unpack("<i252x", self._take(256, "the metadata"))[0]
        if length > MAX_XML_BYTES:
            raise self._bad(f"metadata of {length} bytes, at most {MAX_XML_BYTES} are read")
        self._seek(self._metadata + _SEGMENT.size + 256, length, "the metadata")
        return self._take(length, "the metadata")

    def time_stamps(self) -> tuple[float, ...]:
        """The attachment of that name, one time in s for each time point; empty where it has none."""
        if self._attachments == 0:
            return ()
        what = "the list of attachments"
        self._segment(self._attachments, b"ZISRAWATTDIR", what)
        count = struct.unpack("<i252x", self._take(256, what))[0]
        if not 0 <= count <= _MAX_ATTACHMENTS:
            raise self._bad(f"a list of {count} attachments")
        for _ in range(count):
            schema, place, part, _, kind, _ = _ATTACHMENT.unpack(self._take(_ATTACHMENT.size, what))
            if schema == b"A1" and part == 0 and kind.rstrip(b"\0") == b"CZTIMS":
                return self._stamps(place)
        return ()

    def _stamps(self, place: int) -> tuple[float, ...]:
        what = "the time stamps"
        self._segment(place, b"ZISRAWATTACH", what)
        stated = struct.unpack("<i252x", self._take(256, what))[0]
        count = struct.unpack("<4xi", self._take(8, what))[0]
        if not 0 <= 8 * count <= stated - 8 or count > MAX_PLANES:
            raise self._bad(f"{what} are {count} in {stated} bytes")
        self._seek(place + _SEGMENT.size + 256 + 8, 8 * count, what)
        times = struct.unpack(f"<{count}d", self._take(8 * count, what))
        return times if all(map(math.isfinite, times)) else ()

    def _entry(self) -> Entry:
        """The entry at which the file stands."""
        what = "an entry of the list of planes"
        schema, pixel_type, place, part, compression, _, count = _ENTRY.unpack(self._take(_ENTRY.size, what))
        if schema != b"DV" or not 0 <= count <= len(AXES) + 2:
            raise self._bad(f"{what} is none (schema {schema!r}, {count} axes)")
        if part != 0:
            raise self._bad(f"a plane lies in another file (part {part} of a set): save it as one file")
        axes = {}
        for name, start, size, _, stored in _AXIS.iter_unpack(self._take(count * _AXIS.size, what)):
            letter = name.rstrip(b"\0").decode("ascii", "replace")
            axes[letter] = (start, size, stored or size)
        if len(axes) < count or not {"X", "Y"} <= axes.keys() <= {"X", "Y", *AXES}:
            raise self._bad(f"{what} has the axes {', '.join(map(repr, axes))}")
        return Entry(
            pixel_type,
            compression,
            place,
            start={a: start for a, (start, _, _) in axes.items() if a not in "XY"},
            planes=math.prod(size for a, (_, size, _) in axes.items() if a not in "XY"),
            size=(axes["Y"][1], axes["X"][1]),
            stored=(axes["Y"][2], axes["X"][2]),
        )

    def _segment(self, place: int, name: bytes, what: str) -> int:
        """Go behind the header of a segment; its used bytes."""
        self._seek(place, _SEGMENT.size, what)
        found, _, used = _SEGMENT.unpack(self._take(_SEGMENT.size, what))
        if found.rstrip(b"\0") != name:
            raise self._bad(f"{what} should begin at byte {place}, where {found[:16]!r} stands")
        return used

    def _seek(self, place: int, count: int, what: str) -> None:
        """Go to ``place`` if ``count`` bytes from there are inside the file."""
        if min(place, count) < 0 or place + count > self.file_bytes:
            raise DataError(
                f"{self._where}: truncated or damaged: {what} should lie at bytes {place} to {place + count}, the "
                f"file has {self.file_bytes}; copy it anew"
            )
        self._file.seek(place)

    def _take(self, count: int, what: str) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise DataError(f"{self._where}: truncated: the file ends within {what}; copy it anew")
        return data

    def _bad(self, what: str) -> DataError:
        return DataError(f"{self._where}: {what}; {_ANEW}")
