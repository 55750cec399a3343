"""Every case of robustness.tsv with the default settings: was its motion found? A table, and JSON on request.

python benchmarks/robustness.py [--match TEXT ...] [--jobs N] [--json FILE]

A case counts as found when the reconstruction is within 1 dB (equalised PSNR against the truth, mean of all frames) of
the same fit that is given the true motion. ``interval px`` is the largest movement between neighbouring frames, camera
pixels; ``verdict`` what ``trust.json`` would say of it, held-out frames aside. In FILE the cases that are run take the
place of what it has of them; ``numerics`` is the version of the fits that a figure comes from.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.ndimage import map_coordinates

import nstm
from nstm.metrics import psnr_equalised
from nstm.optics.noise import noise_variance
from nstm.pipeline.experiment import NUMERICS
from nstm.pipeline.record import record_of
from nstm.quality.trust import verdict
from nstm.settings import Reconstruction, override
from nstm.simulate import DpcMicroscope, Recording, SimMicroscope, VolumeMicroscope, simulate_dpc, simulate_volume
from nstm.simulate.dpc import cells
from nstm.simulate.imaging import calibration_of, stacked, system_of
from nstm.simulate.motion import Flow, largest_travel
from nstm.simulate.sim import simulate_sim, structure_area
from nstm.simulate.structures import Area, er_network, filaments, through_depth
from nstm.simulate.studies import MOTIONS, Field
from nstm.spacetime.fit import fit
from nstm.spacetime.renderer import make_renderer
from nstm.spacetime.representation import KnownMotion, relative_times
from nstm.spacetime.result import forward_model
from nstm.systems.base import ImagingSystem

CASES = Path(__file__).with_suffix(".tsv")
#: Below the fit that is given the true motion, dB.
FOUND_DB = 1.0
#: Room for what moves in, um.
_TRAVEL_UM = 1.5


@dataclasses.dataclass(frozen=True)
class Case:
    """A line of the list; ``amount`` as :data:`nstm.simulate.studies.MOTIONS` explains it."""

    system: str
    side: int
    structure: str
    photons: float
    motion: str
    amount: float
    seed: int

    @property
    def name(self) -> str:
        """Unique in the list."""
        return f"{self.system}-{self.side}-{self.structure}-{self.photons:g}-{self.motion}-{self.amount:g}-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Judged:
    """What came of a case: equalised PSNR of both fits, dB; mean squared residual in units of the noise.

    Seconds of the processor, compilation included: of the reconstruction, and of the whole case.
    """

    case: Case
    interval_px: float
    given_db: float
    given_residual: float
    found_db: float
    residual: float
    seconds: float
    whole_seconds: float
    verdict: str
    codes: tuple[str, ...]
    numerics: int = NUMERICS["reconstruct"]

    @property
    def found(self) -> bool:
        """Within 1 dB of the fit that knows the motion."""
        return self.found_db >= self.given_db - FOUND_DB


def listed(path: Path = CASES) -> Iterator[Case]:
    """The cases of a list."""
    with path.open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            yield Case(
                system=row["system"],
                side=int(row["side"]),
                structure=row["structure"],
                photons=float(row["photons"]),
                motion=row["motion"],
                amount=float(row["amount"]),
                seed=int(row["seed"]),
            )


def microscope_of(case: Case) -> SimMicroscope | DpcMicroscope:
    """The instrument of a case."""
    shape = (case.side, case.side)
    if case.system == "dpc":
        return DpcMicroscope(shape=shape, photons=case.photons)
    if case.system == "volume":
        # a stack per frame: with the phases of a plane together a frame would see eight scenes, at eight times the cost
        return VolumeMicroscope(shape=shape, photons=case.photons, planes=8, guard_px=12, order="angle phase z")
    two_beam = SimMicroscope(shape=shape, photons=case.photons)
    if case.system == "two_beam":
        return two_beam
    modulation = ((0.8, 0.6), (0.75, 0.55), (0.85, 0.65))
    return dataclasses.replace(two_beam, beams=3, phases=5, finest_share=0.9, modulation=modulation)


def recorded(case: Case) -> Recording:
    """One acquisition of a case."""
    m = microscope_of(case)
    motion = MOTIONS[case.motion](Field.of(m, case.seed), case.amount)
    if isinstance(m, DpcMicroscope):
        area = Area.of_field(m.shape, m.pixel_um, 2 * m.guard_px * m.pixel_um)
        return simulate_dpc(cells(case.seed, area), motion, m, 1, case.seed)
    points = {"er": er_network, "filaments": filaments}[case.structure](case.seed, structure_area(m, _TRAVEL_UM))
    if not isinstance(m, VolumeMicroscope):
        return simulate_sim(points, motion, m, 1, case.seed)
    deep = through_depth(points, case.seed, 0.0, (m.planes - 1) * m.z_step_um)
    return simulate_volume(deep.merged(0.4 * m.pixel_um), motion, m, 1, case.seed)


def true_motion(recording: Recording, model: Any) -> KnownMotion:
    """The backward warp of every measurement from the middle of the acquisition, on the scene's grid.

    A flow, whose paths are integrated but which is smooth, is looked at on every fourth pixel of the planes.
    """
    spacing = np.array(recording.spacing_um)
    grid, field = model.scene_shape[-len(spacing) :], model.output_field[-len(spacing) :]
    every = [4 if isinstance(recording.motion, Flow) and n >= 32 else 1 for n in grid]
    # beyond the grid by a few places, since splines bend otherwise at their ends
    along = [np.arange(-6 * e, n + 6 * e, e) if e > 1 else np.arange(n) for n, e in zip(grid, every, strict=True)]
    lattice = np.stack(np.meshgrid(*along, indexing="ij")).reshape(len(spacing), -1).T
    places = (lattice - [first for first, _ in field]) * spacing
    between = np.meshgrid(
        *((np.arange(n) - a[0]) / e for n, a, e in zip(grid, along, every, strict=True)), indexing="ij"
    )
    times = np.asarray(model.times, np.float64)
    reference = float(np.median(recording.times))

    def warp(time_s: float) -> np.ndarray:
        back = -recording.motion.material_displacement(places, reference, time_s) / spacing
        on_lattice = back.T.reshape(-1, *map(len, along))
        if max(every) == 1:
            return np.asarray(on_lattice, np.float32)
        return np.stack([map_coordinates(b, between, mode="nearest") for b in on_lattice]).astype(np.float32)

    warps = {t: warp(t + float(recording.times.min())) for t in np.unique(times).tolist()}
    return KnownMotion(np.stack([[warps[t] for t in row] for row in times.tolist()]), times)


def interval_px(recording: Recording) -> float:
    """Largest movement between neighbouring frames, camera pixels."""
    times = recording.times.reshape(-1, recording.times.shape[-1]) if recording.frames.ndim > 5 else recording.times
    times = np.sort(times.mean(axis=-1).ravel() if recording.frames.ndim > 5 else times.ravel())
    places = recording.places()
    spans = list(zip(times[:-1].tolist(), times[1:].tolist(), strict=True))
    travel = largest_travel(recording.motion, places[:: max(1, len(places) // 400)], spans, samples=2)
    return float(travel.max()) / float(recording.microscope.pixel_um)


def quality(recording: Recording, system: ImagingSystem, scenes: np.ndarray) -> float:
    """Equalised PSNR of ``(t, c, z, y, x)`` at the times of the truth, last channel, dB."""
    truth = recording.truth_tczyx()[:, -1].astype(float)
    cutoff = system.cutoff(recording.calibration)
    pixel = recording.spacing_um[-1]
    return float(np.mean([psnr_equalised(s[-1], t, pixel, cutoff) for s, t in zip(scenes, truth, strict=True)]))


def given(recording: Recording, system: ImagingSystem, settings: Reconstruction) -> tuple[float, float]:
    """The fit that is given the true motion: equalised PSNR, dB, and residual in units of the noise variance."""
    frames, times = stacked(recording)
    pixel = float(recording.microscope.pixel_um)
    data = system.measurements(frames - np.float32(recording.microscope.offset))
    noise = noise_variance(data, pixel, system.passband())
    assert noise is not None
    scale = float(data.max())
    variance = float(noise.mean()) / scale**2
    model = forward_model(system, settings, calibration_of(recording), frames.shape[-3:], pixel, times)
    renderer = make_renderer(model, settings, true_motion(recording, model))
    state, trace = fit(renderer, data / scale, settings, noise_variance=variance)
    tau = relative_times(recording.truth_times, recording.times)
    displacement, change = renderer.motion.in_time(tau), renderer.change.in_time(tau)
    each = (renderer.at(state.parameters, d[None], b[None]) for d, b in zip(displacement, change, strict=True))
    scenes = np.concatenate([np.asarray(scene) for scene in each])
    return quality(recording, system, scenes), float(trace.loss[-1]) / variance


def judged(case: Case) -> Judged:
    """Simulate a case and fit it twice: as a user would, and given its motion."""
    first = time.process_time()
    recording = recorded(case)
    system = system_of(recording.microscope)
    settings = override(Reconstruction(), dict(system.fit_defaults))
    frames, times = stacked(recording)
    begin = time.process_time()
    result = nstm.reconstruct(system, frames, times, settings, calibration=calibration_of(recording))
    seconds = time.process_time() - begin
    assert result.noise_variance is not None
    figures = (
        *given(recording, system, settings),
        quality(recording, system, result.scene(recording.truth_times)),
        float(np.mean(result.residual**2) / result.noise_variance.mean()),
    )
    exposure = getattr(recording.microscope, "exposure_s", None)
    record = record_of(result, system.cutoff(calibration_of(recording)), exposure)
    said = verdict({"index": 0, "status": "pass", "reasons": []} | record)
    told = said["status"], tuple(dict.fromkeys(r["code"] for r in said["reasons"]))
    return Judged(case, interval_px(recording), *figures, seconds, time.process_time() - first, *told)


def _cost(case: Case) -> float:
    """Roughly, relative to others: a volume takes as long as a plane of ten times its side."""
    return float(case.side * (10 if case.system == "volume" else 1))


def judged_side_by_side(cases: Iterable[Case], jobs: int) -> Iterator[Judged]:
    """:func:`judged` in ``jobs`` processes of one core each, the longest first, in the order in which they end."""
    one_core = {
        "OMP_NUM_THREADS": "1",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
    before = {name: os.environ.get(name) for name in one_core}
    os.environ.update({name: value for name, value in one_core.items() if before[name] is None})
    try:
        # a few cases each: compiled programs hold memory maps, of which a process has a limited number
        with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=8) as pool:
            yield from pool.imap_unordered(judged, sorted(cases, key=_cost, reverse=True))
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """The figures of a file by the name of their case, of those that the list still has."""
    rows = json.loads(path.read_text())["cases"] if path.exists() else []
    return {name: row for row in rows if (name := Case(**row["case"]).name) in {case.name for case in listed()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--match", nargs="+", default=[""], help="only cases whose name holds one of these, in this order"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side, one core each")
    parser.add_argument("--json", type=Path, help="also write the figures to this file, after every case")
    chosen = parser.parse_args()
    cases = list(dict.fromkeys(case for text in chosen.match for case in listed() if text in case.name))
    results: list[Judged] = []
    rows = rows_of(chosen.json) if chosen.json else {}
    for r in map(judged, cases) if chosen.jobs == 1 else judged_side_by_side(cases, chosen.jobs):
        results.append(r)
        print(
            f"{r.case.name:46} {r.interval_px:5.1f} px  given {r.given_db:5.1f} dB {r.given_residual:5.2f}  "
            f"found {r.found_db:5.1f} dB {r.residual:5.2f}  {'found' if r.found else 'LOST':5} {r.seconds:6.0f} s  "
            f"{r.verdict} {' '.join(r.codes)}",
            flush=True,
        )
        if chosen.json:
            rows[r.case.name] = dataclasses.asdict(r) | {"found": r.found, "device": str(jax.devices()[0])}
            in_order = [rows[case.name] for case in listed() if case.name in rows]
            partial = chosen.json.with_suffix(".partial")
            partial.write_text(json.dumps({"cases": in_order}, indent=1) + "\n")
            partial.replace(chosen.json)
    for name, some in (("below 2 px per interval", [r for r in results if r.interval_px < 2]), ("all", results)):
        lost = [r for r in some if not r.found]
        passed = sum(r.verdict == "pass" for r in lost)
        print(f"{name}: {len(some) - len(lost)} of {len(some)} found; of those lost {passed} passed")
    print(f"{sum(r.whole_seconds for r in results) / 60:.0f} minutes of one core")


if __name__ == "__main__":
    main()
