"""Shared fixtures: the real data and the simulated cases beside the project, skipped with a reason where absent."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _beside(name: str, variable: str) -> Path:
    path = Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if not path.is_dir():
        pytest.skip(f"{path} is absent: set {variable} to the folder with the {name}")
    return path


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
