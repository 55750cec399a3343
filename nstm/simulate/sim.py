"""A structured illumination microscope that records moving points: two- or three-beam, one plane.

Every frame is the integral over its exposure of the moving points, lit by the pattern where each point is,
blurred by the microscope and the pixel, on a field larger than the camera's (so light enters from outside
and nothing is periodic), with photon and read noise. The transfer function is written down here once more
on purpose: a reconstruction is not tested with its own optics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstm.acquisition import computed_times
from nstm.simulate.camera import camera
from nstm.simulate.exposures import expose
from nstm.simulate.grid import FINE, TRUTH_RATIO, FineGrid
from nstm.simulate.motion import Motion
from nstm.simulate.recording import SimRecording
from nstm.simulate.structures import Area, Points

Array = NDArray[np.float64]

#: Standard deviation of the blur of what is out of focus, um.
HAZE_UM = 0.8


@dataclass(frozen=True)
class SimMicroscope:
    """The instrument, its camera and its timing; lengths in um, times in s, angles in rad.

    ``finest_share`` is the frequency of the finest pattern in units of the detection cutoff ``2 NA / lambda``;
    ``modulation`` holds one value per order for each orientation; ``photons`` is the 99.9th percentile of the
    noise-free mean frame in focus; ``haze`` the light from out of focus, which no pattern reaches, as a multiple of the
    mean light in focus; ``bleaching`` the share of the light lost over the recording.
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
    haze: float = 0.0
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


def incoherent_transfer(relative: Array) -> Array:
    """Transfer of an aberration-free circular pupil at ``|f| / cutoff`` (Goodman, Fourier Optics, eq. 6-31)."""
    s = np.clip(relative, 0, 1)
    return np.asarray(2 / np.pi * (np.arccos(s) - s * np.sqrt(1 - s**2)))


def structure_area(microscope: SimMicroscope, travel_um: float = 0.0) -> Area:
    """Where to make a structure so that it fills the field and its guard band even after moving ``travel_um``."""
    return Area.of_field(microscope.shape, microscope.pixel_um, microscope.guard_px * microscope.pixel_um + travel_um)


def pattern_at(positions: Array, vector: Array, phase: float, modulation: Array) -> Array:
    """Excitation at ``positions`` (n, 2) um, mean 1 (see :meth:`SimMicroscope.calibration`)."""
    q = 2 * np.pi * (positions @ np.asarray(vector)) + phase
    return np.asarray(1 + sum(m * np.cos((o + 1) * q) for o, m in enumerate(modulation)))


def _haze(positions: Array, weights: Array, grid: FineGrid) -> NDArray[np.float32]:
    """The sample far out of focus, mean 1."""
    blur = np.exp(-2 * (np.pi * HAZE_UM * grid.frequency) ** 2)
    image = np.maximum(grid.seen(grid.spectra(positions, weights[:, None])[0], blur), 0)
    return np.asarray(image / image.mean())


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
        The recording with its truth, in photons: a uniform sample of value v gives a mean frame of v.
    """
    m, grid = microscope, FineGrid(microscope.shape, microscope.pixel_um, microscope.guard_px)
    times, calibration = m.times(acquisitions), m.calibration(seed)
    vectors = np.array(calibration["pattern_vectors"])

    def light(t: int, angle: int, phase: int) -> Callable[[Array], Array]:
        shift, modulation = calibration["phases"][angle][phase], calibration["modulation"][angle]
        intensity = calibration["intensity"][angle][phase]
        return lambda at: pattern_at(at, vectors[angle], shift, modulation) * intensity

    transfer = incoherent_transfer(grid.frequency / m.cutoff)
    exposed = expose(points, motion, m, grid, times, transfer, light, truth_times)
    clean = exposed.clean
    if m.haze:
        clean += _haze(points.position, points.weight, grid) * np.float32(m.haze * clean.mean())
    return SimRecording(
        frames=camera(clean, offset=m.offset, read_noise=m.read_noise, seed=seed),
        clean=clean,
        times=times,
        truth=exposed.truth,
        truth_times=exposed.truth_times,
        spacing_um=(m.pixel_um / TRUTH_RATIO,) * 2,
        calibration=calibration,
        motion=motion,
        microscope=m,
        points=points.scaled(exposed.brightness),
    )
