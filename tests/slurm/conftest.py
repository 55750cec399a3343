"""A running SLURM, and experiments that are run on it by the literal `snakemake --profile slurm`."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

from nstm.simulate.demo import CASES
from tests.experiments import ROOT, Workdir
from tests.slurm.cluster import Cluster

CONFIG = """\
samples: samples.tsv
systems:
  sim:
    kind: sim
    optics: {{na: 1.4, index: 1.518, emission_wavelength_um: 0.515, excitation_wavelength_um: 0.488, pixel_um: 0.065}}
    camera: {{offset: 100}}
    frames: {{order: t angle phase, exposure_s: 0.02}}
reconstruction: {{acquisitions_per_job: {per_job}, steps: 20, starts: 1, padding_px: 4}}
movie: {{height_px: 64}}
allow_cpu: true # the GPUs of the tests' node are no GPUs
"""


@pytest.fixture(scope="module")
def cluster():
    # munge's socket path is limited to 107 characters: not pytest's long folder
    folder = Path(tempfile.mkdtemp(prefix="nstm-slurm-"))
    try:
        with Cluster(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def experiment(folder: Path, acquisitions: int, per_job: int) -> Workdir:
    """A working directory with one sample of so many small acquisitions, no two of them alike."""
    case = CASES["er_small"]
    frames = case.make(case).frames
    noise = np.random.default_rng(0).poisson(5.0, (acquisitions, *frames.shape[1:])) - 5
    planes = np.resize(frames, noise.shape).astype(np.int32) + noise
    rows = [{"sample": "cell", "path": "../cell.tif", "system": "sim"}]
    work = Workdir(folder, CONFIG.format(per_job=per_job), rows)
    tifffile.imwrite(
        folder / "cell.tif",
        planes.clip(0).astype(np.uint16).reshape(-1, *planes.shape[-2:]),
        photometric="minisblack",
    )
    # the links of the repository: the workflow is found in the working directory, the profile by its name
    for name in ("workflow", "profiles", "environment.yml"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "slurm").symlink_to("profiles/slurm")
    return work


def submit(cluster: Cluster, work: Workdir, *arguments: str) -> subprocess.Popen[str]:
    """Start `snakemake --profile slurm` in the working directory; its output goes to ``snakemake.log`` beside it."""
    path = f"{cluster.folder}/bin:{work.env['PATH']}:/usr/sbin"
    with open(work.folder.parent / "snakemake.log", "a") as log:
        return subprocess.Popen(
            ["snakemake", "--profile", "slurm", *arguments],
            cwd=work.folder,
            env={**cluster.env, "PATH": path, "OMP_NUM_THREADS": "1", "PWD": os.fspath(work.folder)},
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
