"""A structured illumination microscope that records moving points: two- or three-beam, one plane.

Every frame is the integral over its exposure of the moving points, lit by the pattern where each point is,
blurred by the microscope and the pixel, on a field larger than the camera's (so light enters from outside
and nothing is periodic), with photon and read noise. The transfer function is written down here once more
on purpose: a reconstruction is not tested with its own optics.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from nstm.acquisition import computed_times
from nstm.simulate.motion import Motion
from nstm.simulate.structures import Area, Points

Array = NDArray[np.float64]

#: Samples per camera pixel and side of the grid that the points are put on.
FINE = 4
#: Samples of the truth per camera pixel and side.
TRUTH_RATIO = 2


@dataclass(frozen=True)
class SimMicroscope:
    """The instrument, its camera and its timing; lengths in um, times in s, angles in rad.

    ``finest_share`` is the frequency of the finest pattern in units of the detection cutoff ``2 NA / lambda``;
    ``modulation`` holds one value per order for each orientation; ``photons`` is the 99.9th percentile of the
    noise-free mean frame; ``bleaching`` the share of the light lost over the recording.
    """

    shape: tuple[int, int] = (128, 128)
    pixel_um: float = 0.065
    na: float = 1.4
    index: float = 1.518
    emission_wavelength_um: float = 0.515
    excitation_wavelength_um: float = 0.488
    beams: int = 2
    angles: int = 3
    phases: int = 3
    finest_share: float = 0.85
    first_direction_rad: float = 0.837
    modulation: tuple[tuple[float, ...], ...] = ((0.85,), (0.8,), (0.9,))
    phase_error_rad: float = 0.05
    exposure_s: float = 0.02
    phase_delay_s: float = 0.001
    orientation_delay_s: float = 0.01
    acquisition_interval_s: float | None = None
    sub_exposures: int = 4
    photons: float = 300.0
    background: float = 0.0
    bleaching: float = 0.0
    offset: float = 100.0
    read_noise: float = 1.6
    guard_px: int = 16

    def __post_init__(self) -> None:
        if len(self.modulation) != self.angles or any(len(m) != self.beams - 1 for m in self.modulation):
            raise ValueError(f"modulation needs {self.angles} orientations with {self.beams - 1} orders each")
        if self.cutoff > 0.5 * FINE / self.pixel_um:
            raise ValueError(f"pixel_um = {self.pixel_um} is too coarse for NA {self.na}")

    @property
    def cutoff(self) -> float:
        """Detection cutoff ``2 NA / lambda``, cycles/um."""
        return 2 * self.na / self.emission_wavelength_um

    @property
    def reach(self) -> float:
        """Highest frequency that reaches the data: detection cutoff and finest pattern, cycles/um."""
        return self.cutoff * (1 + self.finest_share)

    def times(self, acquisitions: int) -> NDArray[np.float64]:
        """Middle of every exposure, ``(acquisition, angle, phase)``; back to back unless an interval is set."""
        return computed_times(
            acquisitions,
            {"angle": self.angles, "phase": self.phases},
            exposure_s=self.exposure_s,
            delays_s={"angle": self.orientation_delay_s, "phase": self.phase_delay_s},
            interval_s=self.acquisition_interval_s,
            order=["angle", "phase"],
        )

    def calibration(self, seed: int) -> dict[str, Any]:
        """The true pattern parameters, with the keys and signs of an illumination estimate.

        The pattern of a frame is ``1 + sum_o m_o cos(o (2 pi k.r + phase))``, r from the centre of camera
        pixel (0, 0), k = (ky, kx) of order 1; the finest order is ``beams - 1``.
        """
        rng = np.random.default_rng([seed, 1])
        direction = self.first_direction_rad + np.pi * np.arange(self.angles) / self.angles
        direction += rng.normal(0, 0.02, self.angles)
        length = self.finest_share * self.cutoff / (self.beams - 1)
        vectors = length * np.stack([np.sin(direction), np.cos(direction)], axis=1)
        start = rng.uniform(-np.pi, np.pi, (self.angles, 1))
        steps = 2 * np.pi * np.arange(self.phases) / self.phases
        phases = start + steps + rng.normal(0, self.phase_error_rad, (self.angles, self.phases))
        return {
            "pattern_vectors": vectors.tolist(),
            "phases": phases.tolist(),
            "modulation": [list(m) for m in self.modulation],
            "intensity": np.ones((self.angles, self.phases)).tolist(),
        }


@dataclass(frozen=True)
class SimRecording:
    """What was recorded and what was there.

    Attributes:
        frames: (t, angle, phase, y, x) uint16 counts.
        clean: the same in photons, without noise, background included, float32.
        times: (t, angle, phase) middle of the exposures, s.
        truth: (n, 2y, 2x) float32: the sample at ``truth_times``, in photons: a uniform sample of value v
            gives a mean frame of v. Sample (0, 0) is at the centre of camera pixel (0, 0).
        truth_times: (n,) s.
        calibration: true pattern parameters.
        points: the emitters at rest, weights in photons per exposure.
        motion: what they did.
        microscope: the instrument.
    """

    frames: NDArray[np.uint16]
    clean: NDArray[np.float32]
    times: NDArray[np.float64]
    truth: NDArray[np.float32]
    truth_times: NDArray[np.float64]
    calibration: dict[str, Any]
    points: Points = field(repr=False)
    motion: Motion = field(repr=False)
    microscope: SimMicroscope

    def material_displacement(self, earlier_s: float, later_s: float) -> NDArray[np.float64]:
        """True displacement (2, 2y, 2x) in um, on the truth's grid, of what is there at the later time."""
        shape = self.truth.shape[-2:]
        step = self.microscope.pixel_um / TRUTH_RATIO
        places = np.indices(shape).reshape(2, -1).T.astype(np.float64) * step
        moved = self.motion.material_displacement(places, earlier_s, later_s)
        return np.asarray(moved.T.reshape(2, *shape))


