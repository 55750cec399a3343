"""One experiment whose recordings come from the files of every family, from `nstm init` to results."""

import json
import shutil

import numpy as np
import pytest
import tifffile
import yaml

from nstm.io.store import open_raw
from nstm.pipeline.init import write_experiment
from nstm.simulate.demo import record
from tests.experiments import Workdir
from tests.files import czi, mrc, nd2

FILLED = {
    "optics.na": 1.4,
    "optics.pixel_um": 0.065,
    "optics.emission_wavelength_um": 0.515,
    "optics.excitation_wavelength_um": 0.488,
    "camera.offset": 100,
    "illumination.angles": 3,
    "illumination.phases": 3,
    "illumination.beams": 2,
    "frames.order": "t angle phase",
    "frames.planes": 1,
}
LENS = {"na": 1.4, "index": 1.518}
CLOSING = """
reconstruction: {steps: 40}
movie: {panels: [widefield, nstm]}
"""


def write_files(folder, frames, times):
    """The same acquisitions ``(t, angle, phase, y, x)`` as TIFF, CZI, DeltaVision and ND2."""
    flat = frames.reshape(-1, *frames.shape[-2:])
    tifffile.imwrite(folder / "as_tiff.tif", flat, photometric="minisblack")
    scope = {"pixel_um": 0.065, "emission_nm": [515], "excitation_nm": [488], "channels": ["GFP"], **LENS}
    inside = (slice(None), slice(None), slice(None), None, None)
    czi.write_elyra_czi(folder / "as_czi.czi", frames[inside], times_s=times[inside], compression="zstd", **scope)
    mrc.write_dv(folder / "as_dv.dv", flat[:, ::-1], waves=(515,), pixel_um=0.065)  # the lowest row first
    nd2.write(
        folder / "as_nd2.nd2",
        flat[:, None],
        [nd2.Loop(nd2.TIME, len(flat))],
        channels=[nd2.Channel("GFP", 515.0, 488.0)],
        times_ms=1000 * times.ravel(),
        pixel_um=0.065,
        **LENS,
    )


def fill_blanks(path):
    """Fill what `nstm init` listed, and nothing else."""
    config = yaml.safe_load(path.read_text())
    for system in config["systems"].values():
        for name, value in FILLED.items():
            section, key = name.split(".")
            if key in (system.get(section) or {}) and system[section][key] is None:
                system[section][key] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False) + CLOSING)


@pytest.mark.end_to_end
def test_a_folder_with_a_file_of_each_family(tmp_path, shared_data):
    recording = record("er_small")
    write_files(tmp_path, recording.frames, recording.times)
    shutil.copy(shared_data / "sim" / "microtubules_dv" / "MT.mrc", tmp_path / "dim.mrc")
    written = write_experiment(tmp_path)
    config, sheet = written.config.read_text(), written.sheet.read_text()
    assert len(sheet.splitlines()) == 6
    workdir = Workdir(tmp_path, config, [])
    written.sheet.write_text(sheet)
    fill_blanks(written.config)
    workdir.snakemake()

    for family, origin in (("tiff", "assumed"), ("czi", "read"), ("dv", "assumed"), ("nd2", "read")):
        raw = open_raw(workdir.result(f"as_{family}/raw.ome.zarr"))
        np.testing.assert_array_equal(raw["frames"].values[:, :, :, 0], recording.frames, err_msg=family)
        assert raw.attrs["time_origin"] == origin
        assert json.loads(workdir.result(f"as_{family}/trust.json").read_text())["status"] in ("pass", "warn", "fail")
        assert workdir.result(f"as_{family}/movie.mp4").exists()

    # the first orientation of this real recording is too dim to find: the gate says so, and the others have finished
    gate = json.loads(workdir.result("dim/illumination.json").read_text())
    assert gate["status"] == "fail"
    assert any("orientation 0" in reason["message"] for reason in gate["reasons"])
    assert open_raw(workdir.result("dim/raw.ome.zarr")).sizes["phase"] == 3
    assert not workdir.result("dim/movie.mp4").exists()
    assert "dim" in workdir.result("report.html").read_text()
