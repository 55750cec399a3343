"""How arrays are cut into shards, that writing is bounded and in order, and that no absent shard goes unseen."""

import threading

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from nstm.io import shards as sharding
from nstm.io.shards import (
    SHARD_BYTES,
    codec,
    compressed_bytes,
    files_per_time,
    missing_shards,
    most_bytes,
    shard_shape,
    write_shards,
)


@pytest.mark.parametrize(
    ("shape", "shards", "files"),
    [
        ((424, 9, 1, 1024, 1024), (1, 9, 1, 1024, 1024), 1),  # 19 MB: one acquisition
        ((3, 15, 9, 512, 512), (1, 15, 9, 512, 512), 1),  # 71 MB
        ((3, 15, 32, 1024, 1024), (1, 1, 32, 1024, 1024), 15),  # 1 GB: frames of 67 MB
        ((3, 15, 8, 1024, 1024), (1, 5, 8, 1024, 1024), 3),  # 252 MB: orientations of 84 MB
        ((3, 15, 40, 2048, 2048), (1, 1, 10, 2048, 2048), 60),  # frames of 336 MB: ten planes
        ((3, 15, 31, 2048, 2048), (1, 1, 1, 2048, 2048), 465),  # a prime number of planes
        ((1, 1, 1, 16384, 16384), (1, 1, 1, 16384, 16384), 1),  # never less than a plane
    ],
)
def test_shards_are_acquisitions_or_equal_parts_of_them(shape, shards, files):
    assert shard_shape(shape, 2) == shards
    assert files_per_time(shape, shards) == files


@given(st.tuples(*[st.integers(1, n) for n in (3, 40, 70, 4096, 4096)]), st.sampled_from([1, 2, 4, 8]))
def test_no_shard_is_larger_than_allowed_unless_it_is_a_plane(shape, itemsize):
    shards = shard_shape(shape, itemsize)
    assert all(n % s == 0 for n, s in zip(shape, shards, strict=True))
    assert shards[0] == 1
    assert shards[3:] == shape[3:]
    assert shards[2] == shape[2] or shards[1] == 1  # planes are split only where frames are
    assert np.prod(shards) * itemsize <= SHARD_BYTES or shards[:3] == (1, 1, 1)


def _array(folder, shape, shards, dtype=np.uint16):
    return zarr.create_array(
        str(folder),
        shape=shape,
        chunks=(1, 1, 1, *shape[3:]),
        shards=shards,
        dtype=dtype,
        compressors=codec(np.dtype(dtype)),
        config={"write_empty_chunks": True},
    )


@given(data=st.data(), shape=st.tuples(st.integers(1, 7), *[st.integers(1, 4)] * 2), at_once=st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_everything_is_written_where_it_belongs(tmp_path_factory, data, shape, at_once):
    whole = np.random.default_rng(0).integers(0, 2**16, (*shape, 3, 4)).astype(np.uint16)
    divisor = [data.draw(st.sampled_from([d for d in range(1, n + 1) if n % d == 0])) for n in shape[1:]]
    folder = tmp_path_factory.mktemp("x") / "a"
    array = _array(folder, whole.shape, (1, *divisor, 3, 4))

    def read(place, out):
        out[...] = whole[place]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "BATCH_BYTES", at_once * whole[0].nbytes)
        write_shards(array, read)
    np.testing.assert_array_equal(zarr.open_array(str(folder), mode="r")[...], whole)
    assert missing_shards(folder, array.shape, array.shards) == []


