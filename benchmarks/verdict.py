"""How often the verdict of trust is right, on simulated samples. A table, and JSON on request.

python benchmarks/verdict.py [--match TEXT ...] [--json OUT]

Every sample (64 x 64 pixels, two-beam SIM) is checked, its illumination estimated and it is fitted with the default
settings. What is true comes from the same sample at rest in light enough (300 photons or more), fitted with the true
illumination: a *good* result loses less than 1 dB (equalised PSNR against the truth, mean of all frames) against it, a
*bad* one more than 3 dB. The verdict is right where it passes a good one and warns of or fails a bad one; between 1
and 3 dB both will do, and such samples are not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import nstm
from nstm.metrics import psnr_equalised
from nstm.pipeline.reconstruct import reasons_against_fit
from nstm.pipeline.record import record_of
from nstm.quality.acquisition import check_acquisition
from nstm.quality.reasons import status_of
from nstm.quality.trust import verdict
from nstm.settings import Reconstruction, override
from nstm.simulate.camera import camera
from nstm.simulate.imaging import calibration_of, stacked, system_of
from nstm.simulate.motion import Motion, still
from nstm.simulate.recording import SimRecording
from nstm.simulate.sim import SimMicroscope, simulate_sim, structure_area
from nstm.simulate.structures import Points, er_network, filaments
from nstm.simulate.studies import MOTIONS, Field

GOOD_DB, BAD_DB = 1.0, 3.0
ENOUGH_PHOTONS = 300.0
_TRAVEL_UM = 1.5
Frames = NDArray[np.uint16]


@dataclasses.dataclass(frozen=True)
class Sample:
    """What happens to it (a key of :data:`KINDS`), by how much, and in how much light."""

    kind: str
    amount: float
    photons: float
    seed: int

    @property
    def microscope(self) -> SimMicroscope:
        """Blur within frames needs more moments of an exposure."""
        return SimMicroscope(shape=(64, 64), photons=self.photons, sub_exposures=16 if self.kind == "shaken" else 4)

    @property
    def points(self) -> Points:
        """A network, or filaments."""
        return (er_network, filaments)[self.seed % 2](self.seed, structure_area(self.microscope, _TRAVEL_UM))


#: Samples by what happens to them: ``(kind, amount, photons)``; amounts of motions as
#: :data:`nstm.simulate.studies.MOTIONS` explains them, of the others as :data:`KINDS` does.
SAMPLES: tuple[tuple[str, float, float], ...] = (
    *(("static", 0, photons) for photons in (200, 300, 300, 500, 1000, 2000)),
    *(("translation", amount, 300) for amount in (2, 5, 9, 40)),
    *(("rotation", amount, 300) for amount in (3, 8, 40)),
    *(("shear", amount, 300) for amount in (0.05, 0.15)),
    *(("swirl", amount, 300) for amount in (0.3, 0.7, 3)),
    *(("flow", amount, 300) for amount in (2, 5, 30)),
    *(("static", 0, photons) for photons in (12, 25, 25)),
    *(("translation", 5, photons) for photons in (12, 25, 25)),
    *(("vibration", amount, 300) for amount in (0.5, 1, 1.5, 2, 3, 4)),
    *(("blinking", amount, 300) for amount in (0.1, 0.2, 0.3, 0.4, 0.5, 0.5)),
    *(("shaken", amount, 300) for amount in (1, 2, 3, 4, 5, 6)),
    *(("wrong phases", amount, 300) for amount in (5, 30, 60, 90)),
    *(("wrong order", 0, 300), ("wrong order", 4, 300)),
    *(("no pattern", amount, 300) for amount in (0, 4)),
)


class Shaken(Motion):
    """Still, but for a circle of ``radius_um`` during some exposures, once around in each."""

    def __init__(self, radius_um: float, starts_s: Sequence[float], exposure_s: float) -> None:
        self.radius_um, self.starts_s, self.exposure_s = radius_um, tuple(starts_s), exposure_s

    def displacement(self, points: NDArray[np.float64], time_s: float) -> NDArray[np.float64]:
        """The same for all points."""
        turns = [(time_s - start) / self.exposure_s for start in self.starts_s]
        angle = next((2 * np.pi * turn for turn in turns if 0 <= turn < 1), None)
        if angle is None:
            return np.zeros_like(points)
        return np.broadcast_to(self.radius_um * np.array([np.sin(angle), 1 - np.cos(angle)]), points.shape)


def moved(sample: Sample) -> SimRecording:
    """A sample with one of the motions of the studies."""
    m = sample.microscope
    motion = MOTIONS[sample.kind](Field.of(m, sample.seed), sample.amount)
    return simulate_sim(sample.points, motion, m, 1, sample.seed)


def shaken(sample: Sample) -> SimRecording:
    """Three frames in which the sample runs around a circle of ``amount`` camera pixels in diameter."""
    m = sample.microscope
    middles = np.random.default_rng(sample.seed).choice(m.times(1).ravel(), 3, replace=False)
    motion = Shaken(sample.amount * m.pixel_um / 2, (middles - m.exposure_s / 2).tolist(), m.exposure_s)
    return simulate_sim(sample.points, motion, m, 1, sample.seed)


def blinking(sample: Sample) -> SimRecording:
    """The share ``amount`` of the sample appears in the middle of the acquisition."""
    m, points = sample.microscope, sample.points
    parts = np.random.default_rng(sample.seed).permutation(64)
    size = np.array(m.shape) * m.pixel_um / 8
    cell = np.clip((points.position // size).astype(int), 0, 7) @ [8, 1]  # whole pieces of structure, not its grain
    late = np.isin(cell, parts[: round(sample.amount * 64)])
    all_, rest = (
        simulate_sim(p, still(), m, 1, sample.seed)
        for p in (points, dataclasses.replace(points, weight=np.where(late, 0, points.weight)))
    )
    scale = np.float32(all_.points.weight.max() / rest.points.weight.max())
    before = (all_.times < np.median(all_.times))[..., None, None]
    clean = np.where(before, rest.clean * scale, all_.clean)
    truth = np.where(before.reshape(-1, 1, 1), rest.truth * scale, all_.truth)
    frames = camera(clean, offset=m.offset, read_noise=m.read_noise, seed=sample.seed)
    return dataclasses.replace(all_, frames=frames, clean=clean, truth=truth)


def drifting(sample: Sample) -> SimRecording:
    """A sample that drifts by ``amount`` camera pixels."""
    return moved(dataclasses.replace(sample, kind="translation" if sample.amount else "static"))


def unlit(sample: Sample) -> SimRecording:
    """A drifting sample in even light: somebody has forgotten the grating."""
    m = dataclasses.replace(sample.microscope, modulation=((0.0,),) * 3)
    motion = MOTIONS["translation"](Field.of(m, sample.seed), sample.amount) if sample.amount else still()
    return simulate_sim(sample.points, motion, m, 1, sample.seed)


#: How a sample is recorded; any other name is a motion of the studies.
KINDS: dict[str, Callable[[Sample], SimRecording]] = {
    "shaken": shaken,  # diameter, camera pixels
    "blinking": blinking,  # share of the field
    "wrong phases": lambda sample: moved(dataclasses.replace(sample, kind="static")),  # degrees, of one orientation
    "wrong order": drifting,  # camera pixels
    "no pattern": unlit,  # camera pixels
}


def samples() -> Iterator[Sample]:
    """All samples; the seed chooses structure, instrument and light."""
    for seed, (kind, amount, photons) in enumerate(SAMPLES, 300):
        yield Sample(kind, float(amount), float(photons), seed)


def quality(recording: SimRecording, scenes: NDArray[Any]) -> float:
    """Equalised PSNR of ``(t, c, z, y, x)`` at the times of the truth, dB."""
    cutoff = system_of(recording.microscope).cutoff(recording.calibration)
    truth, pixel = recording.truth.astype(float), recording.spacing_um[-1]
    return float(np.mean([psnr_equalised(s[0, 0], t, pixel, cutoff) for s, t in zip(scenes, truth, strict=True)]))


def at_rest(sample: Sample) -> float:
    """Quality of the same sample at rest, in light enough and with the true illumination, dB."""
    microscope = dataclasses.replace(sample.microscope, photons=max(sample.photons, ENOUGH_PHOTONS))
    recording = simulate_sim(sample.points, still(), microscope, 1, sample.seed)
    system = system_of(recording.microscope)
    frames, times = stacked(recording)
    settings = override(Reconstruction(), dict(system.fit_defaults))
    fit = nstm.reconstruct(system, frames, times, settings, calibration=calibration_of(recording), move=False)
    return quality(recording, fit.scene(recording.truth_times))


def judged(sample: Sample) -> dict[str, Any]:
    """Truth and verdict of one sample."""
    recording = KINDS.get(sample.kind, moved)(sample)
    m, system = recording.microscope, system_of(recording.microscope)
    frames, times = stacked(recording)
    if sample.kind == "wrong order":
        frames = np.ascontiguousarray(frames.swapaxes(0, 1))
    checked, _ = check_acquisition(frames, times, ["angle", "phase"], system, index=0, pixel_um=m.pixel_um)
    found = system.calibrate(frames - np.float32(m.offset), m.pixel_um)
    if sample.kind == "wrong phases":
        found["phases"][1] = (np.array(found["phases"][1]) + np.radians(sample.amount) * np.array([0, 1, -1])).tolist()
    settings = override(Reconstruction(), dict(system.fit_defaults))
    fit = nstm.reconstruct(system, frames, times, settings, calibration={**found, "status": "pass"})
    against = found["reasons"] if found["status"] == "fail" else reasons_against_fit(system, found, settings)
    record = {"index": 0, "status": status_of(against), "reasons": against}
    entry = verdict(record | record_of(fit, system.cutoff(found), m.exposure_s))
    reasons = [*checked["reasons"], *entry["reasons"]]
    loss = at_rest(sample) - quality(recording, fit.scene(recording.truth_times))
    true = "good" if loss < GOOD_DB else "bad" if loss > BAD_DB else "between"
    passed = not reasons
    return {
        **dataclasses.asdict(sample),
        "loss_db": loss,
        "true": true,
        "said": "pass" if passed else "fail" if any(r["severity"] == "fail" for r in reasons) else "warn",
        "right": None if true == "between" else passed == (true == "good"),
        "residual": entry["residual_noise_units"],
        "motion_px_per_interval": entry["motion_px_per_interval"],
        "codes": sorted({r["code"] for r in reasons}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--match", nargs="+", default=[""], help="only kinds whose name holds one of these")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    chosen = parser.parse_args()
    rows = []
    for sample in samples():
        if not any(text in sample.kind for text in chosen.match):
            continue
        row = judged(sample)
        rows.append(row)
        mark = {None: " ", True: "right", False: "WRONG"}[row["right"]]
        what = f"{sample.kind:13} {sample.amount:5g} {sample.photons:5g} photons"
        said = f"{row['loss_db']:6.1f} dB {row['true']:8} {row['said']:5} {mark:6} residual {row['residual']:.2f}"
        print(what, said, *row["codes"], flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps(rows, indent=1) + "\n")
    counted = [row["right"] for row in rows if row["right"] is not None]
    print(f"right in {sum(counted)} of {len(counted)}; {len(rows) - len(counted)} between")


if __name__ == "__main__":
    main()
