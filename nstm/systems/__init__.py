"""Imaging systems: the forward model of every modality behind one protocol."""

from nstm.systems import diffusercam, dpc, sim  # registers the systems
from nstm.systems.base import Baseline, Calibration, ForwardModel, ImagingSystem, Series, register, registered

__all__ = [
    "Baseline",
    "Calibration",
    "ForwardModel",
    "ImagingSystem",
    "Series",
    "diffusercam",
    "dpc",
    "register",
    "registered",
    "sim",
]
