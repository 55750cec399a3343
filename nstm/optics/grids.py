"""Fourier grids: frequencies of an image and resampling of its spectrum to another pitch."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft


def frequencies(shape_yx: tuple[int, int], pitch_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies of :func:`numpy.fft.fft2`.

    Args:
        shape_yx: height and width, pixel.
        pitch_um: pixel pitch, um.

    Returns:
        ``fy`` of shape ``(h, 1)`` and ``fx`` of shape ``(1, w)``, cycles/um, float32, FFT order.
    """
    fy = np.fft.fftfreq(shape_yx[0], pitch_um)[:, None]
    fx = np.fft.fftfreq(shape_yx[1], pitch_um)[None, :]
    return fy.astype(np.float32), fx.astype(np.float32)


def rfrequencies(shape_yx: tuple[int, int], pitch_um: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies of :func:`numpy.fft.rfft2`.

    Args:
        shape_yx: height and width of the *image*, pixel.
        pitch_um: pixel pitch, um.

    Returns:
        ``fy`` of shape ``(h, 1)`` and ``fx`` of shape ``(1, w // 2 + 1)``, cycles/um, float32.
    """
    fy = np.fft.fftfreq(shape_yx[0], pitch_um)[:, None]
    fx = np.fft.rfftfreq(shape_yx[1], pitch_um)[None, :]
    return fy.astype(np.float32), fx.astype(np.float32)


def _resize_rows(spectrum: np.ndarray, n_in: int, n_out: int) -> np.ndarray:
    """Crop or zero-pad the (full) FFT axis -2, the shared Nyquist row split or folded."""
    if n_in == n_out:
        return spectrum
    out = np.zeros((*spectrum.shape[:-2], n_out, spectrum.shape[-1]), spectrum.dtype)
    n = min(n_in, n_out)
    positive, negative = (n + 1) // 2, (n - 1) // 2
    out[..., :positive, :] = spectrum[..., :positive, :]
    if negative:
        out[..., -negative:, :] = spectrum[..., -negative:, :]
    if n % 2 == 0:
        if n_out > n_in:
            out[..., n // 2, :] = out[..., -(n // 2), :] = 0.5 * spectrum[..., n // 2, :]
        else:
            out[..., n // 2, :] = spectrum[..., n // 2, :] + spectrum[..., -(n // 2), :]
    return out


def _resize_half_columns(spectrum: np.ndarray, n_in: int, n_out: int) -> np.ndarray:
    """Crop or zero-pad the half-spectrum axis -1 of a real image (rows of full FFT order)."""
    if n_in == n_out:
        return spectrum
    out = np.zeros((*spectrum.shape[:-1], n_out // 2 + 1), spectrum.dtype)
    n = min(n_in, n_out)
    positive = (n + 1) // 2
    out[..., :positive] = spectrum[..., :positive]
    if n % 2 == 0:
        column = spectrum[..., n // 2]
        if n_out > n_in:
            out[..., n // 2] = 0.5 * column
        else:  # F(ky, -n/2) = conj F(-ky, n/2) for a real image
            mirrored = np.roll(column[..., ::-1], 1, axis=-1)
            out[..., n // 2] = column + np.conj(mirrored)
    return out


def samples(pixels: int, ratio: float) -> int:
    """Samples of a result that has ``ratio`` per camera pixel; halves go up.

    So the difference of two numbers is right wherever that of their pixels gives a whole one.
    """
    return math.floor(pixels * ratio + 0.5)


def fourier_resample(image: np.ndarray, shape_out: tuple[int, int]) -> np.ndarray:
    """Resample the last two axes by zero-padding or cropping the spectrum.

    Values are kept (a uniform image stays what it is); sample 0 of the result coincides with sample 0 of
    ``image``, so sample ``i`` lies at ``i * n_in / n_out`` input pixels. The image is taken as periodic.

    Args:
        image: real array ``(..., y, x)``.
        shape_out: new height and width, pixel.

    Returns:
        float32 array ``(..., *shape_out)``.
    """
    image = np.asarray(image, np.float32)
    h, w = image.shape[-2:]
    if (h, w) == tuple(shape_out):
        return image.copy()
    spectrum = scipy.fft.rfft2(image, workers=1)
    spectrum = _resize_rows(spectrum, h, shape_out[0])
    spectrum = _resize_half_columns(spectrum, w, shape_out[1])
    spectrum *= np.float32(math.prod(shape_out) / (h * w))
    return scipy.fft.irfft2(spectrum, s=tuple(shape_out), workers=1).astype(np.float32, copy=False)
