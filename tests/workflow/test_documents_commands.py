"""Every command of the documents, run in order as it stands there, with small recordings in place of the demo's."""

import shutil

import numpy as np
import pytest
import yaml

from nstm.io.store import open_raw, open_timelapse
from nstm.pipeline.simulate import run_simulate
from nstm.simulate.demo import record
from tests.documents import ELSEWHERE, PAGES, ROOT, Checkout, blocks, commands
from tests.files import czi, mrc, nd2

RUN_HERE = {"README.md", "CONTRIBUTING.md", "quick-start.md", "your-data.md", "viewers.md", "dpc.md"}
#: What a person knows of the microscope.
FILLED = {
    "optics.na": 1.4,
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
reconstruction: {steps: 40, starts: 1}
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """The project, with a demo of one small recording under the name of the real one's."""
    made = Checkout(tmp_path_factory.mktemp("home"))
    small = made.folder / "simulated"
    run_simulate("er_small", small / "er_moving.ome.tif", small / "er_moving_truth.ome.zarr")
    made.edit("config/config.yaml", lambda _: DEMO)
    made.edit("config/samples.tsv", lambda text: "".join(text.splitlines(keepends=True)[:2]))
    made.edit("config/examples/dpc/config.yaml", lambda t: t.replace("reconstruction:", "reconstruction:\n  steps: 40"))
    made.edit(
        "config/examples/dpc/samples.tsv",
        lambda t: "".join(t.replace("dpc_moving", "dpc_small").splitlines(keepends=True)[:2]),
    )
    return made


def write_recordings(folder):
    """The same acquisitions as files of three vendors."""
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


def fill_in(config, **more):
    """Fill the blanks of `nstm init`, and nothing else."""
    found = yaml.safe_load(config.read_text())
    for system in found["systems"].values():
        for name, value in {**FILLED, **more}.items():
            section, key = name.split(".")
            if key in (system.get(section) or {}) and system[section][key] is None:
                system[section][key] = value
    found["reconstruction"] |= {"steps": 40, "starts": 1}
    config.write_text(yaml.safe_dump(found, sort_keys=False))


@pytest.mark.end_to_end
def test_a_newcomer_with_the_readme(checkout):
    """Two commands, then a folder with files of three vendors, whose order of frames is not known at first."""
    recordings = checkout.home / "recordings"
    config = recordings / "config" / "config.yaml"
    write_recordings(recordings)
    asked = []

    def ask_for_the_order():
        fill_in(config)
        asked.append(checkout.run("nstm inspect --config ~/recordings/config/config.yaml"))
        fill_in(config, **{"frames.order": "t angle phase"})

    printed = checkout.follow(
        ROOT / "README.md", {"nstm inspect --config ~/recordings/config/config.yaml": ask_for_the_order}
    )
    assert "report: " in printed["make demo"]
    assert asked[0].count("the frames speak for 't angle phase'") == 2  # the CZI labels its frames itself
    assert "missing" not in printed["nstm inspect --config ~/recordings/config/config.yaml"]
    report = (recordings / "results" / "report.html").read_text()
    for name in ("cell", "other", "third"):
        assert name in report
        assert (recordings / "results" / name / "movie.mp4").stat().st_size > 5000
        raw = open_raw(recordings / "results" / name / "raw.ome.zarr")
        np.testing.assert_array_equal(raw["frames"].values[:, :, :, 0], record("er_small").frames, err_msg=name)
    checkout.python("".join(blocks(ROOT / "README.md", "python")))
    assert (checkout.folder / "fit.npz").exists()

    # the pages that go on from there
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
    assert open_timelapse(checkout.home / "try.ome.zarr").sizes["t"] == 3


@pytest.mark.end_to_end
@pytest.mark.parametrize("page", ["dpc.md", "CONTRIBUTING.md"])
def test_the_commands_of(page, checkout):
    checkout.follow(next(p for p in PAGES if p.name == page))


def test_no_command_is_left_out():
    """Commands stand on pages that are followed here, or are known to be run elsewhere, and none is out of date."""
    found = {command: page for page in PAGES for command in commands(page)}
    assert {page.name for page in found.values()} <= RUN_HERE
    assert set(ELSEWHERE) <= set(found)
