"""The optics of a structured illumination microscope, and the transfer functions that they give."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nstm.acquisition import DataError
from nstm.optics.measured import MeasuredOtf
from nstm.optics.otf import RadialOtf, cutoff, flat_otf
from nstm.optics.volume import axial_frequency, volume_otf


@dataclass(frozen=True)
class Lens:
    """Objective, camera pixel and wavelengths (vacuum); lengths in um, in the sample.

    ``index``, ``excitation_wavelength_um`` and ``z_step_um`` are needed for volumes only. ``pixel_integration``: the
    pixel's own blur is part of the transfer function.
    """

    na: float
    emission_wavelength_um: float
    pixel_um: float
    pixel_integration: bool = True
    index: float | None = None
    excitation_wavelength_um: float | None = None
    z_step_um: float | None = None
    measured: MeasuredOtf | None = None  # takes the place of the theory
    axial_phase_rad: float = 0.0  # of order 1 of three beams in the focal plane; a measurement holds its own

    @property
    def cutoff(self) -> float:
        """Highest lateral frequency in a single raw frame, ``2 NA / lambda``, cycles/um."""
        return cutoff(self.na, self.emission_wavelength_um)

    @property
    def finest_pattern(self) -> float:
        """Highest frequency of two beams interfering in the medium, ``2 n / lambda``, cycles/um; inf if unknown."""
        if self.index is None or self.excitation_wavelength_um is None:
            return math.inf
        return 1.98 * self.index / self.excitation_wavelength_um  # beams along the focal plane do not arrive

    def axial_reach(self, orders: int, pattern_frequency: float) -> float:
        """Highest axial frequency in a stack, cycles/um: of the detection ``n/lambda (1 - cos a)``, ``sin a = NA / n``,
        and of the pattern of three beams (``orders`` 2); inf where the optics that it takes are not known.
        """
        if self.index is None or (orders == 2 and self.excitation_wavelength_um is None):
            return math.inf
        seen = axial_frequency(self.na / self.emission_wavelength_um, self.index, self.emission_wavelength_um)
        return seen + (self._axial_pattern(pattern_frequency) if orders == 2 else 0.0)

    def otf(self, planes: int, orders: int, pattern_frequency: float) -> RadialOtf:
        """Transfer functions of order 0 to ``orders`` in a stack, without the camera pixel.

        Args:
            planes: planes of the volume, padding included; 1: a single plane.
            orders: 1 (two beams) or 2 (three beams, whose order 1 also varies along z).
            pattern_frequency: ``|k|`` of order 1, cycles/um.

        Raises:
            DataError: a volume without index, wavelength of the pattern or distance of its planes, or a pattern that
                cannot be projected.
        """
        if self.measured is not None:
            return self.measured.at(orders, planes, self.z_step_um, self.cutoff)
        if planes == 1:
            return flat_otf(self.na, self.emission_wavelength_um, orders)
        index, z_step_um = self._known("index"), self._known("z_step_um")
        axial = self._axial_pattern(pattern_frequency) if orders == 2 else 0.0
        lens = {"na": self.na, "index": index, "wavelength_um": self.emission_wavelength_um}
        return volume_otf(orders, planes, z_step_um, axial=axial, axial_phase_rad=self.axial_phase_rad, **lens)

    def _axial_pattern(self, pattern_frequency: float) -> float:
        try:
            return axial_frequency(pattern_frequency, self._known("index"), self._known("excitation_wavelength_um"))
        except ValueError as error:
            raise DataError(f"{error}: check optics.excitation_wavelength_um, optics.index and beams") from None

    def _known(self, name: str) -> float:
        value = getattr(self, name)
        if value is None:
            raise DataError(f"a stack needs optics.{name}: give it in the config")
        return float(value)
