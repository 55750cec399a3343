import json

import dask.array as da
import numpy as np
import pytest
import yaozarrs
import zarr

from nstm.acquisition import Channel, DataError, make_acquisitions
from nstm.io import shards
from nstm.io.store import is_raw, open_raw, open_timelapse, raw_status, write_failed, write_raw, write_timelapse

REASON = {"severity": "fail", "code": "x", "message": "the file is <b>cut</b>"}


@pytest.fixture
def acquisitions(stack):
    def make(t=2, angles=3, phases=5, z=2, dtype=np.uint16, reasons=(), lazy=True):
        data = stack(t, angles, phases, z, size=(8, 12), dtype=dtype)
        times = np.arange(t * angles * phases * z, dtype=float).reshape(t, angles, phases, z) * 0.01 + 0.005
        return make_acquisitions(
            da.from_array(data, chunks=(1, 1, 1, 1, 8, 12)) if lazy else data,
            times,
            ["angle", "phase"],
            pixel_um=0.065,
            z_step_um=0.2 if z > 1 else None,
            time_origin="read",
            source={"files": [], "reasons": list(reasons), "odd": np.float32(1.5)},
        )

    return make


def _level(path):
    ome = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (image,) = ome["multiscales"]
    return image


def test_raw_frames_come_back_with_axes_times_and_units(tmp_path, acquisitions):
    path = tmp_path / "raw.ome.zarr"
    raw = acquisitions()
    write_raw(path, raw, {"files": [{"sha256": "abc"}], "path": path})
    found = open_raw(path)
    assert found["frames"].dims == raw["frames"].dims
    assert found["frames"].dtype == raw["frames"].dtype
    np.testing.assert_array_equal(found["frames"].values, raw["frames"].values)
    np.testing.assert_array_equal(found["time"].values, raw["time"].values)
    for key in ("frame_axes", "pixel_um", "z_step_um", "time_origin"):
        assert found.attrs[key] == raw.attrs[key]
    assert found.attrs["source"]["provenance"]["files"] == [{"sha256": "abc"}]
    assert raw_status(path) == ("pass", [])
    assert is_raw(path)


def test_the_raw_store_is_ngff_with_units_types_and_one_level(tmp_path, acquisitions):
    path = tmp_path / "raw.ome.zarr"
    write_raw(path, acquisitions(), {})
    yaozarrs.validate_zarr_store(str(path))
    image = _level(path)
    assert [(a["name"], a["type"], a.get("unit")) for a in image["axes"]] == [
        ("t", "time", "second"),
        ("raw", "channel", None),
        ("z", "space", "micrometer"),
        ("y", "space", "micrometer"),
        ("x", "space", "micrometer"),
    ]
    (level,) = image["datasets"]
    assert level["path"] == "0"
    (scale,) = level["coordinateTransformations"]
    np.testing.assert_allclose(scale["scale"], [0.3, 1, 0.2, 0.065, 0.065])
    array = zarr.open_array(path / "0", mode="r")
    assert (array.shape, array.chunks, array.shards) == ((2, 15, 2, 8, 12), (1, 1, 1, 8, 12), (1, 15, 2, 8, 12))
    assert array.metadata.dimension_names == ("t", "raw", "z", "y", "x")
    assert zarr.open_array(path / "times", mode="r").shape == (2, 15, 2)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_the_type_and_what_is_not_finite_are_kept(dtype, tmp_path, acquisitions):
    raw = acquisitions(dtype=dtype, lazy=False, z=1)
    if np.dtype(dtype).kind == "f":
        raw["frames"].values[0, 0, 0, 0, :2] = [[np.nan] * 12, [np.inf] * 12]
        raw["frames"].values[1] = np.nan
    else:
        raw["frames"].values[1] = 0
    write_raw(tmp_path / "raw.ome.zarr", raw, {})
    found = open_raw(tmp_path / "raw.ome.zarr")
    assert found["frames"].dtype == dtype
    np.testing.assert_array_equal(found["frames"].values, raw["frames"].values)
    assert found.attrs["z_step_um"] is None


def test_warnings_are_the_status_of_the_store(tmp_path, acquisitions):
    reason = {"severity": "warn", "code": "dropped_planes", "message": "cut"}
    write_raw(tmp_path / "raw.ome.zarr", acquisitions(reasons=[reason]), {})
    assert raw_status(tmp_path / "raw.ome.zarr") == ("warn", [reason])