def test_two_shards_are_in_memory_and_one_is_read_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(sharding, "BATCH_BYTES", 0)
    array = _array(tmp_path / "a", (5, 2, 1, 4, 4), (1, 2, 1, 4, 4))
    buffers, shares, ahead = set(), [], []

    def read(place, out):
        buffers.add(out.ctypes.data)
        ahead.append(place[0].start - len(list((tmp_path / "a").glob("c/*"))))
        out[...] = place[0].start

    write_shards(array, read, shares.append)
    assert len(buffers) == 2
    assert max(ahead) <= 1
    assert shares == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert array[:, 0, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_small_acquisitions_are_written_several_at_a_time(tmp_path, monkeypatch):
    array = _array(tmp_path / "a", (5, 2, 1, 4, 4), (1, 2, 1, 4, 4))
    monkeypatch.setattr(sharding, "BATCH_BYTES", 2 * 2 * 4 * 4 * 2 + 1)
    seen, shares = [], []

    def read(place, out):
        seen.append((place[0].start, len(out)))
        out[...] = np.arange(place[0].start, place[0].stop)[:, None, None, None, None]

    write_shards(array, read, shares.append)
    assert seen == [(0, 2), (2, 2), (4, 1)]
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])
    assert array[:, 1, 0, 3, 3].tolist() == [0, 1, 2, 3, 4]
    assert len(list((tmp_path / "a" / "c").iterdir())) == 5


@pytest.mark.parametrize("where", ["read", "beside"])
def test_errors_of_the_other_threads_come_out(where, tmp_path):
    array = _array(tmp_path / "a", (4, 1, 1, 4, 4), (1, 1, 1, 4, 4))

    def fail(*args):
        raise OSError(5, "the disk fails")

    before = threading.active_count()
    with pytest.raises(OSError, match="the disk fails"):
        write_shards(array, fail if where == "read" else lambda place, out: None, fail if where == "beside" else None)
    assert threading.active_count() <= before + 2  # those of zarr stay


@pytest.mark.parametrize("number", ["3", None])
def test_no_more_planes_are_compressed_at_a_time_than_there_are_threads(number, monkeypatch):
    import dask

    with dask.config.set(num_workers=number and int(number)):
        assert sharding.threads() == (3 if number else sharding.CPU_COUNT)


@pytest.mark.parametrize("damage", ["absent", "empty", "cut"])
def test_a_shard_that_is_not_there_is_found(damage, tmp_path):
    array = _array(tmp_path / "a", (2, 4, 2, 8, 8), (1, 2, 2, 8, 8))
    write_shards(array, lambda place, out: out.fill(7))
    file = tmp_path / "a" / "c" / "1" / "1" / "0" / "0" / "0"
    assert file.is_file()
    if damage == "absent":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: 0 if damage == "empty" else 60])
    assert missing_shards(tmp_path / "a", array.shape, array.shards) == [(1, 2, 0, 0, 0)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_bound_of_bytes_holds_and_is_near_for_noise(dtype, tmp_path):
    shape, shards = (2, 4, 2, 64, 64), (1, 2, 2, 64, 64)
    noise = np.random.default_rng(0).integers(0, 256, (*shape, np.dtype(dtype).itemsize)).astype(np.uint8)
    noise = noise.reshape(-1).view(dtype).reshape(shape)
    array = _array(tmp_path / "a", shape, shards, dtype)
    write_shards(array, lambda place, out: np.copyto(out, noise[place]))
    written = sum(f.stat().st_size for f in (tmp_path / "a" / "c").rglob("*") if f.is_file())
    bound = most_bytes(shape, shards, np.dtype(dtype).itemsize)
    assert noise.nbytes < written <= bound
    assert bound < 1.01 * written


def test_the_bytes_of_a_plane_are_those_in_the_store(tmp_path):
    plane = np.random.default_rng(0).poisson(100, (64, 64)).astype(np.uint16)
    array = _array(tmp_path / "a", (1, 1, 1, 64, 64), (1, 1, 1, 64, 64))
    write_shards(array, lambda place, out: np.copyto(out, plane))
    (file,) = (f for f in (tmp_path / "a" / "c").rglob("*") if f.is_file())
    assert file.stat().st_size == compressed_bytes(plane) + 4
    assert compressed_bytes(plane[:, ::2]) < compressed_bytes(plane)  # a view that is not contiguous
