"""Planes of a time lapse as pictures: one intensity range per panel, empty panels, scale bars, the arrangement."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from PIL import Image, ImageDraw

from nstm.acquisition import channels_of, in_colour, main_channel
from nstm.visual.colour import ACCENT, BACKGROUND, EMPTY, FAINT, TEXT, depth_colours, lookup, srgb_from_linear
from nstm.visual.text import draw_text, fitted, font, wrapped

#: Pixels looked at for the intensity range: enough for stable percentiles of any recording.
_RANGE_PIXELS = 4_000_000


def volume(images: xr.DataArray, time_index: int, channel: int | None = None) -> np.ndarray:
    """One time as ``(z, y, x)`` float32.

    Of several channels the main one unless ``channel`` says another; of colours their mean, the brightness.
    """
    if channel is None and in_colour(channels_of(images)):
        return np.mean(shown_volumes(images, time_index), axis=0)
    channel = main_channel(images) if channel is None else channel
    return np.asarray(images.isel(t=time_index, c=channel).transpose("z", "y", "x").values, dtype=np.float32)


def shown_volumes(images: xr.DataArray, time_index: int) -> np.ndarray:
    """What a panel shows of one time, ``(c, z, y, x)`` float32: red, green and blue, or the main channel alone."""
    if not in_colour(channels_of(images)):
        return volume(images, time_index)[None]
    return np.asarray(images.isel(t=time_index).transpose("c", "z", "y", "x").values, dtype=np.float32)


def picture_of(volumes: np.ndarray) -> np.ndarray:
    """What is :func:`shown_volumes` as a picture ``(y, x)``, or ``(y, x, 3)`` in colour: the maximum along z."""
    found = [projected(planes) for planes in volumes]
    return found[0] if len(found) == 1 else np.stack(found, axis=-1)


def projected(planes: np.ndarray) -> np.ndarray:
    """``(z, y, x)`` as a picture ``(y, x)``: its maximum along z; NaN stays where no plane has a value."""
    if planes.shape[0] == 1:
        return planes[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN columns are meant to stay NaN
        return np.asarray(np.nanmax(planes, axis=0), dtype=np.float32)


def plane(images: xr.DataArray, time_index: int, channel: int | None = None) -> np.ndarray:
    """The picture ``(y, x)`` float32 of one time: the plane, or the maximum projection of a volume along z.

    Of several channels the main one is shown unless ``channel`` says another. NaN stays where no plane has a value.
    """
    return projected(volume(images, time_index, channel))


def colours_of(images: xr.DataArray) -> str:
    """The map that a single channel is shown in: grey, or two colours about a light zero where signs mean something."""
    return "RdBu_r" if channels_of(images)[main_channel(images)].colour == "signed" else "gray"


def meaning(images: xr.DataArray, limits: tuple[float, float]) -> str:
    """What the colours of a panel mean, where that is more than relative brightness: quantity, range and unit."""
    channel = channels_of(images)[main_channel(images)]
    if not channel.unit and channel.colour != "signed":
        return ""
    ends = ("blue", "red") if channel.colour == "signed" else ("black", "white")
    low, high = (f"{value:.2g}".replace("-", "\N{MINUS SIGN}") for value in limits)
    return f"{channel.name}: {ends[0]} {low}, {ends[1]} {high} {channel.unit}".rstrip()


def intensity_range(images: xr.DataArray, saturated_percent: float = 0.1) -> tuple[float, float]:
    """Black and white of a panel: percentiles of what it shows over all times, NaN and infinity ignored.

    Where signs mean something they lie the same way from zero.

    Args:
        images: dims ``(t, c, z, y, x)``.
        saturated_percent: pixels below black and above white, percent each.

    Returns:
        ``(black, white)`` with black < white; ``(0, 1)`` where no pixel has a value.
    """
    count = images.sizes["t"]
    share = max(1, math.ceil(count * images.sizes["y"] * images.sizes["x"] / _RANGE_PIXELS))
    values = [_finite(picture_of(shown_volumes(images, i)).ravel()[i % share :: share]) for i in range(count)]
    found = np.concatenate(values) if values else np.empty(0, np.float32)
    if found.size == 0:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(found, [saturated_percent, 100 - saturated_percent]))
    if colours_of(images) != "gray":
        largest = max(abs(low), abs(high)) or 1.0
        return -largest, largest
    if not high > low:
        return low, low + max(abs(low), 1.0)
    return low, high


def _finite(values: np.ndarray) -> np.ndarray:
    return values[np.isfinite(values)]


def to_rgb(
    image: np.ndarray, limits: tuple[float, float], size: tuple[int, int], *, colours: str = "gray", gamma: float = 1.0
) -> Image.Image:
    """A plane as an RGB picture, enlarged by whole pixels where that fits, else by Lanczos.

    Args:
        image: ``(y, x)`` float, or ``(y, x, 3)`` in colour; pixels without a value (NaN) become dark and neutral.
        limits: black and white.
        size: (width, height) of the picture, pixel.
        colours: name of the map of ``(y, x)``.
        gamma: exponent of the display, 1 is linear; whoever changes it states it.
    """
    parts = np.atleast_3d(image)
    valid = np.isfinite(parts).all(axis=-1)
    if not valid.any():
        return Image.new("RGB", size, EMPTY)
    low, high = limits
    scaled = np.where(valid[..., None], (parts - low) / (high - low), 0.0).astype(np.float32)
    whole = size[0] % image.shape[1] == 0 and size[0] // image.shape[1] * image.shape[0] == size[1]
    method = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
    # clipped after the enlargement, so that Lanczos sees the data and not its saturated copy
    enlarged = [np.asarray(Image.fromarray(part).resize(size, method)) for part in np.moveaxis(scaled, -1, 0)]
    levels = np.round(255 * np.clip(np.stack(enlarged, axis=-1), 0, 1) ** gamma).astype(np.uint8)
    rgb = levels if image.ndim == 3 else lookup(colours)[levels[..., 0]]
    if not valid.all():
        hole = Image.fromarray((~valid).astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
        rgb[np.asarray(hole) > 127] = EMPTY
    return Image.fromarray(rgb)


def depth_to_rgb(planes: np.ndarray, limits: tuple[float, float], size: tuple[int, int]) -> Image.Image:
    """The maximum projection of ``(z, y, x)`` along z, each pixel in the colour of the plane that it comes from.

    The brightness is linear in the value as in grey pictures, of equal lightness at every depth.
    """
    low, high = limits
    valid = np.isfinite(planes).any(axis=0)
    filled = np.where(np.isfinite(planes), planes, -np.inf)
    level = np.clip((np.where(valid, filled.max(axis=0), low) - low) / (high - low), 0, 1)
    tones = depth_colours(planes.shape[0])[filled.argmax(axis=0)]
    rgb = np.round(255 * srgb_from_linear(tones) * level[..., None]).astype(np.uint8)
    picture = Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS)
    if not valid.all():
        hole = Image.fromarray((~valid).astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
        picture.paste(EMPTY, mask=hole)
    return picture


def empty_panel(size: tuple[int, int], reason: str, text_px: int) -> Image.Image:
    """The panel of a time without a result: dark, neutral, and it says so (and why, where that is known)."""
    picture = Image.new("RGB", size, EMPTY)
    lines = wrapped("no result at this time", font(text_px), size[0] * 0.9, 2)
    small = max(8, round(text_px * 0.8))
    why = wrapped(reason, font(small), size[0] * 0.9, 3) if reason else []
    y = size[1] / 2 - (len(lines) + len(why) - 1) * text_px * 0.7
    for text, px, colour in [(t, text_px, TEXT) for t in lines] + [(t, small, FAINT) for t in why]:
        draw_text(picture, (size[0] / 2, y), text, px, colour, anchor="mm")
        y += text_px * 1.4
    return picture


@dataclass(frozen=True)
class Layout:
    """Where the cells of the panels lie; all lengths in pixel.

    A cell is a strip with the panel's name, the picture, and a strip for its footnote where any panel has one.
    """

    columns: int
    rows: int
    picture: tuple[int, int]
    text_px: int
    footnotes: bool
    gap: int
    foot: int
    note_lines: int = 0  # lines below the time stamp for a note that has no room beside it

    @property
    def head(self) -> int:
        """Height of the strip with the panel's name."""
        return round(self.text_px * 1.8)

    @property
    def note(self) -> int:
        """Height of the strip with the panel's footnote."""
        return round(self.text_px * 2.1) if self.footnotes else 0

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the whole picture, both even as H.264 with yuv420p needs."""
        width = self.columns * self.picture[0] + (self.columns + 1) * self.gap
        height = self.rows * (self.picture[1] + self.head + self.note) + self.gap + self.foot
        return width + width % 2, height + height % 2

    def corner(self, index: int) -> tuple[int, int]:
        """(x, y) of the upper left corner of the picture of panel ``index``."""
        row, column = divmod(index, self.columns)
        x = self.gap + column * (self.picture[0] + self.gap)
        return x, self.head + row * (self.picture[1] + self.head + self.note)


def arrange(
    count: int,
    aspect: float,
    height_px: int,
    *,
    footnotes: bool = False,
    foot: tuple[str, str] = ("", ""),
    columns: int | None = None,
    limit: tuple[int, int] = (3840, 2160),
) -> Layout:
    """Panels side by side, or below each other where the field is wide, within ``limit`` (width, height).

    Args:
        count: number of panels.
        aspect: width / height of the field.
        height_px: wished height of one panel; smaller where the whole would pass the limit.
        footnotes: keep a strip below the panels for a footnote.
        foot: the longest left and right text of the line at the bottom; the right one goes below where it is too long.
        columns: panels in a row; default: as many as fill a screen best.
        limit: largest movie (4K: beyond it browsers stop decoding in hardware).
    """

    def fill(columns: int) -> float:  # scale at which the panels fill a 16:9 screen
        return min(16 / (columns * aspect), 9 / math.ceil(count / columns))

    columns = columns or max(range(1, count + 1), key=lambda c: (fill(c) * (1.5 if c == count else 1), c))
    rows = math.ceil(count / columns)
    height = float(height_px)
    while True:
        size = max(2, round(height * aspect)), max(2, round(height))
        # readable when a 1080 line screen shows the whole movie: 2.2 % of the height of one row, at least
        text = max(11, round(min(height * 0.042, size[0] * 0.045)), round(rows * height * 0.018))
        layout = _with_note(
            Layout(columns, rows, size, text, footnotes, max(4, round(text * 0.4)), round(text * 2.0)), *foot
        )
        excess = max(layout.size[0] / limit[0], layout.size[1] / limit[1])
        if excess <= 1 or height <= 32:
            return layout
        height /= max(excess, 1.01)


def _with_note(layout: Layout, left: str, right: str) -> Layout:
    """The layout with lines below the time stamp where the note does not fit beside it."""
    px, width = layout.text_px, layout.size[0]
    face = font(max(9, round(px * 0.78)))
    beside = width - 3 * layout.gap - font(px).getlength(left) - 5 * px  # with the squares of a few blocks
    if face.getlength(right) <= beside:
        return layout
    words = len(wrapped(right, face, width - 2 * layout.gap, 6))
    return replace(layout, note_lines=words, foot=layout.foot + round(words * 1.3 * face.size + 0.2 * px))


def draw_frame(
    layout: Layout,
    pictures: Sequence[Image.Image],
    names: Sequence[str],
    footnotes: Sequence[str],
    foot_left: str,
    foot_right: str,
    *,
    measured: Sequence[bool] | None = None,
    block: tuple[int, int] | None = None,
) -> Image.Image:
    """Put the pictures of one time with their names, footnotes and the line at the bottom together.

    Args:
        layout: where they stand.
        pictures: one for each panel, as ``names`` and ``footnotes``.
        names: what stands above each.
        footnotes: what stands below each.
        foot_left: left end of the line at the bottom.
        foot_right: right end of it, smaller; left out where there is no room.
        measured: whether a panel shows a time of its results (a filled mark) or not (an empty one); ``None``: no marks.
        block: number of the block (orientation) and how many there are, drawn as a row of squares.
    """
    canvas = Image.new("RGB", layout.size, BACKGROUND)
    px, width = layout.text_px, layout.picture[0]
    small = max(9, round(px * 0.78))
    for i, (picture, name, note) in enumerate(zip(pictures, names, footnotes, strict=True)):
        x, y = layout.corner(i)
        room = width - (0 if measured is None else 1.4 * px)
        draw_text(canvas, (x, y - layout.head / 2), fitted(name, font(px, bold=True), room), px, TEXT, bold=True)
        if measured is not None:
            _draw_mark(canvas, (x + width - 0.6 * px, y - layout.head / 2), px * 0.32, filled=measured[i])
        canvas.paste(picture, (x, y))
        step = layout.note / 2.2
        for k, line in enumerate(wrapped(note, font(small), width, 2)):
            draw_text(canvas, (x, y + layout.picture[1] + step * (k + 0.6)), line, small, FAINT)
    middle = layout.size[1] - layout.foot + layout.text_px
    start = layout.gap + (0 if block is None else _draw_block(canvas, (layout.gap, middle), px, *block))
    left = fitted(foot_left, font(px), layout.size[0] - layout.gap - start)
    draw_text(canvas, (start, middle), left, px, TEXT)
    if layout.note_lines:
        lines = wrapped(foot_right, font(small), layout.size[0] - 2 * layout.gap, layout.note_lines)
        for k, line in enumerate(lines):
            draw_text(canvas, (layout.gap, middle + px + small * (1.3 * k + 0.4)), line, small, FAINT)
        return canvas
    room = layout.size[0] - start - 2 * layout.gap - font(px).getlength(left) - px
    right = fitted(foot_right, font(small), room) if room > 4 * px else ""
    draw_text(canvas, (layout.size[0] - layout.gap, middle), right, small, FAINT, anchor="rm")
    return canvas


def _draw_mark(canvas: Image.Image, centre: tuple[float, float], radius: float, *, filled: bool) -> None:
    box = [centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius]
    draw = ImageDraw.Draw(canvas)
    fill, edge = (ACCENT, ACCENT) if filled else (None, FAINT)
    draw.ellipse(box, fill=fill, outline=edge, width=max(1, int(radius / 3)))


def _draw_block(canvas: Image.Image, left: tuple[float, float], px: int, block: int, count: int) -> float:
    """A row of squares, that of the current block filled; the width that it takes."""
    side, draw = 0.62 * px, ImageDraw.Draw(canvas)
    for i in range(count):
        x, y = left[0] + i * side * 1.35, left[1] - side / 2
        shown = {"fill": ACCENT} if i == block else {"outline": FAINT}
        draw.rectangle([x, y, x + side, y + side], width=max(1, round(side / 10)), **shown)
    return count * side * 1.35 + 0.5 * px
