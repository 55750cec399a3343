"""Conversion to the raw store beside a plain copy of the same bytes, in one run: throughput, memory, files.

python benchmarks/convert.py [--gigabytes 8] [--rounds 3] [--cores 2] [--folder .] [--json OUT]

Every round copies and converts a file that is not in the page cache. Both count until everything is on the disk
(fsync), and of all rounds the shortest counts, because others may use the machine. Conversion runs in a process of
its own, whose start is not counted, and hashes the file as well; the peak of resident memory is that process's
(VmHWM). Needs Linux and about 2.5 times the gigabytes on the disk of the folder.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

SIDE = 1024
#: Angles, phases, planes; whether the noise is that of photons, else of random bits; share of the gigabytes.
CASES = {
    "time lapse, 9 frames of 1024 x 1024": (3, 3, 1, True, 1.0),
    "volumes, 15 frames of 32 x 1024 x 1024": (3, 5, 32, True, 0.4),
    "one volume that cannot be compressed": (3, 5, 32, False, 0.0),
}


def planes(photons, rng):
    """A few planes: cell-like light with stripes, photon and read noise on an offset; or random bits."""
    if not photons:
        return [rng.integers(0, 2**16, (SIDE, SIDE)).astype(np.uint16) for _ in range(8)]
    scene = gaussian_filter(rng.random((SIDE, SIDE)) ** 8, 3)
    lit = scene / scene.max() * (1 + 0.5 * np.cos(2.3 * np.arange(SIDE) + np.arange(16)[:, None, None]))
    counts = 100 + rng.poisson(20 + 300 * lit) + rng.normal(0, 2, lit.shape).round()
    return list(counts.clip(0, 2**16 - 1).astype(np.uint16))


def write_recording(path, count, photons):
    """``count`` planes as TIFF, each another one shifted."""
    pool = planes(photons, np.random.default_rng(0))
    shifted = (np.roll(pool[i % len(pool)], 37 * i, axis=1) for i in range(count))
    shape = (count, SIDE, SIDE)
    big = count * SIDE**2 * 2 > 2**32 - 2**25
    tifffile.imwrite(path, shifted, shape=shape, dtype=np.uint16, bigtiff=big, photometric="minisblack", metadata=None)


def on_disk(path):
    """Wait until a file, or all of a folder, is on the disk."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        handle = os.open(file, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def forget(path):
    """Take a file out of the page cache."""
    handle = os.open(path, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)


def copied(raw, out):
    """Seconds of a plain copy."""
    forget(raw)
    start = time.perf_counter()
    shutil.copyfile(raw, out)
    on_disk(out)
    seconds = time.perf_counter() - start
    out.unlink()
    return seconds


def converted(raw, out, case):
    """Seconds, peak memory and result of a conversion in a process of its own."""
    shutil.rmtree(out, ignore_errors=True)
    forget(raw)
    done = subprocess.run(
        [sys.executable, __file__, "--convert", str(raw), str(out), case], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def convert(raw, out, case):
    """What the process of :func:`converted` does."""
    from nstm.pipeline.convert import convert_sample
    from nstm.pipeline.sheet import SampleRow
    from nstm.systems.sim import Sim

    angles, phases, depth, *_ = CASES[case]
    optics = {"na": 1.4, "index": 1.518, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488}
    settings = {
        "kind": "sim",
        "optics": {**optics, "pixel_um": 0.065, "z_step_um": 0.125},
        "illumination": {"angles": angles, "phases": phases},
        "frames": {"order": "t angle phase z" if depth > 1 else "t angle phase", "planes": depth},
    }
    system, row = Sim(Sim.Settings.model_validate(settings)), SampleRow(sample="x", path=str(raw), system="x")
    started = peak_mb()
    start = time.perf_counter()
    convert_sample(row, system, out)
    on_disk(out)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_mb": peak_mb(), "peak_mb_before": started}))


def peak_mb():
    """Peak of the resident memory of this process, MB."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e6


def same(raw, out):
    """Whether the first and the last plane of the store are those of the recording."""
    from nstm.io.store import open_raw

    frames = open_raw(out)["frames"].data
    with tifffile.TiffFile(raw) as tif:
        ends = [tif.pages[i].asarray() for i in (0, len(tif.pages) - 1)]
    places = [(0,) * (frames.ndim - 2), (-1,) * (frames.ndim - 2)]
    return all(np.array_equal(frames[place].compute(), end) for place, end in zip(places, ends, strict=True))


def measure(case, folder, gigabytes, rounds):
    """Figures of one case."""
    angles, phases, depth, photons, share = CASES[case]
    each = angles * phases * depth
    acquisitions = max(1, math.ceil(share * gigabytes * 1e9 / (each * SIDE**2 * 2)))
    raw, copy, out = folder / "raw.tif", folder / "copy.tif", folder / "raw.ome.zarr"
    write_recording(raw, acquisitions * each, photons)
    size = raw.stat().st_size
    copies, conversions = [], []
    for _ in range(rounds):
        copies.append(copied(raw, copy))
        conversions.append(converted(raw, out, case))
    if not same(raw, out):
        raise SystemExit("the store does not hold what the recording holds")
    stored = [f.stat().st_size for f in out.rglob("*") if f.is_file()]
    block = json.loads((out / "zarr.json").read_text())["attributes"]["nstm"]
    copy_s, convert_s = min(copies), min(c["seconds"] for c in conversions)
    shutil.rmtree(out)
    raw.unlink()
    return {
        "gigabytes": size / 1e9,
        "acquisitions": acquisitions,
        "copy_mb_per_s": size / copy_s / 1e6,
        "convert_mb_per_s": size / convert_s / 1e6,
        "convert_over_copy": copy_s / convert_s,
        "copy_seconds": copies,
        "convert_seconds": [c["seconds"] for c in conversions],
        "peak_mb": max(c["peak_mb"] for c in conversions),
        "peak_mb_before": max(c["peak_mb_before"] for c in conversions),
        "compression": size / sum(stored),
        "files": len(stored),
        "files_per_acquisition": block["files_per_acquisition"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="the shortest counts")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the files are written, on a real disk")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--convert", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.convert:
        raw, out, case = chosen.convert
        convert(Path(raw), Path(out), case)
        return
    cores = sorted(os.sched_getaffinity(0))[: chosen.cores]
    os.sched_setaffinity(0, cores)
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=chosen.folder) as name:
        measured = {case: measure(case, Path(name), chosen.gigabytes, chosen.rounds) for case in CASES}
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    figures = {"cpu": model[1] if model else "", "cores": len(cores), "cases": measured}
    print(json.dumps(figures, indent=1))
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
