"""The published simulator's moving target, from files through the whole workflow with estimated illumination."""

import json

import numpy as np
import pytest
import tifffile

from nstm.io.store import write_timelapse
from tests.experiments import Workdir

CONFIG = """\
samples: samples.tsv
systems:
  three_beam:
    kind: sim
    optics:
      na: 1.28
      index: 1.33
      emission_wavelength_um: 0.515
      excitation_wavelength_um: 0.488
      pixel_um: {pixel}
      upsampling: 1.6
      pixel_integration: false # as it was simulated
    illumination: {{angles: 3, phases: 5, beams: 3}}
    frames: {{order: angle phase}}
reconstruction: {{steps: 500, output_times: frames, multigrid: {{scene_smoothness: 0}}}}
"""


@pytest.mark.end_to_end
def test_the_published_swirl_through_the_workflow(shared_cases, tmp_path):
    case = np.load(shared_cases / "spacetime" / "sim2d_swirl.npz")
    pixel = float(case["ps"])
    rows = [{"sample": "swirl", "path": "../swirl.tif", "system": "three_beam", "truth": "../truth.ome.zarr"}]
    workdir = Workdir(tmp_path, CONFIG.format(pixel=pixel), rows)
    tifffile.imwrite(tmp_path / "swirl.tif", case["raw_camera"].reshape(15, 80, 80).astype(np.float32))
    write_timelapse(
        tmp_path / "truth.ome.zarr",
        case["fluo_gt"].reshape(15, 1, 1, 128, 128).astype(np.float32),
        times_s=np.arange(15) + 0.5,  # no exposure is known: one frame per second is assumed
        pixel_um=pixel / 1.6,
        z_step_um=None,
        label="truth",
        channels=["intensity"],
        effective_transfer="none",
        flags=[""] * 15,
        provenance={},
    )
    workdir.snakemake()
    means = json.loads(workdir.result("swirl/metrics.json").read_text())["methods"]["nstm"]
    assert np.mean(means["psnr_plain"]) > 16.75
    assert np.mean(means["psnr_equalised"]) > 37.5
