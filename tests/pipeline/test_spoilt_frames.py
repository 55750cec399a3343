"""A dead, damaged or full frame under random light is named and left out; the acquisition goes on without it."""

import numpy as np
import pytest
import zarr

from nstm.acquisition import make_acquisitions
from nstm.io.jsonfile import read_json
from nstm.io.store import open_timelapse, write_raw
from nstm.pipeline.conventional import run_conventional
from nstm.pipeline.illumination import run_illumination
from nstm.pipeline.quality import run_quality
from nstm.pipeline.reconstruct import run_reconstruct
from nstm.simulate.motion import still
from nstm.simulate.speckle import SpeckleMicroscope, simulate_speckle
from nstm.simulate.structures import Area, er_network

MICROSCOPE = SpeckleMicroscope(shape=(32, 32), guard_px=8, patterns=12, photons=1000)
SPOILT = 4


def quarter(frames):
    frames[..., :16, :16] = 65535


def one_pixel(frames):
    frames[..., 3, 5] = np.nan


def value(number):
    return lambda frames: frames.fill(number)


KINDS = {
    "dead": (value(100), np.uint16, "frames 4 have less than 20%"),
    "constant": (value(900), np.float32, "frames 4 hold one value"),
    "NaN": (one_pixel, np.float32, "frames 4 hold NaN"),
    "full": (value(65535), np.uint16, "frames 4 hold one value"),
    "partly full": (quarter, np.uint16, "frames 4 are full"),
}


@pytest.fixture(scope="module")
def counts():
    area = Area.of_field(MICROSCOPE.shape, MICROSCOPE.pixel_um, 1.2)
    return simulate_speckle(er_network(1, area, mesh_um=1.2, sheets=2), still(), MICROSCOPE, 1, seed=1)


def checked(folder, recording, frames, **system):
    """Through quality and illumination: folder and params."""
    raw = make_acquisitions(
        frames, recording.times[..., None], ("pattern",), pixel_um=MICROSCOPE.pixel_um, time_origin="read"
    )
    write_raw(folder / "raw.ome.zarr", raw, {})
    params = {
        "numerics": 1,
        "sample": {"sample": "network", "path": "raw.tif", "system": "speckle"},
        "system": {
            "kind": "speckle",
            "optics": {"na": 1.0, "emission_wavelength_um": 0.52, "illumination_na": 0.8},
            "camera": {"offset": MICROSCOPE.offset},
            "illumination": {"patterns": 12},
            "window": {"frames": 6, "step": 1},
            **system,
        },
        "conventional": {},
        "reconstruction": {"output_times": "windows", "steps": 20, "starts": 1, "sliding": False, "padding_px": 4},
    }
    run_quality(params, folder / "raw.ome.zarr", folder / "quality.json", folder / "quality.png")
    run_illumination(params, folder / "raw.ome.zarr", folder / "quality.json", folder / "illumination.json")
    return params


@pytest.mark.parametrize("kind", KINDS)
def test_every_window_goes_on(tmp_path, counts, kind):
    spoil, dtype, told = KINDS[kind]
    frames = np.rint(counts.frames[:, :, None]).astype(dtype)
    spoil(frames[0, SPOILT])
    params = checked(tmp_path, counts, frames)
    quality = read_json(tmp_path / "quality.json")
    (entry,) = quality["acquisitions"]
    assert (quality["status"], entry["status"]) == ("warn", "warn")
    assert told in " ".join(r["message"] for r in entry["reasons"])
    assert [i for i, light in enumerate(entry["intensity_by_frame"]) if light is None] == [SPOILT]
    assert read_json(tmp_path / "illumination.json")["acquisitions"][0]["left_out"] == [SPOILT]

    stores = tmp_path / "raw.ome.zarr", tmp_path / "illumination.json"
    run_conventional(params, *stores, "conventional", tmp_path / "conventional.ome.zarr")
    found = open_timelapse(tmp_path / "conventional.ome.zarr")
    assert found.attrs["flags"] == [""] * 7
    assert np.isfinite(found.values).all()


def test_a_fit_does_not_see_the_frame(tmp_path, counts):
    scenes = []
    for name, number in (("dead", 0), ("full", 65535)):
        (tmp_path / name).mkdir()
        frames = counts.frames[:, :, None].astype(np.uint16)
        frames[0, SPOILT] = number
        params = checked(tmp_path / name, counts, frames)
        stores = tmp_path / name / "raw.ome.zarr", tmp_path / name / "illumination.json"
        run_reconstruct(params, *stores, 0, 0, tmp_path / name / "job.zarr")
        job = zarr.open_group(str(tmp_path / name / "job.zarr"), mode="r")
        (record,) = job.attrs["nstm"]["acquisitions"]
        assert [i for i, r in enumerate(record["residual_noise_units"]) if r is None] == [SPOILT]
        assert f"frames {SPOILT} " in " ".join(r["message"] for r in record["reasons"])
        scenes.append(job["scene"][:])
    assert np.isfinite(scenes[0]).all()
    np.testing.assert_array_equal(*scenes)


def test_too_few_frames_fail_the_acquisition(tmp_path, counts):
    frames = counts.frames[:, :, None].astype(np.float32)
    frames[0, 2:, 0, 0, 0] = np.nan
    checked(tmp_path, counts, frames)
    quality = read_json(tmp_path / "quality.json")
    assert quality["status"] == "fail"
    assert "2 of 12 frames can be used, 3 are needed" in str(quality["acquisitions"][0]["reasons"])
