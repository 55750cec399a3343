import numpy as np
import pytest

from nstm.io.store import open_timelapse
from tests.experiments import script


@pytest.mark.parametrize("product", ["widefield", "conventional"])
def test_function(experiment, params, tmp_path, product: str) -> None:
    raw, illumination = experiment.result("small/raw.ome.zarr"), experiment.result("small/illumination.json")
    script("conventional").main(params("conventional"), raw, illumination, product, tmp_path / "out.ome.zarr")
    assert open_timelapse(tmp_path / "out.ome.zarr").sizes["t"] == 6


def test_rule(experiment, ran) -> None:
    ran("conventional")
    ran("widefield")
    stores = [open_timelapse(experiment.result(f"small/timelapse/{n}.ome.zarr")) for n in ("conventional", "nstm")]
    assert np.array_equal(stores[0]["t"], stores[1]["t"])
    ends = stores[0].isel(t=[0, -1]).values
    assert np.isnan(ends).all(), "a window that leaves the recording has no result"
