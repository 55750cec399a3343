"""Pattern vector, phases, modulation and intensities of one orientation from the overlap of its bands.

With ``u_p(f) = D_p(f) OTF(f - o k)`` and ``v_p(f) = D_p(f - o k) OTF(f)`` both bands have the same effective
transfer, and the right parameters make ``e = sum_p W_op u_p - m_o/2 sum_p W_0p v_p`` pure noise (``W`` separates the
bands). The squared error is a quadratic form of the Gram matrix of all ``u_p, v_p``, so it costs nothing to evaluate
for other phases, intensities and modulations. The known noise is taken off the diagonal (a total least-squares fit
with known noise), otherwise noise in band 0 would pass for a weaker modulation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft  # scipy.optimize loads when it is used

from nstm.illumination.bands import (
    Detection,
    noise_covariance,
    nominal_phases,
    on_rings,
    separation_matrix,
    soft_edges,
)

#: Expected deviation of a phase from equal steps, rad, and of an intensity from its trend.
PHASE_PRIOR_RAD = 0.1
INTENSITY_PRIOR = 0.01
#: What is no noise and yet unexplained (borders, transfer function) makes every unit of error count so much less.
INFLATION = 5.0
#: Phases are kept that lower the error by more than this for each: in 215 simulated orientations, 25 to 2000 photons,
#: none was then worse than equal steps.
LEAST_GAIN = 9.0
#: Transfer functions are never known better than this: no frequency counts for more.
MODEL_ERROR = 0.2
#: Modulation by which frequencies are weighted.
USUAL_MODULATION = 0.7
#: Parts of the field along a side that are compared for the vector's error.
PARTS = 8
#: Frequencies nearer to a band's centre than this share of the cut-off are not used: haze is there.
CENTRE = 0.04


@dataclass(frozen=True)
class Overlap:
    """Gram matrix of one order over the frequencies where it meets band 0."""

    gram: np.ndarray  # complex (2 frames, 2 frames), u then v, noise included
    noise: np.ndarray  # (2 frames, 2 frames), what the noise alone adds to it on average
    ends: float = 1.0  # power of the order over that of band 0 where their transfer makes them alike: ends of a stack

    def error(self, weights_order: np.ndarray, weights_zero: np.ndarray, modulation: np.ndarray) -> np.ndarray:
        """Squared error in units of the noise, expectation of the noise taken off.

        For weights ``(..., frames)`` and modulations ``(...)``.
        """
        x = np.concatenate([weights_order, -0.5 * modulation[..., None] * weights_zero], axis=-1)
        return np.sum((x.conj() @ (self.gram - self.noise)) * x, axis=-1).real

    def products(self, weights_order: np.ndarray, weights_zero: np.ndarray) -> tuple[complex, float, float]:
        """``<zero, order>``, ``|order|^2``, ``|zero|^2`` over the overlap, noise included."""
        n = weights_order.size
        g = self.gram
        cross = weights_zero.conj() @ g[n:, :n] @ weights_order
        order = (weights_order.conj() @ g[:n, :n] @ weights_order).real
        zero = (weights_zero.conj() @ g[n:, n:] @ weights_zero).real
        return complex(cross), float(order), float(zero)

    def balanced_modulation(self, weights_order: np.ndarray, weights_zero: np.ndarray) -> float:
        """Modulation by total least squares with equal relative errors in both bands, known noise taken off.

        Where noise is all there is, what is left of the powers says nothing: as the share of the noise grows, the
        regression on band 0 takes over, which only needs the noise of one band.
        """
        n = weights_order.size
        cross, order, zero = self.products(weights_order, weights_zero)
        noise_order = float((weights_order.conj() @ self.noise[:n, :n] @ weights_order).real)
        noise_zero = float((weights_zero.conj() @ self.noise[n:, n:] @ weights_zero).real)
        clean_order, clean_zero = max(order - noise_order, 0.0), max(zero - noise_zero, 0.05 * zero, 1e-30)
        regression = 2 * abs(cross) / clean_zero
        balanced = 2 * float(np.sqrt(clean_order / clean_zero))
        signal = clean_order / max(order, 1e-30) * clean_zero / max(zero, 1e-30)
        return (regression + signal * max(balanced - regression, 0.0)) / float(np.sqrt(self.ends))


@dataclass(frozen=True)
class Shared:
    """Frequencies where an order meets band 0, rows and columns of the FFT grid ``(n,)``; the others ``(kz, n)``."""

    at: tuple[np.ndarray, np.ndarray]
    there: np.ndarray  # OTF of order 0 at f - o k
    here: np.ndarray  # OTF of the order at f
    weight: np.ndarray


@dataclass(frozen=True)
class OrientationFit:
    """What is known of one orientation; vectors (y, x) in cycles/um, phases at the centre of pixel (0, 0)."""

    k: np.ndarray
    spread: float  # standard error of the finest order's vector, bins; 0 of one that was given
    phases: np.ndarray
    modulation: np.ndarray
    intensity: np.ndarray
    overlap_correlation: np.ndarray
    phases_fitted: bool


class Orientation:
    """The frames of one orientation, prepared once."""

    def __init__(self, frames: np.ndarray, detection: Detection, orders: int, intensity: np.ndarray) -> None:
        """Bind frames ``(phase, z, y, x)`` and their relative intensity ``(phase,)``."""
        self.detection, self.orders = detection, orders
        self.intensity = intensity
        # without its mean, the shape of the field does not leak into the bands
        flat = frames - frames.mean(dtype=np.float64) * intensity[:, None, None, None]
        self.frames = detection.axial_spectra(flat.astype(np.float32) * soft_edges(detection.shape))
        self.spectra = scipy.fft.fft2(self.frames, workers=1)
        radius = detection.plain_radius
        self.noise = noise_covariance(self.spectra, radius, detection.cutoff)
        self.nominal = nominal_phases(frames.shape[0])
        self.matrix = separation_matrix(self.nominal, self.intensity, orders)
        rings, power = detection.ring_means(self.bands()[0])
        self.rings, self.power = rings, np.maximum(power - self.band_noise(0), 0)

    def bands(self) -> list[np.ndarray]:
        """Spectra ``(kz, y, x)`` of the bands with the present separation."""
        return list(np.tensordot(self.matrix.astype(np.complex64), self.spectra, 1))

    def band_noise(self, order: int) -> float:
        """Noise power per bin of a band."""
        row = self.matrix[order]
        return float((row.conj() @ self.noise @ row).real)

    def weights(self, k: np.ndarray, order: int, modulation: float, at_zero: bool = False) -> Shared:
        """Where band ``order`` and band 0 meet, and what each frequency counts.

        ``f`` runs over the grid of the order's band, or (``at_zero``) ``f - o k`` over the grid of band 0.
        """
        detection, shift = self.detection, order * k
        near, far = (-shift, np.zeros(2)) if at_zero else (np.zeros(2), shift)
        radius_near, radius_far = (detection.radius(at) if np.any(at) else detection.plain_radius for at in (near, far))
        limit, centre = 0.97 * detection.cutoff, max(CENTRE * detection.cutoff, 2.5 * float(detection.bin.max()))
        low, high = np.minimum(radius_near, radius_far), np.maximum(radius_near, radius_far)
        rows, columns = np.nonzero((high < limit) & (low > centre))
        at = (rows, columns)
        here, there = detection.transfer(order, near, at), detection.transfer(0, far, at)
        object_power = on_rings(radius_far[at], self.rings, self.power)  # |OTF S|^2 at f - o k
        half = 0.5 * max(modulation, 0.2)
        here2, there2 = np.abs(here) ** 2, np.abs(there) ** 2
        signal = half**2 * here2 * object_power
        noise = np.maximum(self.band_noise(order) * there2 + half**2 * self.band_noise(0) * here2, 1e-30)
        # where noise hides the sample nothing is learned
        weight = signal / (signal + noise) / (noise + MODEL_ERROR**2 * signal)
        reached = np.minimum(here2, there2) >= detection.least_transfer**2
        return Shared(at, there, here, (reached * weight).astype(np.float32))

    def refine(self, k: np.ndarray, modulation: np.ndarray, steps: tuple[float, ...]) -> tuple[np.ndarray, float]:
        """Vector that raises the likelihood most, by zoomed DFTs and a parabola, and its :meth:`_spread`."""
        bands = self.bands()
        products, energies = [], []
        for o in range(1, self.orders + 1):
            pair = []
            # the weight is split evenly: a slope of it on one band alone would pull the vector along the slope
            for band, at_zero in ((bands[o], False), (bands[0], True)):
                shared = self.weights(k, o, modulation[o - 1], at_zero)
                rows, columns = shared.at
                turned = shared.here if at_zero else shared.there
                gain = np.sqrt(np.abs(shared.there * shared.here) * shared.weight) * _direction(turned)
                weighted = np.zeros(band.shape, np.complex64)
                weighted[:, rows, columns] = band[:, rows, columns] * gain
                pair.append(scipy.fft.ifft2(weighted, overwrite_x=True, workers=1))
            power = on_rings(self.detection.plain_radius[shared.at], self.rings, self.power)
            products.append((o, np.sum(pair[0] * np.conj(pair[1]), axis=0)))
            energies.append(float(np.sum(power * np.abs(shared.here) ** 2 * shared.weight)))
        for step in steps:
            k = self._climb(k, step, products, energies)
        return k, self._spread(k, products, energies)

    def _climb(self, k: np.ndarray, step: float, products: list, energies: list) -> np.ndarray:
        """One zoom: 5 x 5 trial vectors ``step`` bins apart, then a parabola through the best."""
        trial = np.arange(-2, 3) * step
        gain = np.zeros((5, 5))
        y, x = (np.arange(n) * self.detection.pixel_um for n in self.detection.shape)
        for (o, product), energy in zip(products, energies, strict=True):
            ky, kx = (o * (k[i] + trial * self.detection.bin[i]) for i in (0, 1))
            ey = np.exp(-2j * np.pi * np.outer(ky, y)).astype(np.complex64)
            ex = np.exp(-2j * np.pi * np.outer(x, kx)).astype(np.complex64)
            gain += np.abs(ey @ product @ ex) ** 2 / max(energy, 1e-30)
        i, j = np.unravel_index(int(np.argmax(gain)), gain.shape)
        return k + self.detection.bin * step * np.array(
            [i - 2 + _vertex(gain[:, j], int(i)), j - 2 + _vertex(gain[i], int(j))]
        )

    def _spread(self, k: np.ndarray, products: list, energies: list) -> float:
        """Standard error of the finest order's vector, bins: how much the parts of the field disagree about it.

        Every part of the field adds its own slope to the match, and together they are 0. Their scatter over the
        curvature is the error (sandwich estimate), whatever its reason: noise, borders, light from out of focus.
        """
        if min(energies) <= 0:
            return math.inf
        curvature, scatter = np.zeros((2, 2)), np.zeros((2, 2))
        for (o, product), energy in zip(products, energies, strict=True):
            wy, wx = self.detection.wave(-o * k)
            parts = _block_sums(product * (wy * wx)) / energy
            match = parts * parts.sum().conj()
            weight, slope = match.real.ravel(), match.imag.ravel()
            place = np.indices(parts.shape).reshape(2, -1).T / parts.shape[0]  # in fields
            place = 2 * np.pi * o * (place - weight @ place / weight.sum())
            curvature += (place.T * weight) @ place
            scatter += (place.T * slope**2) @ place
        try:
            inverse = np.linalg.inv(curvature)
        except np.linalg.LinAlgError:
            return math.inf
        variance = float(np.trace(inverse @ scatter @ inverse))
        return self.orders * math.sqrt(variance) if variance >= 0 else math.inf

    def overlap(self, k: np.ndarray, order: int, modulation: float) -> Overlap:
        """Gram matrix of ``u_p`` and ``v_p`` for one order."""
        shared = self.weights(k, order, modulation)
        rows, columns = shared.at
        wy, wx = self.detection.wave(order * k)
        turn, root = wy * wx, np.sqrt(shared.weight)
        shifted = np.stack(
            [scipy.fft.fft2(f * turn, overwrite_x=True, workers=1)[:, rows, columns] for f in self.frames]
        )
        samples = np.concatenate(
            [self.spectra[..., rows, columns] * (shared.there * root), shifted * (shared.here * root)]
        )
        samples = samples.reshape(len(samples), -1)
        shares = [np.sum(np.abs(transfer) ** 2 * shared.weight) for transfer in (shared.there, shared.here)]
        radius = self.detection.radius(order * k)[shared.at]
        signal = on_rings(radius, self.rings, self.power) * np.abs(shared.here) ** 2 * shared.weight
        ends = (
            float(np.average(self.detection.ends(order, order * k, shared.at), weights=signal)) if signal.any() else 1.0
        )
        return Overlap((samples.conj() @ samples.T).astype(complex), np.kron(np.diag(shares), self.noise), ends)

    def fit(self, k: np.ndarray, refine: bool = True, fit_phases: bool = True) -> OrientationFit:
        """All parameters, starting from a vector that is right within a bin.

        Args:
            k: pattern vector (y, x) of order 1, cycles/um.
            refine: improve ``k``; otherwise it is taken as it is.
            fit_phases: allow phases and intensities that deviate from equal steps and from the trend.
        """
        spread = 0.0
        if refine:
            k, spread = self.refine(k, np.full(self.orders, USUAL_MODULATION), (0.5, 0.2, 0.05, 0.02))
        overlaps = [self.overlap(k, o, USUAL_MODULATION) for o in range(1, self.orders + 1)]
        phases, _, intensity, fitted = self._parameters(overlaps, fit_phases)
        self.matrix = separation_matrix(phases, intensity, self.orders)
        # borders, ends of a stack and errors of the transfer function err in both bands alike
        modulation = np.array(
            [v.balanced_modulation(self.matrix[o], self.matrix[0]) for o, v in enumerate(overlaps, 1)]
        )
        correlation = []
        for o, overlap in enumerate(overlaps, 1):
            cross, a, b = overlap.products(self.matrix[o], self.matrix[0])
            correlation.append(abs(cross) / np.sqrt(max(a * b, 1e-30)))
        return OrientationFit(
            k, spread, np.angle(np.exp(1j * phases)), modulation, intensity, np.array(correlation), fitted
        )

    def _parameters(self, overlaps: list[Overlap], fit_phases: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Phases, modulation and intensities of least error; nominal steps unless others fit better."""
        n = self.nominal.size
        start, modulation = self._nominal_start(overlaps)
        if not fit_phases:
            return start, modulation, self.intensity, False

        def unpack(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            log = INTENSITY_PRIOR * x[..., n : 2 * n]
            intensity = self.intensity * np.exp(log - log.mean(axis=-1, keepdims=True))
            return start + PHASE_PRIOR_RAD * x[..., :n], intensity, x[..., 2 * n :]

        def cost(x: np.ndarray) -> np.ndarray:
            phases, intensity, m = unpack(x)
            matrix = separation_matrix(phases, intensity, self.orders)
            zero = matrix[..., 0, :]
            error = sum(o.error(matrix[..., i, :], zero, m[..., i - 1]) for i, o in enumerate(overlaps, 1))
            deviation = x[..., :n] - x[..., :n].mean(axis=-1, keepdims=True)
            return error / INFLATION + np.sum(deviation**2 + x[..., n : 2 * n] ** 2, axis=-1)

        first = np.concatenate([np.zeros(2 * n), np.clip(modulation, 0.05, 1.7)])
        even = _lowest(cost, first, [0.0] * n + [4.0] * n)
        found = _lowest(cost, even, [6.0] * n + [4.0] * n)
        if float(cost(even) - cost(found)) * INFLATION > LEAST_GAIN * (n - 1):
            phases, intensity, m = unpack(found)
            return phases, m, intensity, True
        return start, modulation, self.intensity, False

    def _nominal_start(self, overlaps: list[Overlap]) -> tuple[np.ndarray, np.ndarray]:
        """Common phase and modulation for equal phase steps (total least squares, noise known)."""
        matrix = separation_matrix(self.nominal, self.intensity, self.orders)
        modulation, crosses = [], []
        for o, overlap in enumerate(overlaps, 1):
            cross, _, zero = overlap.products(matrix[o], matrix[0])
            n = self.nominal.size
            clean = zero - float((matrix[0].conj() @ overlap.noise[n:, n:] @ matrix[0]).real)
            modulation.append(2 * abs(cross) / max(clean, 0.05 * zero, 1e-30))
            crosses.append(cross)
        trial = np.linspace(-np.pi, np.pi, 720, endpoint=False)
        match = sum((np.exp(-1j * o * trial) * c).real for o, c in enumerate(crosses, 1))
        return self.nominal + trial[int(np.argmax(match))], np.array(modulation)


def _block_sums(image: np.ndarray) -> np.ndarray:
    """Sums over :data:`PARTS` x :data:`PARTS` parts of an image."""
    y, x = (np.linspace(0, n, PARTS, endpoint=False).astype(int) for n in image.shape)
    return np.add.reduceat(np.add.reduceat(image, y, axis=0), x, axis=1)


def _lowest(cost: Callable[[np.ndarray], np.ndarray], start: np.ndarray, reach: list[float]) -> np.ndarray:
    """Where the cost is lowest, from ``start``: parameters within ``+-reach``, the modulations after them in 0 to 2."""
    step = 1e-4

    def with_gradient(x: np.ndarray) -> tuple[float, np.ndarray]:
        moved = step * np.eye(x.size)
        values = cost(np.concatenate([x[None], x + moved, x - moved]))
        return float(values[0]), (values[1 : x.size + 1] - values[x.size + 1 :]) / (2 * step)

    bounds = [(-r, r) for r in reach] + [(0.0, 2.0)] * (start.size - len(reach))
    options = {"maxiter": 25, "ftol": 1e-6, "gtol": 0.02}
    found = scipy.optimize.minimize(with_gradient, start, method="L-BFGS-B", jac=True, bounds=bounds, options=options)
    return np.asarray(found.x)


def _direction(transfer: np.ndarray) -> np.ndarray:
    """Factor of modulus 1 with the phase of a transfer function; its sign where it is real."""
    if np.isrealobj(transfer):
        return np.where(transfer < 0, np.float32(-1), np.float32(1))
    return np.exp(1j * np.angle(transfer)).astype(np.complex64)


def _vertex(values: np.ndarray, i: int) -> float:
    """Offset of the top of the parabola through ``values[i - 1 : i + 2]``, at most half a step."""
    if i in (0, values.size - 1):
        return 0.0
    a, b, c = values[i - 1 : i + 2]
    curve = a - 2 * b + c
    return float(np.clip(0.5 * (a - c) / curve, -0.5, 0.5)) if curve < 0 else 0.0
