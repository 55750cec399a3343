"""Shards of arrays ``(t, raw or c, z, y, x)``: a file per time (acquisition) in which every chunk is one plane.

Zarr writes a shard in one piece and needs several times its size of memory for that. Here the shards of raw frames,
which may be larger than the memory, are written plane by plane as they are read: the format is simple (zarr v3,
sharding codec: chunks in any order, then offset and length of each chunk, then a checksum), and zarr reads them.
"""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as da
import google_crc32c
import numpy as np
from numcodecs import Blosc
from zarr.codecs import BloscCodec

_LEVEL = 1
_BLOCK = 2**19
#: Planes that are given to dask at a time.
_PLANES_AT_ONCE = 64
_INDEX_BYTES = 16  # of every chunk, at the end of a shard
_CHECKSUM_BYTES = 4
_BLOSC_HEADER_BYTES = 16
_ABSENT = 2**64 - 1  # offset and length of a chunk that is not there

Place = tuple[slice, ...]


def codec(dtype: np.dtype[Any]) -> BloscCodec:
    """The compression of all arrays, lossless.

    On camera frames with photon noise and on results, blocks of 512 KB at zstd's level 1 take less time and give
    more than level 3 with Blosc's own choice of blocks.
    """
    return BloscCodec(cname="zstd", clevel=_LEVEL, shuffle="bitshuffle", typesize=dtype.itemsize, blocksize=_BLOCK)


def compressed(plane: np.ndarray) -> bytes:
    """A plane as :func:`codec` encodes it."""
    blosc = Blosc("zstd", clevel=_LEVEL, shuffle=Blosc.BITSHUFFLE, blocksize=_BLOCK, typesize=plane.dtype.itemsize)
    return bytes(blosc.encode(np.ascontiguousarray(plane, plane.dtype.newbyteorder("<"))))


def most_bytes(shape: Sequence[int], itemsize: int) -> int:
    """Bytes of all shards of an array that cannot be compressed at all, headers and indices included."""
    each = math.prod(shape[-2:]) * itemsize + _BLOSC_HEADER_BYTES + _INDEX_BYTES
    return math.prod(shape[:-2]) * each + shape[0] * _CHECKSUM_BYTES


def write_shards(folder: Path, frames: da.Array, ahead: Callable[[float], None] | None = None) -> None:
    """Write the shards of an array, while its planes are read.

    Memory: the planes that dask's threads work on, each with its compressed copy.

    Args:
        folder: of the array, whose metadata are written already: shards of one time, chunks of one plane,
            compressed with :func:`codec`.
        frames: ``(t, ..., z, y, x)``, one plane per chunk; what stands between ``t`` and ``z`` is flattened to ``raw``.
        ahead: called in a thread of its own with the share of the planes (above 0, in the end 1) that will have been
            read soon: what it reads of their file is in the cache of the system when they are read, in any order.

    Raises:
        Exception: whatever reading or ``ahead`` raises.
        OSError: a shard cannot be written.
    """
    shape = (frames.shape[0], math.prod(frames.shape[1:-3]), *frames.shape[-3:])
    regions = list(_regions(shape))
    planes = [math.prod(part.stop - part.start for part in region[:3]) for region in regions]
    shares = [passed / sum(planes) for passed in itertools.accumulate(planes)]
    with ThreadPoolExecutor(1) as pool, _Shards(folder, shape) as shards:
        target: Any = shards  # dask needs no more of an array than that parts are assigned to it
        coming = [pool.submit(ahead, shares[0])] if ahead else []
        for region, share in zip(regions, [*shares[1:], None], strict=True):
            for last in coming:
                last.result()
            coming = [pool.submit(ahead, share)] if ahead and share else []
            times = frames[region[0]]
            part = times.reshape((times.shape[0], *shape[1:]))[(slice(None), *region[1:])]
            da.store(part, target, regions=region, lock=False, scheduler="threads")


