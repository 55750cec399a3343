"""DeltaVision and MRC files: a header of 1024 bytes, an extended header, then the sections one after another.

Both formats share that layout and part of the header. DeltaVision (UCSF Priism, softWoRx) is told by the number -16224
at byte 96, MRC2014 by ``MAP`` at byte 208. The fields are those of the Priism header table, reprinted by the package
``mrc``, and of MRC2014 (Cheng et al., J. Struct. Biol. 192, 146 (2015)); the meaning of the numbers that DeltaVision
keeps for every section is from https://microscope-cockpit.org/file-format.

A recording of structured illumination keeps its orientations and phases within Z, in an order that depends on the
microscope and stands nowhere in the file: they stay Z.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nstm.acquisition import DataError
from nstm.io.protocol import (
    MAX_PLANE_PIXELS,
    MAX_PLANES,
    Header,
    ImageFile,
    believable_optics,
    believable_pixel,
    checked,
    clean_metadata,
    clean_text,
    shown,
)

_HEADER_BYTES = 1024
_FIELDS: dict[str, tuple[str, int]] = {  # type and place of what is read of the header
    "size": ("3i4", 0),  # columns, rows, sections
    "mode": ("i4", 12),
    "intervals": ("3i4", 28),
    "length": ("3f4", 40),  # DeltaVision: of one pixel, um; MRC: of all intervals, Angstrom
    "axis": ("3i4", 64),  # what columns, rows, sections are; 1, 2, 3: x, y, z
    "space_group": ("i4", 88),
    "extended": ("i4", 92),  # bytes of the extended header
    "integers": ("i2", 128),  # in the extended header of DeltaVision, for every section
    "reals": ("i2", 130),
    "imod_stamp": ("i4", 152),
    "imod_flags": ("i4", 156),
    "times": ("i2", 180),
    "sequence": ("i2", 182),
    "waves": ("i2", 196),
    "wave_nm": ("5i2", 198),
    "titles": ("10S80", 224),
}
_HEADER = np.dtype(
    {
        "names": list(_FIELDS),
        "formats": [kind for kind, _ in _FIELDS.values()],
        "offsets": [place for _, place in _FIELDS.values()],
        "itemsize": _HEADER_BYTES,
    }
)
_DV_MARKS = {b"\xa0\xc0": "<", b"\xc0\xa0": ">"}
_MACHINE_STAMPS = {0x44: "<", 0x11: ">"}
_IMOD_STAMP, _IMOD_SIGNED = 1146047817, 1  # bytes of IMOD are unsigned unless flagged

#: Type of the pixels, stored and as read, by the mode in the header.
_MODES = {
    1: ("i2", "int16"),
    2: ("f4", "float32"),
    3: ("2i2", "complex64"),
    4: ("c8", "complex64"),
    6: ("u2", "uint16"),
}
_DV_MODES = {**_MODES, 0: ("u1", "uint8"), 5: ("i2", "int16"), 7: ("i4", "int32")}
_MRC_MODES = {**_MODES, 0: ("i1", "int16"), 12: ("f2", "float32")}

#: How wavelengths, times and sections follow each other, slowest first, by the image sequence in the header.
_SEQUENCES = {0: "CTZ", 1: "TZC", 2: "TCZ"}
#: Places of the numbers that DeltaVision keeps for every section.
_TIME_S, _STAGE_UM, _EXPOSURE_S, _EXCITATION_NM, _EMISSION_NM = 1, slice(2, 4), 8, 10, 11
_NUMBERS = 12  # that are looked at
_MAX_EXTENDED = 2**28

_AGAIN = "copy or export the file anew"


class MrcReader:
    """DeltaVision and MRC files of real numbers, in either byte order."""

    name = "DeltaVision/MRC"
    suffixes: tuple[str, ...] = (".dv", ".r3d", ".mrc", ".otf")

    def recognises(self, head: bytes) -> bool:
        """Whether ``head`` bears the mark of DeltaVision or of MRC."""
        return _kind(head) is not None

    def open(self, path: Path, position: str | None) -> ImageFile:
        """Read the header and the extended header; see :class:`nstm.io.protocol.Reader`."""
        if position not in (None, "0"):
            raise DataError(f"{shown(path)}: position {clean_text(position)!r} asked for, but the file holds one image")
        fields, pixels = _read_header(path)
        if pixels.dtype.kind == "c":
            raise DataError(
                f"{shown(path)}: complex numbers (mode {fields['mode']}): this is an optical transfer function or "
                "another transform, which is no raw data; give the recording itself as `path`"
            )
        header = Header(
            path=path,
            format="DeltaVision" if pixels.dv else "MRC",
            axes={},
            dtype=pixels.dtype,
            plane_shape=pixels.shape[1:],
            file_bytes=pixels.file_bytes,
            rows_upward=True,
            metadata=clean_metadata(_titles(fields)),
            warnings=_left_over(pixels),
        )
        header = _with_dv(header, fields, pixels) if pixels.dv else _with_mrc(header, fields, pixels)
        return MrcImage(checked(header), pixels)


class MrcImage(ImageFile):
    """An opened DeltaVision or MRC file."""

    def __init__(self, header: Header, pixels: _Pixels) -> None:
        self.header = header
        self._pixels = pixels

    def read_plane(self, index: int) -> np.ndarray:
        """One plane, its rows as stored: upward; see :class:`nstm.io.protocol.ImageFile`."""
        return self._pixels.read(range(self.header.planes)[index], 1)[0]


def read_mrc_array(path: Path) -> np.ndarray:
    """All numbers of a DeltaVision or MRC file, also complex ones as in files of optical transfer functions.

    Returns:
        ``(sections, y, x)`` in the order of the file; the rows are as stored (in an OTF row 0 is ``kr = 0``).

    Raises:
        DataError: not such a file, not whole, or of an unknown mode.
    """
    pixels = _read_header(path)[1]
    return pixels.read(0, pixels.shape[0])


@dataclass(frozen=True)
class _Pixels:
    """Where the sections lie in a file, and how their numbers are stored."""

    path: Path
    dv: bool  # DeltaVision, else MRC
    byteorder: str
    shape: tuple[int, int, int]  # (sections, y, x)
    stored: np.dtype[Any]  # with byte order; maybe a pair of integers for a complex number
    dtype: np.dtype[Any]
    first: int  # bytes from the start of the file
    file_bytes: int

    @property
    def plane_bytes(self) -> int:
        return self.shape[1] * self.shape[2] * self.stored.itemsize

    @property
    def end(self) -> int:
        return self.first + self.shape[0] * self.plane_bytes

    def read(self, section: int, count: int) -> np.ndarray:
        """``count`` sections from ``section`` on, ``(count, y, x)``."""
        wanted = count * self.plane_bytes
        with self.path.open("rb") as file:
            file.seek(self.first + section * self.plane_bytes)
            data = file.read(wanted)
        if len(data) < wanted:
            raise DataError(
                f"{shown(self.path)}: section {section} ends after {len(data)} of {wanted} bytes; the file is damaged "
                f"or was changed while it was read: {_AGAIN}"
            )
        values = np.frombuffer(data, self.stored).reshape(count, *self.shape[1:], *self.stored.shape)
        if self.stored.shape:
            values = values.astype(np.float32).view(self.dtype)[..., 0]
        return values.astype(self.dtype, copy=False)


def _kind(head: bytes) -> tuple[bool, str] | None:
    """Whether a header is that of DeltaVision (else of MRC), and its byte order; ``None``: neither."""
    if head[96:98] in _DV_MARKS:
        return True, _DV_MARKS[head[96:98]]
    if head[208:211] != b"MAP" or len(head) < 216:
        return None
    columns = int.from_bytes(head[64:68], "little")  # the axis of the columns, for files without a machine stamp
    return False, _MACHINE_STAMPS.get(head[212], "<" if columns in (1, 2, 3) else ">")


def _read_header(path: Path) -> tuple[Any, _Pixels]:
    """The fields of the header, and the pixels that it tells of and the file has room for.

    Raises:
        DataError: not such a file, counts that no microscope writes, an unknown mode, or a file too short.
    """
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    kind = _kind(head)
    if kind is None or len(head) < _HEADER_BYTES:
        raise DataError(f"{shown(path)}: no DeltaVision or MRC header of 1024 bytes in {len(head)} bytes; {_AGAIN}")
    dv, byteorder = kind
    fields = np.frombuffer(head, _HEADER.newbyteorder(byteorder))[0]  # type: ignore[arg-type]  # "<" or ">"
    x, y, sections = fields["size"].tolist()
    extended, axis = int(fields["extended"]), fields["axis"].tolist()
    if min(x, y, sections) < 1 or x * y > MAX_PLANE_PIXELS or sections > MAX_PLANES or extended < 0:
        raise DataError(
            f"{shown(path)}: the header tells of {sections} sections of {y} x {x} pixels after an extended header of "
            f"{extended} bytes; read are 1 to {MAX_PLANES} sections of up to {MAX_PLANE_PIXELS} pixels: the header is "
            f"damaged, {_AGAIN}"
        )
    if axis != [1, 2, 3] and sorted(axis) == [1, 2, 3]:
        raise DataError(
            f"{shown(path)}: columns, rows and sections are the axes {axis} (1, 2, 3: x, y, z); only [1, 2, 3] can be "
            "used: save the file with sections of x and y"
        )
    stored, dtype = _mode(path, fields, dv)
    pixels = _Pixels(
        path=path,
        dv=dv,
        byteorder=byteorder,
        shape=(sections, y, x),
        stored=stored.newbyteorder(byteorder),  # type: ignore[arg-type]  # "<" or ">"
        dtype=dtype,
        first=_HEADER_BYTES + extended,
        file_bytes=path.stat().st_size,
    )
    table_bytes = 4 * max(0, int(fields["integers"]) + int(fields["reals"])) * sections
    if dv and extended < table_bytes and pixels.end < pixels.file_bytes:
        raise DataError(
            f"{shown(path)}: the extended header has {extended} bytes for {table_bytes} bytes of numbers, and bytes "
            f"are left over at the end, so it is unknown where the pixels begin: the header is damaged, {_AGAIN}"
        )
    if pixels.end > pixels.file_bytes:
        whole = max(0, pixels.file_bytes - pixels.first) // pixels.plane_bytes
        raise DataError(
            f"{shown(path)}: truncated: {sections} sections of {y} x {x} {dtype} and headers of {pixels.first} bytes "
            f"need {pixels.end} bytes, the file has {pixels.file_bytes} ({whole} whole sections); {_AGAIN}"
        )
    return fields, pixels


def _mode(path: Path, fields: Any, dv: bool) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Type of the pixels as stored (without byte order) and as read."""
    mode, known = int(fields["mode"]), _DV_MODES if dv else _MRC_MODES
    if mode not in known:
        allowed = ", ".join(f"{m}: {dtype}" for m, (_, dtype) in sorted(known.items()))
        raise DataError(f"{shown(path)}: pixels of mode {mode}, allowed {allowed}; {_AGAIN}")
    unsigned = fields["imod_stamp"] == _IMOD_STAMP and not fields["imod_flags"] & _IMOD_SIGNED
    stored, dtype = ("u1", "uint8") if mode == 0 and not dv and unsigned else known[mode]
    return np.dtype(stored), np.dtype(dtype)


