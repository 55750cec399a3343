"""The movie is written, read back and says what it shows."""

import hashlib

import imageio_ffmpeg
import numpy as np
import pytest
import xarray as xr

from nstm.acquisition import DataError
from nstm.settings import Movie
from nstm.visual.frames import Painter, display_note, movie_frames
from nstm.visual.movie import check_movie, layout_of, movie
from nstm.visual.panels import arrange
from nstm.visual.series import Outline, Panel, align_times, moments, place_in_series


def series(t=4, y=33, x=45, z=1, seed=0, **attrs) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, 50.0, (t, 1, z, y, x)).astype(np.float32)
    return xr.DataArray(
        values,
        dims=("t", "c", "z", "y", "x"),
        coords={"t": 0.05 + 0.1 * np.arange(t)},
        attrs={"pixel_um": 0.05, "flags": [""] * t, **attrs},
    )


def read(path) -> np.ndarray:
    reader = imageio_ffmpeg.read_frames(str(path))
    size = next(reader)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(size[1], size[0], 3) for frame in reader])


@pytest.mark.parametrize(("y", "x", "height"), [(33, 45, 97), (20, 91, 64), (50, 50, 101)])
def test_odd_sizes_give_even_movies(tmp_path, y, x, height):
    panels = [Panel("widefield", series(y=y, x=x)), Panel("NSTM", series(y=2 * y, x=2 * x, seed=1))]
    layout = movie(panels, tmp_path / "m.mp4", Movie(height_px=height))
    frames = read(tmp_path / "m.mp4")
    assert frames.shape == (4, layout.size[1], layout.size[0], 3)
    assert layout.size[0] % 2 == layout.size[1] % 2 == 0
    assert [p.name for p in tmp_path.iterdir()] == ["m.mp4"]


def test_what_is_drawn_is_what_plays(tmp_path):
    panels = [Panel("NSTM", series())]
    settings = Movie(height_px=96)
    layout = movie(panels, tmp_path / "m.mp4", settings)
    drawn = np.stack(list(movie_frames(panels, layout, settings)))
    assert np.abs(read(tmp_path / "m.mp4").astype(float) - drawn).mean() < 6


