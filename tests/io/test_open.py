import dataclasses
import importlib
import pickle

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError
from nstm.io import open_acquisitions
from nstm.io.files import Recording
from nstm.io.tiff import TiffReader

opening = importlib.import_module("nstm.io.open")


def _codes(acquisitions):
    return [reason["code"] for reason in acquisitions.attrs["source"]["reasons"]]


@pytest.fixture
def raw(tmp_path):
    """Writes planes and gives the path."""

    def write(data, name="raw.tif", **more):
        tifffile.imwrite(tmp_path / name, data, **{"photometric": "minisblack", **more})
        return tmp_path / name

    return write


def test_planes_are_labelled_in_the_stated_order(raw, sim, stack):
    data = stack(2, 3, 5)  # t angle phase
    found = open_acquisitions(raw(data), sim(phases=5))
    assert found["frames"].dims == ("t", "angle", "phase", "z", "y", "x")
    np.testing.assert_array_equal(found["frames"].values[:, :, :, 0], data)
    assert found["frames"].dtype == data.dtype
    assert found.attrs["source"]["reasons"] == []

    swapped = open_acquisitions(raw(data.swapaxes(1, 2), "swapped.tif"), sim("t phase angle", phases=5))
    np.testing.assert_array_equal(swapped["frames"].values, found["frames"].values)


@pytest.mark.parametrize("order", ["t angle z phase", "z angle phase t", "phase t z angle"])
def test_planes_in_depth(order, raw, sim, stack):
    data = stack(2, 3, 3, 4)  # t angle phase z
    axes = ["t", "angle", "phase", "z"]
    stored = np.transpose(data, [*[axes.index(a) for a in order.split()], 4, 5])
    found = open_acquisitions(raw(stored), sim(order, planes=4, z_step_um=0.2))
    np.testing.assert_array_equal(found["frames"].values, data)
    assert found.attrs["z_step_um"] == 0.2


def test_pixels_are_read_only_when_asked_for_and_only_the_planes_needed(raw, sim, stack, monkeypatch):
    from nstm.io.tiff import TiffImage

    data, read = stack(4, 3, 3), []
    original = TiffImage.read_plane
    monkeypatch.setattr(TiffImage, "read_plane", lambda self, i: read.append(i) or original(self, i))
    found = open_acquisitions(raw(data), sim(), crop="2:6,4:9")
    assert read == []
    assert found["frames"].data.chunksize == (1, 1, 1, 1, 4, 5)
    part = found["frames"].isel(t=2, angle=1).compute(scheduler="synchronous")
    assert sorted(read) == [21, 22, 23]
    np.testing.assert_array_equal(part.values[:, 0], data[2, 1, :, 2:6, 4:9])


def test_frames_survive_pickling(raw, sim, stack):
    data = stack(1, 3, 3)
    found = pickle.loads(pickle.dumps(open_acquisitions(raw(data), sim())))
    np.testing.assert_array_equal(found["frames"].values[:, :, :, 0], data)


