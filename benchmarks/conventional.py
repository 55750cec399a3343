"""Illumination estimates and conventional SIM: simulated cases, draws of families of recordings, real recordings.

python benchmarks/conventional.py [--cases ../shared/cases/sim] [--only NAME ...] [--draws N] [--json OUT]

Every case runs in a process of its own on one core. Seconds are of the processor (others may use the machine), the
shortest of several runs; the floor is the transforms alone that a reconstruction cannot do without.

Images are compared with the truth after a transfer like the one that the truth was stored with (of a stack a triangle
over its support), without mean, with the best gain, borders of 1/8 cut; the range of PSNR and SSIM is the 99.9th
percentile of the truth. ``ring``: after the best gain of every Fourier ring. Of a stack ``inner`` also cuts 1/8 of the
planes off each end.
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
import scipy.ndimage
import tifffile
from skimage.metrics import structural_similarity

from nstm.conventional.sim import Wiener
from nstm.illumination.sim import estimate
from nstm.io.mrc import read_mrc_array
from nstm.metrics.frc import frc_resolution_um
from nstm.metrics.image import crop
from nstm.optics.lens import Lens
from nstm.optics.otf import incoherent_otf
from nstm.simulate.families import FAMILIES, draw

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


def phase_errors(found, true):
    """Errors of vectors (cycles/um), of phases at the field's centre (rad), and what equal steps would leave (rad)."""
    k, kt, field = (np.array(a) for a in (found["pattern_vectors"], true["pattern_vectors"], found["field_um"]))
    moved = 2 * np.pi * (k - kt) @ (0.5 * field)
    phases = np.array(true["phases"])
    wrong = np.angle(np.exp(1j * (np.array(found["phases"]) - phases + moved[:, None])))
    uneven = np.unwrap(phases - 2 * np.pi * np.arange(phases.shape[1]) / phases.shape[1], axis=1)
    return k - kt, wrong, uneven


def parameter_errors(found, true, orders):
    """k in bins of the finest order (worst), phases in degrees rms (worst orientation), modulation in % (worst)."""
    k, wrong, uneven = phase_errors(found, true)
    return {
        "k_bins": orders * float(np.hypot(*(k * np.array(found["field_um"])).T).max()),
        "absolute_phase_deg": float(np.degrees(np.sqrt(np.mean(wrong.mean(axis=1) ** 2)))),
        "relative_phase_deg": float(np.degrees(wrong.std(axis=1).max())),
        "nominal_phase_deg": float(np.degrees(uneven.std(axis=1).max())),
        "modulation_percent": float(100 * np.abs(np.array(found["modulation"]) / true["modulation"] - 1).max()),
    }


def _frequencies(shape, pixel_um, z_step_um):
    fz = np.fft.fftfreq(shape[0], z_step_um)[:, None, None]
    fy = np.fft.fftfreq(shape[1], pixel_um)[:, None]
    return np.abs(fz), np.hypot(fy, np.fft.rfftfreq(shape[2], pixel_um))


def image_figures(image, truth, about):
    """PSNR with the truth's transfer, after ring gain (dB), and SSIM."""
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
    inner = slice(round(len(truth) / 8), len(truth) - round(len(truth) / 8))
    return {
        "psnr": psnr(shown, truth),
        "psnr_inner": psnr(shown[inner], truth[inner]),
        "psnr_ring_gain": psnr(equalised, truth),
        "ssim": float(np.mean([ssim(p, q) for p, q in zip(shown, truth, strict=True)])),
    }


def _fitted(image, truth):
    """Borders cut, no mean, best gain; with the range that both are compared in."""
    a, b = crop(image), crop(truth)
    a, centred = a - a.mean(), b - b.mean()
    return a * (np.vdot(a, centred) / np.vdot(a, a)), centred, float(np.quantile(b, 0.999))


def psnr(image, truth):
    a, b, extent = _fitted(image, truth)
    return float(10 * np.log10(extent**2 / np.mean((a - b) ** 2)))


def ssim(image, truth):
    a, b, extent = _fitted(image, truth)
    return float(structural_similarity(a, b, data_range=extent))


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


