"""Structures, motions and microscopes for tests and the demo: raw data whose truth is known."""

from nstm.simulate.motion import Motion, deformation, drift, rotation, still, swirl, vibration
from nstm.simulate.sim import SimMicroscope, SimRecording, simulate_sim, structure_area
from nstm.simulate.structures import Area, Points, er_network, filaments

__all__ = [
    "Area",
    "Motion",
    "Points",
    "SimMicroscope",
    "SimRecording",
    "deformation",
    "drift",
    "er_network",
    "filaments",
    "rotation",
    "simulate_sim",
    "still",
    "structure_area",
    "swirl",
    "vibration",
]
