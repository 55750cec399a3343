import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.io.files import find_files, open_recording, select_planes


def _write(path, data, **more):
    tifffile.imwrite(path, data, photometric="minisblack", **more)
    return path


def _read(recording):
    return np.stack([recording.read_plane(i) for i in range(recording.planes)])


def test_files_of_a_folder_follow_each_other_in_natural_order(tmp_path, stack):
    data = stack(12)
    for number in (10, 2, 1, 11, 0, 3, 4, 5, 6, 7, 8, 9):
        _write(tmp_path / f"frame{number}.tif", data[number])
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".hidden.tif").write_bytes(b"")
    np.testing.assert_array_equal(_read(open_recording(tmp_path)), data)
    np.testing.assert_array_equal(_read(open_recording(str(tmp_path / "frame?.tif"))), data[:10])
    assert open_recording(tmp_path).axes == {"file": 12}


def test_files_of_different_length_stand_one_after_another(tmp_path, stack):
    data = stack(10)
    _write(tmp_path / "a.tif", data[:4])
    _write(tmp_path / "b.tif", data[4:])
    recording = open_recording(tmp_path)
    assert recording.axes == {"plane": 10}
    np.testing.assert_array_equal(_read(recording), data)


def test_the_odd_file_is_named(tmp_path, stack):
    for number in range(4):
        size = (8, 8) if number == 2 else (16, 24)
        _write(tmp_path / f"f{number}.tif", stack(size=size))
    with pytest.raises(DataError, match=r"f2\.tif: planes of 8 x 8 uint16, but the other files have 16 x 24"):
        open_recording(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"x,y\n1,2\n", "a text file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "truncated"),
        (b"ZISRAWFILE" + bytes(100), "truncated"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (bytes(range(200, 240)), "unknown type"),
        (b"II*\0", "truncated"),
        (b"II*\0\xff\xff\xff\x7f", "truncated"),
        (b"MM\0+\0\x08\0\0" + b"\xff" * 8, "truncated"),
    ],
)
def test_what_is_no_whole_tiff_is_named_for_what_it_is(content, words, tmp_path):
    path = tmp_path / "raw.tif"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as refused:
        open_recording(path)
    assert "raw.tif" in str(refused.value)
    with pytest.raises(DataError, match=words):  # not passed over in a folder either
        open_recording(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent.tif", "no such file or folder"),
        ("*.tif", "no file matches this pattern"),
        ("empty", "no image files in this folder"),
        ("store.zarr", "a zarr store"),
        ("a\0b.tif", "NUL"),
        ("a" * 300, "longer than file systems allow"),
    ],
)
def test_paths_that_lead_nowhere(name, words, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "store.zarr").mkdir()
    (tmp_path / "store.zarr" / "zarr.json").write_text("{}")
    with pytest.raises(DataError, match=words) as refused:
        find_files(f"{tmp_path}/{name}")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "name",
    [
        'it\'s "quoted".tif',
        "a b  c.tif",
        "Zelle_µ_细胞.tif",
        "new\nline.tif",
        "$(touch x);&|.tif",
        "-rf.tif",
        "[1]*.tif",
    ],
)
def test_hostile_file_names_are_only_names(name, tmp_path, stack):
    data = stack(2)
    _write(tmp_path / name, data)
    for path in (tmp_path / name, tmp_path):
        np.testing.assert_array_equal(_read(open_recording(path)), data)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError) as refused:
        open_recording(tmp_path / name)
    assert str(refused.value).isprintable()


def test_a_channel_is_taken_by_index_or_name_in_every_file(tmp_path, stack):
    data = stack(2, 3, 2)
    for number in range(2):
        metadata = {"axes": "TCYX", "Channel": {"Name": ["GFP", "1"]}}
        _write(tmp_path / f"{number}.ome.tif", data[number], ome=True, metadata=metadata)
    recording = open_recording(tmp_path)
    planes, axes, name = select_planes(recording, "GFP")
    assert (axes, name) == ({"file": 2, "T": 3}, "GFP")
    np.testing.assert_array_equal(_read(recording)[planes].reshape(2, 3, 16, 24), data[:, :, 0])
    planes, _, name = select_planes(recording, "1")  # a name goes before an index
    assert name == "1"
    np.testing.assert_array_equal(_read(recording)[planes].reshape(2, 3, 16, 24), data[:, :, 1])
    assert select_planes(recording, "0")[2] == "GFP"
    with pytest.raises(DataError, match="no channel 'RFP' in the file; allowed: 0: 'GFP', 1: '1'"):
        select_planes(recording, "RFP")
    with pytest.raises(DataError, match="no channel '2'"):
        select_planes(recording, "2")
