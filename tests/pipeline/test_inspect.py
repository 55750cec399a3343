import json
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError, computed_times
from nstm.pipeline import inspect as inspecting
from nstm.pipeline.counts import MOST_PLANES
from nstm.pipeline.inspect import inspect_file, inspect_sample, order_candidates, run_inspect
from nstm.settings import Camera, FrameSettings
from nstm.systems.sim import Sim, SimOptics, SimSettings
from tests.files import czi, nd2


class FakeSystem:
    """The part of an imaging system that inspect and convert look at."""

    frame_axes: ClassVar = {"angle": 3, "phase": 3}
    block_axis = "angle"
    axis_labels: ClassVar = {"R": "angle", "H": "phase"}
    needed_optics = ("na", "emission_wavelength_um")
    usual_order = None
    usual_times = None
    simultaneous_axes = ()

    def rank_orders(self, read_plane, planes):
        return ""

    def __init__(self, order="t angle phase", pixel_um=0.065, na=1.49, saturation=None):
        optics = SimOptics(na=na, emission_wavelength_um=0.525, pixel_um=pixel_um)
        self.settings = SimpleNamespace(
            frames=FrameSettings(order=order), optics=optics, camera=Camera(saturation=saturation)
        )

    def times(self, acquisitions, order):
        axes = {**self.frame_axes, "z": 1}
        times = computed_times(acquisitions, axes, exposure_s=1.0, delays_s={}, interval_s=None, order=list(axes))
        return times, "assumed"


def _row(path, **more):
    row = {"sample": "one", "path": str(path), "system": "microscope"}
    choice = {"channel": None, "position": None, "acquisitions": None, "crop": None}
    return SimpleNamespace(**{**row, **choice, **more})


def _missing(found, needed=True):
    return [entry["key"] for entry in found["missing"] if entry["needed"] is needed]


@pytest.fixture
def planes():
    return np.random.default_rng(0).integers(0, 4000, (20, 16, 24)).astype(np.uint16)


@pytest.fixture
def two_positions(tmp_path, planes):
    """An OME-TIFF with two images of 9 planes."""
    path = tmp_path / "two.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        for name in ("A1", "B2"):
            writer.write(planes[:9], photometric="minisblack", metadata={"axes": "TYX", "Name": name})
    return path


def test_what_is_in_the_file(tmp_path, planes):
    tifffile.imwrite(tmp_path / "raw.tif", planes, imagej=True, metadata={"axes": "TYX", "Info": "<b>\x1bhi"})
    found = inspect_sample(_row(tmp_path / "raw.tif", crop="0:8,0:24"), FakeSystem(saturation=3000))
    assert found["schema"] == 1
    assert found["sample"] == "one"
    assert found["status"] == "warn"
    assert [r["code"] for r in found["reasons"]] == ["dropped_planes"]
    assert found["sizes"] == {"t": 2, "angle": 3, "phase": 3, "z": 1, "y": 8, "x": 24}
    size = (tmp_path / "raw.tif").stat().st_size
    assert found["files"] == [{"path": str(tmp_path / "raw.tif"), "bytes": size}]
    assert found["bytes"] == size
    assert (found["format"], found["source_axes"], found["dtype"]) == ("ImageJ TIFF", {"T": 20}, "uint16")
    assert found["plane_shape"] == [16, 24]
    assert (found["order"], found["order_origin"], found["flips"]) == ("t angle phase", "config", [])
    assert (found["dropped_planes"], found["raw_bytes"]) == (2, 2 * 9 * 8 * 24 * 2)
    assert (found["pixel_um"], found["pixel_origin"], found["z_step_um"]) == (0.065, "config", None)
    assert found["times"]["origin"] == "assumed"
    assert (found["times"]["duration_s"], found["times"]["frame_interval_s"]) == (17, 1)
    assert found["times"]["acquisition_interval_s"] == 9
    assert _missing(found) == []
    assert _missing(found, needed=False) == ["systems.microscope.frames.exposure_s"]
    assert found["optics"]["na"] == 1.49
    assert found["optics_origin"] == {"na": "config", "emission_wavelength_um": "config", "pixel_um": "config"}
    assert found["metadata"]["Info"] == "<b> hi"
    assert found["channels"] == [{"channel": None, "name": ""}]
    assert found["positions"] == []
    # counts of the part that is used, against the camera's own limit
    used = planes[np.array(found["counts"]["planes"]), :8].ravel()
    assert (found["counts"]["min"], found["counts"]["max"]) == (used.min(), used.max())
    assert found["counts"]["full_percent"] == pytest.approx(100 * np.mean(used >= 3000))


