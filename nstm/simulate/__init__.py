"""Structures, motions and microscopes for tests and the demo: raw data whose truth is known."""

from nstm.simulate.dpc import Blobs, DpcMicroscope, DpcRecording, TargetSample, cells, simulate_dpc
from nstm.simulate.motion import (
    Motion,
    affine,
    deformation,
    drift,
    flow,
    lateral,
    opposed,
    rotation,
    shear,
    still,
    swirl,
    vibration,
)
from nstm.simulate.recording import Recording, SimRecording
from nstm.simulate.sim import SimMicroscope, simulate_sim, structure_area
from nstm.simulate.structures import Area, Points, er_network, filaments, through_depth
from nstm.simulate.target import Target, usaf_target
from nstm.simulate.volume import VolumeMicroscope, simulate_volume

__all__ = [
    "Area",
    "Blobs",
    "DpcMicroscope",
    "DpcRecording",
    "Motion",
    "Points",
    "Recording",
    "SimMicroscope",
    "SimRecording",
    "Target",
    "TargetSample",
    "VolumeMicroscope",
    "affine",
    "cells",
    "deformation",
    "drift",
    "er_network",
    "filaments",
    "flow",
    "lateral",
    "opposed",
    "rotation",
    "shear",
    "simulate_dpc",
    "simulate_sim",
    "simulate_volume",
    "still",
    "structure_area",
    "swirl",
    "through_depth",
    "usaf_target",
    "vibration",
]
