"""Displacement between two images of the same sample at every pixel: pyramidal Lucas-Kanade.

Where the same structure is seen twice, ``second(r + d) = first(r)``; to first order ``d`` follows from the gradients in
a window around every pixel (Lucas and Kanade, IJCAI 1981). From coarse to fine images, so that displacements of many
pixels are found, after the shift of the whole field.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from nstm.quality.shift import window_shift

Image = NDArray[np.floating]

#: Smoothing of each level (standard deviation, pixels), coarse to fine, and how often each is solved.
LEVELS = ((4, 4), (2, 3), (1, 2))
#: Standard deviation of the window in which a displacement is one, pixels of the finest level.
WINDOW_PX = 8.0
#: Size (standard deviation, pixels) above which brightness is background: uneven light and haze must not decide.
BACKGROUND_PX = 8.0
#: Correlation after the displacement below which it is not believed.
LEAST_CORRELATION = 0.6
#: Correlation of the whole field from which its shift starts the search.
_WHOLE_FIELD = 0.5
#: Prior that empty places do not move, as a share of the mean squared gradient.
_RIDGE = 0.02


@dataclass(frozen=True)
class Flow:
    """Displacement of one image against the other.

    Attributes:
        shift_px: ``(2, y, x)``, from a place in the first image to the same structure in the second, (y, x).
        weight: ``(y, x)``, squared gradients: how much structure tells of the displacement; 0 where what was seen
            left the field.
        correlation: ``(y, x)``, of both images in the window after the displacement.
        error_px: ``(y, x)``, standard error of the displacement from what remains different.
    """

    shift_px: Image
    weight: Image
    correlation: Image
    error_px: Image

    @property
    def believed(self) -> Image:
        """The weight where the images agree after the displacement, else 0."""
        return np.where(self.correlation >= LEAST_CORRELATION, self.weight, 0.0)


def flow_between(first: Image, second: Image) -> Flow:
    """How the structure of ``first`` moved until ``second``.

    Args:
        first: ``(y, x)``, any unit.
        second: the same shape.
    """
    shift, correlation, _ = window_shift(_structure(first, 2.0), _structure(second, 2.0))
    flow: Image = np.zeros((2, *first.shape)) + (shift[:, None, None] if correlation > _WHOLE_FIELD else 0.0)
    for level, (step, iterations) in enumerate(LEVELS):
        pair = _Pair.of(first, second, step)
        flow = flow[:, ::step, ::step] / step
        for _ in range(iterations):
            flow = pair.improved(flow)
        if level < len(LEVELS) - 1:
            flow = step * _enlarged(flow, step, first.shape)
    return pair.judged(flow)


def _structure(image: Image, size: float) -> Image:
    """Detail between ``size`` and the background, unit variance."""
    image = np.asarray(image, np.float64)
    detail = gaussian_filter(image, size) - gaussian_filter(image, max(BACKGROUND_PX, 4 * size))
    return np.asarray(detail / max(detail.std(), np.finfo(np.float32).tiny))


def _enlarged(flow: Image, step: int, shape: tuple[int, ...]) -> Image:
    """A flow known at every ``step``-th pixel at all pixels."""
    at = np.indices(shape) / step
    return np.stack([map_coordinates(part, at, order=1, mode="nearest") for part in flow])


@dataclass(frozen=True)
class _Pair:
    """Both images at one level with their gradients; lengths in its pixels."""

    first: Image
    second: Image
    slope_first: Image
    slope_second: Image
    window: float

    @staticmethod
    def of(first: Image, second: Image, step: int) -> _Pair:
        a, b = (_structure(image, float(step))[::step, ::step] for image in (first, second))
        window = WINDOW_PX * max(1, step / 2) / step
        return _Pair(a, b, np.asarray(np.gradient(a)), np.asarray(np.gradient(b)), window)

    def _moved(self, flow: Image) -> tuple[Image, Image, Image]:
        """The second image at the displaced places, its slopes there, and where these are inside the field."""
        at = np.indices(self.first.shape) + flow
        last = np.array(self.first.shape)[:, None, None] - 1
        inside = np.all((at >= 0) & (at <= last), axis=0).astype(float)
        moved, slope_y, slope_x = (
            np.asarray(map_coordinates(values, at, order=1, mode="nearest"))
            for values in (self.second, *self.slope_second)
        )
        return moved, np.stack([slope_y, slope_x]), inside

    def _around(self, values: Image) -> Image:
        return np.asarray(gaussian_filter(values, self.window))

    def _system(self, flow: Image) -> tuple[tuple[Image, Image, Image], Image, Image, Image]:
        """Normal equations ``(yy, yx, xx)`` of the window of every pixel, right sides, the difference, the inside."""
        moved, slopes, inside = self._moved(flow)
        slope = (self.slope_first + slopes) / 2 * inside
        difference = (moved - self.first) * inside
        yy, yx, xx = (self._around(slope[i] * slope[j]) for i, j in ((0, 0), (0, 1), (1, 1)))
        ridge = _RIDGE * np.mean(yy + xx)
        right = np.stack([self._around(s * difference) for s in slope])
        return (yy + ridge, yx, xx + ridge), right, difference, inside

    def improved(self, flow: Image) -> Image:
        (yy, yx, xx), (by, bx), _, _ = self._system(flow)
        determinant = yy * xx - yx**2
        step = np.stack([yx * bx - xx * by, yx * by - yy * bx]) / determinant
        return np.asarray(gaussian_filter(flow + np.clip(step, -2, 2), (0, self.window / 2, self.window / 2)))

    def judged(self, flow: Image) -> Flow:
        (yy, yx, xx), _, difference, inside = self._system(flow)
        here = np.maximum(self._around(inside), 1e-6)
        moved = difference + self.first * inside
        product = self._around(self.first * moved)
        power = self._around(self.first**2 * inside) * self._around(moved**2)
        # white noise smoothed by one pixel has (window / 1)^2 independent values in a Gaussian window
        variance = self._around(difference**2) / here / self.window**2 * (yy + xx) / (yy * xx - yx**2)
        return Flow(
            shift_px=flow,
            weight=np.where(here > 0.5, yy + xx, 0.0),
            correlation=product / np.sqrt(np.maximum(power, np.finfo(np.float32).tiny)),
            error_px=np.sqrt(variance),
        )
