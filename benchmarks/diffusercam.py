"""NSTM against FISTA with total variation on one frame of a rolling-shutter DiffuserCam, simulated from a real pattern.

python benchmarks/diffusercam.py [--psf FILE] [--only nstm|fista] [--json OUT]

The pattern of a point is that of the DiffuserCam tutorial (Waller-Lab), its middle 1080 x 1280 pixels binned by 4. The
object, a disc with patches and seams, swings and is deformed while the 270 rows are read; noise of 1 % of the brightest
pixel is added. The weight of the total variation is swept from too strong to too weak, each run starting from the last
one's video, and the best of all counts for FISTA. Figures are means of the PSNR over all layers.
"""

import argparse
import json
import os
import resource
import time
from pathlib import Path

import jax
import numpy as np
import tifffile

import nstm
from nstm.conventional.diffusercam_video import Camera, Prior, fista, lipschitz
from nstm.metrics import psnr_plain
from nstm.optics.lensless import Diffuser, binned
from nstm.settings import Conventional, Reconstruction, override
from nstm.simulate.diffusercam import LenslessCamera, bounce, simulate_diffusercam, textured_disc
from nstm.systems.diffusercam import DiffuserCam, DiffuserSettings

ROOT = Path(__file__).resolve().parents[1]
PSF = Path(os.environ.get("NSTM_TEST_DATA", ROOT.parent / "shared" / "data")) / "lensless/diffusercam/psf_sample.tif"
BINNING, SENSOR = 4, (1080, 1280)
DARK = 100.0  # counts of a dark pixel of the recorded pattern
NOISE = 0.01
#: From too strong to too weak.
WEIGHTS = (1e-4, 1e-5, 3e-6, 1e-6, 3e-7, 1e-7, 3e-8)


def pattern(path):
    """The middle of the recorded pattern, without its dark counts, binned, sum 1."""
    whole = np.maximum(tifffile.imread(path).astype(np.float64) - DARK, 0)
    top, left = ((n - m) // 2 for n, m in zip(whole.shape, SENSOR, strict=True))
    small = binned(whole[top : top + SENSOR[0], left : left + SENSOR[1]], BINNING)
    return (small / small.sum()).astype(np.float32)


def mean_psnr(images, truth, pixel_um):
    """Mean over times of images ``(t, y, x)``."""
    return float(np.mean([psnr_plain(a, b, pixel_um, 0.5 / pixel_um) for a, b in zip(images, truth, strict=True)]))


def sweep(system, camera, data, truth, iterations, time_weight, pixel_um):
    """Figures of every weight, each warm-started."""
    scale, step = float(data.max()), 0.95 / float(lipschitz(camera, 1))
    start, runs = None, []
    for weight in WEIGHTS:
        begin = time.process_time()
        prior = Prior(weight, time_weight)
        start, _ = fista(camera, data / scale, prior, iterations, start=start, step=step)
        figure = mean_psnr(start[:, 0], truth, pixel_um)
        runs.append({"weight": weight, "time_weight": time_weight, "psnr": figure})
        runs[-1]["cpu_seconds"] = time.process_time() - begin
        print(runs[-1], flush=True)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--psf", type=Path, default=PSF, help="recorded pattern, TIFF")
    parser.add_argument("--only", choices=("nstm", "fista"))
    parser.add_argument("--iterations", type=int, default=150, help="of FISTA, for each weight")
    parser.add_argument("--time-weights", type=float, nargs="+", default=[10.0])
    parser.add_argument(
        "--settings", type=json.loads, default={"starts": 1, "steps": 400}, help="keys of `reconstruction`"
    )
    parser.add_argument("--json", help="also write the figures to this file")
    chosen = parser.parse_args()

    psf = pattern(chosen.psf)
    lens = LenslessCamera(shape=psf.shape, photons=1e4, offset=0.0)
    disc = textured_disc(1, lens.scene_shape, lens.pixel_um)
    recording = simulate_diffusercam(disc, bounce(lens, 40.0, 4.0, 1), lens, psf[None], 1)
    truth, times = recording.truth[:, 0], recording.times[0][..., None]
    clean = recording.clean[0]
    noise = np.random.default_rng(0).standard_normal(clean.shape)
    frames = (clean + NOISE * clean.max() * noise)[:, :, None].astype(np.float32)
    figures = {"device": jax.devices()[0].device_kind, "sensor_px": list(psf.shape), "layers": len(truth)}
    folder = Path(chosen.json).parent if chosen.json else Path(".")
    file = folder / ".diffusercam_psf.npy"
    np.save(file, psf)
    try:
        system = DiffuserCam(
            DiffuserSettings.model_validate(
                {
                    "optics": {"pixel_um": lens.pixel_um},
                    "frames": {"exposure_s": lens.exposure_s},
                    "readout": {"line_time_s": lens.line_time_s},
                    "psf": {"path": str(file), "background": 0.0},
                }
            )
        )
        seen = recording.truth_times
        if chosen.only != "fista":
            settings = override(override(Reconstruction(), dict(system.fit_defaults)), chosen.settings)
            wall, cpu = time.perf_counter(), time.process_time()
            fit = nstm.reconstruct(system, frames, times, settings, progress=True)
            cpu = time.process_time() - cpu
            figures["nstm"] = {
                "psnr": mean_psnr(fit.scene(seen)[:, 0, 0], truth, lens.pixel_um),
                "seconds": time.perf_counter() - wall,
                "cpu_seconds": cpu,
                "steps": settings.steps,
                "starts": settings.starts,
                "loss_over_noise": float(fit.trace.loss[-1] * fit.scale**2 / fit.noise_variance.mean()),
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000,
            }
            print(figures["nstm"], flush=True)
        if chosen.only != "nstm":
            blocks = system._blocks(psf.shape[0])
            camera = Camera(Diffuser(psf[None], lens.scene_shape), blocks, len(truth))
            data = blocks.cut(frames[0, :, 0])
            runs = [
                run
                for weight in chosen.time_weights
                for run in sweep(system, camera, data, truth, chosen.iterations, weight, lens.pixel_um)
            ]
            best = max(runs, key=lambda run: run["psnr"])
            figures["fista"] = {"iterations": chosen.iterations, "best": best, "runs": runs}
        for name in ("wiener", "admm"):
            still = system.baselines[name].reconstruct(frames, {}, lens.pixel_um, Conventional(), seen - times.min())
            figures[name] = {"psnr": mean_psnr(still[:, 0, 0], truth, lens.pixel_um)}
    finally:
        file.unlink()
    print(json.dumps(figures, indent=1))
    if chosen.json:
        with open(chosen.json, "w") as out:
            json.dump(figures, out, indent=1)


if __name__ == "__main__":
    main()