def test_only_a_few_planes_are_read(tmp_path, monkeypatch):
    from nstm.io.tiff import TiffImage

    data = np.random.default_rng(0).integers(0, 4000, (45, 16, 24)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "raw.tif", data, photometric="minisblack", compression="zlib")
    read, original = [], TiffImage.read_plane
    monkeypatch.setattr(TiffImage, "read_plane", lambda self, i: read.append(i) or original(self, i))
    assert inspect_sample(_row(tmp_path / "raw.tif"), FakeSystem())["status"] == "pass"
    assert len(read) == MOST_PLANES
    assert {0, 44} < set(read)


def test_numbers_of_the_file_carry_their_origin(tmp_path):
    path = czi.example(tmp_path)
    found = inspect_sample(_row(path), FakeSystem(order=None, pixel_um=None, na=None))
    assert found["status"] == "pass"
    assert (found["order"], found["order_origin"]) == ("t angle phase", "file")
    assert (found["pixel_um"], found["pixel_origin"]) == (pytest.approx(0.0645), "file")
    assert (found["optics"]["na"], found["optics_origin"]["na"]) == (1.4, "file")
    assert found["optics_origin"]["emission_wavelength_um"] == "config"
    assert found["times"]["origin"] == "read"
    assert found["times"]["exposure_s"] == pytest.approx(0.005)
    assert found["times"]["frame_interval_s"] == pytest.approx(0.02)
    assert found["times"]["acquisition_interval_s"] == pytest.approx(0.18)
    assert found["times"]["duration_s"] == pytest.approx(0.34)
    assert found["missing"] == []


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "no such file"), (b"", "empty file"), (b"hello", "text file"), (b"II*\0\x08\0\0\0", "truncated")],
)
def test_bad_data_are_a_status_with_a_reason(content, words, tmp_path):
    path = tmp_path / 'raw "1"\n.tif'
    if content is not None:
        path.write_bytes(content)
    found = inspect_sample(_row(path), FakeSystem())
    assert found["status"] == "fail"
    (reason,) = found["reasons"]
    assert (reason["severity"], reason["code"]) == ("fail", "unusable_data")
    assert words in reason["message"]
    assert reason["message"].isprintable()
    json.dumps(found, allow_nan=False)


