"""The centred moving window: which blocks of frames a conventional result is made of, and when it is.

A block is one position along a system's block axis (an orientation of SIM, a frame of DPC). A window holds every
position once. It does not raise the temporal resolution (Biomed. Opt. Express 12, 790, 2021); it only gives a result
at more times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nstm.acquisition import DataError

#: A gap between acquisitions may be this much longer than one between blocks and still count as equal.
GAP_TOLERANCE = 0.1


@dataclass(frozen=True)
class Window:
    """One result of a moving window."""

    centre: tuple[int, int]  # (acquisition, block) whose place in the time series it takes
    members: list[tuple[int, int]]  # (acquisition, block), ordered by block: every position once
    time_s: float  # mean time of its blocks


@dataclass(frozen=True)
class Windows:
    """All results of a series."""

    windows: list[Window]
    mixed: bool  # blocks of different acquisitions share a result
    explanation: str  # for the report

    def __iter__(self) -> Iterator[Window]:
        return iter(self.windows)

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, i: int) -> Window:
        return self.windows[i]


def _mixable(block_times: np.ndarray) -> np.ndarray:
    """For each border between acquisitions: is its gap no longer than that between blocks?"""
    steps = np.diff(block_times, axis=1)
    if steps.size == 0:  # one block per acquisition: nothing to compare with
        return np.zeros(len(block_times) - 1, bool)
    usual = float(np.median(steps))
    gaps = block_times[1:, 0] - block_times[:-1, -1]
    return (gaps > 0) & (gaps <= usual * (1 + GAP_TOLERANCE) + 1e-9)


def windows(block_times: Sequence[Sequence[float]] | np.ndarray, window: int, step: int = 1) -> Windows:
    """List the results of a centred moving window.

    With ``T`` acquisitions of ``B`` blocks, ``window = B`` and no longer wait between acquisitions than between
    blocks there are ``T B - B + 1`` results (``3 T - 2`` for three orientations). Where the wait is longer, windows
    stay within their acquisition: one result each, at its middle block (for an even number the later middle one).

    Args:
        block_times: ``(T, B)``, s, mean time of the frames of each block. Blocks are taken in the order of their
            times, which must be the same in all acquisitions.
        window: number of consecutive blocks of a result; 1 gives one result per block (widefield).
        step: number of blocks from one result to the next.

    Returns:
        The windows in order of time, and whether blocks of different acquisitions are mixed.

    Raises:
        DataError: the window is empty or longer than an acquisition (a position would appear twice), or the order of
            the blocks changes between acquisitions.
    """
    times = np.asarray(block_times, np.float64)
    if times.ndim != 2 or not 1 <= window <= times.shape[1]:
        blocks = times.shape[-1] if times.ndim == 2 else "?"
        raise DataError(f"a window of {window} blocks needs 1 to {blocks} blocks per acquisition, times {times.shape}")
    order = np.argsort(times[0], kind="stable")
    if not np.all(np.diff(times[:, order], axis=1) >= 0):
        raise DataError("the blocks of an acquisition are not taken in the same order in all acquisitions: check times")
    ordered = times[:, order]
    acquisitions, blocks = ordered.shape
    mixable = _mixable(ordered)
    found: list[Window] = []
    # a run is a stretch of blocks without a long wait; windows never leave it
    starts = [0, *(np.nonzero(~mixable)[0] + 1).tolist(), acquisitions]
    for first, last in pairwise(starts):
        run = [(t, b) for t in range(first, last) for b in range(blocks)]
        for i in range(0, len(run) - window + 1, step):
            part = run[i : i + window]
            at = [float(ordered[t, b]) for t, b in part]
            centre = part[window // 2]
            found.append(
                Window(
                    centre=(centre[0], int(order[centre[1]])),
                    members=sorted(((t, int(order[b])) for t, b in part), key=lambda m: m[1]),
                    time_s=float(np.mean(at)),
                )
            )
    mixed = any(len({t for t, _ in w.members}) > 1 for w in found)
    return Windows(found, mixed, _explain(window, step, blocks, mixed, mixable))


def _explain(window: int, step: int, blocks: int, mixed: bool, mixable: np.ndarray) -> str:
    if window == 1:
        return "One result per block of frames."
    if mixed:
        text = f"Centred moving window of {window} blocks; blocks of consecutive acquisitions are mixed"
        if not mixable.all():
            text += f" except at {int((~mixable).sum())} places where the wait between acquisitions is longer"
        covered = "a whole acquisition" if window == blocks else f"{window} of the {blocks} blocks of an acquisition"
        return f"{text}. The temporal resolution is that of {covered}."
    if mixable.size == 0:
        return "One acquisition: windows lie within it."
    if mixable.any():
        return f"Windows lie within their acquisition: in steps of {step} blocks none holds blocks of two."
    return (
        "Windows lie within their acquisition: the wait between acquisitions is longer than that between their blocks, "
        "so blocks of different acquisitions are not mixed."
    )
