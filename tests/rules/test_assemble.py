import shutil

import pytest
import zarr

from nstm.io.store import open_timelapse
from tests.experiments import script


@pytest.mark.parametrize("product", ["nstm", "motion", "static"])
def test_function(experiment, params, tmp_path, product: str) -> None:
    jobs = []
    for index in range(2):  # the record of a job, with arrays again
        jobs.append(tmp_path / f"{index}.zarr")
        shutil.copytree(experiment.result(f"small/fits/{index:05d}-{index:05d}.zarr"), jobs[-1])
        group = zarr.open_group(jobs[-1])
        for name, channels in (("scene", 1), ("displacement", 2), ("static", 1)):
            group.create_array(name, shape=(3, channels, 1, 128, 128), dtype="float32")
    out = tmp_path / "out.ome.zarr"
    script("assemble").main(params("assemble"), experiment.result("small/raw.ome.zarr"), jobs, product, out)
    assert open_timelapse(out).sizes["c"] == (2 if product == "motion" else 1)
    assert open_timelapse(out).sizes["t"] == 6


def test_rule(experiment, ran) -> None:
    for product in ("nstm", "motion", "static"):
        ran(product)
        assert open_timelapse(experiment.result(f"small/timelapse/{product}.ome.zarr")).sizes["t"] == 6
