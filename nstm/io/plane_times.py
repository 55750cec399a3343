"""When the planes of a recording were taken: read from the files, computed on what they tell, or assumed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nstm.acquisition import DataError
from nstm.io.files import Recording
from nstm.io.order import is_monotonic
from nstm.io.stated import SystemLike, warn


def plane_times(
    recording: Recording, system: SystemLike, table: np.ndarray, order: Sequence[str]
) -> tuple[np.ndarray, str, list[dict[str, str]]]:
    """Times of all recorded acquisitions: those of the file if every plane has one, else the system's."""
    start, exposure = recording.joined("plane_start_s"), recording.joined("exposure_s")
    notes = []
    if start is not None:
        if _grows(start[table], table, system):
            given = system.settings.frames.exposure_s
            if exposure is not None and given is not None and abs(float(np.median(exposure)) / given - 1) > 0.01:
                message = (
                    f"the file states exposures of {np.median(exposure):g} s, the config frames.exposure_s = "
                    f"{given:g}; the times and exposures of the file are used"
                )
                notes.append(warn("exposure_differs", message))
            middle = start + (exposure if exposure is not None else given or 0.0) / 2
            return middle[table], "read", notes
        message = "the file's plane times do not grow from plane to plane and are not used: check the export"
        notes.append(warn("times_unusable", message))
    points = _time_points(recording, table)
    if points is None:
        times, origin = system.times(table.shape[0], order)
        return np.asarray(times, dtype=np.float64), origin, notes
    within, origin = system.times(1, order)
    within = np.asarray(within, dtype=np.float64)
    if len(points) > 1:
        wait, longest = float(np.diff(points).min()), float(np.ptp(within))
        given = system.settings.frames.acquisition_interval_s
        if given is not None:
            if abs(wait / given - 1) > 0.01:
                message = (
                    f"the file starts an acquisition every {wait:g} s, the config states "
                    f"frames.acquisition_interval_s = {given:g}, which is used: check which is right"
                )
                notes.append(warn("interval_differs", message))
            times, origin = system.times(table.shape[0], order)
            return np.asarray(times, dtype=np.float64), origin, notes
        if origin == "assumed":  # the frames fill the interval
            within = within * (wait / within.size)
        elif longest >= wait:
            raise DataError(
                f"the file starts an acquisition every {wait:g} s, but by exposure_s and the delays one takes "
                f"{longest:g} s: correct them in `frames`"
            )
    return within + points.reshape(-1, *[1] * (within.ndim - 1)), origin, notes


def _grows(start: np.ndarray, table: np.ndarray, system: SystemLike) -> bool:
    """Whether times ``(t, *frame_axes, z)`` grow from plane to plane of the file; some planes may be taken at once."""
    for axis, name in enumerate(system.frame_axes, start=1):
        if name in system.simultaneous_axes:
            if np.any(start != start.take([0], axis=axis)):
                return False
            start, table = start.take([0], axis=axis), table.take([0], axis=axis)
    return is_monotonic(start.ravel()[np.argsort(table, axis=None)])


def _time_points(recording: Recording, table: np.ndarray) -> np.ndarray | None:
    """Start of every acquisition, s, where the file tells it and its time points are the acquisitions."""
    if len(recording.files) != 1:
        return None
    header = recording.files[0].header
    points = header.time_point_s
    if points is None or len(points) < table.shape[0] or len(points) != header.axes.get("T", 1):
        return None
    whole = np.arange(header.planes).reshape(tuple(header.axes.values()))
    moment = np.moveaxis(whole, list(header.axes).index("T"), 0) if "T" in header.axes else whole[None]
    of_plane = np.empty(header.planes, int)
    of_plane[moment.reshape(len(points), -1)] = np.arange(len(points))[:, None]
    by_acquisition = of_plane[table.reshape(table.shape[0], -1)]
    if np.any(by_acquisition != np.arange(table.shape[0])[:, None]) or not is_monotonic(points):
        return None
    return np.asarray(points - points[0], dtype=np.float64)[: table.shape[0]]
