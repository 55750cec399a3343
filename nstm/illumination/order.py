"""Which order the planes of a file have, as far as the frames tell: all orders ranked, for a person to decide."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from nstm.illumination.evidence import CONVINCING, Evidence, order_evidence
from nstm.io.order import PlaneOrder, plane_order

#: Pixels per side, from the middle of the field, that are looked at.
CROP_PX = 256
#: Sections from the middle of the stack, and acquisitions from the start, that are looked at.
SECTIONS, ACQUISITIONS, ACQUISITIONS_OF_STACKS = 3, 3, 2
#: With more orders than this, the best of a first look (one section, one acquisition) are looked at in full.
SHORTLIST = 6
#: The best order is believed from this score (without a pattern 0.1 is reached), and this many times the next one's.
LEAST_SCORE, LEAST_RATIO = 0.2, 2.0
#: Lines of a table at most.
TABLE_LINES = 12


@dataclass(frozen=True)
class Candidate:
    """One order of the planes, slowest axis first, and its evidence; ``same_as`` no evidence here tells apart."""

    order: str
    evidence: Evidence
    same_as: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """Score of the evidence."""
        return self.evidence.score


def rank_orders(
    read_plane: Callable[[int], np.ndarray],
    count: int,
    frame_axes: Mapping[str, int],
    planes: int,
    *,
    passband: float | None = None,
    offset: float = 0.0,
) -> list[Candidate]:
    """All orders in which ``count`` planes can stand in a file, the best evidence first.

    Only what is needed is read, each plane once: for every order up to three sections from the middle of the stack in
    up to three acquisitions (two of stacks). Of many orders a short list is made with one section of one acquisition.

    Args:
        read_plane: ``number in the file -> (y, x)``.
        count: planes in the file; those of an incomplete acquisition at the end are not looked at.
        frame_axes: lengths of ``angle`` and ``phase``.
        planes: sections of an acquisition.
        passband: see :func:`order_evidence`.
        offset: counts of a dark frame.

    Raises:
        DataError: too few planes, or planes that cannot be judged.
    """
    axes = {"angle": frame_axes["angle"], "phase": frame_axes["phase"]}
    orders = _possible(count, axes, planes)
    read = lru_cache(maxsize=None)(lambda number: _cropped(np.asarray(read_plane(number))))

    def look(order: PlaneOrder, few: bool) -> Evidence:
        chosen = _chosen(order.table(axes), few)
        stack = np.stack([read(int(number)) for number in chosen.ravel()])
        frames = stack.reshape(*chosen.shape, *stack.shape[1:])
        return order_evidence(frames, recorded=chosen, passband=passband, offset=offset)

    few = len(orders) > SHORTLIST
    found = {name: look(order, few) for name, (order, _) in orders.items()}
    if few:
        for name in sorted(found, key=lambda name: -found[name].score)[:SHORTLIST]:
            found[name] = look(orders[name][0], few=False)
    candidates = [Candidate(name, found[name], same) for name, (_, same) in orders.items()]
    return sorted(candidates, key=lambda candidate: -candidate.score)


def decided(candidates: Sequence[Candidate]) -> bool:
    """Whether the first of ranked candidates stands out: good evidence, and much more than for any other."""
    best, *others = candidates
    return best.score >= LEAST_SCORE and not best.same_as and not _rivals(best, others)


def verdict(candidates: Sequence[Candidate]) -> str:
    """What a ranking says, in one sentence."""
    best, *others = candidates
    rivals = _rivals(best, others)
    if best.score < LEAST_SCORE:
        return f"undecided: the evidence is weak (best score {best.score:.2f}, {LEAST_SCORE:g} is needed)"
    if rivals:
        return f"undecided between {', '.join(repr(c.order) for c in (best, *rivals[:3]))}"
    if best.same_as:
        names = " or ".join(map(repr, (best.order, *best.same_as)))
        return f"undecided: {names}; patterns do not tell sections from times"
    words = best.evidence.words
    doubt = "" if words == CONVINCING else f"; but {words}: check the numbers of angles, phases and planes"
    return f"the frames speak for {best.order!r}{doubt}"


def _rivals(best: Candidate, others: Sequence[Candidate]) -> list[Candidate]:
    return [c for c in others if best.score < LEAST_RATIO * c.score]


def ranking_table(candidates: Sequence[Candidate]) -> str:
    """Ranked candidates as text of fixed width, at most TABLE_LINES lines, the verdict last.

    ``match``: strength of the pattern over chance; ``own pattern``: orientations that have one; ``light +-``: scatter
    of the light within an orientation.
    """
    width = max(len(c.order) for c in candidates)
    head = f"{'order':{width}}  score  match  phase error  own pattern  light +-  evidence"
    room = TABLE_LINES - 3
    rows = [_table_row(c, width) for c in candidates[:room]]
    more = len(candidates) - room
    return "\n".join([head, *rows, *([f"({more} more)"] if more > 0 else []), verdict(candidates)])


def _table_row(candidate: Candidate, width: int) -> str:
    e = candidate.evidence
    orientations = f"{e.distinct} of {len(e.vectors)}"
    return (
        f"{candidate.order:{width}}  {e.score:5.2f}  {e.strength:5.0f}  {e.phase_error_deg:7.0f} deg  "
        f"{orientations:>11}  {100 * e.scatter:6.1f} %  {e.words}"
    )


def _possible(count: int, axes: Mapping[str, int], planes: int) -> dict[str, tuple[PlaneOrder, tuple[str, ...]]]:
    """Orders by name, each with the names of others under which the patterns repeat in the same way."""
    whole = plane_order(count, ("t", *axes, "z"), axes, planes)
    lengths = {"t": whole.axes["t"], "z": planes, **axes}
    long = [name for name, length in lengths.items() if length > 1]
    alike: dict[tuple[tuple[str, int], ...], list[tuple[str, ...]]] = {}
    for names in itertools.permutations(long):
        if not whole.dropped or "t" not in names[1:]:  # an incomplete acquisition can only be cut off at the end
            alike.setdefault(_layout(names, lengths), []).append(names)
    found = {}
    for first, *same in alike.values():
        stated = first if "t" in first else ("t", *first)
        found[" ".join(first)] = (plane_order(count, stated, axes, planes), tuple(map(" ".join, same)))
    return found


def _layout(names: Sequence[str], lengths: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Names with their lengths, where times and sections, in which patterns repeat, have one name."""
    repeats = [("repeat" if name in ("t", "z") else name, lengths[name]) for name in names]
    runs = itertools.groupby(repeats, key=lambda item: item[0])
    return tuple((name, math.prod(length for _, length in run)) for name, run in runs)


def _chosen(table: np.ndarray, few: bool) -> np.ndarray:
    """Numbers ``(angle, phase, t and z)`` of the planes that are looked at, from a table ``(t, angle, phase, z)``."""
    acquisitions, sections = table.shape[0], table.shape[-1]
    times = min(acquisitions, 1 if few else ACQUISITIONS if sections == 1 else ACQUISITIONS_OF_STACKS)
    depth = min(sections, 1 if few else SECTIONS)
    start = (sections - depth) // 2
    looked = np.moveaxis(table[:times, ..., start : start + depth], 0, -1)
    return looked.reshape(*looked.shape[:2], -1)


def _cropped(plane: np.ndarray) -> np.ndarray:
    """The middle of a plane."""
    window = tuple(slice((n - min(n, CROP_PX)) // 2, (n + min(n, CROP_PX)) // 2) for n in plane.shape)
    return plane[window].copy()
