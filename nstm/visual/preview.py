"""Movies and pictures made small enough to stand in a page."""

from __future__ import annotations

import io
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import imageio_ffmpeg
from PIL import Image

from nstm.visual.movie import ENCODER

#: Quality and largest width of the attempts to make a movie small: quality goes first, a smaller picture last.
_MOVIES = ((22, 1280), (26, 1280), (30, 1280), (31, 960), (34, 960), (36, 720), (39, 560))
#: Quality and scale of the attempts to make a picture small.
_PICTURES = ((88, 1.0), (78, 1.0), (70, 0.8), (65, 0.6), (55, 0.4), (40, 0.3))
#: Movies so much larger than the limit are left to their link: making them smaller would take long and show little.
_HOPELESS = 400


#: Most bytes of what stands in the page for one sample: 400 kB in all.
MOVIE_BYTES = 200_000
STILL_BYTES = 50_000
QUALITY_BYTES = 25_000
FIGURES_BYTES = 125_000


def write_small(folder: Path, movie: Path, still: Path, quality: Path, figures: Sequence[Path]) -> None:
    """Write small copies of the pictures and the movie of a sample, each under its own stem; 400 kB in all.

    Args:
        folder: where to; is made.
        movie: the movie; there is no copy where none can be small enough.
        still: the still figure.
        quality: the figure of the raw-data checks.
        figures: the other figures; larger files get more of the space.
    """
    folder.mkdir()
    data = small_movie(movie, MOVIE_BYTES)
    if data is not None:
        (folder / f"{movie.stem}.mp4").write_bytes(data)
    shares = figure_shares(figures)
    for path, most_bytes in [(still, STILL_BYTES), (quality, QUALITY_BYTES), *zip(figures, shares, strict=True)]:
        kind, picture = small_picture(path, most_bytes)
        (folder / f"{path.stem}.{kind}").write_bytes(picture)


def figure_shares(figures: Sequence[Path]) -> list[int]:
    """Bytes that each figure may take."""
    weights = [path.stat().st_size ** 0.5 for path in figures]
    return [int(FIGURES_BYTES * weight / sum(weights)) for weight in weights]


def small_movie(movie_file: Path, most_bytes: int) -> bytes | None:
    """A movie as bytes of at most ``most_bytes``: itself where small enough, else made smaller.

    Args:
        movie_file: the movie.
        most_bytes: limit.

    Returns:
        MP4, or ``None`` where no attempt was small enough.
    """
    size = movie_file.stat().st_size
    if size <= most_bytes:
        return movie_file.read_bytes()
    if size > _HOPELESS * most_bytes:
        return None
    # files shrink by about half with every six steps of quality: skip the attempts that cannot do
    likely = [(q, w) for q, w in _MOVIES if size * 0.5 ** ((q - 16) / 6) < 6 * most_bytes] or [_MOVIES[-1]]
    for quality, width in likely:
        with tempfile.TemporaryDirectory() as folder:
            small = Path(folder) / "preview.mp4"
            scale = f"scale='min({width},iw)':-2:out_color_matrix=bt709:out_range=tv"
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(movie_file.resolve())]
            command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", *ENCODER, "-crf", str(quality), "-vf", scale]
            done = subprocess.run([*command, str(small)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
            if done.returncode == 0 and small.is_file() and 0 < small.stat().st_size <= most_bytes:
                return small.read_bytes()
    return None


def small_picture(path: Path, most_bytes: int) -> tuple[str, bytes]:
    """(format, bytes) of a picture: itself where small enough, else a WebP that is.

    Raises:
        OSError: the picture cannot be read.
    """
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        if len(data) <= most_bytes and picture.format == "PNG":
            return "png", data
        rgb = picture.convert("RGB")
    for quality, scale in _PICTURES:
        out = io.BytesIO()
        size = max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale))
        rgb.resize(size, Image.Resampling.LANCZOS).save(out, "WEBP", quality=quality, method=4)
        if out.tell() <= most_bytes:
            break
    return "webp", out.getvalue()
