"""Blind SIM through every rule: a rolling window over frames of a moving sample under unknown speckle."""

import json

import numpy as np
import pytest

from nstm.io.store import open_raw, open_timelapse
from tests.experiments import Workdir

CONFIG = """\
samples: samples.tsv
systems:
  speckle:
    kind: speckle
    optics: {na: 1.0, emission_wavelength_um: 0.52, illumination_na: 0.8, excitation_wavelength_um: 0.488}
    camera: {offset: 100}
    illumination: {patterns: 6}
    solver: {methods: [per_frame, ubsim], iterations: 20}
    frames: {order: t pattern}
reconstruction: {steps: 30, starts: 1, sliding: false, padding_px: 4}
movie: {height_px: 64, panels: [widefield, conventional, ubsim, nstm]}
"""
STORES = ("widefield", "conventional", "ubsim", "nstm", "motion")


@pytest.mark.end_to_end
def test_through_every_rule(tmp_path):
    name = "simulated/speckle_small"
    row = {"sample": "network", "path": f"../{name}.ome.tif", "system": "speckle", "truth": f"../{name}_truth.ome.zarr"}
    workdir = Workdir(tmp_path, CONFIG, [row])
    workdir.snakemake()
    assert json.loads(workdir.result("network/illumination.json").read_text())["status"] != "fail"
    raw = open_raw(workdir.result("network/raw.ome.zarr"))
    assert raw["frames"].dims == ("t", "pattern", "z", "y", "x")
    times = raw["time"].values.ravel()
    stores = {name: open_timelapse(workdir.result(f"network/timelapse/{name}.ome.zarr")) for name in STORES}
    # 12 frames, windows of 6, a step of 2: each result at the mean time of its frames
    expected = [times[i : i + 6].mean() for i in (0, 2, 4, 6)]
    for store in stores.values():
        np.testing.assert_allclose(store["t"].values, expected, atol=1e-6)
        assert store.shape[-2:] == (64, 64)
    for name in ("widefield", "conventional", "ubsim"):
        assert np.isfinite(stores[name].values).all(), name
    metrics = json.loads(workdir.result("network/metrics.json").read_text())["methods"]
    psnr = {name: block["mean"]["psnr_equalised"] for name, block in metrics.items()}
    assert psnr["conventional"] > psnr["widefield"] + 0.5, psnr
    assert psnr["ubsim"] > psnr["widefield"], psnr
    checked = json.loads(workdir.result("network/trust.json").read_text())["checked_windows"]
    assert checked["ubsim"], "every tenth window, so the first, was solved by conjugate gradients too"
    assert workdir.result("network/movie.mp4").exists()
    assert "blind SIM" in workdir.result("report.html").read_text()
