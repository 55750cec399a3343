"""Every command of the documents, run in order as it stands there, with small recordings in place of the demo's."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml

from nstm.io.store import open_raw, open_timelapse
from nstm.pipeline.simulate import run_simulate
from nstm.simulate.demo import record
from tests.documents import ELSEWHERE, PAGES, ROOT, Checkout, blocks, commands
from tests.files import czi, mrc, nd2

#: Pages that go on from each other; every other page is followed by itself.
TOGETHER = ("README.md", "quick-start.md", "viewers.md", "your-data.md")
#: A real recording whose first orientation is too dim, where it is at hand.
DIM = Path(os.environ.get("NSTM_TEST_DATA", ROOT.parent / "shared" / "data")) / "sim" / "microtubules_dv" / "MT.mrc"
#: Recordings of the newcomer, and where their times come from.
FAMILIES = {"cell": "read", "other": "assumed", "third": "read", "fourth": "assumed"}
#: What a person knows of the microscope.
FILLED = {
    "optics.na": 1.4,
    "optics.pixel_um": 0.065,
    "optics.emission_wavelength_um": 0.515,
    "optics.excitation_wavelength_um": 0.488,
    "camera.offset": 100,
    "illumination.angles": 3,
    "illumination.phases": 3,
    "illumination.beams": 2,
    "frames.planes": 1,
}
DEMO = """\
samples: samples.tsv
systems:
  sim_2beam:
    kind: sim
    optics: {na: 1.4, index: 1.518, emission_wavelength_um: 0.515, excitation_wavelength_um: 0.488}
    camera: {offset: 100}
    frames: {order: t angle phase}
reconstruction: {steps: 40, starts: 1, sliding: false}
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The project, with a demo of one small recording under the name of the real one's."""
    made = Checkout(tmp_path_factory.mktemp("home"))
    small = made.folder / "simulated"
    run_simulate("er_small", small / "er_moving.ome.tif", small / "er_moving_truth.ome.zarr")
    made.edit("config/config.yaml", lambda _: DEMO)
    made.edit("config/samples.tsv", lambda text: "".join(text.splitlines(keepends=True)[:2]))
    short = "reconstruction: {steps: 40, starts: 1, sliding: false}\n"
    for example in (made.folder / "config" / "examples").glob("*/config.yaml"):
        example.write_text(example.read_text().split("reconstruction:")[0] + short)
        sheet = example.with_name("samples.tsv")
        sheet.write_text("".join(sheet.read_text().replace("dpc_moving", "dpc_small").splitlines(keepends=True)[:2]))
    return made


def write_recordings(folder):
    """The same acquisitions as files of three vendors and as plain TIFF, and a real one that is too dim."""
    recording = record("er_small")
    frames, times = recording.frames, recording.times
    flat, inside = frames.reshape(-1, *frames.shape[-2:]), (slice(None), slice(None), slice(None), None, None)
    scope = {"pixel_um": 0.065, "emission_nm": [515], "excitation_nm": [488], "channels": ["GFP"], "na": 1.4}
    folder.mkdir()
    czi.write_elyra_czi(
        folder / "cell.czi", frames[inside], times_s=times[inside], compression="zstd", index=1.518, **scope
    )
    mrc.write_dv(folder / "other.dv", flat[:, ::-1], waves=(515,), pixel_um=0.065)  # the lowest row first
    nd2.write(
        folder / "third.nd2",
        flat[:, None],
        [nd2.Loop(nd2.TIME, len(flat))],
        channels=[nd2.Channel("GFP", 515.0, 488.0)],
        times_ms=1000 * times.ravel(),
        pixel_um=0.065,
        na=1.4,
        index=1.518,
    )
    tifffile.imwrite(folder / "fourth.tif", flat, photometric="minisblack")
    if DIM.is_file():
        shutil.copy(DIM, folder / "dim.mrc")


