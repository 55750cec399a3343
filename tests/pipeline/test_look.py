"""Facts of recordings and experiments, and the text that shows them."""

import re

import numpy as np
import pytest
import tifffile
import yaml

from nstm.acquisition import DataError
from nstm.pipeline.facts_text import as_json_text, experiment_text, file_text, reason_lines
from nstm.pipeline.look import look_at_experiment, look_at_file
from nstm.pipeline.table import WIDTH, columns
from tests.files import czi, mrc, nd2

OPTICS = {"na": 1.4, "emission_wavelength_um": 0.525, "excitation_wavelength_um": 0.488, "pixel_um": 0.065}


def _config(folder, rows, order="t angle phase", **systems):
    config = {
        "samples": "samples.tsv",
        "systems": {"sim": {"kind": "sim", "optics": OPTICS, "frames": {"order": order}}, **systems},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = ["sample\tpath\tsystem", *("\t".join([*row, "sim"][:3]) for row in rows)]
    (folder / "samples.tsv").write_text("\n".join(lines) + "\n")
    return folder / "config.yaml"


@pytest.fixture
def raw(tmp_path):
    """A hyperstack of two acquisitions with hostile metadata."""
    planes = np.random.default_rng(0).integers(0, 4000, (18, 16, 24)).astype(np.uint16)
    metadata = {"axes": "TYX", "Info": "<b>\x1b[31mred " + "x" * 3000, "finterval": 0.5}
    tifffile.imwrite(tmp_path / "raw.tif", planes, imagej=True, metadata=metadata)
    return tmp_path / "raw.tif"


def _numbers_of(found):
    """Every number that a person must find in the text."""
    yield from (f"{name} = {length}" for name, length in found["source_axes"].items())
    yield from (f"{found['optics'][name]:.5g}" for name in found["optics_origin"])
    yield from (f"{found['counts'][name]:.5g}" for name in ("min", "low", "median", "high", "max"))
    yield " x ".join(map(str, found["plane_shape"]))
    if found["times"]["origin"] == "read":
        yield f"{found['times']['frame_interval_s']:.6g} s"


@pytest.mark.parametrize("family", [czi, mrc, nd2])
def test_the_text_holds_what_the_json_holds(family, tmp_path) -> None:
    found = look_at_file(str(family.example(tmp_path)))
    text = file_text(found)
    assert max(map(len, text.splitlines())) <= WIDTH
    for words in (*_numbers_of(found), found["format"], found["dtype"]):
        assert words in text
    for channel in found["channels"]:
        assert channel["name"] in text
    flat = " ".join(text.split())
    for entry in found["missing"]:
        assert f"{entry['key']} {entry['what']}, e.g. {entry['example']}" in flat
    for section in ("file", "frames", "times", "sampling and optics", "counts", "missing"):
        assert re.search(rf"^{section}$", text, re.MULTILINE)
    assert yaml.safe_load(as_json_text(found))["source_axes"] == found["source_axes"]


def test_with_a_config_the_reading_is_shown(raw, tmp_path) -> None:
    found = look_at_file(str(raw), _config(tmp_path, []), "sim")
    text = file_text(found)
    for words in (
        "t angle phase, from the config",
        "t = 2, angle = 3, phase = 3, z = 1, y = 16, x = 24",
        "2 of 2 recorded",
        "read from the file",
        "0.065  from the config",
        "status: pass",
    ):
        assert words in text
    assert not re.search(r"^missing$", text, re.MULTILINE)


def test_text_of_files_cannot_command_the_terminal_and_stays_short(raw) -> None:
    found = look_at_file(str(raw))
    for text in (file_text(found), as_json_text(found)):
        assert "\x1b" not in text
    assert max(map(len, file_text(found).splitlines())) <= WIDTH


def test_what_cannot_be_used_is_still_described(raw, tmp_path) -> None:
    found = look_at_file(str(raw), _config(tmp_path, [], order=None), "sim")
    text = file_text(found)
    assert "status: fail" in text
    assert "T = 18" in text
    assert "fail: " in text
    assert "systems.sim.frames.order" in text.split("\nmissing\n")[1]
    absent = file_text(look_at_file(str(tmp_path / "none.tif"), tmp_path / "config.yaml", "sim"))
    assert absent.startswith("reasons")
    with pytest.raises(DataError, match="no such file"):
        look_at_file(str(tmp_path / "none.tif"))


def test_every_sample_of_an_experiment_has_a_line(raw, tmp_path) -> None:
    (tmp_path / "text.tif").write_text("no picture")
    rows = [("good", "raw.tif"), ("bad", "text.tif"), ("demo", "simulated/er_small.ome.tif")]
    samples = look_at_experiment(_config(tmp_path, rows))
    assert [(s["sample"], s["status"]) for s in samples] == [("good", "pass"), ("bad", "fail"), ("demo", "later")]
    text = experiment_text(samples)
    lines = {line.split()[0]: line for line in text.splitlines()[1:4]}
    size = f"{raw.stat().st_size / 1000:.1f} kB"
    assert lines["good"].split() == f"good pass 2 T = 18 config read {size} 13.8 kB".split()
    assert lines["bad"].split()[1:3] == ["fail", "-"]
    assert "bad: fail: " in text
    assert "text file" in " ".join(text.split())  # wrapped where the path to it ends
    assert "the workflow simulates" in text
    *_, totals, disk = text.splitlines()
    assert totals == f"3 samples (1 pass, 1 fail, 1 later); files {size}, raw stores 13.8 kB before compression"
    assert disk.startswith("results with raw stores: at most ")
    assert max(map(len, text.splitlines())) <= WIDTH


def test_a_table_within_a_reason_keeps_its_lines() -> None:
    table = "order is missing\n  1. t angle phase   0.91\n  2. t phase angle   0.10"
    lines = reason_lines([{"severity": "fail", "message": table}], "one: ")
    assert lines == [
        "  one: fail: order is missing",
        "      1. t angle phase   0.91",
        "      2. t phase angle   0.10",
    ]


def test_columns_are_aligned_and_wrapped_under_their_beginning() -> None:
    lines = columns([("a", "bb", "word " * 40), ("long", "b", "end")])
    assert lines[0].startswith("  a     bb  word word")
    assert lines[-1] == "  long  b   end"
    assert all(line.startswith(" " * 12 + "word") for line in lines[1:-1])
    assert sum(line.count("word") for line in lines) == 40
    assert max(map(len, lines)) <= WIDTH
    assert columns([]) == []


REAL = [  # data/README.md: axes, pixel, emission, rows
    ("sim/er_timelapse_tirf/ER_1.tif", {"Z": 3, "C": 9}, None, None, []),
    ("sim/omx_3d/raw.tif", {"Z": 135}, 0.08, None, []),
    ("sim/omx_3d/raw.dv", {"Z": 135}, 0.08, 0.528, ["y"]),
    ("sim/microtubules_dv/MT.mrc", {"Z": 9}, 0.0626, 0.525, ["y"]),
    ("vendor/dv/toxo.dv", {"C": 2, "Z": 17}, 0.1326, 0.525, ["y"]),
    ("vendor/czi/LLS7_small.czi", {"T": 2, "C": 2, "Z": 3}, 0.145, 0.642, []),
]


@pytest.mark.parametrize(("name", "axes", "pixel_um", "emission_um", "flips"), REAL)
def test_real_files(name, axes, pixel_um, emission_um, flips, shared_data) -> None:
    found = look_at_file(str(shared_data / name))
    assert (found["source_axes"], found["flips"]) == (axes, flips)
    assert found["pixel_um"] == (None if pixel_um is None else pytest.approx(pixel_um, rel=2e-3))
    stated = found["optics"].get("emission_wavelength_um")
    assert stated == (None if emission_um is None else pytest.approx(emission_um, rel=2e-3))
    assert max(map(len, file_text(found).splitlines())) <= WIDTH
