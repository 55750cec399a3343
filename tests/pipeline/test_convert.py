import hashlib
import os
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import tifffile

from nstm.acquisition import computed_times
from nstm.io.jsonfile import write_json
from nstm.io.store import open_raw, raw_status
from nstm.pipeline import convert as converting
from nstm.pipeline.convert import SourceHashes, convert_sample, run_convert
from nstm.settings import Optics

UNSET = {"flips": None, "montage": None, "acquisition_interval_s": None, "binning": 1}


class FakeSystem:
    """The part of an imaging system that inspect and convert look at."""

    frame_axes = {"angle": 3, "phase": 3}  # noqa: RUF012
    block_axis = "angle"

    def __init__(self):
        frames = SimpleNamespace(order="t angle phase", planes=1, exposure_s=0.1, **UNSET)
        optics = Optics(na=1.49, emission_wavelength_um=0.525, pixel_um=0.065)
        self.settings = SimpleNamespace(frames=frames, optics=optics)

    axis_labels: ClassVar = {}
    needed_optics = ()
    usual_order = None
    usual_times = None
    simultaneous_axes = ()

    def times(self, acquisitions, order):
        axes = {**self.frame_axes, "z": 1}
        times = computed_times(acquisitions, axes, exposure_s=0.1, delays_s={}, interval_s=None, order=list(axes))
        return times, "computed"


def _row(path):
    return SimpleNamespace(sample="one", path=str(path), channel=None, position=None, acquisitions=None, crop=None)


@pytest.fixture
def planes():
    return np.random.default_rng(0).integers(0, 4000, (20, 16, 24)).astype(np.uint16)


