"""What products tell of their origin, on stores written as the stages write them."""

import hashlib
import json
import shutil

import numpy as np
import pytest
import tifffile
import zarr

from nstm.acquisition import DataError
from nstm.io.jsonfile import write_json
from nstm.io.store import open_raw, write_failed, write_timelapse
from nstm.pipeline.convert import run_convert
from nstm.pipeline.experiment import Experiment
from nstm.pipeline.fits import keep_record
from nstm.pipeline.lineage import lineage, versions
from nstm.pipeline.provenance import check_sources, describe_provenance, differing, provenance_text

CONFIG = {
    "samples": "samples.tsv",
    "systems": {
        "tirf": {
            "kind": "sim",
            "optics": {
                "na": 1.4,
                "index": 1.518,
                "emission_wavelength_um": 0.515,
                "excitation_wavelength_um": 0.488,
                "pixel_um": 0.065,
            },
            "frames": {"order": "t angle phase"},
            "reconstruction": {"steps": 7},
        }
    },
    "reconstruction": {"multigrid": {"scene_levels": 3}, "acquisitions_per_job": 1},
}


def _timelapse(path, raw, params, **more):
    write_timelapse(
        path,
        np.zeros((2, 1, 1, 4, 4), np.float32),
        times_s=[0.0, 1.0],
        pixel_um=0.03,
        z_step_um=None,
        label=path.name.removesuffix(".ome.zarr"),
        channels=["a"],
        effective_transfer="x",
        flags=["", ""],
        provenance=lineage(raw, params, **more),
    )


def _fit(path, raw, params):
    group = zarr.create_group(str(path))
    group.attrs["nstm"] = {"schema": 1, "first": 0, "acquisitions": [{}], "provenance": lineage(raw, params)}


@pytest.fixture
def results(tmp_path):
    """The results folder of one sample with the stores of its stages."""
    raw_file = tmp_path / "cell.tif"
    frames = np.random.default_rng(0).integers(0, 99, (19, 16, 16)).astype(np.uint16)
    tifffile.imwrite(raw_file, frames, photometric="minisblack")
    (tmp_path / "samples.tsv").write_text("sample\tpath\tsystem\tcrop\ncell\tcell.tif\ttirf\t0:16,0:8\n")
    experiment = Experiment.load(CONFIG, tmp_path)
    folder = tmp_path / "results" / "cell"
    write_json(folder / "inspect.json", {"status": "pass", "reasons": []})
    run_convert(experiment.stage_params("cell", "convert"), folder / "inspect.json", folder / "raw.ome.zarr")
    raw = open_raw(folder / "raw.ome.zarr")
    for first in (0, 1):
        job = tmp_path / f"job{first}.zarr"
        _fit(job, raw, experiment.stage_params("cell", "reconstruct", first, first))
        keep_record(job, folder / "fits" / f"0000{first}-0000{first}.zarr")
    _timelapse(folder / "timelapse" / "nstm.ome.zarr", raw, experiment.stage_params("cell", "assemble"))
    _timelapse(folder / "timelapse" / "widefield.ome.zarr", raw, experiment.stage_params("cell", "conventional"))
    (folder / "movie.mp4").write_bytes(b"x")
    (folder.parent / "report.html").write_text("<html>")
    return folder


def _stages(found):
    return [(step["stage"], step["place"]) for step in found["chain"]]


