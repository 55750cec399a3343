"""What stands in the page is small enough, and still what it was."""

import numpy as np
from PIL import Image

from nstm.settings import Movie
from nstm.visual.movie import movie
from nstm.visual.preview import figure_shares, small_movie, small_picture, write_small
from nstm.visual.series import Panel

from .test_movie import read, series


def test_a_movie_is_small_enough(tmp_path):
    movie([Panel("a", series(t=12, y=128, x=128))], tmp_path / "m.mp4", Movie(height_px=512))
    size = (tmp_path / "m.mp4").stat().st_size
    assert small_movie(tmp_path / "m.mp4", size) == (tmp_path / "m.mp4").read_bytes()
    small = small_movie(tmp_path / "m.mp4", size // 2)
    assert small is not None
    assert len(small) <= size // 2
    (tmp_path / "small.mp4").write_bytes(small)
    assert len(read(tmp_path / "small.mp4")) == 12
    assert small_movie(tmp_path / "m.mp4", size // 1000) is None


def noise(path, width=400, height=300):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)).save(path)
    return path


def test_a_picture_is_small_enough(tmp_path):
    path = noise(tmp_path / "p.png")
    kind, data = small_picture(path, 20_000)
    assert (kind, len(data) <= 20_000) == ("webp", True)
    assert small_picture(path, 10**6) == ("png", path.read_bytes())


def test_copies_of_a_sample_fit_into_what_the_page_gives_it(tmp_path):
    movie([Panel("a", series(t=20, y=128, x=128))], tmp_path / "movie.mp4", Movie(height_px=900))
    pictures = [noise(tmp_path / f"{name}.png", 900, 700) for name in ("still", "quality", "f1", "f2", "f3")]
    write_small(tmp_path / "small", tmp_path / "movie.mp4", *pictures[:2], pictures[2:])
    found = {p.name: p.stat().st_size for p in (tmp_path / "small").iterdir()}
    assert {"still.webp", "quality.webp", "f1.webp", "f2.webp", "f3.webp"} <= set(found)
    assert sum(found.values()) <= 400_000
    assert figure_shares([]) == []
