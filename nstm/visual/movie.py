"""The side-by-side movie: every method in its own panel, all on one time axis, checked after it was written."""

from __future__ import annotations

from pathlib import Path

import imageio_ffmpeg
import numpy as np

from nstm.acquisition import DataError
from nstm.io.store import replace_whole
from nstm.settings import Movie
from nstm.visual.frames import display_note, movie_frames, stamps_of
from nstm.visual.panels import Layout, arrange, meaning
from nstm.visual.series import Panel, field_aspect, frames_per_time, moments, shared_times

#: H.264 in yuv420p plays in browsers and slides; bit-exact and with a fixed number of threads the same input
#: gives the same file; the index stands first, so that a browser starts before it has all.
ENCODER = [
    *("-crf", "16", "-preset", "veryfast", "-tune", "animation", "-g", "10", "-threads", "2"),
    *("-vf", "scale=out_color_matrix=bt709:out_range=tv"),
    *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
    *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
    *("-movflags", "+faststart", "-f", "mp4"),
]


def movie(
    panels: list[Panel], out: Path, settings: Movie, *, time_note: str = "", columns: int | None = None
) -> Layout:
    """Write the panels side by side as an MP4 (H.264, yuv420p), ``settings.frames_per_time`` frames per output time.

    The intensity range of a panel is one for all times (percentiles); a volume is shown as its maximum
    projection, coloured by depth. Between two times only what has a displacement moves; a mark says which panels show
    a time of their results. The file appears under its name only when it was read back and found whole.

    Args:
        panels: left to right; all share the times of the first.
        out: the file to write.
        settings: frame rate, frames per time, saturation, height, depth.
        time_note: stands behind the time stamp, e.g. that times are assumed.
        columns: panels in a row; default: as many as fill a screen best.

    Returns:
        The arrangement that was drawn.

    Raises:
        DataError: no panel or no time, panels with different times, or the file is not what was written.
    """
    times = shared_times(panels)
    layout = layout_of(panels, settings, columns, time_note)
    per_time = frames_per_time(panels, settings.frames_per_time)
    with replace_whole(out) as temporary:
        writer = imageio_ffmpeg.write_frames(
            str(Path(temporary).resolve()),
            layout.size,
            pix_fmt_in="rgb24",
            pix_fmt_out="yuv420p",
            fps=settings.frames_per_second * per_time,
            codec="libx264",
            quality=None,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=ENCODER,
        )
        writer.send(None)
        try:
            for frame in movie_frames(panels, layout, settings, time_note=time_note):
                writer.send(np.ascontiguousarray(frame))
        finally:
            writer.close()
        check_movie(Path(temporary), len(moments(times, per_time)), layout.size)
    return layout


def layout_of(panels: list[Panel], settings: Movie, columns: int | None = None, time_note: str = "") -> Layout:
    """Where the panels stand, with room for footnotes where there are any, and for the note at the bottom."""
    footnotes = any(panel.footnote or panel.arrows or meaning(panel.images, (0, 1)) for panel in panels)
    left = max(stamps_of(panels, settings, time_note), key=len)
    foot = left, display_note(panels, settings)
    aspect = field_aspect(panels)
    return arrange(len(panels), aspect, settings.height_px, footnotes=footnotes, foot=foot, columns=columns)


def check_movie(path: Path, frames: int, size: tuple[int, int]) -> None:
    """Read a movie back and compare its size and number of frames.

    Raises:
        DataError: the encoder wrote something else (or nothing: it does not always say so).
    """
    if not path.is_file() or path.stat().st_size == 0:
        raise DataError(f"{path}: the encoder wrote no movie of {size[0]} x {size[1]} px")
    reader = imageio_ffmpeg.read_frames(
        str(path.resolve()), pix_fmt="gray", bits_per_pixel=8, output_params=["-fps_mode", "passthrough"]
    )
    try:
        meta = next(reader)
        found = sum(1 for _ in reader)
    except (OSError, RuntimeError, StopIteration) as error:
        raise DataError(f"{path}: the movie cannot be read back: {error}") from error
    finally:
        reader.close()
    if tuple(meta["size"]) != tuple(size) or found != frames:
        raise DataError(
            f"{path}: the movie holds {found} frames of {meta['size']} px, expected {frames} of {tuple(size)}: "
            "is the disk full?"
        )
