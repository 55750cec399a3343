"""The recordings of the demo and of the end-to-end tests, written as a microscope writes them, with their truth."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from nstm.acquisition import DataError
from nstm.io.store import replace_whole, write_timelapse
from nstm.simulate.diffusercam import (
    DiffuserRecording,
    LenslessCamera,
    bounce,
    simulate_diffusercam,
    textured_disc,
)
from nstm.simulate.dpc import DpcMicroscope, DpcRecording, cells, simulate_dpc
from nstm.simulate.motion import Motion, deformation, drift, largest_travel, lateral, still, vibration
from nstm.simulate.recording import Recording, SimRecording
from nstm.simulate.sim import SimMicroscope, simulate_sim, structure_area
from nstm.simulate.speckle import SpeckleMicroscope, SpeckleRecording, simulate_speckle
from nstm.simulate.structures import Area, Points, er_network, filaments, through_depth
from nstm.simulate.volume import VolumeMicroscope, simulate_volume

#: Room around the field for what moves in, um.
TRAVEL_UM = 0.8


def living(
    microscope: SimMicroscope | DpcMicroscope | SpeckleMicroscope,
    points: Points,
    acquisitions: int,
    motion_px: float,
    seed: int,
) -> Motion:
    """Drift and local eddies, so strong that the field moves by ``motion_px`` camera pixels per acquisition.

    The drift is slow enough that the sample stays within what was made around the field; the eddies swing
    over about three acquisitions, so that neighbouring acquisitions differ.
    """
    if motion_px == 0:
        return still()
    times = microscope.times(max(acquisitions, 3)).reshape(max(acquisitions, 3), -1)
    period = float(times[1, 0] - times[0, 0])
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


@dataclass(frozen=True)
class Case:
    """One simulated recording, still or alive.

    ``motion_px`` is the largest distance that any point of the field travels within one acquisition, in
    camera pixels, averaged over the acquisitions; 0 for a still sample. ``make`` records it.
    """

    description: str
    acquisitions: int
    motion_px: float
    make: Callable[[Case], Recording]
    microscope: Any
    seed: int = 7


def _network(case: Case) -> SimRecording:
    m: SimMicroscope = case.microscope
    points = er_network(case.seed, structure_area(m, TRAVEL_UM))
    motion = living(m, points, case.acquisitions, case.motion_px, case.seed)
    return simulate_sim(points, motion, m, case.acquisitions, case.seed)


def _network_in_depth(case: Case) -> SimRecording:
    """Network and filaments that reach beyond the stack, and go up and down by a tenth of a micrometre."""
    m: VolumeMicroscope = case.microscope
    area, top = structure_area(m, TRAVEL_UM), (m.planes - 1) * m.z_step_um
    network, threads = er_network(case.seed, area), filaments(case.seed, area, number=10)
    points = through_depth(network, case.seed, -0.3, 0.8 * top).joined(
        through_depth(threads, case.seed + 1, 0.2 * top, top + 0.3)
    )
    times = m.times(1)
    up = vibration((0.1, 0.0, 0.0), 2 * float(np.ptp(times)))
    motion = lateral(living(m, network, case.acquisitions, case.motion_px, case.seed)) + up
    return simulate_volume(points.merged(0.032), motion, m, case.acquisitions, case.seed)


def _network_in_speckle(case: Case) -> SpeckleRecording:
    m: SpeckleMicroscope = case.microscope
    area = Area.of_field(m.shape, m.pixel_um, m.guard_px * m.pixel_um + TRAVEL_UM)
    points = er_network(case.seed, area, mesh_um=1.4, sheets=4)
    motion = living(m, points, case.acquisitions, case.motion_px, case.seed)
    return simulate_speckle(points, motion, m, case.acquisitions, case.seed)


def _cells(case: Case) -> DpcRecording:
    m: DpcMicroscope = case.microscope
    area = Area.of_field(m.shape, m.pixel_um, 2 * m.guard_px * m.pixel_um)
    field = area.uniform(np.random.default_rng(case.seed), 4000)
    motion = living(m, Points(field, np.ones(len(field))), case.acquisitions, case.motion_px, case.seed)
    return simulate_dpc(cells(case.seed, area), motion, m, case.acquisitions, case.seed)


def _disc(case: Case) -> DiffuserRecording:
    """A disc with patches and seams that swings once in a readout and is deformed meanwhile."""
    m: LenslessCamera = case.microscope
    disc = textured_disc(case.seed, m.scene_shape, m.pixel_um, m.colours)
    motion = still()
    if case.motion_px:
        motion = bounce(m, case.motion_px, 0.15 * case.motion_px, case.seed)
        sides = [np.linspace(0.25, 0.75, 9) * n * m.pixel_um for n in m.scene_shape]
        points = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 2)
        spans = [(float(t[0]), float(t[-1])) for t in m.layer_times(case.acquisitions)]
        travel = float(largest_travel(motion, points, spans).mean())
        motion = motion.scaled(case.motion_px * m.pixel_um / travel)
    return simulate_diffusercam(disc, motion, m, m.pattern[None], case.acquisitions, case.seed)


def write_pattern(path: Path, lens: LenslessCamera) -> None:
    """Write the pattern of a lensless camera as a 16 bit TIFF without a background, as it would be recorded."""
    seen = lens.pattern
    with replace_whole(path) as temporary:
        tifffile.imwrite(temporary, np.rint(seen / seen.max() * 60000).astype(np.uint16), compression="zlib")


CASES: dict[str, Case] = {
    "er_moving": Case("ER-like network that drifts and deforms", 5, 5.0, _network, SimMicroscope()),
    "er_static": Case("the same network, camera and light without motion", 2, 0.0, _network, SimMicroscope()),
    "er_small": Case("a small field for tests, moving", 2, 3.0, _network, SimMicroscope(shape=(64, 64))),
    "sim3d_moving": Case(
        "network and filaments in depth, three beams, plane by plane, moving",
        2,
        4.0,
        _network_in_depth,
        VolumeMicroscope(),
    ),
    "sim3d_small": Case(
        "a small stack for tests, moving",
        1,
        2.0,
        _network_in_depth,
        VolumeMicroscope(shape=(32, 32), planes=4, guard_px=8, sub_exposures=1),
    ),
    "dpc_moving": Case("cells under four half-circle sources, drifting and deforming", 4, 4.0, _cells, DpcMicroscope()),
    "dpc_static": Case("the same cells without motion", 2, 0.0, _cells, DpcMicroscope()),
    "diffusercam_moving": Case(
        "a disc that swings and deforms before a lensless camera, dual readout", 2, 16.0, _disc, LenslessCamera()
    ),
    "diffusercam_colour": Case(
        "the same in red, green and blue, single readout",
        1,
        16.0,
        _disc,
        LenslessCamera(colours=3, dual=False),
    ),
    "diffusercam_small": Case(
        "a small sensor for tests, moving", 1, 10.0, _disc, LenslessCamera(shape=(64, 80), exposure_lines=4)
    ),
    "dpc_small": Case("a small field of cells for tests, moving", 2, 3.0, _cells, DpcMicroscope(shape=(64, 64))),
    "speckle_moving": Case(
        "network under random speckle, one pattern per frame, drifting and deforming",
        3,
        2.0,
        _network_in_speckle,
        SpeckleMicroscope(shape=(64, 64)),
    ),
    "speckle_small": Case(
        "a small field under random speckle for tests, moving",
        2,
        1.0,
        _network_in_speckle,
        SpeckleMicroscope(shape=(32, 32), patterns=6, guard_px=8),
    ),
}


def list_cases() -> dict[str, str]:
    """Name and description of every case."""
    return {name: case.description for name, case in CASES.items()}


def record(case: str) -> Recording:
    """Simulate one case in memory (seconds).

    Raises:
        DataError: no such case.
    """
    if case not in CASES:
        raise DataError(f"no simulated case {case!r}: choose one of {', '.join(CASES)}")
    return CASES[case].make(CASES[case])


def simulate_case(case: str, out_tif: Path, out_truth: Path) -> None:
    """Write the raw file of one case and its truth, each whole or not at all.

    Args:
        case: a name of :func:`list_cases`.
        out_tif: OME-TIFF, one series, axes T and Z (the planes of an acquisition stand in Z in the order in which
            they were taken, as structured-illumination microscopes write them), with pixel size and the time of
            every plane.
        out_truth: time-lapse store on the grid of the results at the time of every frame; its ``nstm`` attributes
            hold the true parameters of the light under ``simulation``.

    Raises:
        DataError: no such case.
    """
    recording = record(case)
    write_raw_tiff(Path(out_tif), recording)
    write_truth(Path(out_truth), recording, case)


def write_raw_tiff(path: Path, recording: Recording) -> None:
    """Write the frames as OME-TIFF; ``DeltaT`` is the start of each exposure, as OME's schema has it."""
    m, acquisitions = recording.microscope, len(recording.frames)
    order = np.argsort(recording.times, axis=None, kind="stable")
    starts = recording.times.ravel()[order] - m.exposure_s / 2
    frames = recording.frames.reshape(-1, *m.shape)[order].reshape(acquisitions, -1, *m.shape)
    planes = len(starts)
    metadata = {
        "axes": "TZYX",
        "PhysicalSizeX": m.pixel_um,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": m.pixel_um,
        "PhysicalSizeYUnit": "µm",
        "Channel": _channel(m),
        "Plane": {
            "DeltaT": [round(float(s), 9) for s in starts],
            "DeltaTUnit": ["s"] * planes,
            "ExposureTime": [m.exposure_s] * planes,
            "ExposureTimeUnit": ["s"] * planes,
        },
    }
    if isinstance(m, VolumeMicroscope):
        metadata |= {"PhysicalSizeZ": m.z_step_um, "PhysicalSizeZUnit": "µm"}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_whole(path) as temporary:
        tifffile.imwrite(temporary, frames, ome=True, photometric="minisblack", compression="zlib", metadata=metadata)


