"""A system that a config names by its path."""

from typing import Literal

from nstm.settings import SystemSettings
from nstm.systems.base import Baseline, ImagingSystem, register


class StubSettings(SystemSettings):
    kind: Literal["stub"] = "stub"


@register
class Stub(ImagingSystem):
    kind = "stub"
    Settings = StubSettings
    block_axis = "angle"
    frame_axes = {"angle": 3, "phase": 3}  # noqa: RUF012
    grid_ratio = 2.0
    baselines = {  # noqa: RUF012
        name: Baseline(name, 1, lambda frames, calibrations, settings: frames, "none")
        for name in ("widefield", "conventional")
    }

    def forward(self, frame_shape, times, calibration, pixel_um, padding_px):
        raise NotImplementedError

    def cutoff(self, calibration):
        return 8.0

    def passband(self):
        return 4.0
