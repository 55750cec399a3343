"""Planes of a stack and its axial frequencies: what lies beyond its ends is expected from the recorded planes.

A stack is cut out of a thicker sample. At every lateral frequency the transfer function says how the planes go
together: their covariance is the transform of its squared modulus along ``kz``, for a sample of which nothing else is
known. The spectrum of the whole depth is the linear estimate of least mean square error from the recorded planes
(Wiener's interpolation), which fades away beyond the ends as far as the planes do not determine it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft

from nstm.optics.otf import RadialOtf

#: A stack is continued by this depth, um, so that its ends do not meet.
PADDING_DEPTH_UM = 1.5
#: Axial frequencies at which no order transfers more than this share are left out.
LEAST_TRANSFER = 1e-3
#: Share of a plane's power that its neighbours need not explain: noise, and what the covariance does not know.
UNEXPLAINED = 0.2


@dataclass(frozen=True)
class AxialAxis:
    """Planes of a stack and the axial frequencies in use, ``-K..K``; a single plane has ``kz = 0`` only."""

    planes: int
    depth: int  # planes with those that the stack is continued by
    reach: int  # K

    @property
    def indices(self) -> np.ndarray:
        """Indices of the axial frequencies in FFT order, the lowest frequency first."""
        return np.arange(-self.reach, self.reach + 1) % self.depth

    @property
    def to_planes(self) -> np.ndarray:
        """``(z, kz)``: from axial frequencies to the planes of the stack."""
        wave = np.exp(2j * np.pi / self.depth * np.outer(np.arange(self.planes), self.indices))
        return (wave / self.depth).astype(np.complex64)


def axial_axis(planes: int, z_step_um: float, otf_of: Callable[[int], RadialOtf]) -> AxialAxis:
    """Axis for a stack; ``otf_of`` gives the transfer functions for a number of planes."""
    if planes == 1:
        return AxialAxis(1, 1, 0)
    depth = scipy.fft.next_fast_len(planes + math.ceil(PADDING_DEPTH_UM / z_step_um))
    strongest = np.abs(otf_of(depth).tables).max(axis=(0, 2))
    used = np.nonzero(strongest[: (depth + 1) // 2] > LEAST_TRANSFER)[0]
    return AxialAxis(planes, depth, int(used.max()))


class AxialTransform:
    """From the planes of one order to its axial frequencies, at the lateral frequencies of a box around the origin.

    Attributes:
        response: ``(kz, y, x)``, what is left of a stack that is recorded in full; 0 beyond the cut-off.
    """

    def __init__(self, axis: AxialAxis, otf: RadialOtf, order: int, radius: np.ndarray, step: float) -> None:
        """For ``radius`` ``(y, x)`` of the box, cycles/um, in rings ``step`` wide; ``otf`` for the whole depth."""
        rings = np.arange(math.ceil(otf.cutoff / step) + 1)
        ring = np.rint(radius / step).astype(int).ravel()
        ring[ring >= rings.size] = rings.size
        self._place = np.argsort(ring, kind="stable")[: np.count_nonzero(ring < rings.size)]
        self._back = np.full(radius.size, self._place.size)  # where a sample stands in that order, the last is empty
        self._back[self._place] = np.arange(self._place.size)
        self._ends = np.cumsum(np.bincount(ring, minlength=rings.size + 1)[: rings.size])
        power = np.abs(otf(order, (rings * step).astype(np.float32)).T.astype(complex)) ** 2  # (ring, kz)
        self._operators, response = _operators(axis, power)
        self.response = np.zeros((axis.indices.size, radius.size), np.float32)
        self.response[:, self._place] = response[ring[self._place]].T
        self.response = self.response.reshape(-1, *radius.shape)

    def __call__(self, box: np.ndarray) -> np.ndarray:
        """Spectra of planes ``(z, y, x)`` as ``(kz, y, x)``."""
        planes = np.take(box.reshape(len(box), -1), self._place, axis=1)
        found = np.zeros((self._operators.shape[1], self._place.size + 1), np.complex64)
        first = 0
        for operator, end in zip(self._operators, self._ends, strict=True):
            np.matmul(operator, planes[:, first:end], out=found[:, first:end])
            first = end
        return np.take(found, self._back, axis=1).reshape(-1, *box.shape[1:])


def _operators(axis: AxialAxis, power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(ring, kz, z)`` and the response ``(ring, kz)`` of a full stack, for the planes' power ``(ring, kz)``."""
    z = np.arange(axis.planes)
    covariance = np.fft.ifft(power, axis=1)
    unexplained = UNEXPLAINED * np.maximum(covariance[:, 0].real, np.finfo(np.float32).tiny)
    between = covariance[:, (z[:, None] - z) % axis.depth]
    between += unexplained[:, None, None] * np.eye(axis.planes)
    wave = np.exp(-2j * np.pi / axis.depth * np.outer(axis.indices, z))
    used = power[:, axis.indices]
    operators = (used[..., None] * wave) @ np.linalg.inv(between)
    return operators.astype(np.complex64), used / (used + unexplained[:, None])
