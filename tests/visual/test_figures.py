"""Figures draw for every shape and hold what they say."""

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from nstm.acquisition import DataError
from nstm.visual.curves import frc_figure, loss_figure, profile, profile_figure, profile_line
from nstm.visual.figures import best_time, save_png, still, zoom_box
from nstm.visual.motion import backward_paths, motion_figure, paths_figure
from nstm.visual.overlay import overlay_figure, time_overlay
from nstm.visual.panels import intensity_range
from nstm.visual.series import Outline, Panel
from nstm.visual.snapshots import snapshots_figure
from nstm.visual.spectra import illumination_figure, spectra_figure


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


def test_what_rests_looks_as_in_grey():
    images = series(t=1).isel(t=[0, 0, 0]).assign_coords(t=[0.0, 0.1, 0.2])
    images.attrs["pixel_um"] = 0.05
    low, high = intensity_range(images)
    grey = np.clip((images.values[0, 0, 0] - low) / (high - low), 0, 1)
    assert np.abs(time_overlay(images, [0, 1, 2])[..., 1] - grey).max() < 0.01


def test_overlay_of_the_panels_that_have_all_times():
    whole, gap = series(t=4), series(t=4)
    gap[1] = np.nan
    figure = overlay_figure([Panel("window", gap), Panel("NSTM", whole)], range(4))
    assert [a.get_title(loc="left") for a in figure.axes[:1]] == ["NSTM"]
    assert [t.get_text() for t in figure.texts][:4] == ["0 ms", "100 ms", "200 ms", "300 ms"]
    whole[:] = np.nan
    with pytest.raises(DataError, match="none of the times"):
        time_overlay(whole, range(4))
    with pytest.raises(DataError, match="all of the times"):
        overlay_figure([Panel("window", gap)], range(4))


def test_paths_follow_the_displacement_backwards_and_end_where_it_is_unknown():
    displacement = np.zeros((4, 2, 30, 30))
    displacement[1:, 1] = 0.1
    displacement[1:, 0] = -0.05
    displacement[1, :, :, :10] = np.nan
    points = np.array([[0.5, 1.0], [0.5, 0.6]])
    paths = backward_paths(displacement, points, 0.05)
    assert paths[:, 0] == pytest.approx(
        np.stack([0.5 + 0.05 * np.arange(3, -1, -1), 1.0 - 0.1 * np.arange(3, -1, -1)], 1)
    )
    assert np.isnan(paths[0, 1]).all()
    assert paths[1, 1] == pytest.approx([0.6, 0.4])
    figure = paths_figure(np.ones((30, 30)), paths, 0.1 * np.arange(4), 0.05, limits=(0, 1))
    assert any("longest path 340 nm" in t.get_text() for t in figure.texts)


def test_spectra_say_gamma_and_draw_both_limits():
    missing = series()
    missing[:] = np.nan
    panels = [Panel("widefield", series()), Panel("none", missing), Panel("NSTM", series(y=80, x=80, pixel_um=0.025))]
    figure = spectra_figure(panels, 1, 5.0, 9.0)
    assert [a.get_title(loc="left") for a in figure.axes] == ["widefield", "NSTM"]
    assert [sorted(p.radius for p in a.patches) for a in figure.axes] == [[5.0, 9.0]] * 2
    assert "power of 0.3 (gamma)" in figure.texts[0].get_text()


def test_a_profile_is_read_where_its_line_lies():
    image = np.zeros((20, 20))
    image[:, 12] = 1
    values = profile(image, 0.1, np.array([[1.0, 0.5], [1.0, 1.95]]))
    at = np.linspace(0.5, 1.95, 400)[values.argmax()]
    assert at == pytest.approx(1.25, abs=0.01)  # middle of pixel 12
    panels = [Panel("widefield", series()), Panel("NSTM", series())]
    figure = profile_figure(panels, 1)
    ends = np.asarray(profile_line(panels, 1))
    assert np.count_nonzero(ends[0] != ends[1]) == 1
    assert [line.get_label() for line in figure.axes[1].lines] == ["widefield", "NSTM"]


def test_correlation_of_the_truth_with_itself_is_one():
    truth = Panel("truth", series())
    figure = frc_figure([Panel("NSTM", series())], truth, 0, 4.0, 9.0)
    assert np.allclose(figure.axes[0].lines[0].get_ydata(), 1)


def test_loss_and_snapshots_draw(tmp_path):
    fits = [{"index": i, "loss": [100.0, 10.0, 2.0], "loss_steps": [1, 50, 100], "noise_variance": 2.1} for i in (0, 1)]
    figure = loss_figure(fits)
    assert figure.axes[0].get_yscale() == "log"
    assert "acquisitions 0 (light) to 1" in figure.axes[0].get_xlabel()
    assert loss_figure([{**fits[0], "noise_variance": None}]).axes[0].get_xlabel() == "step"
    scenes = {step: series(t=1).values[0] for step in (50, 10)}
    drawn = snapshots_figure(scenes, 0.05)
    assert [a.get_title(loc="left") for a in drawn.axes] == ["after 10 steps", "after 50 steps"]
    save_png(drawn, tmp_path / "s.png", dpi=50)
    with pytest.raises(DataError, match="no snapshots"):
        snapshots_figure({}, 0.05)


def test_a_region_that_must_not_be_believed_is_outlined():
    corners = np.array([[0.2, 0.2], [0.2, 0.8], [0.8, 0.8]])
    panel = Panel("NSTM", series(), outlines=(Outline(corners, frozenset({1})),))
    marked, plain = (len(still([panel], time_index=i).axes[0].patches) for i in (1, 0))
    assert marked == plain + 2  # an edged line
