"""UBSIM against the iterative solvers: iterations and time to its cost, and quality of images it was not trained on.

python benchmarks/blind.py [--images FOLDER] [--side 256] [--structures NAME ...] [--json OUT]

Seconds are of the processor (others may use the machine), compiled and warm, all in one process. The convex solution
(per_frame) stands beside, with the least cost it reaches; no cost is asked that lies below. ``floor``: the transforms
of the six blocks alone. PSNR is equalised. Without images structures are simulated.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import scipy.fft

from nstm.pipeline.blind_studies import held_out, quality, race, shipped

BESIDE = Path(os.environ.get("NSTM_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def floor(frames, side):
    """Processor seconds of the transforms of six blocks, and of the first gradient."""
    images = np.zeros((frames, side, side), np.float32)
    before = time.process_time()
    for _ in range(7):
        scipy.fft.irfft2(scipy.fft.rfft2(images), s=images.shape[-2:])
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=BESIDE / "phantom" / "cell_structures")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--structures", nargs="*", help="left out: all")
    parser.add_argument("--most", type=int, default=200, help="iterations after which a solver gives up")
    parser.add_argument("--json", help="also write the figures to this file")
    chosen = parser.parse_args()
    network = shipped()
    folder = chosen.images if chosen.images.is_dir() else None
    results = {"floor_s": floor(20, chosen.side), "races": {}, "quality": {}}
    for case in held_out(folder, chosen.side, 1):
        if chosen.structures and case.structure not in chosen.structures:
            continue
        results["races"][case.structure] = found = race(case, network, chosen.most)
        seconds, cost, noise = found["ubsim"]["seconds"], found["ubsim"]["cost"], found["noise_cost"]
        least = found["convex_cost"]
        print(
            f"{case.structure}: UBSIM {seconds:.2f} s, cost {cost:.4g}, noise {noise:.4g}, convex {least:.4g}",
            flush=True,
        )
        for name, f in found["solvers"].items():
            more = "" if f["reached"] else " (gave up)"
            ratios = f"{f['iterations_ratio']:.1f} x, {f['seconds_ratio']:.1f} x the time"
            print(f"  {name:20} {f['iterations']:5} iterations{more}, {ratios}", flush=True)
        results["quality"][case.structure] = found = quality(case, network, 60)
        gains = found["resolution_gain"]
        texts = [f"{name} {psnr:.2f} dB x{gains[name]:.2f}" for name, psnr in found["psnr"].items()]
        print("  " + "  ".join(texts), flush=True)
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
