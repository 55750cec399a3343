"""Nikon ND2 (NIS-Elements 3 and later): axes, times and optics through the library nd2, pixels from their place.

A frame of an ND2 file holds all channels of one moment, interleaved; frames follow the loops of the experiment, the
slowest first. The library parses the metadata. Frames are read from the place that was found when the file was
opened, because the library parses the map of the whole file whenever it opens one and gives zeros for what is missing.

Not tried on a file from a microscope: none was to be had. What is known comes from the library and its tests. Not
known is whether the time of a frame is that of the beginning or the end of its exposure (only differences count), and
raw data of an N-SIM may come as one large image of all orientations and phases (:mod:`nstm.io.montage`).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nstm.acquisition import DataError
from nstm.io.nikon_chunks import FRAME, MAGIC, TIMES, Chunk, read_chunks
from nstm.io.protocol import (
    CHANGED,
    Header,
    ImageFile,
    believable_optics,
    believable_pixel,
    checked,
    clean_metadata,
    clean_text,
    damage,
    picked,
    shown,
)

if TYPE_CHECKING:
    import nd2

_AXES = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z", "CustomLoop": "I"}
_STAMP_BYTES = 8  # a time stamp precedes the pixels of a frame
_PIXELS_AFTER = 4096  # bytes from the beginning of a chunk to uncompressed pixels
#: Rows end at a multiple of 4 bytes; more is told, much more is taken for damage.
_USUAL_ROW_PADDING, _MAX_ROW_PADDING, _MAX_TAIL = 4, 64, 4096
_MAX_ZLIB_RATIO = 1100  # zlib reaches 1032
_MAX_COMPONENTS = 64
_ANEW = "open the file in NIS-Elements and save it anew"


class NikonReader:
    """The reader of ND2."""

    name = "ND2"
    suffixes: tuple[str, ...] = (".nd2",)

    def recognises(self, head: bytes) -> bool:
        """The magic number of the first chunk; JPEG 2000 files of NIS-Elements 2 are not read."""
        return head.startswith(MAGIC)

    def open(self, path: Path, position: str | None) -> ImageFile:
        """Read the header of the file; see :class:`nstm.io.protocol.Reader`."""
        import nd2  # not earlier: every job finds out which files there are

        chunks = read_chunks(path)
        with damage(path, "header"), nd2.ND2File(path) as file:
            return _open(path, file, chunks, position)


@dataclass(frozen=True)
class _Layout:
    """How the pixels of a frame lie."""

    channels: int
    row_bytes: int
    compressed: bool


class NikonImage(ImageFile):
    """An opened ND2 file: the places of its frames."""

    def __init__(self, header: Header, places: np.ndarray, layout: _Layout) -> None:
        self.header = header
        self._places = places  # (frames, 2), start and length of the pixels, bytes
        self._layout = layout

    def read_plane(self, index: int) -> np.ndarray:
        """One plane; see :class:`nstm.io.protocol.ImageFile`."""
        frame, channel = divmod(index, self._layout.channels)
        plane = self._frame(index, frame)[..., channel]
        if self._layout.channels > 1 and not plane.any():
            raise DataError(
                f"{shown(self.header.path)}: plane {index} (channel {channel}) holds only zeros: NIS-Elements writes "
                "them where a channel was not recorded at every step; give another `channel`"
            )
        return np.ascontiguousarray(plane).astype(self.header.dtype, copy=False)

    def _frame(self, index: int, frame: int) -> np.ndarray:
        """All channels ``(y, x, c)``."""
        start, length = (int(v) for v in self._places[frame])
        (height, width), stored = self.header.plane_shape, self.header.dtype.newbyteorder("<")
        needed = height * self._layout.row_bytes
        with self.header.path.open("rb") as file:
            file.seek(start)
            data = file.read(length if self._layout.compressed else needed)
        whole = True
        if self._layout.compressed:
            with damage(self.header.path, f"plane {index}"):
                inflate = zlib.decompressobj()
                data = inflate.decompress(data, needed + 1)
                whole = inflate.eof
        if len(data) != needed or not whole:
            raise DataError(
                f"{shown(self.header.path)}: plane {index} has {len(data)} bytes with all channels, {needed} are "
                f"expected; {CHANGED}"
            )
        used = width * self._layout.channels * stored.itemsize
        rows = np.frombuffer(data, np.uint8).reshape(height, self._layout.row_bytes)[:, :used]
        return np.ascontiguousarray(rows).view(stored).reshape(height, width, self._layout.channels)


def _open(path: Path, file: nd2.ND2File, chunks: Mapping[bytes, Chunk], position: str | None) -> NikonImage:
    raw = _picture(path, file, chunks)
    sizes = file.attributes
    _refuse_colour(path, file)
    places = _frame_places(path, chunks, int(sizes.sequenceCount))
    axes, frames, warnings = _axes(path, file.experiment, len(places), position)
    channels = int(sizes.componentCount)
    if channels != 1:
        axes["C"] = channels
    header = checked(
        Header(
            path=path,
            format="Nikon ND2",
            axes=axes,
            dtype=np.dtype(file.dtype),
            plane_shape=(int(sizes.heightPx), int(sizes.widthPx or 0)),
            file_bytes=path.stat().st_size,
            warnings=tuple(warnings),
        )
    )
    if int(sizes.bitsPerComponentInMemory) != 8 * header.dtype.itemsize:
        raise DataError(f"{shown(path)}: {sizes.bitsPerComponentInMemory} bits per pixel; allowed: 8, 16, 32")
    layout = _Layout(channels, int(sizes.widthBytes or 0), sizes.compressionType == "lossless")
    if layout.row_bytes == 0:
        layout = replace(layout, row_bytes=header.plane_shape[1] * channels * header.dtype.itemsize)
    header = _with_fit(header, layout, places, str(sizes.compressionType))
    start, exposure = _frame_times(path, chunks, frames), _exposures(raw, channels)
    if start is not None:
        header = replace(header, plane_start_s=np.repeat(start, channels))
        if exposure is not None:
            header = replace(header, exposure_s=np.tile(exposure, frames.size))
    return NikonImage(_with_metadata(header, file, raw), places[frames, 1:] + (_STAMP_BYTES, -_STAMP_BYTES), layout)


def _picture(path: Path, file: nd2.ND2File, chunks: Mapping[bytes, Chunk]) -> Mapping[str, Any]:
    """Metadata of the first frame as they are stored.

    Raises:
        DataError: sizes or metadata are not in the file, or a channel has absurdly many components.
    """
    kind = "LV" if file.version >= (3, 0) else ""
    for name in (f"ImageAttributes{kind}", f"ImageMetadataSeq{kind}|0"):
        if f"{name}!".encode() not in chunks:
            raise DataError(f"{shown(path)}: no chunk {name}: a file that was never finished; {_ANEW}")
    tree = file.unstructured_metadata(strip_prefix=False, include={name})[name]
    raw: Mapping[str, Any] = tree.get("SLxPictureMetadata", tree)
    for plane in _planes(raw):
        if not 0 < plane.get("uiCompCount", 1) <= _MAX_COMPONENTS:
            raise DataError(f"{shown(path)}: a channel of {plane['uiCompCount']} components; {CHANGED}")
    return raw


def _planes(raw: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    listed = raw.get("sPicturePlanes", {})
    return list((listed.get("sPlaneNew") or listed.get("sPlane") or {}).values())


def _refuse_colour(path: Path, file: nd2.ND2File) -> None:
    if file.is_rgb:
        raise DataError(
            f"{shown(path)}: a colour image ({file.components_per_channel} values per pixel and channel); only grey "
            "values as the camera recorded them can be used: export the channels one by one"
        )


def _frame_places(path: Path, chunks: Mapping[bytes, Chunk], stated: int) -> np.ndarray:
    """Offset, start and length ``(frames, 3)`` of the chunks of all frames.

    Raises:
        DataError: none, or one is missing.
    """
    numbered = {int(name[len(FRAME) : -1]): place for name, place in chunks.items() if name.startswith(FRAME)}
    if not numbered:
        raise DataError(f"{shown(path)}: no frame in the file: the recording was never finished; {_ANEW}")
    missing = next((i for i in range(len(numbered)) if i not in numbered), None)
    if missing is not None:
        raise DataError(
            f"{shown(path)}: frame {missing} of {max(stated, max(numbered) + 1)} is missing: {_ANEW}, or export the "
            "steps that are whole"
        )
    return np.array([numbered[i] for i in range(len(numbered))], dtype=np.int64)


def _axes(
    path: Path, loops: Sequence[Any], frames: int, position: str | None
) -> tuple[dict[str, int], np.ndarray, list[str]]:
    """Axes without channels, numbers of the frames of one position, and warnings.

    Where the loops do not account for the frames, these are only counted: which is which is not guessed.

    Raises:
        DataError: no such position, or the frames of a position cannot be told.
    """
    named: dict[str, int] = {}
    for loop in loops:
        axis = _AXES[loop.type]
        named[axis if axis not in named else f"{axis}{len(named)}"] = int(loop.count)
    numbers = np.arange(frames)
    told = math.prod(named.values())
    names = [str(p.name or "") for loop in loops if loop.type == "XYPosLoop" for p in loop.parameters.points]
    chosen = picked(path, names, position)
    if named.get("P", 1) > 1:
        if frames > told:
            raise DataError(f"{shown(path)}: {_mismatch(named, frames)}, so that positions cannot be told; {_ANEW}")
        counts = list(named.values())
        inner = math.prod(counts[list(named).index("P") + 1 :])
        numbers = numbers[numbers // inner % named["P"] == chosen]
        if not numbers.size:
            raise DataError(f"{shown(path)}: position {chosen} was never recorded ({frames} frames in the file)")
    if frames == told:
        return {a: n for a, n in named.items() if a != "P" and n != 1}, numbers, []
    note = f"{_mismatch(named, frames)} (stopped early?): no axes are known, the frames are taken in file order"
    return {"I": numbers.size}, numbers, [note]


def _mismatch(named: Mapping[str, int], frames: int) -> str:
    told = " x ".join(f"{axis} {count}" for axis, count in named.items()) or "no"
    return f"the experiment tells of {told} frames, the file has {frames}"


def _with_fit(header: Header, layout: _Layout, places: np.ndarray, compression: str) -> Header:
    """``header``, with a warning where frames hold more than its sizes need.

    Raises:
        DataError: frames do not hold what the sizes need, or are compressed with loss.
    """
    where, (height, width) = shown(header.path), header.plane_shape
    if compression == "lossy":
        raise DataError(f"{where}: frames are compressed with loss, which is not read; {_ANEW} without compression")
    needed, held = height * layout.row_bytes, places[:, 2] - _STAMP_BYTES
    padding = layout.row_bytes - width * layout.channels * header.dtype.itemsize
    least, tail = int(held.min()), 0 if layout.compressed else int(held.max()) - needed
    fault = ""
    if not 0 <= padding < _MAX_ROW_PADDING or needed > least * (_MAX_ZLIB_RATIO if layout.compressed else 1):
        fault = f"frame {int(held.argmin())} holds {least} bytes: truncated or damaged"
    elif tail >= _MAX_TAIL:
        fault = f"frame {int(held.argmax())} holds {int(held.max())} bytes, too many: damaged"
    elif not layout.compressed and np.any(places[:, 1] + _STAMP_BYTES != places[:, 0] + _PIXELS_AFTER):
        fault = "the pixels of a frame begin elsewhere than in an ND2 file: damaged"
    if fault:
        told = f"the header tells of {height} x {width} pixels and {layout.channels} channels in rows of"
        raise DataError(f"{where}: {told} {layout.row_bytes} bytes, {fault}; copy or export the file anew")
    if padding >= _USUAL_ROW_PADDING or tail:
        note = f"frames hold {padding} bytes more per row and {tail} at the end than {height} x {width} pixels need"
        return replace(header, warnings=(*header.warnings, note))
    return header


def _frame_times(path: Path, chunks: Mapping[bytes, Chunk], frames: np.ndarray) -> np.ndarray | None:
    """Time of each of ``frames``, s; ``None`` unless all are stated."""
    place, last = chunks.get(TIMES), int(frames.max())
    if place is None or place.length < 8 * (last + 1):
        return None
    with path.open("rb") as file:
        times = np.fromfile(file, "<f8", last + 1, offset=place.start)
    start = times[frames].astype(np.float64) / 1000
    return start if np.isfinite(start).all() else None


def _exposures(raw: Mapping[str, Any], channels: int) -> np.ndarray | None:
    """Exposure of each channel, s; ``None`` unless all are stated. One setting alone holds for all channels."""
    settings = raw.get("sPicturePlanes", {}).get("sSampleSetting") or {}
    shared = next(iter(settings.values())) if len(settings) == 1 else {}
    stated = [settings.get(f"a{i}", shared).get("dExposureTime", 0.0) for i in range(channels)]
    return np.array(stated) / 1000 if all(0 < e < math.inf for e in stated) else None


def _with_metadata(header: Header, file: nd2.ND2File, raw: Mapping[str, Any]) -> Header:
    """``header`` with what is good to know and not needed for pixels, so that damage there is only told.

    The pixel size is taken as it is stored, because the library puts 1 um where there is none.
    """
    stacks = [loop for loop in file.experiment if loop.type == "ZStackLoop" and loop.count > 1]
    step = believable_pixel(*(abs(stacks[0].parameters.stepUm),) * 2) if stacks else None
    calibration = raw.get("dCalibration") if raw.get("bCalibrated") else None
    header = replace(header, pixel_um=believable_pixel(calibration, calibration), z_step_um=step[0] if step else None)
    try:
        channels, texts = list(file.metadata.channels or ()), dict(file.text_info)
    except Exception as error:
        note = f"names of channels and optics cannot be read ({type(error).__name__}: {clean_text(error)})"
        return replace(header, warnings=(*header.warnings, note))
    first = channels[0].microscope if channels else None
    told = {
        "version": ".".join(map(str, file.version)),
        "objective": first.objectiveName if first else None,
        "magnification": first.objectiveMagnification if first else None,
        "modality": ", ".join(first.modalityFlags) if first else None,
        "significant_bits": file.attributes.bitsPerComponentSignificant,
        "z_order": ("bottom to top" if stacks[0].parameters.bottomToTop else "top to bottom") if stacks else None,
        "software": texts.pop("appVersion", None),
        **texts,
    }
    alike = len(channels) == header.axes.get("C", 1)
    return replace(
        header,
        channels=tuple(clean_text(c.channel.name) for c in channels) if alike else (),
        optics=_optics(first) if first else {},
        channel_optics=tuple(_wavelengths(c.channel) for c in channels) if alike else (),
        metadata=clean_metadata({k: v for k, v in told.items() if v is not None}),
    )


def _optics(microscope: Any) -> Mapping[str, float]:
    na, index = microscope.objectiveNumericalAperture, microscope.immersionRefractiveIndex
    return believable_optics({"na": na, "index": index})


def _wavelengths(channel: Any) -> Mapping[str, float]:
    nm = {"emission": channel.emissionLambdaNm, "excitation": channel.excitationLambdaNm}
    return believable_optics({f"{name}_wavelength_um": value / 1000 for name, value in nm.items() if value})
