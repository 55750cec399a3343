"""The resolution target of the United States Air Force, 1951 (MIL-STD-150A), drawn from its definition.

Element ``e`` of group ``g`` has ``2^(g + (e - 1) / 6)`` line pairs per mm: three horizontal and three vertical bars,
each five bar widths long, one width apart. Groups are columns of six elements; each is half as large as the one
before, beside or below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nstm.simulate.structures import Points

Array = NDArray[np.float64]
Box = tuple[float, float, float, float]


class Lookup:
    """Finds which of many places (n, 2) lie in a small rectangle, without looking at all of them."""

    def __init__(self, places: Array) -> None:
        self._order = np.argsort(places[:, 0])
        self._places = np.ascontiguousarray(places[self._order].T)

    def within(self, y0: float, x0: float, y1: float, x1: float) -> tuple[NDArray[np.int64], Array]:
        """Numbers (k,) of the places in the rectangle, and the places (2, k)."""
        rows = slice(*np.searchsorted(self._places[0], [y0, y1]))
        found = self._places[:, rows]
        inside = (found[1] >= x0) & (found[1] <= x1)
        return self._order[rows][inside], found[:, inside]


def bar_width_um(group: int, element: int) -> float:
    """Width of a bar: half a line pair, um."""
    return 500.0 / 2.0 ** (group + (element - 1) / 6)


@dataclass(frozen=True)
class Target:
    """Bright rectangles on a dark ground that do not overlap: ``boxes`` (n, 4) as y0, x0, y1, x1 in um.

    ``labels`` (n, 2) holds group and element of every bar; the solid square has element 0.
    """

    boxes: Array
    labels: NDArray[np.int64]

    @property
    def area_um2(self) -> float:
        """Area of all bars."""
        return float(np.sum((self.boxes[:, 2] - self.boxes[:, 0]) * (self.boxes[:, 3] - self.boxes[:, 1])))

    def coverage(self, places: Array, cell_um: float) -> Array:
        """Share of a square cell around each of ``places`` (n, 2) um that lies within bars, exactly; (n,)."""
        half, total, places_of = cell_um / 2, np.zeros(len(places)), Lookup(places)
        for y0, x0, y1, x1 in self.boxes:
            near, (y, x) = places_of.within(y0 - half, x0 - half, y1 + half, x1 + half)
            total[near] += _overlap(y, y0, y1, half) * _overlap(x, x0, x1, half) / cell_um**2
        return total

    def points(self, spacing_um: float) -> Points:
        """Emitters that fill the bars, at most ``spacing_um`` apart, each as bright as its share of the area, um^2."""
        position, weight = [], []
        for y0, x0, y1, x1 in self.boxes:
            sides = np.array([y1 - y0, x1 - x0])
            counts = np.ceil(sides / spacing_um).astype(int)
            cells = (np.indices(tuple(counts.tolist())).reshape(2, -1).T + 0.5) * (sides / counts)
            position.append(np.array([y0, x0]) + cells)
            weight.append(np.full(len(cells), np.prod(sides / counts)))
        return Points(np.vstack(position), np.concatenate(weight))


def usaf_target(first_group: int, groups: int, centre_um: tuple[float, float]) -> Target:
    """Groups ``first_group`` to ``first_group + groups - 1`` around ``centre_um`` (y, x).

    The whole is about 27 widths of its widest bar high and 18 wide.
    """
    boxes: list[Box] = []
    labels: list[tuple[int, int]] = []
    y, x, side = 0.0, 0.0, bar_width_um(first_group, 1)
    for number, group in enumerate(range(first_group, first_group + groups)):
        width = bar_width_um(group, 1)
        for element in range(1, 7):
            boxes += _element(y + _top(group, element), x, bar_width_um(group, element))
            labels += [(group, element)] * 6
        # beside the first group of a pair stands the second, below that one the next pair
        y, x = (y, x + 12.5 * width) if number % 2 == 0 else (y + _top(group, 7) + width, x)
    if groups > 1:
        bottom = _top(first_group, 7)
        boxes.append((bottom - 6 * side, 12.5 * side, bottom - side, 17.5 * side))
        labels.append((first_group, 0))
    drawn_at = np.array(boxes)
    low, high = drawn_at[:, :2].min(axis=0), drawn_at[:, 2:].max(axis=0)
    shift = np.asarray(centre_um) - (low + high) / 2
    return Target(drawn_at + np.tile(shift, 2), np.array(labels))


def _top(group: int, element: int) -> float:
    """Where an element begins below the top of its group, um: five widths each and one between them."""
    return sum(6 * bar_width_um(group, e) for e in range(1, element))


def _element(y: float, x: float, width: float) -> list[Box]:
    """Three horizontal bars and, one width to the right, three vertical ones."""
    horizontal = [(y + 2 * i * width, x, y + (2 * i + 1) * width, x + 5 * width) for i in range(3)]
    right = x + 6 * width
    vertical = [(y, right + 2 * i * width, y + 5 * width, right + (2 * i + 1) * width) for i in range(3)]
    return horizontal + vertical


def _overlap(at: Array, low: float, high: float, half: float) -> Array:
    """Length of what ``at - half .. at + half`` shares with ``low .. high``."""
    return np.maximum(np.minimum(at + half, high) - np.maximum(at - half, low), 0)
