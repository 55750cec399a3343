"""ImageJ hyperstacks of stores, read back with the fields that ImageJ reads."""

import tracemalloc

import numpy as np
import pytest
import tifffile

from nstm.acquisition import DataError, make_acquisitions
from nstm.io.store import write_raw, write_timelapse
from nstm.pipeline import export as exporting
from nstm.pipeline.export import export_imagej, parse_times


def _raw(path, t=3, z=2, size=(6, 7), dtype=np.uint16, origin="read", frames=None):
    data = np.random.default_rng(0).integers(0, 4000, (t, 3, 5, z, *size)).astype(dtype) if frames is None else frames
    times = np.arange(t * 15 * z, dtype=float).reshape(t, 3, 5, z) * 0.01 + 12345.5
    acquisitions = make_acquisitions(
        data,
        times,
        ["angle", "phase"],
        pixel_um=0.08,
        z_step_um=0.125 if z > 1 else None,
        time_origin=origin,
        source={"reasons": []},
    )
    write_raw(path, acquisitions, {})
    return data, times


def _timelapse(path, images, times=(0.0, 0.5, 2.0), **more):
    given = {
        "pixel_um": 0.04,
        "z_step_um": None,
        "label": "NSTM",
        "channels": ["a", "b"][: images.shape[1]],
        "effective_transfer": "OTF",
        "flags": [""] * len(times),
        "provenance": {},
    }
    write_timelapse(path, images, times_s=times, **{**given, **more})


def _opened(path):
    """Pixels, what ImageJ reads of the description and its own tags, and pixels per unit."""
    with tifffile.TiffFile(path) as tif:
        assert tif.is_imagej
        assert not tif.is_bigtiff
        top, bottom = tif.pages[0].tags["XResolution"].value
        return tif.series[0], tif.asarray(squeeze=False), tif.imagej_metadata, top / bottom


def test_raw_frames_are_channels_with_scale_and_times(tmp_path):
    data, times = _raw(tmp_path / "raw.ome.zarr")
    export_imagej(tmp_path / "raw.ome.zarr", tmp_path / "out.tif")
    series, pixels, meta, per_um = _opened(tmp_path / "out.tif")
    assert series.axes == "TZCYX"
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(
        pixels.reshape(3, 2, 15, 6, 7), data.transpose(0, 3, 1, 2, 4, 5).reshape(3, 2, 15, 6, 7)
    )
    wanted = {"images": 90, "channels": 15, "slices": 2, "frames": 3, "hyperstack": True, "mode": "grayscale"}
    assert wanted.items() <= meta.items()
    assert (meta["unit"], meta["spacing"], meta["tunit"]) == ("micron", 0.125, "s")
    assert meta["finterval"] == pytest.approx(0.3)
    assert per_um == pytest.approx(1 / 0.08)
    # the second label is that of channel 1 of the first plane, then come the channels of the next plane
    assert meta["Labels"][1] == f"angle 0 phase 1, {times[0, 0, 1, 0]:.9g} s"
    assert meta["Labels"][15 + 7] == f"angle 1 phase 2, {times[0, 1, 2, 1]:.9g} s"
    listed = meta["Info"].split("/ s: ")[-1].split(", ")
    np.testing.assert_allclose([float(v) for v in listed], times.transpose(0, 3, 1, 2).ravel(), rtol=1e-9)
    assert "times are read" in meta["Info"]


def test_the_display_range_leaves_out_hot_pixels_but_shows_the_rest(tmp_path):
    frames = np.random.default_rng(0).integers(100, 1000, (1, 3, 5, 1, 64, 64)).astype(np.uint16)
    frames[..., 3, 4] = 65535
    _raw(tmp_path / "raw.ome.zarr", t=1, z=1, frames=frames)
    export_imagej(tmp_path / "raw.ome.zarr", tmp_path / "out.tif")
    _, _, meta, _ = _opened(tmp_path / "out.tif")
    assert 100 <= meta["min"] < 105
    assert 990 < meta["max"] <= 1000
    assert meta["Ranges"] == (meta["min"], meta["max"]) * 15
    assert "spacing" not in meta
    assert meta["finterval"] == 0


def test_assumed_times_are_called_so(tmp_path):
    _raw(tmp_path / "raw.ome.zarr", t=1, origin="assumed")
    export_imagej(tmp_path / "raw.ome.zarr", tmp_path / "out.tif")
    assert "times are assumed" in _opened(tmp_path / "out.tif")[2]["Info"]


def test_time_lapses_keep_nan_and_exact_times(tmp_path):
    images = np.random.default_rng(0).normal(size=(3, 2, 1, 8, 9)).astype(np.float32)
    images[1] = np.nan
    _timelapse(tmp_path / "x.ome.zarr", images, flags=["", "no window", ""])
    export_imagej(tmp_path / "x.ome.zarr", tmp_path / "out.tif")
    _, pixels, meta, per_um = _opened(tmp_path / "out.tif")
    np.testing.assert_array_equal(pixels.reshape(3, 2, 8, 9), images[:, :, 0])
    assert meta["finterval"] == pytest.approx(1.0)
    assert per_um == pytest.approx(25)
    assert "times / s: 0, 0.5, 2" in meta["Info"]
    assert "time 0.5 s: no window" in meta["Info"]
    assert meta["Labels"] == ["a, 0 s", "b, 0 s", "a, 0.5 s", "b, 0.5 s", "a, 2 s", "b, 2 s"]
    finite = images[np.isfinite(images)]
    assert finite.min() <= meta["min"] < meta["max"] <= finite.max()


