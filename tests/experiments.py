"""Small experiments for the tests of the workflow and for benchmarks/scaling.py: stub stages, and the real ones."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SNAKEFILE = ROOT / "workflow" / "Snakefile"
STUB = ROOT / "tests" / "workflow" / "stub"

STUB_CONFIG = """\
samples: samples.tsv
systems:
  stub:
    kind: system.py
    optics: {na: 1.4, emission_wavelength_um: 0.515}
reconstruction: {acquisitions_per_job: 3, static: [2]}
"""

SMALL_CONFIG = """\
samples: samples.tsv
systems:
  sim:
    kind: sim
    optics: {na: 1.4, index: 1.518, emission_wavelength_um: 0.515, excitation_wavelength_um: 0.488}
    camera: {offset: 100}
    frames: {order: t angle phase}
  no_size: # for files that do not say their pixel size
    kind: sim
    optics: {na: 1.4, emission_wavelength_um: 0.515, excitation_wavelength_um: 0.488, pixel_um: 0.065}
    frames: {order: t angle phase}
reconstruction:
  acquisitions_per_job: 1
  static: [1]
  held_out: [1]
  held_out_frames: 1
  steps: 20
  starts: 1
  sliding: false
  padding_px: 4
movie: {height_px: 64}
"""


#: For planes of two-beam SIM in a file without labels; ``{reconstruction}`` and what follows it are filled in.
RECORDED_CONFIG = """\
samples: samples.tsv
systems:
  sim:
    kind: sim
    optics: {{na: 1.4, index: 1.518, emission_wavelength_um: 0.515, excitation_wavelength_um: 0.488, pixel_um: 0.065}}
    camera: {{offset: 100}}
    frames: {{order: t angle phase, exposure_s: 0.02}}
reconstruction: {{{reconstruction}}}
{rest}"""
#: A fit that takes a second.
FEW_STEPS = "steps: 20, starts: 1, sliding: false, padding_px: 4"
SMALL_MOVIE = "movie: {height_px: 64}\n"


class Workdir:
    """A working directory of Snakemake with an experiment in ``config``."""

    def __init__(
        self, folder: Path, config: str, rows: list[dict[str, str]], env: dict[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.env = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        self.env["PYTHONPATH"] = os.pathsep.join(filter(None, ((env or {}).get("PYTHONPATH"), str(ROOT))))
        self.env["PATH"] = f"{Path(sys.executable).parent}:{self.env['PATH']}"
        (folder / "config").mkdir(parents=True, exist_ok=True)
        (folder / "config" / "config.yaml").write_text(config)
        self.sheet(rows)

    def sheet(self, rows: list[dict[str, str]]) -> None:
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = ["\t".join(columns), *("\t".join(row.get(c, "") for c in columns) for row in rows)]
        (self.folder / "config" / "samples.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), *args]

    def snakemake(self, *args: str, check: bool = True, cwd: Path | None = None, timeout: float = 900) -> str:
        """Run Snakemake; its output."""
        done = subprocess.run(
            self.command("--cores", "2", *args),
            cwd=cwd or self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        if check:
            assert done.returncode == 0, done.stdout[-4000:]
        else:
            assert done.returncode != 0, done.stdout[-4000:]
        return done.stdout

    def planned(self, *args: str) -> dict[str, int]:
        """Number of jobs of each rule that a dry run plans."""
        text = self.snakemake("--dry-run", *args)
        if "Nothing to be done" in text:
            return {}
        table = text.split("Job stats:")[1].split("total")[0]
        return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+)\s+(\d+)$", table, re.MULTILINE) if m[1] != "all"}

    def result(self, name: str) -> Path:
        return self.folder / "results" / name


def stub_experiment(folder: Path, raw: dict[str, str], rows: list[dict[str, str]]) -> Workdir:
    """An experiment whose stages only leave traces; ``raw``: content of the files by name."""
    workdir = Workdir(folder, STUB_CONFIG, rows, {"PYTHONPATH": str(STUB)})
    shutil.copy(STUB / "system.py", folder / "config" / "system.py")
    (folder / "data").mkdir(exist_ok=True)
    for name, content in raw.items():
        (folder / "data" / name).write_text(content)
    return workdir


def recorded_experiment(folder: Path, frames: np.ndarray, reconstruction: str, rest: str = "") -> Workdir:
    """An experiment with the real stages and one sample, ``cell``: acquisitions ``frames (t, frame, y, x)``."""
    import tifffile

    rows = [{"sample": "cell", "path": "../cell.tif", "system": "sim"}]
    workdir = Workdir(folder, RECORDED_CONFIG.format(reconstruction=reconstruction, rest=rest), rows)
    tifffile.imwrite(folder / "cell.tif", frames.reshape(-1, *frames.shape[-2:]), photometric="minisblack")
    return workdir


def small_frames(acquisitions: int) -> np.ndarray:
    """So many small acquisitions ``(t, 9, 64, 64)``, no two of them alike."""
    from nstm.simulate.demo import CASES

    case = CASES["er_small"]
    frames = case.make(case).frames
    noise = np.random.default_rng(0).poisson(5.0, (acquisitions, *frames.shape[1:])) - 5
    counts = (np.resize(frames, noise.shape).astype(np.int32) + noise).clip(0).astype(np.uint16)
    return counts.reshape(acquisitions, -1, *counts.shape[-2:])


def arrays(workdir: Workdir) -> dict[str, np.ndarray]:
    """Every array of every store of the results by its path."""
    import zarr

    found = {}
    for metadata in sorted(workdir.folder.glob("results/**/zarr.json")):
        node = zarr.open(metadata.parent, mode="r")
        if isinstance(node, zarr.Array):
            found[str(metadata.parent.relative_to(workdir.folder))] = node[:]
    return found


def script(rule: str) -> ModuleType:
    """The script of a rule as a module."""
    path = ROOT / "workflow" / "scripts" / f"{'inspect_files' if rule == 'inspect' else rule}.py"
    spec = importlib.util.spec_from_file_location(f"script_{rule}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
