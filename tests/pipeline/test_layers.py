"""Results as layers of napari: places, scales, times and colours; with napari, where it is installed, its model."""

import sys
from types import ModuleType

import numpy as np
import pytest

from nstm.acquisition import COLOURS, Channel, DataError, make_acquisitions
from nstm.io.store import write_raw, write_timelapse
from nstm.pipeline.layers import layers_text, view_layers
from nstm.pipeline.view import fill, time_text, view

PIXEL, STEP = 0.05, (3.0, -2.0)  # um; pixels (y, x) from one time to the next
TIMES = [0.1, 0.2, 0.3, 1.1, 1.2, 1.3]


def write(folder, name, images, *, channels=("intensity",), z_step_um=None):
    write_timelapse(
        folder / "timelapse" / f"{name}.ome.zarr",
        images.astype(np.float32),
        times_s=TIMES,
        pixel_um=PIXEL,
        z_step_um=z_step_um,
        label=name,
        channels=channels,
        effective_transfer="none",
        flags=["", "", "no window", "", "", ""],
        provenance={},
    )


def displacement(planes=1, step=STEP, size=(48, 64)):
    """All structures move by ``step`` from time to time, except from one acquisition to the next."""
    motion = np.full((6, len(step), planes, *size), np.nan)
    pitch = [0.2, PIXEL, PIXEL][-len(step) :]
    for t in (1, 2, 4, 5):
        motion[t] = (np.array(step) * pitch)[:, None, None, None]
    return motion


