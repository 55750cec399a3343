"""Shards as they are written plane by plane: zarr must read them, memory must not grow, none may be absent unseen."""

import shutil
import threading
import time
import tracemalloc

import dask
import dask.array as da
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from nstm.io import shards as sharding
from nstm.io.shards import codec, compressed, missing_shards, most_bytes, write_shards


def _array(folder, shape, dtype=np.uint16):
    """The metadata of an array as they stand before its shards are written."""
    return zarr.create_array(
        str(folder),
        shape=shape,
        chunks=(1, 1, 1, *shape[3:]),
        shards=(1, *shape[1:]),
        dtype=dtype,
        fill_value=0,
        compressors=codec(np.dtype(dtype)),
    )


def _lazy(whole):
    return da.from_array(whole, chunks=(1, 1, 1, *whole.shape[3:]))


def _noise(shape, dtype=np.uint16):
    bits = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize)).astype(np.uint8)
    return bits.reshape(-1).view(dtype).reshape(shape)


def _files(folder):
    return sorted(f for f in (folder / "c").rglob("*") if f.is_file())


@given(
    shape=st.tuples(st.integers(1, 5), *[st.integers(1, 6)] * 2),
    dtype=st.sampled_from(["uint8", "uint16", ">u2", "int32", "float32", "float64"]),
    at_once=st.integers(1, 40),
)
@settings(max_examples=40, deadline=None)
def test_zarr_reads_every_plane_where_it_belongs(tmp_path_factory, shape, dtype, at_once):
    whole = np.random.default_rng(0).integers(0, 200, (*shape, 3, 4)).astype(dtype)
    folder = tmp_path_factory.mktemp("x") / "a"
    array = _array(folder, whole.shape, whole.dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "_PLANES_AT_ONCE", at_once)
        write_shards(folder, _lazy(whole))
    np.testing.assert_array_equal(zarr.open_array(str(folder), mode="r")[...], whole)
    assert missing_shards(folder, array.shape, array.shards) == []
    assert [f.relative_to(folder).as_posix() for f in _files(folder)] == [f"c/{t}/0/0/0/0" for t in range(shape[0])]


@pytest.mark.parametrize("threads", [1, 4])
def test_a_shard_is_as_large_as_that_of_zarr_itself(threads, tmp_path):
    whole = np.random.default_rng(0).poisson(100, (2, 3, 2, 32, 40)).astype(np.uint16)
    _array(tmp_path / "a", whole.shape)
    with dask.config.set(num_workers=threads):
        write_shards(tmp_path / "a", _lazy(whole))
    _array(tmp_path / "b", whole.shape)[...] = whole
    assert [f.stat().st_size for f in _files(tmp_path / "a")] == [f.stat().st_size for f in _files(tmp_path / "b")]


def test_planes_of_zeros_are_written_too(tmp_path):
    array = _array(tmp_path / "a", (2, 1, 1, 8, 8))
    write_shards(tmp_path / "a", _lazy(np.zeros((2, 1, 1, 8, 8), np.uint16)))
    assert missing_shards(tmp_path / "a", array.shape, array.shards) == []


def test_chunks_of_several_planes_are_taken_apart(tmp_path):
    whole = _noise((2, 4, 3, 8, 8))
    _array(tmp_path / "a", whole.shape)
    write_shards(tmp_path / "a", da.from_array(whole, chunks=(2, 3, 3, 8, 8)))
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "a"), mode="r")[...], whole)


@pytest.mark.parametrize(
    ("shape", "shares"),
    [
        ((5, 2, 1), [4 / 10, 8 / 10, 1]),  # two times of two planes
        ((2, 5, 2), [4 / 20, 8 / 20, 10 / 20, 14 / 20, 18 / 20, 1]),  # two frames of two planes
        ((2, 2, 9), [1 / 4, 2 / 4, 3 / 4, 1]),  # one frame, however many planes it has
    ],
)
def test_what_runs_ahead_is_one_part_ahead(shape, shares, tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "_PLANES_AT_ONCE", 4)
    events, planes = [], np.prod(shape)
    whole = np.zeros((*shape, 4, 4), np.uint16)

    def spy(block):
        events.append("read")
        return block

    _array(tmp_path / "a", whole.shape)
    frames = _lazy(whole).map_blocks(spy, dtype=np.uint16, meta=np.empty(0, np.uint16))
    write_shards(tmp_path / "a", frames, events.append)
    assert [event for event in events if event != "read"] == pytest.approx(shares)
    assert events.count("read") == planes
    for number, event in enumerate(events):  # nothing is read before what runs ahead was there
        if event == "read":
            passed = [e for e in events[:number] if e != "read"][-1]
            assert events[:number].count("read") < passed * planes + 1e-9


