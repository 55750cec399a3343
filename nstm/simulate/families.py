"""Families of recordings at rest whose illumination is to be estimated, and recordings without any.

A family fixes what makes an estimate hard; a draw of it has its own sample, directions, phases, modulation and noise.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstm.simulate.camera import camera
from nstm.simulate.motion import still
from nstm.simulate.recording import SimRecording
from nstm.simulate.sim import SimMicroscope, simulate_sim, structure_area
from nstm.simulate.structures import Area, Points, er_network, filaments, through_depth
from nstm.simulate.volume import VolumeMicroscope, simulate_volume

#: Filaments and single emitters per square um of the sample.
_FILAMENTS, _SPOTS = 0.05, 0.3

#: What each family changes of a two-beam microscope with 3 x 3 frames, 200 photons and 3 degrees of phase error.
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "usual": {},
    "bright": {"photons": 2000.0},
    "dim": {"photons": 25.0},
    "low modulation": {"modulation": (0.28, 0.42)},
    "dim, low modulation": {"photons": 25.0, "modulation": (0.28, 0.42)},
    "faint": {"photons": 6.0},
    "haze": {"haze": 3.0},
    "TIRF": {"finest_share": 0.95},
    "beyond the passband": {"finest_share": 1.07, "na": 1.45},
    "bleaching": {"phase_error_deg": 8.0, "bleaching": 0.25},
    "fine pixels": {"pixel_um": 0.0406},
    "not square": {"shape": (0.6, 1.0)},
    "5 x 4 frames": {"angles": 5, "phases": 4},
    "three beams": {"beams": 3, "phases": 5},
    "three beams, dim": {"beams": 3, "phases": 5, "photons": 25.0},
    "three beams, 2 x 7": {"beams": 3, "angles": 2, "phases": 7},
    "stack": {"planes": 12, "pixel_um": 0.08},
    "stack, bleaching": {"planes": 12, "pixel_um": 0.08, "phase_error_deg": 8.0, "bleaching": 0.25},
}


def draw(family: str, seed: int, side: int = 256) -> SimRecording:
    """A recording of one of :data:`FAMILIES`.

    Args:
        family: its name.
        seed: another one gives another sample, other light and other noise.
        side: camera pixels of the longer side of the field.
    """
    changes = dict(FAMILIES[family])
    rng = np.random.default_rng([seed, 5])
    error = math.radians(changes.pop("phase_error_deg", 3.0))
    shape = tuple(round(side * part / 2) * 2 for part in changes.pop("shape", (1.0, 1.0)))
    volume = "planes" in changes
    beams, angles = (3 if volume else changes.get("beams", 2)), changes.get("angles", 3)
    ranges = [changes.pop("modulation", (0.65, 0.95)), (0.5, 0.65)][: beams - 1]
    light = {
        "modulation": tuple(tuple(float(rng.uniform(*r)) for r in ranges) for _ in range(angles)),
        "first_direction_rad": float(rng.uniform(0, np.pi)),
        "phase_error_rad": error,
        "sub_exposures": 1,
    }
    kind = VolumeMicroscope if volume else SimMicroscope
    microscope = kind(**{"shape": shape, **light, **changes})
    if isinstance(microscope, VolumeMicroscope):
        return simulate_volume(_thick(seed, microscope), still(), microscope, 1, seed)
    return simulate_sim(_sample(seed, structure_area(microscope)), still(), microscope, 1, seed)


def _sample(seed: int, area: Area) -> Points:
    """Filaments and single emitters, or, every third time, a network."""
    rng = np.random.default_rng([seed, 6])
    if seed % 3 == 2:
        return er_network(seed, area)
    extent = float(np.prod(area.size))
    spots = area.uniform(rng, math.ceil(_SPOTS * extent))
    lines = filaments(seed, area, number=math.ceil(_FILAMENTS * extent))
    bright = rng.uniform(0.2, 1.5, len(spots)) * 0.2
    return lines.joined(Points(spots, bright))


def _thick(seed: int, m: VolumeMicroscope) -> Points:
    """A sample twice as thick as the stack, so that light comes from beyond both of its ends."""
    depth = (m.planes - 1) * m.z_step_um
    points = through_depth(_sample(seed, structure_area(m)), seed, -depth / 2, 1.5 * depth)
    return points.merged(0.02)


def patternless(seed: int, *, angles: int = 3, phases: int = 3, side: int = 128) -> NDArray[np.float32]:
    """Frames ``(angle, phase, y, x)`` in which no pattern is to be found, camera offset removed.

    Noise alone, or a sample under even light: at rest, or with the mean light changing from frame to frame.
    """
    rng = np.random.default_rng([seed, 7])
    microscope = SimMicroscope(shape=(side, side), photons=float(rng.choice([25.0, 200.0, 2000.0])), sub_exposures=1)
    clean = np.full((angles, phases, side, side), float(rng.choice([3.0, 60.0, 1000.0])), np.float32)
    if seed % 3:
        even = dataclasses.replace(microscope, angles=1, phases=1, modulation=((0.0,),))
        clean[:] = simulate_sim(_sample(seed, structure_area(even)), still(), even, 1, seed).clean[0, 0, 0]
    if seed % 3 == 2:
        clean *= rng.uniform(0.9, 1.1, (angles, phases, 1, 1)).astype(np.float32)
    counts = camera(clean, offset=microscope.offset, read_noise=microscope.read_noise, seed=seed)
    return counts.astype(np.float32) - np.float32(microscope.offset)
