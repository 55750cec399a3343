import tifffile

from nstm.io.store import open_timelapse
from tests.experiments import script


def test_function(tmp_path) -> None:
    raw, truth = tmp_path / "er_small.ome.tif", tmp_path / "truth.ome.zarr"
    script("simulate").main("er_small", raw, truth)
    assert tifffile.imread(raw).shape[-2:] == (64, 64)
    assert open_timelapse(truth).sizes["y"] >= 64


def test_rule(experiment) -> None:
    assert (experiment.folder / "simulated" / "er_small.ome.tif").is_file()
    assert (experiment.folder / "simulated" / "logs" / "er_small.log").is_file()
