"""Writes small CZI files in the layout of Elyra microscopes: one subblock per T, R, H, Z, C (ZISRAW format 1.0)."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import imagecodecs
import numpy as np

AXES = "TRHZC"
START = datetime(2024, 5, 17, 9, 30, tzinfo=UTC)
PIXEL_TYPES = {"uint8": 0, "uint16": 1, "float32": 2}
COMPRESSIONS = {"none": 0, "jpegxr": 4, "zstd0": 5, "zstd1": 6, "zstd": 6}
GUID = bytes(range(16))


@dataclass(frozen=True)
class Block:
    """One subblock: its indices, its pixels ``(y, x)``, the size it stands for (else its own), and its XML."""

    start: Mapping[str, int]
    pixels: np.ndarray
    size: tuple[int, int] | None = None
    note: str = "<METADATA />"
    listed: Mapping[str, int] = field(default_factory=dict)  # indices that the directory states otherwise


def example(folder: Path) -> Path:
    """A small valid file: T 2, R 3, H 3 of 10 x 12 pixels of 16 bits, with times and optics."""
    frames = np.random.default_rng(5).integers(90, 4000, (2, 3, 3, 1, 1, 10, 12)).astype(np.uint16)
    times = np.arange(18.0).reshape(frames.shape[:5]) * 0.02
    return write_elyra_czi(folder / "example.czi", frames, times_s=times, exposure_s=0.005)


def write_elyra_czi(
    path: Path,
    frames: np.ndarray,
    *,
    order: str = "TRZHC",
    times_s: np.ndarray | None = None,
    stamps_s: Sequence[float] | None = None,
    exposure_s: float | None = None,
    compression: str = "none",
    missing: Collection[tuple[int, ...]] = (),
    pixel_um: float = 0.0645,
    z_step_um: float = 0.11,
    na: float = 1.4,
    index: float = 1.518,
    emission_nm: Sequence[float] = (525.0, 600.0),
    excitation_nm: Sequence[float] = (488.0, 561.0),
    channels: Sequence[str] = ("SR-SIM 488", "SR-SIM 561"),
) -> Path:
    """Write ``frames`` of shape ``(T, R, H, Z, C, y, x)``, one subblock each, and return ``path``.

    Args:
        path: file to write.
        frames: uint8, uint16 or float32.
        order: axes as the subblocks follow each other in the file, slowest first.
        times_s: start of every plane, ``(T, R, H, Z, C)``, written with its subblock.
        stamps_s: start of every time point, written as the attachment TimeStamps; by default that of its first plane.
        exposure_s: written with every subblock that has a time, and for every channel.
        compression: one of COMPRESSIONS; ``zstd`` packs the bytes of 16-bit pixels as ZEN does.
        missing: indices ``(t, r, h, z, c)`` of planes that are not written.
        pixel_um, z_step_um, na, index, emission_nm, excitation_nm, channels: for the metadata.
    """
    blocks = []
    for place in itertools.product(*(range(frames.shape[AXES.index(a)]) for a in order)):
        at = dict(zip(order, place, strict=True))
        key = tuple(at[a] for a in AXES)
        if key not in missing:
            note = "<METADATA />" if times_s is None else _note(float(times_s[key]), exposure_s)
            blocks.append(Block(at, frames[key], note=note))
    if stamps_s is None and times_s is not None:
        stamps_s = times_s.reshape(times_s.shape[0], -1).min(axis=1).tolist()
    xml = metadata_xml(
        dict(zip(AXES, frames.shape[:5], strict=True)),
        scale_um={"X": pixel_um, "Y": pixel_um, "Z": z_step_um},
        na=na,
        index=index,
        channels=list(zip(channels, emission_nm, excitation_nm, strict=False))[: frames.shape[4]],
        exposure_s=exposure_s,
    )
    return write_czi(path, blocks, xml=xml, stamps_s=stamps_s, compression=compression)


def metadata_xml(
    sizes: Mapping[str, int],
    *,
    scale_um: Mapping[str, float],
    na: float,
    index: float,
    channels: Sequence[tuple[str, float, float]],
    exposure_s: float | None = None,
    inside: str = "",
) -> str:
    """The XML of a file; ``inside`` is put among the dimensions (scenes, times)."""
    exposure = f"<ExposureTime>{exposure_s * 1e9:.0f}</ExposureTime>" if exposure_s else ""
    of_channels = "".join(
        f'<Channel Id="Channel:{i}" Name="{name}"><ExcitationWavelength>{excitation}</ExcitationWavelength>'
        f"<EmissionWavelength>{emission}</EmissionWavelength>{exposure}</Channel>"
        for i, (name, emission, excitation) in enumerate(channels)
    )
    scale = "".join(f'<Distance Id="{a}"><Value>{um * 1e-6}</Value></Distance>' for a, um in scale_um.items())
    stated = "".join(f"<Size{a}>{n}</Size{a}>" for a, n in sizes.items())
    return (
        '<?xml version="1.0" encoding="utf-8"?><ImageDocument><Metadata><Information>'
        "<Application><Name>AIM</Name><Version>2.3</Version></Application><Image>"
        f"{stated}"
        f"<ObjectiveSettings><Medium>Oil</Medium><RefractiveIndex>{index}</RefractiveIndex>"
        '<ObjectiveRef Id="Objective:0" /></ObjectiveSettings>'
        f"<Dimensions><Channels>{of_channels}</Channels>{inside}</Dimensions></Image>"
        '<Instrument><Objectives><Objective Id="Objective:1"><LensNA>0.3</LensNA></Objective><Objective '
        f'Id="Objective:0"><LensNA>{na}</LensNA></Objective></Objectives></Instrument></Information><Scaling><Items>'
        f"{scale}"
        "</Items></Scaling></Metadata></ImageDocument>"
    )


def write_czi(
    path: Path,
    blocks: Sequence[Block],
    *,
    xml: str | bytes = "",
    stamps_s: Sequence[float] | None = None,
    compression: str = "none",
) -> Path:
    """Write subblocks, the directory behind them, the metadata and the time stamps."""
    data = bytearray(_segment(b"ZISRAWFILE", bytes(480)))
    entries = b""
    for block in blocks:
        note, payload = block.note.encode(), _encode(block.pixels, compression)
        entries += _entry(block, {**block.start, **block.listed}, len(data), compression)
        own = _entry(block, block.start, len(data), compression)
        head = (struct.pack("<iiq", len(note), 0, len(payload)) + own).ljust(256, b"\0")
        data += _segment(b"ZISRAWSUBBLOCK", head + note + payload)
    places = [len(data), 0, 0]
    data += _segment(b"ZISRAWDIRECTORY", struct.pack("<i124x", len(blocks)) + entries)
    if xml:
        text = xml if isinstance(xml, bytes) else xml.encode()
        places[1] = len(data)
        data += _segment(b"ZISRAWMETADATA", struct.pack("<i252x", len(text)) + text)
    if stamps_s is not None:
        times = struct.pack(f"<ii{len(stamps_s)}d", 8 + 8 * len(stamps_s), len(stamps_s), *stamps_s)
        entry = struct.pack("<2s10xqi16s8s80s", b"A1", len(data), 0, GUID, b"CZTIMS", b"TimeStamps")
        data += _segment(b"ZISRAWATTACH", struct.pack("<i12x", len(times)) + entry + bytes(112) + times)
        places[2] = len(data)
        data += _segment(b"ZISRAWATTDIR", struct.pack("<i252x", 1) + entry)
    struct.pack_into("<iiii16s16siqqiq", data, 32, 1, 0, 0, 0, GUID, GUID, 0, places[0], places[1], 0, places[2])
    path.write_bytes(data)
    return path


def _segment(name: bytes, content: bytes) -> bytes:
    room = -(-len(content) // 32) * 32
    return struct.pack("<16sqq", name, room, len(content)) + content.ljust(room, b"\0")


def _entry(block: Block, start: Mapping[str, int], place: int, compression: str) -> bytes:
    y, x = block.pixels.shape
    tall, wide = block.size or (y, x)
    kind, code = PIXEL_TYPES[block.pixels.dtype.name], COMPRESSIONS[compression]
    level = int(block.size is not None)
    axes = [(b"X", 0, wide, x), (b"Y", 0, tall, y), *((a.encode(), i, 1, 0) for a, i in start.items())]
    head = struct.pack("<2siqiiB5xi", b"DV", kind, place, 0, code, level, len(axes))
    return head + b"".join(struct.pack("<4siifi", a, i, size, i, stored) for a, i, size, stored in axes)


def _encode(pixels: np.ndarray, compression: str) -> bytes:
    stored = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False))
    if compression == "none":
        return stored.tobytes()
    if compression == "jpegxr":
        return bytes(imagecodecs.jpegxr_encode(stored))
    if compression == "zstd0":
        return bytes(imagecodecs.zstd_encode(stored.tobytes()))
    if compression == "zstd" and stored.itemsize == 2:
        packed = stored.reshape(-1, 1).view(np.uint8).T.tobytes()
        return b"\3\1\1" + bytes(imagecodecs.zstd_encode(packed))
    return b"\1" + bytes(imagecodecs.zstd_encode(stored.tobytes()))


def _note(time_s: float, exposure_s: float | None) -> str:
    time = (START + timedelta(seconds=time_s)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"
    exposure = f"<ExposureTime>{exposure_s * 1e9:.0f}</ExposureTime>" if exposure_s else ""
    state = f'<DetectorState><CameraState Id="">{exposure}</CameraState></DetectorState>'
    return f"<METADATA><Tags><AcquisitionTime>{time}</AcquisitionTime>{state}</Tags></METADATA>"
