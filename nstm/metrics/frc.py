"""Fourier ring correlation of an image with the truth, and the resolution that it shows."""

from __future__ import annotations

import numpy as np

from nstm.metrics.image import Image, planes, radial_frequency, windowed_spectra

#: Correlation that counts as resolved. Against a noise-free truth there is no reason for a noise-dependent
#: threshold; 1/7 is the usual fixed one (Rosenthal and Henderson 2003).
THRESHOLD = 1 / 7


def fourier_ring_correlation(image: Image, truth: Image, pixel_um: float) -> tuple[Image, Image]:
    """Correlation of image and truth on rings of the spectrum, the border cut and a Hann window applied.

    Args:
        image: ``(y, x)`` or ``(z, y, x)`` (planes are averaged).
        truth: the same axes.
        pixel_um: pixel of the truth, um.

    Returns:
        Frequencies (cycles/um, up to Nyquist) and the correlation there; NaN where the image has nothing.
    """
    curves, frequencies = [], np.zeros(0)
    for a, b in planes(image, truth):
        first, second = windowed_spectra(a, b)
        shape = (b.shape[0] - 2 * round(b.shape[0] / 8), b.shape[1] - 2 * round(b.shape[1] / 8))
        width = 1 / (min(shape) * pixel_um)
        ring = np.rint(radial_frequency(shape, pixel_um) / width).astype(int).ravel()
        # a real FFT holds every column but the first (and Nyquist) once for +f and -f
        twice = np.full(first.shape, 2.0)
        twice[:, 0] = 1
        if shape[1] % 2 == 0:
            twice[:, -1] = 1
        cross = np.bincount(ring, ((first * second.conj()).real * twice).ravel())
        power = [np.bincount(ring, (np.abs(s) ** 2 * twice).ravel()) for s in (first, second)]
        rings = min(shape) // 2 + 1
        with np.errstate(invalid="ignore", divide="ignore"):
            curves.append((cross / np.sqrt(power[0] * power[1]))[:rings])
        frequencies = np.arange(rings) * width
    return frequencies, np.mean(curves, axis=0)


def frc_resolution_um(image: Image, truth: Image, pixel_um: float, threshold: float = THRESHOLD) -> float:
    """Inverse of the frequency at which the ring correlation first falls below ``threshold``, um.

    The crossing is interpolated linearly; NaN for an image with NaN, twice the pixel where it never falls.
    """
    if not (np.all(np.isfinite(image)) and np.all(np.isfinite(truth))):
        return float("nan")
    frequencies, curve = fourier_ring_correlation(image, truth, pixel_um)
    curve = np.nan_to_num(curve[1:], nan=0.0)  # ring 0 is the removed mean
    frequencies = frequencies[1:]
    below = np.flatnonzero(curve < threshold)
    if below.size == 0:
        return 2 * pixel_um
    i = int(below[0])
    if i == 0:
        return float(1 / frequencies[0])
    share = (curve[i - 1] - threshold) / (curve[i - 1] - curve[i])
    return float(1 / (frequencies[i - 1] + share * (frequencies[i] - frequencies[i - 1])))
