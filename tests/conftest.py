"""Shared fixtures: the real data and the simulated cases beside the project, skipped with a reason where absent."""

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# what one test compiles serves all others of a run, in this process and in those that they start
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _COMPILED = tempfile.TemporaryDirectory(prefix="nstm-tests-", ignore_cleanup_errors=True)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def _beside(name: str, variable: str) -> Path:
    path = Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if not path.is_dir():
        pytest.skip(f"{path} is absent: set {variable} to the folder with the {name}")
    return path


@pytest.fixture(scope="module", autouse=True)
def _programs_are_let_go() -> Iterator[None]:
    """Every compiled program holds memory maps, of which Linux gives a process 65530: too few for all modules."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real raw data (`NSTM_TEST_DATA`)."""
    return _beside("data", "NSTM_TEST_DATA")


@pytest.fixture(scope="session")
def shared_cases() -> Path:
    """Simulated cases with truth (`NSTM_TEST_CASES`)."""
    return _beside("cases", "NSTM_TEST_CASES")


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT
