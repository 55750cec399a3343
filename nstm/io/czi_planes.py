"""Which planes a CZI file holds: the box that their indices span, its holes, and the order in which it was filled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nstm.acquisition import DataError
from nstm.io.czi_directory import AXES, Subblock
from nstm.io.protocol import shown

_NAMES = {"T": "time points", "C": "channels"}


@dataclass(frozen=True)
class PlaneBox:
    """Subblocks in the box of planes that their indices span, along T, C and all axes that the file names."""

    index: Mapping[str, np.ndarray]  # axis -> (subblocks,), counted from 0
    lengths: Mapping[str, int]

    @property
    def count(self) -> int:
        """Number of planes of the whole box."""
        return math.prod(self.lengths.values())

    @property
    def there(self) -> set[tuple[int, ...]]:
        """Indices of the planes that are there."""
        return set(zip(*(i.tolist() for i in self.index.values()), strict=True))

    def missing(self) -> Iterator[str]:
        """Names of the planes that are not there."""
        there, lengths = self.there, list(self.lengths.values())
        steps = [math.prod(lengths[i + 1 :]) for i in range(len(lengths))]
        for number in range(self.count):
            place = tuple(number // step % length for step, length in zip(steps, lengths, strict=True))
            if place not in there:
                names = zip(self.lengths, place, lengths, strict=True)
                yield " ".join(f"{axis} = {i}" for axis, i, length in names if length > 1)

    def whole(self, axis: str) -> int:
        """How many of the first along ``axis`` are whole; 0 where a whole one stands behind a broken one."""
        values, counts = np.unique(self.index[axis], return_counts=True)
        whole = values[counts == self.count // self.lengths[axis]]
        return int(whole.size) if whole.size and whole[-1] == whole.size - 1 else 0

    def cut(self, axis: str, length: int) -> tuple[PlaneBox, np.ndarray]:
        """The first ``length`` along ``axis``, and the numbers of the subblocks that are left."""
        left = np.flatnonzero(self.index[axis] < length)
        return PlaneBox({a: i[left] for a, i in self.index.items()}, {**self.lengths, axis: length}), left

    def sorted(self, axes: list[str]) -> tuple[PlaneBox, np.ndarray]:
        """The subblocks in the order of ``axes``, slowest first, and their numbers before."""
        order = np.lexsort([self.index[a] for a in reversed(axes)]) if axes else np.arange(self.count)
        return PlaneBox({a: i[order] for a, i in self.index.items()}, self.lengths), order


def plane_box(path: Path, blocks: list[Subblock]) -> PlaneBox:
    """The box of the planes ``blocks``, one scene.

    Raises:
        DataError: several subblocks for one plane (tiles of a mosaic), several planes in one, or labels that
            contradict each other.
    """
    where = shown(path)
    if any(b.entry.planes != 1 for b in blocks):
        raise DataError(
            f"{where}: subblocks hold several planes each, one is readable: export the planes singly in ZEN"
        )
    # ZEN counts anew in the list, not in the subblocks, when it saves a part of a recording: one shift for all.
    if len({tuple((a, n - b.own.start.get(a, 0)) for a, n in b.entry.start.items()) for b in blocks}) > 1:
        raise DataError(f"{where}: planes are labelled otherwise than the list of planes says: save it anew in ZEN")
    named = [a for a in AXES if a != "M" and (a in "TC" or any(a in b.entry.start for b in blocks))]
    start = {a: np.array([b.entry.start.get(a, 0) for b in blocks], dtype=np.int64) for a in named}
    index = {a: np.unique(n, return_inverse=True)[1] if a == "C" else n - n.min() for a, n in start.items()}
    box = PlaneBox(index, {a: int(i.max()) + 1 for a, i in index.items()})
    if len(box.there) < len(blocks):
        raise DataError(
            f"{where}: {len(blocks)} subblocks for {len(box.there)} planes, a mosaic of tiles; only planes of a single "
            "tile can be read: save every tile as a file of its own (ZEN: split scenes and tiles)"
        )
    return box


def without_holes(path: Path, box: PlaneBox) -> tuple[PlaneBox, np.ndarray, tuple[str, ...]]:
    """The whole time points before a recording broke off, or the first channels where the later ones have less.

    Returns:
        What is left, the numbers of its subblocks, and what is to be said about the rest.

    Raises:
        DataError: planes are missing elsewhere.
    """
    listed = box.index["T"].size
    lost = box.count - listed
    if lost == 0:
        return box, np.arange(listed), ()
    axis = max("TC", key=lambda a: box.whole(a) * (box.count // box.lengths[a]))
    first = box.whole(axis)
    if first == 0:
        examples = "; ".join(itertools.islice(box.missing(), 5))
        raise DataError(
            f"{shown(path)}: {lost} of {box.count} planes are missing ({examples}{' ...' if lost > 5 else ''}, counted "
            "from 0), nothing can stand for them: copy the file anew, or save its whole part as a new one in ZEN"
        )
    smaller, left = box.cut(axis, first)
    note = (
        f"{lost} of {box.count} planes are missing (first: {next(box.missing())}, counted from 0): of "
        f"{box.lengths[axis]} {_NAMES[axis]} the first {first} are whole and used, {listed - left.size} planes of the "
        "others are left out"
    )
    return smaller, left, (note,)


def recorded_axes(box: PlaneBox, sequence: np.ndarray, timed: bool) -> list[str]:
    """Axes longer than 1, slowest first: the slowest changes least often along ``sequence``, the planes as recorded.

    Without times that is the sequence in the file, where programs may sort planes by section first; but a time point
    is recorded as a whole, so T is the slowest then.
    """
    changes = {a: np.count_nonzero(np.diff(i[sequence])) for a, i in box.index.items() if box.lengths[a] > 1}
    return sorted(changes, key=lambda a: (a != "T" and not timed, changes[a]))
