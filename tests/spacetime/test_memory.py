"""Memory of a fit: what the compiled program plans against what the process takes, and what there is."""

import contextlib
import ctypes
import gc
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.monitoring
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from nstm.settings import Reconstruction
from nstm.spacetime import memory
from nstm.spacetime.fit import fit
from nstm.spacetime.renderer import make_renderer
from tests.systems.test_sim import calibration
from tests.systems.test_sim_volume import system

SHAPE = (15, 8, 48, 48)
#: A noise that is never reached: L-BFGS finishes the volume.
FAR_BELOW = 1e-6
FEW = Reconstruction.model_validate(
    {"steps": 2, "multigrid": {"scene_levels": 3, "final_share": 0.5, "motion_levels": 2}}
)


def resident(key):
    """Bytes of this process by the kernel's account: ``VmRSS`` now, ``VmHWM`` at most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


@pytest.fixture(scope="module")
def volume():
    """Renderer of a small volume, and frames of noise."""
    known = calibration(phases=5, orders=2)
    model = system(8).forward(SHAPE[1:], np.broadcast_to(np.arange(15.0).reshape(3, 5, 1), (3, 5, 8)), known, 0.08, 8)
    return make_renderer(model, FEW), np.random.default_rng(0).random(SHAPE, dtype=np.float32)


@pytest.fixture
def compiled_anew():
    """A program that was compiled before is not read from the disk."""
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()


@pytest.mark.usefixtures("compiled_anew")
def test_the_peak_is_known_before_the_fit_which_then_compiles_nothing_more(volume):
    renderer, frames = volume
    planned = memory.peak_bytes(renderer, SHAPE, FEW)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: compiled.append(seconds) if name.endswith("backend_compile_duration") else None
    )
    fit(renderer, frames, FEW, noise_variance=FAR_BELOW)
    assert sum(compiled) < 1  # s; some operations of the set-up, but not the step, which takes several
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        pytest.skip("the peak of a process can be read on Linux only")
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # what tests before this one left in the heap goes back
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    before = resident("VmRSS")
    reset.write_text("5")
    fit(renderer, frames, FEW, noise_variance=FAR_BELOW)
    grown = resident("VmHWM") - before
    # the renderer and two copies of the frames are there before; the heap keeps freed pages and takes them again
    assert 0.6 * planned < grown < 1.2 * planned


def test_more_frames_together_take_more_memory(volume):
    renderer, _ = volume
    together = FEW.model_copy(update={"frames_at_once": 3})
    assert memory.peak_bytes(renderer, SHAPE, together) > 1.3 * memory.peak_bytes(renderer, SHAPE, FEW)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 64e9),
        ({"SLURM_MEM_PER_NODE": "16000"}, 16000 * 2**20),
        ({"SLURM_MEM_PER_CPU": "2000", "SLURM_CPUS_ON_NODE": "4"}, 8000 * 2**20),
        ({"SLURM_MEM_PER_NODE": "0"}, 64e9),
    ],
)
def test_what_there_is_is_the_least_of_machine_and_job(monkeypatch, variables, expected):
    monkeypatch.setattr(memory, "_machine_bytes", lambda: int(64e9))
    monkeypatch.setattr(memory, "_GROUP_LIMITS", ())
    for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert memory.available_bytes(Reconstruction()) == int(memory.SHARE * expected)
    assert memory.available_bytes(Reconstruction.model_validate({"memory_gb": 2})) == 2e9


@pytest.mark.parametrize(("text", "expected"), [("4000000000\n", 4e9), ("max\n", 64e9)])
def test_a_control_group_limits_what_there_is(monkeypatch, tmp_path, text, expected):
    (tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr(memory, "_machine_bytes", lambda: int(64e9))
    monkeypatch.setattr(memory, "_GROUP_LIMITS", (str(tmp_path / "memory.max"),))
    assert memory.available_bytes(Reconstruction()) == int(memory.SHARE * expected)


def test_a_second_attempt_takes_less_of_an_accelerator_only(monkeypatch):
    monkeypatch.setattr(memory, "_machine_bytes", lambda: int(64e9))
    assert memory.available_bytes(Reconstruction(), 2) == memory.available_bytes(Reconstruction())
    gpu = SimpleNamespace(memory_stats=lambda: {"bytes_limit": int(40e9)})
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [gpu])
    assert memory.available_bytes(Reconstruction(), 2) == int(memory.SHARE * 20e9)
