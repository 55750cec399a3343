"""The imaging system that reconstructs what a simulated microscope recorded, and its frames as a fit takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nstm.simulate.diffusercam import LenslessCamera
from nstm.simulate.dpc import DpcMicroscope
from nstm.simulate.recording import Recording
from nstm.simulate.sim import SimMicroscope
from nstm.simulate.speckle import SpeckleMicroscope
from nstm.simulate.volume import VolumeMicroscope
from nstm.systems.base import ImagingSystem, system_of_kind
from nstm.systems.diffusercam import DiffuserCam
from nstm.systems.diffusercam_settings import DiffuserSettings


def system_of(microscope: SimMicroscope | DpcMicroscope | SpeckleMicroscope | LenslessCamera) -> ImagingSystem:
    """The imaging system with the optics that a config would state."""
    m = microscope
    if isinstance(m, LenslessCamera):
        return _lensless(m)
    if isinstance(m, DpcMicroscope):
        kind, optics = "dpc", {"na": m.na, "emission_wavelength_um": m.wavelength_um, "pixel_um": m.pixel_um}
        extra: dict[str, Any] = {"illumination": {"rotations_deg": list(m.rotations_deg)}}
    elif isinstance(m, SpeckleMicroscope):
        kind = "speckle"
        optics = {
            "na": m.na,
            "illumination_na": m.illumination_na,
            "emission_wavelength_um": m.emission_wavelength_um,
            "excitation_wavelength_um": m.excitation_wavelength_um,
            "pixel_um": m.pixel_um,
            "pixel_integration": m.pixel_integration,
        }
        extra = {"illumination": {"patterns": m.patterns}}
    else:
        kind = "sim"
        optics = {
            "na": m.na,
            "index": m.index,
            "emission_wavelength_um": m.emission_wavelength_um,
            "excitation_wavelength_um": m.excitation_wavelength_um,
            "pixel_um": m.pixel_um,
        }
        extra = {"illumination": {"angles": m.angles, "phases": m.phases, "beams": m.beams}}
        if isinstance(m, VolumeMicroscope):
            optics["z_step_um"] = m.z_step_um
            extra["frames"] = {"planes": m.planes}
    system = system_of_kind(kind)
    stated = {"kind": kind, "optics": optics, "camera": {"offset": m.offset}, **extra}
    return system(system.Settings.model_validate(stated))


def _lensless(camera: LenslessCamera) -> ImagingSystem:
    stated = {
        "optics": {"pixel_um": camera.pixel_um},
        "camera": {"offset": camera.offset},
        "frames": {"exposure_s": camera.exposure_s, "acquisition_interval_s": camera.acquisition_interval_s},
        "readout": {"line_time_s": camera.line_time_s, "halves": "dual" if camera.dual else "single"},
        "psf": {"path": "pattern of the simulated camera"},
        "colours": camera.colours,
        "scene_share": camera.scene_share,
    }
    return DiffuserCam(DiffuserSettings.model_validate(stated), camera.pattern)


def stacked(recording: Recording, acquisition: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Frames ``(*frame axes, z, y, x)``, counts, and times ``(*frame axes, z)``, s, of one acquisition."""
    frames, times = recording.frames[acquisition], recording.times[acquisition]
    if not isinstance(recording.microscope, VolumeMicroscope):
        frames, times = frames[..., None, :, :], times[..., None]
    return frames.astype(np.float32), times


def calibration_of(recording: Recording) -> dict[str, Any]:
    """The true illumination, in the form of an estimate."""
    return {"status": "pass", "reasons": [], **recording.calibration}
