"""What the XML of a CZI file says: optics, channels, scales, scenes, times of time points and of single planes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from nstm.acquisition import DataError
from nstm.io.protocol import believable_optics, believable_pixel, clean_text, shown

_TIME = re.compile(rb"<AcquisitionTime>\s*([0-9T:.+Z-]{10,40})\s*</AcquisitionTime>")
_EXPOSURE = re.compile(rb"<ExposureTime>\s*([0-9.eE+-]{1,40})\s*</ExposureTime>")
_START = datetime(2000, 1, 1, tzinfo=UTC)
_TEXTS = {
    "acquisition_date": "Information/Image/AcquisitionDateAndTime",
    "creation_date": "Information/Document/CreationDate",
    "microscope": "Information/Instrument/Microscopes/Microscope/System",
    "immersion": "Information/Image/ObjectiveSettings/Medium",
    "bits": "Information/Image/ComponentBitCount",
    "original_compression": "Information/Image/OriginalCompressionMethod",
}


@dataclass(frozen=True)
class Channel:
    """One channel of the metadata."""

    name: str = ""
    optics: Mapping[str, float] = field(default_factory=dict)  # wavelengths, um
    exposure_s: float | None = None


@dataclass(frozen=True)
class CziMetadata:
    """What the metadata say, as far as it is believable."""

    sizes: Mapping[str, int] = field(default_factory=dict)  # stated length of each axis
    pixel_um: tuple[float, float] | None = None
    z_step_um: float | None = None
    optics: Mapping[str, float] = field(default_factory=dict)  # na, index
    channels: tuple[Channel, ...] = ()
    scenes: Mapping[int, str] = field(default_factory=dict)  # index along S -> name
    time_points_s: tuple[float, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)

    def channel(self, index: int) -> Channel:
        """The channel with this index along C."""
        return self.channels[index] if 0 <= index < len(self.channels) else Channel()


def parse_metadata(xml: bytes, path: Path) -> CziMetadata:
    """The metadata of a file, without ever expanding an entity; empty text: nothing is known.

    Raises:
        DataError: not well-formed, or with a document type (which could define entities).
    """
    text = xml.decode("utf-8-sig", "replace").strip("\0 \r\n\t")
    if not text:
        return CziMetadata()
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(
            f"{shown(path)}: the metadata hold a DOCTYPE or ENTITY, which CZI never needs: save anew in ZEN"
        )
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(
            f"{shown(path)}: the metadata cannot be read ({clean_text(error)}): save anew in ZEN"
        ) from error
    top = root if root.tag == "Metadata" else root.find("Metadata")
    return CziMetadata() if top is None else _metadata(top)


def plane_times(note: bytes) -> tuple[float | None, float | None]:
    """Start and exposure of a plane, s, in the XML of its subblock (``AcquisitionTime``, ``ExposureTime`` in ns)."""
    time, exposure = _TIME.search(note), _EXPOSURE.search(note)
    return _seconds(time[1].decode()) if time else None, _exposure(exposure[1].decode()) if exposure else None


def _metadata(top: Element) -> CziMetadata:
    image = top.find("Information/Image")
    image = Element("Image") if image is None else image
    scale = {d.get("Id"): _number(d.findtext("Value")) for d in top.findall("Scaling/Items/Distance")}
    y, x, z = (None if (metres := scale.get(axis)) is None else abs(metres) * 1e6 for axis in "YXZ")
    objective = _objective(top, image)
    index = _number(image.findtext("ObjectiveSettings/RefractiveIndex"))
    if index is None:
        index = _number(objective.findtext("ImmersionRefractiveIndex"))
    texts = {name: top.findtext(place, "") for name, place in _TEXTS.items()}
    program = [top.findtext(f"Information/Application/{part}", "") for part in ("Name", "Version")]
    return CziMetadata(
        sizes={e.tag[4:]: n for e in image if re.fullmatch("Size[A-Z]", e.tag) and (n := _count(e.text)) is not None},
        pixel_um=believable_pixel(y, x),
        z_step_um=z if believable_pixel(z, z) else None,
        optics=_optics({"na": _number(objective.findtext("LensNA")), "index": index}),
        channels=tuple(_channel(e) for e in image.findall("Dimensions/Channels/Channel")),
        scenes={
            n: clean_text(e.get("Name", ""), 60)
            for e in image.findall("Dimensions/S/Scenes/Scene")
            if (n := _count(e.get("Index"))) is not None
        },
        time_points_s=_offsets(image.findtext("Dimensions/T/Positions/List/Offsets")),
        texts={
            "software": " ".join(program),
            "objective": objective.findtext("Manufacturer/Model", objective.get("Name", "")),
            "magnification": objective.findtext("NominalMagnification", ""),
            **texts,
        },
    )


def _objective(top: Element, image: Element) -> Element:
    """The objective in use: the one that the image refers to, or the only one."""
    used = image.find("ObjectiveSettings/ObjectiveRef")
    all_of_them = top.findall("Information/Instrument/Objectives/Objective")
    found = [o for o in all_of_them if used is not None and o.get("Id") == used.get("Id")] or all_of_them
    return found[0] if len(found) == 1 else Element("Objective")


def _channel(element: Element) -> Channel:
    nanometres = {
        "emission_wavelength_um": _number(element.findtext("EmissionWavelength")),
        "excitation_wavelength_um": _number(element.findtext("ExcitationWavelength")),
    }
    return Channel(
        name=clean_text(element.get("Name", "")),
        optics=believable_optics(
            {name: None if nm is None else round(nm / 1000, 6) for name, nm in nanometres.items()}
        ),
        exposure_s=_exposure(element.findtext("ExposureTime")),
    )


def _optics(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in believable_optics(values).items()}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,9}", text) else None


def _exposure(nanoseconds: str | None) -> float | None:
    value = _number(nanoseconds)
    return value * 1e-9 if value is not None and value > 0 else None


def _offsets(text: str | None) -> tuple[float, ...]:
    numbers = [_number(word) for word in (text or "").split()]
    return tuple(n for n in numbers if n is not None) if None not in numbers else ()


def _seconds(text: str) -> float | None:
    """Seconds since a fixed date of an ISO 8601 time; one without a zone is taken for UTC."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _START).total_seconds()
