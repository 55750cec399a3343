"""A config and a sheet for a folder of recordings."""

import csv

import numpy as np
import pytest
import tifffile
import yaml

from nstm.acquisition import DataError
from nstm.pipeline.experiment import Experiment
from nstm.pipeline.init import todo_text, write_experiment
from nstm.pipeline.inspect import inspect_sample
from nstm.pipeline.sheet import read_sheet
from nstm.pipeline.table import WIDTH
from tests.files import czi, mrc, nd2, tiff

#: What a user knows of the microscope, and what the recordings of each family in tests/files hold.
KNOWN = {
    "optics": {
        "na": 1.2,
        "index": 1.33,
        "emission_wavelength_um": 0.6,
        "excitation_wavelength_um": 0.5,
        "pixel_um": 0.1,
    },
    "camera": {"offset": 90},
    "illumination": {"angles": 3, "phases": 3, "beams": 2},
    "frames": {"order": "t angle phase", "planes": 1},
}
SHORT = {"angles": 2}  # the ND2 has six planes


def _read(written):
    with written.sheet.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return yaml.safe_load(written.config.read_text()), rows


def _blanks(config):
    """Every key that is there and empty, as ``(system, section, key)``."""
    return [
        (name, part, key)
        for name, system in config["systems"].items()
        for part, keys in system.items()
        if isinstance(keys, dict)
        for key, value in keys.items()
        if value is None
    ]


def _filled(config, written):
    """The config with the keys filled in that the list of things to do names, and only these."""
    for name, keys in written.systems.items():
        for key in (key.name for key in keys if key.state == "blank"):
            part, _, last = key.partition(".")
            value = KNOWN[part][last]
            config["systems"][name][part][last] = SHORT.get(last, value) if name.startswith("nd2") else value
    return config


def _stack(path, *shape, axes, seed=0, **metadata):
    data = np.random.default_rng(seed).integers(0, 4000, (*shape, 16, 24)).astype(np.uint16)
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": axes, **metadata})
    return data


class TestOneFileOfEachFamily:
    @pytest.fixture
    def folder(self, tmp_path):
        for family in (czi, mrc, nd2, tiff):
            family.example(tmp_path)
        return tmp_path

    def test_every_sample_passes_when_the_listed_blanks_are_filled(self, folder) -> None:
        written = write_experiment(folder)
        config, rows = _read(written)
        assert [(row["system"], row["channel"]) for row in rows] == [
            ("czi_488", ""),
            ("dv_488", ""),
            ("nd2_488", "GFP"),
            ("nd2_561", "RFP"),
            ("tif", ""),
        ]
        experiment = Experiment.load(_filled(config, written), written.config.parent)
        for name in experiment.samples:
            stage = experiment.stage(name, "inspect")
            found = inspect_sample(stage.sample, stage.system)
            assert found["status"] != "fail", found["reasons"]
            assert found["sizes"]["t"] == (1 if name.startswith("example_nd2") else 2)

    def test_what_the_files_say_is_left_to_them(self, folder) -> None:
        written = write_experiment(folder)
        config, _ = _read(written)
        elyra = config["systems"]["czi_488"]
        assert elyra["illumination"] == {"angles": 3, "phases": 3, "beams": None}
        assert elyra["frames"] == {"planes": 1}
        assert elyra["optics"] == {}
        text = written.config.read_text()
        for line in (
            "# na: read from the file (1.4)",
            "# pixel_um: read from the file (0.0645)",
            "# order: read from the file (t angle phase)",
            "# exposure_s: read from the file (the times of all planes)",
            "# flips: read from the file (y)",
        ):
            assert line in text
        filled = _filled(config, written)
        stage = Experiment.load(filled, written.config.parent).stage("example_nd2_GFP", "inspect")
        found = inspect_sample(stage.sample, stage.system)
        assert found["optics_origin"]["emission_wavelength_um"] == "file"

    def test_blanks_are_those_that_are_listed_and_marked(self, folder) -> None:
        written = write_experiment(folder)
        config, _ = _read(written)
        asked = {
            (name, *key.name.split("."))
            for name, keys in written.systems.items()
            for key in keys
            if key.state in ("blank", "open")
        }
        assert set(_blanks(config)) == asked
        marked = written.config.read_text().count("FILL IN") - 1  # the head explains it
        assert marked == sum(key.state == "blank" for keys in written.systems.values() for key in keys)
        text = todo_text(written)
        for _, part, key in asked:
            assert f"{part}.{key}" in text
        assert max(len(line) for line in text.splitlines() if str(folder) not in line) <= WIDTH

    def test_every_line_of_the_config_says_what_it_is(self, folder) -> None:
        lines = write_experiment(folder).config.read_text().splitlines()
        assert all("#" in line for line in lines if line.strip() and not line.endswith(":"))
        assert max(len(line) for line in lines if "nstm inspect" not in line) <= 120

    @pytest.fixture
    def left_empty(self, folder):
        """The experiment with one key of the system ``tif`` left empty, all others filled in."""

        def load(key):
            written = write_experiment(folder)
            config = _filled(_read(written)[0], written)
            part, _, last = key.partition(".")
            config["systems"]["tif"][part][last] = None
            return Experiment.load(config, written.config.parent).stage("example_tif", "inspect")

        return load

    @pytest.mark.parametrize("key", ["optics.na", "optics.excitation_wavelength_um", "optics.pixel_um", "frames.order"])
    def test_a_blank_that_stays_empty_is_named_by_the_inspection(self, key, left_empty) -> None:
        stage = left_empty(key)
        assert stage.sample.path.endswith(".tif")
        found = inspect_sample(stage.sample, stage.system)
        assert found["status"] == "fail"
        assert key in found["reasons"][0]["message"]
        assert [entry["key"] for entry in found["missing"]] == [f"systems.tif.{key}"]

    @pytest.mark.parametrize("key", ["frames.planes", "camera.offset", "illumination.angles", "illumination.beams"])
    def test_a_blank_that_stays_empty_is_named_by_the_check_of_the_config(self, key, left_empty) -> None:
        with pytest.raises(DataError, match=rf"1 problem\n  - systems.tif.{key}: is empty, must be"):
            left_empty(key)

    def test_an_empty_exposure_means_assumed_times(self, folder) -> None:
        written = write_experiment(folder)
        config = _filled(_read(written)[0], written)
        assert config["systems"]["tif"]["frames"]["exposure_s"] is None
        stage = Experiment.load(config, written.config.parent).stage("example_tif", "inspect")
        assert inspect_sample(stage.sample, stage.system)["times"]["origin"] == "assumed"


