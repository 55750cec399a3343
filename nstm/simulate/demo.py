"""The recordings of the demo and of the end-to-end tests, written as a microscope writes them, with their truth."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from nstm.acquisition import DataError
from nstm.io.store import replace_whole, write_timelapse
from nstm.simulate.motion import Motion, deformation, drift, largest_travel, still
from nstm.simulate.sim import TRUTH_RATIO, SimMicroscope, SimRecording, simulate_sim, structure_area
from nstm.simulate.structures import Points, er_network

#: Room around the field for what moves in, um.
TRAVEL_UM = 0.8


@dataclass(frozen=True)
class Case:
    """One simulated recording: an ER-like network, still or alive.

    ``motion_px`` is the largest distance that any point of the field travels within one acquisition, in
    camera pixels, averaged over the acquisitions; 0 for a still sample.
    """

    description: str
    acquisitions: int
    motion_px: float
    microscope: SimMicroscope = dataclasses.field(default_factory=SimMicroscope)
    seed: int = 7


CASES: dict[str, Case] = {
    "er_moving": Case("ER-like network that drifts and deforms", acquisitions=5, motion_px=5.0),
    "er_static": Case("the same network, camera and light without motion", acquisitions=2, motion_px=0.0),
    "er_small": Case(
        "a small field for tests, moving",
        acquisitions=2,
        motion_px=3.0,
        microscope=dataclasses.replace(SimMicroscope(), shape=(64, 64)),
    ),
}


def list_cases() -> dict[str, str]:
    """Name and description of every case."""
    return {name: case.description for name, case in CASES.items()}


def living(microscope: SimMicroscope, points: Points, acquisitions: int, motion_px: float, seed: int) -> Motion:
    """Drift and local eddies, so strong that the field moves by ``motion_px`` camera pixels per acquisition.

    The drift is slow enough that the sample stays within what was made around the field; the eddies swing
    over about three acquisitions, so that neighbouring acquisitions differ.
    """
    if motion_px == 0:
        return still()
    times = microscope.times(max(acquisitions, 3))
    period = float(times[1, 0, 0] - times[0, 0, 0])
    height, width = (n * microscope.pixel_um for n in microscope.shape)
    eddies = deformation(
        seed,
        (0.1 * height, 0.1 * width, 0.9 * height, 0.9 * width),
        size_um=0.16 * (height + width) / 2 + 0.4,
        amplitude_um=0.3,
        period_s=4.0 * period,
        number=7,
    )
    motion = eddies + drift((0.05 / period, 0.08 / period))
    inside = np.all((points.position > 0) & (points.position < [height, width]), axis=1)
    spans = [(float(t.min()), float(t.max())) for t in times[:acquisitions]]
    travel = largest_travel(motion, points.position[inside][::11], spans)
    return motion.scaled(motion_px * microscope.pixel_um / float(travel.mean()))


def record(case: str) -> SimRecording:
    """Simulate one case in memory (seconds).

    Raises:
        DataError: no such case.
    """
    if case not in CASES:
        raise DataError(f"no simulated case {case!r}: choose one of {', '.join(CASES)}")
    chosen = CASES[case]
    m = chosen.microscope
    points = er_network(chosen.seed, structure_area(m, TRAVEL_UM))
    motion = living(m, points, chosen.acquisitions, chosen.motion_px, chosen.seed)
    return simulate_sim(points, motion, m, chosen.acquisitions, chosen.seed)


def simulate_case(case: str, out_tif: Path, out_truth: Path) -> None:
    """Write the raw file of one case and its truth, each whole or not at all.

    Args:
        case: a name of :func:`list_cases`.
        out_tif: OME-TIFF, one series, axes T and Z (the 9 frames of an acquisition, phase fastest, stand in
            Z as structured-illumination microscopes write them), with pixel size and the time of every plane.
        out_truth: time-lapse store on the grid of the results at the middle of every exposure; its ``nstm``
            attributes hold the true pattern parameters under ``simulation``.

    Raises:
        DataError: no such case.
    """
    recording = record(case)
    write_raw_tiff(Path(out_tif), recording)
    write_truth(Path(out_truth), recording, case)


def write_raw_tiff(path: Path, recording: SimRecording) -> None:
    """Write the frames as OME-TIFF; ``DeltaT`` is the start of each exposure, as OME's schema has it."""
    m = recording.microscope
    t = len(recording.frames)
    frames = recording.frames.reshape(t, -1, *m.shape)
    starts = (recording.times - m.exposure_s / 2).ravel()
    planes = len(starts)
    metadata = {
        "axes": "TZYX",
        "PhysicalSizeX": m.pixel_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": m.pixel_um,
        "PhysicalSizeYUnit": "µm",
        "Channel": {
            "Name": ["ER"],
            "EmissionWavelength": [m.emission_wavelength_um * 1000],
            "EmissionWavelengthUnit": ["nm"],
            "ExcitationWavelength": [m.excitation_wavelength_um * 1000],
            "ExcitationWavelengthUnit": ["nm"],
        },
        "Plane": {
            "DeltaT": [round(float(s), 9) for s in starts],
            "DeltaTUnit": ["s"] * planes,
            "ExposureTime": [m.exposure_s] * planes,
            "ExposureTimeUnit": ["s"] * planes,
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_whole(path) as temporary:
        tifffile.imwrite(temporary, frames, ome=True, photometric="minisblack", compression="zlib", metadata=metadata)


def write_truth(path: Path, recording: SimRecording, case: str) -> None:
    """Write the truth as a time-lapse store ``t c z y x``."""
    m = recording.microscope
    path.parent.mkdir(parents=True, exist_ok=True)
    write_timelapse(
        path,
        recording.truth[:, None, None],
        times_s=recording.truth_times.tolist(),
        pixel_um=m.pixel_um / TRUTH_RATIO,
        z_step_um=None,
        label="simulated truth",
        channels=["intensity"],
        effective_transfer="none: the sample itself, limited by its grid only",
        flags=[""] * len(recording.truth_times),
        provenance={"case": case, "seed": CASES[case].seed if case in CASES else None},
        extra={"simulation": {"calibration": recording.calibration, "microscope": dataclasses.asdict(m)}},
    )
