"""What range of counts a recording uses, from a few of its planes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: At most so many planes are read, fewer where they are large, and so many pixels of each are sorted.
MOST_PLANES, MOST_PIXELS, SORTED_PIXELS = 12, 2**26, 2**18
PERCENTS = (0.1, 50.0, 99.9)


def count_range(
    read_plane: Callable[[int], np.ndarray], planes: int, plane_shape: tuple[int, int], saturation: float | None = None
) -> dict[str, Any]:
    """Range of the counts in up to MOST_PLANES planes, spread evenly from the first to the last.

    Args:
        read_plane: gives plane ``i`` of the recording as ``(y, x)``.
        planes: number of planes of the recording.
        plane_shape: size of a plane, pixel.
        saturation: count at which a pixel is full; ``None``: the largest value of an integer type.

    Returns:
        ``planes`` (numbers of those that were read), ``min``, ``low`` (0.1 %), ``median``, ``high`` (99.9 %),
        ``max``, ``nan_percent``, ``full_value`` and ``full_percent`` (``None`` where nothing is known to be full),
        ``bits`` (log2 of the number of values from ``low`` to ``high``; ``None`` where pixels are no integers).

    Raises:
        DataError: a plane cannot be decoded.
        OSError: a file cannot be read.
    """
    numbers = chosen_planes(planes, plane_shape)
    seen = _Seen()
    for number in numbers:
        seen.add(read_plane(number), saturation)
    return {
        "planes": numbers,
        **seen.range(),
        "nan_percent": 100 * seen.nan / seen.pixels,
        "full_value": seen.full_value,
        "full_percent": None if seen.full_value is None else 100 * seen.full / seen.pixels,
        "bits": seen.bits(),
    }


def chosen_planes(planes: int, plane_shape: tuple[int, int]) -> list[int]:
    """Numbers of the planes that are looked at, from the first to the last of ``planes``."""
    count = min(planes, MOST_PLANES, max(1, MOST_PIXELS // math.prod(plane_shape)))
    return [int(number) for number in np.linspace(0, planes - 1, count).round()]


@dataclass
class _Seen:
    """What was seen of the planes so far."""

    lowest: float = math.inf
    highest: float = -math.inf
    pixels: int = 0
    nan: int = 0
    full: int = 0
    full_value: float | None = None
    some: np.ndarray = field(default_factory=lambda: np.empty(0))  # finite pixels of all planes, evenly chosen

    def add(self, plane: np.ndarray, saturation: float | None) -> None:
        """One more plane ``(y, x)``."""
        real = plane[np.isfinite(plane)] if plane.dtype.kind == "f" else plane.ravel()
        self.pixels += plane.size
        self.nan += plane.size - real.size
        self.full_value = saturation
        if saturation is None and plane.dtype.kind in "iu":
            self.full_value = float(np.iinfo(plane.dtype).max)
        if real.size == 0:
            return
        self.lowest = min(self.lowest, float(real.min()))
        self.highest = max(self.highest, float(real.max()))
        if self.full_value is not None:
            self.full += int(np.count_nonzero(real >= self.full_value))
        part = real[:: math.ceil(real.size / SORTED_PIXELS)]
        self.some = np.concatenate([self.some.astype(part.dtype, copy=False), part])

    def range(self) -> dict[str, float | None]:
        """Smallest and largest count and what lies between."""
        if self.some.size == 0:
            return dict.fromkeys(("min", "low", "median", "high", "max"))
        low, median, high = map(float, np.percentile(self.some, PERCENTS))
        return {"min": self.lowest, "low": low, "median": median, "high": high, "max": self.highest}

    def bits(self) -> float | None:
        """Counts may be multiples of a step, as those of a 12-bit camera shifted to 16 bits."""
        if self.some.dtype.kind not in "iu":
            return None
        low, _, high = np.percentile(self.some, PERCENTS)
        steps = np.diff(np.unique(self.some).astype(np.int64))
        step = int(np.gcd.reduce(steps)) if steps.size else 1
        return round(math.log2((high - low) / step + 1), 1)
