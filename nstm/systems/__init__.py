"""Imaging systems: the forward model of every modality behind one protocol."""

from nstm.systems import dpc, sim  # registers the systems
from nstm.systems.base import Baseline, Calibration, ForwardModel, ImagingSystem, register, registered

__all__ = ["Baseline", "Calibration", "ForwardModel", "ImagingSystem", "dpc", "register", "registered", "sim"]
