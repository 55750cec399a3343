"""How often the motion score of the raw-data checks is right, on simulated recordings. A table, and JSON on request.

python benchmarks/prospect.py [--first-seed N] [--json OUT]

The score is right where it says what is true of the recording: ``lost`` or ``hard`` where a twentieth of the structure
moves by more than 4 or 2 camera pixels between some neighbouring frames, else ``still`` where the conventional result
(true illumination) loses less than 1 dB against the same sample at rest, else ``worth``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nstm.metrics import psnr_equalised
from nstm.quality.acquisition import check_acquisition
from nstm.quality.prospect import HARD_PX, LOST_PX, STILL_DB, prospect
from nstm.settings import Conventional
from nstm.simulate.imaging import calibration_of, stacked, system_of
from nstm.simulate.motion import still
from nstm.simulate.recording import SimRecording
from nstm.simulate.sim import SimMicroscope, simulate_sim, structure_area
from nstm.simulate.structures import er_network, filaments
from nstm.simulate.studies import MOTIONS, Field

#: Amounts of each motion, as :data:`nstm.simulate.studies.MOTIONS` explains them; each is recorded twice.
AMOUNTS = {
    "static": (0, 0, 0, 0),
    "translation": (0.5, 1, 2, 4, 8, 16, 32),
    "rotation": (2, 5, 10, 25),
    "shear": (0.05, 0.15, 0.4),
    "swirl": (0.15, 0.6, 1.2, 2.4),
    "opposed": (1, 4, 10),
    "vibration": (0.25, 1, 3),
    "deformation": (1, 4, 10, 24),
    "flow": (1, 4, 12, 28),
}
_THREE_BEAMS = {
    "beams": 3,
    "phases": 5,
    "finest_share": 0.9,
    "modulation": ((0.8, 0.6), (0.75, 0.55), (0.85, 0.65)),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One recording; ``seed`` also chooses the instrument, the structure and the light."""

    motion: str
    amount: float
    seed: int

    @property
    def microscope(self) -> SimMicroscope:
        """25 to 2000 photons; every third recording bleaches by a quarter, every third is hazy."""
        i = self.seed
        photons = (300, 60, 25, 1000, 2000)[i % 5]
        side = (64, 128, 96)[i // 3 % 3]
        m = SimMicroscope(
            shape=(side, side),
            photons=photons,
            bleaching=(0, 0.25, 0)[i % 3],
            background=(0, 0, 0.5)[i // 2 % 3] * photons,
        )
        return dataclasses.replace(m, **_THREE_BEAMS) if i % 3 == 2 else m

    def record(self, *, at_rest: bool = False) -> SimRecording:
        """One acquisition, with the truth at its middle."""
        m = self.microscope
        motion = still() if at_rest else MOTIONS[self.motion](Field.of(m, self.seed), self.amount)
        points = (er_network, filaments)[self.seed // 2 % 2](self.seed, structure_area(m, 1.5))
        return simulate_sim(points, motion, m, 1, self.seed, np.array([m.times(1).mean()]))


def cases(first_seed: int) -> Iterator[Case]:
    """All recordings; the limits of the score were set on those from seed 0."""
    twice = [(motion, amount) for motion, amounts in AMOUNTS.items() for amount in amounts for _ in range(2)]
    return (Case(motion, amount, seed) for seed, (motion, amount) in enumerate(twice, first_seed))


def conventional_db(recording: SimRecording) -> float:
    """Equalised PSNR of the conventional result with the true illumination."""
    m, system = recording.microscope, system_of(recording.microscope)
    frames, _ = stacked(recording)
    calibration = calibration_of(recording)
    light = frames - np.float32(m.offset + m.background)
    image = system.baselines["conventional"].reconstruct(light, [calibration] * m.angles, m.pixel_um, Conventional())
    pixel = recording.spacing_um[-1]
    return float(psnr_equalised(image[0, 0], recording.truth[0].astype(float), pixel, system.cutoff(calibration)))


def fastest_px(recording: SimRecording) -> float:
    """What a twentieth of the emitters in the field exceed from frame to frame, camera pixels."""
    m, every = recording.microscope, max(1, len(recording.points.position) // 800)
    follow = recording.motion.followed(recording.points.position[::every])
    places = np.stack([follow(t) for t in np.sort(recording.times.ravel()).tolist()])
    size = np.array(m.shape) * m.pixel_um
    inside = np.all((places > 0) & (places < size), axis=-1).any(axis=0)
    return float(np.percentile(np.linalg.norm(np.diff(places[:, inside], axis=0), axis=-1), 95)) / m.pixel_um


def judged(case: Case) -> dict[str, Any]:
    """Truth and score of one recording."""
    recording = case.record()
    loss = conventional_db(case.record(at_rest=True)) - conventional_db(recording)
    return dataclasses.asdict(case) | scored(recording, fastest_px(recording), loss)


def scored(recording: SimRecording, fastest: float, loss: float) -> dict[str, Any]:
    """The score of a recording whose truth is known."""
    frames, times = recording.frames[0][:, :, None], recording.times[0][..., None]
    system, pixel = system_of(recording.microscope), recording.microscope.pixel_um
    entry, _ = check_acquisition(frames, times, ["angle", "phase"], system, index=0, pixel_um=pixel)
    score = prospect([entry])
    moves = "lost" if fastest > LOST_PX else "hard" if fastest > HARD_PX else None
    return {
        "true": moves or ("still" if loss < STILL_DB else "worth"),
        "said": score["verdict"],
        "per_frame_95_px": [fastest, score["per_frame_95_px"]],
        "conventional_loss_db": [loss, score["conventional_loss_db"]],
        "warnings": [r["code"] for r in entry["reasons"]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--first-seed", type=int, default=0)
    chosen = parser.parse_args()
    rows = []
    for case in cases(chosen.first_seed):
        rows.append(judged(case))
        print(f"{case.motion:12} {case.amount:5g} {rows[-1]}", flush=True)
    print(Counter((r["true"], r["said"]) for r in rows))
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
