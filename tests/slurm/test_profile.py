"""The literal `snakemake --profile slurm` on a real SLURM."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.experiments import ROOT, SMALL_CONFIG, Workdir
from tests.slurm.cluster import Cluster, missing

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(missing() is not None, reason=f"SLURM: {missing()}")]


@pytest.fixture(scope="module")
def cluster():
    # munge's socket path is limited to 107 characters: not pytest's long folder
    folder = Path(tempfile.mkdtemp(prefix="nstm-slurm-"))
    try:
        with Cluster(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_small_experiment_completes_and_only_the_fit_asks_for_a_gpu(cluster: Cluster, tmp_path: Path) -> None:
    row = {"sample": "small", "path": "../simulated/er_small.ome.tif", "system": "sim"}
    config = SMALL_CONFIG.replace("static: [1], held_out: [1]", "static: false, held_out: []")
    workdir = Workdir(tmp_path, config.replace("acquisitions_per_job: 1", "acquisitions_per_job: 2"), [row])
    # the links of the repository: the workflow is found in the working directory, the profile by its name
    for name in ("workflow", "profiles", "environment.yml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "slurm").symlink_to("profiles/slurm")
    done = subprocess.run(
        ["snakemake", "--profile", "slurm"],
        cwd=tmp_path,
        env={**cluster.env, "PATH": f"{cluster.folder}/bin:{workdir.env['PATH']}:/usr/sbin", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1500,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert workdir.result("report.html").is_file()
    assert json.loads(workdir.result("small/metrics.json").read_text())["sample"] == "small"
    assert not os.path.exists(workdir.result("small/jobs/00000-00001.zarr"))
    jobs = cluster.jobs()
    assert len(jobs) >= 11
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    rules = {job["JobId"]: job["Comment"] for job in jobs}
    asked = [rules[job["JobId"]] for job in jobs if "gpu" in f"{job.get('TresPerJob', '')}{job.get('TRES', '')}"]
    assert len(asked) == 1, rules
    assert "reconstruct" in asked[0]
