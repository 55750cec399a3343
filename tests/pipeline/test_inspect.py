import json
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from nstm.acquisition import computed_times
from nstm.pipeline import inspect as inspecting
from nstm.pipeline.inspect import inspect_sample, run_inspect
from nstm.settings import Optics


class FakeSystem:
    """The part of an imaging system that inspect and convert look at."""

    frame_axes = {"angle": 3, "phase": 3}  # noqa: RUF012
    block_axis = "angle"

    def __init__(self, order="t angle phase", pixel_um=0.065):
        frames = SimpleNamespace(order=order, planes=1, exposure_s=None)
        optics = Optics(na=1.49, emission_wavelength_um=0.525, pixel_um=pixel_um)
        self.settings = SimpleNamespace(frames=frames, optics=optics)

    def times(self, acquisitions):
        axes = {**self.frame_axes, "z": 1}
        times = computed_times(acquisitions, axes, exposure_s=1.0, delays_s={}, interval_s=None, order=list(axes))
        return times, "assumed"


def _row(path, **more):
    row = {"sample": "one", "path": str(path), "channel": None, "position": None, "acquisitions": None, "crop": None}
    return SimpleNamespace(**{**row, **more})


@pytest.fixture
def planes():
    return np.random.default_rng(0).integers(0, 4000, (20, 16, 24)).astype(np.uint16)


def test_what_is_in_the_file(tmp_path, planes):
    tifffile.imwrite(tmp_path / "raw.tif", planes, imagej=True, metadata={"axes": "TYX", "Info": "<b>\x1bhi"})
    found = inspect_sample(_row(tmp_path / "raw.tif", crop="0:8,0:24"), FakeSystem())
    assert found["schema"] == 1
    assert found["sample"] == "one"
    assert found["status"] == "warn"
    assert [r["code"] for r in found["reasons"]] == ["dropped_planes"]
    assert found["sizes"] == {"t": 2, "angle": 3, "phase": 3, "z": 1, "y": 8, "x": 24}
    size = (tmp_path / "raw.tif").stat().st_size
    assert found["files"] == [{"path": str(tmp_path / "raw.tif"), "bytes": size}]
    assert (found["format"], found["source_axes"], found["dtype"]) == ("ImageJ TIFF", {"T": 20}, "uint16")
    assert (found["dropped_planes"], found["raw_bytes"]) == (2, 2 * 9 * 8 * 24 * 2)
    assert (found["pixel_um"], found["pixel_origin"], found["z_step_um"]) == (0.065, "config", None)
    assert found["times"] == {"origin": "assumed", "duration_s": 17.0}
    assert found["optics"]["na"] == 1.49
    assert found["metadata"]["Info"] == "<b> hi"


def test_no_pixel_is_read(tmp_path, planes, monkeypatch):
    from nstm.io.tiff import TiffImage

    tifffile.imwrite(tmp_path / "raw.tif", planes[:9], photometric="minisblack", compression="zlib")
    monkeypatch.setattr(TiffImage, "read_plane", lambda *a: pytest.fail("a pixel was read"))
    assert inspect_sample(_row(tmp_path / "raw.tif"), FakeSystem())["status"] == "pass"


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