def test_a_result_tells_files_choices_versions_and_settings(results, tmp_path):
    found = describe_provenance(results / "timelapse" / "nstm.ome.zarr")
    content = (tmp_path / "cell.tif").read_bytes()
    assert found["source"]["files"] == [
        {"path": str(tmp_path / "cell.tif"), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    ]
    assert (found["sample"], found["nstm"], found["versions"]) == ("cell", versions()["nstm"], versions())
    assert found["source"]["order"] == "t angle phase"
    assert found["source"]["dropped_planes"] == 1
    assert found["source"]["crop"] == "0:16,0:8"
    assert found["time_origin"] == "assumed"
    assert found["optics"]["na"]["value"] == 1.4
    assert found["optics"]["pixel_um"] == {"value": 0.065, "origin": "config"}
    assert _stages(found) == [
        ("convert", "raw.ome.zarr"),
        ("reconstruct", "fits/00000-00000.zarr"),
        ("reconstruct", "fits/00001-00001.zarr"),
        ("assemble", "nstm.ome.zarr"),
    ]
    fitted = found["chain"][1]["settings"]
    assert fitted["reconstruction.steps"] == 7  # the system's own
    assert fitted["reconstruction.multigrid.scene_levels"] == 3
    assert not {key for key in fitted if "motion" in key or "camera" in key}  # defaults are left out
    assert found["chain"][0]["settings"]["sample.crop"] == "0:16,0:8"
    assert found["notes"] == []
    assert json.loads(json.dumps(found)) == found


def test_raw_frames_tell_of_themselves_alone(results):
    found = describe_provenance(results / "raw.ome.zarr")
    assert found["product"] == "raw frames"
    assert _stages(found) == [("convert", "raw.ome.zarr")]
    assert len(found["source"]["files"]) == 1


@pytest.mark.parametrize("product", ["movie.mp4", "", "../report.html", ".."])
def test_what_carries_no_record_is_told_by_the_stores_beside_it(product, results):
    found = describe_provenance(results / product if product else results)
    found = found.get("samples", [found])[0]
    assert {stage for stage, _ in _stages(found)} == {"convert", "reconstruct", "assemble", "conventional"}
    assert found["nstm"] is None
    assert "no record of its own" in found["notes"][0]
    assert len(found["source"]["files"]) == 1


def test_the_chain_survives_the_removal_of_the_raw_store(results):
    before = describe_provenance(results / "timelapse" / "nstm.ome.zarr")
    shutil.rmtree(results / "raw.ome.zarr")
    found = describe_provenance(results / "timelapse" / "nstm.ome.zarr")
    assert found["source"] == before["source"]
    assert found["optics"] == before["optics"]
    assert found["chain"][0] == {**before["chain"][0], "place": "raw.ome.zarr (removed)"}


def test_a_result_elsewhere_brings_the_settings_of_its_fits(results, tmp_path):
    raw = open_raw(results / "raw.ome.zarr")
    params = {"numerics": 1, "reconstruction": {"steps": 9}}
    _timelapse(tmp_path / "out.ome.zarr", raw, {"numerics": 1}, before={"reconstruct": params})
    found = describe_provenance(tmp_path / "out.ome.zarr")
    assert [stage for stage, _ in _stages(found)] == ["convert", "reconstruct", "assemble"]
    assert found["chain"][1]["settings"] == {"reconstruction.steps": 9}
    assert len(found["source"]["files"]) == 1


def test_versions_and_files_that_do_not_agree_are_told(results):
    meta = results / "raw.ome.zarr" / "zarr.json"
    content = json.loads(meta.read_text())
    origin = content["attributes"]["nstm"]["provenance"]
    origin["nstm"], origin["files"][0]["sha256"] = "9.9", "0" * 64
    meta.write_text(json.dumps(content))
    notes = " ".join(describe_provenance(results / "timelapse" / "nstm.ome.zarr")["notes"])
    assert "different versions of nstm" in notes
    assert "not made from the same source files" in notes


def _changed(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "hashes", "state"),
    [
        (lambda path: None, True, "unchanged"),
        (lambda path: path.unlink(), True, "absent"),
        (lambda path: path.write_bytes(b"x"), False, "other size: 1 bytes"),
        (_changed, True, "other content"),
        (_changed, False, "unchanged"),
    ],
)
def test_source_files_are_checked(change, hashes, state, results, tmp_path):
    found = describe_provenance(results.parent)
    change(tmp_path / "cell.tif")
    (check,) = check_sources(found, hashes)
    assert check["path"] == str(tmp_path / "cell.tif")
    assert check["state"].startswith(state)
    text = provenance_text(found, [check])
    assert f"checked: {int(state == 'unchanged')} of 1 source files unchanged" in text


def test_a_failed_sample_tells_why(results):
    write_failed(results / "raw.ome.zarr", [{"severity": "fail", "code": "x", "message": "file is cut"}])
    found = describe_provenance(results / "raw.ome.zarr")
    assert "could not be converted: file is cut" in " ".join(found["notes"])
    assert found["source"]["files"] == []
    assert check_sources(found) == []


@pytest.mark.parametrize(
    "block",
    [
        {"status": 3, "provenance": []},
        {"provenance": {"source": [], "params": "x", "nstm": 4}},
        {"provenance": {"params": {"system": "x", "sample": []}, "source": {"provenance": {"files": [{"path": 1}]}}}},
        {"acquisitions": None, "provenance": {"params": {"reconstruction": {"multigrid": 7, "new": {"x": 1}}}}},
    ],
)
def test_damaged_records_do_no_harm(block, tmp_path):
    group = zarr.create_group(str(tmp_path / "x.zarr"))
    group.attrs["nstm"] = block
    found = describe_provenance(tmp_path / "x.zarr")
    assert found["source"]["files"] == []
    assert provenance_text(found, check_sources(found))


def test_hostile_texts_stay_on_their_line(results):
    meta = results / "raw.ome.zarr" / "zarr.json"
    content = json.loads(meta.read_text())
    content["attributes"]["nstm"]["provenance"]["files"][0]["path"] = "a\n\x1b[31mb" * 3000
    meta.write_text(json.dumps(content))
    text = provenance_text(describe_provenance(results / "raw.ome.zarr"))
    assert all(line.isprintable() and len(line) < 6000 for line in text.splitlines())


def test_many_files_and_jobs_are_summed_up(results):
    found = describe_provenance(results)
    found["source"]["files"] *= 30
    found["chain"] += [found["chain"][1]] * 50
    text = provenance_text(found)
    assert "and 20 more files; all 30 have" in text
    assert len(text.splitlines()) < 60
    assert text.count("reconstruct:") == 1
    assert "setting system.frames.order = t angle phase" in text
    assert "reconstruction.steps = 7" in text


@pytest.mark.parametrize("name", ["nothing", "notes.txt", "empty"])
def test_other_things_are_no_products(name, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"nothing of this name|no product of a run"):
        describe_provenance(tmp_path / name)


def test_what_differs_from_the_defaults():
    assert differing({}) == {}
    params = {
        "numerics": 1,
        "sample": {"sample": "x", "channel": "0", "crop": None},
        "system": {"kind": "sim", "optics": {"na": 1.2, "upsampling": 2.0}, "camera": {"offset": 0.0}},
        "reconstruction": {"steps": 400, "static": [2]},
        "movie": {"height_px": 480, "panels": ["nstm"]},
    }
    assert differing(params) == {
        "system.optics.na": 1.2,
        "reconstruction.static": [2],
        "movie.panels": ["nstm"],
        "sample.channel": "0",
    }
    unknown = differing({"system": {"kind": "mine.py", "optics": {"na": 1.2}, "camera": {"offset": 3.0}, "mirror": 1}})
    assert unknown == {
        "system.kind": "mine.py",
        "system.optics.na": 1.2,
        "system.camera.offset": 3.0,
        "system.mirror": 1,
    }
