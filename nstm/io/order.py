"""The order of planes in a file: from a run of planes to ``(t, frame axes, z)``, stated by the user, never guessed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nstm.acquisition import DataError
from nstm.io.files import spans


class UnknownOrder(DataError):
    """Neither the config nor the file tells how the planes follow each other."""


@dataclass(frozen=True)
class PlaneOrder:
    """Axes of the planes in the file, slowest first, with their lengths; and what does not fill an acquisition."""

    axes: Mapping[str, int]
    dropped: int

    def table(self, frame_axes: Mapping[str, int]) -> np.ndarray:
        """Number of the plane in the file at every ``(t, *frame_axes, z)``, int64."""
        names = ["t", *frame_axes, "z"]
        full = {**dict.fromkeys((n for n in names if n not in self.axes), 1), **self.axes}
        flat = np.arange(math.prod(full.values()), dtype=np.int64).reshape(tuple(full.values()))
        return np.transpose(flat, [list(full).index(name) for name in names])


def parse_order(order: str, frame_axes: Mapping[str, int], planes: int) -> tuple[str, ...]:
    """Names of the axes in ``order``, slowest first; a leading ``t`` may be left out, and axes of length 1 too.

    Raises:
        DataError: an axis is unknown, missing or there twice.
    """
    allowed = ["t", *frame_axes, "z"]
    lengths = {**frame_axes, "z": planes}
    names = order.split()
    unknown = [n for n in names if n not in allowed]
    double = sorted({n for n in names if names.count(n) > 1})
    missing = [n for n, length in lengths.items() if length > 1 and n not in names]
    problems = [
        *([f"unknown: {', '.join(map(repr, unknown))}"] if unknown else []),
        *([f"more than once: {', '.join(double)}"] if double else []),
        *([f"missing: {', '.join(missing)}"] if missing else []),
    ]
    if problems:
        raise DataError(
            f"frames.order is {order!r}: {'; '.join(problems)}. Give the axes {', '.join(allowed)} once each, "
            f"slowest first, separated by spaces, e.g. {examples(frame_axes, planes)}"
        )
    return tuple(names) if "t" in names else ("t", *names)


def examples(frame_axes: Mapping[str, int], planes: int) -> str:
    """Orders that could be meant, for messages."""
    first, *rest = frame_axes
    if planes > 1:
        return f"{' '.join(['t', first, 'z', *rest])!r} or {' '.join(['t', 'z', first, *rest])!r}"
    swapped = ["t", *reversed([first, *rest])]
    plain = " ".join(["t", first, *rest])
    return repr(plain) if not rest else f"{plain!r} or {' '.join(swapped)!r}"


def plane_order(count: int, names: tuple[str, ...], frame_axes: Mapping[str, int], planes: int) -> PlaneOrder:
    """Lengths of the axes ``names`` for ``count`` planes in the file; ``t`` is what is left.

    Raises:
        DataError: fewer planes than one acquisition has, or an incomplete one that cannot be cut off at the end.
    """
    lengths = {**frame_axes, "z": planes}
    each = math.prod(lengths[n] for n in names if n != "t")
    text = " x ".join(f"{lengths[n]} {n}" for n in names if n != "t")
    if count < each:
        raise DataError(
            f"{count} planes in the file, but one acquisition has {each} ({text}): "
            "correct frames.order, frames.planes or the numbers of the illumination, or the file is incomplete"
        )
    acquisitions, dropped = divmod(count, each)
    if dropped and any(lengths[n] > 1 for n in names[: names.index("t")]):
        raise DataError(
            f"{count} planes are no whole number of acquisitions of {each} ({text}), and with the order "
            f"{' '.join(names)!r} the incomplete one does not stand at the end: correct frames.order or cut the file"
        )
    return PlaneOrder({n: acquisitions if n == "t" else lengths[n] for n in names}, dropped)


def run_of(axis: str, labels: Mapping[str, int], order: PlaneOrder) -> list[str] | None:
    """The neighbouring axes of ``order`` that a labelled axis of the file covers exactly; ``None``: there are none.

    A file that labels its nine frames as nine channels is covered by ``angle phase``; one whose two channels
    alternate is not, and its channels must be told apart.
    """
    step, end = spans(labels)[axis]
    inside = {n: s for n, s in spans(order.axes).items() if order.axes[n] > 1}
    edges = {1, *(s[0] for s in inside.values()), *(s[1] for s in inside.values())}
    if step not in edges or end not in edges:
        return None
    return [n for n, (low, high) in inside.items() if step <= low and high <= end]


def order_of_labels(
    labels: Mapping[str, int], frame_axes: Mapping[str, int], planes: int, axis_labels: Mapping[str, str]
) -> tuple[str, ...] | None:
    """The order that the labels of a file state by themselves; ``None`` where they do not tell all axes apart.

    Args:
        labels: axes of the planes as the file calls them, slowest first.
        frame_axes: name and length of the frame axes.
        planes: number of z planes of an acquisition.
        axis_labels: what files call the frame axes (``R``: orientation, ``H``: phase).
    """
    # what a file only counts (I, Q) is time where all else is labelled; the lengths tell whether it is
    names = {"file": "t", "T": "t", "I": "t", "Q": "t", "Z": "z", **axis_labels}
    long = [a for a, n in labels.items() if n > 1]
    if not all(a in names for a in long):
        return None
    told = [names[a] for a in long]
    lengths = {**frame_axes, "z": planes}
    if any(math.prod(labels[a] for a in long if names[a] == axis) != n for axis, n in lengths.items()):
        return None
    order = tuple(dict.fromkeys(told))
    if [a for i, a in enumerate(told) if i == 0 or told[i - 1] != a] != list(order):
        return None
    return order if "t" in order else ("t", *order)


def contradictions(labels: Mapping[str, int], order: PlaneOrder, axis_labels: Mapping[str, str]) -> list[str]:
    """Where the file's own labels (of T, Z and the frame axes, longer than 1) say otherwise than the order, in words.

    A single label over all planes of a file ("27 slices") only counts them and contradicts nothing, and frames
    that a microscope stores as slices are the rule; time taken for slices or slices for time is worth a word.
    """
    long = {a: n for a, n in labels.items() if n > 1}
    if len(long.keys() - {"file"}) < 2:
        return []
    found = []
    for label, axis in {"T": "t", "Z": "z", **axis_labels}.items():
        run = run_of(label, long, order) if label in long else [axis]
        stored_as_slices = label == "Z" and run is not None and "t" not in run
        if run != [axis] and not stored_as_slices:
            taken = f"its planes are taken as {' '.join(run)}" if run else "which fits no axes of the order"
            found.append(f"the file labels {label} = {long[label]}, {taken} ({axis} = {order.axes.get(axis, 1)})")
    return found


def is_monotonic(times: np.ndarray) -> bool:
    """Whether times grow from plane to plane."""
    return all(a < b for a, b in pairwise(times.tolist()))
