"""What the files of a recording state of optics and units, beside what the config says: the config wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nstm.acquisition import DataError
from nstm.io.files import Recording, channel_index
from nstm.io.protocol import Header

_WAVELENGTHS = ("emission_wavelength_um", "excitation_wavelength_um")


class SystemLike(Protocol):
    """What must be known of an imaging system to label its frames; see ``nstm.systems.ImagingSystem``."""

    block_axis: Any
    settings: Any  # .frames (order, planes, flips, exposure_s), .optics (pixel_um, z_step_um, na, ...)
    axis_labels: Any  # what files call the frame axes
    simultaneous_axes: Any  # frame axes along which frames are taken at once
    usual_order: Any  # of the planes of files that do not label them, or None
    usual_times: Any  # words about exposure and delays that are only usual for the instrument, or None

    @property
    def needed_optics(self) -> Sequence[str]:
        """Numbers of the optics that must be known."""
        ...

    @property
    def frame_axes(self) -> Mapping[str, int]:
        """Name and length of each frame axis."""
        ...

    def times(self, acquisitions: int, order: Sequence[str]) -> tuple[np.ndarray, str]:
        """Computed or assumed times ``(t, *frame_axes, z)``, s."""
        ...


@dataclass(frozen=True)
class Units:
    """Sampling of the frames, um, where the pixel size comes from, and what is to be told of it."""

    pixel_um: float
    pixel_origin: str
    z_step_um: float | None
    reasons: list[dict[str, str]]


def warn(code: str, message: str) -> dict[str, str]:
    """A reason to look twice."""
    return {"severity": "warn", "code": code, "message": message}


def stated_optics(
    recording: Recording, system: SystemLike, channel: str | None
) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
    """What is known of the optics, ``{name: {"value", "origin"}}``, and where file and config differ.

    The config wins. A difference counts from 1 % (wavelengths 2 %: filters have a width).

    Raises:
        DataError: a number that the system needs is in neither; all such are named.
    """
    found: dict[str, dict[str, Any]] = {}
    every = [_optics_in_file(header, channel) for header in recording.headers]
    in_file: dict[str, float] = next((stated for stated in every if stated), {})
    reasons = _varying(every)
    for name, tolerance in {"na": 0.01, "index": 0.01, **dict.fromkeys(_WAVELENGTHS, 0.02)}.items():
        if not hasattr(system.settings.optics, name):
            continue
        given, read = getattr(system.settings.optics, name), in_file.get(name)
        if given is not None:
            found[name] = {"value": float(given), "origin": "config"}
        elif read is not None:
            found[name] = {"value": read, "origin": "file"}
        if given is not None and read is not None and abs(read / given - 1) > tolerance:
            message = (
                f"the file states {name} = {read:g}, the config optics.{name} = {given:g}, which is used: "
                "check which is right"
            )
            reasons.append(warn(f"{name}_differs", message))
    missing = [f"optics.{name}" for name in system.needed_optics if name not in found]
    if missing:
        raise DataError(f"{', '.join(missing)}: neither in the config nor in the file: give it in the config")
    na, index = (found[name]["value"] if name in found else None for name in ("na", "index"))
    if na is not None and index is not None and na >= index:
        raise DataError(
            f"na = {na:g} ({found['na']['origin']}) must be below the refractive index = {index:g} "
            f"({found['index']['origin']}): correct optics.na or optics.index"
        )
    return found, reasons


def _optics_in_file(header: Header, channel: str | None) -> dict[str, float]:
    """What a file says of the optics, for the channel that is read."""
    index = 0 if channel in (None, "all") else channel_index(header, str(channel))
    single = header.axes.get("C", 1) == 1 or channel not in (None, "all")
    own = header.channel_optics[index] if single and index < len(header.channel_optics) else {}
    return {**header.optics, **own}


def _varying(every: Sequence[Mapping[str, float]]) -> list[dict[str, str]]:
    """Whether the files of a sample state the same optics.

    Raises:
        DataError: they were recorded in different colours.
    """
    reasons = []
    for name in ("na", "index", *_WAVELENGTHS):
        values = [stated[name] for stated in every if name in stated]
        if not values or max(values) <= 1.02 * min(values):
            continue
        text = f"the files state different {name}: {', '.join(f'{v:g}' for v in sorted(set(values))[:5])}"
        if name in _WAVELENGTHS:
            raise DataError(f"{text}; files of one sample follow each other in time: give each colour a row of its own")
        reasons.append(warn(f"{name}_varies", f"{text}: check that they belong together"))
    return reasons


def stated_units(recording: Recording, optics: Any, planes: int) -> Units:
    """Pixel size and distance of planes: the config's, else the file's; a difference of 1 % is told."""
    reasons = []
    stated = recording.stated("pixel_um")
    for name, what in (("pixel_um", "pixel sizes"), ("z_step_um", "distances of planes")):
        if len({getattr(h, name) for h in recording.headers} - {None}) > 1:
            text = f"the files state different {what}: check that they belong together"
            reasons.append(warn(f"{name.removesuffix('_um')}_varies", text))
    if optics.pixel_um is None:
        if stated is None:
            raise DataError("the pixel size is neither in the file nor in the config: give optics.pixel_um")
        if abs(stated[0] / stated[1] - 1) > 0.01:
            raise DataError(
                f"the file states pixels of {stated[0]:g} x {stated[1]:g} um (y, x); only square pixels can be "
                "used: give optics.pixel_um if the file is wrong"
            )
    elif stated is not None and max(abs(s / optics.pixel_um - 1) for s in stated) > 0.01:
        message = (
            f"the file states pixels of {stated[0]:g} x {stated[1]:g} um (y, x), the config optics.pixel_um = "
            f"{optics.pixel_um:g}, which is used: check which is right"
        )
        reasons.append(warn("pixel_size_differs", message))
    z_step = None
    if planes > 1:
        in_file = recording.stated("z_step_um")
        z_step = optics.z_step_um if optics.z_step_um is not None else in_file
        if z_step is None:
            raise DataError("the distance of planes is neither in the file nor in the config: give optics.z_step_um")
        if in_file is not None and abs(in_file / z_step - 1) > 0.01:
            message = (
                f"the file states planes {in_file:g} um apart, the config optics.z_step_um = {z_step:g}, "
                "which is used: check which is right"
            )
            reasons.append(warn("z_step_differs", message))
    origin = "file" if optics.pixel_um is None else "config"
    return Units(float(optics.pixel_um or stated[0]), origin, z_step, reasons)
