"""The literal `snakemake --profile slurm` on a real SLURM."""

import json
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster, missing
from tests.slurm.conftest import experiment, submit

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(missing() is not None, reason=f"SLURM: {missing()}")]


def test_eight_acquisitions_complete_in_two_jobs_and_only_these_ask_for_a_gpu(cluster: Cluster, tmp_path: Path) -> None:
    work = experiment(tmp_path / "work", acquisitions=8, per_job=4)
    run = submit(cluster, work)
    assert run.wait(1500) == 0, (tmp_path / "snakemake.log").read_text()[-5000:]
    assert work.result("report.html").is_file()
    assert json.loads(work.result("cell/metrics.json").read_text())["sample"] == "cell"
    assert not work.result("cell/jobs/00000-00003.zarr").exists()
    jobs = cluster.jobs()
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
    rules = {job["JobId"]: job["Comment"] for job in jobs}
    asked = [rules[job["JobId"]] for job in jobs if "gpu" in f"{job.get('TresPerJob', '')}{job.get('TRES', '')}"]
    assert len(asked) == 2, rules
    assert all("reconstruct" in rule for rule in asked)
    log = work.result("cell/logs/reconstruct_00000-00003.log").read_text()
    assert "the job asked for a GPU, but JAX found only the CPU" in log
