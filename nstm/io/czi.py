"""Zeiss CZI: one subblock per plane, each labelled with its indices along T, R, H, Z, C, S.

The file is a list of labelled planes, not an array: planes may be missing, double, or of other sizes. So all are
listed and set side by side before one is read; what is missing is told, never filled in. Pixels are decoded here
(uncompressed, Zstandard, JPEG XR), since a plane is one run of bytes whose place the list tells.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from nstm.acquisition import DataError
from nstm.io.czi_directory import Entry, Segments, Subblock
from nstm.io.czi_metadata import Channel, CziMetadata, parse_metadata
from nstm.io.czi_planes import PlaneBox, plane_box, recorded_axes, without_holes
from nstm.io.protocol import MAX_PLANE_PIXELS, Header, ImageFile, checked, clean_metadata, clean_text, picked, shown

_DTYPES = {0: "u1", 1: "u2", 2: "f4"}
_PIXEL_TYPES = {0: "Gray8", 1: "Gray16", 2: "Gray32Float", 3: "Bgr24", 4: "Bgr48", 8: "Bgr96Float", 9: "Bgra32"}
_RAW, _JPEG_XR, _ZSTD, _ZSTD_PACKED = _READABLE = (0, 4, 5, 6)
_COMPRESSIONS = {1: "JPEG", 2: "LZW"}
#: Letters that name something else in :class:`nstm.io.protocol.Header`.
_LABELS = {"I": "illumination"}
_DAMAGED = "the file is damaged, copy it anew"


class CziReader:
    """The reader of CZI, by the published layout of its segments."""

    name = "Zeiss CZI"
    suffixes: tuple[str, ...] = (".czi",)

    def recognises(self, head: bytes) -> bool:
        """Whether the first segment is that of a CZI file."""
        return head.startswith(b"ZISRAWFILE\0")

    def open(self, path: Path, position: str | None) -> ImageFile:
        """Read the list of planes, their headers and the metadata; see :class:`nstm.io.protocol.Reader`."""
        with path.open("rb") as file:
            segments = Segments(file, path)
            metadata = parse_metadata(segments.metadata(), path)
            entries = [entry for entry in segments.entries() if entry.size == entry.stored]
            if not entries:
                raise DataError(f"{shown(path)}: no plane of full size in the file: save it anew in ZEN")
            blocks = [segments.subblock(entry) for entry in _scene(path, entries, metadata, position)]
            stamps = segments.time_stamps()
        return _open(path, segments, blocks, metadata, stamps)


class CziImage(ImageFile):
    """An opened CZI: for every plane the place, number and compression of its bytes."""

    def __init__(self, header: Header, blocks: Sequence[Subblock]) -> None:
        self.header = header
        self._places = np.array([b.place for b in blocks], dtype=np.int64)
        self._bytes = np.array([b.pixel_bytes for b in blocks], dtype=np.int64)
        self._compressions = np.array([b.own.compression for b in blocks], dtype=np.int32)

    def read_plane(self, index: int) -> np.ndarray:
        """One plane; see :class:`nstm.io.protocol.ImageFile`."""
        count, where = int(self._bytes[index]), shown(self.header.path)
        with self.header.path.open("rb") as file:
            file.seek(int(self._places[index]))
            data = file.read(count)
        if len(data) < count:
            raise DataError(f"{where}: plane {index} ends after {len(data)} of {count} bytes: copy the file anew")
        try:
            return _decode(data, int(self._compressions[index]), self.header.plane_shape, self.header.dtype)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # whatever a codec raises on damaged data
            kind = type(error).__name__
            raise DataError(
                f"{where}: plane {index} cannot be decoded ({kind}: {clean_text(error)}): {_DAMAGED}"
            ) from error


def _scene(path: Path, entries: list[Entry], metadata: CziMetadata, position: str | None) -> list[Entry]:
    """The entries of the scene asked for, by its number in the file or its name."""
    scenes = sorted({entry.start.get("S", 0) for entry in entries})
    names = [metadata.scenes.get(scene, "") for scene in scenes]
    number = picked(path, names, position)
    return [entry for entry in entries if entry.start.get("S", 0) == scenes[number]]


def _open(
    path: Path, segments: Segments, blocks: list[Subblock], metadata: CziMetadata, stamps: Sequence[float]
) -> CziImage:
    recorded = plane_box(path, blocks)
    points = [p for p in (stamps, metadata.time_points_s) if len(p) == recorded.lengths["T"]]
    box, left, holes = without_holes(path, recorded)
    blocks = [blocks[i] for i in left]
    shape, dtype = _pixels(path, blocks)
    axes, box, order = _in_order(box, blocks)
    blocks = [blocks[i] for i in order]
    channels = [metadata.channel(c) for c in sorted({b.entry.start.get("C", 0) for b in blocks})]
    started = np.array(points[0] if points else (), dtype=np.float64)[: box.lengths["T"]]
    start, exposure = _times(box, blocks, channels, started)
    lossy = "pixels are compressed with JPEG XR, which may lose detail: record uncompressed or with Zstandard"
    exposures = {f"channel_{i}_exposure_s": f"{c.exposure_s:g}" for i, c in enumerate(channels) if c.exposure_s}
    header = Header(
        path=path,
        format="Zeiss CZI",
        axes={_LABELS.get(a, a): box.lengths[a] for a in axes},
        dtype=dtype,
        plane_shape=shape,
        file_bytes=segments.file_bytes,
        pixel_um=metadata.pixel_um,
        z_step_um=metadata.z_step_um,
        plane_start_s=start,
        time_point_s=started if start is None and _grow(started) else None,
        exposure_s=exposure,
        channels=tuple(c.name for c in channels) if any(c.name for c in channels) else (),
        optics=metadata.optics,
        channel_optics=tuple(c.optics for c in channels),
        metadata=clean_metadata({**metadata.texts, **exposures}),
        warnings=(
            *segments.warnings,
            *_fewer(recorded, metadata),
            *holes,
            *([lossy] if any(b.own.compression == _JPEG_XR for b in blocks) else []),
        ),
    )
    return CziImage(checked(header), blocks)


def _fewer(box: PlaneBox, metadata: CziMetadata) -> list[str]:
    """Where the metadata tell of more planes than are listed."""
    lengths = {a: (metadata.sizes.get(a, 1), box.lengths.get(a, 1)) for a in "TRHZC"}
    return [f"the metadata tell of {a} = {n}, the file holds {m}" for a, (n, m) in lengths.items() if n > m]


def _pixels(path: Path, blocks: list[Subblock]) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape and type of all planes.

    Raises:
        DataError: they differ, cannot be read, or do not fit the bytes in the file.
    """
    where = shown(path)
    kinds = sorted({(b.entry.size, b.entry.pixel_type) for b in blocks})
    if len(kinds) > 1:
        found = ", ".join(f"{y} x {x} {_PIXEL_TYPES.get(t, t)}" for (y, x), t in kinds[:5])
        raise DataError(f"{where}: planes differ ({found}), all must have one size and type: save the channels singly")
    shape, kind = kinds[0]
    if kind not in _DTYPES:
        raise DataError(
            f"{where}: pixels are {_PIXEL_TYPES.get(kind, f'of type {kind}')}; only grey values as the camera recorded "
            f"them can be used ({', '.join(_PIXEL_TYPES[t] for t in _DTYPES)})"
        )
    unreadable = sorted({b.own.compression for b in blocks} - set(_READABLE))
    if unreadable:
        names = ", ".join(_COMPRESSIONS.get(code, f"method {code}") for code in unreadable)
        raise DataError(f"{where}: pixels are compressed by {names}: save them uncompressed or with Zstandard in ZEN")
    if min(shape) < 1 or math.prod(shape) > MAX_PLANE_PIXELS:
        raise DataError(f"{where}: planes of {shape[0]} x {shape[1]} pixels: {_DAMAGED}")
    dtype = np.dtype(_DTYPES[kind])
    needed = math.prod(shape) * dtype.itemsize
    for block in blocks:
        if block.own.compression == _RAW and block.pixel_bytes != needed:
            found = f"the plane at byte {block.entry.place} has {block.pixel_bytes} bytes of pixels"
            raise DataError(f"{where}: {found}, {needed} are needed: {_DAMAGED}")
    return shape, dtype


