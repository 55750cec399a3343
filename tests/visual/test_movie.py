"""The movie is written, read back and says what it shows."""

import hashlib

import imageio_ffmpeg
import numpy as np
import pytest
import xarray as xr

from nstm.acquisition import DataError
from nstm.settings import Movie
from nstm.visual.movie import (
    Panel,
    align_times,
    check_movie,
    display_note,
    movie,
    movie_frames,
    place_in_series,
    preview,
)
from nstm.visual.panels import arrange


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


def test_preview_is_small_enough(tmp_path):
    movie([Panel("a", series(t=12, y=128, x=128))], tmp_path / "m.mp4", Movie(height_px=512))
    size = (tmp_path / "m.mp4").stat().st_size
    assert preview(tmp_path / "m.mp4", size) == (tmp_path / "m.mp4").read_bytes()
    small = preview(tmp_path / "m.mp4", size // 2)
    assert small is not None
    assert len(small) <= size // 2
    (tmp_path / "small.mp4").write_bytes(small)
    assert len(read(tmp_path / "small.mp4")) == 12
    assert preview(tmp_path / "m.mp4", size // 1000) is None
