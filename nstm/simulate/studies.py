"""Samples that move by stated amounts within one acquisition: the studies of Cao et al. 2024, Extended Data 1, 2, 7-10.

The sample is a resolution target that fills the field: for DPC it delays the light, for SIM it shines. Before the
lensless camera it is a disc with patches and seams, as a ball has.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nstm.simulate.diffusercam import LenslessCamera, bounce, simulate_diffusercam, textured_disc
from nstm.simulate.dpc import DpcMicroscope, TargetSample, simulate_dpc
from nstm.simulate.motion import (
    Motion,
    deformation,
    drift,
    flow,
    largest_travel,
    lateral,
    opposed,
    rotation,
    shear,
    still,
    swirl,
    vibration,
)
from nstm.simulate.recording import Recording
from nstm.simulate.sim import SimMicroscope, simulate_sim
from nstm.simulate.target import Target, bar_width_um, usaf_target
from nstm.simulate.volume import VolumeMicroscope

Array = NDArray[np.float64]
Microscope = SimMicroscope | DpcMicroscope | LenslessCamera

#: Height of the target in widths of its widest bar, and the share of the field that it may fill.
_HEIGHT, _SHARE = 27.0, 0.95
#: Standard deviation of small eddies, camera pixels.
_EDDY_PX = 12.0
#: Direction (y, x) of motions along a line: no axis of the camera.
_ALONG = np.array([0.53, 0.848])


@dataclass(frozen=True)
class Field:
    """What a motion of a stated amount is relative to.

    Attributes:
        size_um: (height, width), or (depth, height, width).
        pixel_um: camera pixel.
        duration_s: from the first exposure of an acquisition to its last.
        seed: of random motions.
    """

    size_um: tuple[float, ...]
    pixel_um: float
    duration_s: float
    seed: int = 0

    @staticmethod
    def of(microscope: Microscope, seed: int = 0) -> Field:
        """The field of a microscope and the duration of its acquisition."""
        size = tuple(n * microscope.pixel_um for n in microscope.shape)
        if isinstance(microscope, VolumeMicroscope):
            size = ((microscope.planes - 1) * microscope.z_step_um, *size)
        return Field(size, microscope.pixel_um, float(np.ptp(microscope.times(1))), seed)

    @property
    def centre_um(self) -> tuple[float, float]:
        """(y, x)."""
        return self.size_um[-2] / 2, self.size_um[-1] / 2

    @property
    def side_um(self) -> float:
        """Mean of height and width."""
        return sum(self.centre_um)

    def speed(self, pixels: float) -> float:
        """um/s that cover so many camera pixels in the duration."""
        return pixels * self.pixel_um / self.duration_s

    def travelling(self, make: Callable[[float], Motion], pixels: float, places: int = 10) -> Motion:
        """``make(amount)`` with the amount at which the farthest point of the field travels ``pixels``.

        Looked at are ``places`` along height and width.
        """
        if pixels == 0:
            return still()
        wanted = amount = pixels * self.pixel_um
        counts = [10] * (len(self.size_um) - 2) + [places] * 2
        axes = np.meshgrid(*(np.linspace(0, s, n) for s, n in zip(self.size_um, counts, strict=True)), indexing="ij")
        points = np.stack(axes, axis=-1).reshape(-1, len(axes))
        for _ in range(6):  # nearly proportional, so a few corrections suffice
            amount *= wanted / float(largest_travel(make(amount), points, [(0.0, self.duration_s)])[0])
        return make(amount)

    def planar(self, motion: Motion) -> Motion:
        """A motion of (y, x) in the dimensions of the field."""
        return lateral(motion) if len(self.size_um) == 3 else motion


def _deformation(field: Field, pixels: float) -> Motion:
    """Drift and eddies that swing within two acquisitions."""
    height, width = field.size_um[-2:]
    eddies = deformation(
        field.seed,
        (0.1 * height, 0.1 * width, 0.9 * height, 0.9 * width),
        size_um=0.2 * field.side_um,
        amplitude_um=1.0,
        period_s=2 * field.duration_s,
    )
    motion = field.planar(eddies + drift(_ALONG * 0.5 / field.duration_s))
    return field.travelling(motion.scaled, pixels)


def _eddies(field: Field, pixels: float) -> Motion:
    """Many small eddies, each as large as an organelle whatever the field, that swing within two acquisitions."""
    height, width = field.size_um[-2:]
    size = _EDDY_PX * field.pixel_um
    motion = field.planar(
        deformation(
            field.seed,
            (0.0, 0.0, height, width),
            size_um=size,
            amplitude_um=1.0,
            period_s=2 * field.duration_s,
            number=max(1, round(height * width / (4 * size) ** 2)),
        )
    )
    return field.travelling(motion.scaled, pixels, places=math.ceil(4 * field.side_um / size))


def _flow(field: Field, pixels: float) -> Motion:
    def faster(um: float) -> Motion:
        return flow(
            field.seed,
            speed_um_s=um / field.duration_s,
            scale_um=0.6 * field.side_um,
            turnover_s=2 * field.duration_s,
            dimensions=len(field.size_um),
        )

    return field.travelling(faster, pixels)


#: Motions by name: ``(field, amount within one acquisition)``.
MOTIONS: Mapping[str, Callable[[Field, float], Motion]] = {
    "static": lambda field, amount: still(),
    # camera pixels along a line
    "translation": lambda field, amount: field.planar(drift(_ALONG * field.speed(amount))),
    # degrees about the centre
    "rotation": lambda field, amount: field.planar(rotation(math.radians(amount) / field.duration_s, field.centre_um)),
    # displacement along x per distance along y
    "shear": lambda field, amount: field.planar(shear(amount / field.duration_s, field.centre_um)),
    # rad at the centre, fading over a fifth of the field
    "swirl": lambda field, amount: field.planar(swirl(amount / field.duration_s, field.centre_um, 0.2 * field.side_um)),
    # camera pixels of the upper and of the lower half, which slide past each other
    "opposed": lambda field, amount: field.planar(
        opposed((0.0, field.speed(amount)), field.centre_um, (1.0, 0.0), 0.02 * field.side_um)
    ),
    # amplitude in camera pixels, two and a half periods
    "vibration": lambda field, amount: field.planar(
        vibration(_ALONG * amount * field.pixel_um, field.duration_s / 2.5)
    ),
    # camera pixels of the farthest point
    "deformation": _deformation,
    "eddies": _eddies,
    "flow": _flow,
}


@dataclass(frozen=True)
class StudyCase:
    """One recording of a study: ``motion`` is a name of :data:`MOTIONS`, ``amount`` as explained there.

    Before the lensless camera it is ``swing`` by ``amount`` pixels while the rows are read, deformed meanwhile.

    ``photons`` replaces that of the microscope.
    """

    system: Literal["dpc", "sim", "diffusercam"]
    motion: str
    amount: float
    photons: float | None = None


#: The five motions of the paper, of the size that it shows on a field of 128 pixels.
PAPER_MOTIONS = {"static": 0.0, "translation": 9.4, "rotation": 10.0, "shear": 0.15, "swirl": 0.6}

_SYSTEMS: tuple[Literal["dpc", "sim"], ...] = ("dpc", "sim")
#: Studies by what they vary: motion (Extended Data 1, 2), rows of one frame (7), magnitude (8), vibration (9), noise
#: (10).
STUDIES: Mapping[str, tuple[StudyCase, ...]] = {
    "motion": tuple(StudyCase(s, name, amount) for s in _SYSTEMS for name, amount in PAPER_MOTIONS.items()),
    "rows": (
        StudyCase("diffusercam", "static", 0.0),
        *(StudyCase("diffusercam", "swing", amount) for amount in (5.0, 10.0, 20.0)),
    ),
    "magnitude": tuple(StudyCase(s, "swirl", amount) for s in _SYSTEMS for amount in (0.15, 0.3, 0.6, 1.2, 2.4)),
    "vibration": tuple(StudyCase(s, "vibration", amount) for s in _SYSTEMS for amount in (0.25, 0.5, 1.0, 2.0, 4.0)),
    "noise": (
        *(StudyCase("dpc", "swirl", 0.6, photons) for photons in (40000.0, 10000.0, 2500.0, 625.0)),
        *(StudyCase("sim", "swirl", 0.6, photons) for photons in (1000.0, 300.0, 100.0, 30.0)),
    ),
}


def target_of_field(field: Field, groups: int = 3) -> Target:
    """The largest target that fits into the field, in its centre."""
    first = math.ceil(math.log2(_HEIGHT * bar_width_um(0, 1) / (_SHARE * min(field.size_um[-2:]))))
    return usaf_target(first, groups, field.centre_um)


def record_case(case: StudyCase, microscope: Microscope, seed: int = 0) -> Recording:
    """Record one acquisition of the target as it moves.

    Args:
        case: what it does.
        microscope: of the case's system, one plane.
        seed: of light, noise and random motions.

    Raises:
        ValueError: a microscope of another system.
    """
    if case.system == "diffusercam" and isinstance(microscope, LenslessCamera):
        return _record_rows(case, microscope, seed)
    field = Field.of(microscope, seed)
    motion, target = MOTIONS[case.motion](field, case.amount), target_of_field(field)
    if case.photons is not None:
        microscope = dataclasses.replace(microscope, photons=case.photons)
    if case.system == "dpc" and isinstance(microscope, DpcMicroscope):
        return simulate_dpc(TargetSample(target), motion, microscope, 1, seed)
    if case.system == "sim" and type(microscope) is SimMicroscope:
        return simulate_sim(target.points(0.25 * microscope.pixel_um), motion, microscope, 1, seed)
    raise ValueError(f"a study of {case.system} cannot be recorded with a {type(microscope).__name__}")


def _record_rows(case: StudyCase, camera: LenslessCamera, seed: int) -> Recording:
    disc = textured_disc(seed + 1, camera.scene_shape, camera.pixel_um)
    motion = bounce(camera, case.amount, 0.15 * case.amount, seed) if case.amount else still()
    return simulate_diffusercam(disc, motion, camera, camera.pattern[None], 1, seed)
