"""TIFF: plain multi-page, BigTIFF, ImageJ hyperstacks, OME-TIFF, Micro-Manager and MetaMorph stacks, through tifffile.

tifffile forgives: of a cut file it gives the pages that it finds, of a hyperstack with missing data one plane,
of frames written one by one the first. So the chain of directories is walked here first, and the bytes that
every plane needs are compared with the size of the file, without reading a pixel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from nstm.acquisition import DataError
from nstm.io.micro_manager import Stack, read_stack, with_separate_file
from nstm.io.ome_xml import LENGTH_UM, TIME_S, OmeImage, parse_ome
from nstm.io.protocol import (
    MAX_PLANES,
    Header,
    ImageFile,
    believable_pixel,
    checked,
    clean_metadata,
    clean_text,
    damage,
    picked,
    shown,
)
from nstm.io.tiff_layout import (
    MICRO_MANAGER,
    Directory,
    Layout,
    left_over,
    read_layout,
    refuse_different,
    refuse_displaced,
    refuse_overlaps,
)
from nstm.io.tiff_planes import PLAIN, TiffImage, find_places, quiet

_DIALECTS = {"ome": "OME-TIFF", "imagej": "ImageJ TIFF", "lsm": "LSM", "stk": "MetaMorph STK"}
#: The pages of Micro-Manager, one after another, whatever the first one says of them.
_PAGES = {**PLAIN, **dict.fromkeys(["is_ome", "is_imagej", "is_shaped"], False)}


class TiffReader:
    """The reader of TIFF and its dialects."""

    name = "TIFF"
    suffixes: tuple[str, ...] = (".tif", ".tiff", ".btf", ".tf2", ".tf8", ".stk")

    def recognises(self, head: bytes) -> bool:
        """Classic and BigTIFF, both byte orders."""
        return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

    def open(self, path: Path, position: str | None) -> ImageFile:
        """Read the header of the file; see :class:`nstm.io.protocol.Reader`."""
        layout = read_layout(path)
        flags: dict[str, Any] = _PAGES if layout.has(MICRO_MANAGER) else PLAIN
        with quiet(), damage(path, "header"), tifffile.TiffFile(path, _multifile=False, **flags) as tif:
            return _open(path, tif, layout, position)


def _open(path: Path, tif: tifffile.TiffFile, layout: Layout, position: str | None) -> TiffImage:
    images = _ome_images(path, tif)
    series = [s for s in tif.series if not s.keyframe.is_reduced]
    if not series:
        raise DataError(f"{shown(path)}: no full-size image in the file; export the file anew")
    stack = read_stack(layout) if layout.has(MICRO_MANAGER) else None
    names = [s.name for s in series] if series[0].kind == "ome" else list(stack.positions.values()) if stack else [""]
    number = picked(path, names, position)
    if series[0].kind == "ome":
        series = [series[number]]
    for one in series:
        _refuse_colour(path, one)
    header = _header(path, tif, series)
    if images:
        header = _with_ome(header, images[min(number, len(images) - 1)], series[0].kind == "ome")
    elif tif.is_imagej:
        header = _with_imagej(header, tif)
    elif series[0].kind == "stk":
        header = _with_stk(header, tif)
    else:
        unit_um = _RESOLUTION_UM.get(int(tif.pages.first.resolutionunit or 1))
        header = replace(header, pixel_um=_resolution(tif.pages.first, unit_um))
    checked(header)
    refuse_different(layout, _directories_of(layout, series))
    places, raw, pixels = find_places(layout, series, header)
    refuse_overlaps(layout, pixels)
    refuse_displaced(layout, pixels[raw[pixels[:, 2]]][:, :2])
    header = replace(header, warnings=(*header.warnings, *_unused(layout, tif, pixels)))
    if stack is not None:
        return _chosen(stack, list(stack.positions)[number], header, places, raw)
    return TiffImage(header, layout.dialect, places, raw)


def _chosen(stack: Stack, position: int | str | None, header: Header, places: np.ndarray, raw: np.ndarray) -> TiffImage:
    """One position of a stack of Micro-Manager."""
    if len(stack.planes) != header.planes:
        raise DataError(
            f"{shown(header.path)}: {len(stack.planes)} pages, of which {header.planes} are images as Micro-Manager "
            "writes them; the file is damaged, copy it anew"
        )
    pages = stack.pages(position)
    return TiffImage(checked(stack.described(header, pages)), stack.layout.dialect, places[pages], raw[pages])


def _ome_images(path: Path, tif: tifffile.TiffFile) -> list[OmeImage]:
    description = str(tif.pages.first.description or "")
    if "<!DOCTYPE" in description or "<!ENTITY" in description:
        raise DataError(f"{shown(path)}: the description holds a DOCTYPE or ENTITY: save the file anew")
    images = parse_ome(description, path) if tif.is_ome else []
    for image in images:
        if math.prod(image.sizes[a] for a in "TCZ") > MAX_PLANES:
            raise DataError(f"{shown(path)}: the OME-XML tells of sizes {dict(image.sizes)}: the header is damaged")
    return images


def _directories_of(layout: Layout, series: Sequence[tifffile.TiffPageSeries]) -> list[Directory]:
    """The directories that the planes of ``series`` are read by."""
    offsets = {page.offset for one in series for page in one.pages if page is not None}
    return [directory for directory in layout.directories if directory.offset in offsets]


def _unused(layout: Layout, tif: tifffile.TiffFile, pixels: np.ndarray) -> list[str]:
    """What is in the file beside the planes that are read, in words."""
    count = len(layout.directories) - sum(math.prod(s.shape) // math.prod(s.keyframe.shape) for s in tif.series)
    if count > 0:
        return [f"{count} pages of the file are in no image of it"]
    reduced = [s.keyframe for s in tif.series if s.keyframe.is_reduced]
    if any(page.shape == tif.pages.first.shape for page in reduced):
        return ["pages of full size are marked as previews and left out"]
    if reduced:
        return []
    own = [(8, layout.directories[0].offset)] if layout.has(MICRO_MANAGER) else []
    length = left_over(layout, pixels, own)
    plane = np.bincount(pixels[:, 2], weights=pixels[:, 1] - pixels[:, 0]).min()
    return [f"{length} bytes of the file belong to no page of it: planes may be missing"] if 2 * length > plane else []


def _refuse_colour(path: Path, series: tifffile.TiffPageSeries) -> None:
    page = series.keyframe
    photometric = getattr(page.photometric, "name", str(page.photometric))
    if page.samplesperpixel != 1 or photometric not in ("MINISBLACK", "MINISWHITE") or page.ndim != 2:
        raise DataError(
            f"{shown(path)}: pages are {photometric} with {page.samplesperpixel} samples per pixel and axes "
            f"{page.axes}; only grey values as the camera recorded them can be used: export without colours or "
            "lookup table (ImageJ: Image > Type > 16-bit)"
        )


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
    kind = _DIALECTS.get(series[0].kind, "TIFF")
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
        optics=image.optics,
        channel_optics=image.channel_optics,
        metadata=clean_metadata({**header.metadata, **image.metadata}),
        warnings=header.warnings if used else (*header.warnings, warning),
    )


def _with_imagej(header: Header, tif: tifffile.TiffFile) -> Header:
    meta = dict(tif.imagej_metadata or {})
    stated = meta.get("images", 1)
    if isinstance(stated, int) and stated > header.planes:
        raise DataError(
            f"{shown(header.path)}: truncated: ImageJ wrote {stated} planes, {header.planes} are in the "
            f"{header.file_bytes} bytes of the file; copy or export the file anew"
        )
    unit = str(meta.get("unit", "")).replace("\\u00B5", "µ").strip().lower()
    unit_um = {"micron": 1.0, "microns": 1.0, "micrometer": 1.0, "inch": 25400.0, **LENGTH_UM}.get(unit)
    spacing, interval = _positive(meta.get("spacing")), _positive(meta.get("finterval"))
    unit_s = {"sec": 1.0, "msec": 1e-3, **TIME_S}.get(str(meta.get("tunit", "sec")).strip().lower())
    z_step = spacing * unit_um if unit_um and spacing else None
    labels = meta.pop("Labels", None) or []
    metadata = {k: v for k, v in meta.items() if isinstance(v, str | int | float)}
    if labels:
        metadata = {"first_label": labels[0], "last_label": labels[-1], **metadata}
    points = None
    if interval and unit_s:
        metadata = {"frame_interval_s": f"{interval * unit_s:.12g}", **metadata}
        points = np.arange(header.axes.get("T", 1)) * interval * unit_s
    header = replace(
        header,
        pixel_um=_resolution(tif.pages.first, unit_um),
        z_step_um=z_step if z_step and believable_pixel(z_step, z_step) else None,
        **_starts(points, header.axes),
        channels=tuple(clean_text(name) for name in labels) if len(labels) == header.axes.get("C") else (),
        metadata=clean_metadata({**header.metadata, **metadata}),
    )
    return with_separate_file(header, meta.get("Info"))


def _starts(points: np.ndarray | None, axes: Mapping[str, int]) -> dict[str, Any]:
    """Starts of time points as those of planes where a time point is one plane."""
    if points is None or len(points) < 2:
        return {}
    return {"plane_start_s" if set(axes) == {"T"} else "time_point_s": points}


def _positive(value: object) -> float | None:
    """A finite number other than 0, without its sign."""
    if not isinstance(value, int | float) or not value or not math.isfinite(value):
        return None
    return abs(float(value))


def _with_stk(header: Header, tif: tifffile.TiffFile) -> Header:
    """Times and units of MetaMorph; exposures stand in the text of each plane."""
    meta = tif.stk_metadata or {}
    created, texts = meta.get("DatetimeCreated"), meta.get("PlaneDescriptions") or []
    starts = None
    if created is not None and len(created) == header.planes:
        starts = (created - created[0]).astype(np.int64) / 1e9
    told = [re.search(r"Exposure: ([0-9.]{1,12}) (ms|s)\b", text) for text in texts]
    exposures = [float(t[1]) * TIME_S[t[2]] for t in told if t is not None and t[1].count(".") < 2 and t[1] != "."]
    unit_um = LENGTH_UM.get(str(meta.get("CalibrationUnits", "")).strip("\0 ").lower())
    y, x = (_positive(meta.get(f"{axis}Calibration")) for axis in "YX")
    steps = np.atleast_1d(meta.get("ZDistance", 0.0))
    step = _positive(float(steps[0])) if np.all(steps == steps[0]) else None
    return replace(
        header,
        pixel_um=believable_pixel(y * unit_um, x * unit_um) if unit_um and y and x else None,
        z_step_um=step if believable_pixel(step, step) else None,
        plane_start_s=starts,
        exposure_s=np.array(exposures) if starts is not None and len(exposures) == header.planes else None,
    )


_RESOLUTION_UM = {2: 25400.0, 3: 10000.0}  # ResolutionUnit inch, centimetre


def _resolution(page: tifffile.TiffPage, unit_um: float | None) -> tuple[float, float] | None:
    """Pixel size from pixels per unit (tags 282, 283)."""
    x, y = (page.tags.valueof(code) for code in (282, 283))
    if unit_um is None or not all(isinstance(v, tuple) and len(v) == 2 and v[0] and v[1] for v in (x, y)):
        return None
    return believable_pixel(unit_um * y[1] / y[0], unit_um * x[1] / x[0])