@pytest.fixture
def sample(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(100, 900, (2, 3, 3, 1, 24, 32)).astype(np.uint16)
    times = np.add.outer([0.0, 1.0], np.linspace(0.05, 0.35, 9)).reshape(2, 3, 3, 1)
    acquisitions = make_acquisitions(
        frames, times, ["angle", "phase"], pixel_um=2 * PIXEL, time_origin="read", source={"reasons": []}
    )
    folder = tmp_path / "results" / "cell"
    write_raw(folder / "raw.ome.zarr", acquisitions, {})
    images = rng.random((6, 1, 1, 48, 64))
    images[2] = np.nan
    for name in ("nstm", "conventional", "widefield"):
        write(folder, name, images)
    write(folder, "motion", displacement(), channels=["displacement_y_um", "displacement_x_um"])
    return folder, frames


def test_layers_of_a_sample_from_bottom_to_top(sample):
    folder, frames = sample
    layers = view_layers(folder)
    assert [(kind, keywords["name"]) for _, keywords, kind in layers] == [
        ("image", "raw frames"),
        ("image", "widefield"),
        ("image", "conventional, moving window"),
        ("image", "NSTM"),
        ("vectors", "motion"),
        ("tracks", "tracks"),
    ]
    assert [keywords["visible"] for _, keywords, kind in layers if kind == "image"] == [False, False, False, True]
    raw, keywords, _ = layers[0]
    assert raw.shape == (9, 6, 1, 24, 32)  # at every time the frames of its acquisition
    np.testing.assert_array_equal(raw[4, 2].compute(), frames[0, 1, 1])
    np.testing.assert_array_equal(raw[4, 3].compute(), frames[1, 1, 1])
    assert keywords["metadata"]["frames"][4] == "angle 1 phase 1"
    assert keywords["scale"] == pytest.approx((1, 0.1, 1, 2 * PIXEL, 2 * PIXEL))
    for _, keywords, kind in layers[1:]:
        assert keywords["scale"] == pytest.approx((0.1, 1, PIXEL, PIXEL)), kind
        assert keywords["translate"] == pytest.approx((0.1, 0, 0, 0))
        assert keywords["units"] == ("second", "micrometer", "micrometer", "micrometer")
        assert keywords["metadata"]["times_s"] == TIMES
    low, high = layers[3][1]["contrast_limits"]
    assert 0 <= low < 0.01 < 0.99 < high <= 1
    assert time_text(layers[3][1]["metadata"], 2) == "0.3 s: no window"
    text = layers_text(layers)
    assert "image    raw frames: 9 x 6 x 1 x 24 x 32; raw t z y x in steps of 1 x 0.1 x 1 x 0.1 x 0.1" in text
    assert len(text.splitlines()) == 6


def test_arrows_end_at_the_structure_and_tracks_follow_it_back(sample):
    layers = {kind: (data, keywords) for data, keywords, kind in view_layers(sample[0])}
    arrows, keywords = layers["vectors"]
    assert set(arrows[:, 0, 0]) == {1, 2, 4, 5}
    np.testing.assert_allclose(arrows[:, 1], [[0, 0, *STEP]] * len(arrows), rtol=1e-5)
    ends = arrows[:, 0, 2:] + arrows[:, 1, 2:]
    np.testing.assert_allclose(ends, np.rint(ends), atol=1e-4)  # on the lattice of pixels
    np.testing.assert_allclose(keywords["features"]["length_um"], np.hypot(*STEP) * PIXEL, rtol=1e-5)
    np.testing.assert_allclose(keywords["features"]["direction_deg"], np.degrees(np.arctan2(*STEP)), rtol=1e-5)
    assert np.ptp(keywords["edge_color"], axis=0).max() == 0  # one direction, one colour

    tracks, keywords = layers["tracks"]
    for number in np.unique(tracks[:, 0]):
        track = tracks[tracks[:, 0] == number]
        assert track[:, 1].tolist() in ([0, 1, 2], [1, 2], [3, 4, 5], [4, 5])  # never across acquisitions
        np.testing.assert_allclose(np.diff(track[:, 3:], axis=0), [STEP] * (len(track) - 1), atol=1e-4)
    np.testing.assert_allclose(keywords["features"]["time_s"], np.array(TIMES)[tracks[:, 1].astype(int)])


def test_small_displacements_are_drawn_larger_and_still_end_at_the_structure(tmp_path):
    small = (0.03, -0.02)
    write(tmp_path, "motion", displacement(step=small), channels=["displacement_y_um", "displacement_x_um"])
    (arrows, keywords, _), (tracks, _, _) = view_layers(tmp_path)
    assert keywords["name"] == "motion, drawn 50 x"
    np.testing.assert_allclose(arrows[:, 1, 2:], [50 * np.array(small)] * len(arrows), rtol=1e-5)
    ends = arrows[:, 0, 2:] + arrows[:, 1, 2:]
    np.testing.assert_allclose(ends, np.rint(ends), atol=1e-4)
    np.testing.assert_allclose(keywords["features"]["length_um"], np.hypot(*small) * PIXEL, rtol=1e-5)
    first = tracks[tracks[:, 0] == tracks[0, 0]]
    np.testing.assert_allclose(np.diff(first[:, 3:], axis=0), [small] * (len(first) - 1), atol=1e-5)  # tracks are true


def test_a_turning_field_is_followed_back_along_circles(tmp_path):
    """A turn by 0.1 rad a step about the middle: the point now at r was at R(-0.1) r."""
    y, x = np.mgrid[:48, :64] - np.array([23.5, 31.5])[:, None, None]
    c, s = np.cos(0.1), np.sin(0.1)
    motion = np.full((6, 2, 1, 48, 64), np.nan)
    motion[1:3] = motion[4:] = PIXEL * np.stack([y - (c * y - s * x), x - (s * y + c * x)])[:, None]
    write(tmp_path, "motion", motion, channels=["displacement_y_um", "displacement_x_um"])
    tracks = next(data for data, _, kind in view_layers(tmp_path) if kind == "tracks")
    for number in np.unique(tracks[:, 0])[::7]:
        radius = np.hypot(*(tracks[tracks[:, 0] == number, 3:] - [23.5, 31.5]).T)
        assert np.ptp(radius) < 1e-3


def test_volumes_and_signed_channels(tmp_path):
    write(
        tmp_path,
        "motion",
        displacement(planes=4, step=(0.5, 1.0, 2.0)),
        channels=[f"displacement_{axis}_um" for axis in "zyx"],
        z_step_um=0.2,
    )
    channels = [Channel("absorption"), Channel("phase", "rad", "signed", main=True)]
    images = np.random.default_rng(0).normal(size=(6, 2, 4, 48, 64))
    write(tmp_path, "nstm", images, channels=channels, z_step_um=0.2)
    *images, (arrows, vectors, _), _ = view_layers(tmp_path)
    assert [(keywords["name"], keywords["visible"]) for _, keywords, _ in images] == [
        ("NSTM: absorption", False),
        ("NSTM: phase", True),
    ]
    name, colours = images[1][1]["colormap"]
    assert name == "red and blue about zero"
    assert colours[127:129].min() > 0.9  # light at zero
    assert images[1][1]["contrast_limits"][0] == -images[1][1]["contrast_limits"][1]
    np.testing.assert_allclose(arrows[:, 1], [[0, 0.5, 1, 2]] * len(arrows), rtol=1e-5)
    assert vectors["scale"] == pytest.approx((0.1, 0.2, PIXEL, PIXEL))
    assert set(arrows[:, 0, 1] + arrows[:, 1, 1]) == {0, 1, 2, 3}  # arrows in every plane


def test_colours_are_shown_together(tmp_path):
    write(tmp_path, "nstm", np.random.default_rng(0).random((6, 3, 1, 48, 64)), channels=COLOURS)
    layers = [keywords for _, keywords, kind in view_layers(tmp_path) if kind == "image"]
    assert [(k["colormap"], k["blending"], k["visible"]) for k in layers] == [
        (colour, "additive", True) for colour in ("red", "green", "blue")
    ]
    assert len({k["contrast_limits"] for k in layers}) == 1  # else white would not be white


def test_one_store_alone_and_an_experiment_of_one_sample(sample):
    folder, frames = sample
    (raw,) = view_layers(folder / "raw.ome.zarr")
    assert raw[0].shape == (9, 2, 1, 24, 32)
    np.testing.assert_array_equal(raw[0][:, 1].compute(), frames[1].reshape(9, 1, 24, 32))
    assert len(view_layers(folder / "timelapse" / "nstm.ome.zarr")) == 1
    assert len(view_layers(folder / "timelapse" / "motion.ome.zarr")) == 2
    assert len(view_layers(folder.parent)) == len(view_layers(folder)) == 6


def test_what_cannot_be_shown_is_said(sample, tmp_path, monkeypatch):
    folder, _ = sample
    with pytest.raises(DataError, match="no such folder: name results/SAMPLE"):
        view_layers(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no stores in it"):
        view_layers(tmp_path)
    write(folder.parent / "other", "nstm", np.ones((6, 1, 1, 8, 8)))
    with pytest.raises(DataError, match="several samples, cell, other: name one of them"):
        view_layers(folder.parent)
    monkeypatch.setitem(sys.modules, "napari", None)
    with pytest.raises(DataError, match=r"napari is not installed .*requirements-napari.lock"):
        view(folder)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere there always is a screen")
def test_without_a_screen_qt_is_not_asked(sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", ModuleType("napari"))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(DataError, match="there is no screen here"):
        view(sample[0])


def test_napari_takes_the_layers_as_they_are(sample):
    """Its model needs no screen."""
    pytest.importorskip("napari")
    from napari.components import ViewerModel

    viewer = ViewerModel()
    fill(viewer, view_layers(sample[0]))
    assert [layer.name for layer in viewer.layers][-1] == "tracks"
    assert viewer.dims.axis_labels == ("raw", "t", "z", "y", "x")
    assert viewer.dims.nsteps[:2] == (9, 6)
    assert viewer.canvas.overlays.text.text == "0.1 s"
    viewer.dims.set_current_step(1, 2)
    assert viewer.canvas.overlays.text.text == "0.3 s: no window"
    fields = {layer.name: layer.extent.world[1, -2:] - layer.extent.world[0, -2:] for layer in viewer.layers[:4]}
    np.testing.assert_allclose(fields["raw frames"], fields["NSTM"], atol=2 * PIXEL)