def _titles(fields: Any) -> dict[str, str]:
    """The titles of the header, each once; their number in the header is not always right."""
    texts = [clean_text(title.decode("latin-1")) for title in fields["titles"].tolist()]
    return {f"title {i}": text for i, text in enumerate(dict.fromkeys(t for t in texts if t), start=1)}


def _left_over(pixels: _Pixels) -> tuple[str, ...]:
    spare = pixels.file_bytes - pixels.end
    if not spare:
        return ()
    text = f"{spare} bytes follow the {pixels.shape[0]} sections that the header tells of and are not read"
    return (f"{text} (copies of lower resolution, or a wrong header)",)


def _lengths(fields: Any) -> list[tuple[float, int]]:
    """Length and number of intervals along x, y, z; lengths in the decimals meant (0.08, not 0.0799999982)."""
    return [(float(str(a)), int(n)) for a, n in zip(fields["length"], fields["intervals"], strict=True)]


def _with_mrc(header: Header, fields: Any, pixels: _Pixels) -> Header:
    """Sections and spacing as MRC2014 states them: a stack of images has space group 0, a volume another."""
    sections = pixels.shape[0]
    x, y, z = (1e-4 * length / count if count > 0 else None for length, count in _lengths(fields))
    name = "I" if fields["space_group"] == 0 else "Z"
    return replace(
        header,
        axes={name: sections} if sections > 1 else {},
        pixel_um=believable_pixel(y, x),
        z_step_um=z if name == "Z" and believable_pixel(z, z) else None,
    )


