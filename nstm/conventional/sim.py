"""Conventional SIM reconstruction of one plane: generalised Wiener filter, not apodised (Gustafsson 2008, eq. 8)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import scipy.fft

from nstm.acquisition import DataError
from nstm.illumination.bands import radial_mean, separation_matrix
from nstm.optics.grids import fourier_resample, frequencies, rfrequencies
from nstm.optics.otf import cutoff, detection_otf

#: The field is continued by at least this many camera pixels, so that its borders do not meet.
#: Rings of the spectrum are used for the signal up to the first whose power is below this multiple of the noise.
SIGNAL_OVER_NOISE = 3.0
#: The transfer is never known so well that a smaller Wiener parameter would be right.
SMALLEST_PARAMETER = 1e-4
PADDING_PX = 12

Calibration = Mapping[str, Any]


@dataclass(frozen=True)
class PaddedAxis:
    """One side of the field within the periodic grid of the transforms."""

    field: int
    before: int  # camera pixels in front of the field
    camera: int  # camera pixels of the grid
    fine: int  # result pixels of the grid
    start: int  # first result pixel of the field
    size: int  # result pixels of the field


def padded_axis(field: int, ratio: float, padding: int = PADDING_PX) -> PaddedAxis:
    """Grid for a side of ``field`` camera pixels on which camera and result share sample 0 of the field.

    Raises:
        DataError: ``ratio`` is no simple fraction.
    """
    fraction = Fraction(ratio).limit_denominator(32)
    if abs(float(fraction) - ratio) > 1e-6 or fraction < 1:
        raise DataError(
            f"{ratio} result pixels per camera pixel: use a simple fraction of at least 1, such as 2 or 1.6"
        )
    q = fraction.denominator
    before = -(-padding // q) * q
    camera = -(-(before + field + padding) // q) * q
    while camera % 2 or round(camera * fraction) % 2 or scipy.fft.next_fast_len(camera) != camera:
        camera += q
    return PaddedAxis(
        field, before, camera, round(camera * fraction), round(before * fraction), round(field * float(ratio))
    )


def _continued(frames: np.ndarray, axis: PaddedAxis, along: int) -> np.ndarray:
    """Fill the grid around the field by its reflections, each fading into that of the opposite border."""
    gap = axis.camera - axis.field
    if gap == 0:
        return frames
    frames = np.moveaxis(frames, along, -1)
    reach = np.minimum(np.arange(gap), axis.field - 1)
    fade = (np.sin(0.5 * np.pi * (np.arange(gap) + 0.5) / gap) ** 2).astype(np.float32)
    end, begin = frames[..., axis.field - 1 - reach], frames[..., reach[::-1]]
    between = end + (begin - end) * fade
    out = np.concatenate([between[..., gap - axis.before :], frames, between[..., : gap - axis.before]], axis=-1)
    return np.moveaxis(out, -1, along)


@dataclass(frozen=True)
class _Band:
    """One order of one orientation on the small grid."""

    angle: int
    order: int
    ramp: tuple[np.ndarray, np.ndarray]  # moves the band by a fraction of a bin
    place: tuple[int, int]  # bin of the fine spectrum on which the band's centre falls
    gain: np.ndarray  # conj(OTF) x modulation / 2 x weight, on the box around the centre


class Wiener2D:
    """The set-up for one illumination and field; calling it reconstructs frames.

    Args:
        field: height and width of the frames, camera pixel.
        calibrations: one per orientation: orientation ``a`` is taken from ``calibrations[a]``, which may belong to
            another acquisition (keys ``pattern_vectors, phases, modulation, intensity``).
        pixel_um: camera pixel, um.
        na: detection numerical aperture.
        emission_wavelength_um: emission wavelength, um.
        ratio: result pixels per camera pixel.
        pixel_integration: the pixel's own blur is part of the transfer function.
    """

    def __init__(
        self,
        field: tuple[int, int],
        calibrations: Sequence[Calibration],
        *,
        pixel_um: float,
        na: float,
        emission_wavelength_um: float,
        ratio: float,
        pixel_integration: bool = True,
    ) -> None:
        self.axes = (padded_axis(field[0], ratio), padded_axis(field[1], ratio))
        self.pixel_um, self.cutoff = pixel_um, cutoff(na, emission_wavelength_um)
        self._optics = (na, emission_wavelength_um, pixel_um, pixel_integration)
        self.camera = (self.axes[0].camera, self.axes[1].camera)
        self.fine = (self.axes[0].fine, self.axes[1].fine)
        self.bin = 1.0 / (np.array(self.camera) * pixel_um)
        self.reach = tuple(
            min(math.ceil(self.cutoff / b) + 1, n // 2 - 1) for b, n in zip(self.bin, self.camera, strict=True)
        )
        self.box = np.ix_(*(np.arange(-r, r + 1) % n for r, n in zip(self.reach, self.camera, strict=True)))
        self.separation: list[np.ndarray] = []
        self.bands: list[_Band] = []
        self.transfer = np.zeros((self.fine[0], self.fine[1] // 2 + 1), np.float32)  # rows from -Nyquist
        self.otf = self._box_otf(np.zeros(2))
        self._set_up(calibrations)

    def _box_otf(self, shift: np.ndarray) -> np.ndarray:
        """OTF at ``f + shift`` on the box of frequencies around the origin (shift in cycles/um)."""
        fy = (np.arange(-self.reach[0], self.reach[0] + 1) * self.bin[0] + shift[0]).astype(np.float32)[:, None]
        fx = (np.arange(-self.reach[1], self.reach[1] + 1) * self.bin[1] + shift[1]).astype(np.float32)[None, :]
        na, wavelength, pixel, integrate = self._optics
        return detection_otf(fy, fx, na, wavelength, pixel, integrate).astype(np.float32)

    def _set_up(self, calibrations: Sequence[Calibration]) -> None:
        angles = len(calibrations)
        levels = np.array([np.mean(c["intensity"][a]) for a, c in enumerate(calibrations)])
        # shot noise: an orientation with less light is noisier once its frames are brought to the same scale
        self.weights = levels / levels.mean() / angles
        for a, calibration in enumerate(calibrations):
            phases = np.array(calibration["phases"][a])
            k, modulation = np.array(calibration["pattern_vectors"][a]), calibration["modulation"][a]
            matrix = separation_matrix(phases, np.array(calibration["intensity"][a]), len(modulation))
            self.separation.append(matrix.astype(np.complex64))
            noise = np.sum(np.abs(matrix) ** 2, axis=1)
            self._add(self.transfer, self.weights[a] * self.otf**2, (0, 0))
            for o, m in enumerate(modulation, 1):
                place = np.rint(o * k / self.bin)
                rest = o * k - place * self.bin
                otf = self._box_otf(rest)
                quiet = float(self.weights[a] * noise[0] / noise[o])
                gain = (quiet * 0.5 * m) * otf
                self.bands.append(_Band(a, o, self._ramp(rest, place), (-int(place[0]), -int(place[1])), gain))
                power = (quiet * 0.25 * m * m) * otf**2
                self._add(self.transfer, power, self.bands[-1].place)
                self._add(self.transfer, power[::-1, ::-1], (int(place[0]), int(place[1])))

    def _ramp(self, rest: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Factors along y and x that undo the part of the vector smaller than a bin; phase 0 at the field's origin."""
        ramps = []
        for i, axis in enumerate(self.axes):
            r = (np.arange(axis.camera) - axis.before) * self.pixel_um
            fixed = np.exp(2j * np.pi * place[i] * axis.before / axis.camera)
            ramps.append((np.exp(-2j * np.pi * rest[i] * r) * fixed).astype(np.complex64))
        return ramps[0][:, None], ramps[1][None, :]

    def _add(self, half: np.ndarray, box: np.ndarray, centre: tuple[int, int]) -> None:
        """Add a box of frequencies around ``centre`` to a half spectrum with rows from -Nyquist."""
        (ry, rx), (ny, nx) = self.reach, self.fine
        top, left = max(centre[0] - ry, -ny // 2 + 1), max(centre[1] - rx, 0)
        bottom, right = min(centre[0] + ry, ny // 2 - 1), min(centre[1] + rx, nx // 2 - 1)
        if top > bottom or left > right:
            return
        rows = slice(top - centre[0] + ry, bottom - centre[0] + ry + 1)
        columns = slice(left - centre[1] + rx, right - centre[1] + rx + 1)
        half[top + ny // 2 : bottom + ny // 2 + 1, left : right + 1] += box[rows, columns]

    def __call__(self, frames: np.ndarray, wiener: float | Literal["auto"] = "auto") -> np.ndarray:
        """Reconstruct.

        Args:
            frames: ``(angle, phase, y, x)``, offset removed.
            wiener: constant in units of the squared transfer at the origin, or ``auto``: noise over signal power.

        Returns:
            float32 ``(y * ratio, x * ratio)`` on the intensity scale of a camera pixel under mean illumination.
        """
        spectrum, half = self.combined(frames)
        constant = self.noise_to_signal(spectrum, half) if wiener == "auto" else np.float32(wiener)
        half *= self._filter(constant)
        half *= np.float32(self.fine[0] * self.fine[1] / (self.camera[0] * self.camera[1]))
        image = scipy.fft.irfft2(scipy.fft.ifftshift(half, axes=0), s=self.fine, overwrite_x=True, workers=1)
        (y, x) = self.axes
        return np.ascontiguousarray(image[y.start : y.start + y.size, x.start : x.start + x.size])

    def combined(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Spectrum of band 0 (camera grid) and the weighted sum of all bands (half spectrum of the fine grid)."""
        frames = _continued(_continued(np.asarray(frames, np.float32), self.axes[0], -2), self.axes[1], -1)
        half = np.zeros(self.transfer.shape, np.complex64)
        zero = np.zeros(self.camera, np.float32)
        for a, images in enumerate(frames):
            zero += np.tensordot((self.weights[a] * self.separation[a][0].real).astype(np.float32), images, 1)
        spectrum = scipy.fft.fft2(zero, workers=1)
        self._add(half, spectrum[self.box] * self.otf, (0, 0))
        for band in self.bands:
            ramped = np.tensordot(self.separation[band.angle][band.order], frames[band.angle], 1)
            ramped *= band.ramp[0]
            ramped *= band.ramp[1]
            box = scipy.fft.fft2(ramped, overwrite_x=True, workers=1)[self.box] * band.gain
            self._add(half, box, band.place)
            self._add(half, box[::-1, ::-1].conj(), (-band.place[0], -band.place[1]))
        return spectrum, half

    def _filter(self, constant: np.ndarray | np.floating) -> np.ndarray:
        """What the sum of weighted bands is multiplied with; 1 at the origin once transfer is counted."""
        transfer = self.transfer
        reached = transfer > 1e-6 * float(transfer.max())
        inverse = np.where(reached, 1.0 / np.maximum(transfer + constant, 1e-12), 0).astype(np.float32)
        origin = (self.fine[0] // 2, 0)
        return inverse / np.float32(inverse[origin] * transfer[origin])

    def noise_to_signal(self, spectrum: np.ndarray, half: np.ndarray) -> np.ndarray:
        """Noise over signal power on the half spectrum: the Wiener parameter at every frequency.

        The noise is what band 0 holds beyond the passband. The signal is read ring by ring from the weighted sum of
        all bands, whose power is ``transfer^2 signal + transfer noise``, smoothed as a parabola in log power over log
        frequency, and continued with its last slope where noise hides it.

        Args:
            spectrum: band 0, camera grid.
            half: sum of the weighted bands, half spectrum of the fine grid.
        """
        fy, fx = frequencies(self.camera, self.pixel_um)
        radius = np.hypot(fy, fx)
        limit = min(0.98 * self.cutoff, float(np.quantile(radius[::8], 0.97)))
        power = np.abs(spectrum) ** 2
        noise = float(power[radius > limit].mean())
        rings, mean = radial_mean(power, radius, float(self.bin.max()))
        inside = (rings > 0.1 * self.cutoff) & (rings < 0.9 * self.cutoff)
        structured = (
            np.count_nonzero(mean[inside] > max(SIGNAL_OVER_NOISE * noise, 1e-10 * power.max())) >= 4
        )  # not rounding
        fy, fx = rfrequencies(self.fine, self.pixel_um * self.camera[0] / self.fine[0])
        radius = np.hypot(np.fft.fftshift(fy), fx)
        step = float(self.bin.max())
        rings, power = radial_mean(half.real**2 + half.imag**2, radius, step)
        _, chance = radial_mean(noise * self.transfer, radius, step)
        _, squared = radial_mean(self.transfer**2, radius, step)
        used = (rings > 3 * step) & (rings > 0.1 * self.cutoff) & (squared > 0)
        hidden = used & (power < SIGNAL_OVER_NOISE * chance)
        used &= np.cumsum(hidden) == 0  # chance peaks further out would flatten it
        if not structured or used.sum() < 8:  # nothing but noise: only the mean is worth keeping
            return np.full(radius.shape, 1.0, np.float32)
        log_ring = np.log(rings[used])
        log_signal = np.log((power - chance)[used] / squared[used])
        parabola = np.polynomial.Polynomial.fit(log_ring, log_signal, 2, w=np.sqrt(rings[used]))
        last = log_ring[-1]
        slope = float(np.clip(parabola.deriv()(last), -8, 0))
        f = np.log(np.maximum(radius, rings[used][0]))
        signal = parabola(np.minimum(f, last)) + slope * np.maximum(f - last, 0)
        return np.maximum(noise * np.exp(-signal), SMALLEST_PARAMETER).astype(np.float32)

    def effective_transfer(self, constant: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
        """Radial mean of the transfer from scene to result for a Wiener parameter; (cycles/um, transfer)."""
        fy, fx = rfrequencies(self.fine, self.pixel_um * self.camera[0] / self.fine[0])
        radius = np.hypot(np.fft.fftshift(fy), fx)
        return radial_mean(self.transfer * self._filter(np.asarray(constant)), radius, float(self.bin.max()))


def reconstruct(
    frames: np.ndarray,
    calibrations: Sequence[Calibration],
    *,
    pixel_um: float,
    na: float,
    emission_wavelength_um: float,
    ratio: float = 2.0,
    wiener: float | Literal["auto"] = "auto",
    pixel_integration: bool = True,
) -> np.ndarray:
    """Set up :class:`Wiener2D` and reconstruct once; arguments and result as there."""
    if len(calibrations) != len(frames):
        raise DataError(f"{len(frames)} orientations need as many calibrations, got {len(calibrations)}")
    method = Wiener2D(
        frames.shape[-2:],
        calibrations,
        pixel_um=pixel_um,
        na=na,
        emission_wavelength_um=emission_wavelength_um,
        ratio=ratio,
        pixel_integration=pixel_integration,
    )
    return method(frames, wiener)


def effective_transfer(
    frames: np.ndarray, calibrations: Sequence[Calibration], *, wiener: float | Literal["auto"] = "auto", **optics: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Radial mean of the transfer from scene to :func:`reconstruct`'s result; (cycles/um, transfer).

    Args:
        frames: as for :func:`reconstruct`; only ``auto`` looks at their values.
        calibrations: as for :func:`reconstruct`.
        wiener: as for :func:`reconstruct`.
        **optics: ``pixel_um, na, emission_wavelength_um, ratio, pixel_integration``.
    """
    method = Wiener2D(frames.shape[-2:], calibrations, **optics)
    if wiener != "auto":
        return method.effective_transfer(float(wiener))
    return method.effective_transfer(method.noise_to_signal(*method.combined(frames)))


def widefield(frames: np.ndarray, ratio: float = 2.0) -> np.ndarray:
    """Widefield image of each orientation: mean over its phases, on the grid of the results.

    Args:
        frames: ``(angle, phase, y, x)``, offset removed.
        ratio: result pixels per camera pixel.

    Returns:
        float32 ``(angle, y * ratio, x * ratio)``.
    """
    mean = np.asarray(frames, np.float32).mean(axis=1)
    y, x = (padded_axis(n, ratio) for n in mean.shape[-2:])
    fine = fourier_resample(_continued(_continued(mean, y, -2), x, -1), (y.fine, x.fine))
    return np.ascontiguousarray(fine[..., y.start : y.start + y.size, x.start : x.start + x.size])
