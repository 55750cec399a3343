"""Stacks of Micro-Manager as it lays them out: what is which plane, when it was taken, and what was never taken."""

import struct

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.io import open_acquisitions
from nstm.io.files import open_recording
from nstm.io.tiff import TiffReader
from tests.files.tiff import micro_manager, mm_separate_files, planes, write_mm_stack

GRID = [{"T": t, "Z": z} for t in range(2) for z in range(9)]


def _read(path, position=None):
    image = TiffReader().open(path, position)
    return image.header, np.stack([image.read_plane(i) for i in range(image.header.planes)])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("indices", ["map", "tags", "axes"])
def test_axes_times_and_scale_wherever_the_indices_stand(order, indices, tmp_path):
    starts = 5.0 + np.cumsum(np.linspace(10, 20, 18))
    path = write_mm_stack(
        tmp_path / "a.dat",
        planes(),
        GRID,
        start_ms=starts.tolist(),
        exposure_ms=4.0,
        order=order,
        indices=indices,
        intended={"time": 2, "z": 9, "position": 1},
    )
    header, found = _read(path)
    np.testing.assert_array_equal(found, planes())
    assert dict(header.axes) == {"T": 2, "Z": 9}
    assert header.format == "Micro-Manager TIFF"
    assert (header.pixel_um, header.z_step_um) == ((0.065, 0.065), 0.25)
    np.testing.assert_allclose(header.plane_start_s, starts / 1000)
    np.testing.assert_allclose(header.exposure_s, 0.004)
    assert header.metadata["camera"] == "Andor"
    assert header.metadata["interval_ms"] == "500"
    assert header.warnings == ()


def test_other_programs_read_the_same_from_the_file_that_the_tests_write(tmp_path):
    with tifffile.TiffFile(micro_manager(tmp_path)) as tif:
        np.testing.assert_array_equal(np.stack([page.asarray() for page in tif.pages]), planes())
        assert tif.is_micromanager
        assert tif.micromanager_metadata["Summary"]["z-step_um"] == 0.25
        assert tif.micromanager_metadata["IndexMap"][:, 4].tolist() == [page.offset for page in tif.pages]
        assert tif.pages[3].tags[51123].value["Exposure-ms"] == 10.0


@pytest.mark.parametrize("slow_first", ["TZC", "CTZ", "ZCT"])
def test_planes_stay_in_the_order_in_which_they_were_taken(slow_first, tmp_path):
    lengths = {"T": 2, "Z": 3, "C": 2}
    shape = [lengths[a] for a in slow_first]
    places = [dict(zip(slow_first, index, strict=True)) for index in np.ndindex(*shape)]
    header, found = _read(write_mm_stack(tmp_path / "a.tif", planes(12), places))
    assert list(header.axes.items()) == list(zip(slow_first, shape, strict=True))
    assert header.channels == ("GFP", "RFP")
    assert header.plane_start_s is None
    np.testing.assert_array_equal(found, planes(12))


def test_channels_are_named_in_the_order_in_which_they_were_taken(tmp_path):
    places = [{"T": t, "C": c} for t in range(3) for c in (1, 0)]
    for indices in ("map", "tags", "axes"):
        header, _ = _read(write_mm_stack(tmp_path / "a.tif", planes(6), places, indices=indices))
        assert (dict(header.axes), header.channels) == ({"T": 3, "C": 2}, ("RFP", "GFP"))


def test_several_positions_need_a_choice(tmp_path):
    places = [{"T": t, "P": p, "Z": z} for t in range(2) for p in range(2) for z in range(3)]
    path = write_mm_stack(
        tmp_path / "a.tif", planes(12), places, positions=("left", "right"), start_ms=[float(i) for i in range(12)]
    )
    with pytest.raises(
        DataError, match=r"2 images \(positions\) in the file: give `position`, one of 0: 'left', 1: 'right'"
    ):
        TiffReader().open(path, None)
    for position in ("right", "1"):
        header, found = _read(path, position)
        assert dict(header.axes) == {"T": 2, "Z": 3}
        numbers = [i for i, place in enumerate(places) if place["P"] == 1]
        np.testing.assert_array_equal(found, planes(12)[numbers])
        np.testing.assert_allclose(header.plane_start_s, np.array(numbers) / 1000)
    with pytest.raises(DataError, match="no position 'up'"):
        TiffReader().open(path, "up")


