"""The reader protocol: one reader per file format, chosen by content; headers first, pixels plane by plane.

A reader is one module with one class that has the members of :class:`Reader`; it is added to
``nstm.io.files.READERS``. ``open`` reads the header only and must find out from it whether the file is
whole; ``read_plane`` opens the file, reads one plane and closes it again, so that no handle stays open.
Everything read from a file is untrusted: texts are bounded by :func:`clean_text`, sizes by :func:`checked`.
"""

from __future__ import annotations

import abc
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nstm.acquisition import DataError

HEAD_BYTES = 512
#: More is taken for a damaged header: 16384 x 16384 pixels, four million planes.
MAX_PLANE_PIXELS = 2**28
MAX_PLANES = 4_000_000
MAX_METADATA = 48
MAX_TEXT = 240
DTYPES = ("uint8", "uint16", "uint32", "int16", "int32", "float32", "float64")
#: Pixel sizes outside are no statement about a microscope (72 dpi, "1 pixel per inch"), um.
PIXEL_UM_RANGE = (0.001, 20.0)
#: What may be read of the optics, by the names of the settings, and what is believed of it.
OPTICS_RANGE = {
    "na": (0.02, 2.0),
    "index": (1.0, 2.5),
    "emission_wavelength_um": (0.2, 2.0),
    "excitation_wavelength_um": (0.2, 2.0),
}

_SIGNATURES = (
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"PK\x03\x04", "a ZIP archive (or an office document)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x89HDF", "an HDF5 file"),
    (b"%PDF", "a PDF document"),
    (b"ZISRAWFILE", "a Zeiss CZI file"),
    (b"\xda\xce\xbe\x0a", "a Nikon ND2 file"),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 file (or an ND2 file of NIS-Elements 2: save it anew as ND2)"),
    (b"\x93NUMPY", "a NumPy array"),
)


@dataclass(frozen=True)
class Header:
    """What a file says about itself, without its pixels.

    Axes of planes are named T (time), Z (section), C (channel), R (orientation of the pattern), H (phase of the
    pattern), I (planes that the file only counts), or whatever else the file calls them. Where a file states R or H,
    or T and Z apart, that is taken for the order of its frames.
    """

    path: Path
    format: str
    axes: Mapping[str, int]  # labelled axes of the planes (not y, x), slowest first; empty: one plane
    dtype: np.dtype[Any]
    plane_shape: tuple[int, int]  # (y, x)
    file_bytes: int
    pixel_um: tuple[float, float] | None = None  # (y, x), um in the sample
    z_step_um: float | None = None
    plane_start_s: np.ndarray | None = None  # (planes,), s
    exposure_s: np.ndarray | None = None  # (planes,), s; only with plane_start_s
    time_point_s: np.ndarray | None = None  # (T,), s, start of each time point, where planes have no times of their own
    channels: tuple[str, ...] = ()  # names along the axis C
    optics: Mapping[str, float] = field(default_factory=dict)  # keys of OPTICS_RANGE; through `believable_optics`
    channel_optics: tuple[Mapping[str, float], ...] = ()  # the same for each channel
    rows_upward: bool = False  # whether the first row stored is the lowest, as in MRC
    metadata: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def planes(self) -> int:
        """Number of planes."""
        return math.prod(self.axes.values())


class ImageFile(abc.ABC):
    """An opened file: its header, and a way to read a plane. Holds no file handle and can be pickled."""

    header: Header

    @abc.abstractmethod
    def read_plane(self, index: int) -> np.ndarray:
        """Plane ``index`` (in the order of ``header.axes``, last axis fastest) as ``(y, x)``.

        Raises:
            DataError: the data cannot be decoded.
            OSError: the file cannot be read.
        """


class Reader(Protocol):
    """One file format."""

    name: str
    suffixes: tuple[str, ...]

    def recognises(self, head: bytes) -> bool:
        """Whether a file that begins with ``head`` (up to HEAD_BYTES) is of this format."""
        ...

    def open(self, path: Path, position: str | None) -> ImageFile:
        """Read the header; ``position`` picks one of several images in the file by index or name.

        Raises:
            DataError: not whole, not usable, or no such position.
        """
        ...


