"""TIFF: plain multi-page, BigTIFF, ImageJ hyperstacks and OME-TIFF, through tifffile.

tifffile forgives: of a cut file it gives the pages that it finds, of a hyperstack with missing data one plane,
of frames written one by one the first. So the chain of directories is walked here first, and the bytes that
every plane needs are compared with the size of the file, without reading a pixel.
"""

from __future__ import annotations

import logging
import math
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from nstm.acquisition import DataError
from nstm.io.ome_xml import LENGTH_UM, OmeImage, parse_ome
from nstm.io.protocol import (
    MAX_PLANES,
    Header,
    ImageFile,
    believable_pixel,
    checked,
    clean_metadata,
    clean_text,
    shown,
)

#: Kinds of series that follow references to other files or are slide scanners': taken as plain pages instead.
_PLAIN: dict[str, Any] = dict.fromkeys(
    ["is_ndtiff", "is_mmstack", "is_eer", "is_bif", "is_philips", "is_scn", "is_qpi", "is_ndpi", "is_avs", "is_svs"],
    False,
)
_MAX_TAGS = 4096
#: Bytes of a value by the number of its type (TIFF 6.0, section 2; BigTIFF); unknown types: 0.
_TYPE_BYTES = np.array([0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8, 0], dtype=np.float64)
#: Description, offsets and byte counts of strips and tiles, metadata of ImageJ.
_NEEDED_TAGS = (270, 273, 279, 324, 325, 50838, 50839)
_DIALECTS = {"ome": "OME-TIFF", "imagej": "ImageJ TIFF", "lsm": "LSM", "stk": "MetaMorph STK"}
_CHANGED = "the file is damaged or was changed while it was read: save or copy it anew"


class TiffReader:
    """The reader of TIFF and its dialects."""

    name = "TIFF"
    suffixes: tuple[str, ...] = (".tif", ".tiff", ".btf", ".tf2", ".tf8")

    def recognises(self, head: bytes) -> bool:
        """Classic and BigTIFF, both byte orders."""
        return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

    def open(self, path: Path, position: str | None) -> ImageFile:
        """Read the header of the file; see :class:`nstm.io.protocol.Reader`."""
        directories = _directories(path)
        with _quiet(), _damage(path, "header"), tifffile.TiffFile(path, _multifile=False, **_PLAIN) as tif:
            return _open(path, tif, directories, position)


class TiffImage(ImageFile):
    """An opened TIFF: for every plane either the place of its bytes or of its directory."""

    def __init__(self, header: Header, places: np.ndarray, raw: np.ndarray, byteorder: str) -> None:
        self.header = header
        self._places = places  # (planes,), bytes from the start of the file
        self._raw = raw  # (planes,), whether the place is that of uncompressed pixels
        self._stored = header.dtype.newbyteorder(byteorder)  # type: ignore[arg-type]

    def read_plane(self, index: int) -> np.ndarray:
        """One plane; see :class:`nstm.io.protocol.ImageFile`."""
        path, shape, place = self.header.path, self.header.plane_shape, int(self._places[index])
        if self._raw[index]:
            count = math.prod(shape) * self._stored.itemsize
            with path.open("rb") as file:
                file.seek(place)
                data = file.read(count)
            if len(data) < count:
                raise DataError(f"{shown(path)}: plane {index} ends after {len(data)} of {count} bytes; {_CHANGED}")
            return np.frombuffer(data, self._stored).reshape(shape).astype(self.header.dtype, copy=False)
        with _quiet(), _damage(path, f"plane {index}"), tifffile.TiffFile(path, _multifile=False, **_PLAIN) as tif:
            tif.filehandle.seek(place)
            plane = tifffile.TiffPage(tif, index).asarray(maxworkers=1)
        if plane.shape != shape or plane.dtype != self.header.dtype:
            raise DataError(f"{shown(path)}: plane {index} is {plane.dtype} {plane.shape}, not as before; {_CHANGED}")
        return plane


_hushed = threading.local()
logging.getLogger("tifffile").addFilter(lambda record: not getattr(_hushed, "now", False))


@contextmanager
def _quiet() -> Iterator[None]:
    """tifffile logs what it forgives; here each such case is an error or harmless. Other threads are not touched."""
    before, _hushed.now = getattr(_hushed, "now", False), True
    try:
        yield
    finally:
        _hushed.now = before


