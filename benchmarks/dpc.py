"""Cost of one DPC fit, absorption and phase, beside the floor of its own warps and transforms, in one run.

python benchmarks/dpc.py [--side 2000] [--steps 500] [--json OUT]

Images are noise: the cost does not depend on what they show.
"""

import argparse
import json
import resource
import time

import jax
import numpy as np
from engine import floor

from nstm.settings import Reconstruction, override
from nstm.spacetime.fit import CHUNK, fit
from nstm.spacetime.renderer import make_renderer
from nstm.systems.dpc import Dpc, DpcSettings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2000, help="camera pixels")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--json", help="also write the figures to this file")
    chosen = parser.parse_args()
    optics = {"na": 0.5, "illumination_na": 0.5, "inner_na": 0.45, "emission_wavelength_um": 0.523, "pixel_um": 0.12}
    system = Dpc(DpcSettings.model_validate({"optics": optics, "background": {"method": "none"}}))
    frames = np.random.default_rng(0).normal(scale=0.01, size=(4, 1, chosen.side, chosen.side)).astype(np.float32)
    settings = override(Reconstruction(steps=chosen.steps, memory_gb=8), dict(system.fit_defaults))
    times = np.arange(4.0)[:, None]
    model = system.forward((1, chosen.side, chosen.side), times, {}, 0.12, settings.padding_px)
    renderer = make_renderer(model, settings)
    data, noise = frames / frames.max(), float(np.var(frames / frames.max()))

    begin = time.perf_counter()
    fit(renderer, data, override(settings, {"steps": CHUNK}), noise_variance=noise)
    first = time.perf_counter() - begin  # one dispatch and its compilation
    wall, cpu = time.perf_counter(), time.process_time()
    fit(renderer, data, settings, noise_variance=noise)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    shape = model.scene_shape[-2:]
    least = floor(renderer, (chosen.side, chosen.side))
    figures = {
        "device": jax.devices()[0].device_kind,
        "camera_px": chosen.side,
        "scene_px": list(shape),
        "frames": len(frames),
        "steps": chosen.steps,
        "seconds": wall,
        "cpu_seconds": cpu,
        "first_dispatch_seconds": first,
        "cpu_seconds_per_step": cpu / chosen.steps,
        "floor_cpu_seconds_per_step": least,
        "ratio": cpu / chosen.steps / least,
        "peak_memory_mb": peak,
    }
    print(json.dumps(figures, indent=1))
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