def test_a_failed_sample_is_a_store_without_frames(tmp_path, acquisitions):
    path = tmp_path / "raw.ome.zarr"
    write_raw(path, acquisitions(), {})
    write_failed(path, [REASON])
    assert raw_status(path) == ("fail", [REASON])
    assert is_raw(path)
    assert not (path / "0").exists()
    with pytest.raises(DataError, match="could not be converted: the file is <b>cut</b>"):
        open_raw(path)


@pytest.mark.parametrize("error", [DataError, OSError])
def test_an_error_in_the_middle_leaves_nothing_or_the_old_store(error, tmp_path, acquisitions):
    raw = acquisitions(t=3)

    def broken(block, block_id=None):
        if block_id[0] == 2:
            raise error("no space left" if error is OSError else "plane cannot be decoded")
        return block

    bad = raw.assign(frames=(raw["frames"].dims, raw["frames"].data.map_blocks(broken, dtype=np.uint16)))
    path = tmp_path / "raw.ome.zarr"
    with pytest.raises(error):
        write_raw(path, bad, {})
    assert list(tmp_path.iterdir()) == []
    write_raw(path, raw, {})
    with pytest.raises(error):
        write_raw(path, bad, {})
    assert [p.name for p in tmp_path.iterdir()] == ["raw.ome.zarr"]
    np.testing.assert_array_equal(open_raw(path)["frames"].values, raw["frames"].values)


def test_a_part_of_the_acquisitions_is_read_at_a_time(tmp_path, acquisitions, monkeypatch):
    monkeypatch.setattr(shards, "_PLANES_AT_ONCE", 1)
    raw, seen = acquisitions(t=4), []

    def spy(block, block_id=None):
        seen.append((block_id[0], len([f for f in tmp_path.glob(".raw*/0/c/*/0/0/0/0") if f.stat().st_size])))
        return block

    lazy = raw["frames"].data.map_blocks(spy, dtype=np.uint16, meta=np.empty(0, np.uint16))
    write_raw(tmp_path / "raw.ome.zarr", raw.assign(frames=(raw["frames"].dims, lazy)), {})
    assert {t for t, _ in seen} == {0, 1, 2, 3}
    assert all(t <= written <= t + 1 for t, written in seen)


def test_what_is_told_of_the_origin_is_asked_for_when_the_frames_are_written(tmp_path, acquisitions, monkeypatch):
    monkeypatch.setattr(shards, "_PLANES_AT_ONCE", 30)
    path, shares = tmp_path / "raw.ome.zarr", []
    write_raw(path, acquisitions(t=3), lambda: {"shares": shares}, ahead=shares.append)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])
    assert open_raw(path).attrs["source"]["provenance"] == {"shares": shares}


def test_the_number_of_files_is_stated(tmp_path, acquisitions):
    path = tmp_path / "raw.ome.zarr"
    write_raw(path, acquisitions(t=3), {})
    block = json.loads((path / "zarr.json").read_text())["attributes"]["nstm"]
    files = [f for f in (path / "0" / "c").rglob("*") if f.is_file()]
    assert len(files) == 3 * block["files_per_acquisition"]


@pytest.mark.parametrize("chunks", [(2, 3, 5, 2, 8, 12), (1, 3, 1, 2, 5, 7)])
def test_frames_in_other_chunks_are_written_all_the_same(chunks, tmp_path, acquisitions):
    raw = acquisitions()
    other = raw.assign(frames=(raw["frames"].dims, da.from_array(raw["frames"].values, chunks=chunks)))
    write_raw(tmp_path / "raw.ome.zarr", other, {})
    np.testing.assert_array_equal(open_raw(tmp_path / "raw.ome.zarr")["frames"].values, raw["frames"].values)


