"""The one ``t`` axis that all time-lapse stores of a sample share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class TimeAxis:
    """Times of the results of a sample, s, with the acquisition of each and its block (-1: not the time of a block)."""

    times_s: np.ndarray
    acquisition: np.ndarray
    block: np.ndarray

    def of(self, acquisition: int) -> np.ndarray:
        """Indices of the times within one acquisition."""
        return np.flatnonzero(self.acquisition == acquisition)


def block_times(raw: xr.Dataset, block_axis: str) -> np.ndarray:
    """Mean time of the frames of every block, ``(t, block)``, s."""
    time = raw["time"]
    return time.mean([d for d in time.dims if d not in ("t", block_axis)]).transpose("t", block_axis).values


def time_axis(raw: xr.Dataset, block_axis: str, output_times: str | int) -> TimeAxis:
    """The time axis that ``reconstruction.output_times`` asks for.

    Args:
        raw: the sample's frames and times.
        block_axis: the frame axis whose positions are the blocks (orientations).
        output_times: ``orientations``, ``frames``, or a number of equidistant times per acquisition from
            its first to its last frame (1: its middle).
    """
    acquisitions = raw.sizes["t"]
    if output_times == "orientations":
        times = block_times(raw, block_axis)
        blocks = np.broadcast_to(np.arange(times.shape[1]), times.shape)
    else:
        frames = raw["time"].mean("z").values.reshape(acquisitions, -1)
        if output_times == "frames":
            times = np.sort(frames, axis=1)
        else:
            times = np.linspace(frames.min(1), frames.max(1), int(output_times), axis=1)
            if times.shape[1] == 1:
                times = (frames.min(1) + frames.max(1))[:, None] / 2
        blocks = np.full(times.shape, -1)
    order = np.argsort(times, axis=1, kind="stable")
    times, blocks = np.take_along_axis(times, order, 1), np.take_along_axis(blocks, order, 1)
    return TimeAxis(times.ravel(), np.repeat(np.arange(acquisitions), times.shape[1]), blocks.ravel())


def place(axis: TimeAxis, results: Mapping[tuple[int, int], float], tolerance_s: float) -> dict[int, tuple[int, int]]:
    """Which block-centred result stands at which index of the axis.

    Args:
        axis: the shared axis.
        results: time (s) of the result centred on ``(acquisition, block)``.
        tolerance_s: a result further than this from every time of the axis is left out, never moved.
    """
    placed: dict[int, tuple[int, int]] = {}
    for centre, time in results.items():
        own = np.flatnonzero((axis.acquisition == centre[0]) & (axis.block == centre[1]))
        index = int(own[0]) if own.size else int(np.argmin(np.abs(axis.times_s - time)))
        if own.size or abs(axis.times_s[index] - time) <= tolerance_s:
            placed[index] = centre
    return placed
