"""Jobs: batching changes cost, not results; what failed is NaN and told."""

import json

import numpy as np
import pytest
import zarr

from nstm.acquisition import make_acquisitions
from nstm.io.store import open_timelapse, write_raw
from nstm.pipeline.assemble import run_assemble
from nstm.pipeline.conventional import run_conventional
from nstm.pipeline.illumination import run_illumination
from nstm.pipeline.quality import run_quality
from nstm.pipeline.reconstruct import rotating, run_reconstruct
from nstm.simulate.motion import drift
from nstm.simulate.sim import SimMicroscope, simulate_sim, structure_area
from nstm.simulate.structures import er_network

SPEED_PX_S = 40.0


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Three acquisitions of a network that drifts along +x, the last one dead; folder, settings, microscope."""
    folder = tmp_path_factory.mktemp("sample")
    microscope = SimMicroscope(shape=(96, 96), photons=600.0)
    points = er_network(3, structure_area(microscope, 0.5))
    recording = simulate_sim(points, drift((0.0, SPEED_PX_S * microscope.pixel_um)), microscope, 3, 1)
    frames = recording.frames[:, :, :, None].copy()
    frames[2] = 100
    raw = make_acquisitions(
        frames, recording.times[..., None], ("angle", "phase"), pixel_um=microscope.pixel_um, time_origin="read"
    )
    write_raw(folder / "raw.ome.zarr", raw, {})
    params = {
        "numerics": 1,
        "sample": {"sample": "drifting", "path": "raw.tif", "system": "sim"},
        "system": {
            "kind": "sim",
            "optics": {"na": 1.4, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488},
            "camera": {"offset": 100},
        },
        "conventional": {},
        "reconstruction": {"steps": 120, "starts": 1, "padding_px": 4, "output_times": "orientations"},
    }
    run_quality(params, folder / "raw.ome.zarr", folder / "quality.json")
    run_illumination(params, folder / "raw.ome.zarr", folder / "quality.json", folder / "illumination.json")
    return folder, params, microscope


@pytest.fixture(scope="module")
def jobs(sample):
    """The three acquisitions as one job, and as a job each."""
    folder, params, _ = sample
    for first, last in ((0, 2), (0, 0), (1, 1), (2, 2)):
        store = folder / f"{first}-{last}.zarr"
        run_reconstruct(params, folder / "raw.ome.zarr", folder / "illumination.json", first, last, store)
    return folder


def test_arrays_do_not_depend_on_how_acquisitions_are_grouped(jobs):
    together = zarr.open_group(jobs / "0-2.zarr", mode="r")
    for name in ("scene", "displacement"):
        apart = np.concatenate([zarr.open_group(jobs / f"{i}-{i}.zarr", mode="r")[name][:] for i in range(3)])
        np.testing.assert_array_equal(together[name][:], apart)


def test_a_sample_that_drifts_to_plus_x_has_plus_x_displacement_in_um(jobs, sample):
    folder, params, microscope = sample
    run_assemble(params, folder / "raw.ome.zarr", [folder / "0-2.zarr"], "motion", folder / "motion.ome.zarr")
    motion = open_timelapse(folder / "motion.ome.zarr")
    assert motion.attrs["channels"] == ["displacement_y_um", "displacement_x_um"]
    seconds = float(motion.t[1] - motion.t[0])
    expected = SPEED_PX_S * microscope.pixel_um * seconds
    inner = motion.values[1, :, 0, 30:-30, 30:-30]
    np.testing.assert_allclose(np.nanmedian(inner[1]), expected, rtol=0.15)
    np.testing.assert_allclose(np.nanmedian(inner[0]), 0, atol=0.15 * expected)
    assert np.isnan(motion.values[0]).all()
    assert "previous acquisition" in motion.attrs["flags"][0]


def test_a_dead_acquisition_is_nan_with_its_reason_and_the_others_are_whole(jobs, sample):
    folder, params, _ = sample
    run_assemble(params, folder / "raw.ome.zarr", [folder / "0-2.zarr"], "nstm", folder / "nstm.ome.zarr")
    found = open_timelapse(folder / "nstm.ome.zarr")
    assert np.isnan(found.values[6:]).all()
    assert all(found.attrs["flags"][6:])
    assert np.isfinite(found.values[:6]).all()
    assert not any(found.attrs["flags"][:6])


def test_the_moving_window_is_nan_where_it_does_not_exist(sample):
    folder, params, _ = sample
    for product, holes in (("conventional", [0, 5, 6, 7, 8]), ("widefield", [6, 7, 8])):
        out = folder / f"{product}.ome.zarr"
        run_conventional(params, folder / "raw.ome.zarr", folder / "illumination.json", product, out)
        found = open_timelapse(out)
        empty = [i for i in range(9) if np.isnan(found.values[i]).all()]
        assert empty == holes
        assert [i for i in range(9) if found.attrs["flags"][i]] == holes
        assert np.isfinite(np.delete(found.values, holes, axis=0)).all()


def test_all_stores_share_one_time_axis(jobs, sample):
    folder, params, _ = sample
    run_assemble(params, folder / "raw.ome.zarr", [folder / f"{i}-{i}.zarr" for i in (2, 0, 1)], "nstm", folder / "n")
    run_conventional(params, folder / "raw.ome.zarr", folder / "illumination.json", "widefield", folder / "w")
    np.testing.assert_array_equal(open_timelapse(folder / "n").t, open_timelapse(folder / "w").t)


def test_the_record_tells_cost_residual_and_motion(jobs):
    record = zarr.open_group(jobs / "0-0.zarr", mode="r").attrs["nstm"]["acquisitions"][0]
    assert record["seconds"] > 0
    assert record["peak_memory_mb"] > 50
    assert len(record["residual_noise_units"]) == 9
    assert 0.7 < np.mean(record["residual_noise_units"]) < 1.6
    assert 0.5 * 40 * 0.2 < record["motion_px"]["total_max"] < 2 * 40 * 0.3
    json.dumps(record, allow_nan=False)


def test_frames_held_out_rotate_over_the_orientations():
    axes = {"angle": 3, "phase": 3}
    assert rotating(axes, "angle", 3) == [0, 4, 8]
    assert sorted(rotating(axes, "angle", 99)) == list(range(9))
    assert len(rotating({"angle": 3, "phase": 2}, "angle", 6)) == 6
    assert rotating({"rows": 7}, "readout", 3) == [1, 3, 5]


def test_a_sample_without_any_usable_acquisition_closes_the_gate(sample, tmp_path):
    folder, params, _ = sample
    (tmp_path / "quality.json").write_text(
        json.dumps({"status": "fail", "reasons": [{"severity": "fail", "code": "dead", "message": "all dead"}]})
    )
    run_illumination(params, folder / "raw.ome.zarr", tmp_path / "quality.json", tmp_path / "illumination.json")
    gate = json.loads((tmp_path / "illumination.json").read_text())
    assert gate["status"] == "fail"
    assert gate["reasons"][0]["message"] == "all dead"
