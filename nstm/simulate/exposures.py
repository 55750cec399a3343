"""Moving emitters under light that differs from frame to frame, as a microscope images them on a single plane."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nstm.simulate.camera import instants, light_left
from nstm.simulate.grid import FineGrid
from nstm.simulate.motion import Motion
from nstm.simulate.structures import Points

if TYPE_CHECKING:
    from nstm.simulate.sim import SimMicroscope
    from nstm.simulate.speckle import SpeckleMicroscope

Array = NDArray[np.float64]


class Exposed(NamedTuple):
    """Frames without noise and the sample behind them.

    Attributes:
        clean: ``(*times.shape, y, x)``, photons, the background included.
        truth: ``(n, 2y, 2x)``, photons: a uniform sample of value v gives a mean frame of v.
        truth_times: ``(n,)``, s.
        brightness: that the emitters were multiplied by.
    """

    clean: NDArray[np.float32]
    truth: NDArray[np.float32]
    truth_times: Array
    brightness: float


def expose(
    points: Points,
    motion: Motion,
    m: SimMicroscope | SpeckleMicroscope,
    grid: FineGrid,
    times: Array,
    transfer: Array,
    light: Callable[..., Callable[[Array], Array]],
    truth_times: Array | None = None,
) -> Exposed:
    """Image moving points.

    Args:
        points: emitters at rest; their brightness is scaled to ``photons``.
        motion: their displacement in time.
        m: the instrument.
        grid: finer than the camera, with room around its field.
        times: middle of every exposure, s, with an axis for each number that tells frames apart.
        transfer: of objective and pixel at the frequencies of the grid.
        light: numbers of a frame -> excitation ``(n,)``, mean 1, at positions ``(n, 2)`` um; asked once per frame.
        truth_times: times of the truth, s; default: the middle of every exposure.
    """
    truth_times = np.asarray(times.ravel() if truth_times is None else truth_times, np.float64)
    follow, left = motion.followed(points.position), light_left(m.bleaching, times)
    clean = np.zeros((*times.shape, *grid.field), np.float32)
    for frame in np.ndindex(times.shape):
        middle, lit = float(times[frame]), light(*frame)
        spectrum = np.zeros(grid.frequency.shape, np.complex64)
        for now in instants(middle, m.exposure_s, m.sub_exposures):
            at = follow(now)
            spectrum += grid.spectra(at, (points.weight * lit(at))[:, None])[0]
        clean[frame] = grid.seen(spectrum, transfer) * (left(middle) / m.sub_exposures)
    brightness = m.photons / np.percentile(clean.mean(axis=tuple(range(times.ndim))), 99.9)
    clean = np.maximum(clean * np.float32(brightness), 0) + np.float32(m.background)
    truth = [grid.limited(grid.spectra(follow(t), points.weight[:, None] * left(t)))[0] for t in truth_times.tolist()]
    return Exposed(clean, np.stack(truth) * np.float32(brightness), truth_times, float(brightness))