def test_half_a_shard_is_an_error_and_no_zeros(tmp_path, acquisitions):
    write_raw(tmp_path / "raw.ome.zarr", acquisitions(t=1), {})
    file = tmp_path / "raw.ome.zarr" / "0" / "c" / "0" / "0" / "0" / "0" / "0"
    content = file.read_bytes()
    for left in (content[: len(content) // 2], content[len(content) // 2 :]):
        file.write_bytes(left)
        with pytest.raises(Exception, match=r".+"):
            open_raw(tmp_path / "raw.ome.zarr")["frames"].values  # noqa: B018


def test_missing_times_are_told(tmp_path, acquisitions):
    write_raw(tmp_path / "raw.ome.zarr", acquisitions(), {})
    (chunk,) = (f for f in (tmp_path / "raw.ome.zarr" / "times" / "c").rglob("*") if f.is_file())
    chunk.unlink()
    with pytest.raises(DataError, match="NaN"):
        open_raw(tmp_path / "raw.ome.zarr")


def _edit(path, change):
    meta = json.loads((path / "zarr.json").read_text())
    change(meta["attributes"])
    (path / "zarr.json").write_text(json.dumps(meta))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a["nstm"].update(schema=99), "schema 99, this version reads 1"),
        (lambda a: a.pop("nstm"), "not a store of nstm"),
        (lambda a: a.update(nstm="x"), "not a store of nstm"),
        (lambda a: a["nstm"].update(status="fine"), "no valid status"),
        (lambda a: a["nstm"].update(reasons=[{"message": 1}]), "no valid status"),
        (lambda a: a["nstm"].update(frame_axes=[["angle", 4], ["phase", 5]]), "does not fit together"),
        (lambda a: a["nstm"].pop("frame_axes"), "does not fit together"),
        (lambda a: a["nstm"].update(pixel_um="wide"), "does not fit together"),
        (lambda a: a["nstm"].update(pixel_um=-1), "pixel_um"),
        (lambda a: a["nstm"].update(time_origin="guessed"), "time_origin"),
    ],
)
def test_what_is_read_from_attributes_is_checked(change, words, tmp_path, acquisitions):
    path = tmp_path / "raw.ome.zarr"
    write_raw(path, acquisitions(), {})
    _edit(path, change)
    with pytest.raises(DataError, match=words):
        open_raw(path)


def test_damaged_stores_are_told(tmp_path, acquisitions):
    path = tmp_path / "raw.ome.zarr"
    with pytest.raises(DataError, match="no store"):
        open_raw(path)
    write_raw(path, acquisitions(), {})
    (path / "0" / "c" / "1").rename(tmp_path / "away")
    with pytest.raises(DataError, match=r"the data of t = \[1\] are missing"):
        open_raw(path)
    (path / "zarr.json").write_text("{")
    with pytest.raises(DataError):
        open_raw(path)


def _write(path, images, t=3, **more):
    given = {
        "times_s": np.array([0.0, 0.5, 2.0])[:t],
        "pixel_um": 0.0325,
        "z_step_um": None,
        "label": "what it is",
        "channels": ["intensity"],
        "effective_transfer": "OTF",
        "flags": ["", "no window", ""][:t],
        "provenance": {"nan": float("nan")},
        "extra": {"window": 3},
    }
    write_timelapse(path, images, **{**given, **more})


