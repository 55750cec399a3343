"""A running SLURM, and experiments that are run on it by the literal `snakemake --profile slurm`."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.experiments import FEW_STEPS, ROOT, SMALL_MOVIE, Workdir, recorded_experiment, small_frames
from tests.slurm.cluster import Cluster


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
    reconstruction = f"{FEW_STEPS}, acquisitions_per_job: {per_job}"
    # the GPUs of the tests' node are no GPUs
    work = recorded_experiment(folder, small_frames(acquisitions), reconstruction, "allow_cpu: true\n" + SMALL_MOVIE)
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
