"""What every simulated microscope has: exposures, bleaching, and a camera with its noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def instants(middle_s: float, exposure_s: float, number: int) -> list[float]:
    """Times (s) whose mean stands for an exposure: the middles of ``number`` equal parts."""
    return [middle_s + exposure_s * ((i + 0.5) / number - 0.5) for i in range(number)]


def light_left(bleaching: float, times: NDArray[np.float64]) -> Callable[[float], float]:
    """``time -> light left``: exponential, the share ``bleaching`` lost between the first and the last of ``times``."""
    rate = -np.log1p(-bleaching) / max(float(times.max() - times.min()), 1e-12)
    return lambda t: float(np.exp(-rate * (t - times.min())))


def camera(photons: NDArray[np.float32], *, offset: float, read_noise: float, seed: int) -> NDArray[np.uint16]:
    """Counts of a camera with one count per photoelectron: Poisson and read noise, offset, 16 bit."""
    rng = np.random.default_rng([seed, 2])
    counts = rng.poisson(photons) + rng.normal(offset, read_noise, photons.shape)
    return np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
