"""A structured illumination microscope that records moving points in depth, plane by plane.

The pattern of three beams also varies along z and rests in the focal plane while the sample is stepped through it
(Gustafsson et al., Biophys. J. 94, 4957, 2008). Every plane of every frame has an exposure of its own, so the sample
moves on between planes; light of what lies above or below comes from beyond the recorded planes too. The transfer
functions are written down here once more on purpose: a reconstruction is not tested with its own optics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from nstm.acquisition import computed_times
from nstm.simulate.camera import camera, instants, light_left
from nstm.simulate.grid import TRUTH_RATIO, FineGrid, roll_off
from nstm.simulate.motion import Motion
from nstm.simulate.recording import SimRecording
from nstm.simulate.sim import SimMicroscope
from nstm.simulate.structures import Points

Array = NDArray[np.float64]

#: What the factors of the transfer function leave out, relative to its largest singular value.
_NEGLIGIBLE = 1e-5
#: Nodes of the quadrature over the pupil, along each of two axes.
_NODES = 40


@dataclass(frozen=True)
class VolumeMicroscope(SimMicroscope):
    """A three-beam microscope that steps the sample through its focus; see :class:`SimMicroscope`.

    ``order`` is the order of the exposures within an acquisition, slowest first: ``angle z phase`` (all phases at a
    plane, then the next plane), ``z angle phase`` (fast mode: all frames at a plane) or ``angle phase z`` (a stack
    per frame). ``axial_phase_rad`` is the phase of the axial pattern in the focal plane.
    """

    shape: tuple[int, int] = (64, 64)
    pixel_um: float = 0.08
    planes: int = 8
    z_step_um: float = 0.125
    beams: int = 3
    phases: int = 5
    modulation: tuple[tuple[float, ...], ...] = ((0.9, 0.6), (0.85, 0.55), (0.95, 0.65))
    axial_phase_rad: float = 0.0
    order: str = "angle z phase"
    exposure_s: float = 0.005
    z_delay_s: float = 0.001
    sub_exposures: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if sorted(self.order.split()) != ["angle", "phase", "z"]:
            raise ValueError(f"order = {self.order!r} must hold angle, phase and z once each")

    def times(self, acquisitions: int) -> Array:
        """Middle of every exposure, ``(acquisition, angle, phase, z)``."""
        return computed_times(
            acquisitions,
            {"angle": self.angles, "phase": self.phases, "z": self.planes},
            exposure_s=self.exposure_s,
            delays_s={"angle": self.orientation_delay_s, "phase": self.phase_delay_s, "z": self.z_delay_s},
            interval_s=self.acquisition_interval_s,
            order=self.order.split(),
        )

    @property
    def axial_frequency(self) -> float:
        """Frequency of the three-beam pattern along z, cycles/um: the outer beams are tilted by ``b``.

        A beam of wave number ``n / lambda`` and lateral frequency ``p`` has the axial one ``sqrt((n/lambda)^2 - p^2)``.
        """
        wave = self.index / self.excitation_wavelength_um
        return wave - math.sqrt(wave**2 - (self.finest_share * self.cutoff / 2) ** 2)

    @property
    def axial_reach(self) -> float:
        """Highest axial frequency that reaches the data, cycles/um: detection and pattern."""
        wave = self.index / self.emission_wavelength_um
        seen = wave - math.sqrt(wave**2 - (self.na / self.emission_wavelength_um) ** 2)
        return seen + (self.axial_frequency if self.beams == 3 else 0.0)


def defocus_transfer(f: Array, z: Array, *, na: float, index: float, wavelength_um: float) -> Array:
    """Transfer of what lies ``z`` um out of focus at lateral frequencies ``f``, ``(len(z), len(f))``; 1 at f = 0.

    McCutchen's autocorrelation of the pupil's cap (J. Opt. Soc. Am. 54, 240, 1964), ``int a(u + f/2) a(u - f/2)
    cos(2 pi z (kz(u + f/2) - kz(u - f/2))) d2u`` over the overlap of two shifted pupils, by Gauss-Legendre nodes that
    follow its rim; ``kz = sqrt((n/lambda)^2 - u^2)`` and, for the sine condition, ``a = kz^(-1/2)``.
    """
    radius, wave = na / wavelength_um, index / wavelength_um
    node, weight = np.polynomial.legendre.leggauss(_NODES)
    node, weight = (node + 1) / 2, weight / 2
    turn = node * np.pi / 2

    def at(f: float) -> Array:
        tall = math.sqrt(max(radius**2 - f**2 / 4, 0.0))
        uy = (tall * np.sin(turn))[:, None]
        wide = np.maximum(np.sqrt(radius**2 - uy**2) - f / 2, 0)
        ux = wide * node
        area = (weight * tall * np.cos(turn))[:, None] * (weight * wide)
        kz = [np.sqrt(wave**2 - uy**2 - (ux + side * f / 2) ** 2) for side in (1, -1)]
        seen = (area / np.sqrt(kz[0] * kz[1])).ravel()
        return np.asarray(np.cos(2 * np.pi * z[:, None] * (kz[0] - kz[1]).ravel()) @ seen)

    return np.stack([at(float(one)) for one in f], axis=1) / at(0.0)[:, None]


class _Optics:
    """The transfer function of defocus and frequency as a short sum of products ``depth_r(z) lateral_r(f)``.

    So a plane sees points at any depth through a few images, each with weights of its own.
    """

    def __init__(self, m: VolumeMicroscope, farthest_um: float) -> None:
        # both samplings resolve what the aperture lets through at the farthest depth
        z = np.linspace(0, farthest_um, 8 + math.ceil(16 * farthest_um * m.axial_reach))
        f = np.linspace(0, m.cutoff, 64 + math.ceil(16 * farthest_um * m.axial_reach))
        table = defocus_transfer(f, z, na=m.na, index=m.index, wavelength_um=m.emission_wavelength_um)
        depth, size, lateral = np.linalg.svd(table, full_matrices=False)
        rank = int(np.sum(size > _NEGLIGIBLE * size[0]))
        self._depth = CubicSpline(z, depth[:, :rank] * size[:rank])
        self._lateral, self.cutoff = CubicSpline(f, lateral[:rank].T), m.cutoff

    def depth(self, z: Array) -> Array:
        """``(n, r)`` at the distances ``z`` (n,) from the focal plane, um."""
        return np.asarray(self._depth(np.abs(z)))

    def lateral(self, f: Array) -> Array:
        """``(r, *f.shape)`` at the frequencies ``f``, cycles/um."""
        values = np.moveaxis(self._lateral(np.minimum(f, self.cutoff)), -1, 0)
        return np.where(f < self.cutoff, values, 0.0)


def pattern_in_depth(
    positions: Array, focus_um: float, m: VolumeMicroscope, vector: Array, phase: float, modulation: Any
) -> Array:
    """Excitation at ``positions`` (n, 3) um with the focus at ``focus_um``.

    Three beams: order 1 varies as ``cos(2 pi kappa (z - focus) + axial phase)``, order 2 not at all along z.
    """
    q = 2 * np.pi * (positions[:, 1:] @ vector) + phase
    if m.beams == 2:
        return np.asarray(1 + modulation[0] * np.cos(q))
    axial = np.cos(2 * np.pi * m.axial_frequency * (positions[:, 0] - focus_um) + m.axial_phase_rad)
    return np.asarray(1 + modulation[0] * np.cos(q) * axial + modulation[1] * np.cos(2 * q))


def simulate_volume(
    points: Points,
    motion: Motion,
    microscope: VolumeMicroscope,
    acquisitions: int,
    seed: int = 0,
    truth_times: Array | None = None,
) -> SimRecording:
    """Record moving points in depth.

    Args:
        points: emitters at rest, (z, y, x); z = 0 is the first plane. Brightness is scaled to ``photons``.
        motion: their displacement in time.
        microscope: the instrument.
        acquisitions: number of acquisitions.
        seed: of pattern phases and noise.
        truth_times: times of the truth, s; default: the mean time of every frame.

    Returns:
        The recording with its truth: light per camera pixel and plane, (n, z, 2y, 2x), limited along z to what the
        planes can hold. A frame holds all light of its depth, so the planes of the truth, with those beyond the
        stack, add up to the mean of a frame's plane.
    """
    m, grid = microscope, FineGrid(microscope.shape, microscope.pixel_um, microscope.guard_px)
    times, calibration = m.times(acquisitions), m.calibration(seed)
    truth_times = np.asarray(times.mean(axis=-1).ravel() if truth_times is None else truth_times, np.float64)
    follow, left = motion.followed(points.position), light_left(m.bleaching, times)
    clean = _planes(grid, m, follow, points.weight, times, calibration)
    clean *= np.vectorize(left)(times)[..., None, None].astype(np.float32)
    brightness = m.photons / np.percentile(clean.mean(axis=(0, 1, 2)), 99.9)
    clean = np.maximum(clean * np.float32(brightness), 0) + np.float32(m.background)
    truth = [_truth(grid, m, follow(t), points.weight * left(t)) for t in truth_times.tolist()]
    return SimRecording(
        frames=camera(clean, offset=m.offset, read_noise=m.read_noise, seed=seed),
        clean=clean,
        times=times,
        truth=np.stack(truth) * np.float32(brightness),
        truth_times=truth_times,
        spacing_um=(m.z_step_um, m.pixel_um / TRUTH_RATIO, m.pixel_um / TRUTH_RATIO),
        calibration=calibration,
        motion=motion,
        microscope=m,
        points=points.scaled(float(brightness)),
    )


def _planes(
    grid: FineGrid,
    m: VolumeMicroscope,
    follow: Callable[[float], Array],
    light: Array,
    times: Array,
    calibration: dict[str, Any],
) -> NDArray[np.float32]:
    """The planes of all frames ``(t, angle, phase, z, y, x)``, in the order in which they are taken."""
    order = np.argsort(times, axis=None, kind="stable")
    exposures = list(zip(*(i.tolist() for i in np.unravel_index(order, times.shape)), strict=True))
    optics = _Optics(m, _farthest(m, follow, times))
    lateral = optics.lateral(grid.frequency).astype(np.float32)
    planes = np.zeros((*times.shape, *m.shape), np.float32)
    for index in exposures:
        _, a, p, z = index
        vector, phase = np.array(calibration["pattern_vectors"][a]), calibration["phases"][a][p]
        spectrum = np.zeros(grid.frequency.shape, np.complex64)
        for now in instants(float(times[index]), m.exposure_s, m.sub_exposures):
            at, focus = follow(now), z * m.z_step_um
            lit = light * pattern_in_depth(at, focus, m, vector, phase, calibration["modulation"][a])
            parts = grid.spectra(at[:, 1:], lit[:, None] * optics.depth(at[:, 0] - focus))
            spectrum += np.einsum("rvh,rvh->vh", parts, lateral)
        scale = calibration["intensity"][a][p] / m.sub_exposures
        planes[index] = grid.seen(spectrum, np.ones(())) * np.float32(scale)
    return planes


def _farthest(m: VolumeMicroscope, follow: Callable[[float], Array], times: Array) -> float:
    """Largest distance of any point from a focal plane, um, with room for what happens within exposures."""
    top = (m.planes - 1) * m.z_step_um
    depths = [follow(t)[:, 0] for t in np.sort(times, axis=None)[:: m.planes].tolist()]
    low, high = min(float(z.min()) for z in depths), max(float(z.max()) for z in depths)
    return max(top - low, high, 0.1) * 1.1


def _truth(grid: FineGrid, m: VolumeMicroscope, at: Array, light: Array) -> NDArray[np.float32]:
    """The points as planes: along z through a filter that the distance of the planes can hold."""
    nyquist = 0.5 / m.z_step_um
    end = 0.98 * nyquist
    f = (np.arange(256) + 0.5) / 256 * end
    passed = roll_off(f, min(m.axial_reach, 0.8 * nyquist), end)
    distance = np.linspace(0, np.ptp(at[:, 0]) + m.planes * m.z_step_um + np.abs(at[:, 0]).max(), 4096)
    kernel = CubicSpline(distance, 2 * np.cos(2 * np.pi * distance[:, None] * f) @ passed * (end / 256) * m.z_step_um)
    focus = np.arange(m.planes) * m.z_step_um
    return grid.limited(grid.spectra(at[:, 1:], light[:, None] * kernel(np.abs(at[:, :1] - focus))))