def test_a_store_without_any_result_has_no_display_range(tmp_path):
    _timelapse(tmp_path / "x.ome.zarr", np.full((3, 1, 1, 8, 9), np.nan, np.float32))
    export_imagej(tmp_path / "x.ome.zarr", tmp_path / "out.tif")
    _, pixels, meta, _ = _opened(tmp_path / "out.tif")
    assert np.isnan(pixels).all()
    assert not {"min", "max", "Ranges"} & meta.keys()


@pytest.mark.parametrize(("dtype", "written"), [("uint8", "uint8"), ("int16", "float32"), ("float64", "float32")])
def test_other_types_become_float_and_are_told(dtype, written, tmp_path):
    data, _ = _raw(tmp_path / "raw.ome.zarr", t=1, z=1, dtype=dtype)
    export_imagej(tmp_path / "raw.ome.zarr", tmp_path / "out.tif")
    _, pixels, meta, _ = _opened(tmp_path / "out.tif")
    assert pixels.dtype == written
    np.testing.assert_array_equal(pixels.reshape(data.shape), data)
    assert (f"pixels were {dtype}" in meta["Info"]) == (dtype != written)


def test_a_part_of_the_times(tmp_path):
    data, times = _raw(tmp_path / "raw.ome.zarr", t=6, z=1)
    export_imagej(tmp_path / "raw.ome.zarr", tmp_path / "out.tif", times="1:6:2")
    _, pixels, meta, _ = _opened(tmp_path / "out.tif")
    np.testing.assert_array_equal(pixels.reshape(3, 3, 5, 1, 6, 7), data[1::2])
    assert meta["finterval"] == pytest.approx(0.3)
    assert meta["Labels"][0].endswith(f"{times[1, 0, 0, 0]:.9g} s")
    images = np.arange(3, dtype=np.float32)[:, None, None, None, None] * np.ones((1, 1, 1, 8, 9), np.float32)
    _timelapse(tmp_path / "x.ome.zarr", images, flags=["first", "", "last"])
    export_imagej(tmp_path / "x.ome.zarr", tmp_path / "last.tif", times="2")
    _, pixels, meta, _ = _opened(tmp_path / "last.tif")
    assert (pixels == 2).all()
    assert "last" in meta["Info"]
    assert "first" not in meta["Info"]


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (None, range(7)),
        (" ", range(7)),
        ("3", [3]),
        ("2:4", [2, 3]),
        (":", range(7)),
        ("::3", [0, 3, 6]),
        ("5:99", [5, 6]),
    ],
)
def test_times_are_chosen_as_in_python(text, chosen):
    assert list(range(7)[parse_times(text, 7)]) == list(chosen)


@pytest.mark.parametrize("text", ["x", "-1", "1:2:0", "1:2:3:4", "7", "4:2", "1,2", "9" * 30])
def test_other_times_are_refused(text):
    with pytest.raises(DataError, match="times is"):
        parse_times(text, 7)


def test_more_than_imagej_holds_is_refused_with_the_part_that_fits(tmp_path, monkeypatch):
    _raw(tmp_path / "raw.ome.zarr", t=5, z=1, size=(64, 64))
    monkeypatch.setattr(exporting, "MAX_BYTES", 2 * 15 * (64 * 64 * 2 + 512) + 1)
    with pytest.raises(DataError, match=r"times 0:2 \(2 of 5 fit\)"):
        export_imagej(tmp_path / "raw.ome.zarr", tmp_path / "out.tif")
    assert not (tmp_path / "out.tif").exists()
    export_imagej(tmp_path / "raw.ome.zarr", tmp_path / "out.tif", times="0:2")
    assert (tmp_path / "out.tif").stat().st_size <= exporting.MAX_BYTES
    monkeypatch.setattr(exporting, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match=r"at most 0\.0 GB: open the store itself"):
        export_imagej(tmp_path / "raw.ome.zarr", tmp_path / "out.tif")


def test_only_the_channels_of_a_plane_are_in_memory(tmp_path):
    data, _ = _raw(tmp_path / "raw.ome.zarr", t=4, z=4, size=(128, 128))
    export_imagej(tmp_path / "raw.ome.zarr", tmp_path / "warm.tif")
    tracemalloc.start()
    export_imagej(tmp_path / "raw.ome.zarr", tmp_path / "out.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < data.nbytes / 2
    assert (tmp_path / "warm.tif").read_bytes()[-1000:] == (tmp_path / "out.tif").read_bytes()[-1000:]
