"""Figures draw for every shape and hold what they say."""

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from nstm.acquisition import DataError
from nstm.visual.figures import (
    best_time,
    illumination_figure,
    motion_figure,
    overlay_figure,
    save_png,
    still,
    time_overlay,
    zoom_box,
)
from nstm.visual.movie import Panel


def series(t=3, y=40, x=40, pixel_um=0.05, **attrs) -> xr.DataArray:
    values = np.random.default_rng(0).gamma(2.0, 20.0, (t, 1, 1, y, x)).astype(np.float32)
    return xr.DataArray(
        values,
        dims=("t", "c", "z", "y", "x"),
        coords={"t": 0.1 * np.arange(t)},
        attrs={"pixel_um": pixel_um, "flags": [""] * t, **attrs},
    )


@pytest.mark.parametrize(("y", "x"), [(41, 41), (20, 90), (90, 31), (7, 5)])
def test_still_for_any_shape(tmp_path, y, x):
    missing = series(y=y, x=x, flags=["$because_{of}$"] * 3)
    missing[:] = np.nan
    panels = [
        Panel("widefield", series(y=y, x=x)),
        Panel("conv $x^", missing, "moving window"),
        Panel("NSTM", series(y=2 * y, x=2 * x, pixel_um=0.025)),
    ]
    save_png(still(panels), tmp_path / "still.png", dpi=60)
    with Image.open(tmp_path / "still.png") as picture:
        assert picture.width > 200
        assert np.asarray(picture.convert("L")).std() > 20


def test_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        save_png(still([Panel("NSTM", series())]), tmp_path / name, dpi=50)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_time_with_most_results_is_shown():
    window = series(t=5)
    window[0] = window[4] = window[2] = np.nan
    assert best_time([Panel("NSTM", series(t=5)), Panel("conventional", window)]) in (1, 3)


def test_zoom_goes_where_the_structure_is():
    images = series(y=60, x=80) * 0
    images.attrs["pixel_um"] = 0.05
    images[:, :, :, 38:44, 60:66] = 100 * np.random.default_rng(1).random((3, 1, 1, 6, 6))
    y0, x0, side = zoom_box([Panel("NSTM", images)], 1)
    assert y0 <= 38 * 0.05
    assert y0 + side >= 44 * 0.05
    assert x0 <= 60 * 0.05
    assert x0 + side >= 66 * 0.05
    assert y0 + side <= 60 * 0.05 + 1e-9


def test_motion_arrows_point_where_the_structure_moves():
    displacement = np.zeros((2, 40, 40), np.float32)
    displacement[1] = 0.08  # towards +x
    displacement[:, :, 20:] = np.nan
    figure = motion_figure(np.ones((40, 40)), displacement, 0.05)
    quiver = next(c for c in figure.axes[0].collections if hasattr(c, "U"))
    assert (np.asarray(quiver.U) > 0).all()
    assert np.allclose(quiver.V, 0)
    assert np.asarray(quiver.X).max() < 20 * 0.05
    assert figure.axes[0].yaxis_inverted()


def test_motion_without_any_arrow_and_wrong_shapes(tmp_path):
    nothing = np.full((2, 12, 9), np.nan)
    figure = motion_figure(np.full((12, 9), np.nan), nothing, 0.05)
    assert any("no displacement" in text.get_text() for text in figure.texts)
    save_png(figure, tmp_path / "m.png", dpi=50)
    with pytest.raises(DataError, match="expected"):
        motion_figure(np.ones((12, 8)), nothing, 0.05)


def test_illumination_figure_circles_every_order(tmp_path):
    vectors = [[0.0, 3.0], [2.6, 1.5]]
    figure = illumination_figure(np.random.default_rng(0).random((32, 48)), 0.06, vectors, 2, 5.6)
    centres = {tuple(np.round(p.center, 6)) for p in figure.axes[0].patches}
    assert {(3.0, 0.0), (-6.0, 0.0), (1.5, 2.6), (-3.0, -5.2), (0.0, 0.0)} <= centres
    save_png(figure, tmp_path / "i.png", dpi=50)


def test_what_does_not_move_is_grey_in_colour_coded_time():
    images = series(t=1).isel(t=[0, 0, 0]).assign_coords(t=[0.0, 0.1, 0.2])
    images.attrs["pixel_um"] = 0.05
    rgb = time_overlay(images, [0, 1, 2])
    assert np.abs(rgb.max(-1) - rgb.min(-1)).max() < 1e-6
    moving = time_overlay(series(), [0, 1, 2])
    assert np.abs(moving.max(-1) - moving.min(-1)).max() > 0.2


def test_overlay_leaves_missing_times_out():
    images = series(t=4)
    images[1] = np.nan
    figure = overlay_figure(images, range(4), title="a")
    assert [t.get_text() for t in figure.texts] == ["0 ms", "200 ms", "300 ms"]
    images[:] = np.nan
    with pytest.raises(DataError, match="none of the times"):
        time_overlay(images, range(4))
