"""What an OME-XML header says: sizes, names, physical units, optics and times of planes (OME schema 2016-06)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from nstm.acquisition import DataError
from nstm.io.protocol import believable_optics, believable_pixel, clean_text, shown

MAX_XML_CHARACTERS = 64 * 2**20

LENGTH_UM = {
    "m": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "µm": 1.0,  # micro sign
    "μm": 1.0,  # greek mu
    "um": 1.0,
    "nm": 1e-3,
    "pm": 1e-6,
    "Å": 1e-4,
    "in": 25400.0,
}
TIME_S = {"d": 86400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class OmeImage:
    """One ``Image`` element."""

    name: str
    sizes: Mapping[str, int]  # T, C, Z, Y, X
    pixel_um: tuple[float, float] | None
    z_step_um: float | None
    channels: tuple[str, ...]
    metadata: Mapping[str, str]
    times: Mapping[tuple[int, int, int], tuple[float, float | None]]  # (T, C, Z) -> start s, exposure s
    optics: Mapping[str, float] = field(default_factory=dict)  # of the objective, and what all channels state alike
    channel_optics: tuple[Mapping[str, float], ...] = ()

    def plane_times(self, axes: Mapping[str, int]) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Start and exposure, s, of the planes along ``axes`` (slowest first); ``None`` unless all are stated."""
        if not self.times or not set(axes) <= {"T", "C", "Z"}:
            return None, None
        shape = tuple(axes.values())
        index = dict(zip(axes, np.indices(shape).reshape(len(shape), math.prod(shape)), strict=True))
        zeros = np.zeros(math.prod(shape), dtype=int)
        keys = zip(*(index.get(a, zeros).tolist() for a in "TCZ"), strict=True)
        found = [self.times.get(key) for key in keys]
        stated = [f for f in found if f is not None]
        if len(stated) < len(found):
            return None, None
        exposures = [e for _, e in stated if e is not None]
        return np.array([s for s, _ in stated]), np.array(exposures) if len(exposures) == len(stated) else None


def parse_ome(xml: str, path: Path) -> list[OmeImage]:
    """The images of an OME-XML text, without ever expanding an entity.

    Raises:
        DataError: not well-formed, too long, or with a document type (which could define entities).
    """
    where = shown(path)
    if len(xml) > MAX_XML_CHARACTERS:
        raise DataError(f"{where}: OME-XML of {len(xml)} characters, at most {MAX_XML_CHARACTERS} are read")
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        raise DataError(f"{where}: the OME-XML holds a DOCTYPE or ENTITY, which OME never needs: save the file anew")
    try:
        root = ElementTree.fromstring(xml)
        objectives = [o for instrument in _children(root, "Instrument") for o in _children(instrument, "Objective")]
        return [_image(element, number, objectives) for number, element in enumerate(_children(root, "Image"))]
    except (ElementTree.ParseError, ValueError, KeyError, OverflowError) as error:
        raise DataError(f"{where}: the OME-XML cannot be read ({clean_text(error)}): save the file anew") from error


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if child.tag.rpartition("}")[2] == name)


def _quantity(attributes: Mapping[str, str], name: str, units: Mapping[str, float], default: str) -> float | None:
    """A stated number in the base unit; ``None`` where it is missing, not finite or of a unit like ``pixel``."""
    unit = units.get(attributes.get(name + "Unit", default))
    try:
        value = float(attributes[name])
    except (KeyError, ValueError):
        return None
    return value * unit if unit is not None and math.isfinite(value) else None


def _optics(
    element: ElementTree.Element, objectives: Sequence[ElementTree.Element], channels: Sequence[ElementTree.Element]
) -> tuple[dict[str, float], tuple[dict[str, float], ...]]:
    """The optics of an image and of its channels; the objective is the one it names, or the only one there is."""
    settings = next(_children(element, "ObjectiveSettings"), None)
    named = None if settings is None else settings.attrib.get("ID")
    used = [o for o in objectives if o.attrib.get("ID") == named] if named else objectives
    na = _quantity(used[0].attrib, "LensNA", {"": 1.0}, "") if len(used) == 1 else None
    index = None if settings is None else _quantity(settings.attrib, "RefractiveIndex", {"": 1.0}, "")
    each = tuple(
        believable_optics(
            {
                "emission_wavelength_um": _quantity(channel.attrib, "EmissionWavelength", LENGTH_UM, "nm"),
                "excitation_wavelength_um": _quantity(channel.attrib, "ExcitationWavelength", LENGTH_UM, "nm"),
            }
        )
        for channel in channels
    )
    shared = {
        name: value for name, value in (each[0] if each else {}).items() if all(o.get(name) == value for o in each)
    }
    return {**believable_optics({"na": na, "index": index}), **shared}, each


def _image(element: ElementTree.Element, number: int, objectives: Sequence[ElementTree.Element]) -> OmeImage:
    pixels = next(_children(element, "Pixels"), None)
    if pixels is None:
        raise ValueError(f"image {number} has no Pixels")
    given = pixels.attrib
    sizes = {axis: int(given[f"Size{axis}"]) for axis in "TCZYX"}
    if min(sizes.values()) < 1:
        raise ValueError(f"image {number} has sizes {sizes}")
    times: dict[tuple[int, int, int], tuple[float, float | None]] = {}
    for plane in _children(pixels, "Plane"):
        start = _quantity(plane.attrib, "DeltaT", TIME_S, "s")
        key = (int(plane.attrib["TheT"]), int(plane.attrib["TheC"]), int(plane.attrib["TheZ"]))
        if start is not None:
            times[key] = (start, _quantity(plane.attrib, "ExposureTime", TIME_S, "s"))
    z_step = _quantity(given, "PhysicalSizeZ", LENGTH_UM, "µm")
    channels = list(_children(pixels, "Channel"))
    metadata = {"image": element.attrib.get("Name", ""), "dimension_order": given.get("DimensionOrder", "")}
    for child in _children(element, "AcquisitionDate"):
        metadata["acquisition_date"] = child.text or ""
    for i, channel in enumerate(channels[:8]):
        for key_name in ("EmissionWavelength", "ExcitationWavelength"):
            if key_name in channel.attrib:
                unit = channel.attrib.get(key_name + "Unit", "nm")
                metadata[f"channel_{i}_{key_name}"] = f"{channel.attrib[key_name]} {unit}"
    optics, channel_optics = _optics(element, objectives, channels)
    return OmeImage(
        name=clean_text(element.attrib.get("Name", "")),
        sizes=sizes,
        pixel_um=believable_pixel(
            _quantity(given, "PhysicalSizeY", LENGTH_UM, "µm"), _quantity(given, "PhysicalSizeX", LENGTH_UM, "µm")
        ),
        z_step_um=abs(z_step) if z_step else None,
        channels=tuple(clean_text(c.attrib.get("Name", "")) for c in channels),
        metadata=metadata,
        times=times,
        optics=optics,
        channel_optics=channel_optics,
    )