@contextmanager
def _damage(path: Path, what: str) -> Iterator[None]:
    """Whatever a codec or parser raises on damaged data is an error of the data; a failing disk is not."""
    try:
        yield
    except (DataError, OSError, MemoryError):
        raise
    except Exception as error:
        kind = type(error).__name__
        raise DataError(f"{shown(path)}: {what} cannot be decoded ({kind}: {clean_text(error)}); {_CHANGED}") from error


def _directories(path: Path) -> list[int]:
    """Places of all image directories, by walking their chain (TIFF 6.0, section 2; BigTIFF).

    Raises:
        DataError: the chain leaves the file or bites its tail, or texts or places of pixels lie outside the file.
    """
    size, where = path.stat().st_size, shown(path)
    found: dict[int, None] = {}
    with path.open("rb") as file:
        head = file.read(16).ljust(16, b"\0")
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in (b"+\0", b"\0+")
        offset_format, count_format = (order + "Q", order + "Q") if big else (order + "I", order + "H")
        width, count_width = struct.calcsize(offset_format), struct.calcsize(count_format)
        entry = np.dtype([("code", "u2"), ("type", "u2"), ("count", f"u{width}"), ("value", f"u{width}")])
        entry = entry.newbyteorder("<" if order == "<" else ">")
        offset = struct.unpack_from(offset_format, head, width)[0]
        while offset:
            if offset in found or len(found) >= MAX_PLANES:
                raise DataError(f"{where}: the page after {len(found)} points back to an earlier one; {_CHANGED}")
            file.seek(min(offset, size))
            count = int.from_bytes(file.read(count_width), "little" if order == "<" else "big")
            data = file.read(entry.itemsize * min(count, _MAX_TAGS) + width)
            found[offset] = None
            whole = len(data) == entry.itemsize * count + width
            if not whole or _end(np.frombuffer(data, entry, count)) > size:
                raise DataError(
                    f"{where}: truncated: the header of page {len(found)} reaches beyond the {size} bytes of the "
                    "file; copy or export the file anew"
                )
            offset = struct.unpack(offset_format, data[-width:])[0]
    if not found:
        raise DataError(f"{where}: truncated, or a TIFF file without a single page; export the file anew")
    return list(found)


def _end(tags: np.ndarray) -> int:
    """Where the values end that a directory keeps elsewhere, as far as they are needed: texts and places of pixels."""
    length = _TYPE_BYTES[np.minimum(tags["type"], _TYPE_BYTES.size - 1)] * tags["count"]
    outside = (length > tags.dtype["value"].itemsize) & np.isin(tags["code"], _NEEDED_TAGS)
    return int(np.max(tags["value"] + length, where=outside, initial=0))


