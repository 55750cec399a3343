"""Bands of structured illumination: separation of the frames and search of the pattern vector.

A frame is ``D_p = sum_o C_o exp(i o phase_p) + conj.`` with ``C_o(f) = OTF(f) m_o/2 S(f - o k)`` and
``C_0 = OTF S`` (Gustafsson 2000; 2008, eqs 3 to 6). ``C_o`` and ``C_0`` shifted by ``o k`` see the same part of the
scene wherever both transfer functions reach; everything here is about that overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.fft

from nstm.optics.grids import frequencies
from nstm.optics.otf import cutoff, detection_otf

#: Borders are softened over this many pixels; a wider taper throws light away.
EDGE_PX = 15
#: Bins beside the found peak that belong to it.
PEAK_BINS = 5


@dataclass(frozen=True)
class Detection:
    """The detection optics on the grid of the camera."""

    shape: tuple[int, int]
    pixel_um: float
    na: float
    wavelength_um: float
    pixel_integration: bool

    @property
    def cutoff(self) -> float:
        """``2 NA / lambda``, cycles/um."""
        return cutoff(self.na, self.wavelength_um)

    @cached_property
    def plain_radius(self) -> np.ndarray:
        """``|f|`` on the FFT grid, cycles/um."""
        return self.radius()

    @property
    def bin(self) -> np.ndarray:
        """Pitch of the frequency grid along y and x, cycles/um."""
        return 1.0 / (np.array(self.shape) * self.pixel_um)

    def transfer(
        self, shift: np.ndarray | tuple[float, float] = (0.0, 0.0), mask: np.ndarray | None = None
    ) -> np.ndarray:
        """OTF at ``f - shift`` on the FFT grid or, as a vector, where ``mask`` holds (shift (y, x) in cycles/um)."""
        fy, fx = frequencies(self.shape, self.pixel_um)
        fy, fx = fy - np.float32(shift[0]), fx - np.float32(shift[1])
        if mask is not None:
            rows, columns = np.nonzero(mask)
            fy, fx = fy[rows, 0], fx[0, columns]
        return detection_otf(fy, fx, self.na, self.wavelength_um, self.pixel_um, self.pixel_integration)

    def radius(self, shift: np.ndarray | tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
        """``|f - shift|`` on the FFT grid, cycles/um."""
        fy, fx = frequencies(self.shape, self.pixel_um)
        return np.hypot(fy - np.float32(shift[0]), fx - np.float32(shift[1]))

    def wave(self, k: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``exp(i 2 pi k.r)`` as a column (y) and a row (x), r from the centre of pixel (0, 0)."""
        y, x = (np.arange(n) * self.pixel_um for n in self.shape)
        return (
            np.exp(2j * np.pi * k[0] * y)[:, None].astype(np.complex64),
            np.exp(2j * np.pi * k[1] * x)[None, :].astype(np.complex64),
        )


