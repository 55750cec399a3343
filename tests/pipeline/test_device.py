"""The device check: what it says of nodes that this machine is not."""

import os
from types import SimpleNamespace

import jax
import pytest

from nstm.acquisition import DataError
from nstm.pipeline import device


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """The settings of this process stay as they are."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setattr(os, "environ", dict(os.environ))
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def node(monkeypatch, tmp_path, driver=None, plugins=()):
    """A node with this driver and these plugins of JAX."""
    file = tmp_path / "version"
    if driver:
        file.write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Fri\nGCC version: 12\n")
    monkeypatch.setattr(device, "_DRIVER", file)
    monkeypatch.setattr(device, "_installed", lambda name: name in plugins)


@pytest.mark.parametrize(
    ("found", "visible", "message"),
    [
        ({}, "0", "no NVIDIA driver is loaded on this node: choose a partition"),
        ({"driver": "550.54.15"}, "0", r"driver 550\.54\.15, but JAX has no CUDA: install requirements-cuda12\.lock"),
        ({"driver": "550.54.15", "plugins": ["jax-cuda12-plugin"]}, "", "the cluster gave the job no GPU"),
        ({"driver": "535.1", "plugins": ["jax-cuda13-plugin"]}, "0", r"driver 535\.1 .*needs driver 580 or later"),
    ],
)
def test_no_gpu_where_one_was_asked_for_says_why_and_what_to_do(monkeypatch, tmp_path, found, visible, message):
    node(monkeypatch, tmp_path, **found)
    monkeypatch.setitem(os.environ, "CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(DataError, match=f"(?s)asked for a GPU.*{message}.*allow_cpu: true"):
        device.prepare_device(gpus=1)
    assert "The config allows the CPU" in device.prepare_device(gpus=1, allow_cpu=True)


def test_the_cache_is_that_of_the_model_and_a_job_without_a_gpu_takes_none(monkeypatch, tmp_path):
    monkeypatch.setitem(os.environ, "JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(os.environ, "SLURM_JOB_ID", "7")
    os.environ.pop("JAX_PLATFORMS", None)
    assert device.prepare_device().startswith("the CPU (")
    assert os.environ["JAX_PLATFORMS"] == "cpu"
    folder = jax.config.jax_compilation_cache_dir
    assert folder.startswith(f"{tmp_path}/cpu-")
    assert " " not in folder


def test_a_gpu_is_described_and_one_that_is_taken_is_refused(monkeypatch, tmp_path):
    def of(limit, used):
        stats = {"bytes_limit": limit * 2**30, "bytes_in_use": used * 2**30}
        return SimpleNamespace(platform="gpu", device_kind="NVIDIA A100-SXM4-40GB", memory_stats=lambda: stats)

    node(monkeypatch, tmp_path, driver="550.54.15")
    monkeypatch.setitem(os.environ, "JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(jax, "local_devices", lambda: [of(30, 0)])
    assert device.prepare_device(1) == "NVIDIA A100-SXM4-40GB (30.0 GiB for this job, driver 550.54.15)"
    assert jax.config.jax_compilation_cache_dir == f"{tmp_path}/nvidia-a100-sxm4-40gb"
    monkeypatch.setattr(jax, "local_devices", lambda: [of(30, 29)])
    with pytest.raises(DataError, match=r"1\.0 GiB for this job, less than 2"):
        device.prepare_device(1)
