"""Imaging systems: the forward model of every modality behind one protocol.

A system loads when it is asked for by its kind, and JAX with its first forward model.
"""

from nstm.systems.base import Baseline, Calibration, ImagingSystem, Series, kinds, register, registered, system_of_kind

__all__ = ["Baseline", "Calibration", "ImagingSystem", "Series", "kinds", "register", "registered", "system_of_kind"]
