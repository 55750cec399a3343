"""Seconds per step of the multigrid engine beside the floor of its own warps and transforms, in one run.

python benchmarks/engine.py [--side 128] [--frames 9] [--steps 200] [--json OUT]
"""

import argparse
import json
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np

from nstm.settings import Reconstruction
from nstm.spacetime.fit import fit
from nstm.spacetime.renderer import make_renderer
from nstm.spacetime.warp import warp
from nstm.systems.sim import Sim, SimSettings


def best(function, *arguments, repeats=10):
    """Shortest wall time of a call, compiled before, s."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=128, help="camera pixels")
    parser.add_argument("--phases", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--json", help="also write the figures to this file")
    chosen = parser.parse_args()
    optics = {"na": 1.4, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488, "pixel_um": 0.065}
    illumination = {"angles": 3, "phases": chosen.phases}
    system = Sim(SimSettings.model_validate({"optics": optics, "illumination": illumination}))
    calibration = {
        "pattern_vectors": [[4.4 * np.sin(a), 4.4 * np.cos(a)] for a in (0.3, 1.3, 2.4)],
        "phases": [[2 * np.pi * p / chosen.phases for p in range(chosen.phases)]] * 3,
        "modulation": [[0.8]] * 3,
    }
    frames = 3 * chosen.phases
    settings = Reconstruction(steps=chosen.steps)
    times = np.arange(float(frames)).reshape(3, chosen.phases, 1)
    model = system.forward((1, chosen.side, chosen.side), times, calibration, 0.065, settings.padding_px)
    renderer = make_renderer(model, settings)
    data = np.random.default_rng(0).uniform(size=(frames, 1, chosen.side, chosen.side)).astype(np.float32)

    fit(renderer, data, Reconstruction(steps=20))  # compiles
    start = time.perf_counter()
    fit(renderer, data, settings)
    step = (time.perf_counter() - start) / chosen.steps

    fine, camera = model.scene_shape[-2:], model.camera_shape
    scene = jnp.zeros((1, *fine)) + jnp.arange(fine[1])
    field = jnp.zeros((1, 2, *fine)) + 0.3
    warps = best(jax.jit(jax.grad(lambda s, d: jnp.sum(warp(s, d) ** 2), (0, 1))), scene, field)
    there = best(jax.jit(jnp.fft.rfft2), scene)
    back = best(jax.jit(lambda a: jnp.fft.irfft2(a, s=camera)), jnp.zeros((1, camera[0], camera[1] // 2 + 1)) + 0j)
    floor = frames * (warps + 2 * (there + back))
    figures = {
        "device": jax.devices()[0].device_kind,
        "camera_px": chosen.side,
        "result_px": fine[0],
        "frames": frames,
        "seconds_per_step": step,
        "floor_seconds_per_step": floor,
        "ratio": step / floor,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
    }
    print(json.dumps(figures, indent=1))
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(figures, file, indent=1)


if __name__ == "__main__":
    main()
