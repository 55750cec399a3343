"""What the power spectra of raw frames tell: stripes of camera and interference, and frames more blurred than others.

Stripes stand beyond the passband, where the microscope transfers nothing: rows and columns that differ lie on the axes
of the spectrum, interference in single points. A frame that moved during its exposure, or was out of focus, has less
power at high frequencies than the others of its block, which show the same sample: a spread by ``L`` along a line
multiplies the power by ``exp(-(2 pi)^2 f.Q.f)``, ``Q`` of length ``L^2 / 12`` along it, to second order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.special import gammaincinv

from nstm.optics.grids import rfrequencies
from nstm.quality.blur import Blur

Array = NDArray[np.floating]

#: Planes of a frame that are looked at.
MOST_PLANES = 8
#: Differences of rows or columns (standard deviation) in units of the noise of a pixel from which lines are seen.
STRIPED = 0.2
#: Of a single point, beyond what the largest of so much noise has.
PEAKED = 2.0
#: Rings and sectors of the spectrum in which frames are compared, between these shares of the passband.
_RINGS, _SECTORS, _FROM, _TO = 8, 12, 0.1, 0.85
#: Power over noise of a cell that is compared.
_LEAST_POWER = 1.0


@dataclass(frozen=True)
class Spectra:
    """Power spectra of frames under a Hann window, white noise of variance ``v`` having ``v`` everywhere.

    Attributes:
        power: ``(m, y, x // 2 + 1)``.
        shape: ``(y, x)`` of the frames.
        pixel_um: camera pixel, um.
        passband: highest frequency of a frame, cycles/um.
    """

    power: Array
    shape: tuple[int, int]
    pixel_um: float
    passband: float

    @staticmethod
    def of(frames: NDArray[np.generic], pixel_um: float, passband: float) -> Spectra:
        """Of frames ``(m, z, y, x)``, averaged over some planes."""
        ny, nx = frames.shape[-2:]
        window = np.hanning(ny + 2)[1:-1, None] * np.hanning(nx + 2)[1:-1]
        planes = np.unique(np.linspace(0, frames.shape[1] - 1, MOST_PLANES).round().astype(int))
        power = np.zeros((len(frames), ny, nx // 2 + 1))
        for number, frame in enumerate(frames):
            for plane in planes:
                image = frame[plane].astype(np.float64)
                image -= np.sum(image * window) / np.sum(window)
                power[number] += np.abs(scipy.fft.rfft2(image * window)) ** 2
        return Spectra(power / (len(planes) * np.sum(window**2)), (ny, nx), pixel_um, passband)

    def frequencies(self) -> tuple[Array, Array, Array]:
        """``(fy, fx, radius)`` in cycles/um, broadcast."""
        fy, fx = np.broadcast_arrays(*rfrequencies(self.shape, self.pixel_um))
        return fy, fx, np.hypot(fy, fx)

    def noise(self) -> float | None:
        """Mean power beyond the passband, off the axes; ``None`` where the camera samples none."""
        beyond = self._beyond() & ~self._axes()
        return float(self.power[:, beyond].mean()) if beyond.sum() > 50 else None

    def _beyond(self) -> NDArray[np.bool_]:
        return np.asarray(self.frequencies()[2] > 1.02 * self.passband)

    def _axes(self) -> NDArray[np.bool_]:
        """Two samples to either side of both axes, as wide as the window makes a line."""
        rows, columns = np.arange(self.shape[0]), np.arange(self.shape[1] // 2 + 1)
        return np.asarray((np.minimum(rows, self.shape[0] - rows)[:, None] <= 2) | (columns <= 2))


@dataclass(frozen=True)
class Stripes:
    """Stripes in the frames.

    ``rows`` is how much rows differ from each other, standard deviation in units of the noise of a pixel, ``columns``
    the same of columns; ``peak`` the power of the strongest single
    point against the strongest that noise has, with its ``peak_frequency`` (y, x), cycles/um.
    """

    rows: float
    columns: float
    peak: float
    peak_frequency: tuple[float, float]


def stripes(spectra: Spectra) -> Stripes | None:
    """Stripes in all frames together; ``None`` where the camera samples nothing beyond the passband."""
    noise = spectra.noise()
    if noise is None:
        return None
    mean = spectra.power.mean(axis=0) / noise
    fy, fx, _ = spectra.frequencies()
    beyond, axes = spectra._beyond(), spectra._axes()
    on_y, on_x = beyond & (fx == 0), beyond & (fy == 0)
    rest = np.where(beyond & ~axes, mean, 0)
    at = np.unravel_index(int(rest.argmax()), rest.shape)
    count = int(np.sum(beyond & ~axes))
    frames = len(spectra.power)
    largest = float(gammaincinv(frames, 1 - 1 / (20 * count))) / frames
    return Stripes(
        rows=_differ(mean[on_y], spectra.shape[1]),
        columns=_differ(mean[on_x], spectra.shape[0]),
        peak=float(rest[at]) / largest,
        peak_frequency=(float(fy[at]), float(fx[at])),
    )


def _differ(power: Array, length: int) -> float:
    """Standard deviation of lines of ``length`` pixels from their power on the axis: a Hann window sums two thirds."""
    return math.sqrt(max(float(power.mean()) - 1, 0.0) / (2 / 3 * length)) if power.size else 0.0


def blur_of_frames(spectra: Spectra, blocks: Array) -> list[Blur | None]:
    """Blur of each frame beyond that of the others of its block, along its worst direction.

    Args:
        spectra: of all frames.
        blocks: ``(m,)``, the block of each frame.

    Returns:
        Length in camera pixels and significance in standard errors of every frame; ``None`` where there is no other
        frame in its block, no noise to compare with, or too little signal.
    """
    noise = spectra.noise()
    if noise is None:
        return [None] * len(spectra.power)
    cells, where = _cells(spectra)
    sums = np.stack([np.bincount(cells, p.ravel(), len(where) + 1)[:-1] for p in spectra.power])
    counts = np.bincount(cells, minlength=len(where) + 1)[:-1]
    signal = sums / np.maximum(counts, 1) - noise
    found: list[Blur | None] = []
    for number, block in enumerate(blocks):
        others = (blocks == block) & (np.arange(len(blocks)) != number)
        if not others.any():
            found.append(None)
            continue
        reference = signal[others].mean(axis=0)
        good = (counts > 3) & (np.minimum(signal[number], reference) > _LEAST_POWER * noise)
        found.append(_blur(signal[number][good], reference[good], where[good], counts[good], spectra.pixel_um))
    return found


def _cells(spectra: Spectra) -> tuple[NDArray[np.int_], Array]:
    """Number of the cell of every sample of the half spectrum (flat; the last is none), and ``(fy, fx)`` of each."""
    fy, fx, radius = spectra.frequencies()
    share = radius / spectra.passband
    ring = np.floor((share - _FROM) / (_TO - _FROM) * _RINGS).astype(int)
    sector = np.floor(np.mod(np.arctan2(fy, fx), np.pi) / np.pi * _SECTORS).astype(int) % _SECTORS
    inside = (ring >= 0) & (ring < _RINGS) & ~((fx == 0) & (fy < 0))
    cell = np.where(inside, ring * _SECTORS + sector, _RINGS * _SECTORS).ravel()
    middle = _FROM + (np.arange(_RINGS) + 0.5) / _RINGS * (_TO - _FROM)
    angle = (np.arange(_SECTORS) + 0.5) / _SECTORS * np.pi
    r, a = np.repeat(middle, _SECTORS) * spectra.passband, np.tile(angle, _RINGS)
    return cell, np.stack([r * np.sin(a), r * np.cos(a)], axis=1)


def _blur(power: Array, reference: Array, where: Array, counts: Array, pixel_um: float) -> Blur | None:
    """Weighted least squares of the logarithm of the ratio; the errors follow from its scatter."""
    if len(power) < 3 * 4:
        return None
    fy, fx = (where * 2 * math.pi * pixel_um).T
    matrix = np.stack([np.ones_like(fy), fy**2, 2 * fy * fx, fx**2], axis=1)
    weight = np.sqrt(counts.astype(float))
    a, b = matrix * weight[:, None], np.log(power / reference) * weight
    inverse = np.linalg.pinv(a.T @ a)
    fitted = inverse @ (a.T @ b)
    scatter = float(np.sum((b - a @ fitted) ** 2)) / (len(b) - 4)
    yy, yx, xx = -fitted[1:]
    values, directions = np.linalg.eigh([[yy, yx], [yx, xx]])
    along_y, along_x = directions[:, 1]
    weights = np.array([along_y**2, 2 * along_y * along_x, along_x**2])
    error = math.sqrt(max(scatter * float(weights @ inverse[1:, 1:] @ weights), 1e-30))
    longest = max(0.0, float(values[1]))
    direction = float(np.degrees(np.arctan2(along_y, along_x)) % 180)
    return Blur(math.sqrt(12 * longest), direction, longest / error)
