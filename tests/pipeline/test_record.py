"""What a job writes down of its fits: the spread of repeated ones, and frames that were held out."""

from types import SimpleNamespace

import numpy as np
import pytest
import zarr
from scipy.ndimage import gaussian_filter

from nstm.acquisition import make_acquisitions
from nstm.io.jsonfile import write_json
from nstm.io.store import write_raw
from nstm.pipeline.reconstruct import run_reconstruct
from nstm.pipeline.record import _within_field, spread_of
from nstm.spacetime.residual import inner, lost_regions
from tests.spacetime.test_reconstruct import recorded


def test_the_spread_of_repeated_fits_is_their_standard_deviation():
    rng = np.random.default_rng(0)
    scenes = 12 * np.sign(np.arange(60) - 29.5) + rng.normal(scale=6.0, size=(8, 1, 60, 60))
    motions = rng.normal(scale=[[[[0.3]]], [[[0.4]]]], size=(8, 2, 1, 60, 60))
    motions[3, :, :, :30] = np.nan  # one fit does not know the motion there
    found = spread_of(scenes, motions)
    assert found["fits"] == 8
    # 25 000 degrees of freedom: 0.5 %; an eighth of the variance stays in the mean
    assert found["scene_share"] == pytest.approx(6 / np.sqrt(12**2 + 6**2 / 8), rel=0.03)
    assert found["motion_px"] == pytest.approx(0.5, rel=0.03)
    assert spread_of(scenes, motions * np.nan)["motion_px"] is None


def test_held_out_frames_and_repetitions_of_a_moving_sample(tmp_path):
    system, frames, times, known = recorded((0, 1))
    raw = make_acquisitions(frames[None], times[None], ("angle", "phase"), pixel_um=0.065, time_origin="read")
    write_raw(tmp_path / "raw.ome.zarr", raw, {})
    write_json(tmp_path / "illumination.json", {"acquisitions": [known]})
    fits = {
        "steps": 120,
        "starts": 1,
        "padding_px": 0,
        "static": True,
        "held_out": [0],
        "held_out_frames": 1,
        "seeds": 2,
    }
    params = {
        "numerics": 1,
        "sample": {"sample": "drifting", "path": "raw.tif", "system": "sim"},
        "system": {**system.settings.model_dump(mode="json"), "frames": {"exposure_s": 0.01}},
        "reconstruction": fits,
    }
    run_reconstruct(params, tmp_path / "raw.ome.zarr", tmp_path / "illumination.json", 0, 0, tmp_path / "job.zarr")
    record = zarr.open_group(tmp_path / "job.zarr", mode="r").attrs["nstm"]["acquisitions"][0]
    assert (record["status"], record["regions"], record["blurred_frames"]) == ("pass", [], [])
    (held_out,) = record["held_out"]
    assert held_out["error"] < 0.5 * held_out["static_error"]
    assert max(record["residual_noise_units"]) < 1 < 2 < max(record["static_residual_noise_units"])
    assert record["seeds"]["fits"] == 2
    assert 0 < record["seeds"]["motion_px"] < 0.2
    assert 0.01 < record["seeds"]["scene_share"] < 0.5
    motion = record["motion_px"]
    # half a camera pixel in each of the 20 ms between frames
    assert motion["per_exposure_95"] == pytest.approx(0.25, abs=0.06)
    assert motion["total_rms"] == pytest.approx(4, rel=0.1)


def test_places_are_those_of_the_field_where_a_margin_is_not_compared():
    residual = np.random.default_rng(0).normal(size=(9, 1, 64, 64))
    spot = np.zeros((64, 64))
    spot[32, 42] = 270
    residual[5:7] += gaussian_filter(spot, 2.0)  # band-limited, as what a microscope shows
    residual[2, :, :9] += gaussian_filter(50 * np.eye(64), 2.0)[:9]  # within the margin, which was not fitted

    def regions(margin):
        fit = SimpleNamespace(settings=SimpleNamespace(margin_px=margin), pixel_um=0.065)
        return [_within_field(r, fit) for r in lost_regions(inner(residual, margin), 0.065, 5.4)]

    (region,) = regions(12)
    np.testing.assert_allclose(region["centre_um"], [32.5 * 0.065, 42.5 * 0.065], atol=0.13)
    assert len(regions(0)) > 1