def _starts(blocks: Sequence[Subblock]) -> np.ndarray | None:
    """Start of every plane as its own XML states it, s; ``None`` unless all do, and not all the same."""
    starts = np.array([b.times[0] for b in blocks], dtype=np.float64)
    return starts if np.all(np.isfinite(starts)) and (starts.size == 1 or np.ptp(starts) > 0) else None


def _in_order(box: PlaneBox, blocks: list[Subblock]) -> tuple[list[str], PlaneBox, np.ndarray]:
    """Axes longer than 1 as recorded, slowest first; the box in that order; the numbers of its subblocks before."""
    starts = _starts(blocks)
    sequence = np.arange(len(blocks)) if starts is None else np.argsort(starts, kind="stable")
    axes = recorded_axes(box, sequence, timed=starts is not None)
    return axes, *box.sorted(axes)


def _times(
    box: PlaneBox, blocks: list[Subblock], channels: Sequence[Channel], points: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Start and exposure of the planes, s, ``None`` unless every one has it.

    The time of a time point (``points``) is that of its planes only where it has a single one in each channel.
    """
    start = _starts(blocks)
    single = all(n == 1 for a, n in box.lengths.items() if a not in "TC")
    if start is None and single and _grow(points):
        start = points[box.index["T"]]
    if start is None:
        return None, None
    own = np.array([b.times[1] for b in blocks], dtype=np.float64)
    of_channel = np.array([c.exposure_s for c in channels], dtype=np.float64)[box.index["C"]]
    exposure = np.where(np.isfinite(own), own, of_channel)
    return start - start.min(), exposure if np.all(np.isfinite(exposure)) else None


def _grow(points: np.ndarray) -> bool:
    return len(points) > 1 and bool(np.all(np.diff(points) > 0))


def _decode(data: bytes, compression: int, shape: tuple[int, int], dtype: np.dtype[Any]) -> np.ndarray:
    """A plane from its bytes; no more is ever decoded than a plane has."""
    if compression == _JPEG_XR:
        return np.asarray(imagecodecs.jpegxr_decode(data, out=np.empty(shape, dtype)))
    packed = False
    if compression == _ZSTD_PACKED:
        data, packed = _unwrapped(data)
    if compression != _RAW:
        data = bytes(imagecodecs.zstd_decode(data, out=math.prod(shape) * dtype.itemsize))
    if packed:
        return _unpacked(data, dtype).reshape(shape)
    return np.frombuffer(data, dtype.newbyteorder("<")).reshape(shape).astype(dtype, copy=False)


def _unwrapped(data: bytes) -> tuple[bytes, bool]:
    """Zstandard data without their header (its length, 1 or 3; kind 1: a flag), and whether bytes are packed."""
    if data[:1] == b"\1":
        return data[1:], False
    if data[:2] == b"\3\1":
        return data[3:], bool(data[2] & 1)
    raise ValueError(f"unknown header {data[:3].hex(' ')}")


def _unpacked(data: bytes, dtype: np.dtype[Any]) -> np.ndarray:
    """Pixels of 16 bits from the low bytes of all pixels followed by their high bytes."""
    if dtype.itemsize != 2:
        raise ValueError(f"bytes packed as those of 16-bit pixels, which are {dtype}")
    low, high = np.frombuffer(data, np.uint8).reshape(2, -1)
    return (low | high.astype(np.uint16) << 8).astype(dtype, copy=False)
