"""The draft of a system's config for some recordings that are alike: what they say, and blanks for the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from nstm.io.protocol import OPTICS_RANGE, Header
from nstm.pipeline.missing import ABOUT, missing
from nstm.pipeline.recorded import (
    Channel,
    Recorded,
    channel_of,
    file_times,
    frame_labels,
    has_colours,
    labelled_order,
    square_pixel_um,
)
from nstm.systems.sim import SimIllumination


@dataclass(frozen=True)
class Source:
    """One channel of one recording."""

    recorded: Recorded
    channel: Channel

    @property
    def header(self) -> Header:
        """Header of the first file."""
        return self.recorded.header


@dataclass(frozen=True)
class Key:
    """One key of a system.

    ``blank``: to be filled in; ``open``: may stay empty; ``given``: ``value`` is written, because the labels of the
    file say it; ``read``: left out, because it is read from the file, where it is ``value``.
    """

    name: str
    state: Literal["blank", "open", "given", "read"]
    value: str = ""
    example: str = ""

    @property
    def what(self) -> str:
        """What the key is, with an example."""
        return f"{ABOUT[self.name].what}, e.g. {self.example or ABOUT[self.name].example}"

    def line(self) -> str:
        """The key as a line of YAML, its comment included."""
        name = self.name.rpartition(".")[2]
        if self.state == "read":
            return f"# {name}: read from the file ({self.value})"
        if self.state == "given":
            return f"{name}: {self.value} # {ABOUT[self.name].what}; as the file labels its planes"
        return f"{name}: # {'FILL IN: ' if self.state == 'blank' else ''}{self.what}"


def system_keys(sources: Sequence[Source]) -> list[Key]:
    """All keys that a structured-illumination system needs for ``sources``, section by section."""
    axes = [source.recorded.recording.axes for source in sources]
    angles = _possible("angles", _common([frame_labels(a).get("angle") for a in axes]))
    phases = _possible("phases", _common([frame_labels(a).get("phase") for a in axes]))
    order = _common([labelled_order(a) for a in axes]) if angles and phases else None
    planes = _common([a.get("Z", 1) for a in axes]) if order else None
    return [
        *_optics(sources, planes),
        Key("camera.offset", "blank"),
        _given("illumination.angles", angles),
        _given("illumination.phases", phases),
        Key("illumination.beams", "blank", example="3" if phases and phases >= 5 else "2"),
        Key("frames.order", "read", order) if order else Key("frames.order", "blank"),
        _given("frames.planes", planes),
        *([Key("frames.flips", "read", "y")] if any(s.header.rows_upward for s in sources) else []),
        _times(sources),
    ]


def missing_without_config(recorded: Recorded, channel: str | None) -> list[dict[str, Any]]:
    """What a config and a sample sheet must add to a recording; see :mod:`nstm.pipeline.missing`.

    Args:
        recorded: its files.
        channel: the one that is meant; ``None``: the first, and one must be named where there are several.
    """
    first, colours = channel_of(recorded.header, channel), has_colours(recorded.header)
    columns = [missing("position", example=recorded.positions[0])] if recorded.positions else []
    columns += [missing("channel", example=first.cell)] if colours else []
    source = Source(recorded, first if colours else Channel(None, "", first.optics))
    keys = [key for key in system_keys([source]) if key.state in ("blank", "open")]
    return columns + [missing(k.name, example=k.example or None, needed=k.state == "blank") for k in keys]


def _optics(sources: Sequence[Source], planes: int | None) -> list[Key]:
    """Optics; of single planes neither index nor distance of planes must be known."""
    stated: dict[str, list[float | None]] = {
        name: [s.channel.optics.get(name) for s in sources] for name in OPTICS_RANGE
    }
    stated["pixel_um"] = [square_pixel_um(s.header) for s in sources]
    stated["z_step_um"] = [s.recorded.recording.stated("z_step_um") for s in sources]
    flat = planes == 1
    keys = []
    for name, values in stated.items():
        for_volumes = name in ("index", "z_step_um")
        if None not in values:
            keys.append(Key(f"optics.{name}", "read", _listed(values)))
        elif not (flat and for_volumes):
            keys.append(Key(f"optics.{name}", "open" if for_volumes and planes is None else "blank"))
    return keys


def _times(sources: Sequence[Source]) -> Key:
    found = [file_times(source.recorded.recording, source.channel.cell) for source in sources]
    if all(times["origin"] == "read" for times in found):
        return Key("frames.exposure_s", "read", "the times of all planes")
    return Key("frames.exposure_s", "open")


def _possible(name: str, value: int | None) -> int | None:
    """A number of orientations or phases if a pattern can have so many: other things are labelled so too."""
    try:
        SimIllumination.model_validate({name: value})
    except ValidationError:
        return None
    return value


def _given(name: str, value: int | None) -> Key:
    return Key(name, "blank") if value is None else Key(name, "given", str(value))


def _common(values: Sequence[Any]) -> Any:
    """The value of all, ``None`` where they differ."""
    return values[0] if all(v == values[0] for v in values) else None


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(sorted({f"{v:.4g}" for v in values})[:4])
