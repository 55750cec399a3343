"""A preview takes a part with structure, and scales what it took to the whole."""

import numpy as np
import pytest
import xarray as xr
import yaml

from nstm.pipeline.experiment import Experiment
from nstm.pipeline.preview import cost_text, region_of, side_fits, spread_over
from nstm.settings import Reconstruction
from tests.experiments import SMALL_CONFIG


def test_the_region_holds_the_structure():
    frames = np.zeros((1, 3, 3, 1, 300, 200), np.float32)
    frames[..., 210:230, 20:60] = np.random.default_rng(0).random((20, 40))
    recording = xr.Dataset({"frames": (("t", "angle", "phase", "z", "y", "x"), frames)})
    rows, columns = (tuple(map(int, part.split(":"))) for part in region_of(recording).split(","))
    assert rows[1] - rows[0] == columns[1] - columns[0] == 128
    assert rows[0] <= 210
    assert rows[1] >= 230
    assert columns[0] <= 20
    assert region_of(recording.isel(y=slice(0, 100), x=slice(0, 128))) == ""
    assert region_of(recording, 250).split(",")[1] == "0:200"


@pytest.mark.parametrize(("count", "chosen"), [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (60, [0, 20, 40])])
def test_acquisitions_are_spread(count, chosen):
    first, last, step = map(int, spread_over(count).split(":"))
    assert list(range(count))[first:last:step] == chosen


def test_side_fits_are_counted():
    assert side_fits(Reconstruction(), 5) == 0
    settings = Reconstruction(static=True, held_out=[0, 9], held_out_frames=3, seeds=2)
    assert side_fits(settings, 5) == 5 + 3 * 2 + 2
    assert side_fits(Reconstruction(static=[1, 7]), 5) == 1


def test_the_cost_grows_with_pixels_acquisitions_and_jobs(tmp_path):
    (tmp_path / "samples.tsv").write_text("sample\tpath\tsystem\nrecording\tx.tif\tsim\n")
    config = yaml.safe_load(SMALL_CONFIG)
    config["reconstruction"] = {"padding_px": 0, "acquisitions_per_job": 4}
    whole = Experiment.load(config, tmp_path)
    sizes = {"t": 2, "angle": 3, "phase": 3, "z": 1, "y": 64, "x": 64}
    found = {"sizes": {**sizes, "t": 10, "y": 128, "x": 128}, "dtype": "uint16", "files": []}
    records = [{"seconds": 16.0, "compile_seconds": 6.0}, {"seconds": 10.0, "compile_seconds": 0.0}, {"seconds": None}]
    text = cost_text(records, sizes, found, whole)
    assert "2 acquisition(s) of 64 x 64 px, 10.0 s each after 6.0 s of compilation" in text
    assert "10 acquisition(s) of 128 x 128 px: about 7.0 min" in text  # 4 x 10 x 10 s + 3 x 6 s = 418 s
    assert "3 job(s) of at most 2.8 min" in text  # 4 x 4 x 10 s + 6 s
    assert "not known" in cost_text(records[2:], sizes, found, whole)