def test_viewers_are_told_what_to_show_at_first(tmp_path):
    """A first time without a result, a hot pixel, a signed quantity, and a channel without any result."""
    images = np.random.default_rng(0).uniform(1, 2, (3, 3, 1, 64, 64)).astype(np.float32)
    images[0], images[:, 2] = np.nan, np.nan
    images[1, 0, 0, 3, 4] = 1e6
    channels = ["intensity", Channel("phase", "rad", "signed", main=True), "empty"]
    _write(tmp_path / "x.ome.zarr", images, channels=channels)
    yaozarrs.validate_zarr_store(str(tmp_path / "x.ome.zarr"))
    ome = json.loads((tmp_path / "x.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    shown = ome["omero"]["channels"]
    assert [c["label"] for c in shown] == ["intensity", "phase", "empty"]
    assert [c["active"] for c in shown] == [False, True, False]
    windows = [(c["window"]["start"], c["window"]["end"]) for c in shown]
    assert windows[0] == pytest.approx((1, 2), abs=0.02)
    assert windows[1] == pytest.approx((-2, 2), abs=0.02)
    assert windows[2] == (0, 1)


@pytest.mark.parametrize("kind", ["numpy", "dask", "iterable"])
def test_time_lapses_come_back(kind, tmp_path):
    images = np.random.default_rng(0).normal(size=(3, 1, 2, 6, 8)).astype(np.float32)
    images[1] = np.nan
    given = {"numpy": images, "dask": da.from_array(images, chunks=(2, 1, 1, 6, 8)), "iterable": iter(images)}[kind]
    path = tmp_path / "nstm.ome.zarr"
    _write(path, given, z_step_um=0.3)
    assert not is_raw(path)
    found = open_timelapse(path)
    assert found.dims == ("t", "c", "z", "y", "x")
    np.testing.assert_array_equal(found.values, images)
    assert found.dtype == np.float32
    assert found["t"].values.tolist() == [0, 0.5, 2]
    assert found["c"].values.tolist() == ["intensity"]
    wanted = {"pixel_um": 0.0325, "z_step_um": 0.3, "label": "what it is", "window": 3, "flags": ["", "no window", ""]}
    assert {key: found.attrs[key] for key in wanted} == wanted
    assert found.attrs["provenance"] == {"nan": None}

    yaozarrs.validate_zarr_store(str(path))
    image = _level(path)
    assert [(a["name"], a["type"], a.get("unit")) for a in image["axes"]] == [
        ("t", "time", "second"),
        ("c", "channel", None),
        ("z", "space", "micrometer"),
        ("y", "space", "micrometer"),
        ("x", "space", "micrometer"),
    ]
    (level,) = image["datasets"]
    np.testing.assert_allclose(level["coordinateTransformations"][0]["scale"], [1.0, 1, 0.3, 0.0325, 0.0325])
    array = zarr.open_array(path / "0", mode="r")
    assert (array.chunks, array.shards) == ((1, 1, 1, 6, 8), (1, 1, 2, 6, 8))


@pytest.mark.parametrize(
    ("shape", "more", "words"),
    [
        ((2, 1, 1, 4, 4), {}, "2 images for 3 times"),
        ((4, 1, 1, 4, 4), {}, "image 3"),
        ((3, 2, 1, 4, 4), {}, "1 channels"),
        ((3, 1, 4, 4), {}, "needed"),
        ((3, 1, 1, 4, 4), {"flags": [""]}, "one flag for each"),
        ((3, 1, 1, 4, 4), {"times_s": [0, np.nan, 1]}, "finite"),
        ((3, 1, 1, 4, 4), {"extra": {"label": ""}}, "written already"),
    ],
)
def test_lengths_that_do_not_fit_are_refused_and_nothing_is_left(shape, more, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        _write(tmp_path / "x.ome.zarr", np.zeros(shape, np.float32), **more)
    assert list(tmp_path.iterdir()) == []


def test_a_generator_that_fails_leaves_nothing(tmp_path):
    def images():
        yield np.zeros((1, 1, 4, 4), np.float32)
        raise MemoryError

    with pytest.raises(MemoryError):
        _write(tmp_path / "x.ome.zarr", images())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a["nstm"].update(schema=2), "schema 2"),
        (lambda a: a["nstm"].update(times_s=[0, 1]), "do not fit images"),
        (lambda a: a["nstm"].update(times_s="now"), "not a time-lapse store"),
        (lambda a: a["nstm"].update(times_s=[0, "1", 2]), "no numbers"),
        (lambda a: a["nstm"].update(pixel_um=None), "no numbers"),
    ],
)
def test_attributes_of_time_lapses_are_checked(change, words, tmp_path):
    _write(tmp_path / "x.ome.zarr", np.zeros((3, 1, 1, 4, 4), np.float32))
    _edit(tmp_path / "x.ome.zarr", change)
    with pytest.raises(DataError, match=words):
        open_timelapse(tmp_path / "x.ome.zarr")


def test_stores_under_hostile_names_hold_hostile_texts(tmp_path, acquisitions):
    evil = "\"'; rm -rf ~ \n<script>\u202e µ"
    path = tmp_path / "a \"b\"\n'µ'.zarr"
    _write(path, np.zeros((3, 1, 1, 4, 4), np.float32), label=evil, channels=[evil], flags=[evil] * 3)
    assert open_timelapse(path).attrs["label"] == evil
    write_failed(path, [{**REASON, "message": evil}])
    assert raw_status(path)[1][0]["message"] == evil


def test_a_timestamp_file_of_the_workflow_does_no_harm(tmp_path, acquisitions):
    write_raw(tmp_path / "raw.ome.zarr", acquisitions(), {})
    (tmp_path / "raw.ome.zarr" / ".snakemake_timestamp").write_text("")
    assert open_raw(tmp_path / "raw.ome.zarr").sizes["t"] == 2
