"""A finished experiment of stub stages; tests ask what a change would run again."""

import pytest

from tests.experiments import Workdir, stub_experiment

HOSTILE = "dim one's $(touch pwned) `x` {y} <z> ü.txt"


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workdir:
    """Two good samples (one simulated), one that the illumination gate stops, one whose file is not there."""
    workdir = stub_experiment(
        tmp_path_factory.mktemp("stub"),
        {"good.txt": "t=4\n", HOSTILE: "t=2\nillumination=fail\n"},
        [
            {"sample": "good", "path": "../data/good.txt", "system": "stub"},
            {
                "sample": "sim",
                "path": "../simulated/er_small.ome.tif",
                "system": "stub",
                "truth": "../simulated/er_small_truth.ome.zarr",
            },
            {"sample": "dim", "path": f"../data/{HOSTILE}", "system": "stub", "truth": "good"},
            {"sample": "gone", "path": "../data/gone.txt", "system": "stub", "truth": "dim"},
        ],
    )
    workdir.snakemake()
    return workdir
