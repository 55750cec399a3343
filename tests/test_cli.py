"""The command `nstm`."""

import json

import numpy as np
import pytest
import tifffile
import yaml
from typer.testing import CliRunner

from nstm.cli import app
from nstm.io.store import open_timelapse, write_timelapse
from tests.experiments import SMALL_CONFIG


def call(*args: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    call("simulate", "er_small", folder)
    return folder / "er_small.ome.tif"


def test_simulate_refuses_unknown_cases(tmp_path) -> None:
    assert "allowed: er_moving" in call("simulate", "er_smal", tmp_path, code=2)
    assert "er_small" in call("simulate", "list")


def test_inspect(recording, tmp_path) -> None:
    assert "64 x 64 pixels, uint16" in call("inspect", recording)
    config = tmp_path / "config.yaml"
    config.write_text(SMALL_CONFIG)
    assert "angle = 3" in call("inspect", recording, "--config", config, "--system", "sim")
    assert "the config has: sim, no_size" in call("inspect", recording, "--config", config, code=2)
    assert "no such file" in call("inspect", tmp_path / "nothing.tif", code=2)


def test_inspect_as_json(recording, tmp_path) -> None:
    alone = json.loads(call("inspect", recording, "--json"))
    assert alone["source_axes"] == {"T": 2, "Z": 9}
    config = tmp_path / "config.yaml"
    config.write_text(SMALL_CONFIG)
    found = json.loads(call("inspect", recording, "--config", config, "--system", "sim", "--json"))
    assert found["sizes"] == {"t": 2, "angle": 3, "phase": 3, "z": 1, "y": 64, "x": 64}
    (tmp_path / "text.tif").write_text("no picture")
    failed = json.loads(call("inspect", tmp_path / "text.tif", "-c", config, "-s", "sim", "--json", code=1))
    assert failed["status"] == "fail"


def test_inspect_all_samples_of_an_experiment(recording, tmp_path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(SMALL_CONFIG)
    sheet = f"sample\tpath\tsystem\none\t{recording}\tsim\n"
    (tmp_path / "samples.tsv").write_text(sheet)
    assert "1 sample (1 pass)" in call("inspect", "--config", config)
    (tmp_path / "samples.tsv").write_text(sheet + "two\tnowhere.tif\tsim\n")
    text = call("inspect", "--config", config, code=1)
    assert "two: fail: " in text
    assert "2 samples (1 pass, 1 fail)" in text
    assert [s["status"] for s in json.loads(call("inspect", "-c", config, "--json", code=1))] == ["pass", "fail"]
    for wrong in ((), ("--config", config, "--system", "sim"), ("--system", "sim")):
        assert "name a FILE" in call("inspect", *wrong, code=2)


def test_inspect_refuses_weights_that_are_not_there(recording, tmp_path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        "samples: samples.tsv\nsystems:\n  speckle: {kind: speckle, optics: {na: 1.0, emission_wavelength_um: 0.52}, "
        "solver: {methods: [ubsim], weights: nothere.safetensors}}\n"
    )
    (tmp_path / "samples.tsv").write_text(f"sample\tpath\tsystem\none\t{recording}\tspeckle\n")
    text = " ".join(call("inspect", "--config", config, code=2).split())
    assert "systems.speckle.solver.weights: " in text
    assert "nothere.safetensors: there is no such file of weights" in text


def test_init_writes_what_the_files_say_and_lists_the_rest(recording) -> None:
    folder = recording.parent
    text = call("init", folder)
    assert "FILL IN" in text
    assert "optics.na" in text
    sheet = (folder / "config" / "samples.tsv").read_text()
    assert "er_small\t../er_small.ome.tif\ttif_488" in sheet
    assert "is there already" in call("init", folder, code=2)
    # what must be filled in is named by the check of the config
    text = call("inspect", recording, "--config", folder / "config" / "config.yaml", code=2)
    assert "systems.tif_488.illumination.angles: is empty, must be" in text
    # the order of frames is left open too: a blank, never a likely value
    written = yaml.safe_load((folder / "config" / "config.yaml").read_text())
    assert written["systems"]["tif_488"]["frames"]["order"] is None


def test_reconstruct_one_file(recording, tmp_path) -> None:
    config = tmp_path / "config.yaml"
    unseen = "held_out: [1]\n  seeds: 2"  # fits that nobody would see
    config.write_text(SMALL_CONFIG.replace("steps: 20", "steps: 3").replace("held_out: [1]", unseen))
    out = tmp_path / "out.ome.zarr"
    call("reconstruct", recording, out, "--config", config, "--system", "sim", "--acquisitions", "0:1")
    assert open_timelapse(out).sizes["t"] == 3
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert "number or a slice" in call(
        *("reconstruct", recording, out, "--config", config, "--system", "sim", "--acquisitions", "x"), code=2
    )


def test_preview_makes_a_movie_and_says_what_the_whole_costs(recording, tmp_path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(SMALL_CONFIG.replace("steps: 20", "steps: 3"))
    out = tmp_path / "out.ome.zarr"
    given = ("--config", config, "--system", "sim", "--acquisitions", "0:1", "--crop", "0:48,0:64", "--preview")
    text = call("reconstruct", recording, out, *given)
    assert open_timelapse(out).sizes["y"] == 96
    assert (tmp_path / "out.mp4").stat().st_size > 1000
    assert (tmp_path / "out.png").is_file()
    assert "preview: 1 acquisition(s) of 48 x 64 px" in text
    assert "the whole: 2 acquisition(s) of 64 x 64 px, and 3 more fits" in text


def test_nothing_but_a_result_is_ever_replaced(recording, tmp_path) -> None:
    config, precious = tmp_path / "config.yaml", tmp_path / "mine" / "notes.txt"
    config.write_text(SMALL_CONFIG)
    precious.parent.mkdir()
    precious.write_text("years of work")
    for out in (precious.parent, precious):
        text = call("reconstruct", recording, out, "--config", config, "--system", "sim", code=2)
        assert "name another place" in text
    truth = recording.parent / "er_small_truth.ome.zarr"
    assert "is a folder" in call("export", truth, precious.parent, code=2)
    assert precious.read_text() == "years of work"


def test_export_keeps_scale_and_interval(tmp_path) -> None:
    images = np.random.default_rng(0).random((3, 2, 1, 8, 9), dtype=np.float32)
    store, out = tmp_path / "a.ome.zarr", tmp_path / "a.tif"
    write_timelapse(
        store,
        images,
        times_s=[0.0, 0.5, 1.0],
        pixel_um=0.05,
        z_step_um=None,
        label="test",
        channels=["a", "b"],
        effective_transfer="none",
        flags=["", "", ""],
        provenance={},
        extra={},
    )
    call("export", store, out)
    with tifffile.TiffFile(out) as tif:
        assert tif.imagej_metadata["finterval"] == pytest.approx(0.5)
        assert tif.pages[0].tags["XResolution"].value[0] / tif.pages[0].tags["XResolution"].value[1] == pytest.approx(
            20
        )
        assert np.array_equal(tif.asarray().squeeze(), images[:, :, 0])
    assert call("export", tmp_path / "none.ome.zarr", out, code=2)


def test_status_and_summary(tmp_path) -> None:
    def write(sample: str, name: str, **content) -> None:
        (tmp_path / sample).mkdir(exist_ok=True)
        (tmp_path / sample / name).write_text(json.dumps(content))

    write("good", "inspect.json", status="pass", reasons=[])
    write("good", "trust.json", status="pass", reasons=[])
    write("good", "movie.mp4")
    write("good", "metrics.json", methods={"nstm": {"mean": {"psnr_plain": 20.04, "ssim": None}}}, residual=1.5)
    write("half", "inspect.json", status="pass", reasons=[])
    text = call("status", tmp_path)
    assert "1 finished, 1 unfinished" in text
    assert "half  unfinished: waits for the look at its file" in text
    write("bad", "inspect.json", status="fail", reasons=[{"message": "no \x1b[31mfile"}])
    text = call("status", tmp_path, code=1)
    assert "inspect: no  [31mfile" in text
    write("torn", "inspect.json")
    (tmp_path / "torn" / "inspect.json").write_text("{")
    assert "torn" in call("status", tmp_path, code=1)
    assert "20.0" in call("summary", tmp_path)
    assert "run the workflow first" in call("status", tmp_path / "nowhere", code=2)