class _Field:
    """The grid that the points are put on: the camera's field, a guard band around it, ``FINE`` samples per pixel."""

    def __init__(self, microscope: SimMicroscope) -> None:
        self.m = microscope
        guarded = [scipy.fft.next_fast_len(n + 2 * microscope.guard_px, real=True) for n in microscope.shape]
        self.shape = (guarded[0] * FINE, guarded[1] * FINE)
        self.step = microscope.pixel_um / FINE
        fy = np.fft.fftfreq(self.shape[0], self.step)[:, None]
        fx = np.fft.rfftfreq(self.shape[1], self.step)[None, :]
        f = np.hypot(fy, fx)
        # splatting with bilinear weights is a triangle filter of one sample: undone
        splat = (np.sinc(fy * self.step) * np.sinc(fx * self.step)) ** 2
        pixel = np.sinc(fy * microscope.pixel_um) * np.sinc(fx * microscope.pixel_um)
        self.to_camera = (incoherent_transfer(f / microscope.cutoff) * pixel / splat).astype(np.float32)
        nyquist = 0.5 * TRUTH_RATIO / microscope.pixel_um
        self.to_truth = (_roll_off(f, 0.8 * nyquist, 0.98 * nyquist) / splat).astype(np.float32)

    def splat(self, positions: Array, weight: Array) -> NDArray[np.float32]:
        """Density of the points: light per camera pixel, on the fine grid; points outside are dropped."""
        at = positions / self.step + self.m.guard_px * FINE
        low = np.floor(at).astype(np.int64)
        keep = np.all((low >= 0) & (low < np.array(self.shape) - 1), axis=1)
        low, part, weight = low[keep], (at - np.floor(at))[keep], weight[keep]
        index = low[:, 0] * self.shape[1] + low[:, 1]
        total = np.zeros(self.shape[0] * self.shape[1])
        for dy in (0, 1):
            for dx in (0, 1):
                share = np.abs(1 - dy - part[:, 0]) * np.abs(1 - dx - part[:, 1])
                total += np.bincount(index + dy * self.shape[1] + dx, weight * share, total.size)
        return (total.reshape(self.shape) * FINE**2).astype(np.float32)

    def seen(self, density: NDArray[np.float32], transfer: NDArray[np.float32], ratio: int) -> NDArray[np.float32]:
        """The density through ``transfer``, ``ratio`` samples per camera pixel, guard band cut off."""
        blurred = scipy.fft.irfft2(scipy.fft.rfft2(density) * transfer, s=self.shape)
        fine = blurred[:: FINE // ratio, :: FINE // ratio]
        guard = self.m.guard_px * ratio
        return np.asarray(fine[guard : guard + self.m.shape[0] * ratio, guard : guard + self.m.shape[1] * ratio])


def incoherent_transfer(relative: Array) -> Array:
    """Transfer of an aberration-free circular pupil at ``|f| / cutoff`` (Goodman, Fourier Optics, eq. 6-31)."""
    s = np.clip(relative, 0, 1)
    return np.asarray(2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s**2)))


