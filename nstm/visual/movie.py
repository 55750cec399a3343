"""The side-by-side movie: every method in its own panel, all on one time axis, checked after it was written."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import xarray as xr

from nstm.acquisition import DataError
from nstm.io.store import replace_whole
from nstm.settings import Movie
from nstm.visual.panels import (
    Layout,
    arrange,
    colours_of,
    draw_frame,
    empty_panel,
    intensity_range,
    meaning,
    plane,
    to_rgb,
)
from nstm.visual.text import draw_scale_bar, time_labels

#: H.264 in yuv420p plays in browsers and slides; bit-exact and with a fixed number of threads the same input
#: gives the same file; the index stands first, so that a browser starts before it has all.
_ENCODER = [
    *("-crf", "16", "-preset", "medium", "-tune", "animation", "-g", "10", "-threads", "2"),
    *("-vf", "scale=out_color_matrix=bt709:out_range=tv"),
    *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
    *("-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact"),
    *("-movflags", "+faststart", "-f", "mp4"),
]


@dataclass(frozen=True)
class Panel:
    """One panel of a movie or figure.

    Args:
        name: what stands above it.
        images: dims ``(t, c, z, y, x)``, coordinate ``t`` in s, ``attrs["pixel_um"]``; NaN where no result
            exists; ``attrs["flags"]`` may say why, one text per time.
        footnote: a caveat that stands below it.
    """

    name: str
    images: xr.DataArray
    footnote: str = ""

    def reason(self, time_index: int) -> str:
        """Why there is no result at this time, where the store says so."""
        flags = self.images.attrs.get("flags") or []
        return str(flags[time_index] or "") if time_index < len(flags) else ""


def movie(
    panels: list[Panel], out: Path, settings: Movie, *, time_note: str = "", columns: int | None = None
) -> Layout:
    """Write the panels side by side as an MP4 (H.264, yuv420p), one movie frame per output time.

    The intensity range of a panel is one for all times (percentiles); a volume is shown as its maximum
    projection. The file appears under its name only when it was read back and found whole.

    Args:
        panels: left to right; all share the times of the first.
        out: the file to write.
        settings: frame rate, saturation, height.
        time_note: stands behind the time stamp, e.g. that times are assumed.
        columns: panels in a row; default: as many as fill a screen best.

    Returns:
        The arrangement that was drawn.

    Raises:
        DataError: no panel or no time, panels with different times, or the file is not what was written.
    """
    times = shared_times(panels)
    footnotes = any(panel.footnote or meaning(panel.images, (0, 1)) for panel in panels)
    layout = arrange(len(panels), field_aspect(panels), settings.height_px, footnotes=footnotes, columns=columns)
    with replace_whole(out) as temporary:
        writer = imageio_ffmpeg.write_frames(
            str(Path(temporary).resolve()),
            layout.size,
            pix_fmt_in="rgb24",
            pix_fmt_out="yuv420p",
            fps=settings.frames_per_second,
            codec="libx264",
            quality=None,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=_ENCODER,
        )
        writer.send(None)
        try:
            for frame in movie_frames(panels, layout, settings, time_note=time_note):
                writer.send(np.ascontiguousarray(frame))
        finally:
            writer.close()
        check_movie(Path(temporary), len(times), layout.size)
    return layout


def shared_times(panels: list[Panel]) -> np.ndarray:
    """The times (s) that all panels share.

    Raises:
        DataError: there is no panel, no time, or the times differ.
    """
    if not panels:
        raise DataError("nothing to show: no panel was given")
    times = np.asarray(panels[0].images["t"].values, dtype=np.float64)
    if times.size == 0:
        raise DataError(f"panel {panels[0].name!r} holds no time: nothing to show")
    for panel in panels[1:]:
        other = np.asarray(panel.images["t"].values, dtype=np.float64)
        if other.shape != times.shape or not np.allclose(other, times, rtol=1e-9, atol=1e-9):
            raise DataError(
                f"panels {panels[0].name!r} ({times.size} times) and {panel.name!r} ({other.size} times) have "
                "different times: put them on one time axis first"
            )
    return times


def field_aspect(panels: list[Panel]) -> float:
    """Width / height of the field (of the widest panel)."""
    return max(panel.images.sizes["x"] / panel.images.sizes["y"] for panel in panels)


def movie_frames(panels: list[Panel], layout: Layout, settings: Movie, *, time_note: str = "") -> Iterator[np.ndarray]:
    """The frames ``(height, width, 3)`` uint8 of a movie, one per time, each read only when it is drawn."""
    times = shared_times(panels)
    stamps = time_labels(times)
    limits = [intensity_range(panel.images, settings.saturated_percent) for panel in panels]
    note = display_note(panels, settings)
    told = [(meaning(p.images, limit), p.footnote) for p, limit in zip(panels, limits, strict=True)]
    footnotes = ["; ".join(filter(None, parts)) for parts in told]
    for i in range(len(times)):
        pictures = []
        for panel, limit in zip(panels, limits, strict=True):
            image = plane(panel.images, i)
            if not np.isfinite(image).any():
                pictures.append(empty_panel(layout.picture, panel.reason(i), layout.text_px))
                continue
            picture = to_rgb(image, limit, layout.picture, colours=colours_of(panel.images))
            um_per_px = float(panel.images.attrs["pixel_um"]) * panel.images.sizes["x"] / layout.picture[0]
            draw_scale_bar(picture, um_per_px, layout.text_px)
            pictures.append(picture)
        foot = " · ".join(part for part in (stamps[i] + time_note, place_in_series(panels, i)) if part)
        yield np.asarray(draw_frame(layout, pictures, [p.name for p in panels], footnotes, foot, note))


def place_in_series(panels: list[Panel], time_index: int) -> str:
    """Which acquisition, and which orientation (block) of it, a time belongs to, where a store says so.

    Stores carry ``block``, one number per time counted from 0 (-1: not the time of a block), and may carry
    ``block_name``. Where every time is that of a block, each acquisition has the same number of them.
    """
    for panel in panels:
        blocks = panel.images.attrs.get("block")
        if not isinstance(blocks, list) or len(blocks) != panel.images.sizes["t"]:
            continue
        count = max(blocks) + 1
        if min(blocks) < 0 or len(blocks) % count:
            return ""
        name = panel.images.attrs.get("block_name", "orientation")
        return f"acquisition {time_index // count}, {name} {blocks[time_index]}"
    return ""


def display_note(panels: list[Panel], settings: Movie) -> str:
    """How intensities are displayed, in words."""
    projection = "maximum projection along z, " if any(p.images.sizes["z"] > 1 for p in panels) else ""
    return (
        f"{projection}linear {shown_in(panels)} (gamma 1), one range per panel over all times, "
        f"{settings.saturated_percent:g} % saturated at each end"
    )


def shown_in(panels: list[Panel]) -> str:
    """``grey``, or ``colours`` where a panel has some."""
    return "grey" if all(colours_of(panel.images) == "gray" for panel in panels) else "colours"


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


def preview(movie_file: Path, most_bytes: int, *, widest_px: int = 1140) -> bytes | None:
    """A movie as bytes of at most ``most_bytes``: itself where small enough, else made smaller.

    Args:
        movie_file: the movie.
        most_bytes: limit.
        widest_px: widest picture of a smaller one.

    Returns:
        MP4, or ``None`` where no attempt was small enough.
    """
    size = movie_file.stat().st_size
    if size <= most_bytes:
        return movie_file.read_bytes()
    if size > 100 * most_bytes:  # hopeless, and it would take long
        return None
    for quality, width in [(27, widest_px), (33, widest_px), (35, widest_px * 2 // 3)]:
        with tempfile.TemporaryDirectory() as folder:
            small = Path(folder) / "preview.mp4"
            scale = f"scale='min({width},iw)':-2:out_color_matrix=bt709:out_range=tv"
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(movie_file.resolve())]
            command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", *_ENCODER, "-crf", str(quality), "-vf", scale]
            done = subprocess.run([*command, str(small)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
            if done.returncode == 0 and small.is_file() and 0 < small.stat().st_size <= most_bytes:
                return small.read_bytes()
    return None


def align_times(images: xr.DataArray, times_s: np.ndarray) -> xr.DataArray:
    """``images`` on the times of the others: the nearest within half the shortest step, NaN where there is none.

    A reference of a single time (a static sample) stands at every time; its panel must say so.
    """
    own = np.asarray(images["t"].values, dtype=np.float64)
    if own.size == 1 and times_s.size > 1:
        chosen = np.zeros(times_s.size, dtype=int)
        there = np.ones(times_s.size, dtype=bool)
    else:
        chosen = np.abs(own[None, :] - times_s[:, None]).argmin(axis=1)
        steps = np.diff(np.unique(times_s))
        tolerance = 0.5 * float(steps.min()) if steps.size else np.inf
        there = np.abs(own[chosen] - times_s) <= tolerance + 1e-9
    flags = list(images.attrs.get("flags") or [""] * own.size)
    picked = images.isel(t=chosen).assign_coords(t=times_s).astype(np.float32)
    picked = picked.where(xr.DataArray(there, dims="t", coords={"t": times_s}))
    picked.attrs = {
        **images.attrs,
        "flags": [flags[c] if ok else "the reference has no such time" for c, ok in zip(chosen, there, strict=True)],
    }
    return picked