def _channel(m: SimMicroscope | DpcMicroscope | LenslessCamera | SpeckleMicroscope) -> dict[str, list[Any]]:
    if not isinstance(m, SimMicroscope | SpeckleMicroscope):
        return {"Name": ["transmitted"]}
    return {
        "Name": ["ER"],
        "EmissionWavelength": [m.emission_wavelength_um * 1000],
        "EmissionWavelengthUnit": ["nm"],
        "ExcitationWavelength": [m.excitation_wavelength_um * 1000],
        "ExcitationWavelengthUnit": ["nm"],
    }


def write_truth(path: Path, recording: Recording, case: str) -> None:
    """Write the truth as a time-lapse store ``t c z y x``."""
    m = recording.microscope
    path.parent.mkdir(parents=True, exist_ok=True)
    write_timelapse(
        path,
        recording.truth_tczyx(),
        times_s=recording.truth_times.tolist(),
        pixel_um=recording.spacing_um[-1],
        z_step_um=recording.spacing_um[0] if len(recording.spacing_um) == 3 else None,
        label="simulated truth",
        channels=list(recording.channels),
        effective_transfer="none: the sample itself, limited by its grid only",
        flags=[""] * len(recording.truth_times),
        provenance={"case": case, "seed": CASES[case].seed if case in CASES else None},
        extra={"simulation": {"calibration": recording.calibration, "microscope": dataclasses.asdict(m)}},
    )
