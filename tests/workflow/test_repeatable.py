"""Two runs of one config: the same arrays, bit for bit, on one CPU."""

import json

import numpy as np

from tests.experiments import FEW_STEPS, arrays, recorded_experiment, small_frames

PRODUCTS = ("nstm", "motion", "conventional", "widefield")


def test_two_runs_of_one_config_give_the_same_arrays(tmp_path) -> None:
    found, light = [], []
    for name in ("one", "other"):
        work = recorded_experiment(
            tmp_path / name,
            small_frames(2),
            f"{FEW_STEPS}, acquisitions_per_job: 2",
        )
        work.env["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / name / "compiled")  # each compiles its own
        stores = [f"results/cell/timelapse/{product}.ome.zarr" for product in PRODUCTS]
        work.snakemake("--set-threads", "reconstruct=1", "--notemp", *stores)
        found.append(arrays(work))
        light.append(json.loads(work.result("cell/illumination.json").read_text())["acquisitions"])
    one, other = found
    assert {path.split("/")[2] for path in one} == {"fits", "jobs", "raw.ome.zarr", "timelapse"}
    assert set(one) == set(other)
    for path, array in one.items():
        np.testing.assert_array_equal(array, other[path], err_msg=path)
    assert light[0] == light[1]
    scenes = [array for path, array in one.items() if path.endswith("nstm.ome.zarr/0")]
    assert np.isfinite(scenes[0]).all()
    assert np.ptp(scenes[0]) > 0