def test_frames_times_and_origin_are_in_the_store(tmp_path, planes):
    raw, out = tmp_path / "raw.tif", tmp_path / "raw.ome.zarr"
    tifffile.imwrite(raw, planes, photometric="minisblack", compression="zlib")
    convert_sample(_row(raw), FakeSystem(), out)
    found = open_raw(out)
    np.testing.assert_array_equal(found["frames"].values.reshape(18, 16, 24), planes[:18])
    assert raw_status(out)[0] == "warn"
    origin = found.attrs["source"]["provenance"]
    content = raw.read_bytes()
    assert origin["files"] == [{"path": str(raw), "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}]
    assert origin["dropped_planes"] == 2
    assert origin["source_axes"] == {"Q": 20}
    assert origin["optics"]["na"] == 1.49
    assert origin["time_origin"] == "computed"
    assert origin["nstm"]


def test_the_settings_and_the_versions_are_in_the_store(tmp_path, planes):
    tifffile.imwrite(tmp_path / "raw.tif", planes[:9], photometric="minisblack")
    convert_sample(_row(tmp_path / "raw.tif"), FakeSystem(), tmp_path / "raw.ome.zarr", {"numerics": 7})
    origin = open_raw(tmp_path / "raw.ome.zarr").attrs["source"]["provenance"]
    assert origin["params"] == {"numerics": 7}
    assert origin["versions"]["numpy"] == np.__version__
    assert origin["versions"]["nstm"] == origin["nstm"]


def test_every_file_of_a_sample_is_hashed_in_order(tmp_path, planes):
    for number in range(18):
        tifffile.imwrite(tmp_path / f"frame{number}.tif", planes[number], photometric="minisblack")
    convert_sample(_row(tmp_path / "frame*.tif"), FakeSystem(), tmp_path / "raw.ome.zarr")
    files = open_raw(tmp_path / "raw.ome.zarr").attrs["source"]["provenance"]["files"]
    assert [f["path"] for f in files] == [str(tmp_path / f"frame{n}.tif") for n in range(18)]
    assert [f["sha256"] for f in files] == [
        hashlib.sha256((tmp_path / f"frame{n}.tif").read_bytes()).hexdigest() for n in range(18)
    ]


def test_hashes_read_as_far_as_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(converting, "_PIECE", 100)
    contents = [b"", bytes(range(256)) * 4, b"x" * 976]
    files = [tmp_path / str(n) for n in range(3)]
    for file, content in zip(files, contents, strict=True):
        file.write_bytes(content)
    hashes = SourceHashes(files)
    for share in (0.1, 0.5, 0.5, 0.75):
        hashes.read(share)
        assert 2000 * share <= hashes.read_bytes < 2000 * share + 100
    found = hashes.finish()
    assert [f["bytes"] for f in found] == [0, 1024, 976]
    assert [f["sha256"] for f in found] == [hashlib.sha256(content).hexdigest() for content in contents]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are listed by Linux only")
def test_hashes_that_are_broken_off_leave_no_file_open(tmp_path):
    def is_open():
        return any(os.path.realpath(f"/proc/self/fd/{n}") == str(tmp_path / "x") for n in os.listdir("/proc/self/fd"))

    (tmp_path / "x").write_bytes(bytes(3 * 2**20))
    hashes = SourceHashes([tmp_path / "x"])
    hashes.read(0.1)
    assert is_open()
    hashes.close()
    assert not is_open()


def test_not_finite_values_are_converted_as_they_are(tmp_path, planes):
    data = planes[:9].astype(np.float32)
    data[3, 2] = np.nan
    data[4, 5] = np.inf
    tifffile.imwrite(tmp_path / "raw.tif", data, photometric="minisblack")
    convert_sample(_row(tmp_path / "raw.tif"), FakeSystem(), tmp_path / "raw.ome.zarr")
    np.testing.assert_array_equal(open_raw(tmp_path / "raw.ome.zarr")["frames"].values.reshape(9, 16, 24), data)


def _damage(path):
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages[-1].dataoffsets[0], tif.pages[-1].databytecounts[0]
    data = bytearray(path.read_bytes())
    data[start : start + count] = b"\xff" * count
    path.write_bytes(data)


def test_data_that_do_not_decode_make_a_failed_store(tmp_path, planes):
    tifffile.imwrite(tmp_path / "raw.tif", planes[:18], photometric="minisblack", compression="zlib", metadata=None)
    _damage(tmp_path / "raw.tif")
    convert_sample(_row(tmp_path / "raw.tif"), FakeSystem(), tmp_path / "raw.ome.zarr")
    status, (reason,) = raw_status(tmp_path / "raw.ome.zarr")
    assert status == "fail"
    assert "plane 17 cannot be decoded" in reason["message"]
    assert not (tmp_path / "raw.ome.zarr" / "0").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["raw.ome.zarr", "raw.tif"]


def test_a_full_disk_is_no_fault_of_the_data(tmp_path, planes, monkeypatch):
    tifffile.imwrite(tmp_path / "raw.tif", planes[:9], photometric="minisblack")

    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converting, "write_raw", full)
    with pytest.raises(OSError, match="No space left"):
        convert_sample(_row(tmp_path / "raw.tif"), FakeSystem(), tmp_path / "raw.ome.zarr")
    assert not (tmp_path / "raw.ome.zarr").exists()


def test_what_inspect_refused_is_not_opened_again(tmp_path, monkeypatch):
    reasons = [{"severity": "fail", "code": "unusable_data", "message": "cut"}]
    write_json(tmp_path / "inspect.json", {"status": "fail", "reasons": reasons})
    monkeypatch.setattr(converting, "convert_sample", lambda *a: pytest.fail("was opened"))
    run_convert({}, tmp_path / "inspect.json", tmp_path / "raw.ome.zarr")
    assert raw_status(tmp_path / "raw.ome.zarr") == ("fail", reasons)


def test_run_convert_converts(tmp_path, planes, monkeypatch):
    tifffile.imwrite(tmp_path / "raw.tif", planes[:9], photometric="minisblack")
    write_json(tmp_path / "inspect.json", {"status": "pass", "reasons": []})
    stage = SimpleNamespace(sample=_row(tmp_path / "raw.tif"), system=FakeSystem())
    monkeypatch.setattr(converting.Stage, "from_params", lambda params: stage)
    run_convert({}, tmp_path / "inspect.json", tmp_path / "raw.ome.zarr")
    assert open_raw(tmp_path / "raw.ome.zarr").sizes["t"] == 1
