"""Real cells under DPC, through the rules: at rest, and with known shifts applied from frame to frame.

python benchmarks/dpc_cells.py [--cells FOLDER] [--folder FOLDER] [--json OUT]

Every frame of a published recording of cells at rest (r1.tif to r4.tif) is shifted by its number times a known vector
(Fourier series, on a larger part of the field than is used) and goes from files through `snakemake` with the system
``dpc_cells`` of config/real. Displacements of camera pixels per frame count where ``motion`` says that the frames
determine them. Phase: PSNR against the Tikhonov solution of the frames as recorded, of the fits with and without motion
(the fit with motion is at the middle of its times, so a shift of 1.5 vectors is undone first).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import tifffile
import yaml

from nstm.io.store import open_timelapse
from nstm.metrics import psnr

ROOT = Path(__file__).resolve().parents[1]
BESIDE = Path(os.environ.get("NSTM_TEST_DATA", ROOT.parent / "shared" / "data"))
#: (y, x) of the first pixel, side, and how much more is shifted, camera pixels.
CORNER, SIDE, MARGIN = (1440, 1450), 192, 64
#: Camera pixels per frame, (y, x).
SHIFTS = {"still": (0.0, 0.0), "part_of_a_pixel": (0.4, -0.3), "six_pixels": (0.0, 2.0)}


def shifted(image: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """The part of the field that is used, moved by ``vector``."""
    (y, x), wide = (c - MARGIN for c in CORNER), SIDE + 2 * MARGIN
    part = image[y : y + wide, x : x + wide].astype(float)
    moved = np.fft.ifft2(scipy.ndimage.fourier_shift(np.fft.fft2(part), vector)).real
    inner = slice(MARGIN, -MARGIN)
    return np.clip(np.rint(moved[inner, inner]), 0, np.iinfo(np.uint16).max).astype(np.uint16)


def prepare(cells: Path, folder: Path) -> Path:
    """Frames, sheet and config of the experiment in ``folder``."""
    frames = [tifffile.imread(path) for path in sorted(cells.glob("r?.tif"))]
    rows = ["sample\tpath\tsystem"]
    for name, vector in SHIFTS.items():
        (folder / name).mkdir()
        for k, frame in enumerate(frames):
            tifffile.imwrite(folder / name / f"r{k + 1}.tif", shifted(frame, k * np.asarray(vector)))
        rows.append(f"{name}\t{name}/r?.tif\tdpc_cells")
    (folder / "samples.tsv").write_text("\n".join(rows) + "\n")
    whole = yaml.safe_load((ROOT / "config" / "real" / "config.yaml").read_text())
    config = {"samples": "samples.tsv", "systems": {"dpc_cells": whole["systems"]["dpc_cells"]}}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def images(folder: Path, name: str, store: str) -> np.ndarray:
    """``(t, c, y, x)`` of a result."""
    return np.asarray(open_timelapse(folder / "results" / name / "timelapse" / f"{store}.ome.zarr").values[:, :, 0])


def figures_of(folder: Path, name: str, pixel_um: float, ratio: int) -> dict[str, Any]:
    """What was found of one sample."""
    vector = np.asarray(SHIFTS[name])
    moved = images(folder, name, "motion")[1:] / pixel_um  # nothing precedes the first frame
    known = np.all(np.isfinite(moved), axis=1)
    error = np.linalg.norm(moved - vector[:, None, None], axis=1)[known]
    inner = slice(16 * ratio, -16 * ratio)

    def phase(sample: str, store: str, shift: np.ndarray) -> np.ndarray:
        middle = np.nanmean(images(folder, sample, store)[1:3, -1], axis=0)  # the window has one result
        return scipy.ndimage.shift(middle, -shift, order=3, mode="nearest")[inner, inner]

    reference = phase("still", "conventional", np.zeros(2))
    return {
        "shift_px": list(SHIFTS[name]),
        "determined": float(known.mean()),
        "error_px": {
            "median": float(np.median(error)),
            "p95": float(np.percentile(error, 95)),
            "max": float(error.max()),
        },
        "mean_px": [float(v) for v in np.nanmean(moved, axis=(0, 2, 3))],
        "phase_psnr": psnr(phase(name, "nstm", 1.5 * vector * ratio), reference),
        "phase_psnr_static_fit_of_still": psnr(phase("still", "static", np.zeros(2)), reference),
        "verdict": json.loads((folder / "results" / name / "trust.json").read_text())["status"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, default=BESIDE / "dpc" / "cells_20x")
    parser.add_argument("--folder", type=Path, help="keep the experiment there (default: a folder that is removed)")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dpc-cells-") as name:
        folder = (chosen.folder or Path(name)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        config = prepare(chosen.cells, folder)
        snakefile = str(ROOT / "workflow" / "Snakefile")
        command = ["snakemake", "--snakefile", snakefile, "--directory", str(folder), "--cores", str(chosen.cores)]
        subprocess.run([*command, "--configfile", str(config)], check=True)
        pixel = yaml.safe_load(config.read_text())["systems"]["dpc_cells"]["optics"]["pixel_um"]
        ratio = images(folder, "still", "motion").shape[-1] // SIDE
        figures = {sample: figures_of(folder, sample, pixel, ratio) for sample in SHIFTS}
    print(json.dumps(figures, indent=1))
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
