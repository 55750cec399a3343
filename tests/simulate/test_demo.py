"""The demo's recordings: what stands in the files, and how much the sample moves."""

import numpy as np
import pytest
import tifffile
import zarr

from nstm.acquisition import DataError
from nstm.io.open import open_acquisitions
from nstm.io.store import open_timelapse
from nstm.simulate.demo import (
    CASES,
    TRAVEL_UM,
    list_cases,
    living,
    record,
    simulate_case,
    write_raw_tiff,
    write_truth,
)
from nstm.simulate.motion import largest_travel
from nstm.simulate.sim import structure_area
from nstm.simulate.structures import er_network
from nstm.systems.dpc import Dpc, DpcSettings
from nstm.systems.sim import Sim, SimSettings


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    simulate_case("er_small", folder / "er_small.ome.tif", folder / "er_small_truth.ome.zarr")
    return folder


def test_cases():
    assert {name.split("_")[0] for name in list_cases()} == {"er", "sim3d", "dpc", "diffusercam", "speckle"}
    with pytest.raises(DataError, match="er_moving"):
        record("nothing")


def test_raw_file_is_a_microscopes(small):
    with tifffile.TiffFile(small / "er_small.ome.tif") as file:
        series = file.series[0]
        assert (series.axes, series.shape, series.dtype) == ("TZYX", (2, 9, 64, 64), np.uint16)
        pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
        assert pixels["PhysicalSizeX"] == pytest.approx(0.065)
        planes = pixels["Plane"]
        assert len(planes) == 18
        starts = [p["DeltaT"] for p in planes]
        assert starts[:4] == pytest.approx([0, 0.021, 0.042, 0.072])
        assert np.all(np.diff(starts) > 0)
        assert {p["ExposureTime"] for p in planes} == {0.02}
        assert planes[10]["TheT"] == 1
        assert planes[10]["TheZ"] == 1


def test_truth_stands_at_every_exposure(small):
    truth = open_timelapse(small / "er_small_truth.ome.zarr")
    assert dict(truth.sizes) == {"t": 18, "c": 1, "z": 1, "y": 128, "x": 128}
    assert truth.attrs["pixel_um"] == pytest.approx(0.0325)
    np.testing.assert_allclose(truth["t"].values[:4], [0.01, 0.031, 0.052, 0.082])
    block = zarr.open_group(small / "er_small_truth.ome.zarr", mode="r").attrs["nstm"]
    simulation = block["simulation"]
    assert np.array(simulation["calibration"]["pattern_vectors"]).shape == (3, 2)
    raw = tifffile.imread(small / "er_small.ome.tif").astype(float) - 100
    assert raw.mean() == pytest.approx(float(truth.mean()), rel=0.05)


SYSTEMS = {
    "dpc_small": Dpc(
        DpcSettings.model_validate(
            {"optics": {"na": 0.25, "emission_wavelength_um": 0.525}, "frames": {"order": "t illumination"}}
        )
    ),
    "sim3d_small": Sim(
        SimSettings.model_validate(
            {
                "optics": {"na": 1.4, "index": 1.518},
                "illumination": {"angles": 3, "phases": 5, "beams": 3},
                "frames": {"planes": 4, "order": "t angle z phase"},
            }
        )
    ),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_user_can_read_the_file_of_any_microscope(name, tmp_path):
    recording = record(name)
    write_raw_tiff(tmp_path / "raw.ome.tif", recording)
    write_truth(tmp_path / "truth.ome.zarr", recording, name)
    read = open_acquisitions(tmp_path / "raw.ome.tif", SYSTEMS[name])
    frames, times = recording.frames, recording.times
    if name == "dpc_small":
        frames, times = frames[:, :, None], times[..., None]
    np.testing.assert_array_equal(read["frames"].values, frames)
    np.testing.assert_allclose(np.diff(read["time"].values.ravel()), np.diff(times.ravel()), atol=1e-6)
    assert read.attrs["pixel_um"] == pytest.approx(recording.microscope.pixel_um)
    truth = open_timelapse(tmp_path / "truth.ome.zarr")
    np.testing.assert_array_equal(truth.values, recording.truth_tczyx())
    assert truth.attrs["pixel_um"] == pytest.approx(recording.spacing_um[-1])
    assert dict(truth.sizes) == (
        {"t": 8, "c": 2, "z": 1, "y": 64, "x": 64}
        if name == "dpc_small"
        else {"t": 15, "c": 1, "z": 4, "y": 64, "x": 64}
    )


@pytest.mark.parametrize("name", ["er_moving", "er_small"])
def test_total_motion_of_each_acquisition(name):
    case = CASES[name]
    m = case.microscope
    points = er_network(case.seed, structure_area(m, TRAVEL_UM))
    motion = living(m, points, case.acquisitions, case.motion_px, case.seed)
    height, width = (n * m.pixel_um for n in m.shape)
    inside = np.all((points.position > 0) & (points.position < [height, width]), axis=1)
    spans = [(t.min(), t.max()) for t in m.times(case.acquisitions)]
    travel = largest_travel(motion, points.position[inside][::7], spans) / m.pixel_um
    low, high = (3, 7) if name == "er_moving" else (2, 5)
    assert travel.min() > low
    assert travel.max() < high
    end = motion.displacement(points.position[::7], spans[-1][1])
    assert np.hypot(*end.T).max() < TRAVEL_UM


def test_static_case_has_the_same_sample_and_instrument():
    moving, static = CASES["er_moving"], CASES["er_static"]
    assert (moving.seed, moving.microscope) == (static.seed, static.microscope)
    assert static.motion_px == 0
