"""Planes whose pixels are averaged over squares as they are read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nstm.acquisition import DataError
from nstm.io.protocol import ImageFile, shown


class Binned(ImageFile):
    """A file whose every plane is the mean over squares of pixels; what is left over at the last ones is cut off."""

    def __init__(self, file: ImageFile, binning: int) -> None:
        rows, columns = (n // binning for n in file.header.plane_shape)
        if not rows or not columns:
            raise DataError(
                f"{shown(file.header.path)}: planes of {file.header.plane_shape[0]} x {file.header.plane_shape[1]} "
                f"pixels cannot be binned by {binning}: correct frames.binning"
            )
        self._file, self._binning = file, binning
        self.header = replace(file.header, plane_shape=(rows, columns), dtype=np.dtype(np.float32))

    def read_plane(self, index: int) -> np.ndarray:
        """One plane, float32; see :class:`nstm.io.protocol.ImageFile`."""
        rows, columns = self.header.plane_shape
        step = self._binning
        plane = self._file.read_plane(index)[: rows * step, : columns * step]
        squares = plane.reshape(rows, step, columns, step)
        return np.asarray(squares.mean(axis=(1, 3), dtype=np.float64), np.float32)