def missing_shards(folder: Path, shape: Sequence[int], shards: Sequence[int]) -> list[tuple[int, ...]]:
    """First elements of the shards that are absent, cut off or damaged in their index.

    Args:
        folder: of the array.
        shape: of the array.
        shards: shape of a shard; its chunks are planes.
    """
    steps = [range(0, length, side) for length, side in zip(shape, shards, strict=True)]
    found = []
    for first in itertools.product(*steps):
        file = folder.joinpath("c", *(str(n // s) for n, s in zip(first, shards, strict=True)))
        if not _is_whole(file, math.prod(shards[:-2])):
            found.append(first)
    return found


def _is_whole(shard: Path, chunks: int) -> bool:
    """Whether the index at the end of a shard is intact and all its chunks lie before it."""
    length = _INDEX_BYTES * chunks
    if not shard.is_file() or shard.stat().st_size < length + _CHECKSUM_BYTES:
        return False
    with shard.open("rb") as file:
        before = file.seek(-length - _CHECKSUM_BYTES, os.SEEK_END)
        index, checksum = file.read(length), file.read(_CHECKSUM_BYTES)
    if google_crc32c.value(index) != int.from_bytes(checksum, "little"):
        return False
    places = np.frombuffer(index, "<u8").reshape(-1, 2)
    there = places[places[:, 0] != _ABSENT].astype(np.float64)
    return bool(np.all(there.sum(axis=1) <= before))


def _regions(shape: Sequence[int]) -> Iterator[Place]:
    """Parts of an array with some _PLANES_AT_ONCE planes: several times, or several frames of one."""
    count, raw, z, y, x = shape
    frames = min(raw, max(1, _PLANES_AT_ONCE // z))
    times = max(1, _PLANES_AT_ONCE // (z * raw))
    for t, first in itertools.product(range(0, count, times), range(0, raw, frames)):
        yield (
            *(slice(t, min(t + times, count)), slice(first, min(first + frames, raw))),
            *(slice(0, length) for length in (z, y, x)),
        )


class _Shards:
    """All shards of an array, as an array that planes are assigned to: once each, in any order, from any thread.

    The thread that brings a plane compresses it.
    """

    def __init__(self, folder: Path, shape: Sequence[int]) -> None:
        self._folder, self._chunks = folder, tuple(shape[1:3])
        self._open: dict[int, _Shard] = {}
        self._closed = False
        self._lock = threading.Lock()

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._lock:
            self._closed = True
            for shard in self._open.values():
                shard.file.close()
        if kind is None and self._open:
            raise RuntimeError(f"planes of the times {sorted(self._open)} were never written")

    def __setitem__(self, key: Place, planes: np.ndarray) -> None:
        begin = [part.start for part in key[:3]]
        for place in np.ndindex(planes.shape[:3]):
            time, *chunk = (b + p for b, p in zip(begin, place, strict=True))
            data = compressed(planes[place])
            with self._lock:
                if not self._closed:  # after an error dask does not wait for the planes that are being read
                    self._append(time, tuple(chunk), data)

    def _append(self, time: int, chunk: tuple[int, ...], data: bytes) -> None:
        if time not in self._open:
            self._open[time] = _Shard(self._folder.joinpath("c", str(time), *"0000"), self._chunks)
        shard = self._open[time]
        shard.append(chunk, data)
        if shard.complete:
            shard.finish()
            del self._open[time]


class _Shard:
    """A shard that is being written: chunks, then the offset and length of each, then the checksum of these."""

    def __init__(self, path: Path, chunks: tuple[int, ...]) -> None:
        path.parent.mkdir(parents=True)
        self.file = path.open("xb")
        self._index = np.full((*chunks, 2), _ABSENT, dtype="<u8")

    @property
    def complete(self) -> bool:
        """Whether every chunk is written."""
        return not (self._index == _ABSENT).any()

    def append(self, chunk: tuple[int, ...], data: bytes) -> None:
        """Write one chunk."""
        self._index[chunk] = self.file.tell(), len(data)
        self.file.write(data)

    def finish(self) -> None:
        """Write the index and close."""
        index = self._index.tobytes()
        self.file.write(index + google_crc32c.value(index).to_bytes(_CHECKSUM_BYTES, "little"))
        self.file.close()
