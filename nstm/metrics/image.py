"""PSNR and SSIM of an image against the truth, under two transfers that are the same for every method.

Both compare after removal of the mean and of the best least-squares gain, with a border of 1/8 of the side
cut off. *Plain*: the image limited to ``|f| < kc`` against the full truth. *Equalised*: both multiplied by
``max(0, 1 - |f|/kc)``. ``kc`` is the highest frequency that the instrument transfers, cycles/um.

Images are ``(y, x)`` or ``(z, y, x)``; of a volume every plane is compared and the figures are averaged.
An image sampled differently from the truth (of the same field) is brought to the truth's grid first.
An image with NaN has no figure (NaN).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from nstm.acquisition import DataError

Image = NDArray[np.floating]

#: Share of the side that is cut off every edge before anything is compared.
BORDER = 1 / 8


def radial_frequency(shape: tuple[int, int], pixel_um: float) -> Image:
    """``|f|`` in cycles/um at the frequencies of a real FFT of a ``(y, x)`` image."""
    fy = np.fft.fftfreq(shape[0], pixel_um)[:, None]
    fx = np.fft.rfftfreq(shape[1], pixel_um)[None, :]
    return np.hypot(fy, fx)


def crop(image: Image) -> Image:
    """``image`` without the outer :data:`BORDER` of its last two axes."""
    y, x = (round(n * BORDER) for n in image.shape[-2:])
    return image[..., y : image.shape[-2] - y, x : image.shape[-1] - x]


def resample(image: Image, shape: tuple[int, int]) -> Image:
    """The image on another grid of the same field, by padding or cropping its spectrum; sample 0 stays."""
    if image.shape[-2:] == tuple(shape):
        return image
    old = image.shape[-2:]
    spectrum = scipy.fft.fft2(image)
    for axis, (n, m) in zip((-2, -1), zip(old, shape, strict=True), strict=True):
        keep = min(n, m)
        # an even Nyquist sample stands for +f and -f alike: dropped rather than given to one sign
        frequencies = np.arange(-((keep - 1) // 2), (keep - 1) // 2 + 1)
        resized = np.zeros((*spectrum.shape[:axis], m, *spectrum.shape[spectrum.ndim + axis + 1 :]), spectrum.dtype)
        into, out_of = [slice(None)] * spectrum.ndim, [slice(None)] * spectrum.ndim
        into[axis], out_of[axis] = frequencies % m, frequencies % n  # type: ignore[call-overload]  # arrays beside slices
        resized[tuple(into)] = spectrum[tuple(out_of)]
        spectrum = resized
    gain = shape[0] * shape[1] / (old[0] * old[1])
    return np.asarray(scipy.fft.ifft2(spectrum).real * gain)


def filtered(image: Image, pixel_um: float, transfer: Callable[[Image], Image]) -> Image:
    """A ``(y, x)`` image times a radial transfer function of ``|f|`` (cycles/um)."""
    gain = transfer(radial_frequency((image.shape[0], image.shape[1]), pixel_um))
    return np.asarray(scipy.fft.irfft2(scipy.fft.rfft2(image) * gain, s=image.shape))


def limit(image: Image, pixel_um: float, kc: float) -> Image:
    """A ``(y, x)`` image limited to ``|f| < kc``."""
    return filtered(image, pixel_um, lambda f: (f < kc).astype(np.float64))


def equalise(image: Image, pixel_um: float, kc: float) -> Image:
    """A ``(y, x)`` image times ``max(0, 1 - |f|/kc)``."""
    return filtered(image, pixel_um, lambda f: np.maximum(0.0, 1 - f / kc))


def _fitted(image: Image, truth: Image) -> tuple[Image, Image]:
    """Cropped, without mean; the image with the gain of least squares."""
    a, b = crop(image), crop(truth)
    a, b = a - a.mean(), b - b.mean()
    power = float(np.vdot(a, a))
    return (a * (float(np.vdot(a, b)) / power) if power > 0 else a), b


def mse(image: Image, truth: Image) -> float:
    """Mean squared error of ``(y, x)`` images on one grid, after border, mean and gain, in units of the squared range
    (max - min) of the truth.
    """
    a, b = _fitted(image, truth)
    extent = float(np.ptp(b))
    return float(np.mean((a - b) ** 2)) / extent**2 if extent else float("nan")


def psnr(image: Image, truth: Image) -> float:
    """PSNR in dB, ``-10 log10`` of :func:`mse`."""
    error = mse(image, truth)
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def _structural_similarity(image: Image, truth: Image) -> float:
    a, b = _fitted(image, truth)
    extent = float(np.ptp(b))
    if extent == 0 or min(b.shape) < 7:
        return float("nan")
    return float(structural_similarity(a, b, data_range=extent))


def planes(image: Image, truth: Image) -> list[tuple[Image, Image]]:
    """Pairs of ``(y, x)`` planes in float64 on the truth's grid.

    Raises:
        DataError: not images, or other numbers of planes.
    """
    if image.ndim not in (2, 3) or truth.ndim not in (2, 3):
        raise DataError(f"image {image.shape} and truth {truth.shape} must be (y, x) or (z, y, x)")
    images, truths = (np.asarray(a, np.float64).reshape(-1, *a.shape[-2:]) for a in (image, truth))
    if len(images) != len(truths):
        raise DataError(f"the image has {len(images)} planes, the truth {len(truths)}: they must show the same planes")
    return [(resample(a, (b.shape[0], b.shape[1])), b) for a, b in zip(images, truths, strict=True)]


def _mean_over_planes(image: Image, truth: Image, figure: Callable[[Image, Image], float]) -> float:
    if not (np.all(np.isfinite(image)) and np.all(np.isfinite(truth))):
        return float("nan")
    return float(np.mean([figure(a, b) for a, b in planes(image, truth)]))


def psnr_plain(image: Image, truth: Image, pixel_um: float, kc: float) -> float:
    """PSNR (dB) of the image limited to ``|f| < kc`` against the full truth.

    Args:
        image: ``(y, x)`` or ``(z, y, x)``; any scale, any sampling of the field of ``truth``.
        truth: the same axes.
        pixel_um: pixel of the truth, um.
        kc: highest frequency that the instrument transfers, cycles/um.
    """
    return _mean_over_planes(image, truth, lambda a, b: psnr(limit(a, pixel_um, kc), b))


def psnr_equalised(image: Image, truth: Image, pixel_um: float, kc: float) -> float:
    """PSNR (dB) of image and truth both multiplied by ``max(0, 1 - |f|/kc)``; arguments as :func:`psnr_plain`."""
    return _mean_over_planes(image, truth, lambda a, b: psnr(equalise(a, pixel_um, kc), equalise(b, pixel_um, kc)))


def ssim(image: Image, truth: Image, pixel_um: float, kc: float, *, equalised: bool = False) -> float:
    """SSIM (7 x 7 window) of the pair that :func:`psnr_plain` or :func:`psnr_equalised` compares."""

    def figure(a: Image, b: Image) -> float:
        b = equalise(b, pixel_um, kc) if equalised else b
        a = equalise(a, pixel_um, kc) if equalised else limit(a, pixel_um, kc)
        return _structural_similarity(a, b)

    return _mean_over_planes(image, truth, figure)


def ring_equalise(image: Image, truth: Image, pixel_um: float, kc: float) -> Image:
    """The image with the gain of every Fourier ring fitted to the truth, limited to ``|f| < kc``.

    Undoes what a radially symmetric transfer (an apodisation, a Wiener filter, a blur) did, so that methods
    with different transfer are compared by what they got wrong. The gain of a ring is that of least squares,
    ``Re sum(T conj(I)) / sum |I|^2``, the most favourable to the image; it is measured on the field without
    its border, under a Hann window, and interpolated linearly between rings.

    Args: as :func:`psnr_plain`. Returns the image on the truth's grid, with its number of axes.
    """
    if not (np.all(np.isfinite(image)) and np.all(np.isfinite(truth))):
        return np.full(truth.shape, np.nan)
    equalised = [_ring_equalised(a, b, pixel_um, kc) for a, b in planes(image, truth)]
    return np.asarray(equalised).reshape(truth.shape)


def _ring_equalised(image: Image, truth: Image, pixel_um: float, kc: float) -> Image:
    a, b = windowed_spectra(image, truth)
    f = radial_frequency(crop(truth).shape, pixel_um)  # type: ignore[arg-type]  # two numbers: an image
    width = 1 / (min(crop(truth).shape) * pixel_um)
    ring = np.rint(f / width).astype(int)
    cross = np.bincount(ring.ravel(), (b * a.conj()).real.ravel())
    power = np.bincount(ring.ravel(), (np.abs(a) ** 2).ravel())
    gain = np.where(power > 0, np.maximum(cross, 0) / np.maximum(power, np.finfo(float).tiny), 0)
    gain[0] = gain[1]  # the mean is removed, its ring says nothing
    centres = np.arange(gain.size) * width
    return filtered(image, pixel_um, lambda f: np.interp(f, centres, gain) * (f < kc))


def windowed_spectra(image: Image, truth: Image) -> tuple[Image, Image]:
    """Real FFTs of both fields without border and mean, under a Hann window (fields are not periodic)."""
    a, b = crop(image), crop(truth)
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in b.shape))
    weight = window / window.sum()
    first, second = (scipy.fft.rfft2((p - np.sum(p * weight)) * window) for p in (a, b))
    return first, second