@pytest.mark.parametrize("where", ["read", "ahead", "disk"])
def test_an_error_comes_out_and_leaves_nothing_open(where, tmp_path, monkeypatch):
    def fail(*args, **more):
        raise OSError(28, "the disk is full")

    whole = np.zeros((3, 2, 1, 4, 4), np.uint16)
    _array(tmp_path / "a", whole.shape)
    frames = _lazy(whole)
    if where == "read":
        frames = frames.map_blocks(fail, dtype=np.uint16, meta=np.empty(0, np.uint16))
    if where == "disk":
        monkeypatch.setattr(sharding._Shard, "finish", fail)
    before = threading.active_count()
    with pytest.raises(OSError, match="the disk is full"):
        write_shards(tmp_path / "a", frames, fail if where == "ahead" else None)
    assert threading.active_count() <= before + dask.system.CPU_COUNT


def test_nothing_is_written_any_more_after_an_error(tmp_path):
    failed, late = threading.Event(), threading.Event()

    def read(block, block_id=None):
        if block_id[0] == 0:
            raise OSError(5, "the disk fails")
        failed.wait(10)
        late.set()
        return block

    whole = np.zeros((2, 1, 1, 4, 4), np.uint16)
    _array(tmp_path / "a", whole.shape)
    frames = _lazy(whole).map_blocks(read, dtype=np.uint16, meta=np.empty(0, np.uint16))
    with dask.config.set(num_workers=2), pytest.raises(OSError, match="the disk fails"):
        write_shards(tmp_path / "a", frames)
    shutil.rmtree(tmp_path / "a")
    failed.set()
    assert late.wait(10)
    time.sleep(0.1)  # for what comes after reading
    assert not (tmp_path / "a").exists()


def test_only_a_few_planes_are_in_memory(tmp_path):
    plane, raw = _noise((256, 256)), 32
    _array(tmp_path / "a", (1, raw, 8, 256, 256))
    chunks = (1, (1,) * raw, (1,) * 8, 256, 256)
    frames = da.map_blocks(lambda: plane[None, None, None], chunks=chunks, dtype=np.uint16)
    with dask.config.set(num_workers=2):
        tracemalloc.start()
        write_shards(tmp_path / "a", frames)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20 * plane.nbytes  # of 256 planes in the one shard


@pytest.mark.parametrize("damage", ["absent", "empty", "cut"])
def test_a_shard_that_is_not_there_is_found(damage, tmp_path):
    array = _array(tmp_path / "a", (2, 4, 2, 8, 8))
    write_shards(tmp_path / "a", _lazy(_noise((2, 4, 2, 8, 8))))
    file = tmp_path / "a" / "c" / "1" / "0" / "0" / "0" / "0"
    if damage == "absent":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 0 if damage == "empty" else 100])
    assert missing_shards(tmp_path / "a", array.shape, array.shards) == [(1, 0, 0, 0, 0)]


def test_a_shard_of_a_part_of_a_time_is_found_too(tmp_path):
    shape, shards = (2, 4, 2, 8, 8), (1, 2, 2, 8, 8)
    array = zarr.create_array(str(tmp_path / "a"), shape=shape, chunks=(1, 1, 1, 8, 8), shards=shards, dtype="uint16")
    array[...] = _noise(shape)
    (tmp_path / "a" / "c" / "1" / "1" / "0" / "0" / "0").unlink()
    assert missing_shards(tmp_path / "a", shape, shards) == [(1, 2, 0, 0, 0)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_bound_of_bytes_holds_and_is_near_for_noise(dtype, tmp_path):
    noise = _noise((2, 4, 2, 64, 64), dtype)
    _array(tmp_path / "a", noise.shape, dtype)
    write_shards(tmp_path / "a", _lazy(noise))
    written = sum(f.stat().st_size for f in _files(tmp_path / "a"))
    bound = most_bytes(noise.shape, noise.itemsize)
    assert noise.nbytes < written <= bound < 1.01 * written


def test_compression_is_what_zarr_undoes(tmp_path):
    plane = np.random.default_rng(0).poisson(100, (64, 64)).astype(np.uint16)
    array = _array(tmp_path / "a", (1, 1, 1, 64, 64))
    array[0, 0, 0] = plane
    (file,) = _files(tmp_path / "a")
    assert file.read_bytes().startswith(compressed(plane))
    assert compressed(plane[:, ::2]) == compressed(plane[:, ::2].copy())
    assert compressed(plane.astype(">u2")) == compressed(plane)


@pytest.mark.parametrize("fault", ["cut", "index"])
def test_a_shard_that_is_cut_or_damaged_in_its_index_counts_as_missing(tmp_path, fault):
    frames = da.from_array(np.random.default_rng(0).integers(0, 99, (2, 3, 1, 8, 8)).astype(np.uint16), (1, 1, 1, 8, 8))
    write_shards(tmp_path, frames)
    assert missing_shards(tmp_path, frames.shape, (1, 3, 1, 8, 8)) == []
    shard = next(p for p in sorted(tmp_path.rglob("*")) if p.is_file())
    content = bytearray(shard.read_bytes())
    if fault == "cut":
        content = content[:-10]
    else:
        content[-20] ^= 1
    shard.write_bytes(content)
    assert missing_shards(tmp_path, frames.shape, (1, 3, 1, 8, 8)) == [(0, 0, 0, 0, 0)]
