"""A small filament phantom under speckle, on the alias-free grid."""

import functools

import numpy as np
import scipy.fft

from nstm.simulate.speckle import SpeckleMicroscope, Stack, stack, transfer_on
from nstm.simulate.structures import Area, filaments

SIDE, WAVELENGTH = 64, 0.52
PITCH = WAVELENGTH / 8
MICROSCOPE = SpeckleMicroscope(
    patterns=20, photons=1000, illumination_na=1.0, excitation_wavelength_um=WAVELENGTH, read_noise=0.0
)
TRANSFER = transfer_on((SIDE, SIDE), MICROSCOPE, PITCH)


@functools.lru_cache
def density(seed: int = 3) -> np.ndarray:
    """Filaments, largest value 1."""
    points = filaments(seed, Area.of_field((SIDE, SIDE), PITCH, 0.0), number=8)
    at = np.rint(points.position / PITCH).astype(int) % SIDE
    image = np.zeros((SIDE, SIDE))
    np.add.at(image, tuple(at.T), points.weight)
    fy, fx = np.fft.fftfreq(SIDE, PITCH)[:, None], np.fft.rfftfreq(SIDE, PITCH)
    spectrum = scipy.fft.rfft2(image) * np.exp(-2 * (np.pi * 0.05) ** 2 * (fy**2 + fx**2))
    image = np.maximum(scipy.fft.irfft2(spectrum, s=image.shape), 0)
    return image / image.max()


@functools.lru_cache
def recorded(seed: int = 0, patterns: int = 20) -> Stack:
    """Frames of the phantom."""
    from dataclasses import replace

    return stack(density(), replace(MICROSCOPE, patterns=patterns), PITCH, seed)


def decibel(image: np.ndarray) -> float:
    """PSNR after the best gain; the phantom is periodic and has no border to cut."""
    truth = density()
    gain = np.vdot(image, truth) / np.vdot(image, image)
    return float(-10 * np.log10(np.mean((gain * image - truth) ** 2)))
