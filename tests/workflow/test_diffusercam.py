"""A rolling-shutter lensless camera through every rule: one frame becomes a video, better than by total variation."""

import json

import numpy as np
import pytest

from nstm.io.store import open_raw, open_timelapse
from nstm.simulate.demo import CASES, write_pattern
from tests.experiments import Workdir

CONFIG = """\
samples: samples.tsv
systems:
  camera:
    kind: diffusercam
    optics: {}
    camera: {offset: 100}
    frames: {exposure_s: 0.0008808}
    readout: {line_time_s: 0.0002202, rows_per_step: 12}
    psf: {path: psf.tif, background: 0}
reconstruction: {output_times: 8, steps: 250, static: true}
"""


@pytest.mark.end_to_end
def test_through_every_rule(tmp_path):
    row = {
        "sample": "disc",
        "path": "../simulated/diffusercam_small.ome.tif",
        "system": "camera",
        "truth": "../simulated/diffusercam_small_truth.ome.zarr",
    }
    workdir = Workdir(tmp_path, CONFIG, [row])
    write_pattern(tmp_path / "config" / "psf.tif", CASES["diffusercam_small"].microscope)
    workdir.snakemake()
    for name in ("inspect", "quality", "illumination"):
        found = json.loads(workdir.result(f"disc/{name}.json").read_text())
        assert found["status"] == "pass", (name, found["reasons"])
    assert open_raw(workdir.result("disc/raw.ome.zarr"))["frames"].dims == ("t", "readout", "colour", "z", "y", "x")
    for name in ("nstm", "static", "wiener", "admm", "conventional"):
        store = open_timelapse(workdir.result(f"disc/timelapse/{name}.ome.zarr"))
        assert store.shape == (8, 1, 1, 32, 40)
        assert np.isfinite(store.values).all()
    assert np.ptp(store["t"].values) == pytest.approx(34 * 0.0002202), "from the first layer to the last"
    metrics = json.loads(workdir.result("disc/metrics.json").read_text())
    psnr = {name: block["mean"]["psnr_plain"] for name, block in metrics["methods"].items()}
    assert psnr["nstm"] > max(psnr[name] for name in psnr if name != "nstm") + 1, psnr
    trust = json.loads(workdir.result("disc/trust.json").read_text())
    assert trust["status"] != "fail", trust["reasons"]
    assert trust["acquisitions"][0]["regions"] == [], "a place in a block of rows is none in the scene"
    assert workdir.result("disc/movie.mp4").exists()
    assert workdir.result("disc/figures/rows.png").exists()
    assert "disc" in workdir.result("report.html").read_text()
    assert workdir.planned() == {}


@pytest.mark.end_to_end
def test_static_results_of_a_real_hand(tmp_path, shared_data):
    """A global shutter: nothing moves within the frame, so only what is static is asked for, by its name."""
    recorded = shared_data / "lensless" / "diffusercam"
    config = f"""\
samples: samples.tsv
systems:
  camera:
    kind: diffusercam
    optics: {{pixel_um: 5.0}}
    camera: {{offset: 0}}
    frames: {{exposure_s: 0.1, binning: 4}}
    readout: {{line_time_s: 1.0e-6, halves: single}}
    psf: {{path: {recorded / "psf_sample.tif"}}}
    scene_share: 1.0
    admm: {{iterations: 100}}
"""
    row = {"sample": "hand", "path": str(recorded / "rawdata_hand_sample.tif"), "system": "camera"}
    workdir = Workdir(tmp_path, config, [row])
    workdir.snakemake("results/hand/timelapse/wiener.ome.zarr", "results/hand/timelapse/admm.ome.zarr")
    for name in ("wiener", "admm"):
        image = open_timelapse(workdir.result(f"hand/timelapse/{name}.ome.zarr")).values[0, 0, 0]
        hand, beside = image[90:210, 180:350], image[225:, :150]
        assert np.percentile(hand, 90) > 8 * np.percentile(beside, 90), name
        thumb, between = image[80:120, 220:250].max(), image[60:110, 280:340].max()
        assert thumb > 3 * between, f"{name}: the thumb stands apart from the fingers"
    assert not workdir.result("hand/jobs").exists(), "nothing that moves was fitted"
