"""Structure that appears while it is recorded: a brightness that stays against one that changes. A table, and JSON.

python benchmarks/brightness.py [--terms N] [--json OUT]

Samples are those of benchmarks/verdict.py (64 x 64 pixels, two-beam SIM) of which a share appears in the middle of the
acquisition, and those at rest; default settings, illumination given. Equalised PSNR against the truth, mean of all
frames. *Grids that slide*: whether finer motion grids were added, which explain such structure by motion.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from verdict import KINDS, Sample, moved, quality, samples

import nstm
from nstm.settings import Reconstruction, override
from nstm.simulate.imaging import calibration_of, stacked, system_of

_LEAST_PHOTONS = 300


def fitted(sample: Sample, terms: int) -> dict[str, Any]:
    """One sample, fitted with ``terms`` functions of time for its brightness."""
    recording = KINDS.get(sample.kind, moved)(sample)
    system = system_of(recording.microscope)
    frames, times = stacked(recording)
    settings = override(Reconstruction(), {**system.fit_defaults, "brightness_terms": terms})
    begin = time.process_time()
    fit = nstm.reconstruct(system, frames, times, settings, calibration=calibration_of(recording))
    assert fit.noise_variance is not None
    return {
        "psnr_db": quality(recording, fit.scene(recording.truth_times)),
        "residual": float(np.mean(fit.residual**2) / fit.noise_variance.mean()),
        "slides": fit.settings.multigrid.motion_sliding_levels > 0,
        "cpu_seconds": time.process_time() - begin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--terms", type=int, default=3, help="functions of time")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    chosen = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for sample in samples():
        if sample.kind not in ("static", "blinking") or sample.photons < _LEAST_PHOTONS:
            continue
        stays, changes = (fitted(sample, terms) for terms in (0, chosen.terms))
        about = {"kind": sample.kind, "amount": sample.amount, "photons": sample.photons, "seed": sample.seed}
        rows.append({**about, "terms": chosen.terms, "stays": stays, "changes": changes})
        text = " | ".join(
            f"{name} {f['psnr_db']:5.1f} dB, residual {f['residual']:.2f}{', slides' if f['slides'] else ''}, "
            f"{f['cpu_seconds']:.0f} s"
            for name, f in (("stays", stays), ("changes", changes))
        )
        print(f"{sample.kind:9} {sample.amount:4g} {sample.photons:5g} photons  {text}", flush=True)
        if chosen.json:
            chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
