"""A differential phase contrast microscope that records a moving transparent sample.

Every image is made as a microscope makes it: each point of the source sends a plane wave, the sample changes it by
``exp(i phase - absorption)``, the pupil lets a part of it through, and the intensities of all points add up (Abbe's
sum). The weak-sample model, linear in phase and absorption, is a switch. Both are written down here once more on
purpose: a reconstruction is not tested with its own optics.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from nstm.acquisition import Channel, computed_times
from nstm.simulate.camera import camera, instants
from nstm.simulate.motion import Motion
from nstm.simulate.recording import Recording
from nstm.simulate.structures import Area
from nstm.simulate.target import Lookup, Target

Array = NDArray[np.float64]

#: Samples per camera pixel and side at which the sample is looked up.
FINE = 4
#: A spot ends where it has fallen to ``exp(-_FAINT)``.
_FAINT = 12.0


class Sample(Protocol):
    """A thin sample at rest, known everywhere."""

    def at(self, places: Array, cell_um: float) -> tuple[Array, Array]:
        """Absorption and phase (rad) at ``places`` (n, 2) um, mean over a square cell of side ``cell_um``."""


@dataclass(frozen=True)
class TargetSample:
    """A target of bars that delay the light by ``phase_rad`` and weaken its amplitude by ``exp(-absorption)``."""

    target: Target
    phase_rad: float = 0.5
    absorption: float = 0.0

    def at(self, places: Array, cell_um: float) -> tuple[Array, Array]:
        """See :meth:`Sample.at`."""
        share = self.target.coverage(places, cell_um)
        return self.absorption * share, self.phase_rad * share


@dataclass(frozen=True)
class Blobs:
    """A sum of smooth spots ``exp(-(d' S d)^power)``, d the distance (um) from the centre.

    Attributes:
        centre: (n, 2) y, x in um.
        shape: (n, 2, 2) ``S``, 1/um^2.
        power: (n,) 1: Gaussian; larger: flatter with a steeper edge.
        absorption: (n,) at the centre.
        phase: (n,) at the centre, rad.
    """

    centre: Array
    shape: Array
    power: Array
    absorption: Array
    phase: Array

    def at(self, places: Array, cell_um: float) -> tuple[Array, Array]:
        """See :meth:`Sample.at`; the spots are smooth on the scale of a cell."""
        absorption, phase = np.zeros((2, len(places)))
        places_of = Lookup(places)
        for centre, shape, power, *strength in zip(
            self.centre, self.shape, self.power, self.absorption, self.phase, strict=True
        ):
            reach = np.sqrt(_FAINT ** (1 / power) * np.diag(np.linalg.inv(shape)))
            near, found = places_of.within(*(centre - reach), *(centre + reach))
            d = found - centre[:, None]
            spot = np.exp(-(np.sum(d * (shape @ d), axis=0) ** power))
            absorption[near] += strength[0] * spot
            phase[near] += strength[1] * spot
        return absorption, phase


def cells(seed: int, area: Area, *, spacing_um: float = 22.0, organelles: int = 40) -> Blobs:
    """Cells side by side: flat bodies, a nucleus, and organelles that delay and weaken the light.

    Args:
        seed: the same seed gives the same cells.
        area: where.
        spacing_um: typical distance of cells.
        organelles: how many in each cell.
    """
    rng = np.random.default_rng(seed)
    blobs: list[_Blob] = []
    for place in _places(rng, area, spacing_um):
        blobs += _cell(rng, place, spacing_um) + _organelles(rng, place, spacing_um, organelles)
    centre, axes, angle, power, absorption, phase = zip(*blobs, strict=True)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, s], [-s, c]]).transpose(2, 0, 1)
    shape = turn.transpose(0, 2, 1) @ (turn / np.array(axes)[:, :, None] ** 2)
    return Blobs(np.array(centre), shape, np.array(power), np.array(absorption), np.array(phase))


_Blob = tuple[Array, tuple[float, float], float, float, float, float]


def _places(rng: np.random.Generator, area: Area, spacing: float) -> Array:
    """Centres on a disturbed grid."""
    rows, columns = np.maximum(np.round(area.size / spacing).astype(int), 1)
    grid = (np.indices((rows, columns)).reshape(2, -1).T + 0.5) * (area.size / [rows, columns])
    return np.array([area.y0, area.x0]) + grid + rng.normal(0, 0.08 * spacing, grid.shape)


def _cell(rng: np.random.Generator, centre: Array, spacing: float) -> list[_Blob]:
    """Body and nucleus."""
    a, b = spacing * rng.uniform(0.34, 0.46, 2)
    body: _Blob = (centre, (a, b), rng.uniform(0, np.pi), 2.5, 0.01, rng.uniform(0.25, 0.4))
    off_centre = centre + rng.normal(0, 0.05 * spacing, 2)
    nucleus: _Blob = (off_centre, (0.16 * spacing, 0.13 * spacing), rng.uniform(0, np.pi), 3.0, 0.0, 0.15)
    return [body, nucleus]


def _organelles(rng: np.random.Generator, centre: Array, spacing: float, number: int) -> list[_Blob]:
    """Small spots within the body."""
    radius, angle = 0.36 * spacing * np.sqrt(rng.random(number)), rng.uniform(0, 2 * np.pi, number)
    at = centre + radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return [
        (
            place,
            (rng.uniform(0.5, 0.9), rng.uniform(0.5, 1.8)),
            rng.uniform(0, np.pi),
            1.0,
            rng.uniform(0, 0.06),
            rng.uniform(0.1, 0.3) * rng.choice([-0.5, 1.0]),
        )
        for place in at
    ]


@dataclass(frozen=True)
class DpcMicroscope:
    """Objective, sources, camera and timing; lengths in um, times in s.

    The half disc (half ring with ``inner_na``) of image ``j`` is turned by ``rotations_deg[j]``: at 0 its light comes
    from y >= 0, at 90 from x <= 0, at 180 from y <= 0, at 270 from x >= 0. ``source_points`` is their number across
    the whole disc; ``photons`` what a pixel gets where there is no sample; ``weak``: the linear model instead of
    Abbe's sum.
    """

    shape: tuple[int, int] = (128, 128)
    pixel_um: float = 0.454
    na: float = 0.25
    wavelength_um: float = 0.525
    illumination_na: float = 0.25
    inner_na: float = 0.0
    rotations_deg: tuple[float, ...] = (0.0, 90.0, 180.0, 270.0)
    source_points: int = 24
    weak: bool = False
    pixel_integration: bool = True
    exposure_s: float = 0.02
    illumination_delay_s: float = 0.005
    acquisition_interval_s: float | None = None
    sub_exposures: int = 2
    photons: float = 10000.0
    offset: float = 100.0
    read_noise: float = 1.6
    guard_px: int = 16

    @property
    def cutoff(self) -> float:
        """Highest frequency in an image, cycles/um."""
        return (self.na + min(self.na, self.illumination_na)) / self.wavelength_um

    def times(self, acquisitions: int) -> Array:
        """Middle of every exposure, ``(acquisition, illumination)``."""
        return computed_times(
            acquisitions,
            {"illumination": len(self.rotations_deg)},
            exposure_s=self.exposure_s,
            delays_s={"illumination": self.illumination_delay_s},
            interval_s=self.acquisition_interval_s,
            order=["illumination"],
        )

    def waves(self, source: int) -> Array:
        """Frequencies (n, 2) = (y, x) of the plane waves of a source, cycles/um: light from +x travels towards -x."""
        n = self.source_points
        axis = ((np.arange(n) + 0.5) / n * 2 - 1) * self.illumination_na
        place = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
        radius = np.hypot(*place.T)
        place = place[(place[:, 0] > 0) & (radius <= self.illumination_na) & (radius >= self.inner_na)]
        turn = math.radians(self.rotations_deg[source])
        turned = place @ np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
        return np.asarray(-turned / self.wavelength_um)


@dataclass(frozen=True)
class DpcRecording(Recording):
    """Frames (t, illumination, y, x); the truth (n, 2, y, x) is absorption and phase (rad), means over camera pixels.

    Attributes:
        sample: what was there, at rest.
    """

    sample: Sample = field(repr=False)

    channels: ClassVar[tuple[Channel, ...]] = (Channel("absorption"), Channel("phase", "rad", "signed", main=True))


class _Imaging:
    """From absorption and phase on the fine grid to an image at camera pixels."""

    def __init__(self, m: DpcMicroscope) -> None:
        self.m = m
        self.shape = tuple(scipy.fft.next_fast_len(n + 2 * m.guard_px) for n in m.shape)
        # samples per camera pixel that hold an intensity of twice the pupil's radius
        self.ratio = next(r for r in (1, 2, 4) if r == FINE or 0.5 * r / m.pixel_um > m.cutoff)
        self.grid = tuple(n * self.ratio for n in self.shape)
        step = m.pixel_um / self.ratio
        self.fy, self.fx = np.fft.fftfreq(self.grid[0], step)[:, None], np.fft.fftfreq(self.grid[1], step)
        pixel = np.sinc(self.fy * m.pixel_um) * np.sinc(self.fx * m.pixel_um)
        self.pixel = pixel if m.pixel_integration else np.ones_like(pixel)

    def axes(self, step: float) -> tuple[Array, Array]:
        """y and x (um) of samples ``step`` camera pixels apart, guard band included."""
        y, x = (np.arange(round(n / step)) * step - self.m.guard_px for n in self.shape)
        return y * self.m.pixel_um, x * self.m.pixel_um

    def image(self, absorption: Array, phase: Array, source: int) -> Array:
        """Intensity, 1 where there is no sample, of the camera's field."""
        waves = self.m.waves(source)
        direct = np.hypot(*waves.T) * self.m.wavelength_um <= self.m.na
        if not direct.any():
            raise ValueError(f"source {source} sends no light through the objective")
        seen = self._weak if self.m.weak else self._abbe
        intensity = seen(absorption, phase, waves[direct] if self.m.weak else waves) / int(direct.sum())
        blurred = scipy.fft.ifft2(scipy.fft.fft2(intensity) * self.pixel).real
        g, (height, width) = self.m.guard_px, self.m.shape
        return np.asarray(blurred[:: self.ratio, :: self.ratio][g : g + height, g : g + width])

    def _abbe(self, absorption: Array, phase: Array, waves: Array) -> Array:
        spectrum = self._cropped(np.exp(1j * phase - absorption)).astype(np.complex64)
        total = np.zeros(self.grid)
        for wave in waves:
            amplitude = scipy.fft.ifft2(spectrum * self._pupil(wave))
            total += amplitude.real**2 + amplitude.imag**2
        return total

    def _weak(self, absorption: Array, phase: Array, waves: Array) -> Array:
        """To first order a wave gives ``1 + 2 Re F^-1{pupil F{i phase - absorption}}``."""
        through = np.sum([self._pupil(wave) for wave in waves], axis=0)
        return len(waves) + 2 * scipy.fft.ifft2(through * self._cropped(1j * phase - absorption)).real

    def _pupil(self, wave: Array) -> NDArray[np.bool_]:
        """What passes of the light that a wave becomes behind the sample, relative to the wave's own frequency."""
        inside = (self.fy + wave[0]) ** 2 + (self.fx + wave[1]) ** 2 <= (self.m.na / self.m.wavelength_um) ** 2
        return np.asarray(inside)

    def _cropped(self, fine: NDArray[Any]) -> NDArray[Any]:
        """Spectrum of ``fine`` at the frequencies of the grid."""
        spectrum = scipy.fft.fft2(fine)
        for axis, n in enumerate(self.grid):
            spectrum = np.take(spectrum, np.fft.fftfreq(n, 1 / n).astype(int), axis=axis)
        return spectrum * (math.prod(self.grid) / fine.size)


def simulate_dpc(
    sample: Sample,
    motion: Motion,
    microscope: DpcMicroscope,
    acquisitions: int,
    seed: int = 0,
    truth_times: Array | None = None,
) -> DpcRecording:
    """Record a moving sample.

    Args:
        sample: absorption and phase at rest.
        motion: the displacement of its parts in time; smooth on the scale of a camera pixel.
        microscope: the instrument.
        acquisitions: number of acquisitions.
        seed: of the noise.
        truth_times: times of the truth, s; default: the middle of every exposure.

    Raises:
        ValueError: the motion leaves places to which no part of the sample belongs.
    """
    m, imaging = microscope, _Imaging(microscope)
    times = m.times(acquisitions)
    truth_times = np.asarray(times.ravel() if truth_times is None else truth_times, np.float64)
    clean = np.zeros((*times.shape, *m.shape), np.float32)
    for t, source in np.ndindex(times.shape):
        for now in instants(float(times[t, source]), m.exposure_s, m.sub_exposures):
            clean[t, source] += _seen_at(imaging, sample, motion, now, source)
    clean = np.maximum(clean * np.float32(m.photons / m.sub_exposures), 0)
    inside = np.stack(np.meshgrid(*(np.arange(n) * m.pixel_um for n in m.shape), indexing="ij"), axis=-1).reshape(-1, 2)
    truth = [sample.at(_at_rest(motion, inside, t), m.pixel_um) for t in truth_times.tolist()]
    return DpcRecording(
        frames=camera(clean, offset=m.offset, read_noise=m.read_noise, seed=seed),
        clean=clean,
        times=times,
        truth=np.array(truth, np.float32).reshape(-1, 2, *m.shape),
        truth_times=truth_times,
        spacing_um=(m.pixel_um, m.pixel_um),
        calibration={"background": [float(m.photons)] * len(m.rotations_deg)},
        motion=motion,
        microscope=m,
        sample=sample,
    )


def _seen_at(imaging: _Imaging, sample: Sample, motion: Motion, time_s: float, source: int) -> Array:
    """The image of one instant; where parts were at rest is smooth, so it is solved per pixel and interpolated."""
    y, x = imaging.axes(1.0)
    coarse = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    rest = _at_rest(motion, coarse, time_s).reshape(len(y), len(x), 2)
    fine_y, fine_x = imaging.axes(1 / FINE)
    away = rest - coarse.reshape(rest.shape)
    # beyond the last pixel centre the spline goes on by less than a pixel, in the guard band
    moved = [RectBivariateSpline(y, x, away[..., i])(fine_y, fine_x) for i in range(2)]
    places = np.stack([fine_y[:, None] + moved[0], fine_x + moved[1]], axis=-1).reshape(-1, 2)
    absorption, phase = (v.reshape(moved[0].shape) for v in sample.at(places, imaging.m.pixel_um / FINE))
    return imaging.image(absorption, phase, source)


def _at_rest(motion: Motion, places: Array, time_s: float) -> Array:
    rest = motion.rest_positions(places, time_s)
    if np.isnan(rest).any():
        raise ValueError(f"the motion folds: at {time_s:g} s there are places to which no part of the sample belongs")
    return rest
