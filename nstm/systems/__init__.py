"""Imaging systems: the forward model of every modality behind one protocol."""

from nstm.systems import sim  # registers the system
from nstm.systems.base import Baseline, Calibration, ForwardModel, ImagingSystem, register, registered

__all__ = ["Baseline", "Calibration", "ForwardModel", "ImagingSystem", "register", "registered", "sim"]
