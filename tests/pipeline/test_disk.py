"""Disks that are full or cannot be written, and inputs that vanish: clear errors, and a rerun completes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from nstm.io.jsonfile import write_json
from tests.experiments import ROOT
from tests.pipeline.test_progress import job as stopped_job

JOB = """
import json, sys
from pathlib import Path
from nstm.pipeline.logging import rule_log
folder, disk, out = map(Path, sys.argv[1:])
with rule_log(disk / "job.log", "reconstruct"):
    from nstm.pipeline.reconstruct import run_reconstruct
    params = json.loads((folder / "params.json").read_text())
    run_reconstruct(params, folder / "raw", folder / "illumination.json", 0, 0, out / "job.zarr", out / ".checkpoints")
"""
job = stopped_job  # the fixture: frames, calibration and settings of a job of two acquisitions


@pytest.fixture
def disk(tmp_path):
    """A file system of one megabyte that can be filled and mounted again with other rights."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system cannot be mounted here (needs root)")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def inputs(job, tmp_path_factory):
    """Inputs of a job of few steps, as :data:`JOB` reads them."""
    import json

    folder = tmp_path_factory.mktemp("inputs")
    params = json.loads((job / "params.json").read_text())
    params["reconstruction"] |= {"steps": 20}
    write_json(folder / "params.json", params)
    shutil.copy(job / "illumination.json", folder)
    shutil.copytree(job / "raw.ome.zarr", folder / "raw")
    return folder


def reconstruct(inputs: Path, disk: Path, out: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", JOB, str(inputs), str(disk), str(out)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_a_full_and_a_read_only_disk_are_named_and_a_rerun_completes(inputs, disk, tmp_path) -> None:
    assert reconstruct(inputs, tmp_path, tmp_path / "elsewhere").returncode == 0
    whole = zarr.open_group(tmp_path / "elsewhere" / "job.zarr", mode="r")

    (disk / "ballast").write_bytes(bytes(900 * 1024))
    failed = reconstruct(inputs, disk, disk)
    assert failed.returncode == 1
    assert "No space left on device" in failed.stderr
    assert "the disk or the quota is full: free space, then run again" in failed.stderr
    assert not (disk / "job.zarr").exists()

    (disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    failed = reconstruct(inputs, tmp_path, disk)
    assert "Read-only file system" in failed.stderr
    assert "correct its rights or its mount" in failed.stderr

    subprocess.run(["mount", "-o", "remount,rw,size=40m", str(disk)], check=True)
    done = reconstruct(inputs, disk, disk)
    assert done.returncode == 0, done.stderr
    for name in ("scene", "displacement"):
        found = zarr.open_group(disk / "job.zarr", mode="r")[name][:]
        np.testing.assert_array_equal(found, whole[name][:])
    assert sorted(p.name for p in disk.iterdir()) == ["job.log", "job.zarr"]


def test_an_input_that_vanished_is_named(inputs, tmp_path) -> None:
    (inputs / "illumination.json").rename(tmp_path / "aside")
    try:
        failed = reconstruct(inputs, tmp_path, tmp_path)
    finally:
        (tmp_path / "aside").rename(inputs / "illumination.json")
    assert failed.returncode == 1
    assert "illumination.json does not exist: run the step that makes it first" in failed.stderr