class PositionUnknown(DataError):
    """A file holds several images and it is not said which one is meant; ``positions`` are their names."""

    def __init__(self, message: str, positions: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.positions = tuple(positions)


def picked(path: Path, names: Sequence[str], position: str | None) -> int:
    """Number of the image in a file that ``position`` names, by its name or number.

    Raises:
        PositionUnknown: several images and none named.
        DataError: no such image.
    """
    listed = ", ".join(f"{i}: {clean_text(n, 40)!r}" for i, n in enumerate(names[:20]))
    if position is None:
        if len(names) > 1:
            text = f"{shown(path)}: {len(names)} images (positions) in the file: give `position`, one of {listed}"
            unique = [n if n and list(names).count(n) == 1 else str(i) for i, n in enumerate(names)]
            raise PositionUnknown(text, unique)
        return 0
    if list(names).count(position) == 1:
        return list(names).index(position)
    if position.isdecimal() and int(position) < max(1, len(names)):
        return int(position)
    raise DataError(
        f"{shown(path)}: no position {clean_text(position)!r} in the file: allowed {listed or '0 (it holds one image)'}"
    )


def describe(head: bytes) -> str:
    """What a file that begins with ``head`` looks like, in words."""
    if not head:
        return "an empty file (0 bytes)"
    for magic, words in _SIGNATURES:
        if head.startswith(magic):
            return words
    if "\ufffd" not in head.decode("utf-8", "replace")[:-1] and not any(b < 32 and b not in b"\t\r\n\f" for b in head):
        return "a text file"
    return f"a file of unknown type (first bytes {head[:8].hex(' ')})"


def clean_text(value: object, limit: int = MAX_TEXT) -> str:
    """``value`` as one printable line of at most ``limit`` characters."""
    text = str(value)[: 4 * limit]
    text = "".join(c if c.isprintable() else " " for c in text).strip()
    return text if len(text) <= limit else text[: limit - 3] + "..."


def clean_metadata(values: Mapping[Any, Any]) -> dict[str, str]:
    """At most MAX_METADATA entries of printable, bounded text."""
    items = [(clean_text(k, 60), clean_text(v)) for k, v in values.items()]
    return dict([(k, v) for k, v in items if k and v][:MAX_METADATA])


def shown(path: str | os.PathLike[str]) -> str:
    """A path as it stands in messages: one line, printable, of a long one the end."""
    text = clean_text(os.fspath(path), 5000)
    return text if len(text) <= 300 else "..." + text[-297:]


def checked(header: Header) -> Header:
    """``header`` if its sizes, type and units are believable.

    Raises:
        DataError: absurd sizes, no pixels, or a type that is not a camera's.
    """
    y, x = header.plane_shape
    where = shown(header.path)
    if y < 1 or x < 1 or header.planes < 1:
        raise DataError(f"{where}: the header tells of {header.planes} planes of {y} x {x} pixels, nothing to read")
    if y * x > MAX_PLANE_PIXELS or header.planes > MAX_PLANES:
        raise DataError(
            f"{where}: the header tells of {header.planes} planes of {y} x {x} pixels; at most {MAX_PLANES} planes "
            f"of {MAX_PLANE_PIXELS} pixels are read: the header is damaged, save the file anew"
        )
    if header.dtype.name not in DTYPES:
        raise DataError(f"{where}: pixels are of type {header.dtype.name}, allowed: {', '.join(DTYPES)}")
    return header


def believable_pixel(y_um: float | None, x_um: float | None) -> tuple[float, float] | None:
    """``(y, x)`` in um if both are possible for a microscope, else ``None``."""
    low, high = PIXEL_UM_RANGE
    if y_um is None or x_um is None or not (low <= y_um <= high and low <= x_um <= high):
        return None
    return float(y_um), float(x_um)


def believable_optics(values: Mapping[str, float | None]) -> dict[str, float]:
    """The entries of ``values`` that are possible for a microscope (OPTICS_RANGE); the others are left out."""
    found = {}
    for name, (low, high) in OPTICS_RANGE.items():
        value = values.get(name)
        if value is not None and low <= value <= high:
            found[name] = float(value)
    return found


#: What is said of data that do not decode.
CHANGED = "the file is damaged or was changed while it was read: save or copy it anew"


@contextmanager
def damage(path: Path, what: str) -> Iterator[None]:
    """Whatever a codec or parser raises on damaged data is an error of the data; a failing disk is not."""
    try:
        yield
    except (DataError, OSError, MemoryError):
        raise
    except Exception as error:
        kind = type(error).__name__
        raise DataError(f"{shown(path)}: {what} cannot be decoded ({kind}: {clean_text(error)}); {CHANGED}") from error
