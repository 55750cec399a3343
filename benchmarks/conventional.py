"""Illumination estimates and conventional SIM of the simulated cases: errors, PSNR and seconds beside the FFT floor.

python benchmarks/conventional.py [--cases ../shared/cases/sim] [--only NAME ...] [--json OUT]

Every case runs in a process of its own on one core. Seconds are of the processor (others may use the machine), the
shortest of several runs; the floor is the transforms alone that a reconstruction cannot do without. Images are
compared with the truth after a transfer like the one that the truth was stored with (of a stack a triangle over its
support), without mean, with the best gain, borders of 1/8 cut; SSIM is that of the planes.
"""

import argparse
import json
import os
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import scipy.fft
import tifffile

from nstm.conventional.sim import Wiener
from nstm.illumination.sim import estimate
from nstm.metrics.image import crop
from nstm.optics.lens import Lens
from nstm.optics.otf import incoherent_otf

ROOT = Path(__file__).resolve().parents[1]


def cpu_seconds(function, repeats):
    """Shortest processor time of a call, s."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def load(folder, name):
    """Frames, optics, true calibration and parameters of a case."""
    about = json.loads((folder / f"{name}.json").read_text())
    side, orders = about["N"], 2 if about["kind"] == "3d" else about["beams"] - 1
    frames = tifffile.imread(folder / f"{name}_raw.tif").astype(np.float32) - about["offset"]
    optics = {"pixel_um": about["px"], "na": about["na"], "emission_wavelength_um": about["lam_em"]}
    if about["kind"] == "3d":
        frames = frames.reshape(-1, 3, 5, side, side).transpose(1, 2, 0, 3, 4)
        optics |= {"index": about["nimm"], "excitation_wavelength_um": about["lam_ex"], "z_step_um": about["dz"]}
    else:
        frames = frames.reshape(3, -1, 1, side, side)
    true = {
        "pattern_vectors": (np.array(about["k"])[:, ::-1] / orders).tolist(),
        "phases": about["phases"],
        "modulation": np.array([about["mods"], about.get("mods2")][:orders], float).T.tolist(),
        "intensity": np.ones(frames.shape[:2]).tolist(),
    }
    return np.ascontiguousarray(frames), optics, true, about


def parameter_errors(found, true, orders):
    """k in bins of the finest order (worst), phases in degrees rms (worst orientation), modulation in % (worst)."""
    k, kt, field = (np.array(a) for a in (found["pattern_vectors"], true["pattern_vectors"], found["field_um"]))
    moved = 2 * np.pi * (k - kt) @ (0.5 * field)
    phases = np.array(true["phases"])
    wrong = np.angle(np.exp(1j * (np.array(found["phases"]) - phases + moved[:, None])))
    uneven = phases - 2 * np.pi * np.arange(phases.shape[1]) / phases.shape[1]
    return {
        "k_bins": orders * float(np.hypot(*((k - kt) * field).T).max()),
        "absolute_phase_deg": float(np.degrees(np.sqrt(np.mean(wrong.mean(axis=1) ** 2)))),
        "relative_phase_deg": float(np.degrees(wrong.std(axis=1).max())),
        "nominal_phase_deg": float(np.degrees(np.unwrap(uneven, axis=1).std(axis=1).max())),
        "modulation_percent": float(100 * np.abs(np.array(found["modulation"]) / true["modulation"] - 1).max()),
    }


def _frequencies(shape, pixel_um, z_step_um):
    fz = np.fft.fftfreq(shape[0], z_step_um)[:, None, None]
    fy = np.fft.fftfreq(shape[1], pixel_um)[:, None]
    return np.abs(fz), np.hypot(fy, np.fft.rfftfreq(shape[2], pixel_um))


def image_figures(image, truth, about):
    """PSNR with the truth's transfer, after ring gain (dB), and SSIM."""
    from nstm.metrics.image import _structural_similarity

    fz, radius = _frequencies(truth.shape, about["px"] / 2, about.get("dz", 1.0))
    spectrum = scipy.fft.rfftn(image.astype(float))
    kc = about["cutoff_sim"]
    if truth.shape[0] == 1:
        transfer = incoherent_otf(radius, kc / 2, 1.0)[None]
    else:
        transfer = np.maximum(0, 1 - np.hypot(radius / kc, fz / about["cutoff_z"]))
    shown = scipy.fft.irfftn(spectrum * transfer, s=truth.shape)
    ring = np.rint(radius * truth.shape[-1] * about["px"] / 2).astype(int)
    window = np.outer(*(np.hanning(n) for n in truth.shape[1:]))
    a, b = (scipy.fft.rfftn((v - v.mean()) * window) for v in (image.astype(float), truth))
    gain = np.empty(spectrum.shape)
    for plane, (p, q) in enumerate(zip(a, b, strict=True)):
        cross, power = (np.bincount(ring.ravel(), v.ravel()) for v in ((q * p.conj()).real, np.abs(p) ** 2))
        best = np.maximum(cross, 0) / np.maximum(power, 1e-30)
        best[0] = best[1]  # the mean is removed, its ring says nothing
        gain[plane] = best[ring] * (radius < kc)
    equalised = scipy.fft.irfftn(spectrum * gain, s=truth.shape)
    return {
        "psnr": _psnr(shown, truth),
        "psnr_ring_gain": _psnr(equalised, truth),
        "ssim": float(np.mean([_structural_similarity(p, q) for p, q in zip(shown, truth, strict=True)])),
    }