def _open(path: Path, tif: tifffile.TiffFile, directories: list[int], position: str | None) -> TiffImage:
    first = tif.pages.first
    description = str(first.description or "")
    if "<!DOCTYPE" in description or "<!ENTITY" in description:
        raise DataError(f"{shown(path)}: the description holds a DOCTYPE or ENTITY: save the file anew")
    images = parse_ome(description, path) if first.is_ome else []
    for image in images:
        if math.prod(image.sizes[a] for a in "TCZ") > MAX_PLANES:
            raise DataError(f"{shown(path)}: the OME-XML tells of sizes {dict(image.sizes)}: the header is damaged")
    series = [s for s in tif.series if not s.keyframe.is_reduced]
    if not series:
        raise DataError(f"{shown(path)}: no full-size image in the file; export the file anew")
    image_number = 0
    if series[0].kind == "ome":
        image_number = _position(path, [s.name for s in series], position)
        series = [series[image_number]]
    elif position not in (None, "0"):
        raise DataError(f"{shown(path)}: position {clean_text(position)!r} asked for, but the file holds one image")
    for one in series:
        _refuse_colour(path, one)
    header = _header(path, tif, series)
    if images:
        header = _with_ome(header, images[min(image_number, len(images) - 1)], series[0].kind == "ome")
    elif tif.is_imagej:
        header = _with_imagej(header, tif, first)
    else:
        header = replace(header, pixel_um=_resolution(first, _RESOLUTION_UM.get(int(first.resolutionunit or 1))))
    checked(header)
    places, raw = _places(path, series, header)
    unused = len(directories) - sum(math.prod(s.shape) // math.prod(s.keyframe.shape) for s in tif.series)
    if unused > 0:
        header = replace(header, warnings=(*header.warnings, f"{unused} pages of the file are in no image of it"))
    return TiffImage(header, places, raw, tif.byteorder)


def _refuse_colour(path: Path, series: tifffile.TiffPageSeries) -> None:
    page = series.keyframe
    photometric = getattr(page.photometric, "name", str(page.photometric))
    if page.samplesperpixel != 1 or photometric not in ("MINISBLACK", "MINISWHITE") or page.ndim != 2:
        raise DataError(
            f"{shown(path)}: pages are {photometric} with {page.samplesperpixel} samples per pixel and axes "
            f"{page.axes}; only grey values as the camera recorded them can be used: export without colours or "
            "lookup table (ImageJ: Image > Type > 16-bit)"
        )


def _position(path: Path, names: Sequence[str], position: str | None) -> int:
    listed = ", ".join(f"{i}: {clean_text(n, 40)!r}" for i, n in enumerate(names[:20]))
    if position is None:
        if len(names) > 1:
            raise DataError(f"{shown(path)}: {len(names)} images in the file: give `position`, one of {listed}")
        return 0
    if list(names).count(position) == 1:
        return list(names).index(position)
    if position.isdecimal() and int(position) < len(names):
        return int(position)
    raise DataError(f"{shown(path)}: no position {clean_text(position)!r} in the file: allowed {listed}")


def _header(path: Path, tif: tifffile.TiffFile, series: list[tifffile.TiffPageSeries]) -> Header:
    """Sizes and type; several series (pages written one by one) must be alike and follow each other."""
    page = series[0].keyframe
    for one in series:
        if one.keyframe.shape != page.shape or one.dtype != page.dtype:
            raise DataError(
                f"{shown(path)}: pages differ: {page.shape} {page.dtype} and {one.keyframe.shape} {one.dtype}; "
                "all planes must have one size and type: split the file"
            )
    counts = [math.prod(one.shape) // max(1, math.prod(page.shape)) for one in series]
    axes: dict[str, int] = {}
    if len(series) == 1 and series[0].axes.endswith("YX"):
        for name, length in zip(series[0].axes[:-2], series[0].shape[:-2], strict=True):
            if length != 1:
                axes[name if name not in axes else f"{name}{len(axes)}"] = int(length)
    elif len(series) == 1 and math.prod(series[0].shape) != math.prod(page.shape):
        raise DataError(f"{shown(path)}: axes {series[0].axes}: planes must be the last two axes: export the file anew")
    elif sum(counts) > 1:
        axes["I"] = sum(counts)
    kind = {"ome": "OME-TIFF", "imagej": "ImageJ TIFF", "lsm": "LSM", "stk": "MetaMorph STK"}.get(
        series[0].kind, "TIFF"
    )
    return Header(
        path=path,
        format=f"{kind} (BigTIFF)" if tif.is_bigtiff else kind,
        axes=axes,
        dtype=np.dtype(page.dtype).newbyteorder("="),
        plane_shape=(int(page.shape[0]), int(page.shape[1])),
        file_bytes=path.stat().st_size,
        metadata=clean_metadata({"software": page.software, "date": page.tags.valueof(306) or ""}),
    )


def _with_ome(header: Header, image: OmeImage, used: bool) -> Header:
    start, exposure = image.plane_times(header.axes) if used else (None, None)
    warning = (
        "the OME-XML does not fit the pages of the file (one of several files of a set?): "
        "its axes and times are not used, the pages are taken in file order"
    )
    return replace(
        header,
        pixel_um=image.pixel_um,
        z_step_um=image.z_step_um,
        plane_start_s=start,
        exposure_s=exposure,
        channels=image.channels,
        metadata=clean_metadata({**header.metadata, **image.metadata}),
        warnings=header.warnings if used else (*header.warnings, warning),
    )


def _with_imagej(header: Header, tif: tifffile.TiffFile, page: tifffile.TiffPage) -> Header:
    meta = dict(tif.imagej_metadata or {})
    stated = meta.get("images", 1)
    if isinstance(stated, int) and stated > header.planes:
        raise DataError(
            f"{shown(header.path)}: truncated: ImageJ wrote {stated} planes, {header.planes} are in the "
            f"{header.file_bytes} bytes of the file; copy or export the file anew"
        )
    unit = str(meta.get("unit", "")).replace("\\u00B5", "µ").strip().lower()
    unit_um = {"micron": 1.0, "microns": 1.0, "micrometer": 1.0, "inch": 25400.0, **LENGTH_UM}.get(unit)
    spacing = meta.get("spacing")
    z_step = abs(spacing * unit_um) if unit_um and isinstance(spacing, int | float) and spacing else None
    labels = meta.pop("Labels", None) or []
    metadata = {k: v for k, v in meta.items() if isinstance(v, str | int | float)}
    if labels:
        metadata["first_label"] = labels[0]
    channels = tuple(clean_text(name) for name in labels) if len(labels) == header.axes.get("C") else ()
    return replace(
        header,
        pixel_um=_resolution(page, unit_um),
        z_step_um=z_step if z_step and believable_pixel(z_step, z_step) else None,
        channels=channels,
        metadata=clean_metadata({**header.metadata, **metadata}),
    )


_RESOLUTION_UM = {2: 25400.0, 3: 10000.0}  # ResolutionUnit inch, centimetre


def _resolution(page: tifffile.TiffPage, unit_um: float | None) -> tuple[float, float] | None:
    """Pixel size from pixels per unit (tags 282, 283)."""
    x, y = (page.tags.valueof(code) for code in (282, 283))
    if unit_um is None or not all(isinstance(v, tuple) and len(v) == 2 and v[0] and v[1] for v in (x, y)):
        return None
    return believable_pixel(unit_um * y[1] / y[0], unit_um * x[1] / x[0])


def _places(path: Path, series: list[tifffile.TiffPageSeries], header: Header) -> tuple[np.ndarray, np.ndarray]:
    """Place of every plane in file order, and whether it is that of raw pixels (else of the directory).

    Raises:
        DataError: a plane is missing or its bytes lie outside the file.
    """
    plane_bytes = math.prod(header.plane_shape) * header.dtype.itemsize
    found: list[tuple[int, int, bool]] = []  # page number, place, raw
    for one in series:
        count = math.prod(one.shape) // math.prod(header.plane_shape)
        if one.dataoffset is not None and (len(series) == 1 or one.kind == "shaped"):
            _refuse_short(path, header, one.dataoffset + count * plane_bytes)
            found += [(one.keyframe.index, one.dataoffset + i * plane_bytes, True) for i in range(count)]
            continue
        pages = [page for page in one if page is not None]
        if len(pages) != count:
            raise DataError(
                f"{shown(path)}: the header tells of {count} planes but {len(pages)} are in the file: "
                "truncated, or one of several files of a set; export the file anew or as one file"
            )
        found += [(int(page.index), *_place(path, page, header, plane_bytes)) for page in pages]
    if len(series) > 1:  # tifffile gathers pages that are alike: back to file order
        found.sort(key=lambda entry: entry[0])
    return np.array([f[1] for f in found], dtype=np.int64), np.array([f[2] for f in found], dtype=bool)


def _place(path: Path, page: Any, header: Header, plane_bytes: int) -> tuple[int, bool]:
    offsets, counts = np.array(page.dataoffsets, dtype=np.int64), np.array(page.databytecounts, dtype=np.int64)
    if offsets.size == 0 or offsets.shape != counts.shape or min(offsets.min(), counts.min()) < 1:
        raise DataError(f"{shown(path)}: page {page.index} was never written; export the file anew")
    if page.is_final and counts.sum() >= plane_bytes and np.all(offsets[:-1] + counts[:-1] == offsets[1:]):
        _refuse_short(path, header, int(offsets[0]) + plane_bytes)
        return int(offsets[0]), True
    _refuse_short(path, header, int((offsets + counts).max()))
    return int(page.offset), False


def _refuse_short(path: Path, header: Header, needed: int) -> None:
    if needed > header.file_bytes:
        raise DataError(
            f"{shown(path)}: truncated: {header.planes} planes need {needed} bytes, the file has "
            f"{header.file_bytes}; copy or export the file anew"
        )
