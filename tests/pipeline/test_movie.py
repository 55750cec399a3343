"""The rule `movie` on small stores."""

import json

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from nstm.acquisition import DataError
from nstm.io.store import open_timelapse, write_timelapse
from nstm.pipeline.movie import run_movie
from nstm.pipeline.panels import Shown, _truth_panel, outlines_of, times_assumed, window_footnote


def store(path, t=3, y=24, x=30, label="widefield", flags=None, value=None, provenance=None, **extra):
    images = np.random.default_rng(len(label)).gamma(2.0, 30.0, (t, 1, 1, y, x)).astype(np.float32)
    if value is not None:
        images[:] = value
    write_timelapse(
        path,
        images,
        0.1 * np.arange(t),
        0.05,
        None,
        label,
        ["intensity"],
        "",
        flags or [""] * t,
        provenance or {},
        extra,
    )
    return path


def params(truth=None, **movie):
    return {"numerics": 1, "sample": {"sample": "a", "truth": truth}, "movie": {"height_px": 64, **movie}}


def frames_of(path):
    return imageio_ffmpeg.count_frames_and_secs(str(path))[0]


@pytest.fixture
def stores(tmp_path):
    return {
        "nstm": store(tmp_path / "nstm.ome.zarr", label="<script>alert(1)</script> \"'$x_{"),
        "conventional": store(tmp_path / "conventional.ome.zarr", label="conventional (moving window)", window=3),
    }


def test_movie_and_still(tmp_path, stores):
    truth = store(tmp_path / "truth.ome.zarr", t=6, y=48, x=60)
    files = Shown(stores, truth=truth)
    run_movie(params(), files, tmp_path / "movie.mp4", tmp_path / "still.png", tmp_path / "movie.json")
    assert frames_of(tmp_path / "movie.mp4") == 3
    with Image.open(tmp_path / "still.png") as picture:
        assert picture.width > picture.height / 3
    found = json.loads((tmp_path / "movie.json").read_text())
    assert [t["frame"] for t in found["times"]] == [0, 1, 2]
    assert [p["name"] for p in found["panels"]] == ["conventional (moving window)", "NSTM", "truth"]


def test_a_truth_that_is_no_store_is_left_out(tmp_path, stores):
    (tmp_path / "truth.tif").write_text("no store")
    files = Shown(stores, truth=tmp_path / "truth.tif")
    run_movie(params(), files, tmp_path / "movie.mp4", tmp_path / "still.png")
    assert frames_of(tmp_path / "movie.mp4") == 3


def test_with_displacement_there_are_frames_between_and_arrows(tmp_path, stores):
    motion = tmp_path / "displacement.ome.zarr"
    moved = np.full((3, 2, 1, 24, 30), 0.02, np.float32)
    names = ["displacement_y_um", "displacement_x_um"]
    write_timelapse(motion, moved, 0.1 * np.arange(3), 0.05, None, "motion", names, "", [""] * 3, {}, {})
    trust = tmp_path / "trust.json"
    corners = [[0.1, 0.1], [0.1, 0.6], [0.6, 0.6]]
    trust.write_text(json.dumps({"acquisitions": [{"regions": [{"outline_um": corners}]}]}))
    files = Shown(stores, motion=motion, trust=trust)
    wanted = params(panels=["conventional", "nstm", "motion"], frames_per_time=4)
    run_movie(wanted, files, tmp_path / "movie.mp4", tmp_path / "still.png", tmp_path / "movie.json")
    assert frames_of(tmp_path / "movie.mp4") == 9
    found = json.loads((tmp_path / "movie.json").read_text())
    assert [t["frame"] for t in found["times"]] == [0, 4, 8]
    assert found["frames_per_second"] == 16
    assert found["panels"][-1]["name"] == "NSTM, displacement"


def test_regions_belong_to_the_times_of_their_acquisition():
    region = {"outline_um": [[0, 0], [0, 1], [1, 0]]}
    found = outlines_of([[], [region, region | {"slides": True}]], 6)
    assert [(o.times, o.mark) for o in found] == [(frozenset({3, 4, 5}), mark) for mark in "!?"]
    assert outlines_of([], 6) == []
    assert outlines_of([[region]] * 4, 6) == []


def test_panels_are_those_asked_for_and_there(tmp_path, stores):
    for name, panels in [("one", ["static", "nstm"]), ("two", ["conventional", "nstm"])]:
        run_movie(params(panels=panels), Shown(stores), tmp_path / f"{name}.mp4", tmp_path / f"{name}.png")
    sizes = [next(imageio_ffmpeg.read_frames(str(tmp_path / n)))["size"] for n in ("one.mp4", "two.mp4")]
    assert sizes[1][0] > 1.8 * sizes[0][0]


def test_no_panel_at_all_is_an_error_that_names_what_there_is(tmp_path, stores):
    with pytest.raises(DataError, match=r"'statik'.*'conventional', 'nstm'"):
        run_movie(params(panels=["statik"]), Shown(stores), tmp_path / "m.mp4", tmp_path / "s.png")
    assert not (tmp_path / "m.mp4").exists()


def test_another_sample_as_reference_stands_still(tmp_path):
    path = store(tmp_path / "other.ome.zarr", t=5)
    images = open_timelapse(path)
    panel = _truth_panel(images, np.array([7.0, 7.1]), "static_cell")
    assert panel.name == "reference: static_cell"
    assert np.allclose(panel.images.values[1], images.values.mean(0))
    assert panel.footnote


def test_moving_window_is_labelled():
    assert "mixes 3 orientations" in window_footnote("conventional", {"window": 3})
    spans = {"window": 3, "window_span_s": [None, 0.213, 0.2]}
    assert window_footnote("x", spans).endswith("3 orientations over 0.21 s, does not raise time resolution")
    assert " over " not in window_footnote("x", spans | {"provenance": {"time_origin": "assumed"}})
    assert "does not raise time resolution" in window_footnote("conventional", {})
    assert "mixes 4 illuminations" in window_footnote("x", {"window": 4, "block_name": "illumination", "label": ""})
    assert window_footnote("widefield", {"window": 1, "label": "widefield"}) == ""
    assert window_footnote("nstm", {"label": "NSTM"}) == ""


def test_assumed_times_are_found():
    assert times_assumed({"provenance": {"time_origin": "assumed"}})
    assert not times_assumed({"provenance": {"time_origin": "read"}})
    assert not times_assumed({"provenance": None})
