"""The one ``t`` axis that all time-lapse stores of a sample share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from nstm.acquisition import DataError, frame_shape_of
from nstm.conventional.window import Windows, windows
from nstm.systems.base import Baseline, ImagingSystem


@dataclass(frozen=True)
class TimeAxis:
    """Times of the results of a sample, s, with the acquisition of each and its block (-1: not the time of a block)."""

    times_s: np.ndarray
    acquisition: np.ndarray
    block: np.ndarray

    def of(self, acquisition: int) -> np.ndarray:
        """Indices of the times within one acquisition."""
        return np.flatnonzero(self.acquisition == acquisition)


def scene_times(raw: xr.Dataset, system: ImagingSystem) -> np.ndarray:
    """When the frames of every acquisition see the scene, ``(t, *frame_axes, n)``, s."""
    shape = frame_shape_of(raw)
    return np.stack([system.scene_times(times, shape) for times in raw["time"].values])


def block_times(raw: xr.Dataset, system: ImagingSystem) -> np.ndarray:
    """Mean time of the frames of every block, ``(t, block)``, s."""
    times = np.moveaxis(scene_times(raw, system), 1 + list(system.frame_axes).index(system.block_axis), 1)
    return np.asarray(times.reshape(*times.shape[:2], -1).mean(axis=-1))


def rolling(raw: xr.Dataset, system: ImagingSystem, baseline: Baseline) -> Windows:
    """The windows of blocks that a conventional product of the sample is made of."""
    times = block_times(raw, system)
    return windows(times, baseline.window or times.shape[1], baseline.step)


def measured_at(raw: xr.Dataset, system: ImagingSystem, axis: TimeAxis) -> np.ndarray:
    """Whether each time of the axis lies within its acquisition; that of a window may lie between two."""
    seen = scene_times(raw, system).reshape(raw.sizes["t"], -1)
    slack = 1e-6 * max(1.0, float(np.abs(seen).max()))
    low, high = (end[axis.acquisition] for end in (seen.min(1) - slack, seen.max(1) + slack))
    return np.asarray((axis.times_s >= low) & (axis.times_s <= high))


def time_axis(raw: xr.Dataset, system: ImagingSystem, output_times: str | int) -> TimeAxis:
    """The time axis that ``reconstruction.output_times`` asks for.

    Args:
        raw: the sample's frames and times.
        system: says which frames form a block (orientations), and when frames see the scene.
        output_times: ``orientations``, ``frames``, ``windows`` (the mean time of every window of the conventional
            result), or a number of equidistant times per acquisition from the first to the last at which a frame saw
            the scene (1: its middle).

    Raises:
        DataError: ``windows``, but the conventional result of the system is made of none.
    """
    acquisitions = raw.sizes["t"]
    if output_times == "windows":
        return _of_windows(raw, system)
    if output_times == "orientations":
        times = block_times(raw, system)
        blocks = np.broadcast_to(np.arange(times.shape[1]), times.shape)
    else:
        seen = _one_of_simultaneous(scene_times(raw, system), system)
        if output_times == "frames":
            times = seen.mean(axis=-1).reshape(acquisitions, -1)
        else:
            seen = seen.reshape(acquisitions, -1)
            times = np.linspace(seen.min(1), seen.max(1), int(output_times), axis=1)
            if times.shape[1] == 1:
                times = (seen.min(1) + seen.max(1))[:, None] / 2
        blocks = np.full(times.shape, -1)
    order = np.argsort(times, axis=1, kind="stable")
    times, blocks = np.take_along_axis(times, order, 1), np.take_along_axis(blocks, order, 1)
    return TimeAxis(times.ravel(), np.repeat(np.arange(acquisitions), times.shape[1]), blocks.ravel())


def _of_windows(raw: xr.Dataset, system: ImagingSystem) -> TimeAxis:
    baseline = system.baselines["conventional"]
    if not isinstance(baseline, Baseline):
        raise DataError("reconstruction.output_times: windows, but the conventional result of this system has none")
    found = rolling(raw, system, baseline)
    centres = np.array([w.centre for w in found], int).reshape(-1, 2)
    return TimeAxis(np.array([w.time_s for w in found]), centres[:, 0], centres[:, 1])


def _one_of_simultaneous(times: np.ndarray, system: ImagingSystem) -> np.ndarray:
    """Times ``(t, *frame_axes, n)`` with one of the frames that are taken at once."""
    for axis, name in enumerate(system.frame_axes, start=1):
        if name in system.simultaneous_axes:
            times = times.take([0], axis=axis)
    return times


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
