"""Planes of a TIFF, read one by one: raw bytes by their place, everything else decoded by tifffile."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import tifffile

from nstm.acquisition import DataError
from nstm.io.protocol import CHANGED, Header, ImageFile, damage, shown
from nstm.io.tiff_layout import COMPRESSION, Dialect, Directory, Layout, bytes_expected, segments_expected

#: Kinds of series that follow references to other files or are slide scanners': taken as plain pages instead.
PLAIN: dict[str, Any] = dict.fromkeys(
    ["is_ndtiff", "is_mmstack", "is_eer", "is_bif", "is_philips", "is_scn", "is_qpi", "is_ndpi", "is_avs", "is_svs"],
    False,
)
_JPEG_TABLES = 347
_BILEVEL = (2, 3, 4, 32771)  # compressions of black and white
#: No compression makes a plane of a camera more than so many times smaller (empty planes that are not large do).
_MOST_RATIO, _MOST_BYTES = 40_000, 2**26


class TiffImage(ImageFile):
    """An opened TIFF: for every plane either the place of its bytes or of its directory."""

    def __init__(self, header: Header, dialect: Dialect, places: np.ndarray, raw: np.ndarray) -> None:
        self.header = header
        self._dialect = dialect
        self._places = places  # (planes,), bytes from the start of the file
        self._raw = raw  # (planes,), whether the place is that of uncompressed pixels
        self._decoders: dict[bytes, tuple[Callable[..., Any], int]] = {}  # by Directory.coding, with number of parts

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoders": {}}

    def read_plane(self, index: int) -> np.ndarray:
        """One plane; see :class:`nstm.io.protocol.ImageFile`."""
        path, place = self.header.path, int(self._places[index])
        with path.open("rb") as file:
            if self._raw[index]:
                return self._read_raw(file, index, place)
            with quiet(), damage(path, f"plane {index}"):
                return self._read_coded(file, index, place)

    def _read_raw(self, file: BinaryIO, index: int, place: int) -> np.ndarray:
        shape, dtype = self.header.plane_shape, self.header.dtype
        file.seek(place)
        data = file.read(math.prod(shape) * dtype.itemsize)
        if len(data) < math.prod(shape) * dtype.itemsize:
            raise self._changed(index, f"{len(data)} bytes of pixels are left")
        stored = dtype.newbyteorder(self._dialect.order)  # type: ignore[arg-type]  # "<" or ">"
        return np.frombuffer(data, stored).reshape(shape).astype(dtype, copy=False)

    def _read_coded(self, file: BinaryIO, index: int, place: int) -> np.ndarray:
        directory = self._dialect.directory(file, place)
        if directory is None:
            raise self._changed(index, "its header is cut")
        if directory.coding not in self._decoders:
            parts = segments_expected(self._dialect.numbers(directory))
            self._decoders[directory.coding] = self._decoder(index, place), parts
        decode, parts = self._decoders[directory.coding]
        tables = self._dialect.text(file, directory, _JPEG_TABLES) or None
        offsets, counts = self._dialect.segments(file, directory)
        if not offsets.size == counts.size == parts:
            raise self._changed(index, f"{offsets.size} offsets and {counts.size} byte counts of pixels")
        plane, filled = np.empty(self.header.plane_shape, dtype=self.header.dtype), 0
        for number, (offset, count) in enumerate(zip(offsets.tolist(), counts.tolist(), strict=True)):
            file.seek(offset)
            data = file.read(min(count, self.header.file_bytes))
            if not 0 < count == len(data):
                raise self._changed(index, f"{len(data)} of {count} bytes of part {number} are left")
            part, (_, _, y, x, _), _ = decode(data, number, jpegtables=tables)
            target = plane[y : y + part.shape[1], x : x + part.shape[2]]
            target[...] = part[0, : target.shape[0], : target.shape[1], 0]
            filled += target.size
        if filled != plane.size:
            raise self._changed(index, f"its parts have {filled} of {plane.size} pixels")
        return plane

    def _decoder(self, index: int, place: int) -> Callable[..., Any]:
        """What turns the stored bytes of a strip or tile into pixels, for all pages coded like this one."""
        with tifffile.TiffFile(self.header.path, _multifile=False, **PLAIN) as tif:
            tif.filehandle.seek(place)
            page = tifffile.TiffPage(tif, index)
            if page.shape != self.header.plane_shape or page.dtype != self.header.dtype:
                raise self._changed(index, f"it is {page.dtype} {page.shape} now")
            return page.decode

    def _changed(self, index: int, what: str) -> DataError:
        return DataError(f"{shown(self.header.path)}: plane {index} is not as before: {what}; {CHANGED}")


def find_places(
    layout: Layout, series: Sequence[tifffile.TiffPageSeries], header: Header
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place of every plane in file order, whether it is that of raw pixels (else of the directory), and its bytes.

    Returns:
        ``(planes,)``, ``(planes,)`` and first byte, end and number of the plane of every run of pixels, ``(n, 3)``.

    Raises:
        DataError: a plane is missing or its bytes lie outside the file.
    """
    plane_bytes = math.prod(header.plane_shape) * header.dtype.itemsize
    found: list[tuple[int, int, bool, np.ndarray]] = []  # page number, place, raw, runs of pixels
    for one in series:
        count = math.prod(one.shape) // math.prod(header.plane_shape)
        if one.dataoffset is not None and (len(series) == 1 or one.kind == "shaped"):
            _refuse_short(header, one.dataoffset + count * plane_bytes)
            _refuse_other_size(layout, one.keyframe, header, count)
            starts = range(one.dataoffset, one.dataoffset + count * plane_bytes, plane_bytes)
            found += [(one.keyframe.index, s, True, np.array([[s, s + plane_bytes]])) for s in starts]
            continue
        pages = [page for page in one if page is not None]
        if len(pages) != count:
            raise DataError(
                f"{shown(header.path)}: the header tells of {count} planes but {len(pages)} are in the file: "
                "truncated, or one of several files of a set; export the file anew or as one file"
            )
        found += [(int(page.index), *_place(layout, page, header, plane_bytes)) for page in pages]
    if len(series) > 1:  # tifffile gathers pages that are alike: back to file order
        found.sort(key=lambda entry: entry[0])
    runs = np.concatenate([entry[3] for entry in found])
    planes = np.repeat(np.arange(len(found)), [len(entry[3]) for entry in found])
    places, raw = (np.array([entry[i] for entry in found]) for i in (1, 2))
    return places, raw, np.column_stack([runs, planes])