def fill_in(config, **more):
    """Fill the blanks of `nstm init`, and nothing else."""
    found = yaml.safe_load(config.read_text())
    for system in found["systems"].values():
        for name, value in {**FILLED, **more}.items():
            section, key = name.split(".")
            if key in (system.get(section) or {}) and system[section][key] is None:
                system[section][key] = value
    found["reconstruction"] |= {"steps": 40, "starts": 1, "sliding": False}
    config.write_text(yaml.safe_dump(found, sort_keys=False))


@pytest.fixture(scope="module")
def followed(checkout):
    """What the commands of the README printed: the demo, then a folder whose order of frames is not known at first."""
    recordings = checkout.home / "recordings"
    config = recordings / "config" / "config.yaml"
    write_recordings(recordings)
    ask, printed = "nstm inspect --config ~/recordings/config/config.yaml", {}

    def ask_for_the_order():
        fill_in(config)
        printed["order"] = checkout.run(ask)
        fill_in(config, **{"frames.order": "t angle phase"})

    printed |= checkout.follow(ROOT / "README.md", {ask: ask_for_the_order})
    return printed


@pytest.mark.end_to_end
def test_a_newcomer_with_the_readme(checkout, followed):
    assert "report: " in followed["make demo"]
    assert followed["order"].count("the frames speak for 't angle phase'") >= 3  # the CZI labels its frames itself
    assert "missing" not in followed["nstm inspect --config ~/recordings/config/config.yaml"]
    results = checkout.home / "recordings" / "results"
    report = (results / "report.html").read_text()
    for name, origin in FAMILIES.items():
        raw = open_raw(results / name / "raw.ome.zarr")
        np.testing.assert_array_equal(raw["frames"].values[:, :, :, 0], record("er_small").frames, err_msg=name)
        assert raw.attrs["time_origin"] == origin
        assert (results / name / "movie.mp4").stat().st_size > 5000
        assert name in report
    checkout.python("".join(blocks(ROOT / "README.md", "python")))
    assert (checkout.folder / "fit.npz").exists()


@pytest.mark.end_to_end
def test_a_recording_without_a_pattern_stops_alone(checkout, followed, shared_data):
    """The first orientation of this real recording is too dim to find: the gate says so, the others have finished."""
    results = checkout.home / "recordings" / "results"
    gate = json.loads((results / "dim" / "illumination.json").read_text())
    assert gate["status"] == "fail"
    assert any("orientation 0" in reason["message"] for reason in gate["reasons"])
    assert open_raw(results / "dim" / "raw.ome.zarr").sizes["phase"] == 3
    assert not (results / "dim" / "movie.mp4").exists()
    assert "dim" in (results / "report.html").read_text()


@pytest.mark.end_to_end
def test_the_pages_that_go_on_from_there(checkout, followed):
    recordings = checkout.home / "recordings"
    config = recordings / "config" / "config.yaml"
    checkout.follow(ROOT / "docs" / "quick-start.md")
    printed = checkout.follow(ROOT / "docs" / "viewers.md")
    assert "tracks" in printed["nstm view results/er_moving --list"]
    assert "('t', 'c', 'z', 'y', 'x')" in checkout.python("".join(blocks(ROOT / "docs" / "viewers.md", "python")))

    shutil.rmtree(recordings / "config")
    order = {"frames.order": "t angle phase"}
    printed = checkout.follow(
        ROOT / "docs" / "your-data.md",
        {"nstm inspect --config ~/recordings/config/config.yaml": lambda: fill_in(config, **order)},
    )
    assert "Nothing to be done" in printed["snakemake --cores 2 --directory ~/recordings"]  # as before
    assert open_timelapse(checkout.home / "try.ome.zarr").sizes["t"] == 3  # of one acquisition
    assert (checkout.home / "try.mp4").stat().st_size > 2000


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name not in TOGETHER and set(commands(p)) - set(ELSEWHERE)], ids=lambda p: p.name
)
def test_a_page_by_itself(page, checkout):
    checkout.follow(page)


def test_what_is_run_elsewhere_is_not_out_of_date():
    assert set(ELSEWHERE) <= {command for page in PAGES for command in commands(page)}
