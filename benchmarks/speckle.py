"""NSTM against blind SIM and widefield on frames of one acquisition under unknown speckle, moving and at rest.

python benchmarks/speckle.py [--seeds 1 2 3] [--drift-um 0.6] [--settings JSON] [--json OUT]

A simulated network drifts along the diagonal while 20 frames are taken, each under a pattern of its own; of every seed
the same network is also taken at rest. The images of all frames together are compared with the truth in the middle of
the acquisition, and that of NSTM at that time. Figures are equalised PSNR, dB; `left` is the residual of a fit in units
of the noise variance.
"""

import argparse
import json
import math
import time

import jax
import numpy as np

import nstm
from nstm.metrics import psnr_equalised
from nstm.settings import Conventional, Reconstruction, override
from nstm.simulate.imaging import stacked, system_of
from nstm.simulate.motion import drift, still
from nstm.simulate.speckle import SpeckleMicroscope, simulate_speckle
from nstm.simulate.structures import Area, er_network

METHODS = ("widefield", "per_frame", "nstm_static", "nstm")


def recorded(microscope, drift_um, seed):
    """A network that drifts by so much from the first frame to the last, with its truth in the middle."""
    m = microscope
    times = m.times(1).ravel()
    area = Area.of_field(m.shape, m.pixel_um, m.guard_px * m.pixel_um + drift_um)
    speed = drift_um / (times[-1] - times[0]) / math.sqrt(2)
    motion = drift((speed, speed)) if drift_um else still()
    points = er_network(seed, area, mesh_um=1.4, sheets=4)
    return simulate_speckle(points, motion, m, 1, seed, truth_times=np.array([times.mean()]))


def compared(recording, settings):
    """PSNR of every method, and what the fits left."""
    m = recording.microscope
    system, (frames, times) = system_of(m), stacked(recording)
    settings = override(override(Reconstruction(), dict(system.fit_defaults)), settings)
    counts = frames - np.float32(m.offset)
    images = {
        "widefield": system.baselines["widefield"].reconstruct(counts, [], m.pixel_um, Conventional())[0, 0],
        "per_frame": system.blind("per_frame", counts, m.pixel_um).density,
    }
    found = {}
    for name, move in (("nstm_static", False), ("nstm", True)):
        begin = time.process_time()
        fit = nstm.reconstruct(system, frames, times, settings, pixel_um=m.pixel_um, move=move)
        images[name] = fit.scene(recording.truth_times)[0, 0, 0]
        found[f"{name}_left"] = float(np.mean(fit.residual**2) / np.mean(fit.noise_variance))
        found[f"{name}_cpu_seconds"] = time.process_time() - begin
    return {
        "psnr": {
            name: psnr_equalised(image, recording.truth[0], recording.spacing_um[0], system.cutoff({}))
            for name, image in images.items()
        },
        **found,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=48, help="camera pixels")
    parser.add_argument("--photons", type=float, default=500.0)
    parser.add_argument("--drift-um", type=float, default=0.6, help="from the first frame to the last")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of network, light and noise")
    parser.add_argument("--settings", type=json.loads, default={}, help="keys of `reconstruction`")
    parser.add_argument("--json", help="also write the figures to this file")
    chosen = parser.parse_args()
    microscope = SpeckleMicroscope(shape=(chosen.side, chosen.side), photons=chosen.photons)
    figures = {"device": jax.devices()[0].device_kind, **{k: v for k, v in vars(chosen).items() if k != "json"}}
    print(f"{'drift / um':>10} {'seed':>4}  " + " ".join(f"{name:>11}" for name in METHODS) + "  left static, moving")
    runs = []
    for drift_um in (chosen.drift_um, 0.0):
        for seed in chosen.seeds:
            run = compared(recorded(microscope, drift_um, seed), chosen.settings)
            runs.append({"drift_um": drift_um, "seed": seed, **run})
            print(
                f"{drift_um:10g} {seed:4}  "
                + " ".join(f"{run['psnr'][name]:11.1f}" for name in METHODS)
                + f"  {run['nstm_static_left']:.2f}, {run['nstm_left']:.2f}",
                flush=True,
            )
        own = [run["psnr"] for run in runs if run["drift_um"] == drift_um]
        means = {name: float(np.mean([psnr[name] for psnr in own])) for name in METHODS}
        figures["moving" if drift_um else "still"] = means
        print(f"{drift_um:10g} mean  " + " ".join(f"{means[name]:11.1f}" for name in METHODS), flush=True)
    figures["runs"] = runs
    if chosen.json:
        with open(chosen.json, "w") as out:
            json.dump(figures, out, indent=1)


if __name__ == "__main__":
    main()