def test_empty_pages_are_never_frames(tmp_path):
    places = GRID[:6]
    path = write_mm_stack(tmp_path / "a.tif", planes(6), places, never_taken={4})
    header, found = _read(path)
    np.testing.assert_array_equal(found, planes(6)[[0, 1, 2, 3, 5]])
    assert dict(header.axes) == {"I": 5}
    assert any("1 planes were never taken" in w for w in header.warnings)
    with pytest.raises(DataError, match="nothing was recorded"):
        TiffReader().open(write_mm_stack(tmp_path / "b.tif", planes(2), GRID[:2], never_taken={0, 1}), None)


def test_a_stopped_acquisition_is_read_as_far_as_it_went_and_told(tmp_path):
    path = write_mm_stack(
        tmp_path / "a.tif", planes(13), GRID[:13], intended={"time": 2, "z": 9, "channel": 1}, closed=False
    )
    header, found = _read(path)
    np.testing.assert_array_equal(found, planes(13))
    assert dict(header.axes) == {"I": 13}
    assert any("fill no grid" in w for w in header.warnings)
    assert any("was to take 18 planes, 13 are in this file" in w for w in header.warnings)


def test_the_two_files_of_a_set_follow_each_other(tmp_path, sim):
    starts = [10.0 * i for i in range(18)]
    for name, part in (("run_MMStack_Pos0.ome.tif", slice(0, 9)), ("run_MMStack_Pos0_1.ome.tif", slice(9, 18))):
        write_mm_stack(tmp_path / name, planes()[part], GRID[part], start_ms=starts[part], intended={"time": 2, "z": 9})
    found = open_acquisitions(tmp_path, sim("t angle phase"))
    np.testing.assert_array_equal(found["frames"].values.reshape(planes().shape), planes())
    assert found.attrs["time_origin"] == "read"
    np.testing.assert_allclose(found["time"].values.ravel(), np.array(starts) / 1000 + 0.005)
    assert any("further files of the set" in r["message"] for r in found.attrs["source"]["reasons"])


def test_times_count_only_where_every_page_has_one(tmp_path):
    path = micro_manager(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"ElapsedTime-ms": 24.0', b'"ElapsedTime-ms": true', 1))
    header, found = _read(path)
    assert (header.plane_start_s, header.exposure_s) == (None, None)
    np.testing.assert_array_equal(found, planes())


@pytest.mark.parametrize("text", [b"[" * 150, b'{"a"', b"null", b'{"ElapsedTime-ms": 1e999}', b"\xff\xfe{}"])
def test_pages_whose_text_cannot_be_read_are_still_planes(text, tmp_path):
    path = micro_manager(tmp_path)
    data = path.read_bytes()
    start = data.index(b'{"Camera"')
    end = data.index(b"\0", start)
    path.write_bytes(data[:start] + text.ljust(end - start)[: end - start] + data[end:])
    header, found = _read(path)
    np.testing.assert_array_equal(found, planes())
    assert header.plane_start_s is None


@pytest.mark.parametrize("where", ["summary", "map"])
def test_absurd_numbers_in_the_beginning_of_the_file_do_no_harm(where, tmp_path):
    path = micro_manager(tmp_path)
    data = bytearray(path.read_bytes())
    length = struct.unpack_from("<I", data, 36)[0]
    struct.pack_into("<I", data, 36 if where == "summary" else 44 + length, 0xFFFFFFFF)
    path.write_bytes(data)
    header, found = _read(path)
    np.testing.assert_array_equal(found, planes())
    assert dict(header.axes) == {"T": 2, "Z": 9}


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("img_{:09d}_Default_000.tif", "time, channel, section"),
        ("img_channel000_position000_time{:09d}_z000.tif", "channel, position, time, z"),
    ],
)
def test_one_file_for_each_plane(pattern, words, tmp_path, sim):
    names = [pattern.format(i) for i in range(18)]
    starts = [7.0 * i for i in range(18)]
    mm_separate_files(tmp_path, planes(), names, starts)
    recording = open_recording(tmp_path)
    assert recording.axes == {"file": 18}
    np.testing.assert_allclose(recording.joined("plane_start_s"), np.array(starts) / 1000)
    warnings = [w for header in recording.headers for w in header.warnings]
    assert len(warnings) == 1
    assert words in warnings[0]
    found = open_acquisitions(tmp_path, sim("t angle phase"))
    np.testing.assert_array_equal(found["frames"].values.reshape(planes().shape), planes())
