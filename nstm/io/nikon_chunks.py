"""The chunks of an ND2 file: where they lie, whether they are whole, and whether their texts are fit to be parsed.

An ND2 file (NIS-Elements 3 and later) is a run of named chunks; a map at its end tells where each begins. The library
`nd2` believes that map: it gives zeros for a frame that is not there, allocates what a header asks for and inflates
and joins texts without bound. So every chunk that will be read is looked at here first.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from nstm.acquisition import DataError
from nstm.io.protocol import clean_text, shown

MAGIC = b"\xda\xce\xbe\n"
FRAME = b"ImageDataSeq|"
#: Time of each frame, float64, ms.
TIMES = b"CustomData|AcqTimesCache!"
#: Chunks that the library parses; with LV from version 3.0 of the format.
PARSED = frozenset(
    b"Image%s%s%s!" % (name, kind, number)
    for name, number in ((b"Attributes", b""), (b"TextInfo", b""), (b"Metadata", b""), (b"MetadataSeq", b"|0"))
    for kind in (b"", b"LV")
)
_SIGNATURE = b"ND2 FILE SIGNATURE CHUNK NAME01!"
_MAP_NAME = b"ND2 FILEMAP SIGNATURE NAME 0001!"
_MAP_END = b"ND2 CHUNK MAP SIGNATURE 0000001!"
_ENTRY = re.compile(rb"([^!]{1,512}!)(.{16})", re.DOTALL)
_MAX_MAP_BYTES = 2**30
#: Of all texts of a chunk, inflated; they have tens of kilobytes.
_MAX_PARSED_BYTES = 2**24
_MAX_INFLATED = 64
#: Sum over texts of the square of their characters: the library needs some 10^-10 s for each.
_MAX_TEXT_COST = 2e10
_COPY = "copy or export the file anew"


class Chunk(NamedTuple):
    """The place of a chunk, bytes from the beginning of the file."""

    offset: int  # of its header
    start: int  # of its data
    length: int  # of its data


def read_chunks(path: Path) -> dict[bytes, Chunk]:
    """The places of all frames and of the other chunks that will be read, by name.

    Raises:
        DataError: no map, a chunk outside the file or not where the map has it, or texts that are no metadata.
    """
    found = {}
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        _chunk(path, file, size, 0, _SIGNATURE)
        for name, offset in _map(path, file, size).items():
            if name.startswith(FRAME) or name == TIMES or name in PARSED:
                found[name] = _chunk(path, file, size, offset, name)
        for name in PARSED & found.keys():
            label, chunk = f"{shown(path)}: the metadata {_label(name)}", found[name]
            if chunk.length > _MAX_PARSED_BYTES:
                raise DataError(f"{label} have {chunk.length} bytes, at most {_MAX_PARSED_BYTES} are read; {_COPY}")
            for text in _inflated(label, _read(path, file, chunk.start, chunk.length)):
                _refuse_traps(label, text)
    return found


def _read(path: Path, file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    data = file.read(count)
    if len(data) < count:
        raise DataError(f"{shown(path)}: ends at byte {start + len(data)}, {count} were expected from {start}; {_COPY}")
    return data


def _map(path: Path, file: BinaryIO, size: int) -> dict[bytes, int]:
    """Offset of every chunk by its name."""
    file.seek(max(0, size - len(_MAP_END) - 8))
    tail = file.read(len(_MAP_END) + 8)
    if tail[:-8] != _MAP_END:
        raise DataError(
            f"{shown(path)}: truncated: the {size} bytes do not end with the map of an ND2 file (the copy or the "
            "recording was broken off); copy the file anew, or open it in NIS-Elements and save it anew"
        )
    place = _chunk(path, file, size, int.from_bytes(tail[-8:], "little"), _MAP_NAME)
    if place.length > _MAX_MAP_BYTES:
        raise DataError(f"{shown(path)}: the map of the file has {place.length} bytes: it is damaged; {_COPY}")
    data = _read(path, file, place.start, place.length)
    offsets: dict[bytes, int] = {}
    position = 0
    while not data.startswith(_MAP_END, position):
        entry = _ENTRY.match(data, position)
        if entry is None:
            raise DataError(f"{shown(path)}: the map of the file is damaged after {len(offsets)} entries; {_COPY}")
        offsets[entry[1]] = int.from_bytes(entry[2][:8], "little")
        position = entry.end()
    return offsets


def _chunk(path: Path, file: BinaryIO, size: int, offset: int, name: bytes) -> Chunk:
    """The chunk at ``offset``, by its own header."""
    head = b""
    if offset + 16 + len(name) <= size:
        head = _read(path, file, offset, 16 + len(name))
    if not head.startswith(MAGIC) or head[16:] != name:
        raise DataError(
            f"{shown(path)}: no chunk {_label(name)} at byte {offset} of {size}, where the map of the file has it: "
            f"truncated or damaged; {_COPY}"
        )
    name_bytes, length = struct.unpack_from("<IQ", head, 4)
    start = offset + 16 + name_bytes
    if start + length > size:
        raise DataError(
            f"{shown(path)}: truncated: the chunk {_label(name)} needs {length} bytes from byte {start} on, the file "
            f"has {size}; {_COPY}"
        )
    return Chunk(offset, start, length)


def _label(name: bytes) -> str:
    return clean_text(name.decode("ascii", "replace").rstrip("!"), 60)


#: A compressed record: its type, 11 bytes, and the two bytes that a zlib stream can begin with.
_COMPRESSED = re.compile(
    b"(?=L.{11}(?:%s))"
    % b"|".join(
        re.escape(bytes([method, flags]))
        for method in range(8, 128, 16)
        for flags in range(256)
        if (256 * method + flags) % 31 == 0 and not flags & 32
    ),
    re.DOTALL,
)


def _inflated(label: str, data: bytes) -> Iterator[bytes]:
    """``data``, and all that a parser could inflate out of it.

    Raises:
        DataError: more than a header can hold.
    """
    waiting, total, streams = [data], len(data), 0
    while waiting:
        text = waiting.pop()
        yield text
        if text.startswith(b"<"):
            continue
        for match in _COMPRESSED.finditer(text):
            streams += 1
            try:
                inner = zlib.decompressobj().decompress(memoryview(text)[match.start() + 12 :], _MAX_PARSED_BYTES)
            except zlib.error:
                inner = b""
            total += len(inner)
            if total > _MAX_PARSED_BYTES or streams > _MAX_INFLATED:
                raise DataError(f"{label} inflate to more than {_MAX_PARSED_BYTES} bytes; {_COPY}")
            waiting.append(inner)


def _refuse_traps(label: str, text: bytes) -> None:
    """Refuses XML with entities, and binary metadata with endless texts.

    Texts end with a zero; the library joins them two bytes at a time, which takes the square of their length.
    """
    if text.startswith(b"<"):
        plain = text.replace(b"\0", b"")
        if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
            raise DataError(f"{label} hold a DOCTYPE or ENTITY, which NIS-Elements never writes: save the file anew")
        return
    for shift in (0, 1):
        characters = np.frombuffer(text[shift:], "<u2", max(0, len(text) - shift) // 2)
        lengths = np.diff(np.flatnonzero(characters == 0), prepend=-1, append=characters.size).astype(np.float64)
        if np.sum(lengths**2) > _MAX_TEXT_COST:
            raise DataError(f"{label} hold a text of {int(lengths.max())} characters: they are damaged; {_COPY}")
