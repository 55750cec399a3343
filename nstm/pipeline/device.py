"""The device that a reconstruct job computes on: checked before the first fit, with what to do without it."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.acquisition import DataError

if TYPE_CHECKING:
    import jax

#: What the driver of NVIDIA says of itself, where it is loaded.
_DRIVER = Path("/proc/driver/nvidia/version")
#: JAX's plugin for each CUDA, and the oldest driver that it works with.
_PLUGINS = {"jax-cuda12-plugin": "525", "jax-cuda13-plugin": "580"}
#: Memory below which a GPU is most likely taken by somebody else, bytes.
_LITTLE = 2 * 2**30


def prepare_device(gpus: int = 0, allow_cpu: bool = False) -> str:
    """Choose and check the device, limit threads, and find the compilation cache of this model of device.

    Snakemake tells the threads of a job through ``OMP_NUM_THREADS``. Jobs side by side that each take every core are
    slower than jobs of one thread, and sums that are split between threads would depend on their number. In a SLURM job
    that was given no GPU, one that can be seen all the same belongs to somebody else.

    Args:
        gpus: GPUs that the job asked for.
        allow_cpu: whether the CPU will do where there is no GPU.

    Returns:
        The device in words.

    Raises:
        DataError: a GPU was asked for and cannot be used; says why, and what to do.
    """
    if os.environ.get("OMP_NUM_THREADS") == "1" and "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    if not gpus and "SLURM_JOB_ID" in os.environ:
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax

    device = jax.local_devices()[0]
    words = _described(device)
    if gpus and device.platform == "cpu":
        problem = f"the job asked for a GPU, but JAX found only {words}: {_why()}"
        if not allow_cpu:
            raise DataError(f"{problem}. To fit on the CPU instead, set `allow_cpu: true` in the config")
        words = f"{problem}. The config allows the CPU"
    if gpus and device.platform != "cpu":
        _enough_memory(device, words)
    folder = Path(os.environ.get("JAX_COMPILATION_CACHE_DIR", ".jax_cache"))
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute() / _model(device)))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return words


def _described(device: jax.Device) -> str:
    if device.platform == "cpu":
        return f"the CPU ({os.environ.get('OMP_NUM_THREADS', 'all')} threads)"
    limit = _memory(device).get("bytes_limit")
    size = f"{limit / 2**30:.1f} GiB for this job" if limit else "memory not known"
    return f"{device.device_kind} ({size}, driver {_driver() or 'not known'})"


def _memory(device: jax.Device) -> dict[str, Any]:
    return device.memory_stats() or {}


def _enough_memory(device: jax.Device, words: str) -> None:
    stats = _memory(device)
    free = stats.get("bytes_limit", _LITTLE) - stats.get("bytes_in_use", 0)
    if free < _LITTLE:
        raise DataError(
            f"{words} has {free / 2**30:.1f} GiB for this job, less than {_LITTLE / 2**30:.0f}: give it a larger GPU "
            "or a larger part of one, or raise XLA_PYTHON_CLIENT_MEM_FRACTION"
        )


def _driver() -> str | None:
    """Version of the NVIDIA driver; ``None``: none is loaded."""
    try:
        found = re.search(r"Kernel Module\D*([\d.]+)", _DRIVER.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return found[1] if found else "of unknown version"


def _why() -> str:
    """Why there is no GPU, as far as the node tells, and what to do."""
    driver, plugins = _driver(), [name for name in _PLUGINS if _installed(name)]
    if driver is None:
        return "no NVIDIA driver is loaded on this node: choose a partition with GPUs (slurm_partition of reconstruct)"
    if not plugins:
        return (
            f"the node has the driver {driver}, but JAX has no CUDA: install requirements-cuda12.lock (driver 525 or "
            "later) or requirements-cuda13.lock (driver 580 or later)"
        )
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return (
            "CUDA_VISIBLE_DEVICES is empty: the cluster gave the job no GPU, request one in the profile (gpu or gres)"
        )
    needed = ", ".join(f"{name} needs driver {_PLUGINS[name]} or later" for name in plugins)
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "(unset)")
    return (
        f"the node has the driver {driver} and CUDA_VISIBLE_DEVICES={given}; {needed}; the log of "
        "the job says what JAX ran into"
    )


def _installed(package: str) -> bool:
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def _model(device: jax.Device) -> str:
    """Name of the model of a device as a folder: programs compiled for one processor may not run on another."""
    kind = device.device_kind if device.platform != "cpu" else f"cpu-{_processor()}"
    return re.sub(r"[^A-Za-z0-9]+", "-", kind).strip("-").lower()


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()