def _with_dv(header: Header, fields: Any, pixels: _Pixels) -> Header:
    """Axes, spacing, times and wavelengths as DeltaVision states them."""
    axes = _dv_axes(header.path, fields, pixels.shape[0])
    table, table_notes = _section_table(fields, pixels)
    start, exposure, time_notes = _dv_times(table, axes)
    optics, optics_notes = _dv_optics(fields, table, axes)
    x, y, z = (length if count <= 1 else None for length, count in _lengths(fields))
    emission = [o.get("emission_wavelength_um", 0) for o in optics]
    header = replace(
        header,
        axes=axes,
        pixel_um=believable_pixel(y, x),
        z_step_um=z if believable_pixel(z, z) else None,
        plane_start_s=start,
        exposure_s=exposure,
        channels=tuple(f"{1000 * e:.0f} nm" if e else "" for e in emission) if any(emission) else (),
        channel_optics=tuple(optics),
    )
    notes = [*table_notes, *time_notes, *optics_notes, *_dv_doubts(header, fields, table)]
    return replace(header, warnings=(*header.warnings, *notes))


def _dv_axes(path: Path, fields: Any, sections: int) -> dict[str, int]:
    """The axes that are longer than 1, slowest first."""
    waves, times, sequence = (int(fields[name]) for name in ("waves", "times", "sequence"))
    waves, times = waves or 1, times or 1  # some writers leave them 0
    if min(waves, times) < 1 or sections % (waves * times):
        raise DataError(
            f"{shown(path)}: {sections} sections cannot be {waves} wavelengths x {times} times x whole stacks, as the "
            f"header says: the recording was cut short or the header is damaged; {_AGAIN}"
        )
    lengths = {"C": waves, "T": times, "Z": sections // (waves * times)}
    if sequence not in _SEQUENCES and sum(n > 1 for n in lengths.values()) > 1:
        raise DataError(
            f"{shown(path)}: the order of {waves} wavelengths, {times} times and {lengths['Z']} sections is given as "
            f"{sequence}; known are 0 (ZTW), 1 (WZT) and 2 (ZWT), fastest first: save the file in one of these orders "
            "or export it as OME-TIFF"
        )
    return {name: lengths[name] for name in _SEQUENCES.get(sequence, "CTZ") if lengths[name] > 1}


def _section_table(fields: Any, pixels: _Pixels) -> tuple[np.ndarray, list[str]]:
    """The first numbers of the extended header, ``(sections, _NUMBERS)``; 0 where one is not stated."""
    sections, extended = pixels.shape[0], pixels.first - _HEADER_BYTES
    integers, reals = int(fields["integers"]), int(fields["reals"])
    nothing = np.broadcast_to(0.0, (sections, _NUMBERS))
    if extended == 0:
        return nothing, []
    if min(integers, reals) < 0 or 4 * (integers + reals) * sections > extended or extended > _MAX_EXTENDED:
        text = f"the extended header of {extended} bytes does not hold {integers} + {reals} numbers for each section"
        return nothing, [f"{text}: its times and wavelengths are not used"]
    with pixels.path.open("rb") as file:
        file.seek(_HEADER_BYTES)
        data = file.read(4 * (integers + reals) * sections)
    stated = np.frombuffer(data, pixels.byteorder + "f4").reshape(sections, -1)[:, integers:][:, :_NUMBERS]
    table = np.zeros((sections, _NUMBERS))
    table[:, : stated.shape[1]] = np.where(np.isfinite(stated), stated, 0)
    return table, []


def _by_channel(values: np.ndarray, axes: dict[str, int]) -> np.ndarray:
    """Values of the sections ``(sections, ...)`` as ``(channels, sections of one, ...)``."""
    if "C" not in axes:
        return values[None]
    apart = np.moveaxis(values.reshape(*axes.values(), *values.shape[1:]), list(axes).index("C"), 0)
    return apart.reshape(axes["C"], -1, *values.shape[1:])


def _dv_times(table: np.ndarray, axes: dict[str, int]) -> tuple[np.ndarray | None, np.ndarray | None, list[str]]:
    """Start and exposure of the sections, s: if they are stated, and the sections of a channel follow each other."""
    start, exposure = table[:, [_TIME_S, _EXPOSURE_S]].T
    if not start.any():
        return None, None, []
    steps = np.diff(_by_channel(start, axes), axis=1)
    if not np.all(steps > 0):
        return None, None, ["the times of the sections do not grow from section to section and are not used"]
    if not np.all(exposure > 0):
        return start, None, []
    if exposure.max() > steps.max(initial=0) > 0:
        text = f"exposures of {exposure.max():g} s do not fit sections at most {steps.max():g} s apart"
        return start, None, [f"{text}: they are not used"]
    return start, exposure, []


def _dv_optics(fields: Any, table: np.ndarray, axes: dict[str, int]) -> tuple[list[dict[str, float]], list[str]]:
    """Wavelengths of each channel: of the emission in the header, of the excitation in the extended header only."""
    numbers = _by_channel(table, axes)
    stated = np.where(numbers.min(axis=1) == numbers.max(axis=1), numbers[:, 0], 0)
    emission_nm = stated[:, _EMISSION_NM]
    named = fields["wave_nm"][: len(stated)]
    emission_nm[: named.size] = np.where(named > 0, named, emission_nm[: named.size])
    found, notes = [], []
    for excitation, emission in zip(stated[:, _EXCITATION_NM].tolist(), emission_nm.tolist(), strict=True):
        optics = believable_optics(
            {"emission_wavelength_um": emission / 1000, "excitation_wavelength_um": excitation / 1000}
        )
        if len(optics) == 2 and excitation >= emission:
            optics = {}
            notes.append(
                f"excitation at {excitation:g} nm cannot give an emission at {emission:g} nm: neither is used, give "
                "optics.emission_wavelength_um and optics.excitation_wavelength_um"
            )
        found.append(optics)
    return found, notes[:5]


def _dv_doubts(header: Header, fields: Any, table: np.ndarray) -> list[str]:
    """What a user should look at before the file is trusted."""
    doubts = []
    if fields["intervals"].max() > 1:
        doubts.append(
            f"the header counts {fields['intervals'].tolist()} intervals (x, y, z): its lengths may be those of pixels "
            "or of the image and are not used where the count is not 1, give optics.pixel_um (and optics.z_step_um)"
        )
    channels, named = header.axes.get("C", 1), int(np.count_nonzero(fields["wave_nm"]))
    if named and named != min(channels, fields["wave_nm"].size):
        doubts.append(f"the header counts {channels} wavelengths but names {named}: check the channels")
    moved = float(np.ptp(table[:, _STAGE_UM], axis=0).max())
    if header.pixel_um and moved > min(p * n for p, n in zip(header.pixel_um, header.plane_shape, strict=True)) / 2:
        doubts.append(
            f"the stage moves by {moved:.4g} um in x or y during the recording: if these are several positions one "
            "after another, save them as files of their own"
        )
    return doubts