def _place(layout: Layout, page: Any, header: Header, plane_bytes: int) -> tuple[int, bool, np.ndarray]:
    """Place of a page, whether it is that of raw pixels, and first byte and end of its runs of pixels."""
    where = f"{shown(header.path)}: page {page.index}"
    told = layout.dialect.numbers(_directory(layout, page))
    offsets, counts = np.array(page.dataoffsets, dtype=np.int64), np.array(page.databytecounts, dtype=np.int64)
    if offsets.size == 0 or offsets.shape != counts.shape or min(offsets.min(), counts.min()) < 1:
        raise DataError(f"{where} was never written; export the file anew")
    if offsets.size != segments_expected(told):
        raise DataError(f"{where} lies in {offsets.size} parts, by its sizes in {segments_expected(told)}; {CHANGED}")
    _refuse_other_size(layout, page, header, 1)
    if plane_bytes > _MOST_BYTES + _MOST_RATIO * int(counts.sum()):
        raise DataError(f"{where} would unpack {counts.sum()} bytes to {plane_bytes}: the header is damaged; {CHANGED}")
    if page.is_final and told[COMPRESSION] == 1 and np.all(offsets[:-1] + counts[:-1] == offsets[1:]):
        _refuse_short(header, int(offsets[0]) + plane_bytes)
        return int(offsets[0]), True, np.array([[offsets[0], offsets[0] + plane_bytes]])
    _refuse_short(header, int((offsets + counts).max()))
    return int(page.offset), False, np.column_stack([offsets, offsets + counts])


def _refuse_other_size(layout: Layout, page: Any, header: Header, planes: int) -> None:
    """The bytes of a page that is not compressed must be those of its sizes, or of all ``planes`` that follow it."""
    told = layout.dialect.numbers(_directory(layout, page))
    if told[COMPRESSION] in _BILEVEL:
        raise DataError(f"{shown(header.path)}: page {page.index} is coded like a fax, not as a camera records")
    needed, stored = bytes_expected(told), sum(page.databytecounts)
    if told[COMPRESSION] == 1 and stored not in (*needed, planes * needed[0]) and planes * needed[0] < 2**32:
        raise DataError(
            f"{shown(header.path)}: page {page.index} has {stored} bytes of pixels, by its sizes {needed[0]}; {CHANGED}"
        )


def _directory(layout: Layout, page: Any) -> Directory:
    return layout.by_offset.get(page.offset) or layout.by_offset[page.keyframe.offset]


def _refuse_short(header: Header, needed: int) -> None:
    if needed > header.file_bytes:
        raise DataError(
            f"{shown(header.path)}: truncated: {header.planes} planes need {needed} bytes, the file has "
            f"{header.file_bytes}; copy or export the file anew"
        )


_hushed = threading.local()
logging.getLogger("tifffile").addFilter(lambda record: not getattr(_hushed, "now", False))


@contextmanager
def quiet() -> Iterator[None]:
    """tifffile logs what it forgives; here each such case is an error or harmless. Other threads are not touched."""
    before, _hushed.now = getattr(_hushed, "now", False), True
    try:
        yield
    finally:
        _hushed.now = before
