"""Random illumination of the sample: fully developed speckle, and projected random masks.

Fully developed speckle is the intensity of a field whose frequencies within the pupil all have the same strength and
random phases (Goodman, Speckle Phenomena in Optics, 2007): contrast 1, a negative exponential histogram, and a
covariance that is the point spread function of the pupil. A random binary mask (a digital micromirror device) that an
objective images under partially coherent light has less contrast: each point of the source images the mask coherently,
and the intensities of all points add up (Abbe's sum).
"""

from __future__ import annotations

import math

import numpy as np
import scipy.fft
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _frequencies(shape: tuple[int, int], pitch_um: float) -> tuple[Array, Array]:
    fy, fx = (np.asarray(np.fft.fftfreq(n, pitch_um), np.float64) for n in shape)
    return fy[:, None], fx[None, :]


def speckle(
    shape: tuple[int, int], pitch_um: float, na: float, wavelength_um: float, number: int, rng: np.random.Generator
) -> Array:
    """Independent patterns of fully developed speckle, periodic on their grid, each of mean 1.

    Args:
        shape: samples along y and x.
        pitch_um: distance of the samples, um; the intensity reaches ``2 na / wavelength_um`` and must fit.
        na: aperture of the illumination.
        wavelength_um: of the excitation, vacuum.
        number: how many patterns.
        rng: where the phases come from.

    Returns:
        ``(number, y, x)``.

    Raises:
        ValueError: the grid is too coarse for the intensity.
    """
    _check_pitch(pitch_um, na, wavelength_um)
    pupil = np.hypot(*_frequencies(shape, pitch_um)) <= na / wavelength_um
    patterns = np.empty((number, *shape))
    for pattern in patterns:
        field = np.zeros(shape, np.complex128)
        field[pupil] = np.exp(2j * np.pi * rng.random(int(pupil.sum())))
        pattern[:] = np.abs(scipy.fft.ifft2(field)) ** 2
    return patterns / patterns.mean(axis=(-2, -1), keepdims=True)


def projected_masks(
    shape: tuple[int, int],
    pitch_um: float,
    na: float,
    wavelength_um: float,
    number: int,
    rng: np.random.Generator,
    *,
    element_um: float,
    share: float = 0.5,
    coherence: float = 0.7,
    source_points: int = 16,
) -> Array:
    """Images of independent random binary masks under partially coherent light, each of mean 1.

    Args:
        shape: samples along y and x.
        pitch_um: distance of the samples, um.
        na: aperture of the illumination objective.
        wavelength_um: of the excitation, vacuum.
        number: how many masks.
        rng: where the masks come from.
        element_um: side of a mirror in the sample, um; rounded to whole samples.
        share: of the mirrors that are on.
        coherence: aperture of the light on the mask over ``na``: 0 is coherent, well above 1 incoherent.
        source_points: number of points of the source.

    Returns:
        ``(number, y, x)``.

    Raises:
        ValueError: the grid is too coarse, or no mirror would be on.
    """
    _check_pitch(pitch_um, na, wavelength_um)
    if not 0 < share < 1:
        raise ValueError(f"share = {share} of the mirrors must lie between 0 and 1")
    fy, fx = _frequencies(shape, pitch_um)
    points = _source(source_points if coherence > 0 else 1, coherence * na / wavelength_um)
    pupils = [np.hypot(fy + y, fx + x) <= na / wavelength_um for y, x in points]
    side = max(1, round(element_um / pitch_um))
    mirrors = [math.ceil(n / side) for n in shape]
    patterns = np.empty((number, *shape))
    for pattern in patterns:
        mask = np.kron(rng.random(mirrors) < share, np.ones((side, side)))[: shape[0], : shape[1]]
        spectrum = scipy.fft.fft2(mask)
        pattern[:] = sum(np.abs(scipy.fft.ifft2(spectrum * pupil)) ** 2 for pupil in pupils)
    mean = patterns.mean(axis=(-2, -1), keepdims=True)
    if not np.all(mean > 0):
        raise ValueError(f"share = {share} leaves a mask of {mirrors[0]} x {mirrors[1]} mirrors dark")
    return np.asarray(patterns / mean)


def _source(number: int, radius: float) -> Array:
    """Points (n, 2) that fill a disc evenly (sunflower), cycles/um."""
    index = np.arange(number)
    distance, angle = radius * np.sqrt((index + 0.5) / number), index * math.pi * (3 - math.sqrt(5))
    return np.stack([distance * np.sin(angle), distance * np.cos(angle)], axis=1)


def _check_pitch(pitch_um: float, na: float, wavelength_um: float) -> None:
    largest = wavelength_um / (4 * na)
    if pitch_um > largest:
        raise ValueError(f"a pitch of {pitch_um:g} um is too coarse for light of NA {na:g}: at most {largest:.4g} um")