def run_draw(family, seed, side):
    """Errors of one draw of a family, and what they cost the reconstruction."""
    recording = draw(family, seed, side)
    m, true = recording.microscope, recording.calibration
    frames = recording.frames[0].astype(np.float32) - m.offset
    optics = {"pixel_um": m.pixel_um, "na": m.na, "emission_wavelength_um": m.emission_wavelength_um}
    if frames.ndim == 5:
        excitation = m.excitation_wavelength_um
        optics |= {"index": m.index, "excitation_wavelength_um": excitation, "z_step_um": m.z_step_um}
    found = estimate(frames, beams=m.beams, **optics)
    _, wrong, uneven = phase_errors(found, true)
    figures = {"status": found["angle_status"], **parameter_errors(found, true, m.beams - 1)}
    figures["excess_phase_deg"] = float(np.degrees((wrong.std(axis=1) - uneven.std(axis=1)).max()))
    truth = recording.truth[:1] if frames.ndim == 4 else recording.truth[0]
    radius = _frequencies(truth.shape, m.pixel_um / 2, 1.0)[1]
    transfer = incoherent_otf(radius, m.reach / 2, 1.0)
    images = []
    for calibration in (found, true):
        image = Wiener(frames.shape[2:], [calibration] * m.angles, Lens(**optics), ratio=2.0)(frames)
        images.append(scipy.fft.irfft2(scipy.fft.rfft2(image.reshape(truth.shape)) * transfer, s=truth.shape[1:]))
    blurred = scipy.fft.irfft2(scipy.fft.rfft2(truth) * transfer, s=truth.shape[1:])
    figures["psnr"], figures["psnr_true_parameters"] = (psnr(image, blurred) for image in images)
    return figures


def family_figures(draws):
    """What is worst, and what is usual, of the draws of one family."""

    def over(key, function):
        return float(function([d[key] for d in draws]))

    statuses = [s for d in draws for s in d["status"]]
    return {
        "orientations": {s: statuses.count(s) for s in ("pass", "warn", "fail")},
        "k_bins": over("k_bins", np.median),
        "k_bins_worst": over("k_bins", max),
        "absolute_phase_deg": over("absolute_phase_deg", np.mean),
        "relative_phase_deg": over("relative_phase_deg", np.mean),
        "nominal_phase_deg": over("nominal_phase_deg", np.mean),
        "excess_phase_deg": over("excess_phase_deg", max),
        "modulation_percent": over("modulation_percent", np.median),
        "modulation_percent_worst": over("modulation_percent", max),
        "psnr": over("psnr", np.mean),
        "psnr_true_parameters": over("psnr_true_parameters", np.mean),
    }


def run_omx(data):
    """The stack of cudasirecon with its measured transfer functions: spacing and angles against those listed."""
    raw = tifffile.imread(data / "omx_3d" / "raw.tif").astype(np.float32)
    frames = raw.reshape(3, 9, 5, 64, 64).transpose(0, 2, 1, 3, 4)
    optics = {"pixel_um": 0.08, "na": 1.42, "emission_wavelength_um": 0.528, "index": 1.515}
    found = estimate(frames, beams=3, excitation_wavelength_um=0.488, z_step_um=0.125, **optics)
    ky, kx = np.array(found["pattern_vectors"]).T
    return {
        "status": found["angle_status"],
        "spacing_percent": [float(100 * (s / 0.2035 - 1)) for s in 0.5 / np.hypot(ky, kx)],
        "angle_mrad": [float(1000 * a) for a in np.arctan2(ky, kx) - [0.8043, 1.8555, -0.2388]],
        "overlap_correlation": found["overlap_correlation"],
        "modulation": found["modulation"],
    }


def _real(frames, optics, beams, reference=None):
    """Gates of a real recording; with the authors' reconstruction the ring correlation with it, um."""
    found = estimate(frames, beams=beams, **optics)
    figures = {"status": found["angle_status"], "modulation": found["modulation"]}
    figures |= {key: found[key] for key in ("overlap_correlation", "vector_error", "peak_strength")}
    if reference is not None:
        image = Wiener(frames.shape[2:], [found] * len(frames), Lens(**optics), ratio=2.0)(frames)
        reference = reference.astype(float)
        figures["frc_um"] = frc_resolution_um(image.astype(float), reference, optics["pixel_um"] / 2)
        wide = scipy.ndimage.zoom(frames.mean(axis=(0, 1)), 2, order=1, grid_mode=True, mode="nearest")
        figures["frc_widefield_um"] = frc_resolution_um(wide.astype(float), reference, optics["pixel_um"] / 2)
    return figures


def run_real(data):
    """Real recordings; pixel, aperture and wavelengths of the first two were not published and are assumed."""
    results = {}
    for field in ("ER_1", "ER_2"):
        folder = data / "er_timelapse_tirf"
        frames = tifffile.imread(folder / f"{field}.tif").astype(np.float32).reshape(3, 3, 3, 112, 512)[0] - 100
        optics = {"pixel_um": 0.065, "na": 1.49, "emission_wavelength_um": 0.525}
        results[field] = _real(frames, optics, 2, tifffile.imread(folder / "gt" / f"{field}_gt.tif"))
    folder = data / "microtubules_3beam_15frames"
    frames = tifffile.imread(folder / "raw_15x128x128.tif").astype(np.float32).reshape(3, 5, 128, 128)
    optics = {"pixel_um": 0.0626, "na": 1.4, "emission_wavelength_um": 0.525}
    results["microtubules"] = _real(frames, optics, 3, tifffile.imread(folder / "authors_sim_256x256.tif"))
    frames = read_mrc_array(data / "microtubules_dv" / "MT.mrc").astype(np.float32).reshape(3, 3, 256, 256)
    results["MT.mrc"] = _real(frames, optics | {"na": 1.3}, 2)
    return results


