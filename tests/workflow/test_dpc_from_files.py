"""DPC from files through the workflow: the published simulator's moving targets, images and sources in one npz each."""

import json
import os

import numpy as np
import pytest

from nstm.acquisition import Channel
from nstm.io.store import open_raw, open_timelapse, write_timelapse
from tests.experiments import Workdir

WAVELENGTH = 0.525
HEAD, TAIL = "samples: samples.tsv\nsystems:\n", "reconstruction: {padding_px: 0}\n"
SYSTEM = """\
  {case}:
    kind: dpc
    optics: {{na: 0.25, emission_wavelength_um: 0.525, pixel_um: 0.454}}
    model: phase
    illumination: {light}
    background: {{method: none}}
    frames: {{order: illumination}}
"""
#: Plain PSNR (dB) and SSIM that every case must reach.
CASES = {"dpc64_swirl": (18.5, 0.79), "dpc_swirl": (22.2, 0.75), "dpc_translation": (21.3, 0.72)}
#: A map beside the images in one file, a map by itself, and the same sources without one.
LIGHT = {
    "dpc64_swirl": "{source_map: ../dpc64_swirl.npz, source_map_array: s}",
    "dpc_swirl": "{source_map: ../dpc_swirl_sources.npy}",
    "dpc_translation": "{rotations_deg: [0, 90, 180, 270]}",
}


def write_case(case, folder, name):
    """Images and sources as the published notebook had them, and the truth."""
    np.savez_compressed(folder / f"{name}.npz", img=case["img"], s=case["s"].astype(np.float32))
    np.save(folder / f"{name}_sources.npy", case["s"].astype(np.float32))
    write_timelapse(
        folder / name,
        case["phase_gt"][:, None, None] / WAVELENGTH,  # the simulator's phase carries a factor of the wavelength
        times_s=np.arange(4) + 0.5,  # no exposure is known: one frame per second is assumed
        pixel_um=0.454,
        z_step_um=None,
        label="truth",
        channels=[Channel("phase", "rad", "signed")],
        effective_transfer="none",
        flags=[""] * 4,
        provenance={},
    )


@pytest.mark.end_to_end
def test_the_published_cases(shared_cases, tmp_path):
    images = {}
    for name in CASES:
        with np.load(shared_cases / "spacetime" / f"{name}.npz") as archive:
            case = dict(archive)
        write_case(case, tmp_path, name)
        images[name] = case["img"]
    rows = [{"sample": n, "path": f"../{n}.npz", "position": "img", "system": n, "truth": f"../{n}"} for n in CASES]
    workdir = Workdir(tmp_path, HEAD + "".join(SYSTEM.format(case=n, light=LIGHT[n]) for n in CASES) + TAIL, rows)
    targets = [f"results/{name}/metrics.json" for name in CASES]
    workdir.snakemake(*targets)
    for name, (psnr, ssim) in CASES.items():
        raw = open_raw(workdir.result(f"{name}/raw.ome.zarr"))
        assert raw["frames"].dims == ("t", "illumination", "z", "y", "x")
        np.testing.assert_array_equal(raw["frames"].values[0, :, 0], images[name])
        methods = json.loads(workdir.result(f"{name}/metrics.json").read_text())["methods"]
        assert set(methods) == {"nstm", "conventional"}, "a bright field is no phase"
        assert np.mean(methods["nstm"]["psnr_plain"]) > psnr
        assert np.mean(methods["nstm"]["ssim"]) > ssim
        bright = open_timelapse(workdir.result(f"{name}/timelapse/widefield.ome.zarr"))
        assert bright.c.values.tolist() == ["brightness"]
    assert workdir.planned(*targets) == {}
    os.utime(tmp_path / "dpc_swirl_sources.npy", (2e9, 2e9))
    assert workdir.planned(*targets) == {}, "the same content is no change"
    np.save(tmp_path / "dpc_swirl_sources.npy", images["dpc_swirl"])
    assert workdir.planned(*targets)["inspect"] == 1, "the map of the sources is an input of its own samples"
