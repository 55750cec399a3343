"""Rule `quality` as a function: stores in, quality.json out."""

import numpy as np
import pytest

from nstm.acquisition import make_acquisitions
from nstm.io.jsonfile import read_json
from nstm.io.store import write_failed, write_raw
from nstm.pipeline.quality import run_quality
from nstm.simulate import SimMicroscope, drift, er_network, simulate_sim, structure_area

SYSTEM = {
    "kind": "sim",
    "optics": {"na": 1.4, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488, "pixel_um": 0.065},
    "camera": {"offset": 100},
}
PARAMS = {"numerics": 1, "sample": {"sample": "cell", "path": "/absent.tif", "system": "microscope"}, "system": SYSTEM}


@pytest.fixture(scope="module")
def recording():
    m = SimMicroscope(shape=(64, 64))
    return simulate_sim(er_network(1, structure_area(m, 0.5)), drift((0.0, 1.0)), m, 2)


def store(path, recording, frames):
    acquisitions = make_acquisitions(
        frames[:, :, :, None],
        recording.times[..., None],
        ["angle", "phase"],
        pixel_um=0.065,
        time_origin="computed",
    )
    write_raw(path, acquisitions, {})
    return path


def test_good_sample(tmp_path, recording):
    run_quality(PARAMS, store(tmp_path / "raw.ome.zarr", recording, recording.frames), tmp_path / "quality.json")
    quality = read_json(tmp_path / "quality.json")
    assert (quality["schema"], quality["sample"], quality["status"]) == (2, "cell", "pass")
    assert [a["index"] for a in quality["acquisitions"]] == [0, 1]
    # 1 um/s for the 73 ms from orientation to orientation
    np.testing.assert_allclose([a["motion_px"] for a in quality["acquisitions"]], 0.072 / 0.065, rtol=0.05)
    assert quality["motion"]["verdict"] == "worth"
    # 170 ms from the first frame to the last; times of frames are 21 and 31 ms apart
    assert quality["motion"]["in_acquisition_px"] == pytest.approx(0.187 / 0.065, rel=0.07)
    assert quality["motion"]["per_exposure_px"] is None  # no exposure is stated


def test_a_bad_acquisition_is_left_out_and_the_sample_goes_on(tmp_path, recording):
    frames = recording.frames.copy()
    frames[1, 2, 0] = 0
    run_quality(PARAMS, store(tmp_path / "raw.ome.zarr", recording, frames), tmp_path / "quality.json")
    quality = read_json(tmp_path / "quality.json")
    assert quality["status"] == "warn"
    assert [a["status"] for a in quality["acquisitions"]] == ["pass", "fail"]
    assert quality["acquisitions"][1]["dead_frames"] == [6]
    assert quality["acquisitions"][1]["motion_px"] is None


def test_nan_is_null_in_the_file(tmp_path, recording):
    frames = recording.frames.astype(np.float32)
    frames[:] = np.nan
    run_quality(PARAMS, store(tmp_path / "raw.ome.zarr", recording, frames), tmp_path / "quality.json")
    text = (tmp_path / "quality.json").read_text()
    assert "NaN" not in text.replace("pixels are NaN", "").replace("(NaN)", "")
    assert read_json(tmp_path / "quality.json")["status"] == "fail"


def test_failed_store_passes_its_reasons_on(tmp_path):
    reasons = [{"severity": "fail", "code": "truncated", "message": "the file ends early"}]
    write_failed(tmp_path / "raw.ome.zarr", reasons)
    run_quality(PARAMS, tmp_path / "raw.ome.zarr", tmp_path / "quality.json")
    quality = read_json(tmp_path / "quality.json")
    assert (quality["status"], quality["reasons"], quality["acquisitions"]) == ("fail", reasons, [])
