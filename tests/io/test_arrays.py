"""One array of a file: what is read, and what is refused before it is."""

import struct
import zipfile

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.io.arrays import array_shape, read_array

VALUES = np.random.default_rng(0).uniform(size=(4, 6, 5)).astype(np.float32)


def written(folder, kind):
    path = folder / f"map{kind}"
    if kind == ".npy":
        np.save(path, VALUES)
    elif kind == ".npz":
        np.savez_compressed(path, img=np.zeros((2, 2)), s=VALUES)
    else:
        tifffile.imwrite(path, VALUES, photometric="minisblack")
    return path


@pytest.mark.parametrize("kind", [".npy", ".npz", ".tif"])
def test_an_array_comes_back_from_every_kind_of_file(tmp_path, kind):
    path = written(tmp_path, kind)
    name = "s" if kind == ".npz" else None
    assert array_shape(path, name) == VALUES.shape
    found = read_array(path, VALUES.shape, name)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, VALUES)
    with pytest.raises(DataError, match=r"shape \(4, 6, 5\), needed is \(4, 5, 6\)"):
        read_array(path, (4, 5, 6), name)


def test_the_array_of_an_npz_is_named_unless_it_is_alone(tmp_path):
    path = written(tmp_path, ".npz")
    with pytest.raises(DataError, match="no array is named; the file holds img, s"):
        array_shape(path)
    with pytest.raises(DataError, match="no array 'pupil'"):
        array_shape(path, "pupil")
    np.savez(tmp_path / "one.npz", s=VALUES)
    assert array_shape(tmp_path / "one.npz") == VALUES.shape


def test_pickled_objects_are_never_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("it was loaded",)

    for path, save in ((tmp_path / "a.npy", np.save), (tmp_path / "a.npz", np.savez)):
        save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
        with pytest.raises(DataError, match="pickled"):
            array_shape(path)
        with pytest.raises(DataError, match="pickled"):
            read_array(path, (1,))


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    text = "{'descr': '<f8', 'fortran_order': False, 'shape': (4, 1000000, 1000000), }".ljust(117) + "\n"
    header = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    (tmp_path / "map.npy").write_bytes(header + bytes(64))
    with zipfile.ZipFile(tmp_path / "map.npz", "w") as archive:
        archive.writestr("s.npy", header + bytes(64))
    for name in ("map.npy", "map.npz"):
        with pytest.raises(DataError, match="cut off"):
            read_array(tmp_path / name, (4, 1_000_000, 1_000_000))


@pytest.mark.parametrize("kind", [".npy", ".npz", ".tif"])
def test_cut_files_are_refused_by_name(tmp_path, kind):
    path = written(tmp_path, kind)
    whole = path.read_bytes()
    for length in (0, 5, 40, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=f"map{kind}"):
            read_array(path, VALUES.shape, "s" if kind == ".npz" else None)


@pytest.mark.parametrize("values", [np.full((2, 2), np.nan), np.ones((2, 2), complex), np.array([["a", "b"]] * 2)])
def test_what_is_no_real_number_is_refused(tmp_path, values):
    np.save(tmp_path / "map.npy", values)
    with pytest.raises(DataError, match=r"map\.npy: the array holds"):
        read_array(tmp_path / "map.npy", (2, 2))


def test_other_files_are_refused(tmp_path):
    (tmp_path / "map.pkl").write_bytes(b"")
    with pytest.raises(DataError, match=r"\.pkl are not read here"):
        array_shape(tmp_path / "map.pkl")
    with pytest.raises(DataError, match="cannot be read"):
        array_shape(tmp_path / "absent.npy")