def test_a_missing_order_is_never_guessed(raw, sim, stack):
    path = raw(stack(3, 9), imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(DataError) as refused:
        open_acquisitions(path, sim(None))
    for words in ("raw.tif", "27 planes", "Z = 3, C = 9", "angle = 3, phase = 3", "'t angle phase'", "never guessed"):
        assert words in str(refused.value)


def test_frames_labelled_as_channels_need_no_channel(raw, sim, stack):
    data = stack(3, 9)
    found = open_acquisitions(raw(data, imagej=True, metadata={"axes": "ZCYX"}), sim())
    assert _codes(found) == ["labels_differ"]
    np.testing.assert_array_equal(found["frames"].values.reshape(3, 9, 16, 24), data)
    agreeing = open_acquisitions(raw(data, "b.tif", imagej=True, metadata={"axes": "TCYX"}), sim())
    assert _codes(agreeing) == []


def test_colours_must_be_told_apart(raw, sim, stack):
    data = stack(18, 2)
    metadata = {"axes": "TCYX", "Channel": {"Name": ["GFP", "<b>RFP"]}}
    path = raw(data, "a.ome.tif", ome=True, metadata=metadata)
    with pytest.raises(DataError, match="give `channel`, one of 0: 'GFP', 1: '<b>RFP'"):
        open_acquisitions(path, sim())
    for channel, index in (("GFP", 0), ("1", 1), (1, 1)):
        found = open_acquisitions(path, sim(), channel=channel)
        np.testing.assert_array_equal(found["frames"].values.reshape(18, 16, 24), data[:, index])
        assert _codes(found) == []
    every = open_acquisitions(path, sim(), channel="all")
    assert every.sizes["t"] == 4


def test_channels_that_could_be_times_are_told(raw, sim, stack):
    found = open_acquisitions(raw(stack(2, 9), "a.ome.tif", ome=True, metadata={"axes": "CZYX"}), sim())
    assert found.sizes["t"] == 2
    assert _codes(found) == ["channels_as_time"]


def test_an_incomplete_last_acquisition_is_left_out_and_told(raw, sim, stack):
    data = stack(22)
    found = open_acquisitions(raw(data), sim())
    assert found.sizes["t"] == 2
    assert found.attrs["source"]["dropped_planes"] == 4
    reason = found.attrs["source"]["reasons"][0]
    assert reason["severity"] == "warn"
    assert "4 of 9 planes" in reason["message"]
    np.testing.assert_array_equal(found["frames"].values.reshape(18, 16, 24), data[:18])
    with pytest.raises(DataError, match="8 planes in the file, but one acquisition has 9"):
        open_acquisitions(raw(data[:8], "b.tif"), sim())


CHOICES = [
    ("3", [3]),
    ("-1", [5]),
    ("0:4:2", [0, 2]),
    ("2:", [2, 3, 4, 5]),
    (":2", [0, 1]),
    ("::3", [0, 3]),
    (None, range(6)),
    ("1:99", range(1, 6)),
]


@pytest.mark.parametrize(("text", "numbers"), CHOICES)
def test_acquisitions_are_chosen(text, numbers, raw, sim, stack):
    data = stack(6, 3, 3)
    found = open_acquisitions(raw(data), sim(exposure_s=0.1), acquisitions=text)
    np.testing.assert_array_equal(found["frames"].values[:, :, :, 0], data[list(numbers)])
    np.testing.assert_allclose(found["time"].values[:, 0, 0, 0], np.array(numbers) * 0.9 + 0.05)


@pytest.mark.parametrize("text", ["6", "-7", "9:", "4:2", "0:4:0", "0:4:-1", "a", "1:2:3:4", "0 1", "1.5"])
def test_impossible_choices_are_refused(text, raw, sim, stack):
    with pytest.raises(DataError, match="acquisitions is"):
        open_acquisitions(raw(stack(6, 3, 3)), sim(), acquisitions=text)


@pytest.mark.parametrize("text", ["0:17,0:24", "0:16,0:25", "4:4,0:8", "8:4,0:8", "0:8", "a:b,c:d", "-1:8,0:8"])
def test_impossible_crops_are_refused_with_the_size(text, raw, sim, stack):
    with pytest.raises(DataError, match=r"crop is .* within the planes of 16 x 24"):
        open_acquisitions(raw(stack(1, 3, 3)), sim(), crop=text)


def test_orientations_from_later_acquisitions_bring_their_own_times(raw, sim, stack):
    data = stack(5, 3, 3)
    system = sim(shifts=[0, 1, 2], exposure_s=0.1)
    found = open_acquisitions(raw(data), system)
    plain = open_acquisitions(raw(data), sim(exposure_s=0.1))
    assert found.sizes["t"] == 3
    assert found.attrs["source"]["orientation_from_acquisition"] == [0, 1, 2]
    assert "composed" in _codes(found)
    for a in range(3):
        for k in range(3):
            np.testing.assert_array_equal(found["frames"].values[a, k, :, 0], data[a + k, k])
            np.testing.assert_array_equal(found["time"].values[a, k], plain["time"].values[a + k, k])
    with pytest.raises(DataError, match="reaches 2 acquisitions ahead, but there are only 2"):
        open_acquisitions(raw(data), system, acquisitions="0:2")
    with pytest.raises(DataError, match=r"give 3 numbers \(one per angle\)"):
        open_acquisitions(raw(data), sim(shifts=[0, 1]))


def _with_times(raw, data, starts, exposure=None):
    plane = {"DeltaT": [float(s) for s in starts], "DeltaTUnit": ["s"] * len(starts)}
    if exposure:
        plane |= {"ExposureTime": [exposure] * len(starts), "ExposureTimeUnit": ["s"] * len(starts)}
    return raw(data, "timed.ome.tif", ome=True, metadata={"axes": "TYX", "Plane": plane})


def test_times_of_the_file_go_before_computed_ones(raw, sim, stack):
    starts = np.cumsum(np.linspace(0.01, 0.03, 18))
    path = _with_times(raw, stack(18), starts, exposure=0.004)
    found = open_acquisitions(path, sim(exposure_s=0.5), acquisitions="1")
    assert found.attrs["time_origin"] == "read"
    np.testing.assert_allclose(found["time"].values.ravel(), starts[9:] + 0.002)


def test_times_that_do_not_grow_are_not_used(raw, sim, stack):
    found = open_acquisitions(_with_times(raw, stack(9), np.zeros(9)), sim(exposure_s=0.5))
    assert found.attrs["time_origin"] == "computed"
    assert _codes(found) == ["times_unusable"]


def test_where_the_pixel_size_comes_from(raw, sim, stack):
    def path(x_um, y_um=None):
        y_um = y_um or x_um
        return raw(stack(1, 9), imagej=True, resolution=(1 / x_um, 1 / y_um), metadata={"axes": "TZYX", "unit": "um"})

    from_file = open_acquisitions(path(0.08), sim(pixel_um=None))
    assert from_file.attrs["pixel_um"] == pytest.approx(0.08, rel=1e-4)
    assert from_file.attrs["source"]["pixel_origin"] == "file"
    differing = open_acquisitions(path(0.08), sim(pixel_um=0.065))
    assert differing.attrs["pixel_um"] == 0.065
    assert _codes(differing) == ["pixel_size_differs"]
    assert _codes(open_acquisitions(path(0.0652), sim(pixel_um=0.065))) == []
    with pytest.raises(DataError, match="square pixels"):
        open_acquisitions(path(0.08, 0.1), sim(pixel_um=None))
    assert open_acquisitions(path(0.08, 0.1), sim(pixel_um=0.08)).attrs["pixel_um"] == 0.08
    with pytest.raises(DataError, match=r"give optics\.pixel_um"):
        open_acquisitions(raw(stack(1, 9), "b.tif"), sim(pixel_um=None))


def test_where_the_distance_of_planes_comes_from(raw, sim, stack):
    system = sim("t z angle phase", planes=2)
    with pytest.raises(DataError, match=r"give optics\.z_step_um"):
        open_acquisitions(raw(stack(18)), system)
    metadata = {"axes": "ZYX", "unit": "um", "spacing": 0.3}
    path = raw(stack(18), "b.tif", imagej=True, resolution=(1 / 0.065, 1 / 0.065), metadata=metadata)
    assert open_acquisitions(path, system).attrs["z_step_um"] == pytest.approx(0.3)
    both = open_acquisitions(path, sim("t z angle phase", planes=2, z_step_um=0.25))
    assert (both.attrs["z_step_um"], _codes(both)) == (0.25, ["z_step_differs"])


def test_one_file_per_frame(raw, sim, stack, tmp_path):
    data = stack(18)
    for number in range(18):
        raw(data[number], f"frame {number}.tif")
    found = open_acquisitions(tmp_path, sim())
    np.testing.assert_array_equal(found["frames"].values.reshape(18, 16, 24), data)
    assert len(found.attrs["source"]["files"]) == 18
    assert _codes(found) == []


@pytest.mark.parametrize("name", ["ER_1.tif", "ER_2.tif"])
def test_real_er_time_lapse(name, sim, shared_data):
    path = shared_data / "sim" / "er_timelapse_tirf" / name
    found = open_acquisitions(path, sim())
    assert dict(found["frames"].sizes) == {"t": 3, "angle": 3, "phase": 3, "z": 1, "y": 112, "x": 512}
    expected = tifffile.imread(path)
    np.testing.assert_array_equal(found["frames"].isel(t=1, angle=2, z=0).values, expected[1, 6:])
    composed = open_acquisitions(path, sim(shifts=[0, 1, 2]))
    assert composed.sizes["t"] == 1
    np.testing.assert_array_equal(composed["frames"].isel(t=0, angle=2, z=0).values, expected[2, 6:])
    with pytest.raises(DataError, match=r"optics\.pixel_um"):
        open_acquisitions(path, sim(pixel_um=None))


def test_real_microtubules_and_cudasirecon_stack(sim, shared_data):
    flat = open_acquisitions(shared_data / "sim/microtubules_3beam_15frames/raw_15x128x128.tif", sim(phases=5))
    assert dict(flat["frames"].sizes) == {"t": 1, "angle": 3, "phase": 5, "z": 1, "y": 128, "x": 128}
    deep = open_acquisitions(
        shared_data / "sim/omx_3d/raw.tif", sim("t z angle phase", phases=5, planes=9, pixel_um=None)
    )
    assert dict(deep["frames"].sizes) == {"t": 1, "angle": 3, "phase": 5, "z": 9, "y": 64, "x": 64}
    assert deep.attrs["pixel_um"] == pytest.approx(0.08)
    assert deep.attrs["z_step_um"] == pytest.approx(0.125)


def _points(tmp_path, stack, starts):
    """A file of one plane each, as a reader that knows when each time point began would give it."""
    frames = stack(len(starts), 3, 3)
    tifffile.imwrite(tmp_path / "a.tif", frames, photometric="minisblack")
    file = TiffReader().open(tmp_path / "a.tif", None)
    file.header = dataclasses.replace(
        file.header, axes={"T": len(starts), "R": 3, "H": 3}, time_point_s=np.array(starts), plane_start_s=None
    )
    return Recording((file,))


@pytest.mark.parametrize("exposure", [None, 0.05])
def test_starts_of_time_points_with_exposures_within(tmp_path, sim, stack, monkeypatch, exposure):
    starts = [10.0, 12.0, 15.0]
    monkeypatch.setattr(opening, "open_recording", lambda *_: _points(tmp_path, stack, starts))
    found = open_acquisitions(tmp_path / "a.tif", sim(order=None, exposure_s=exposure))
    assert found.attrs["source"]["order_origin"] == "file"
    assert found.attrs["time_origin"] == ("computed" if exposure else "assumed")
    times = found["time"].values
    np.testing.assert_allclose(np.diff(times[:, 0, 0, 0]), [2, 3])
    step = exposure or 2 / 9  # nothing known: the frames fill the shortest interval
    np.testing.assert_allclose(np.diff(times[0].ravel()), step)


def test_acquisitions_longer_than_the_interval_in_the_file_are_refused(tmp_path, sim, stack, monkeypatch):
    monkeypatch.setattr(opening, "open_recording", lambda *_: _points(tmp_path, stack, [0.0, 1.0]))
    with pytest.raises(DataError, match=r"every 1 s.*takes 1\.6 s"):
        open_acquisitions(tmp_path / "a.tif", sim(order=None, exposure_s=0.2))


def test_files_of_other_lengths_do_not_hide_their_channels(tmp_path, sim, stack):
    for name, length in (("a", 18), ("b", 9)):
        frames = stack(length, 2)
        tifffile.imwrite(tmp_path / f"{name}.tif", frames, imagej=True, metadata={"axes": "TCYX"})
    with pytest.raises(DataError, match="2 channels"):
        open_acquisitions(tmp_path / "*.tif", sim())
    assert open_acquisitions(tmp_path / "*.tif", sim(), channel=1).sizes["t"] == 3


def _ome(path, planes, axes, **channel):
    tifffile.imwrite(path, planes, ome=True, photometric="minisblack", metadata={"axes": axes, "Channel": channel})


def test_colours_by_name_are_no_times(tmp_path, sim, stack):
    _ome(tmp_path / "a.ome.tif", stack(2, 9), "CZYX", Name=["GFP", "mCherry"])
    with pytest.raises(DataError, match="'GFP', 1: 'mCherry'"):
        open_acquisitions(tmp_path / "a.ome.tif", sim())


def test_files_of_other_colours_are_no_times(tmp_path, sim, stack):
    for name, wavelength in (("a", 525), ("b", 610)):
        colour = {"EmissionWavelength": [wavelength], "EmissionWavelengthUnit": ["nm"]}
        _ome(tmp_path / f"{name}.ome.tif", stack(9), "ZYX", **colour)
    with pytest.raises(DataError, match=r"emission_wavelength_um: 0\.525, 0\.61; .* a row of its own"):
        open_acquisitions(tmp_path / "*.tif", sim())


def test_a_step_of_nought_is_refused_however_it_is_written(raw, sim, stack):
    with pytest.raises(DataError, match="positive step"):
        open_acquisitions(raw(stack(2, 3, 3)), sim(), acquisitions="0:2:00")


def test_the_interval_of_the_config_wins_over_that_of_the_file(tmp_path, sim, stack, monkeypatch):
    monkeypatch.setattr(opening, "open_recording", lambda *_: _points(tmp_path, stack, [0.0, 2.0]))
    system = sim(order=None, exposure_s=0.01)
    system.settings.frames.acquisition_interval_s = 1.0
    assert "interval_differs" in _codes(open_acquisitions(tmp_path / "a.tif", system))


def test_times_that_are_only_usual_are_told(raw, sim, stack):
    system = sim(exposure_s=0.005)
    system.usual_times = "exposure and delays are those of the preset 'elyra'"
    assert "usual_times" in _codes(open_acquisitions(raw(stack(2, 3, 3)), system))
