"""Writes small TIFF files: plain, BigTIFF, ImageJ, OME, Micro-Manager (by its own layout) and MetaMorph."""

from __future__ import annotations

import json
import struct
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

SIZE = (20, 24)
ACQUISITIONS, FRAMES = 2, 9


def planes(count: int = ACQUISITIONS * FRAMES, seed: int = 0) -> np.ndarray:
    """Planes of a camera that all differ, ``(count, y, x)`` uint16."""
    return np.random.default_rng(seed).integers(90, 4000, (count, *SIZE)).astype(np.uint16)


def example(folder: Path) -> Path:
    """A plain TIFF: 18 pages one by one, in strips, LZW with predictor."""
    with tifffile.TiffWriter(folder / "example.tif") as writer:
        for plane in planes():
            writer.write(
                plane,
                contiguous=False,
                metadata=None,
                photometric="minisblack",
                compression="lzw",
                predictor=True,
                rowsperstrip=8,
            )
    return folder / "example.tif"


def bigtiff(folder: Path) -> Path:
    """A BigTIFF of the other byte order: 18 pages one by one, not compressed."""
    with tifffile.TiffWriter(folder / "bigtiff.tif", bigtiff=True, byteorder=">") as writer:
        for plane in planes():
            writer.write(plane, contiguous=False, metadata=None, photometric="minisblack")
    return folder / "bigtiff.tif"


def imagej(folder: Path) -> Path:
    """An ImageJ hyperstack, T 2, Z 9, as ImageJ itself writes it: one directory, all planes behind it."""
    metadata = {"axes": "TZYX", "unit": "um", "spacing": 0.2, "finterval": 0.5}
    data = planes().reshape(ACQUISITIONS, FRAMES, *SIZE)
    options: dict[str, Any] = {"imagej": True, "resolution": (1 / 0.065, 1 / 0.065), "metadata": metadata}
    tifffile.imwrite(folder / "imagej.tif", data, truncate=True, **options)
    return folder / "imagej.tif"


def ome(folder: Path) -> Path:
    """An OME-TIFF, T 2, C 9, compressed, with times of all planes and optics."""
    count = ACQUISITIONS * FRAMES
    metadata = {
        "axes": "TCYX",
        "PhysicalSizeX": 65.0,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 65.0,
        "PhysicalSizeYUnit": "nm",
        "Plane": {"DeltaT": [20.0 * i for i in range(count)], "DeltaTUnit": ["ms"] * count},
    }
    data = planes().reshape(ACQUISITIONS, FRAMES, *SIZE)
    options: dict[str, Any] = {"ome": True, "photometric": "minisblack", "compression": "zlib", "metadata": metadata}
    tifffile.imwrite(folder / "ome.ome.tif", data, **options)
    return folder / "ome.ome.tif"


def micro_manager(folder: Path) -> Path:
    """A stack of Micro-Manager 2, T 2, Z 9, one position."""
    places = [{"T": t, "Z": z} for t in range(ACQUISITIONS) for z in range(FRAMES)]
    return write_mm_stack(
        folder / "example_MMStack_Pos0.ome.tif", planes(), places, start_ms=[12.0 * i for i in range(18)]
    )


