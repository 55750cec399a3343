"""The data model: the frames of one sample with labelled axes, their times and how they were obtained.

A *sample* holds ``t`` acquisitions; an acquisition holds frames along the *frame axes* of its imaging
system (``angle`` and ``phase`` for SIM, ``illumination`` for DPC); every frame has planes ``z``.
In memory a sample is always an :class:`xarray.Dataset` with

``frames``  dims ``(t, *frame_axes, z, y, x)``, counts as recorded, dask-backed when lazy;
``time``    dims ``(t, *frame_axes, z)``, float64 seconds, the middle of each exposure;
attributes  ``frame_axes`` (list), ``pixel_um``, ``z_step_um``, ``time_origin``, ``source`` (JSON-able).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

TIME_ORIGINS = ("read", "computed", "assumed")


class DataError(ValueError):
    """The user's data or settings cannot be used; the message names what, why and the remedy."""


@dataclass(frozen=True)
class Channel:
    """One quantity of a result.

    Attributes:
        name: what it is.
        unit: of its values; "": relative.
        colour: ``signed`` where both signs mean something: shown in two colours about zero; ``red``, ``green`` and
            ``blue`` in this order are shown together as a colour picture.
        main: the one that figures show; the first where no channel of a result says so.
    """

    name: str
    unit: str = ""
    colour: Literal["grey", "signed", "red", "green", "blue"] = "grey"
    main: bool = False


def channels_of(images: xr.DataArray) -> tuple[Channel, ...]:
    """The channels of a time lapse with dim ``c``, as far as its attributes tell of them."""
    names = [str(name) for name in images["c"].values] if "c" in images.coords else [""] * images.sizes["c"]
    about = images.attrs.get("channel_about") or [{}] * len(names)
    return tuple(Channel(name, **known) for name, known in zip(names, about, strict=True))


#: The colours of one picture.
COLOURS = tuple(Channel(colour, colour=colour) for colour in ("red", "green", "blue"))


def in_colour(channels: Sequence[Channel]) -> bool:
    """Whether the channels are the colours of one picture."""
    return [channel.colour for channel in channels] == [channel.colour for channel in COLOURS]


def main_channel(images: xr.DataArray) -> int:
    """Index along ``c`` of the channel that figures show."""
    return next((i for i, channel in enumerate(channels_of(images)) if channel.main), 0)


def make_acquisitions(
    frames: Any,
    times: np.ndarray,
    frame_axes: Sequence[str],
    *,
    pixel_um: float,
    z_step_um: float | None = None,
    time_origin: str,
    source: Mapping[str, Any] | None = None,
) -> xr.Dataset:
    """Bind frames and times to their names.

    Args:
        frames: array (numpy or dask) of shape ``(t, *frame_axes, z, y, x)``, counts.
        times: float64 of shape ``(t, *frame_axes, z)``, seconds, middle of each exposure.
        frame_axes: names of the axes between ``t`` and ``z``, slowest first.
        pixel_um: pixel pitch in the sample, um, the same along y and x.
        z_step_um: distance of planes, um; ``None`` for a single plane.
        time_origin: one of :data:`TIME_ORIGINS`.
        source: JSON-able provenance (files, hashes, reader, what was dropped).

    Raises:
        DataError: shapes, times or units do not fit together.
    """
    dims = ("t", *frame_axes, "z")
    if len(frames.shape) != len(dims) + 2:
        raise DataError(f"frames have {len(frames.shape)} axes, expected {(*dims, 'y', 'x')}")
    times = np.asarray(times, dtype=np.float64)
    if times.shape != tuple(frames.shape[:-2]):
        raise DataError(f"times have shape {times.shape}, frames {tuple(frames.shape)}: one time per plane needed")
    if not np.all(np.isfinite(times)):
        raise DataError("frame times hold NaN or infinity: give exposure_s and delays in the config instead")
    if time_origin not in TIME_ORIGINS:
        raise DataError(f"time_origin is {time_origin!r}, allowed: {', '.join(TIME_ORIGINS)}")
    if not pixel_um > 0:
        raise DataError(f"pixel_um is {pixel_um}, must be positive")
    import xarray as xr  # not earlier: settings are checked without it

    return xr.Dataset(
        {"frames": ((*dims, "y", "x"), frames), "time": (dims, times)},
        attrs={
            "frame_axes": list(frame_axes),
            "pixel_um": float(pixel_um),
            "z_step_um": None if z_step_um is None else float(z_step_um),
            "time_origin": time_origin,
            "source": dict(source or {}),
        },
    )


def frame_axes_of(acquisitions: xr.Dataset) -> tuple[str, ...]:
    """Names of the frame axes, slowest first."""
    return tuple(acquisitions.attrs["frame_axes"])


def frame_shape_of(acquisitions: xr.Dataset) -> tuple[int, int, int]:
    """Planes, rows and columns of a frame."""
    sizes = acquisitions.sizes
    return sizes["z"], sizes["y"], sizes["x"]


def computed_times(
    acquisitions: int,
    axes: Mapping[str, int],
    *,
    exposure_s: float,
    delays_s: Mapping[str, float],
    interval_s: float | None,
    order: Sequence[str],
) -> np.ndarray:
    """Times from the exposure and the delays, the middle of every exposure.

    Planes are taken one after another in ``order`` (slowest first); the next exposure starts when the
    last has ended and the delay of the slowest axis that steps has passed.

    Args:
        acquisitions: number of acquisitions.
        axes: name and length of every axis within an acquisition (frame axes and ``z``).
        exposure_s: exposure of one plane, s.
        delays_s: waiting time before a step of each axis, s; missing axes wait 0 s.
        interval_s: start to start of acquisitions, s; ``None``: back to back, after the longest delay.
        order: all of ``axes``, slowest first, as acquired.

    Returns:
        float64 of shape ``(acquisitions, *axes)`` in the order of ``axes``, s.

    Raises:
        DataError: acquisitions would overlap.
    """
    lengths = [axes[name] for name in order]
    steps = np.zeros(lengths)
    flat = np.indices(lengths).reshape(len(lengths), -1)
    waits = np.zeros(flat.shape[1])
    for axis in range(len(order) - 1, -1, -1):  # the slowest axis that steps decides
        stepped = np.r_[False, flat[axis, 1:] != flat[axis, :-1]]
        waits[stepped] = delays_s.get(order[axis], 0.0)
    start = np.cumsum(waits + np.r_[0.0, np.full(waits.size - 1, exposure_s)])
    steps = (start + exposure_s / 2).reshape(lengths)
    duration = start[-1] + exposure_s
    gap = interval_s if interval_s is not None else duration + max([0.0, *delays_s.values()])
    if acquisitions > 1 and gap < duration - 1e-9:
        raise DataError(
            f"acquisition_interval_s is {gap:g} s but one acquisition takes {duration:g} s "
            "(exposures and delays): raise the interval or correct exposure_s and the delays"
        )
    within = np.transpose(steps, [list(order).index(name) for name in axes])
    return np.arange(acquisitions).reshape(-1, *[1] * len(axes)) * gap + within
