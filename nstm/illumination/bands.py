"""Bands of structured illumination: separation of the frames and search of the pattern vector.

A frame is ``D_p = sum_o C_o exp(i o phase_p) + conj.`` with ``C_o(f) = OTF(f) m_o/2 S(f - o k)`` and
``C_0 = OTF S`` (Gustafsson 2000; 2008, eqs 3 to 6). ``C_o`` and ``C_0`` shifted by ``o k`` see the same part of the
scene wherever both transfer functions reach; everything here is about that overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.fft

from nstm.optics.grids import frequencies
from nstm.optics.lens import Lens
from nstm.optics.otf import RadialOtf, pixel_transfer

#: Borders are softened over this many pixels. A wider taper throws light away and, as both bands are blurred before it,
#: turns the phase of the one against the other on its slopes, which moves the vector; a sharper one rings.
EDGE_PX = 8
#: Bins beside the found peak that belong to it.
PEAK_BINS = 5
#: Frequencies that must hold signal; with fewer there is nothing to compare.
LEAST_BINS = 200
#: Transfer down to which band 0 is made flat before it is compared: of a plane, and of a stack.
FLATTENED = (0.03, 0.3)
#: Planes of empty space behind a stack, as a share of its planes: its ends do not meet.
EMPTY_PLANES = 0.5
#: Transfer of a stack below which nothing is compared, as light from beyond its ends is as strong there; as a share of
#: the strongest further out than USUAL_FREQUENCY (of the cut-off).
LEAST_TRANSFER, USUAL_FREQUENCY = 0.2, 0.3


@dataclass(frozen=True)
class Detection:
    """The detection optics on the grid of the camera.

    The planes of a stack stand in axial Fourier space: arrays of frequencies are ``(kz, y, x)``, of which only those
    are kept that order 0 transfers. A single plane has one, ``kz = 0``.
    """

    shape: tuple[int, int]
    pixel_um: float
    pixel_integration: bool
    otf: RadialOtf  # at `axial` only
    passed: RadialOtf | None  # of a stack: what it passes there of a sample that goes on beyond its ends
    axial: np.ndarray  # indices along kz, FFT order
    depth: int  # planes of the stack and of the empty space behind it
    least_transfer: float  # below which nothing is compared

    @classmethod
    def of(cls, shape: tuple[int, int, int], lens: Lens, orders: int, pattern_frequency: float) -> Detection:
        """For frames of ``(z, y, x)``; see :meth:`nstm.optics.lens.Lens.otf`."""
        depth = shape[0] + math.ceil(EMPTY_PLANES * shape[0]) if shape[0] > 1 else 1
        otf = lens.otf(depth, orders, pattern_frequency)
        usual = np.abs(otf.tables[0][:, round(USUAL_FREQUENCY * otf.cutoff / otf.pitch) :])
        least = LEAST_TRANSFER * float(usual.max()) if depth > 1 else 0.0
        axial = np.nonzero(usual.max(axis=1) > least)[0]
        passed = lens.otf(2 * depth, orders, pattern_frequency).within(shape[0], depth, axial) if depth > 1 else None
        return cls(shape[1:], lens.pixel_um, lens.pixel_integration, otf.at_planes(axial), passed, axial, depth, least)

    @property
    def cutoff(self) -> float:
        """``2 NA / lambda``, cycles/um."""
        return self.otf.cutoff

    @cached_property
    def plain_radius(self) -> np.ndarray:
        """``|f|`` on the FFT grid, cycles/um."""
        return self.radius()

    @property
    def bin(self) -> np.ndarray:
        """Pitch of the frequency grid along y and x, cycles/um."""
        return 1.0 / (np.array(self.shape) * self.pixel_um)

    def axial_spectra(self, frames: np.ndarray) -> np.ndarray:
        """Frames ``(n, z, y, x)`` in axial Fourier space, ``(n, kz, y, x)``; a single plane stays as it is."""
        if self.depth == 1:
            return frames
        wave = np.exp(-2j * np.pi / self.depth * np.outer(self.axial, np.arange(frames.shape[1])))
        flat = frames.reshape(*frames.shape[:2], -1)
        return (wave.astype(np.complex64) @ flat).reshape(len(frames), -1, *self.shape)

    @cached_property
    def plain_ring(self) -> np.ndarray:
        """Ring of each frequency, one bin wide."""
        return ring_index(self.plain_radius, float(self.bin.max()))

    def ends(self, order: int, shift: np.ndarray, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Power of an order over that of order 0, in the stack, relative to their transfer functions alone.

        ``(kz, n)``, of order 0 at ``f - shift``: order 1 varies along z and loses more at the ends.
        """
        if self.passed is None:
            return np.ones((1, at[0].size), np.float32)
        power = []
        for o, moved in ((order, np.zeros(2)), (0, shift)):
            fy, fx = frequencies(self.shape, self.pixel_um)
            radius = np.hypot((fy - np.float32(moved[0]))[at[0], 0], (fx - np.float32(moved[1]))[0, at[1]])
            power.append((np.abs(self.passed(o, radius)) / np.maximum(np.abs(self.otf(o, radius)), 1e-12)) ** 2)
        return power[0] / np.maximum(power[1], 1e-12)

    def ring_means(self, band: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ring radii (cycles/um) and mean power ``(kz, ring)`` of a band ``(kz, y, x)``."""
        return ring_means(np.abs(band) ** 2, self.plain_ring, float(self.bin.max()))

    def transfer(
        self,
        order: int,
        shift: np.ndarray | tuple[float, float] = (0.0, 0.0),
        at: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> np.ndarray:
        """OTF of an order at ``f - shift`` (cycles/um) on the FFT grid or, ``(kz, n)``, ``at`` rows and columns."""
        fy, fx = frequencies(self.shape, self.pixel_um)
        fy, fx = fy - np.float32(shift[0]), fx - np.float32(shift[1])
        everywhere = (slice(None), slice(None))
        found = self.otf(order, np.hypot(fy, fx) if at is None else np.hypot(fy[at[0], 0], fx[0, at[1]]))
        return found * pixel_transfer(fy, fx, self.pixel_um)[at or everywhere] if self.pixel_integration else found

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
        phases: ``(..., frames)``, phase of each frame, rad, of order 1.
        intensity: ``(..., frames)``, relative intensity of each frame.
        orders: 1 (two beams) or 2 (three beams).

    Returns:
        complex ``(..., orders + 1, frames)``: row ``o`` times the frames gives ``C_o`` (row 0 is real).
    """
    columns = np.empty((*phases.shape, 2 * orders + 1))
    columns[..., 0] = intensity
    for o in range(1, orders + 1):
        columns[..., 2 * o - 1] = 2 * np.cos(o * phases) * intensity
        columns[..., 2 * o] = -2 * np.sin(o * phases) * intensity
    rows = np.swapaxes(columns, -1, -2)
    # phases that coincide give huge weights, not an error
    inverse = np.linalg.solve(rows @ columns + 1e-9 * np.eye(2 * orders + 1), rows)
    out = inverse[..., 0::2, :].astype(complex)
    out[..., 1:, :] = inverse[..., 1::2, :] + 1j * inverse[..., 2::2, :]
    return out


def noise_covariance(spectra: np.ndarray, radius: np.ndarray, passband: float) -> np.ndarray:
    """Covariance of the frames' noise per bin, ``(frames, frames)``.

    Measured beyond the passband, or at the finest frequencies where the camera ends before it, in every second row.
    """
    radius = radius[::2]
    limit = min(0.98 * passband, float(np.quantile(radius[:: max(1, radius.shape[0] // 64)], 0.97)))
    outside = spectra[..., ::2, :][..., radius > limit].reshape(len(spectra), -1)
    return (outside.conj() @ outside.T).real.astype(float) / outside.shape[1]


def ring_index(radius: np.ndarray, step: float) -> np.ndarray:
    """Rings of width ``step`` in which frequencies lie."""
    return (radius * np.float32(1 / step)).astype(np.int32)


def radial_mean(power: np.ndarray, ring: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean of ``power`` over rings of width ``step``; returns (ring radii, means)."""
    count = np.bincount(ring.ravel())
    total = np.bincount(ring.ravel(), weights=power.ravel())
    return (np.arange(count.size) + 0.5) * step, total / np.maximum(count, 1)


@dataclass(frozen=True)
class Peak:
    """Where band +1 (and +2) match band 0 best."""

    k: np.ndarray  # (y, x), cycles/um, order 1
    strength: float  # power of the peak over the mean power of chance matches
    ratio: float  # power over that of the next best place
    ratio_mirrored: float  # power over that at -k: phases that step the other way


def ring_means(power: np.ndarray, ring: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Ring radii and means ``(kz, ring)`` of ``power`` ``(kz, y, x)``."""
    means = [radial_mean(plane, ring, step) for plane in power]
    return means[0][0], np.stack([mean for _, mean in means])


def on_rings(radius: np.ndarray, rings: np.ndarray, values: np.ndarray) -> np.ndarray:
    """``values`` ``(kz, ring)`` at ``radius``, interpolated: ``(kz, *radius.shape)``."""
    return np.stack([np.interp(radius, rings, row) for row in values])


def _whitened(band: np.ndarray, order: int, detection: Detection, noise: float) -> np.ndarray:
    """Band weighted so that every frequency counts by its signal-to-noise.

    Band 0 is divided by its transfer where that is large enough, the others are multiplied by theirs.
    """
    radius = detection.plain_radius
    rings, mean = detection.ring_means(band)
    if order == 0:
        transfer = detection.otf(0, rings)
        if detection.pixel_integration:
            transfer = transfer * pixel_transfer(rings, rings * 0, detection.pixel_um)
        flat = transfer.conj() / np.maximum(np.abs(transfer), FLATTENED[detection.depth > 1]) ** 2
        count = 2 * np.pi * rings * detection.bin.max() / np.prod(detection.bin)
        gain = np.maximum(mean - noise * (1 + 3 / np.sqrt(count)), 0) * flat / np.maximum(mean, 1e-30)
        if np.sum(count * (gain != 0)) < LEAST_BINS:  # chance, no structure
            gain[:] = 0
        weight = np.stack([np.interp(radius, rings, row) for row in gain])
    else:
        weight = detection.transfer(order).conj() / np.maximum(on_rings(radius, rings, mean), 1e-30)
    weight[:, radius >= 0.97 * detection.cutoff] = 0
    return band * weight.astype(np.float32 if np.isrealobj(weight) else np.complex64)


def _match_power(order: np.ndarray, zero: np.ndarray, grid: tuple[int, int], oversample: int) -> np.ndarray:
    """Power of the cross-correlation of two whitened spectra over that of chance, mean 1, FFT order."""
    product = np.zeros(grid, np.complex64)
    for p, q in zip(order, zero, strict=True):
        here, there = (scipy.fft.ifft2(_embed(s, grid), workers=1) for s in (p, q))
        product += here * np.conj(there)
    size = (grid[0] * oversample, grid[1] * oversample)
    spectrum = scipy.fft.fft(product, size[1], axis=1, workers=1)  # along x first: rows of zeros stay zeros
    spectrum = scipy.fft.fft(spectrum, size[0], axis=0, workers=1)
    found = spectrum.real**2 + spectrum.imag**2
    # chance depends on |k| through the size of the overlap: the geometric mean of a ring does not see a peak
    step = 4.0 / max(size)
    ring = _ring_index(size, (1.0 / size[0], 1.0 / size[1]), step)
    logs = np.log(np.maximum(found[::4], np.float32(1e-30)))
    _, mean = radial_mean(logs, ring[::4], step)
    found *= np.exp(-np.append(mean, mean[-1]) - np.euler_gamma).astype(np.float32)[ring]
    return found


@lru_cache(maxsize=4)
def _ring_index(shape: tuple[int, int], pitch: tuple[float, float], step: float) -> np.ndarray:
    return ring_index(_index_radius(shape, pitch), step)


@lru_cache(maxsize=4)
def _index_radius(shape: tuple[int, int], step: tuple[float, float]) -> np.ndarray:
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
        bands: spectra ``C_0, C_1(, C_2)`` ``(kz, y, x)`` on the FFT grid, separated with the nominal phases.
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
    zero = _whitened(bands[0], 0, detection, noise)
    total: np.ndarray | None = None
    for o in range(1, orders + 1):
        band = _whitened(bands[o], o, detection, noise)
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
    radius = _index_radius((power.shape[0], power.shape[1]), (float(step[0]), float(step[1])))
    power[(radius < limits[0] / orders) | (radius > limits[1] / orders)] = 0
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
