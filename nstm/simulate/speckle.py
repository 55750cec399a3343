"""A microscope that records a moving sample under random, unknown light, one pattern per frame.

Emitters move through patterns that stand still during a frame; every frame is their image, blurred by the microscope
and the pixel, on a field larger than the camera's (so light enters from outside and nothing is periodic), with photon
and read noise. The emitters are lit where they are, on a grid four times finer than the camera, so the frames are free
of aliases. :func:`stack` is the periodic miniature of it, on the grid of a reconstruction, for training and tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from nstm.acquisition import computed_times
from nstm.optics.grids import fourier_resample
from nstm.simulate.camera import camera
from nstm.simulate.exposures import expose
from nstm.simulate.grid import FINE, TRUTH_RATIO, FineGrid
from nstm.simulate.motion import Motion
from nstm.simulate.random_light import projected_masks, speckle
from nstm.simulate.recording import Recording
from nstm.simulate.sim import incoherent_transfer
from nstm.simulate.structures import Points

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SpeckleMicroscope:
    """The instrument, its camera and its timing; lengths in um, times in s.

    A camera pixel of ``wavelength / (4 na)`` is at its Nyquist limit; results have twice as many. ``light`` is
    ``speckle`` (fully developed) or ``masks`` (a projected random mask of mirrors of ``mirror_um``, whose light has
    ``coherence`` times the aperture of the illumination). ``photons`` is the 99.9th percentile of the noise-free mean
    frame; ``bleaching`` the share of the light lost over the recording; with ``pixel_integration`` off a pixel takes a
    sample instead of the mean over its area.
    """

    shape: tuple[int, int] = (128, 128)
    pixel_um: float = 0.108
    na: float = 1.0
    illumination_na: float = 0.8
    emission_wavelength_um: float = 0.520
    excitation_wavelength_um: float = 0.488
    patterns: int = 20
    light: Literal["speckle", "masks"] = "speckle"
    mirror_um: float = 0.3
    coherence: float = 0.7
    pixel_integration: bool = True
    exposure_s: float = 0.005
    pattern_delay_s: float = 0.005
    acquisition_interval_s: float | None = None
    sub_exposures: int = 1
    photons: float = 500.0
    background: float = 0.0
    bleaching: float = 0.0
    offset: float = 100.0
    read_noise: float = 1.6
    guard_px: int = 16

    @property
    def cutoff(self) -> float:
        """Detection cutoff ``2 NA / lambda``, cycles/um."""
        return 2 * self.na / self.emission_wavelength_um

    @property
    def reach(self) -> float:
        """Highest frequency of the sample that reaches the data: detection cutoff and speckle band, cycles/um."""
        return self.cutoff + 2 * self.illumination_na / self.excitation_wavelength_um

    def times(self, acquisitions: int) -> Array:
        """Middle of every exposure, ``(acquisition, pattern)``; back to back unless an interval is set."""
        return computed_times(
            acquisitions,
            {"pattern": self.patterns},
            exposure_s=self.exposure_s,
            delays_s={"pattern": self.pattern_delay_s},
            interval_s=self.acquisition_interval_s,
            order=["pattern"],
        )

    def patterns_on(self, shape: tuple[int, int], pitch_um: float, number: int, rng: np.random.Generator) -> Array:
        """``number`` new patterns of mean 1 on a periodic grid."""
        optics = (shape, pitch_um, self.illumination_na, self.excitation_wavelength_um, number, rng)
        if self.light == "speckle":
            return speckle(*optics)
        return projected_masks(*optics, element_um=self.mirror_um, coherence=self.coherence)


@dataclass(frozen=True)
class SpeckleRecording(Recording):
    """Frames (t, pattern, y, x) under light that nobody measured.

    Attributes:
        patterns: (t, pattern, y, x) the light of every frame, mean 1, on the grid of the truth.
        points: the emitters at rest, weights in photons per exposure.
    """

    patterns: NDArray[np.float32] = field(repr=False)
    points: Points = field(repr=False)


def simulate_speckle(
    points: Points,
    motion: Motion,
    microscope: SpeckleMicroscope,
    acquisitions: int,
    seed: int = 0,
    truth_times: Array | None = None,
) -> SpeckleRecording:
    """Record moving points.

    Args:
        points: emitters at rest; their brightness is scaled to ``microscope.photons``.
        motion: their displacement in time.
        microscope: the instrument.
        acquisitions: number of acquisitions of ``patterns`` frames, every frame with a pattern of its own.
        seed: of patterns and noise.
        truth_times: times of the truth, s; default: the middle of every exposure.

    Returns:
        The recording with its truth, in photons: a uniform sample of value v gives a mean frame of v.
    """
    m, grid = microscope, FineGrid(microscope.shape, microscope.pixel_um, microscope.guard_px)
    times, rng = m.times(acquisitions), np.random.default_rng([seed, 1])
    patterns = np.zeros((*times.shape, *(n * TRUTH_RATIO for n in m.shape)), np.float32)

    def light(t: int, frame: int) -> Callable[[Array], Array]:
        pattern = m.patterns_on(grid.shape, grid.step, 1, rng)[0]
        patterns[t, frame] = _in_field(pattern, m)

        def lit(at: Array) -> Array:
            places = (at / grid.step + m.guard_px * FINE).T
            return np.maximum(map_coordinates(pattern, places, order=3, mode="grid-wrap"), 0)

        return lit

    transfer = incoherent_transfer(grid.frequency / m.cutoff)
    if not m.pixel_integration:
        transfer = transfer / grid.pixel
    exposed = expose(points, motion, m, grid, times, transfer, light, truth_times)
    return SpeckleRecording(
        frames=camera(exposed.clean, offset=m.offset, read_noise=m.read_noise, seed=seed),
        clean=exposed.clean,
        times=times,
        truth=exposed.truth,
        truth_times=exposed.truth_times,
        spacing_um=(m.pixel_um / TRUTH_RATIO,) * 2,
        calibration={},
        motion=motion,
        microscope=m,
        patterns=patterns,
        points=points.scaled(exposed.brightness),
    )


def _in_field(light: Array, m: SpeckleMicroscope) -> Array:
    """What of a pattern on the fine grid lies in the camera's field, on the truth's grid."""
    ratio, first = FINE // TRUTH_RATIO, m.guard_px * FINE
    height, width = (n * FINE for n in m.shape)
    return light[first : first + height : ratio, first : first + width : ratio]


@dataclass(frozen=True)
class Stack:
    """One still object under L patterns, periodic, on the grid of its reconstruction.

    Attributes:
        frames: (L, y, x) noisy, in units in which the object's largest value is 1; float32.
        clean: (L, y, x) the same without noise.
        patterns: (L, y, x) of mean 1.
        noise_energy: expected ``sum (frames - clean)^2``.
    """

    frames: NDArray[np.float32]
    clean: NDArray[np.float32]
    patterns: NDArray[np.float32]
    noise_energy: float


def stack(
    density: NDArray[np.floating],
    microscope: SpeckleMicroscope,
    pitch_um: float,
    seed: int,
    *,
    binning: Literal[1, 2] = 1,
) -> Stack:
    """Image a density on the alias-free grid of a reconstruction.

    With ``pitch_um <= wavelength / (8 NA)`` and no coarser light than the detection, the aliases of object times
    pattern stay outside of what the objective passes.

    Args:
        density: (y, x), not negative.
        microscope: its optics, light and noise; ``photons`` is the largest noise-free value of a frame.
        pitch_um: distance of the samples, um.
        seed: of patterns and noise.
        binning: 1: the camera has the pixels of the grid; 2: pixels of 2 x 2, each the mean over its area (a sample
            where ``pixel_integration`` is off), brought back to the grid by their spectrum.

    Raises:
        ValueError: the density is dark or negative.
    """
    m, rng = microscope, np.random.default_rng([seed, 3])
    if density.min() < 0 or not density.max() > 0:
        raise ValueError("the density must not be negative, and somewhere above 0")
    shape = density.shape[0], density.shape[1]
    patterns = m.patterns_on(shape, pitch_um, m.patterns, rng)
    spectra = scipy.fft.rfft2(density / density.max() * patterns)
    clean = scipy.fft.irfft2(spectra * transfer_on(shape, m, pitch_um, binning), s=shape)
    seen = np.maximum(clean[:, ::binning, ::binning], 0)
    per_unit = m.photons / seen.max()
    counts = rng.poisson(seen * per_unit + m.background) + rng.normal(0, m.read_noise, seen.shape)
    variance = (seen * per_unit + m.background + m.read_noise**2) / per_unit**2
    frames = (counts - m.background) / per_unit
    return Stack(
        frames=fourier_resample(frames, shape),
        clean=clean.astype(np.float32),
        patterns=patterns.astype(np.float32),
        noise_energy=float(variance.sum() * binning**2),
    )


def transfer_on(shape: tuple[int, int], m: SpeckleMicroscope, pitch_um: float, binning: int = 1) -> Array:
    """Transfer ``(y, x // 2 + 1)`` of objective and camera pixel on the half spectrum of a grid."""
    fy, fx = np.fft.fftfreq(shape[0], pitch_um)[:, None], np.fft.rfftfreq(shape[1], pitch_um)[None, :]
    transfer = incoherent_transfer(np.hypot(fy, fx) / m.cutoff)
    if m.pixel_integration and binning > 1:
        transfer = transfer * np.sinc(fy * binning * pitch_um) * np.sinc(fx * binning * pitch_um)
    return transfer