def _psnr(image, truth):
    a, b = (crop(v) - crop(v).mean() for v in (image, truth))
    a = a * (np.vdot(a, b) / np.vdot(a, a))
    return float(10 * np.log10(np.ptp(b) ** 2 / np.mean((a - b) ** 2)))


def run(folder, name):
    """All figures of one case."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    frames, optics, true, about = load(folder, name)
    orders, stack = len(true["modulation"][0]), frames.shape[2] > 1
    found = estimate(frames, beams=orders + 1, **optics)
    figures = {"status": found["status"], **parameter_errors(found, true, orders)}
    figures["estimate_s"] = cpu_seconds(lambda: estimate(frames, beams=orders + 1, **optics), 1 if stack else 3)
    start = time.process_time()
    method = Wiener(frames.shape[2:], [found] * 3, Lens(**optics), ratio=2.0)
    figures["set_up_s"] = time.process_time() - start
    figures["reconstruct_s"] = cpu_seconds(lambda: method(frames), 3 if stack else 7)
    planes = frames.shape[2]
    real, plain = (np.zeros((planes, *method.camera), t) for t in (np.float32, np.complex64))
    half = np.zeros((planes, method.fine[0], method.fine[1] // 2 + 1), np.complex64)
    figures["floor_s"] = (
        cpu_seconds(lambda: scipy.fft.rfft2(real), 7)
        + len(method.bands) * cpu_seconds(lambda: scipy.fft.fft2(plain), 7)
        + cpu_seconds(lambda: scipy.fft.irfft2(half, s=method.fine), 7)
    )
    figures["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    truth = np.load(folder / f"{name}_truth.npz")["gt"].astype(float)
    truth = truth if stack else truth[None]
    figures["found"] = image_figures(method(frames), truth, about)
    oracle = Wiener(frames.shape[2:], [true] * 3, Lens(**optics), ratio=2.0)
    figures["true_parameters"] = image_figures(oracle(frames), truth, about)
    return figures


def table(results):
    """The figures as text."""
    lines = [
        f"{'case':16} {'gate':4} {'k bin':>6} {'abs':>5} {'rel':>5} {'mod %':>6} {'PSNR':>6} {'ring':>6} {'SSIM':>5}"
        f" {'(true':>6} {'ring':>6} {'SSIM)':>6} {'estim.':>7} {'set-up':>7} {'recon.':>7} {'floor':>7} {'MB':>5}"
    ]
    for name, f in results.items():
        found, true = f["found"], f["true_parameters"]
        lines.append(
            f"{name:16} {f['status']:4} {f['k_bins']:6.3f} {f['absolute_phase_deg']:5.2f}"
            f" {f['relative_phase_deg']:5.2f} {f['modulation_percent']:6.1f}"
            f" {found['psnr']:6.1f} {found['psnr_ring_gain']:6.1f} {found['ssim']:5.3f}"
            f" {true['psnr']:6.1f} {true['psnr_ring_gain']:6.1f} {true['ssim']:6.3f}"
            f" {f['estimate_s']:7.3f} {f['set_up_s']:7.3f} {f['reconstruct_s']:7.3f} {f['floor_s']:7.3f}"
            f" {f['peak_memory_mb']:5.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(os.environ.get("NSTM_TEST_CASES", ROOT.parent / "shared" / "cases"))
    parser.add_argument("--cases", type=Path, default=beside / "sim", help="folder with the cases")
    parser.add_argument("--only", nargs="*", help="names of cases; left out: all")
    parser.add_argument("--json", help="also write the figures to this file")
    chosen = parser.parse_args()
    names = chosen.only or sorted(p.name.removesuffix("_raw.tif") for p in chosen.cases.glob("*_raw.tif"))
    if not names:
        print(f"{chosen.cases} holds no cases: set NSTM_TEST_CASES")
        return
    with ProcessPoolExecutor(1, max_tasks_per_child=1) as processes:
        results = {name: processes.submit(run, chosen.cases, name).result() for name in names}
    print(table(results))
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
