"""Frames that are read when they are asked for: an array whose every plane is somewhere in a recording."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np


class Planes(Protocol):
    """Something whose planes can be read one by one; see :class:`nstm.io.files.Recording`."""

    def read_plane(self, index: int) -> np.ndarray:
        """Plane ``index``, ``(y, x)``."""
        ...

    @property
    def headers(self) -> Any:
        """Headers, all with the same type of pixels."""
        ...


class LazyFrames:
    """Array-like of shape ``(*table.shape, y, x)``: slicing opens, reads and closes a file for each plane.

    All that orders, selects or repeats planes is arithmetic on ``table``; pixels are only ever read and cropped.
    """

    def __init__(self, planes: Planes, table: np.ndarray, window: tuple[slice, slice]) -> None:
        self._planes = planes
        self._table = table  # number of the plane at each place
        self._window = window
        self.dtype = planes.headers[0].dtype
        self.shape = (*table.shape, *(w.stop - w.start for w in window))
        self.ndim = len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __getitem__(self, key: Any) -> np.ndarray:
        """The part of the array that a tuple of slices (dask's) or integers selects; perhaps not writable."""
        key = key if isinstance(key, tuple) else (key,)
        key = (*key, *[slice(None)] * (self.ndim - len(key)))
        numbers = np.asarray(self._table[key[:-2]])
        if numbers.size == 1:  # a whole plane need not be copied; a cropped one lets go of the rest
            plane = self._planes.read_plane(int(numbers.flat[0]))
            part = plane[self._window]
            part = part if part.shape == plane.shape else part.copy()
            return part.reshape(*numbers.shape, *part.shape)[(..., *key[-2:])]
        out = np.empty((*numbers.shape, *self.shape[-2:]), dtype=self.dtype)
        for place in np.ndindex(numbers.shape):
            out[place] = self._planes.read_plane(int(numbers[place]))[self._window]
        return out[(..., *key[-2:])]