def test_same_input_same_file(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        movie([Panel("NSTM", series())], tmp_path / name, Movie(height_px=64))
    first, second = (hashlib.sha256((tmp_path / n).read_bytes()).hexdigest() for n in ("a.mp4", "b.mp4"))
    assert first == second


@pytest.mark.parametrize("frames_per_second", [0.5, 4.0, 29.97, 120.0])
@pytest.mark.parametrize("t", [1, 3])
def test_any_rate_and_a_single_time(tmp_path, frames_per_second, t):
    movie([Panel("NSTM", series(t=t))], tmp_path / "m.mp4", Movie(frames_per_second=frames_per_second, height_px=64))
    assert len(read(tmp_path / "m.mp4")) == t


def test_panel_without_a_result_is_empty_at_that_time_only():
    images = series(flags=["the window reaches beyond the series", "", "", ""])
    images[0] = np.nan
    panels = [Panel("conventional (moving window)", images, "does not raise time resolution"), Panel("NSTM", series())]
    settings = Movie(height_px=120)
    layout = arrange(2, 45 / 33, 120, footnotes=True)
    frames = list(movie_frames(panels, layout, settings))
    x, y = layout.corner(0)
    inner = [f[y + 2 : y + 20, x + 2 : x + layout.picture[0] - 2] for f in frames]
    assert np.ptp(inner[0], axis=(0, 1)).max() == 0
    assert all(i.std() > 10 for i in inner[1:])


def test_volumes_and_wholly_missing_series(tmp_path):
    nothing = series(z=3) * np.nan
    nothing.attrs["pixel_um"] = 0.05
    panels = [Panel("NSTM", series(z=3)), Panel("static", nothing)]
    movie(panels, tmp_path / "m.mp4", Movie(height_px=64))
    assert display_note(panels, Movie()).startswith("maximum projection along z")


def test_times_must_be_shared(tmp_path):
    with pytest.raises(DataError, match="different times"):
        movie([Panel("a", series(t=3)), Panel("b", series(t=4))], tmp_path / "m.mp4", Movie())
    with pytest.raises(DataError, match="no panel"):
        movie([], tmp_path / "m.mp4", Movie())
    with pytest.raises(DataError, match="holds no time"):
        movie([Panel("a", series(t=3)[:0])], tmp_path / "m.mp4", Movie())
    assert not list(tmp_path.iterdir())


def test_failing_in_the_middle_leaves_nothing(tmp_path):
    class Broken(Panel):
        def reason(self, time_index):
            raise RuntimeError("disk gone")

    images = series()
    images[2] = np.nan
    with pytest.raises(RuntimeError, match="disk gone"):
        movie([Broken("a", images)], tmp_path / "m.mp4", Movie(height_px=64))
    assert not list(tmp_path.iterdir())


def test_a_wrong_file_is_found(tmp_path):
    layout = movie([Panel("a", series())], tmp_path / "m.mp4", Movie(height_px=64))
    check_movie(tmp_path / "m.mp4", 4, layout.size)
    with pytest.raises(DataError, match="holds 4 frames"):
        check_movie(tmp_path / "m.mp4", 5, layout.size)
    with pytest.raises(DataError, match="holds 4 frames"):
        check_movie(tmp_path / "m.mp4", 4, (layout.size[0] + 2, layout.size[1]))
    with pytest.raises(DataError, match="wrote no movie"):
        check_movie(tmp_path / "absent.mp4", 4, layout.size)
    (tmp_path / "text.mp4").write_text("no movie")
    with pytest.raises(DataError, match="cannot be read back"):
        check_movie(tmp_path / "text.mp4", 4, layout.size)


def test_place_in_series():
    assert place_in_series([Panel("a", series(t=6, block=[0, 1, 2, 0, 1, 2]))], 4) == "acquisition 1, orientation 1"
    assert place_in_series([Panel("a", series(block=[-1, -1, -1, -1]))], 1) == ""
    assert place_in_series([Panel("a", series())], 1) == ""


def test_truth_on_the_times_of_the_results():
    truth = series(t=8)
    times = truth["t"].values[1::2] + 0.004
    on = align_times(truth, times)
    assert np.array_equal(on.values, truth.values[1::2])
    assert on.attrs["pixel_um"] == 0.05
    late = align_times(truth, np.array([0.05, 9.0, 9.1]))
    assert np.isnan(late.values[1:]).all()
    assert "no such time" in late.attrs["flags"][1]
    still = align_times(truth[:1], times)
    assert still.sizes["t"] == 4
    assert np.array_equal(still.values[3], truth.values[0])


def moving(shift=4.0, t=3, y=40, x=48) -> Panel:
    """A spot that goes ``shift`` pixels to the right from time to time, with the displacement that says so."""
    yy, xx = np.mgrid[:y, :x]
    values = [np.exp(-((yy - y / 2) ** 2 + (xx - 12 - shift * i) ** 2) / 8) for i in range(t)]
    images = series(t=t, y=y, x=x).copy(data=np.array(values, np.float32)[:, None, None])
    displacement = xr.DataArray(np.zeros((t, 2, 1, y, x), np.float32), dims=("t", "c", "z", "y", "x"))
    displacement[:, 1] = shift * 0.05
    displacement[0] = np.nan
    return Panel("NSTM", images, displacement=displacement)


def centre(picture) -> float:
    light = np.asarray(picture, dtype=float)[:, :, 1].sum(axis=0)
    light = np.maximum(light - np.median(light), 0)
    return float((light * np.arange(light.size)).sum() / light.sum())


def test_a_panel_with_a_displacement_is_carried_along_and_marked():
    panel = moving()
    settings = Movie(height_px=160, frames_per_time=4)
    layout = layout_of([panel], settings)
    painter = Painter(panel, layout, settings)
    shown = moments(panel.images["t"].values, 4)
    assert [m.measured for m in shown] == [True, *[False, False, False, True] * 2]
    px = layout.picture[0] / 48
    pictures = [np.asarray(painter.picture(m))[:100] for m in shown]  # above the scale bar
    found = [centre(p) / px for p in pictures]
    assert np.diff(found) == pytest.approx(np.ones(8), abs=0.1)
    assert found[-1] - found[0] == pytest.approx(8, abs=0.1)
    x, y = layout.corner(0)
    frames = list(movie_frames([panel], layout, settings))
    corner = (slice(0, y), slice(x + layout.picture[0] - 2 * layout.text_px, x + layout.picture[0]))
    filled = [int(((f[corner][..., 0] > 200) & (f[corner][..., 2] < 80)).sum()) for f in frames]
    assert all((n > 10) == m.measured for n, m in zip(filled, shown, strict=True))


def test_without_a_displacement_nothing_stands_between_two_times(tmp_path):
    layout = movie([Panel("a", series())], tmp_path / "m.mp4", Movie(height_px=64, frames_per_time=5))
    check_movie(tmp_path / "m.mp4", 4, layout.size)


def test_other_panels_wait_and_gaps_are_not_filled():
    panel, other = moving(), Panel("widefield", series(t=3, y=40, x=48))
    panel.displacement[2] = np.nan  # the next acquisition
    settings = Movie(height_px=96, frames_per_time=2)
    layout = layout_of([panel, other], settings)
    frames = list(movie_frames([panel, other], layout, settings))
    (x, y), (width, height) = layout.corner(1), layout.picture
    assert np.array_equal(frames[0][y : y + height, x : x + width], frames[1][y : y + height, x : x + width])
    x, y = layout.corner(0)
    assert not np.array_equal(frames[0][y : y + height, x : x + width], frames[1][y : y + height, x : x + width])
    assert np.array_equal(frames[2][y : y + height, x : x + width], frames[3][y : y + height, x : x + width])


def test_arrows_point_where_the_structure_goes_and_the_region_is_outlined():
    panel = moving()
    corners = np.array([[0.2, 0.2], [0.2, 0.8], [0.8, 0.8], [0.8, 0.2]])
    arrows = Panel("NSTM, displacement", panel.images, displacement=panel.displacement, arrows=True)
    marked = Panel("NSTM", panel.images, outlines=(Outline(corners, frozenset({1})),))
    settings = Movie(height_px=200)
    layout = layout_of([arrows], settings)
    shown = moments(panel.images["t"].values, 1)
    picture = np.asarray(Painter(arrows, layout, settings).picture(shown[1])).astype(int)
    coloured = np.ptp(picture[:, : layout.picture[0] // 2], axis=-1) > 60
    assert coloured.sum() > 200
    assert "longest 200 nm" in Painter(arrows, layout, settings).footnote
    plain = [np.asarray(Painter(marked, layout, settings).picture(m)).astype(int) for m in shown]
    accents = [((p[..., 0] - p[..., 2]) > 150).sum() for p in plain]
    assert accents[1] > 100
    assert accents[0] == accents[2] == 0


def test_depth_is_coloured_from_blue_to_orange():
    images = series(t=1, z=5, z_step_um=0.2) * 0
    images.attrs = {"pixel_um": 0.05, "z_step_um": 0.2}
    images[0, 0, 0, 10:20, 5:15] = 1
    images[0, 0, 4, 10:20, 30:40] = 1
    settings = Movie(height_px=330)
    layout = layout_of([Panel("NSTM", images)], settings)
    shown = moments(images["t"].values, 1)[0]
    picture = np.asarray(Painter(Panel("NSTM", images), layout, settings).picture(shown)).astype(int)
    first, last = picture[150, 100], picture[150, 350]
    assert first[2] > first[0] + 30
    assert last[0] > last[2] + 30
    grey = Movie(height_px=330, depth_colours=False)
    plain = np.asarray(Painter(Panel("NSTM", images), layout, grey).picture(shown)).astype(int)
    assert np.ptp(plain[150, 100]) == 0
