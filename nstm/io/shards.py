"""Arrays of ``(t, raw or c, z, y, x)`` in shards: how large a shard is, how it is written, and whether all are there.

A chunk is one plane. A shard, one file, is one time (one acquisition), or an equal part of one that is larger than
``SHARD_BYTES``; it is written in one piece by one writer, because two writers of a shard lose data silently.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.config
import numpy as np
import zarr
from dask.system import CPU_COUNT
from numcodecs import Blosc
from zarr.codecs import BloscCodec

#: Largest shard of raw frames before compression. Writing holds at most four: one that is read, one that is written,
#: its compressed planes, and these joined.
SHARD_BYTES = 128 * 2**20
#: Acquisitions that are smaller are read and written several at a time, which takes less time for each.
BATCH_BYTES = 16 * 2**20

_LEVEL = 1
_BLOCK = 2**19
_INDEX_BYTES = 16  # of every chunk, at the end of a shard
_CHECKSUM_BYTES = 4
_BLOSC_HEADER_BYTES = 16

Place = tuple[slice, ...]


def codec(dtype: np.dtype[Any]) -> BloscCodec:
    """The compression of all arrays, lossless.

    On camera frames with photon noise and on results, blocks of 512 KB at zstd's level 1 take less time and give
    more than level 3 with Blosc's own choice of blocks.
    """
    return BloscCodec(cname="zstd", clevel=_LEVEL, shuffle="bitshuffle", typesize=dtype.itemsize, blocksize=_BLOCK)


def compressed_bytes(plane: np.ndarray) -> int:
    """Bytes that a plane has in a store."""
    blosc = Blosc("zstd", clevel=_LEVEL, shuffle=Blosc.BITSHUFFLE, blocksize=_BLOCK, typesize=plane.dtype.itemsize)
    return len(blosc.encode(np.ascontiguousarray(plane))) + _INDEX_BYTES


def shard_shape(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Shape of the shards of raw frames.

    Args:
        shape: ``(t, raw, z, y, x)``.
        itemsize: bytes of a pixel.

    Returns:
        one acquisition, else as many whole frames, else planes of one frame, as divide it equally and fit into
        SHARD_BYTES; at least one plane.
    """
    _, raw, z, y, x = shape
    planes = max(1, SHARD_BYTES // (y * x * itemsize))
    if z > planes:
        return 1, 1, _largest_divisor(z, planes), y, x
    return 1, _largest_divisor(raw, planes // z), z, y, x


def files_per_time(shape: Sequence[int], shards: Sequence[int]) -> int:
    """Number of shards of one time."""
    return math.prod(math.ceil(n / s) for n, s in zip(shape[1:], shards[1:], strict=True))


def most_bytes(shape: Sequence[int], shards: Sequence[int], itemsize: int) -> int:
    """Bytes of the shards of an array that cannot be compressed at all, headers and indices included."""
    planes = math.prod(shape[:-2])
    each = math.prod(shape[-2:]) * itemsize + _BLOSC_HEADER_BYTES + _INDEX_BYTES
    return planes * each + shape[0] * files_per_time(shape, shards) * _CHECKSUM_BYTES


def write_shards(
    array: zarr.Array[Any],
    read: Callable[[Place, np.ndarray], None],
    beside: Callable[[float], None] | None = None,
) -> None:
    """Write every shard of ``array``: while one (or several of small acquisitions) is written, the next is read.

    Args:
        array: whose shards divide it equally.
        read: ``read(place, out)`` puts the part of the data that the slices name into ``out``; not called twice at
            a time.
        beside: called with the share of the data (above 0, at the end 1) that has been read, in a thread of its
            own, while that is written.

    Raises:
        Exception: whatever ``read`` or ``beside`` raises; and OSError when the disk is full.
    """
    assert array.shards is not None
    at_once = max(1, BATCH_BYTES // (math.prod(array.shape[1:]) * array.dtype.itemsize))
    batch = (min(at_once, array.shape[0]), *array.shards[1:])
    places = list(_places(array.shape, batch))
    buffers = [np.empty(batch, array.dtype) for _ in places[:2]]

    def fetch(number: int) -> np.ndarray:
        times = places[number][0]
        buffer = buffers[number % 2][: times.stop - times.start]
        read(places[number], buffer)
        return buffer

    with ThreadPoolExecutor(2) as pool, zarr.config.set({"async.concurrency": threads()}):
        coming = pool.submit(fetch, 0)
        for number, place in enumerate(places, start=1):
            frames = coming.result()
            aside = pool.submit(beside, number / len(places)) if beside else None
            if number < len(places):
                coming = pool.submit(fetch, number)
            array[place] = frames
            if aside:
                aside.result()


def threads() -> int:
    """Threads that compress: dask's number of workers (``DASK_NUM_WORKERS``), else the cores of this process."""
    return int(dask.config.get("num_workers", None) or CPU_COUNT)


def missing_shards(folder: Path, shape: Sequence[int], shards: Sequence[int]) -> list[tuple[int, ...]]:
    """First elements of the shards that are absent or too short to hold even their index.

    Args:
        folder: of the array.
        shape: of the array.
        shards: shape of a shard; its chunks are planes.
    """
    least = _INDEX_BYTES * math.prod(shards[:-2]) + _CHECKSUM_BYTES
    found = []
    for place in _places(shape, shards):
        first = tuple(part.start for part in place)
        file = folder.joinpath("c", *(str(n // s) for n, s in zip(first, shards, strict=True)))
        if not file.is_file() or file.stat().st_size < least:
            found.append(first)
    return found


def _places(shape: Sequence[int], shards: Sequence[int]) -> Iterator[Place]:
    """What each shard holds, in the order of the frames."""
    steps = [range(0, length, side) for length, side in zip(shape, shards, strict=True)]
    for corner in itertools.product(*steps):
        yield tuple(slice(c, min(c + s, n)) for c, s, n in zip(corner, shards, shape, strict=True))


def _largest_divisor(number: int, limit: int) -> int:
    return next(n for n in range(min(number, limit), 0, -1) if number % n == 0)
