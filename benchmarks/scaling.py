"""What whole experiments cost: seconds, CPU seconds, memory and files of 1, 10 and 100 acquisitions of 128 x 128.

python benchmarks/scaling.py [--acquisitions 1 10 100] [--steps 400] [--cores 2] [--folder .] [--json OUT]

Every size is a simulated two-beam recording (3 x 3 frames) that goes through all rules of the workflow, from an empty
compilation cache. CPU seconds count every process, Snakemake included. The fit is what the reconstruct jobs spend
within the fits, without compilation: fits that are the first of their job compile, so the others of all sizes give the
mean of one fit. All the rest is overhead. Seconds depend on what else the machine does, CPU seconds much less.

python benchmarks/scaling.py --dry-runs     dry runs of 1000 acquisitions after inspection and after the gates; stages
only leave traces (tests/workflow/stub)
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import zarr

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the tests make the experiments

from tests.experiments import recorded_experiment, stub_experiment  # noqa: E402  # found by the line above

#: Acquisitions that are simulated; longer recordings repeat them.
SIMULATED = 10


def simulated():
    """Counts ``(acquisition, frame, y, x)`` of a moving network."""
    from nstm.simulate.demo import TRAVEL_UM, living
    from nstm.simulate.sim import SimMicroscope, simulate_sim, structure_area
    from nstm.simulate.structures import er_network

    microscope = SimMicroscope()
    points = er_network(7, structure_area(microscope, TRAVEL_UM))
    motion = living(microscope, points, SIMULATED, 4.0, 7)
    frames = simulate_sim(points, motion, microscope, SIMULATED, 7).frames
    return frames.reshape(SIMULATED, -1, *microscope.shape)


def children():
    """CPU seconds of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def workflow(folder, *arguments, **environment):
    """Run Snakemake in a folder; its seconds and CPU seconds."""
    log = folder / "snakemake.log"
    begin, cpu = time.perf_counter(), children()
    with log.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow" / "Snakefile"), *arguments],
            cwd=folder,
            env={**os.environ, **environment},
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        raise SystemExit(log.read_text()[-4000:])
    return time.perf_counter() - begin, children() - cpu


def measure(frames, count, folder, cores, steps, per_job):
    """Figures of one experiment, and the CPU seconds of every fit that compiled nothing."""
    frames = np.resize(frames, (count, *frames.shape[1:]))
    recorded_experiment(folder, frames, f"steps: {steps}, acquisitions_per_job: {per_job}")
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    seconds, cpu = workflow(folder, "--cores", str(cores), **cache)
    sample = folder / "results" / "cell"
    fits = [zarr.open_group(store, mode="r").attrs["nstm"]["acquisitions"] for store in (sample / "fits").iterdir()]
    rules = {}
    for table in [*sample.glob("benchmarks/*.tsv"), *folder.glob("results/benchmarks/*.tsv")]:
        keys, values = (line.split("\t") for line in table.read_text().splitlines()[:2])
        row = dict(zip(keys, values, strict=True))
        rule = rules.setdefault(table.stem.split("_")[0], {"jobs": 0, "cpu_seconds": 0.0, "peak_mb": 0.0})
        rule["jobs"] += 1
        rule["cpu_seconds"] += _number(row["cpu_time"])
        rule["peak_mb"] = max(rule["peak_mb"], _number(row["max_rss"]))
    found = {
        "acquisitions": count,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "peak_mb_of_a_job": max(rule["peak_mb"] for rule in rules.values()),
        "files": sum(path.is_file() for path in (folder / "results").rglob("*")),
        "rules": rules,
        "failed": [fit["reasons"] for job in fits for fit in job if fit["status"] == "fail"],
    }
    warm = [fit["cpu_seconds"] for job in fits for fit in job[1:] if "cpu_seconds" in fit]
    return found, warm


def _number(text):
    return float(text) if re.fullmatch(r"[\d.]+", text) else 0.0


def dry_runs():
    """Seconds and CPU seconds of dry runs of 1000 acquisitions."""
    found = {}
    for samples, each, per_job in ((1, 1000, 8), (1, 1000, 1), (10, 100, 8), (100, 10, 8)):
        with tempfile.TemporaryDirectory() as name:
            rows = [{"sample": f"s{i}", "path": f"../data/s{i}.txt", "system": "stub"} for i in range(samples)]
            work = stub_experiment(Path(name), {f"s{i}.txt": f"t={each}\n" for i in range(samples)}, rows)
            config = work.folder / "config" / "config.yaml"
            text = config.read_text().replace("acquisitions_per_job: 3", f"acquisitions_per_job: {per_job}")
            config.write_text(text)
            environment = {"PYTHONPATH": f"{work.env['PYTHONPATH']}:{os.environ.get('PYTHONPATH', '')}"}
            figures = {}
            for gate in ("inspect", "illumination"):
                wanted = [f"results/s{i}/{gate}.json" for i in range(samples)]
                workflow(work.folder, "--cores", "2", *wanted, **environment)
                seconds, cpu = workflow(work.folder, "--dry-run", "--quiet", **environment)
                figures[f"after {gate}"] = {"seconds": seconds, "cpu_seconds": cpu}
            found[f"{samples} x {each}, {per_job} per job"] = figures
            print(list(found.items())[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--acquisitions", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--per-job", type=int, default=8)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the experiments are written")
    parser.add_argument("--dry-runs", action="store_true")
    parser.add_argument("--json", type=Path, help="also add the figures to this file")
    chosen = parser.parse_args()
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    figures = {"cpu": model[1] if model else "", "cores": chosen.cores, "load_before": os.getloadavg()[0]}
    if chosen.dry_runs:
        figures = {"dry_runs": dry_runs()}
    else:
        frames, warm, sizes = simulated(), [], []
        with tempfile.TemporaryDirectory(prefix=".bench-", dir=chosen.folder) as name:
            for count in chosen.acquisitions:
                folder = Path(name).resolve() / str(count)
                size, more = measure(frames, count, folder, chosen.cores, chosen.steps, chosen.per_job)
                sizes.append(size)
                warm += more
                print(json.dumps(size), flush=True)
        one = float(np.mean(warm)) if warm else None
        for size in sizes:
            size["fit_cpu_seconds"] = None if one is None else one * size["acquisitions"]
            size["overhead_of_fit"] = None if one is None else size["cpu_seconds"] / size["fit_cpu_seconds"] - 1
        figures |= {"steps": chosen.steps, "acquisitions_per_job": chosen.per_job, "fit_cpu_seconds_of_one": one}
        figures |= {"fits_counted": len(warm), "sizes": sizes}
    print(json.dumps(figures, indent=1))
    if chosen.json:
        before = json.loads(chosen.json.read_text()) if chosen.json.exists() else {}
        chosen.json.write_text(json.dumps(before | figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