def test_recordings_that_are_alike_share_a_system(tmp_path) -> None:
    for name, count, pixel in (("a", 9, 0.08), ("b", 18, 0.08), ("c", 9, 0.1)):
        data = np.zeros((count, 8, 8), np.uint16)
        tifffile.imwrite(
            tmp_path / f"{name}.tif",
            data,
            imagej=True,
            resolution=(1 / pixel, 1 / pixel),
            metadata={"axes": "TYX", "unit": "micron"},
        )
    _stack(tmp_path / "d.tif", 9, axes="ZYX")
    _, rows = _read(write_experiment(tmp_path))
    assert {row["sample"]: row["system"] for row in rows} == {"a": "tif", "b": "tif", "c": "tif_2", "d": "tif_3"}


def test_a_row_for_every_channel_and_position(tmp_path) -> None:
    frames = np.random.default_rng(0).integers(0, 4000, (1, 3, 3, 1, 2, 8, 9)).astype(np.uint16)
    czi.write_elyra_czi(tmp_path / "cell 1.czi", frames)
    with tifffile.TiffWriter(tmp_path / "wells.ome.tif", ome=True) as writer:
        for name in ("A1", "B2"):
            writer.write(
                np.zeros((9, 8, 8), np.uint16), photometric="minisblack", metadata={"axes": "TYX", "Name": name}
            )
    written = write_experiment(tmp_path)
    _, rows = _read(written)
    assert [(r["sample"], r["system"], r["channel"], r["position"], r["group"]) for r in rows] == [
        ("cell_1_SR-SIM_488", "czi_488", "SR-SIM 488", "", "cell_1"),
        ("cell_1_SR-SIM_561", "czi_561", "SR-SIM 561", "", "cell_1"),
        ("wells_A1", "tif", "", "A1", "wells"),
        ("wells_B2", "tif", "", "B2", "wells"),
    ]
    assert [row.position for row in read_sheet(written.sheet)] == [None, None, "A1", "B2"]


def test_unnamed_channels_are_told_what_they_are_taken_for(tmp_path) -> None:
    _stack(tmp_path / "frames.tif", 3, 9, axes="TCYX")
    _stack(tmp_path / "colours.tif", 9, 2, axes="TCYX")
    written = write_experiment(tmp_path)
    rows = [(row.sample, row.source.channel.cell) for row in written.rows]
    assert rows == [("colours_0", "0"), ("colours_1", "1"), ("frames", None)]
    assert ["2 channels" in note and "colours" in note for note in written.notes] == [True, False]
    assert "9 channels without names are taken for frames" in written.notes[1]