def soft_edges(shape: tuple[int, int]) -> np.ndarray:
    """Window that is 1 inside and falls to 0 like a cosine over the border."""

    def side(n: int) -> np.ndarray:
        width = max(1, min(EDGE_PX, n // 8))
        ramp = np.sin(0.5 * np.pi * (np.arange(width) + 0.5) / width) ** 2
        return np.concatenate([ramp, np.ones(n - 2 * width), ramp[::-1]])

    return (side(shape[0])[:, None] * side(shape[1])[None, :]).astype(np.float32)


def nominal_phases(phases: int) -> np.ndarray:
    """Equal steps over one period, rad."""
    return 2 * np.pi * np.arange(phases) / phases


def separation_matrix(phases: np.ndarray, intensity: np.ndarray, orders: int) -> np.ndarray:
    """Weights that separate frames into bands by least squares.

    Args:
        phases: phase of each frame, rad, of order 1.
        intensity: relative intensity of each frame.
        orders: 1 (two beams) or 2 (three beams).

    Returns:
        complex ``(orders + 1, frames)``: row ``o`` times the frames gives ``C_o`` (row 0 is real).
    """
    columns = np.empty((phases.size, 2 * orders + 1))
    columns[:, 0] = intensity
    for o in range(1, orders + 1):
        columns[:, 2 * o - 1] = 2 * np.cos(o * phases) * intensity
        columns[:, 2 * o] = -2 * np.sin(o * phases) * intensity
    normal = columns.T @ columns
    normal.flat[:: 2 * orders + 2] += 1e-9  # phases that coincide give huge weights, not an error
    inverse = np.linalg.solve(normal, columns.T)
    out = inverse[0::2].astype(complex)
    out[1:] = inverse[1::2] + 1j * inverse[2::2]
    return out


def noise_covariance(spectra: np.ndarray, radius: np.ndarray, passband: float) -> np.ndarray:
    """Covariance of the frames' noise per bin, ``(frames, frames)``.

    Measured beyond the passband, or at the finest frequencies where the camera ends before it.
    """
    limit = min(0.98 * passband, float(np.quantile(radius[:: max(1, radius.shape[0] // 64)], 0.97)))
    outside = spectra[:, radius > limit]
    return (outside.conj() @ outside.T).real.astype(float) / outside.shape[1]


def radial_mean(power: np.ndarray, radius: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean of ``power`` over rings of width ``step``; returns (ring radii, means)."""
    ring = (radius / step).astype(np.int32).ravel()
    count = np.bincount(ring)
    total = np.bincount(ring, weights=power.ravel())
    return (np.arange(count.size) + 0.5) * step, total / np.maximum(count, 1)


@dataclass(frozen=True)
class Peak:
    """Where band +1 (and +2) match band 0 best."""

    k: np.ndarray  # (y, x), cycles/um, order 1
    strength: float  # power of the peak over the mean power of chance matches
    ratio: float  # power over that of the next best place
    ratio_mirrored: float  # power over that at -k: phases that step the other way


def _whitened(band: np.ndarray, detection: Detection, noise: float, reference: bool) -> np.ndarray:
    """Band weighted so that every frequency counts by its signal-to-noise, back in real space."""
    radius = detection.plain_radius
    rings, mean = radial_mean(np.abs(band) ** 2, radius, float(detection.bin.max()))
    if reference:
        transfer = detection_otf(
            rings, rings * 0, detection.na, detection.wavelength_um, detection.pixel_um, detection.pixel_integration
        )
        gain = np.maximum(mean - noise, 0) / (np.maximum(transfer, 0.03) * np.maximum(mean, 1e-30))
        weight = np.interp(radius, rings, gain)
    else:
        weight = detection.transfer() / np.maximum(np.interp(radius, rings, mean), 1e-30)
    weight[radius >= 0.97 * detection.cutoff] = 0
    return band * weight.astype(np.float32)


def _match_power(order: np.ndarray, zero: np.ndarray, grid: tuple[int, int], oversample: int) -> np.ndarray:
    """Power of the cross-correlation of two whitened spectra over that of chance, mean 1, FFT order."""
    p, q = (scipy.fft.ifft2(_embed(s, grid), workers=1) for s in (order, zero))
    size = (grid[0] * oversample, grid[1] * oversample)
    spectrum = scipy.fft.fft2(p * np.conj(q), s=size, workers=1)
    found = spectrum.real**2 + spectrum.imag**2
    # chance depends on |k| through the size of the overlap: the geometric mean of a ring does not see a peak
    logs = np.log(np.maximum(found, np.float32(1e-30)))
    radius = _index_radius(size, (1.0 / grid[0] / oversample, 1.0 / grid[1] / oversample))
    step = 4.0 / max(size)
    _, mean = radial_mean(logs, radius, step)
    return found * np.exp(-mean - np.euler_gamma).astype(np.float32)[(radius / step).astype(np.int32)]


def _index_radius(shape: tuple[int, int], step: tuple[float, float] | np.ndarray) -> np.ndarray:
    ky = np.fft.fftfreq(shape[0], 1 / shape[0])[:, None].astype(np.float32) * np.float32(step[0])
    kx = np.fft.fftfreq(shape[1], 1 / shape[1])[None, :].astype(np.float32) * np.float32(step[1])
    return np.hypot(ky, kx)


def _embed(spectrum: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Place a spectrum (FFT order) in a larger grid of zeros."""
    if spectrum.shape == tuple(grid):
        return spectrum
    out = np.zeros(grid, spectrum.dtype)
    h, w = spectrum.shape
    rows = np.fft.fftfreq(h, 1 / h).astype(int) % grid[0]
    columns = np.fft.fftfreq(w, 1 / w).astype(int) % grid[1]
    out[np.ix_(rows, columns)] = spectrum
    return out


def find_peak(bands: list[np.ndarray], detection: Detection, noise: float, limits: tuple[float, float]) -> Peak:
    """Search the pattern vector without a guess.

    Args:
        bands: spectra ``C_0, C_1(, C_2)`` on the FFT grid, separated with the nominal phases.
        detection: detection optics.
        noise: noise power per bin of the bands.
        limits: smallest and largest ``|k|`` of the finest order, cycles/um.

    Returns:
        The best match; for three beams both orders count, order 2 at exactly twice the vector.
    """
    orders = len(bands) - 1
    # the whole disc must be seen once: a camera that samples at its own limit is refined first
    fine = 1 / detection.pixel_um < 2.05 * limits[1]
    zoom = 2 if fine else 1
    grid = (detection.shape[0] * zoom, detection.shape[1] * zoom)
    zero = _whitened(bands[0], detection, noise, reference=True)
    total: np.ndarray | None = None
    for o in range(1, orders + 1):
        band = _whitened(bands[o], detection, noise, reference=False)
        # samples of half a bin in the vector of order 1: the finest order needs none between its bins
        oversample = 2 if o == 1 else 1
        power = _match_power(band, zero, grid, oversample)
        if o == 2:
            power = _embed(power, (grid[0] * 2, grid[1] * 2))
        total = power if total is None else total + power
    assert total is not None
    return _best(total, detection.bin / 2, orders, limits)


def _best(power: np.ndarray, step: np.ndarray, orders: int, limits: tuple[float, float]) -> Peak:
    """Highest place of the ring that is searched, and what competes with it."""
    radius = _index_radius(power.shape, step) * orders
    power = np.where((radius >= limits[0]) & (radius <= limits[1]), power, 0)
    rows, columns = (np.fft.fftfreq(n, 1 / n).astype(int) for n in power.shape)
    y, x = np.unravel_index(int(np.argmax(power)), power.shape)
    strength = float(power[y, x])
    centre = np.array([rows[y], columns[x]])
    around = np.arange(-2 * PEAK_BINS, 2 * PEAK_BINS + 1)
    mirrored = np.ix_((around - centre[0]) % power.shape[0], (around - centre[1]) % power.shape[1])
    opposite = float(power[mirrored].max())
    power[mirrored] = 0
    power[np.ix_((around + centre[0]) % power.shape[0], (around + centre[1]) % power.shape[1])] = 0
    return Peak(
        k=centre * step,
        strength=strength / orders,
        ratio=strength / max(float(power.max()), 1e-30),
        ratio_mirrored=strength / max(opposite, 1e-30),
    )