def _roll_off(f: Array, start: float, end: float) -> Array:
    """1 below ``start``, 0 above ``end``, half a cosine between."""
    u = np.clip((f - start) / (end - start), 0, 1)
    return 0.5 + 0.5 * np.cos(np.pi * u)


def structure_area(microscope: SimMicroscope, travel_um: float = 0.0) -> Area:
    """Where to make a structure so that it fills the field and its guard band even after moving ``travel_um``."""
    return Area.of_field(microscope.shape, microscope.pixel_um, microscope.guard_px * microscope.pixel_um + travel_um)


def pattern_at(positions: Array, vector: Array, phase: float, modulation: Array) -> Array:
    """Excitation at ``positions`` (n, 2) um, mean 1 (see :meth:`SimMicroscope.calibration`)."""
    q = 2 * np.pi * (positions @ np.asarray(vector)) + phase
    return np.asarray(1 + sum(m * np.cos((o + 1) * q) for o, m in enumerate(modulation)))


def simulate_sim(
    points: Points,
    motion: Motion,
    microscope: SimMicroscope,
    acquisitions: int,
    seed: int = 0,
    truth_times: Array | None = None,
) -> SimRecording:
    """Record moving points.

    Args:
        points: emitters at rest; their brightness is scaled to ``microscope.photons``.
        motion: their displacement in time.
        microscope: the instrument.
        acquisitions: number of acquisitions of ``angles x phases`` frames.
        seed: of pattern phases and noise.
        truth_times: times of the truth, s; default: the middle of every exposure.

    Returns:
        The recording with its truth.
    """
    m, grid = microscope, _Field(microscope)
    times, calibration = m.times(acquisitions), microscope.calibration(seed)
    follow = motion.followed(points.position)
    lost = _bleached(m, times)
    clean = np.zeros((*times.shape, *m.shape), np.float32)
    for t, a, p in np.ndindex(times.shape):
        middle = float(times[t, a, p])
        lit = _exposed(grid, follow, points.weight, middle, calibration, (a, p))
        clean[t, a, p] = grid.seen(lit * np.float32(lost(middle)), grid.to_camera, 1)
    brightness = m.photons / np.percentile(clean.mean(axis=(0, 1, 2)), 99.9)
    clean = np.maximum(clean * np.float32(brightness), 0) + np.float32(m.background)
    truth_times = np.asarray(times.ravel() if truth_times is None else truth_times, np.float64)
    truth = np.stack(
        [
            grid.seen(grid.splat(follow(t), points.weight * lost(t)), grid.to_truth, TRUTH_RATIO)
            for t in truth_times.tolist()
        ]
    ) * np.float32(brightness)
    return SimRecording(
        frames=camera(clean, m, seed),
        clean=clean,
        times=times,
        truth=truth,
        truth_times=truth_times,
        calibration=calibration,
        points=points.scaled(float(brightness)),
        motion=motion,
        microscope=m,
    )


def _exposed(
    grid: _Field, follow: Any, weight: Array, middle_s: float, calibration: dict[str, Any], frame: tuple[int, int]
) -> NDArray[np.float32]:
    """Density of the excited light of one exposure: the mean over its instants."""
    m, (angle, phase) = grid.m, frame
    vector, modulation = np.array(calibration["pattern_vectors"][angle]), calibration["modulation"][angle]
    total = np.zeros(grid.shape, np.float32)
    for i in range(m.sub_exposures):
        at = follow(middle_s + m.exposure_s * ((i + 0.5) / m.sub_exposures - 0.5))
        lit = pattern_at(at, vector, calibration["phases"][angle][phase], modulation)
        total += grid.splat(at, weight * lit * calibration["intensity"][angle][phase])
    return np.asarray(total / m.sub_exposures, np.float32)


def _bleached(m: SimMicroscope, times: Array) -> Any:
    """``time -> light left``: exponential, ``m.bleaching`` lost at the last frame."""
    rate = -np.log1p(-m.bleaching) / max(float(times.max() - times.min()), 1e-12)
    return lambda t: float(np.exp(-rate * (t - times.min())))


def camera(photons: NDArray[np.float32], m: SimMicroscope, seed: int) -> NDArray[np.uint16]:
    """Counts of a camera with one count per photoelectron: Poisson and read noise, offset, 16 bit."""
    rng = np.random.default_rng([seed, 2])
    counts = rng.poisson(photons) + rng.normal(m.offset, m.read_noise, photons.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
