"""Resolution of a single image by decorrelation analysis, without a truth.

Descloux, Grussmayer and Radenovic, Nature Methods 16, 918 (2019). The correlation of an image's spectrum with its
normalised spectrum within a growing disc has a peak where signal ends and noise begins; the further out the image is
high-pass filtered, the further out the peak, up to the highest frequency that holds signal. Frequencies are in units
of Nyquist. The end of the signal is found at 0.83 to 0.91 of the transfer's cut-off; ratios hold to 5 %.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from nstm.acquisition import DataError
from nstm.metrics.image import Image

#: Radii of a curve, and filters of a search.
RADII, FILTERS = 50, 10
#: Pixels along the edges over which the image fades to its mean.
EDGE_PX = 20
#: By how much a curve must fall behind its peak.
_DROP = 5e-4
#: Least height of a peak that counts.
_LEAST_PEAK = 0.05


@dataclass(frozen=True)
class Decorrelation:
    """What the analysis finds.

    Attributes:
        cutoff: highest frequency with signal, in units of Nyquist; 0 where none is found.
        resolution_um: ``2 pixel / cutoff``; NaN where none is found.
        amplitude: height of the peak of the unfiltered image, which rises with its signal over noise.
    """

    cutoff: float
    resolution_um: float
    amplitude: float


def decorrelation(image: Image, pixel_um: float) -> Decorrelation:
    """Analyse one image.

    Args:
        image: ``(y, x)``, at least 3 times :data:`EDGE_PX` along both.
        pixel_um: its pixel, um.

    Raises:
        DataError: not a plane, or too small.
    """
    if image.ndim != 2 or min(image.shape) < 3 * EDGE_PX:
        raise DataError(f"decorrelation needs an image (y, x) of at least {3 * EDGE_PX} pixels, this has {image.shape}")
    nothing = Decorrelation(0.0, float("nan"), 0.0)
    if not np.all(np.isfinite(image)) or np.ptp(image) == 0:
        return nothing
    spectrum = _Spectrum(_faded(np.asarray(image, np.float64)))
    radii = np.linspace(0, 1, RADII)
    first = _peak(spectrum.curve(spectrum.values, radii), radii)
    largest = max(image.shape)
    widths = np.r_[image.shape[0] / 4, _series(2 / first[0] if first[0] > 0 else largest / 2, 0.15)]
    peaks = [first, *spectrum.peaks(widths, radii)]
    best = max(range(len(peaks)), key=lambda i: (peaks[i][0], i))
    # a second, finer search around the filter that led furthest
    if best == 0:
        bounds = (float(image.shape[0]), widths[0])
    elif best >= len(widths) - 1:
        bounds = (widths[best - 2], widths[best - 1])
    else:
        bounds = (widths[best - 1], widths[best])
    low = max(peaks[best][0] - (radii[1] - radii[0]), 0.0)
    fine = np.linspace(low, min(peaks[best][0] + 0.4, 1.0), RADII)
    peaks += spectrum.peaks(_series(*bounds), fine)
    cutoff = max(position for position, height in [*peaks, (0.0, 1.0)] if height >= _LEAST_PEAK)
    if cutoff == 0:
        return Decorrelation(0.0, float("nan"), first[1])
    return Decorrelation(cutoff, 2 * pixel_um / cutoff, first[1])


class _Spectrum:
    """The samples of a spectrum within the disc of radius 1, in order of their radius."""

    def __init__(self, image: Image) -> None:
        odd = image[tuple(slice(0, n - (n + 1) % 2) for n in image.shape)]
        axes = [np.linspace(-1, 1, n) for n in odd.shape]
        radius = np.hypot(axes[0][:, None], axes[1]).ravel()
        whole = scipy.fft.fftshift(scipy.fft.fft2(odd)).ravel()
        inside = np.flatnonzero(radius < 1)
        order = inside[np.argsort(radius[inside], kind="stable")]
        self.radius, self.values = radius[order], whole[order]
        size = np.abs(self.values)
        self.phases = np.where(size > 0, self.values / np.where(size > 0, size, 1), 0)
        self.number = np.r_[0.0, np.cumsum(size > 0)]

    def curve(self, values: np.ndarray, radii: np.ndarray) -> np.ndarray:
        """Correlation of ``values`` with the phases of the image within each radius, cut to three decimals."""
        within = np.searchsorted(self.radius, radii, side="left")
        shared = np.r_[0.0, np.cumsum((values * self.phases.conj()).real)][within]
        norm = np.linalg.norm(values) * np.sqrt(self.number[within])
        found = np.divide(shared, norm, out=np.zeros(len(radii)), where=norm > 0)
        return np.asarray(np.floor(found * 1000) / 1000)

    def peaks(self, widths: np.ndarray, radii: np.ndarray) -> list[tuple[float, float]]:
        """Peaks after the high-pass filters "image minus its blur" of several widths."""
        filtered = (self.values * (1 - np.exp(-2 * width**2 * self.radius**2)) for width in widths)
        return [_peak(self.curve(values, radii), radii) for values in filtered]


def _peak(curve: np.ndarray, radii: np.ndarray) -> tuple[float, float]:
    """Position and height of the maximum behind which the curve falls; a maximum at the end is none."""
    end = len(curve)
    while end > 1:
        at = int(np.argmax(curve[:end]))
        if at == 0 or (at < end - 1 and curve[at] - curve[at:end].min() >= _DROP):
            return float(radii[at]), float(curve[at])
        end -= 1
    return float(radii[0]), float(curve[0])


def _series(first: float, last: float) -> np.ndarray:
    return np.geomspace(first, last, FILTERS)


def _faded(image: Image) -> Image:
    """The image fading to its mean along the edges, so that its spectrum has no cross."""
    phase = np.linspace(np.pi / 2, -np.pi / 2, EDGE_PX)
    ramp = (1 + np.sin(phase)) / 2  # 1 inside
    windows = [np.r_[ramp[::-1], np.ones(n - 2 * EDGE_PX), ramp] for n in image.shape]
    mean = image.mean()
    return np.asarray((image - mean) * np.outer(*windows) + mean)