def write_mm_stack(
    path: Path,
    data: np.ndarray,
    places: Sequence[Mapping[str, int]],
    *,
    start_ms: Sequence[float] | None = None,
    exposure_ms: float | None = 10.0,
    indices: str = "map",
    never_taken: Collection[int] = (),
    positions: Sequence[str] = ("Pos0",),
    channels: Sequence[str] = ("GFP", "RFP"),
    intended: Mapping[str, int] | None = None,
    closed: bool = True,
    order: str = "<",
) -> Path:
    """Write ``data (n, y, x)`` uint16 as Micro-Manager's MMStack and return ``path``.

    Layout: https://micro-manager.org/Micro-Manager_File_Formats: header, summary, index map, then for every plane its
    directory, pixels, resolution and JSON text; what is known only at the end comes last.

    Args:
        path: the file.
        data: the planes in the order in which they were taken.
        places: index along T, Z, C, P of each.
        start_ms: ``ElapsedTime-ms`` of each; ``None``: not stated.
        exposure_ms: ``Exposure-ms``.
        indices: where the indices of a plane stand: ``map`` (version 2), ``tags`` (also in the text of each page, as
            version 1.4 has it), ``axes`` (only there, as in NDTiff).
        never_taken: numbers of planes in whose place an empty page is written.
        positions: names of the positions.
        channels: names of the channels.
        intended: the ``IntendedDimensions`` of the summary.
        closed: whether the acquisition ended well, so that descriptions were written.
        order: byte order.
    """
    summary = {
        "MicroManagerVersion": "1.4.22" if indices == "tags" else "2.0.1 20220920",
        "ChNames": list(channels),
        "PixelSize_um": 0.065,
        "z-step_um": 0.25,
        "Interval_ms": 500,
        "AxisOrder": ["position", "time", "channel", "z"],
        **({"IntendedDimensions": dict(intended)} if intended else {}),
    }
    told = json.dumps(summary).encode()
    room = 8 + 20 * (len(data) + 4)
    first = 40 + len(told) + room
    out = bytearray(first)
    mark = b"II" if order == "<" else b"MM"
    struct.pack_into(f"{order}2sHI6I", out, 0, mark, 42, first, 54773648, 40 + len(told), 483765892, 0, 99384722, 0)
    struct.pack_into(f"{order}2I", out, 32, 2355492, len(told))
    out[40 : 40 + len(told)] = told
    struct.pack_into(
        f"{order}2I", out, 40 + len(told), 3453623, len(data) - len(never_taken) if closed else len(data) + 4
    )
    entry, following = 48 + len(told), 0
    for number, (plane, place) in enumerate(zip(data, places, strict=True)):
        offset = len(out)
        about = _mm_page(number, place, start_ms, exposure_ms, indices, positions, channels)
        text = b"NULL " if number in never_taken else json.dumps(about).encode() + b"\0"
        pixels = np.zeros_like(plane) if number in never_taken else plane
        if number not in never_taken:
            if indices != "axes":
                struct.pack_into(f"{order}5I", out, entry, *(place.get(axis, 0xFFFFFFFF) for axis in "CZTP"), offset)
            entry += 20
        out += _mm_directory(offset, pixels, text, order, first=number == 0)
        following = len(out) - len(text) - 16 - pixels.nbytes - 4
    struct.pack_into(f"{order}I", out, following, 0)
    if closed:
        description = b"ImageJ=1.52p\nunit=um\n\0"
        struct.pack_into(f"{order}2I", out, first + 2 + 5 * 12 + 4, len(description), len(out))
        out += description
    path.write_bytes(out)
    return path


def _mm_page(
    number: int,
    place: Mapping[str, int],
    start_ms: Sequence[float] | None,
    exposure_ms: float | None,
    indices: str,
    positions: Sequence[str],
    channels: Sequence[str],
) -> dict[str, Any]:
    """The text of a page."""
    about: dict[str, Any] = {"Camera": "Andor", "Binning": 1, "PixelSizeUm": 0.065, "BitDepth": 16}
    about["PositionName"] = positions[place.get("P", 0)]
    if start_ms is not None:
        about["ElapsedTime-ms"] = start_ms[number]
    if exposure_ms is not None:
        about["Exposure-ms"] = exposure_ms
    if indices == "axes":
        names = {"T": "time", "Z": "z", "P": "position"}
        about["Axes"] = {name: place[axis] for axis, name in names.items() if axis in place}
        about["Axes"] |= {"channel": channels[place["C"]]} if "C" in place else {}
    if indices == "tags":
        names = {"C": "ChannelIndex", "Z": "SliceIndex", "T": "FrameIndex", "P": "PositionIndex"}
        about |= {name: place.get(axis, 0) for axis, name in names.items()}
        about["Channel"] = channels[place.get("C", 0)]
    return about


