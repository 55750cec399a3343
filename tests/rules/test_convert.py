from nstm.io.store import open_raw
from tests.experiments import script


def test_function(experiment, params, tmp_path) -> None:
    script("convert").main(params("convert"), experiment.result("small/inspect.json"), tmp_path / "raw.ome.zarr")
    raw = open_raw(tmp_path / "raw.ome.zarr")
    assert dict(raw["frames"].sizes) == {"t": 2, "angle": 3, "phase": 3, "z": 1, "y": 64, "x": 64}


def test_rule(experiment, ran) -> None:
    ran("convert")
    assert open_raw(experiment.result("small/raw.ome.zarr")).sizes["t"] == 2
