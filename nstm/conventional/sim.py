"""Conventional SIM of planes and stacks: generalised Wiener filter, not apodised (Gustafsson 2008, eq. 8).

Bands are separated in real space, moved by less than a bin on the camera's grid and by whole bins in the spectrum of
the result. A stack is transformed along z by products with small matrices (:mod:`nstm.conventional.axial`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import scipy.fft

from nstm.acquisition import DataError
from nstm.conventional.axial import LEAST_TRANSFER, AxialTransform, axial_axis
from nstm.conventional.padding import continued, padded_axis
from nstm.illumination.bands import radial_mean, ring_index, ring_means, separation_matrix
from nstm.optics.grids import fourier_resample, frequencies, rfrequencies
from nstm.optics.lens import Lens
from nstm.optics.otf import RadialOtf, pixel_transfer

#: Rings of the spectrum are used for the signal up to the first whose power is below this multiple of the noise.
SIGNAL_OVER_NOISE = 3.0
#: The transfer is never known so well that a smaller Wiener parameter would be right, in units of the mean transfer.
SMALLEST_PARAMETER = 5e-5

#: Around the centre of order 1 and 2, to this many bins (standard deviation), the order is not used: what is left there
#: of the mean of the frames, whose light is never known exactly, would be a stripe.
SINGULAR_BINS = 1.5
#: Frequencies around the centre of every order that an attenuation reaches (standard deviation), in cut-offs.
ATTENUATED = 0.2

Calibration = Mapping[str, Any]


@dataclass(frozen=True)
class _Band:
    """One order of one orientation on the small grid."""

    angle: int
    order: int
    ramp: np.ndarray  # moves the band by a fraction of a bin
    place: tuple[int, int]  # bin of the fine spectrum on which the band's centre falls
    gain: np.ndarray  # conj(OTF) x modulation / 2 x weight, on the box around the centre, (kz, y, x)


@dataclass(frozen=True)
class _Rings:
    """Rings of the half spectrum and what the weighted bands transfer there, ``(kz, ring)``."""

    index: np.ndarray  # (y, x), the ring of each frequency
    radius: np.ndarray  # cycles/um
    transfer: np.ndarray
    squared: np.ndarray
    reached: np.ndarray  # something is transferred
    smallest: float  # smallest Wiener parameter

    @classmethod
    def of(cls, radius: np.ndarray, step: float, transfer: np.ndarray) -> _Rings:
        """For ``transfer`` ``(kz, y, x)`` at ``radius`` ``(y, x)``."""
        index = ring_index(radius, step)
        rings, mean = ring_means(transfer, index, step)
        _, squared = ring_means(transfer**2, index, step)
        reached = squared > LEAST_TRANSFER**4 * squared.max()
        smallest = SMALLEST_PARAMETER * float(np.sum(transfer**2, dtype=float) / np.sum(transfer, dtype=float))
        return cls(index, rings, mean, squared, reached, smallest)

    def power(self, half: np.ndarray) -> np.ndarray:
        """Mean power of a half spectrum over each ring, from every second row; ``(kz, ring)``."""
        index = self.index[::2].ravel()
        count = np.maximum(np.bincount(index, minlength=self.radius.size), 1)
        rows = half[:, ::2].reshape(len(half), -1)
        sums = [np.bincount(index, row.real**2 + row.imag**2, self.radius.size) for row in rows]
        return np.stack(sums) / count


class Wiener:
    """The set-up for one illumination and field; calling it reconstructs frames.

    Args:
        field: height and width of the frames, camera pixel, or planes, height and width.
        calibrations: one per orientation: orientation ``a`` is taken from ``calibrations[a]``, which may belong to
            another acquisition (keys ``pattern_vectors, phases, modulation, intensity``).
        lens: the optics; of a stack also what only volumes need.
        ratio: result pixels per camera pixel along y and x.
        attenuation: share by which every order counts less at its centre, where light from out of focus is; the
            others see the same frequencies of the sample without it (0 to 1).
    """

    def __init__(
        self,
        field: tuple[int, ...],
        calibrations: Sequence[Calibration],
        lens: Lens,
        *,
        ratio: float,
        attenuation: float = 0.0,
    ) -> None:
        planes, *sides = field if len(field) == 3 else (1, *field)
        self.axes = (padded_axis(sides[0], ratio), padded_axis(sides[1], ratio))
        self.lens, self.pixel_um, self.cutoff = lens, lens.pixel_um, lens.cutoff
        self.attenuation = attenuation
        self.camera = (self.axes[0].camera, self.axes[1].camera)
        self.fine = (self.axes[0].fine, self.axes[1].fine)
        self.bin = 1.0 / (np.array(self.camera) * self.pixel_um)
        self.reach = tuple(
            min(math.ceil(self.cutoff / b) + 1, n // 2 - 1) for b, n in zip(self.bin, self.camera, strict=True)
        )
        self.box = np.ix_(*(np.arange(-r, r + 1) % n for r, n in zip(self.reach, self.camera, strict=True)))
        orders = len(calibrations[0]["modulation"][0])
        lengths = [math.hypot(*c["pattern_vectors"][a]) for a, c in enumerate(calibrations)]
        self.axial = axial_axis(planes, lens.z_step_um or 0.0, lambda n: lens.otf(n, orders, max(lengths)))
        self.to_planes = self.axial.to_planes
        self.to_axial: list[AxialTransform] = []  # of every order
        self.separation: list[np.ndarray] = []
        self.bands: list[_Band] = []
        kz = 2 * self.axial.reach + 1
        self.transfer = np.zeros((kz, self.fine[0], self.fine[1] // 2 + 1), np.float32)  # rows from -Nyquist
        self._set_up(calibrations, orders)
        self.reached = self.transfer > 1e-6 * float(self.transfer.max())
        self._rings = _Rings.of(self._fine_radius(), float(self.bin.max()), self.transfer)

    def _box_otf(self, otf: RadialOtf, order: int, shift: np.ndarray) -> np.ndarray:
        """OTF ``(kz, y, x)`` at ``f + shift`` on the box of frequencies around the origin (shift in cycles/um)."""
        fy, fx = self._box_frequencies(shift)
        found = otf(order, np.hypot(fy, fx))
        return found * pixel_transfer(fy, fx, self.pixel_um) if self.lens.pixel_integration else found

    def _box_frequencies(self, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``f + shift`` on the box along y ``(h, 1)`` and x ``(1, w)``, cycles/um."""
        y, x = (
            (np.arange(-r, r + 1) * b + d).astype(np.float32)
            for r, b, d in zip(self.reach, self.bin, shift, strict=True)
        )
        return y[:, None], x[None, :]

    def _weight(self, order: int, shift: np.ndarray) -> np.ndarray:
        """What each frequency of an order counts on the box, apart from its noise; see SINGULAR_BINS, ATTENUATED."""
        fy, fx = self._box_frequencies(shift)
        weight = 1 - self.attenuation * np.exp(-0.5 * (fy**2 + fx**2) / (ATTENUATED * self.cutoff) ** 2)
        if order:
            weight *= 1 - np.exp(-0.5 * ((fy / self.bin[0]) ** 2 + (fx / self.bin[1]) ** 2) / SINGULAR_BINS**2)
        return weight.astype(np.float32)

    def _set_up(self, calibrations: Sequence[Calibration], orders: int) -> None:
        angles = len(calibrations)
        levels = np.array([np.mean(c["intensity"][a]) for a, c in enumerate(calibrations)])
        # shot noise: an orientation with less light is noisier once its frames are brought to the same scale
        self.weights = levels / levels.mean() / angles
        lens = self.lens
        for a, calibration in enumerate(calibrations):
            phases = np.array(calibration["phases"][a])
            k, modulation = np.array(calibration["pattern_vectors"][a]), calibration["modulation"][a]
            tilted = (
                replace(lens, axial_phase_rad=calibration["axial_phase"][a]) if "axial_phase" in calibration else lens
            )
            whole = tilted.otf(self.axial.depth, orders, float(np.hypot(*k)))
            tables = whole.at_planes(self.axial.indices)
            matrix = separation_matrix(phases, np.array(calibration["intensity"][a]), orders)
            self.separation.append(np.concatenate([matrix.real, matrix.imag[1:]]).astype(np.float32))
            noise = np.sum(np.abs(matrix) ** 2, axis=1)
            if a == 0:
                zero, centred = self._box_otf(tables, 0, np.zeros(2)), self._weight(0, np.zeros(2))
                self.zero_gain = centred * zero.conj()
                if self.axial.depth > 1:
                    self.to_axial = [
                        AxialTransform(self.axial, whole, o, self._box_radius(), float(self.bin.max()))
                        for o in range(orders + 1)
                    ]
            self._add(self.transfer, self.weights[a] * centred * self._power(0, zero), (0, 0))
            for o, m in enumerate(modulation, 1):
                place = np.rint(o * k / self.bin)
                rest = o * k - place * self.bin
                otf = self._box_otf(tables, o, rest)
                quiet = float(self.weights[a] * noise[0] / noise[o])
                weight = self._weight(o, rest)
                gain = (quiet * 0.5 * m) * weight * otf.conj()
                self.bands.append(_Band(a, o, self._ramp(rest, place), (-int(place[0]), -int(place[1])), gain))
                power = (quiet * 0.25 * m * m) * weight * self._power(o, otf)
                self._add(self.transfer, power, self.bands[-1].place)
                self._add(self.transfer, power, (int(place[0]), int(place[1])), mirrored=True)

    def _ramp(self, rest: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Factors ``(y, x)`` that undo the part of the vector smaller than a bin; phase 0 at the field's origin."""
        ramps = []
        for i, axis in enumerate(self.axes):
            r = (np.arange(axis.camera) - axis.before) * self.pixel_um
            fixed = np.exp(2j * np.pi * place[i] * axis.before / axis.camera)
            ramps.append((np.exp(-2j * np.pi * rest[i] * r) * fixed).astype(np.complex64))
        return ramps[0][:, None] * ramps[1][None, :]

    def _add(self, half: np.ndarray, box: np.ndarray, centre: tuple[int, int], mirrored: bool = False) -> None:
        """Add a box of frequencies ``(kz, y, x)`` around ``centre`` to a half spectrum with rows from -Nyquist.

        ``mirrored``: add what a real image has at the opposite frequencies.
        """
        (ry, rx), (ny, nx) = self.reach, self.fine
        top, left = max(centre[0] - ry, -ny // 2 + 1), max(centre[1] - rx, 0)
        bottom, right = min(centre[0] + ry, ny // 2 - 1), min(centre[1] + rx, nx // 2 - 1)
        if top > bottom or left > right:
            return
        rows = slice(top - centre[0] + ry, bottom - centre[0] + ry + 1)
        columns = slice(left - centre[1] + rx, right - centre[1] + rx + 1)
        part = box[::-1, ::-1, ::-1][:, rows, columns].conj() if mirrored else box[:, rows, columns]
        half[:, top + ny // 2 : bottom + ny // 2 + 1, left : right + 1] += part

    def __call__(self, frames: np.ndarray, wiener: float | Literal["auto"] = "auto") -> np.ndarray:
        """Reconstruct.

        Args:
            frames: ``(angle, phase, y, x)`` or ``(angle, phase, z, y, x)``, offset removed.
            wiener: constant in units of the squared transfer at the origin, or ``auto``: noise over signal power.

        Returns:
            float32 ``(y * ratio, x * ratio)``, of a stack ``(z, ...)``, on the intensity scale of a camera pixel
            under mean illumination.
        """
        noise, half = self.combined(frames)
        constant = self.noise_to_signal(noise, half) if wiener == "auto" else np.float32(wiener)
        half *= self._filter(constant, gain=math.prod(self.fine) / math.prod(self.camera))
        if self.axial.depth > 1:
            half = np.tensordot(self.to_planes, half, 1)
        image = scipy.fft.irfft2(half, s=self.fine, overwrite_x=True, workers=1)
        image[:, 1::2] *= -1  # as the rows of the spectrum begin at -Nyquist
        (y, x) = self.axes
        cut = np.ascontiguousarray(image[:, y.start : y.start + y.size, x.start : x.start + x.size])
        return cut if frames.ndim == 5 else cut[0]

    def combined(self, frames: np.ndarray) -> tuple[float, np.ndarray]:
        """Noise power of band 0 per bin, and the weighted sum of all bands (half spectrum of the fine grid)."""
        frames = np.asarray(frames, np.float32)
        frames = frames if frames.ndim == 5 else frames[:, :, None]
        half = np.zeros(self.transfer.shape, np.complex64)
        zero = np.zeros((self.axial.planes, *self.camera), np.float32)
        ramped = np.empty(zero.shape, np.complex64)
        orders = len(self.bands) // len(frames)
        for a, images in enumerate(frames):
            parts = np.tensordot(self.separation[a], images, 1)
            parts = continued(continued(parts, self.axes[0], -2), self.axes[1], -1)
            zero += np.float32(self.weights[a]) * parts[0]
            for o, band in enumerate(self.bands[a * orders : (a + 1) * orders], 1):
                ramped.real, ramped.imag = parts[o], parts[o + orders]
                ramped *= band.ramp
                box = self._boxed(scipy.fft.fft2(ramped, overwrite_x=True, workers=1), o)
                box *= band.gain
                self._add(half, box, band.place)
                self._add(half, box, (-band.place[0], -band.place[1]), mirrored=True)
        spectrum = scipy.fft.fft2(zero, workers=1)
        self._add(half, self._boxed(spectrum, 0) * self.zero_gain, (0, 0))
        return self._noise(spectrum), half

    def _boxed(self, spectrum: np.ndarray, order: int) -> np.ndarray:
        """The box ``(kz, y, x)`` around the origin of the spectra ``(z, y, x)`` of planes."""
        box = spectrum[:, self.box[0], self.box[1]]
        return box if self.axial.depth == 1 else self.to_axial[order](box)

    def _power(self, order: int, otf: np.ndarray) -> np.ndarray:
        """Squared transfer ``(kz, y, x)`` on the box, of a stack with the response of its axial transform."""
        power = np.abs(otf) ** 2
        return power if self.axial.depth == 1 else power * self.to_axial[order].response

    def _box_radius(self) -> np.ndarray:
        """``|f|`` on the box, cycles/um."""
        return np.hypot(*self._box_frequencies(np.zeros(2)))

    def _noise(self, spectrum: np.ndarray) -> float:
        """Noise power per bin of band 0 in axial Fourier space: what its planes ``(z, y, x)`` hold beyond the passband.

        Infinite where they hold no structure within it.
        """
        ring, outside = self._camera_rings
        power = np.mean(spectrum.real**2 + spectrum.imag**2, axis=0)
        noise = float(power[outside].mean())
        rings, mean = radial_mean(power, ring, float(self.bin.max()))
        inside = (rings > 0.1 * self.cutoff) & (rings < 0.9 * self.cutoff)
        rounding = 1e-10 * float(power.max())
        structured = np.count_nonzero(mean[inside] > max(SIGNAL_OVER_NOISE * noise, rounding)) >= 4
        return noise * self.axial.planes if structured else math.inf

    @cached_property
    def _camera_rings(self) -> tuple[np.ndarray, np.ndarray]:
        """Ring of each frequency on the grid of the camera, and where nothing but noise is."""
        radius = np.hypot(*frequencies(self.camera, self.pixel_um))
        return ring_index(radius, float(self.bin.max())), radius > min(
            0.98 * self.cutoff, float(np.quantile(radius[::8], 0.97))
        )

    def _filter(self, constant: np.ndarray | np.floating, gain: float = 1.0) -> np.ndarray:
        """What the sum of weighted bands is multiplied with; ``gain`` at the origin once transfer is counted."""
        inverse = self.transfer + np.float32(1e-12)
        inverse += constant
        np.divide(self.reached, inverse, out=inverse)
        origin = (self.axial.reach, self.fine[0] // 2, 0)
        inverse *= gain / (inverse[origin] * self.transfer[origin])
        return inverse

    def noise_to_signal(self, noise: float, half: np.ndarray) -> np.ndarray:
        """Noise over signal power on the half spectrum: the Wiener parameter at every frequency.

        The signal is read ring by ring from the weighted sum of all bands, whose power is ``transfer^2 signal +
        transfer noise``, smoothed as a parabola in log power over log frequency (and a slope along kz), and continued
        with its last slope where noise hides it.

        Args:
            noise: noise power of band 0 per bin.
            half: sum of the weighted bands, half spectrum of the fine grid.
        """
        unknown = np.full(self.transfer.shape, 1.0, np.float32)
        if not math.isfinite(noise):  # nothing but noise: only the mean is worth keeping
            return unknown
        rings, step = self._rings, float(self.bin.max())
        power = rings.power(half)
        usable = (rings.radius > 3 * step) & (rings.radius > 0.1 * self.cutoff) & rings.reached
        hidden = usable & (power < SIGNAL_OVER_NOISE * noise * rings.transfer)
        used = usable & (np.cumsum(hidden, axis=1) == 0)  # chance peaks further out would flatten it
        if used.sum() < 8:
            return unknown
        axial = np.abs(np.arange(-self.axial.reach, self.axial.reach + 1.0))
        kz, ring = np.nonzero(used)
        log_ring = np.log(rings.radius[ring])
        terms = [np.ones(ring.size), log_ring, log_ring**2, axial[kz]][: 4 if self.axial.reach else 3]
        log_signal = np.log((power - noise * rings.transfer)[used] / rings.squared[used])
        weight = np.sqrt(rings.radius[ring])
        found = np.linalg.lstsq(np.stack(terms, axis=1) * weight[:, None], log_signal * weight, rcond=None)[0]
        a, b, c, d = [*found, 0.0][:4]
        last = log_ring.max()
        slope = float(np.clip(b + 2 * c * last, -8, 0))
        f = np.maximum(np.log(rings.radius), log_ring.min())
        inside = np.minimum(f, last)
        signal = a + b * inside + c * inside**2 + slope * np.maximum(f - last, 0)
        constant = noise * np.exp(-signal - min(d, 0.0) * axial[:, None])
        return np.maximum(constant, rings.smallest).astype(np.float32)[:, rings.index]

    def _fine_radius(self) -> np.ndarray:
        """``|f|`` along y and x on the half spectrum, cycles/um."""
        fy, fx = rfrequencies(self.fine, self.pixel_um * self.camera[0] / self.fine[0])
        return np.hypot(np.fft.fftshift(fy), fx)

    def effective_transfer(self, constant: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Radial mean of the transfer from scene to result for a Wiener parameter; (cycles/um, transfer).

        Of a stack that at ``kz = 0``.
        """
        transfer = (self.transfer * self._filter(np.asarray(constant)))[self.axial.reach]
        return radial_mean(transfer, self._rings.index, float(self.bin.max()))


def reconstruct(
    frames: np.ndarray,
    calibrations: Sequence[Calibration],
    *,
    ratio: float = 2.0,
    wiener: float | Literal["auto"] = "auto",
    attenuation: float = 0.0,
    **optics: Any,
) -> np.ndarray:
    """Set up :class:`Wiener` and reconstruct once; arguments and result as there, ``optics`` those of ``Lens``."""
    if len(calibrations) != len(frames):
        raise DataError(f"{len(frames)} orientations need as many calibrations, got {len(calibrations)}")
    return Wiener(frames.shape[2:], calibrations, Lens(**optics), ratio=ratio, attenuation=attenuation)(frames, wiener)


def effective_transfer(
    frames: np.ndarray,
    calibrations: Sequence[Calibration],
    *,
    ratio: float = 2.0,
    wiener: float | Literal["auto"] = "auto",
    attenuation: float = 0.0,
    **optics: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """Radial mean of the transfer from scene to :func:`reconstruct`'s result; (cycles/um, transfer).

    Args: as for :func:`reconstruct`; only ``auto`` looks at the values of the frames.
    """
    method = Wiener(frames.shape[2:], calibrations, Lens(**optics), ratio=ratio, attenuation=attenuation)
    if wiener != "auto":
        return method.effective_transfer(float(wiener))
    return method.effective_transfer(method.noise_to_signal(*method.combined(frames)))


def widefield(frames: np.ndarray, ratio: float = 2.0) -> np.ndarray:
    """Widefield image of each orientation: mean over its phases, on the grid of the results.

    Args:
        frames: ``(angle, phase, y, x)`` or ``(angle, phase, z, y, x)``, offset removed.
        ratio: result pixels per camera pixel.

    Returns:
        float32 ``(angle, y * ratio, x * ratio)`` or ``(angle, z, ...)``.
    """
    mean = np.asarray(frames, np.float32).mean(axis=1)
    y, x = (padded_axis(n, ratio) for n in mean.shape[-2:])
    fine = fourier_resample(continued(continued(mean, y, -2), x, -1), (y.fine, x.fine))
    return np.ascontiguousarray(fine[..., y.start : y.start + y.size, x.start : x.start + x.size])