def family_table(results):
    """The families as text."""
    lines = [
        f"{'family':22} {'pass warn fail':14} {'k bin':>6} {'worst':>6} {'abs':>5} {'rel':>5} {'(even)':>6}"
        f" {'excess':>6} {'mod %':>6} {'worst':>6} {'PSNR':>6} {'(true)':>6}"
    ]
    for name, f in results.items():
        n = f["orientations"]
        lines.append(
            f"{name:22} {n['pass']:4} {n['warn']:4} {n['fail']:4} {f['k_bins']:6.3f} {f['k_bins_worst']:6.3f}"
            f" {f['absolute_phase_deg']:5.2f} {f['relative_phase_deg']:5.2f} {f['nominal_phase_deg']:6.2f}"
            f" {f['excess_phase_deg']:6.2f} {f['modulation_percent']:6.1f} {f['modulation_percent_worst']:6.1f}"
            f" {f['psnr']:6.1f} {f['psnr_true_parameters']:6.1f}"
        )
    return "\n".join(lines)


def real_table(results):
    """The real recordings as text."""
    lines = []
    for name, f in results.items():
        rounded = {k: np.round(v, 3).tolist() if k != "status" else " ".join(v) for k, v in f.items()}
        lines.append(f"{name:14} " + "  ".join(f"{k} {v}" for k, v in rounded.items()))
    return "\n".join(lines)


def table(results):
    """The figures as text."""
    lines = [
        f"{'case':16} {'gate':4} {'k bin':>6} {'abs':>5} {'rel':>5} {'mod %':>6} {'PSNR':>6} {'ring':>6} {'SSIM':>5}"
        f" {'inner':>6} {'(true':>6} {'ring':>6} {'SSIM)':>6}"
        f" {'estim.':>7} {'set-up':>7} {'recon.':>7} {'floor':>7} {'MB':>5}"
    ]
    for name, f in results.items():
        found, true = f["found"], f["true_parameters"]
        lines.append(
            f"{name:16} {f['status']:4} {f['k_bins']:6.3f} {f['absolute_phase_deg']:5.2f}"
            f" {f['relative_phase_deg']:5.2f} {f['modulation_percent']:6.1f}"
            f" {found['psnr']:6.1f} {found['psnr_ring_gain']:6.1f} {found['ssim']:5.3f} {found['psnr_inner']:6.1f}"
            f" {true['psnr']:6.1f} {true['psnr_ring_gain']:6.1f} {true['ssim']:6.3f}"
            f" {f['estimate_s']:7.3f} {f['set_up_s']:7.3f} {f['reconstruct_s']:7.3f} {f['floor_s']:7.3f}"
            f" {f['peak_memory_mb']:5.0f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(os.environ.get("NSTM_TEST_CASES", ROOT.parent / "shared" / "cases"))
    parser.add_argument("--cases", type=Path, default=beside / "sim", help="folder with the cases")
    parser.add_argument("--only", nargs="*", help="names of cases or families, or real; left out: all")
    parser.add_argument("--draws", type=int, default=6, help="draws of each family")
    parser.add_argument("--json", help="also write the figures to this file")
    chosen = parser.parse_args()
    names = sorted(p.name.removesuffix("_raw.tif") for p in chosen.cases.glob("*_raw.tif"))
    if not names:
        print(f"{chosen.cases} holds no cases: set NSTM_TEST_CASES")
    data = Path(os.environ.get("NSTM_TEST_DATA", ROOT.parent / "shared" / "data")) / "sim"

    def wanted(all_names):
        return [name for name in all_names if not chosen.only or name in chosen.only]

    results = {"cases": {}, "families": {}, "real": {}}
    with ProcessPoolExecutor(1, max_tasks_per_child=1) as processes:
        for name in wanted(names):
            results["cases"][name] = processes.submit(run, chosen.cases, name).result()
        print(table(results["cases"]), flush=True)
        if wanted(["real"]) and data.is_dir():
            results["real"] = {"OMX stack": run_omx(data), **run_real(data)}
            print(real_table(results["real"]), flush=True)
        for family in wanted(FAMILIES):
            stack = "planes" in FAMILIES[family]
            seeds, side = (2, 96) if stack else (chosen.draws, 256)
            found = [processes.submit(run_draw, family, seed, side).result() for seed in range(seeds)]
            results["families"][family] = family_figures(found)
            print(family_table({family: results["families"][family]}), flush=True)
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
