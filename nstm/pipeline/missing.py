"""What still has to be said of a recording, key by key: neither its files nor the config say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nstm.acquisition import DataError
from nstm.io.order import UnknownOrder, order_of_labels, parse_order, plane_order, run_of
from nstm.pipeline.recorded import Recorded, channel_of, has_colours, square_pixel_um


@dataclass(frozen=True)
class About:
    """What a key is, in a few words, and what it may look like."""

    what: str
    example: str


#: Keys of a system, and columns of the sample sheet, that files often leave open.
ABOUT = {
    "optics.na": About("numerical aperture of the objective", "1.49"),
    "optics.index": About("refractive index of the immersion (oil 1.518, water 1.333); of volumes only", "1.518"),
    "optics.emission_wavelength_um": About("detected wavelength, um", "0.525"),
    "optics.excitation_wavelength_um": About("wavelength of the laser, um", "0.488"),
    "optics.pixel_um": About("camera pixel in the sample, um", "0.065"),
    "optics.z_step_um": About("distance of planes, um; of volumes only", "0.125"),
    "camera.offset": About("counts of a dark frame", "100"),
    "illumination.angles": About("orientations of the pattern", "3"),
    "illumination.phases": About("phase steps of each orientation", "3"),
    "illumination.beams": About("interfering beams: 2, or 3 (a pattern of two orders, or along z)", "2"),
    "frames.order": About(
        "axes of the planes in the file, slowest first; while it is empty, `nstm inspect` ranks the possible orders",
        "t angle phase",
    ),
    "frames.planes": About("z planes of an acquisition", "1"),
    "frames.exposure_s": About("exposure of a frame, s; while no times are known equal steps are assumed", "0.005"),
    "channel": About("column of the sample sheet: the file holds several channels", "0"),
    "position": About("column of the sample sheet: the file holds several positions", "0"),
}


def missing(key: str, system: str = "NAME", example: str | None = None, needed: bool = True) -> dict[str, Any]:
    """One entry of the list: where it belongs, what it is, an example, and whether nothing runs without it."""
    place = f"systems.{system}.{key}" if "." in key else key
    return {
        "key": place,
        "what": ABOUT[key].what,
        "example": ABOUT[key].example if example is None else example,
        "needed": needed,
    }


def missing_for(error: Exception, recorded: Recorded, sample: Any, system: Any) -> list[dict[str, Any]]:
    """What stops the sample from being read as the config describes it, not only what stopped it first.

    Args:
        error: what stopped it first.
        recorded: its files, at any position.
        sample: row of the sheet.
        system: its imaging system.
    """
    found: list[dict[str, Any]] = []
    if recorded.positions and not sample.position:
        found.append(missing("position", example=recorded.positions[0]))
    if not sample.channel and _channel_is_needed(recorded, system):
        found.append(missing("channel", example=channel_of(recorded.header, None).cell))
    if isinstance(error, UnknownOrder) or not _order_is_known(recorded, system):
        axes = dict(system.frame_axes) | ({"z": 0} if system.settings.frames.planes > 1 else {})
        found.append(missing("frames.order", sample.system, " ".join(["t", *axes])))
    stated = channel_of(recorded.header, sample.channel).optics
    optics = system.settings.optics
    lacking = [name for name in system.needed_optics if getattr(optics, name) is None and name not in stated]
    if optics.pixel_um is None and square_pixel_um(recorded.header) is None:
        lacking.append("pixel_um")
    if (
        system.settings.frames.planes > 1
        and optics.z_step_um is None
        and recorded.recording.stated("z_step_um") is None
    ):
        lacking.append("z_step_um")
    return found + [missing(f"optics.{name}", sample.system) for name in lacking]


def _order_is_known(recorded: Recorded, system: Any) -> bool:
    """Whether the config or the labels of the file tell the order of the planes."""
    frames = system.settings.frames
    if frames.order or frames.montage or system.usual_order:
        return True
    labels = {a: n for a, n in recorded.recording.axes.items() if a != "C"}
    return order_of_labels(labels, dict(system.frame_axes), frames.planes, system.axis_labels) is not None


def _channel_is_needed(recorded: Recorded, system: Any) -> bool:
    """Channels that the stated order takes for frames need not be told apart."""
    if not has_colours(recorded.header):
        return False
    frames, axes = system.settings.frames, dict(system.frame_axes)
    if not frames.order:
        return True
    try:
        names = parse_order(frames.order, axes, frames.planes)
        order = plane_order(recorded.recording.planes, names, axes, frames.planes)
    except DataError:
        return True
    return run_of("C", recorded.recording.axes, order) is None


def also_missing(entries: Iterable[dict[str, Any]], error: Exception) -> list[dict[str, str]]:
    """A reason that names what ``error`` does not name yet, if anything."""
    rest = [e for e in entries if e["needed"] and ".".join(e["key"].split(".")[-2:]) not in str(error)]
    if not rest:
        return []
    text = "; ".join(f"{e['key']} ({e['what']}, e.g. {e['example']})" for e in rest)
    return [{"severity": "fail", "code": "missing", "message": f"also missing: {text}"}]
