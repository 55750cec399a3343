"""Presets of SIM instruments: what they usually record, for settings that leave it open.

A preset is no measurement: it fills what the settings do not give, and says where its values come from. Its order of
planes is that of a file which does not label them; a file's own labels are better.

The *direction of phase* (whether the pattern steps by ``+2 pi / phases`` or ``-2 pi / phases`` from frame to frame) is
no setting: ``cos(2 pi k.r + phase)`` with both signs turned is the same light. The estimate assumes steps of
``+2 pi / phases`` and searches ``k`` in all directions, so it finds ``-k`` where the steps go the other way. It matters
only to one who brings known pattern vectors. The *size* of the step does matter: equal steps over one whole period.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from nstm.acquisition import DataError

EITHER_DIRECTION = "either; the estimate finds the sign of the pattern vector that goes with it"
_SIMCHECK = "SIMcheck manual, 'SI Microscopy Systems' (github.com/MicronOxford/SIMcheck_Manual)"
_CUDASIRECON = "cudasirecon README, option --fastSI (github.com/scopetools/cudasirecon)"


@dataclass(frozen=True)
class Instrument:
    """What a kind of SIM instrument usually records."""

    description: str
    order: str  # of the planes of a file that does not label them, slowest first, as `frames.order`
    source: str
    illumination: Mapping[str, int] = field(default_factory=dict)  # as in the settings
    timing: Mapping[str, float] = field(default_factory=dict)  # exposure and delays, as in `frames`, s
    montage: str | None = None  # where one image holds several frames, as `frames.montage`
    phase_direction: str = EITHER_DIRECTION

    def settings(self, order: bool = True) -> dict[str, dict[str, Any]]:
        """Partial settings of a system; without ``frames.order`` where the file itself tells it."""
        frames: dict[str, Any] = {**({"order": self.order} if order else {}), **self.timing}
        if self.montage:
            frames["montage"] = self.montage
        return {"illumination": dict(self.illumination), "frames": frames}


INSTRUMENTS: Mapping[str, Instrument] = MappingProxyType(
    {
        "elyra": Instrument(
            description="Zeiss Elyra with a rotating grating (PS.1), three-beam stacks, 3 orientations x 5 phases; "
            "some record 5 orientations. Not the Lattice SIM of Elyra 7, whose pattern has two directions at once. CZI "
            "files label orientations and phases themselves, but often not the time of every frame",
            order="t angle z phase",
            illumination={"angles": 3, "phases": 5, "beams": 3},
            timing={"exposure_s": 0.005, "phase_delay_s": 0.02, "z_delay_s": 0.02, "orientation_delay_s": 0.3},
            source="Cao et al., Nat. Methods 2024 (10.1038/s41592-024-02417-0), with the order of its published "
            f"conversion and times (github.com/rmcao/nstm); numbers of orientations and phases: {_SIMCHECK}",
        ),
        "omx": Instrument(
            description="DeltaVision OMX (Applied Precision, GE): files hold the phases of a section, then the "
            "sections, then the orientations, whatever was recorded first; give exposure and delays only if it was "
            "recorded in this order",
            order="t angle z phase",
            illumination={"angles": 3, "phases": 5, "beams": 3},
            source=f"{_SIMCHECK}; the default order of cudasirecon: {_CUDASIRECON}",
        ),
        "omx_fast": Instrument(
            description="three-beam SIM that turns its pattern at every section ('fast SI'): files hold the phases, "
            "then the orientations, then the sections",
            order="t z angle phase",
            illumination={"angles": 3, "phases": 5, "beams": 3},
            source=_CUDASIRECON,
        ),
        "nsim": Instrument(
            description="Nikon N-SIM. A raw ND2 file holds one image per section with the frames as tiles, phases "
            "along x and orientations along y. Give illumination.angles, phases and beams: 2D- and TIRF-SIM have 2 "
            "beams, 3D-SIM has 3. For frames that were cut apart already leave the instrument out",
            montage="angle phase",
            order="t z angle phase",
            source=_SIMCHECK,
        ),
        "lattice": Instrument(
            description="lattice light-sheet microscope in its SIM mode: one orientation x 5 phases at every section; "
            "resolution is gained along that orientation only. Stacks recorded by moving the sample must be deskewed "
            "first. Not the Lattice SIM of Zeiss Elyra 7",
            order="t z phase",
            illumination={"angles": 1, "phases": 5, "beams": 3},
            source="cudasirecon README, option --bessel, and its issue 29 (--nphases 5 --ndirs 1, two orders); with "
            "one orientation both orders of planes that it knows are this one",
        ),
    }
)


def instrument(name: str) -> Instrument:
    """The preset ``name``.

    Raises:
        DataError: there is none of that name; the message lists all.
    """
    if name not in INSTRUMENTS:
        raise DataError(f"no instrument {str(name)[:60]!r}: choose one of {', '.join(INSTRUMENTS)}, or leave it empty")
    return INSTRUMENTS[name]


def with_preset(settings: Mapping[str, Any], name: str, order: bool = True) -> dict[str, Any]:
    """Settings of a system (as in the config), what they leave open or empty filled by the preset ``name``.

    Args:
        settings: nested mapping; not changed.
        name: key of :data:`INSTRUMENTS`.
        order: False leaves ``frames.order`` out of the preset: the file tells it.

    Raises:
        DataError: there is no such preset.
    """
    return _filled(instrument(name).settings(order), settings)


def _filled(preset: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(preset))
    for key, value in given.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            merged[key] = _filled(merged[key], value)
        elif value is not None or key not in merged:
            merged[key] = copy.deepcopy(value)
    return merged
