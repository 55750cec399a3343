"""What a simulated microscope gives: the recording, and what was there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nstm.acquisition import Channel
from nstm.simulate.motion import Motion
from nstm.simulate.structures import Points


@dataclass(frozen=True)
class Recording:
    """What was recorded and what was there.

    Attributes:
        frames: (t, *frame axes[, z], y, x) uint16 counts.
        clean: the same in photons, without noise, background included, float32.
        times: (t, *frame axes[, z]) middle of the exposures, s.
        truth: (n, *channels, *grid) float32: the sample at ``truth_times``. Sample (0, 0) of the grid is at the
            centre of camera pixel (0, 0).
        truth_times: (n,) s.
        spacing_um: distance of the truth's samples along each axis of its grid, (y, x) or (z, y, x).
        calibration: true parameters of the light, with the keys of an estimate of them.
        motion: what the sample did.
        microscope: the instrument.
    """

    frames: NDArray[np.uint16]
    clean: NDArray[np.float32]
    times: NDArray[np.float64]
    truth: NDArray[np.float32]
    truth_times: NDArray[np.float64]
    spacing_um: tuple[float, ...]
    calibration: dict[str, Any]
    motion: Motion = field(repr=False)
    microscope: Any

    #: What the channels of the truth are.
    channels: ClassVar[tuple[Channel, ...]] = (Channel("intensity"),)

    def truth_tczyx(self) -> NDArray[np.float32]:
        """The truth with all axes of a time-lapse store."""
        planes = self.truth.shape[-3] if len(self.spacing_um) == 3 else 1
        return self.truth.reshape(len(self.truth), len(self.channels), planes, *self.truth.shape[-2:])

    def places(self) -> NDArray[np.float64]:
        """Places of the truth's samples, (n, d) um."""
        grid = self.truth.shape[-len(self.spacing_um) :]
        return np.indices(grid).reshape(len(grid), -1).T * np.array(self.spacing_um)

    def material_displacement(self, earlier_s: float, later_s: float) -> NDArray[np.float64]:
        """True displacement ``(d, *grid)`` in um, on the truth's grid, of what is there at the later time."""
        moved = self.motion.material_displacement(self.places(), earlier_s, later_s)
        return np.asarray(moved.T.reshape(-1, *self.truth.shape[-moved.shape[1] :]))


@dataclass(frozen=True)
class SimRecording(Recording):
    """Structured illumination of emitters: frames (t, angle, phase[, z], y, x).

    Attributes:
        points: the emitters at rest, weights in photons per exposure.
    """

    points: Points = field(repr=False)