def _mm_directory(offset: int, plane: np.ndarray, text: bytes, order: str, first: bool) -> bytes:
    """A page: directory, pixels, resolution, text. The next directory follows at once."""
    described = [(270, 2, 0, 0), (270, 2, 0, 0)] if first else []
    count = 13 + len(described)
    pixels = offset + 2 + 12 * count + 4
    behind = pixels + plane.nbytes
    entries = [
        (256, 4, 1, plane.shape[1]),
        (257, 4, 1, plane.shape[0]),
        (258, 3, 1, 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        *described,
        (273, 4, 1, pixels),
        (277, 3, 1, 1),
        (278, 3, 1, plane.shape[0]),
        (279, 4, 1, plane.nbytes),
        (282, 5, 1, behind),
        (283, 5, 1, behind + 8),
        (296, 3, 1, 3),
        (51123, 2, len(text), behind + 16),
    ]
    out = struct.pack(f"{order}H", count)
    for code, kind, length, value in entries:
        out += struct.pack(f"{order}HHI" + ("H2x" if kind == 3 else "I"), code, kind, length, value)
    out += struct.pack(f"{order}I", behind + 16 + len(text))
    resolution = struct.pack(f"{order}4I", 153846, 1, 153846, 1)
    return out + plane.astype(order + "u2").tobytes() + resolution + text


def mm_separate_files(folder: Path, data: np.ndarray, names: Sequence[str], start_ms: Sequence[float]) -> Path:
    """Write every plane as a file of its own, as Micro-Manager does it through ImageJ, and return the folder."""
    for number, (plane, name) in enumerate(zip(data, names, strict=True)):
        about = {
            "FrameIndex": number,
            "SliceIndex": 0,
            "ChannelIndex": 0,
            "ElapsedTime-ms": start_ms[number],
            "Exposure-ms": 10,
        }
        tifffile.imwrite(folder / name, plane, imagej=True, metadata={"Info": json.dumps(about)})
    (folder / "metadata.txt").write_text("{}")
    return folder


def write_stk(
    path: Path, data: np.ndarray, start_ms: Sequence[int], exposures: Sequence[str], z_um: float = 0.0
) -> Path:
    """Write ``data (n, y, x)`` as MetaMorph's STK and return ``path``: one directory, planes behind each other, and
    the table of planes (tag 33629), which holds more than its count says."""
    table = np.zeros((len(data), 6), dtype="<u4")
    table[:, 0], table[:, 1] = round(1000 * z_um), 1000
    table[:, 2], table[:, 3] = 2460000, start_ms  # julian day, ms
    text = b"\0".join(f"Exposure: {e}".encode() for e in exposures) + b"\0"
    scale = struct.pack("<2I", 65, 1000)
    head = 8 + 2 + 12 * 12 + 4
    places = np.cumsum([head, len(text), len(scale)])
    listed = [(4, int(places[1])), (5, int(places[1])), (6, int(places[2]))]  # x, y calibration, units
    uic1 = b"".join(struct.pack("<2I", *pair) for pair in listed)
    units = struct.pack("<I", 3) + b"um\0"
    body = text + scale + units
    at_uic1 = head + len(body)
    at_table = at_uic1 + len(uic1)
    pixels = at_table + table.nbytes
    entries = [
        (256, 4, 1, data.shape[2]),
        (257, 4, 1, data.shape[1]),
        (258, 3, 1, 16),
        (259, 3, 1, 1),
        (262, 3, 1, 1),
        (270, 2, len(text), head),
        (273, 4, 1, pixels),
        (277, 3, 1, 1),
        (278, 4, 1, data.shape[1]),
        (279, 4, 1, data[0].nbytes),
        (33628, 4, len(listed), at_uic1),
        (33629, 5, len(data), at_table),
    ]
    out = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for code, kind, length, value in entries:
        out += struct.pack("<HHI" + ("H2x" if kind == 3 else "I"), code, kind, length, value)
    path.write_bytes(out + bytes(4) + body + uic1 + table.tobytes() + data.astype("<u2").tobytes())
    return path


def stored(path: Path) -> list[tuple[tuple[int, int], ...]]:
    """First byte and end of the strips of every plane of one of the examples."""
    with tifffile.TiffFile(path, is_mmstack=False, is_ome=False) as tif:
        if len(tif.pages) == 1:
            start, length = tif.pages[0].dataoffsets[0], tif.pages[0].nbytes
            return [((start + i * length, start + (i + 1) * length),) for i in range(ACQUISITIONS * FRAMES)]
        strips = [zip(page.dataoffsets, page.databytecounts, strict=True) for page in tif.pages]
        return [tuple((start, start + count) for start, count in page) for page in strips]
