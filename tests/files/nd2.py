"""Writes small ND2 files (Nikon NIS-Elements 3 and later), after what the library `nd2` reads.

An ND2 file is a run of chunks. Each begins with a magic number, the length of its name, the length of its data and
its name; a map at the end of the file gives the place of each by its name. Metadata are trees of named values, in
versions from 3.0 in a binary encoding ("lite variant"), before that in XML. A frame is one chunk: a time stamp and
the pixels, channels interleaved.

No file from a microscope was at hand: what is written here is what the library takes for an ND2 file, not what
NIS-Elements writes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

MAGIC = b"\xda\xce\xbe\n"
SIGNATURE = b"ND2 FILE SIGNATURE CHUNK NAME01!"
MAP_NAME = b"ND2 FILEMAP SIGNATURE NAME 0001!"
MAP_END = b"ND2 CHUNK MAP SIGNATURE 0000001!"
ALIGNMENT = 4096
FRAME_NAME_BYTES = ALIGNMENT - 16 - 8  # so that pixels begin 4096 bytes after the chunk

TIME, POSITION, Z_STACK, CUSTOM = 1, 2, 4, 7  # eType of a loop


@dataclass(frozen=True)
class Loop:
    """One loop of the experiment; loops are given slowest first."""

    kind: int
    count: int
    names: Sequence[str] = ()  # of positions
    step_um: float = 0.0  # of a z stack
    bottom_to_top: bool = True


@dataclass(frozen=True)
class Channel:
    """One channel; 0 where nothing is known."""

    name: str
    emission_nm: float = 0.0
    excitation_nm: float = 0.0
    exposure_ms: float = 0.0
    components: int = 1  # 3: colours


def lite_variant(values: Mapping[str, Any]) -> bytes:
    """``values`` in the binary encoding; a list stands for several values of one name."""
    return b"".join(_records(values))


def _records(values: Mapping[str, Any]) -> list[bytes]:
    return [_record(n, v) for n, value in values.items() for v in (value if isinstance(value, list) else [value])]


def _record(name: str, value: Any) -> bytes:
    label = (name + "\0").encode("utf-16-le")
    head = bytes([len(label) // 2]) + label
    if isinstance(value, Mapping):
        items = _records(value)
        length = 1 + len(head) + 12 + sum(map(len, items))
        return b"\x0b" + head + struct.pack("<IQ", len(items), length) + b"".join(items) + bytes(8 * len(items))
    if isinstance(value, bool):
        return b"\x01" + head + bytes([value])
    if isinstance(value, int):
        return b"\x03" + head + struct.pack("<I", value)
    if isinstance(value, float):
        return b"\x06" + head + struct.pack("<d", value)
    if isinstance(value, bytes):
        return b"\x09" + head + struct.pack("<Q", len(value)) + value
    return b"\x08" + head + (str(value) + "\0").encode("utf-16-le")


def compressed_variant(data: bytes) -> bytes:
    """A compressed record that holds the records of ``data``."""
    return b"L\0" + bytes(10) + zlib.compress(data, 9)


def xml_variant(values: Mapping[str, Any], prologue: str = "") -> bytes:
    """``values`` in XML, as before version 3.0."""
    head = f'<?xml version="1.0" encoding="UTF-8"?>{prologue}<variant version="1.0">'
    return f'{head}<no_name runtype="CLxListVariant">{_elements(values)}</no_name></variant>'.encode()


def _elements(values: Mapping[str, Any]) -> str:
    kinds = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}
    text = ""
    for name, value in values.items():
        for one in value if isinstance(value, list) else [value]:
            tag = name or "no_name"
            if isinstance(one, Mapping):
                text += f'<{tag} runtype="CLxListVariant">{_elements(one)}</{tag}>'
            else:
                text += f'<{tag} runtype="{kinds[type(one)]}" value={quoteattr(str(one))}/>'
    return text


def file_bytes(chunks: Mapping[bytes, bytes], version: str = "3.0") -> bytes:
    """A file of ``chunks`` (name, ending in ``!``, to data), each at a multiple of 4096 bytes, and their map."""
    out = bytearray(_chunk(SIGNATURE, f"Ver{version}".encode().ljust(64, b"\0"), len(SIGNATURE)))
    entries = {SIGNATURE: (0, 64)}
    for name, data in chunks.items():
        out += bytes(-len(out) % ALIGNMENT)
        entries[name] = (len(out), len(data))
        out += _chunk(name, data, FRAME_NAME_BYTES if name.startswith(b"ImageDataSeq|") else len(name) + 20)
    out += bytes(-len(out) % ALIGNMENT)
    tail = MAP_END + struct.pack("<Q", len(out))
    listed = b"".join(name + struct.pack("<QQ", *place) for name, place in entries.items())
    return bytes(out + _chunk(MAP_NAME, listed + tail, len(MAP_NAME)))


def _chunk(name: bytes, data: bytes, name_bytes: int) -> bytes:
    return MAGIC + struct.pack("<IQ", name_bytes, len(data)) + name.ljust(name_bytes, b"\0") + data


def chunks(
    pixels: np.ndarray,
    loops: Sequence[Loop] = (),
    *,
    channels: Sequence[Channel] | None = None,
    times_ms: Sequence[float] | None = None,
    pixel_um: float | None = 0.065,
    na: float = 1.49,
    index: float = 1.515,
    compressed: bool = False,
    row_padding: int = 0,
    xml: bool = False,
    attributes: Mapping[str, Any] | None = None,
) -> dict[bytes, bytes]:
    """The chunks of a recording.

    Args:
        pixels: ``(frames, channels, y, x)`` of uint8, uint16 or float32; frames in the order of ``loops``.
        loops: the experiment, slowest first.
        channels: as many as ``pixels`` has; by default named A, B, C.
        times_ms: time of each frame, ms; none: the file has no times.
        pixel_um: pixel size, um; ``None``: not calibrated.
        na: numerical aperture of the objective.
        index: refractive index of the immersion.
        compressed: whether frames are compressed without loss.
        row_padding: bytes after each row.
        xml: metadata as before version 3.0.
        attributes: replaces what is written of the sizes.
    """
    frames, count, height, width = pixels.shape
    if channels is None:
        channels = [Channel("ABCDEFGH"[i]) for i in range(count)]
    sizes = {
        "uiWidth": width,
        "uiWidthBytes": width * count * pixels.itemsize + row_padding,
        "uiHeight": height,
        "uiComp": count,
        "uiBpcInMemory": 8 * pixels.itemsize,
        "uiBpcSignificant": 8 * pixels.itemsize,
        "uiSequenceCount": frames,
        "uiTileWidth": width,
        "uiTileHeight": height,
        "eCompression": 0 if compressed else 2,
        **(attributes or {}),
    }
    texts = {"TextInfoItem_9": "6/19/2020  3:44:11 PM", "TextInfoItem_14": "NIS-Elements AR 5.21"}
    trees = {
        "ImageAttributes": ("SLxImageAttributes", sizes),
        "ImageTextInfo": ("SLxImageTextInfo", texts),
        "ImageMetadata": ("SLxExperiment", _experiment(loops)),
        "ImageMetadataSeq": ("SLxPictureMetadata", _picture(channels, pixel_um, na, index)),
    }
    found = {}
    for name, (root, tree) in trees.items():
        if tree:
            number = "|0" if name == "ImageMetadataSeq" else ""
            data = xml_variant(tree) if xml else lite_variant({root: tree})
            found[f"{name}{'' if xml else 'LV'}{number}!".encode()] = data
    for number, frame in enumerate(pixels):
        found[f"ImageDataSeq|{number}!".encode()] = _frame(frame, compressed, row_padding)
    if times_ms is not None:
        found[b"CustomData|AcqTimesCache!"] = np.asarray(times_ms, "<f8").tobytes()
    return found


def _frame(frame: np.ndarray, compressed: bool, row_padding: int) -> bytes:
    rows = np.ascontiguousarray(np.moveaxis(frame, 0, -1)).reshape(frame.shape[1], -1)
    rows = rows.astype(rows.dtype.newbyteorder("<")).view(np.uint8)
    data = np.pad(rows, ((0, 0), (0, row_padding)), constant_values=170).tobytes()
    return bytes(8) + (zlib.compress(data) if compressed else data)


def _experiment(loops: Sequence[Loop]) -> dict[str, Any]:
    if not loops:
        return {}
    loop, inner = loops[0], _experiment(loops[1:])
    parameters: dict[str, Any] = {"uiCount": loop.count}
    if loop.kind == TIME:
        parameters |= {"dStart": 0.0, "dPeriod": 100.0, "dDuration": 0.0}
    elif loop.kind == POSITION:
        names = [*loop.names, *[""] * loop.count][: loop.count]
        points = [{"dPosX": 10.0 * i, "dPosY": 0.0, "dPosZ": 0.0, "dPosName": name} for i, name in enumerate(names)]
        parameters |= {"bUseZ": False, "Points": {"": points}}
    elif loop.kind == Z_STACK:
        parameters |= {"dZLow": 0.0, "dZHigh": loop.step_um * (loop.count - 1), "dZStep": loop.step_um}
        parameters |= {"iType": 0 if loop.bottom_to_top else 4}
    return {"eType": loop.kind, "uLoopPars": parameters, **({"ppNextLevelEx": {"": inner}} if inner else {})}


def _picture(channels: Sequence[Channel], pixel_um: float | None, na: float, index: float) -> dict[str, Any]:
    planes = {f"a{i}": _plane(i, channel) for i, channel in enumerate(channels)}
    settings = {f"a{i}": {"dExposureTime": channel.exposure_ms} for i, channel in enumerate(channels)}
    return {
        "bCalibrated": pixel_um is not None,
        "dCalibration": pixel_um or 0.0,
        "dObjectiveMag": 100.0,
        "dObjectiveNA": na,
        "dRefractIndex1": index,
        "wsObjectiveName": "Apo TIRF 100x Oil",
        "sPicturePlanes": {"uiCount": len(channels), "sPlaneNew": planes, "sSampleSetting": settings},
    }


def _plane(number: int, channel: Channel) -> dict[str, Any]:
    return {
        "uiCompCount": channel.components,
        "uiSampleIndex": number,
        "sDescription": channel.name,
        "uiModalityMask": 0x4101,  # fluorescence, camera, SIM
        "pFluorescentProbe": {
            "m_sName": "dye",
            "m_EmissionSpectrum": _spectrum(channel.emission_nm),
            "m_ExcitationSpectrum": _spectrum(channel.excitation_nm),
        },
    }


def _spectrum(peak_nm: float) -> dict[str, Any]:
    points = [(peak_nm - 20, 0.3), (peak_nm, 1.0), (peak_nm + 30, 0.4)] if peak_nm else []
    listed = {f"Point{i}": {"eType": 1, "dWavelength": w, "dTValue": t} for i, (w, t) in enumerate(points)}
    return {"uiCount": len(listed), **({"pPoint": listed} if listed else {})}


def write(path: Path, pixels: np.ndarray, loops: Sequence[Loop] = (), **options: Any) -> Path:
    """Write a recording; see :func:`chunks`."""
    version = "2.1" if options.get("xml") else "3.0"
    path.write_bytes(file_bytes(chunks(pixels, loops, **options), version))
    return path


def example(folder: Path) -> Path:
    """Write a small valid file into ``folder``: 2 times, 3 sections, 2 channels of 16 x 24 pixels, with times."""
    pixels = np.random.default_rng(0).integers(100, 4000, (6, 2, 16, 24)).astype(np.uint16)
    return write(
        folder / "example.nd2",
        pixels,
        [Loop(TIME, 2), Loop(Z_STACK, 3, step_um=0.2)],
        channels=[Channel("GFP", 510.0, 488.0, 5.0), Channel("RFP", 600.0, 561.0, 10.0)],
        times_ms=[0.0, 20.0, 40.0, 100.0, 120.0, 140.0],
    )
