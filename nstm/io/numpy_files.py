"""NumPy files (.npy, .npz): frames as an array ``(..., y, x)``, never pickled; of several arrays one is named."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nstm.acquisition import DataError
from nstm.io.arrays import Stored, read_part, stored_arrays
from nstm.io.protocol import DTYPES, Header, ImageFile, checked, picked, shown

_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"


class NumpyReader:
    """The reader of NumPy files; ``position`` names the array of an .npz."""

    name = "NumPy"
    suffixes: tuple[str, ...] = (".npz", ".npy")

    def recognises(self, head: bytes) -> bool:
        """The signature of an array, or that of an archive."""
        return head.startswith((_NPY, _ZIP))

    def open(self, path: Path, position: str | None) -> ImageFile:
        """See :class:`nstm.io.protocol.Reader`; arrays that hold no frames are not offered."""
        every = stored_arrays(path)
        frames = {name: array for name, array in every.items() if len(array.shape) >= 2 and array.dtype.name in DTYPES}
        if not frames:
            held = ", ".join(f"{n} {a.shape} {a.dtype.name}" for n, a in list(every.items())[:8])
            raise DataError(
                f"{shown(path)}: no array (..., y, x) of plain numbers ({', '.join(DTYPES)}) is in the file; it holds "
                f"{held or 'no arrays'}"
            )
        name = list(frames)[picked(path, list(frames), position)]
        array = frames[name]
        planes = math.prod(array.shape[:-2])
        header = Header(
            path=path,
            format="NumPy",
            axes={"I": planes} if len(array.shape) > 2 else {},
            dtype=array.dtype.newbyteorder("="),
            plane_shape=(array.shape[-2], array.shape[-1]),
            file_bytes=path.stat().st_size,
            metadata={"array": name, "shape": str(array.shape)} if name else {"shape": str(array.shape)},
        )
        return _NumpyFile(checked(header), name, array)


@dataclass
class _NumpyFile(ImageFile):
    header: Header
    name: str
    array: Stored

    def read_plane(self, index: int) -> np.ndarray:
        """See :class:`ImageFile`."""
        rows, columns = self.header.plane_shape
        values = read_part(self.header.path, self.name, self.array, index * rows * columns, rows * columns)
        return values.astype(self.header.dtype, copy=False).reshape(rows, columns)