def test_numbered_images_of_one_plane_are_one_recording(tmp_path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    planes = np.random.default_rng(0).integers(0, 4000, (12, 8, 8)).astype(np.uint16)
    for number, plane in enumerate(planes, start=1):
        tifffile.imwrite(folder / f"frame_{number}.tif", plane, photometric="minisblack")
    tifffile.imwrite(tmp_path / "alone.tif", planes[0], photometric="minisblack")
    written = write_experiment(tmp_path)
    (row,) = read_sheet(written.sheet)
    assert row.sample == "frame"
    assert [path.name for path in row.files()] == [f"frame_{n}.tif" for n in range(1, 13)]
    (note,) = written.notes
    assert "alone.tif: 1 plane, fewer" in note


def test_what_is_no_recording_is_skipped_and_what_is_damaged_is_listed(tmp_path) -> None:
    _stack(tmp_path / "good.tif", 9, axes="TYX")
    whole = (tmp_path / "good.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "renamed.dat").write_bytes(whole)
    (tmp_path / "notes.txt").write_text("a note")
    (tmp_path / "table.csv").write_text("1,2")
    (tmp_path / ".hidden.tif").write_bytes(b"")
    for name in ("results", "config_old.ome.zarr", ".snakemake", "simulated"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inside.tif").write_bytes(whole)
    (tmp_path / "to_nowhere.tif").symlink_to(tmp_path / "nothing")
    written = write_experiment(tmp_path)
    assert sorted(row.sample for row in written.rows) == ["good", "renamed"]
    (note,) = written.notes
    assert "cut.tif: truncated" in note
    assert "cut.tif" in todo_text(written)


def test_names_are_unique_and_safe(tmp_path) -> None:
    for folder in ("day 1", "day 2"):
        (tmp_path / folder).mkdir()
        _stack(tmp_path / folder / "cell.tif", 9, axes="TYX")
    for name in ("Größe µ(1).tif", "logs.tif", "LOGS_2.tif", "-..tif", "ÿ.tif"):
        _stack(tmp_path / name, 9, axes="TYX")
    written = write_experiment(tmp_path)
    names = [row.sample for row in read_sheet(written.sheet)]
    assert len({name.lower() for name in names}) == len(names) == 7
    assert {"day_1_cell", "day_2_cell", "Gr_e_1"} <= set(names)
    assert not {"logs"} & {name.lower() for name in names}


def test_paths_that_no_sheet_can_hold_are_left_out(tmp_path) -> None:
    _stack(tmp_path / "good.tif", 9, axes="TYX")
    _stack(tmp_path / "a\tb.tif", 9, axes="TYX")
    written = write_experiment(tmp_path)
    assert [row.sample for row in written.rows] == ["good"]
    assert "rename the file" in written.notes[0]


def test_text_of_files_stays_a_comment(tmp_path) -> None:
    name = "x'\n  evil: 1 # {}"
    channels = {"Name": [name, name + "2"]}
    data = np.zeros((9, 2, 8, 8), np.uint16)
    tifffile.imwrite(tmp_path / "a: {b}.ome.tif", data, ome=True, metadata={"axes": "TCYX", "Channel": channels})
    written = write_experiment(tmp_path)
    config, rows = _read(written)
    assert set(config) == {"samples", "systems", "reconstruction"}
    assert set(config["systems"]) == {row["system"] for row in rows}
    assert all(set(system) <= {"kind", *KNOWN} for system in config["systems"].values())


def test_a_folder_without_recordings_is_refused_and_nothing_is_written(tmp_path) -> None:
    (tmp_path / "bad.tif").write_bytes(b"II*\0")
    with pytest.raises(DataError, match=r"no recording was found .*\n  - left out: .*bad.tif"):
        write_experiment(tmp_path)
    assert not (tmp_path / "config").exists()
    with pytest.raises(DataError, match="there is no folder"):
        write_experiment(tmp_path / "nowhere")


def test_a_config_that_is_there_is_never_overwritten(tmp_path) -> None:
    _stack(tmp_path / "good.tif", 9, axes="TYX")
    written = write_experiment(tmp_path)
    written.config.unlink()
    with pytest.raises(DataError, match="is there already"):
        write_experiment(tmp_path)
    assert not written.config.exists()


def test_real_files(shared_data, tmp_path) -> None:
    for name in (
        "vendor/czi/LLS7_small.czi",
        "vendor/dv/toxo.dv",
        "sim/microtubules_dv/MT.mrc",
        "sim/er_timelapse_tirf/ER_1.tif",
        "sim/er_timelapse_tirf/ER_2.tif",
        "sim/omx_3d/otf.dv",
    ):
        (tmp_path / name.rpartition("/")[2]).symlink_to(shared_data / name)
    written = write_experiment(tmp_path)
    assert [(row.sample, row.system) for row in written.rows] == [
        ("ER_1", "tif"),
        ("ER_2", "tif"),
        ("LLS7_small_LatticeLightsheet_1-T1", "czi_561"),
        ("LLS7_small_LatticeLightsheet_2-T2", "czi_488"),
        ("MT", "dv_525"),
        ("toxo_525_nm", "dv_525_2"),
        ("toxo_632_nm", "dv_632"),
    ]
    assert any("otf.dv" in note and "transfer function" in note for note in written.notes)
    read = {key.name: key.value for key in written.systems["czi_561"] if key.state == "read"}
    assert read["optics.pixel_um"] == "0.145"
    assert read["optics.emission_wavelength_um"] == "0.642"