def test_a_plane_that_cannot_be_decoded_is_a_reason(tmp_path, planes):
    path = tmp_path / "raw.tif"
    tifffile.imwrite(path, planes[:9], photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tif:
        place, length = tif.pages[4].dataoffsets[0], tif.pages[4].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[place : place + length] = bytes(length)
    path.write_bytes(content)
    found = inspect_sample(_row(path), FakeSystem())
    assert found["status"] == "fail"
    assert "plane 4 cannot be decoded" in found["reasons"][0]["message"]


def test_a_file_without_read_permission_is_the_users_matter(tmp_path, planes, monkeypatch):
    def denied(*args, **more):
        raise PermissionError(13, "Permission denied", "raw.tif")

    monkeypatch.setattr(inspecting, "open_acquisitions", denied)
    found = inspect_sample(_row(tmp_path / "raw.tif"), FakeSystem())
    assert found["status"] == "fail"
    assert "Permission denied" in found["reasons"][0]["message"]


def test_run_inspect_writes_json(tmp_path, planes, monkeypatch):
    tifffile.imwrite(tmp_path / "raw.tif", planes[:9], photometric="minisblack")
    stage = SimpleNamespace(sample=_row(tmp_path / "raw.tif"), system=FakeSystem())
    monkeypatch.setattr(inspecting.Stage, "from_params", lambda params: stage)
    run_inspect({}, tmp_path / "results" / "inspect.json")
    found = json.loads((tmp_path / "results" / "inspect.json").read_text())
    assert found["status"] == "pass"
    stage.sample.path = str(tmp_path / "absent.tif")
    run_inspect({}, tmp_path / "results" / "inspect.json")
    assert json.loads((tmp_path / "results" / "inspect.json").read_text())["status"] == "fail"


def test_all_that_is_missing_is_named_at_once(tmp_path, planes):
    tifffile.imwrite(tmp_path / "raw.tif", planes[:18], imagej=True, metadata={"axes": "TYX"})
    system = Sim(SimSettings(optics=SimOptics(excitation_wavelength_um=0.488)))
    found = inspect_sample(_row(tmp_path / "raw.tif"), system)
    keys = ["frames.order", "optics.na", "optics.emission_wavelength_um", "optics.pixel_um"]
    assert _missing(found) == [f"systems.microscope.{key}" for key in keys]
    assert all(entry["what"] and entry["example"] for entry in found["missing"])
    messages = " ".join(reason["message"] for reason in found["reasons"])
    assert all(messages.count(key) == 1 for key in keys)
    # what the file says is told all the same
    assert (found["status"], found["source_axes"], found["sizes"]) == ("fail", {"T": 18}, {})
    assert found["optics_origin"] == {"excitation_wavelength_um": "config"}
    assert found["counts"]["max"] == planes[np.array(found["counts"]["planes"])].max()


def test_volumes_need_the_distance_of_planes_and_the_index(tmp_path, planes):
    tifffile.imwrite(tmp_path / "raw.tif", planes[:18], imagej=True, metadata={"axes": "TYX"})
    settings = {
        "optics": {"na": 1.4, "emission_wavelength_um": 0.5, "excitation_wavelength_um": 0.488, "pixel_um": 0.08},
        "frames": {"order": "t angle z phase", "planes": 2},
    }
    found = inspect_sample(_row(tmp_path / "raw.tif"), Sim(SimSettings.model_validate(settings)))
    assert _missing(found) == ["systems.microscope.optics.index", "systems.microscope.optics.z_step_um"]


def test_one_of_several_positions_must_be_named_and_the_first_is_described(two_positions, planes):
    found = inspect_sample(_row(two_positions), FakeSystem())
    assert found["status"] == "fail"
    assert "give `position`" in found["reasons"][0]["message"]
    assert (found["positions"], found["position"], found["source_axes"]) == (["A1", "B2"], "A1", {"T": 9})
    assert "position" in _missing(found)
    named = inspect_sample(_row(two_positions, position="1"), FakeSystem())
    assert (named["sizes"]["t"], named["position"], _missing(named)) == (1, "1", [])
    alone = inspect_file(two_positions)
    assert (alone["positions"], alone["position"]) == (["A1", "B2"], "A1")
    assert _missing(alone)[0] == "position"
    assert inspect_file(two_positions, position="B2")["position"] == "B2"
    with pytest.raises(DataError, match="no position 'C3'"):
        inspect_file(two_positions, position="C3")


def test_one_of_several_channels_must_be_named_and_its_optics_count(tmp_path):
    frames = np.random.default_rng(0).integers(0, 4000, (1, 3, 3, 1, 2, 8, 9)).astype(np.uint16)
    path = czi.write_elyra_czi(tmp_path / "two.czi", frames)
    found = inspect_sample(_row(path), FakeSystem(order=None))
    assert found["status"] == "fail"
    assert [c["channel"] for c in found["channels"]] == ["SR-SIM 488", "SR-SIM 561"]
    assert [c["excitation_wavelength_um"] for c in found["channels"]] == pytest.approx([0.488, 0.561])
    assert _missing(found) == ["channel"]
    alone = inspect_file(path)
    assert _missing(alone)[0] == "channel"
    assert alone["optics"]["excitation_wavelength_um"] == pytest.approx(0.488)
    assert inspect_file(path, "1")["optics"]["excitation_wavelength_um"] == pytest.approx(0.561)
    with pytest.raises(DataError, match="no channel 'x' in the file"):
        inspect_file(path, "x")
    named = inspect_sample(_row(path, channel="SR-SIM 561"), FakeSystem(order=None))
    assert (named["channel"], named["optics"]["excitation_wavelength_um"]) == ("SR-SIM 561", pytest.approx(0.561))
    assert _missing(named) == []


def test_channels_recorded_at_once_have_times(tmp_path):
    found = inspect_file(nd2.example(tmp_path))
    assert (found["source_axes"]["C"], found["times"]["origin"]) == (2, "read")
    assert found["times"]["duration_s"] == pytest.approx(0.14)
    assert found["times"]["frame_interval_s"] == pytest.approx(0.02)
    assert "systems.NAME.frames.exposure_s" not in _missing(found, needed=False)


def test_channels_that_the_order_takes_for_frames_need_not_be_named(tmp_path, planes):
    path = tmp_path / "raw.tif"
    tifffile.imwrite(path, planes[:9].reshape(3, 3, 16, 24), imagej=True, metadata={"axes": "ZCYX"})
    assert _missing(inspect_sample(_row(path), FakeSystem())) == []
    assert _missing(inspect_sample(_row(path), FakeSystem(pixel_um=None))) == ["systems.microscope.optics.pixel_um"]


def test_without_a_config_the_labels_of_the_file_are_enough(tmp_path):
    found = inspect_file(czi.example(tmp_path))
    assert (found["status"], found["reasons"]) == ("pass", [])
    assert (found["order"], found["order_origin"]) == ("t angle phase", "file")
    assert found["times"]["origin"] == "read"
    assert found["times"]["frame_interval_s"] == pytest.approx(0.02)
    assert found["optics"]["emission_wavelength_um"] == pytest.approx(0.525)
    assert _missing(found) == ["systems.NAME.camera.offset", "systems.NAME.illumination.beams"]
    json.dumps(found, allow_nan=False)


def test_without_a_config_nothing_is_guessed(tmp_path, planes):
    tifffile.imwrite(tmp_path / "raw.tif", planes[:9], imagej=True, metadata={"axes": "TYX"})
    found = inspect_file(tmp_path / "raw.tif")
    assert (found["order"], found["pixel_um"], found["times"]["origin"]) == (None, None, None)
    assert (found["optics"], found["optics_origin"]) == ({}, {})
    left_open = {key.removeprefix("systems.NAME.") for key in _missing(found)}
    assert {"frames.order", "frames.planes", "illumination.angles", "optics.pixel_um", "optics.na"} < left_open


class TestOrderCandidates:
    """Orders that the frames speak for are shown where nothing states one."""

    @pytest.fixture
    def ranking(self):
        system = FakeSystem(order=None)
        asked = []

        def rank_orders(read_plane, planes):
            asked.append((read_plane(int(planes[1])), planes))
            return "  1. t angle phase  0.9\n  2. t phase angle  0.1"

        system.rank_orders = rank_orders
        return system, asked

    def test_the_reason_ends_with_the_table(self, tmp_path, ranking):
        system, asked = ranking
        pixels = np.random.default_rng(0).integers(0, 4000, (9, 2, 16, 24)).astype(np.uint16)
        path = nd2.write(
            tmp_path / "raw.nd2", pixels, [nd2.Loop(nd2.TIME, 9)], channels=[nd2.Channel("a"), nd2.Channel("b")]
        )
        found = inspect_sample(_row(path, channel="b"), system)
        assert found["reasons"][0]["message"].endswith("\n  1. t angle phase  0.9\n  2. t phase angle  0.1")
        ((plane, planes),) = asked
        np.testing.assert_array_equal(plane, pixels[1, 1])
        assert planes.size == 9
        assert "systems.microscope.frames.order" in _missing(found)

    def test_frames_that_tell_nothing_are_told(self, tmp_path, planes, ranking):
        system, _ = ranking
        system.rank_orders = lambda *arguments: (_ for _ in ()).throw(DataError("the fields are too small"))
        tifffile.imwrite(tmp_path / "raw.tif", planes[:9], imagej=True, metadata={"axes": "TYX"})
        message = inspect_sample(_row(tmp_path / "raw.tif"), system)["reasons"][0]["message"]
        assert "frames.order is missing" in message
        assert message.endswith("the fields are too small")

    def test_only_an_unknown_order_is_looked_for(self, tmp_path, planes, ranking):
        system, asked = ranking
        tifffile.imwrite(tmp_path / "raw.tif", planes[:8], photometric="minisblack")
        system.settings.frames = FrameSettings(order="t angle phase")
        found = inspect_sample(_row(tmp_path / "raw.tif"), system)
        assert "one acquisition has 9" in found["reasons"][0]["message"]
        assert order_candidates(DataError("something else"), _row(tmp_path / "raw.tif"), system) == ""
        assert asked == []
