"""Differential phase contrast: light sources, pupil, and the transfer of weak absorption and phase to the image.

A sample that changes the light by ``t = exp(i phase - absorption)`` is weak where both are small. Under the source
``S`` its image, divided by the background and minus 1, is then linear in both (Tian and Waller, Opt. Express 23,
11394, 2015). With the pupil ``P`` and ``C(u) = sum_v S(v) P(v) P(v - u)`` over the plane waves ``exp(2 pi i v.r)``,

    spectrum of the image = A spectrum of the absorption + i B spectrum of the phase,
    A(u) = -(C(u) + C(-u)) / C(0),    B(u) = -(C(u) - C(-u)) / C(0).

The pupil is a disc without aberrations, so C, A and B are real; A is even, B is odd and vanishes at the origin and
for a source that is symmetric about the axis.

A source is described by the plane waves that it sends (``wave``), or by where its light comes from (``led``: light
at +x travels towards -x, its frequency is negative). The one is the other mirrored, which turns the sign of B.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import scipy.fft
from scipy.ndimage import map_coordinates

from nstm.acquisition import DataError

Coordinates = Literal["wave", "led"]

#: The narrowest part of a source, or the pupil, is sampled this often along its width at the least.
SAMPLES_ACROSS = 8


@dataclass(frozen=True)
class Lens:
    """Objective: detection numerical aperture, and the wavelength of the light (vacuum), um."""

    na: float
    wavelength_um: float

    @property
    def cutoff(self) -> float:
        """Radius of the pupil, cycles/um."""
        return self.na / self.wavelength_um

    def pupil(self, fy: np.ndarray, fx: np.ndarray) -> np.ndarray:
        """1 where a plane wave of frequency ``fy``, ``fx`` (cycles/um, broadcastable) passes, else 0."""
        return (np.hypot(fy, fx) <= self.cutoff).astype(np.float64)


class Transfer(NamedTuple):
    """Transfer to the image of every source on the half spectrum of a real FFT, ``(source, y, x // 2 + 1)``, real."""

    absorption: np.ndarray
    phase: np.ndarray  # to be multiplied by i


class Sources(abc.ABC):
    """The light of one DPC set: one source per image."""

    @abc.abstractmethod
    def correlations(self, half: HalfSpectrum, lens: Lens) -> tuple[np.ndarray, np.ndarray]:
        """``C(u) / C(0)`` and ``C(-u) / C(0)`` of every source on a half spectrum, ``(source, y, x // 2 + 1)``."""


@dataclass(frozen=True)
class HalfSpectrum:
    """Frequencies of :func:`scipy.fft.rfft2` of images of ``shape`` (y, x) at ``pixel_um``."""

    shape: tuple[int, int]
    pixel_um: float

    @property
    def step(self) -> tuple[float, float]:
        """Distance of frequencies along y and x, cycles/um."""
        return 1 / (self.shape[0] * self.pixel_um), 1 / (self.shape[1] * self.pixel_um)

    @property
    def indices(self) -> tuple[np.ndarray, np.ndarray]:
        """Frequencies in units of :attr:`step`, ``(y,)`` and ``(x // 2 + 1,)``."""
        rows, columns = self.shape
        return (np.arange(rows) + rows // 2) % rows - rows // 2, np.arange(columns // 2 + 1)

    def without_nyquist(self, values: np.ndarray) -> np.ndarray:
        """``values`` ``(..., y, x // 2 + 1)`` with 0 where a frequency and its opposite share one sample."""
        rows, columns = self.shape
        if rows % 2 == 0:
            values[..., rows // 2, :] = 0
        if columns % 2 == 0:
            values[..., -1] = 0
        return values


class _SampledSources(Sources):
    """Sources with an area, sampled on a grid of frequencies."""

    @abc.abstractmethod
    def on(self, fy: np.ndarray, fx: np.ndarray, lens: Lens) -> np.ndarray:
        """Brightness ``(source, y, x)`` at the frequencies ``(y, 1)`` and ``(1, x)``, cycles/um."""

    @abc.abstractmethod
    def finest(self, lens: Lens) -> float:
        """Width of the narrowest part, cycles/um."""

    def correlations(self, half: HalfSpectrum, lens: Lens) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Sources.correlations`.

        Computed on a grid of its own, just large enough that nothing wraps round and fine enough for the sources,
        and then read at the frequencies of the images. So neither coarse pixels nor a small field change the values.
        """
        finer = [math.ceil(SAMPLES_ACROSS * s / min(self.finest(lens), lens.cutoff)) for s in half.step]
        step = [s / q for s, q in zip(half.step, finer, strict=True)]
        reach = [math.ceil(2 * lens.cutoff / s) for s in step]
        sides = [scipy.fft.next_fast_len(2 * r + 2) for r in reach]
        fy = scipy.fft.fftfreq(sides[0], 1 / (sides[0] * step[0]))[:, None]
        fx = scipy.fft.fftfreq(sides[1], 1 / (sides[1] * step[1]))[None, :]
        pupil = lens.pupil(fy, fx)
        of_pupil = scipy.fft.fft2(pupil).conj()
        rows, columns = (i * q for i, q in zip(half.indices, finer, strict=True))
        known = (np.abs(rows) <= reach[0])[:, None] & (columns <= reach[1])
        there = np.ix_(rows % sides[0], columns % sides[1])
        back = np.ix_(-rows % sides[0], -columns % sides[1])
        found = []
        for number, source in enumerate(self.on(fy, fx, lens)):
            c = scipy.fft.ifft2(scipy.fft.fft2(source * pupil) * of_pupil).real
            _check_bright_field(number, float(c[0, 0]), float(source.sum()))
            found.append([np.where(known, c[at] / c[0, 0], 0) for at in (there, back)])
        plus, minus = np.moveaxis(np.array(found), 1, 0)
        return plus, minus


@dataclass(frozen=True)
class HalfDiscs(_SampledSources):
    """Halves of a disc, or of a ring, turned by ``rotations_deg``.

    At 0 the half with y >= 0 shines, at 90 that with x <= 0, at 180 that with y <= 0, at 270 that with x >= 0; the
    dividing line belongs to every half. Radii are numerical apertures.
    """

    rotations_deg: Sequence[float]
    outer_na: float
    inner_na: float = 0.0

    def on(self, fy: np.ndarray, fx: np.ndarray, lens: Lens) -> np.ndarray:
        """Brightness ``(source, y, x)``, 0 or 1."""
        outer, inner = self.outer_na / lens.wavelength_um, self.inner_na / lens.wavelength_um
        radius = np.hypot(fy, fx)
        ring = (radius <= outer) & ((radius >= inner) | (inner == 0))
        turns = np.deg2rad(self.rotations_deg)
        halves = [fy * math.cos(r) - fx * math.sin(r) >= -1e-9 * outer for r in turns]
        return np.array([ring & half for half in halves], np.float64)

    def finest(self, lens: Lens) -> float:
        """Width of the ring, or the radius of the disc, cycles/um."""
        return (self.outer_na - self.inner_na) / lens.wavelength_um


@dataclass(frozen=True)
class SourceMap(_SampledSources):
    """Measured brightness ``(source, y, x)`` over the frequencies of an FFT with ``step`` cycles/um, in FFT order.

    Between its samples the map is interpolated linearly, so that it serves images of any size.
    """

    brightness: np.ndarray
    step: tuple[float, float]

    def on(self, fy: np.ndarray, fx: np.ndarray, lens: Lens) -> np.ndarray:
        """Brightness ``(source, y, x)``; nothing shines beyond the map."""
        centred = scipy.fft.fftshift(self.brightness, axes=(-2, -1))
        places = [f / s + n // 2 for f, s, n in zip((fy, fx), self.step, centred.shape[1:], strict=True)]
        points = np.stack(np.broadcast_arrays(*places))
        return np.array([map_coordinates(c, points, order=1, output=np.float64) for c in centred])

    def finest(self, lens: Lens) -> float:
        """No limit: a map is not known better than it was sampled."""
        return math.inf


@dataclass(frozen=True)
class Leds(Sources):
    """Small lamps: for every source its LEDs as ``(y, x, brightness)``, places as numerical apertures."""

    of_sources: Sequence[Sequence[tuple[float, float, float]]]

    def correlations(self, half: HalfSpectrum, lens: Lens) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`Sources.correlations`; exact, an LED is a point."""
        rows, columns = half.indices
        fy, fx = rows[:, None] * half.step[0], columns[None, :] * half.step[1]
        found = []
        for number, leds in enumerate(self.of_sources):
            plus, minus = np.zeros((2, len(rows), len(columns)))
            total = 0.0
            for y, x, brightness in leds:
                if math.hypot(y, x) > lens.na:
                    continue
                vy, vx = y / lens.wavelength_um, x / lens.wavelength_um
                plus += brightness * lens.pupil(vy - fy, vx - fx)
                minus += brightness * lens.pupil(vy + fy, vx + fx)
                total += brightness
            _check_bright_field(number, total, sum(led[2] for led in leds))
            found.append([plus / total, minus / total])
        plus, minus = np.moveaxis(np.array(found), 1, 0)
        return plus, minus


def _check_bright_field(number: int, through: float, sent: float) -> None:
    if not through > 1e-6 * sent:
        raise DataError(
            f"source {number} (counted from 0) sends no light through the objective: its place must lie within "
            "optics.na (dark-field images are not linear in the sample); check na, wavelength and the source"
        )


def transfer_functions(
    sources: Sources, shape: tuple[int, int], pixel_um: float, lens: Lens, coordinates: Coordinates
) -> Transfer:
    """Transfer of absorption and phase to the images of ``sources``.

    Args:
        sources: the light.
        shape: height and width of the (periodic) images, pixel.
        pixel_um: pixel in the sample, um.
        lens: the objective.
        coordinates: what the places of the sources are: frequencies of their plane waves, or where the light
            comes from.

    Raises:
        DataError: a source sends no light through the objective.
    """
    half = HalfSpectrum(shape, pixel_um)
    plus, minus = sources.correlations(half, lens)
    sign = 1 if coordinates == "led" else -1
    return Transfer(half.without_nyquist(-(plus + minus)), half.without_nyquist(sign * (plus - minus)))
