"""One array of a file of the user (`.npy`, `.npz`, `.tif`), never pickled, its shape known before it is read."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import tifffile

from nstm.acquisition import DataError

_ZIP, _NUMPY, _TIFF = ".npz", ".npy", (".tif", ".tiff")
#: What the decoders raise for damaged bytes.
_UNREADABLE = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    tifffile.TiffFileError,
    zipfile.BadZipFile,
    zlib.error,
)


class Stored(NamedTuple):
    """An array as its header tells of it."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    columns_first: bool  # the first axis is the fastest


def stored_arrays(path: str | Path) -> dict[str, Stored]:
    """Headers of all arrays of an ``.npz`` by name, or of the one of an ``.npy`` under the name "".

    Raises:
        DataError: the file cannot be read as such; arrays of Python objects are left out.
    """
    with _refused_by_name(path):
        if not _is_archive(path):
            with Path(path).open("rb") as file:
                return {"": _header(file, Path(path).stat().st_size)}
        found = {}
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(_NUMPY):
                    with archive.open(member) as file:
                        stored = _parsed(file)
                        if not stored.dtype.hasobject:
                            found[member.filename.removesuffix(_NUMPY)] = _whole(stored, member.file_size)
        return found


def read_part(path: Path, name: str, stored: Stored, first: int, count: int) -> np.ndarray:
    """``count`` numbers of an array from number ``first`` on, in the order of its axes, the last the fastest.

    Raises:
        DataError: the file is no longer what :func:`stored_arrays` saw.
    """
    with _refused_by_name(path), _numpy_bytes(path, name) as (file, size):
        if _header(file, size) != stored:
            raise DataError("the file was changed while it was read")
        if stored.columns_first:  # its planes are scattered over the whole array
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False).ravel()[first : first + count]
        file.seek(first * stored.dtype.itemsize, 1)
        return np.frombuffer(file.read(count * stored.dtype.itemsize), stored.dtype, count)


def array_shape(path: str | Path, name: str | None = None) -> tuple[int, ...]:
    """Shape of the array in a file.

    Args:
        path: ``.npy``, ``.npz`` or ``.tif``.
        name: which array of an ``.npz``; not needed where it holds one only.

    Raises:
        DataError: the file cannot be read as such.
    """
    with _refused_by_name(path):
        if _kind(path) in _TIFF:
            with tifffile.TiffFile(path) as file:
                return tuple(int(n) for n in file.series[0].shape)
        with _numpy_file(Path(path), name) as (file, size):
            return _header(file, size).shape


def read_array(path: str | Path, shape: tuple[int, ...], name: str | None = None) -> np.ndarray:
    """The array in a file as float64; nothing is read unless it has the ``shape`` expected.

    Raises:
        DataError: another shape, not real numbers, or the file cannot be read.
    """
    found = array_shape(path, name)
    if found != shape:
        raise DataError(f"{path}: the array has shape {found}, needed is {shape}")
    with _refused_by_name(path):
        if _kind(path) in _TIFF:
            with tifffile.TiffFile(path) as file:
                values = file.series[0].asarray()
        else:
            with _numpy_file(Path(path), name) as (stream, size):
                _header(stream, size)
                stream.seek(0)
                values = np.lib.format.read_array(stream, allow_pickle=False)
    if values.shape != shape or values.dtype.kind not in "buif":
        raise DataError(f"{path}: the array holds {values.dtype} of shape {values.shape}, needed are real numbers")
    values = values.astype(np.float64)
    if not np.all(np.isfinite(values)):
        raise DataError(f"{path}: the array holds NaN or infinity")
    return values


def _is_archive(path: str | Path) -> bool:
    with Path(path).open("rb") as file:
        return file.read(2) == b"PK"


@contextmanager
def _refused_by_name(path: str | Path) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except _UNREADABLE as error:
        raise DataError(f"{path} cannot be read: {type(error).__name__}: {error}") from error


def _kind(path: str | Path) -> str:
    kind = Path(path).suffix.lower()
    if kind not in (_ZIP, _NUMPY, *_TIFF):
        raise DataError(f"files ending in {kind or 'nothing'} are not read here; allowed: .npy, .npz, .tif")
    return kind


@contextmanager
def _numpy_file(path: Path, name: str | None) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of one array of a file with a known ending; see :func:`_numpy_bytes`."""
    _kind(path)
    with _numpy_bytes(path, name) as found:
        yield found


@contextmanager
def _numpy_bytes(path: Path, name: str | None) -> Iterator[tuple[IO[bytes], int]]:
    """The bytes of one array in numpy's format, and how many there are."""
    if not _is_archive(path):
        with path.open("rb") as file:
            yield file, path.stat().st_size
        return
    with zipfile.ZipFile(path) as archive:
        held = [m.filename.removesuffix(_NUMPY) for m in archive.infolist() if m.filename.endswith(_NUMPY)]
        wanted = name if name is not None else (held[0] if len(held) == 1 else None)
        if wanted not in held:
            asked = "no array is named" if name is None else f"there is no array {name!r}"
            raise DataError(f"{asked}; the file holds {', '.join(sorted(held)[:12]) or 'none'}")
        size = archive.getinfo(f"{wanted}{_NUMPY}").file_size
        with archive.open(f"{wanted}{_NUMPY}") as member:
            yield member, size


def _header(file: IO[bytes], size: int) -> Stored:
    """Shape and type of numbers; the bytes that they need must be there."""
    stored = _parsed(file)
    if stored.dtype.hasobject:
        raise DataError("the array holds Python objects (pickled), which are never loaded: save plain numbers")
    return _whole(stored, size)


def _parsed(file: IO[bytes]) -> Stored:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise DataError(f"numpy format {version} is not read here: save it with plain numbers")
    shape, columns_first, dtype = readers[version](file)
    return Stored(tuple(int(n) for n in shape), dtype, columns_first)


def _whole(stored: Stored, size: int) -> Stored:
    shape = stored.shape
    needed = stored.dtype.itemsize * int(np.prod(shape, dtype=object))
    if min(shape, default=1) < 0 or needed > size:
        raise DataError(f"the header promises an array of shape {shape}, the file holds {size} bytes: it is cut off")
    return stored
