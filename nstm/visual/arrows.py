"""Displacements as arrows coloured by direction, drawn into the pictures of a movie, with the wheel as legend."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from nstm.visual.colour import direction_colours
from nstm.visual.series import Panel
from nstm.visual.text import draw_text

#: Arrows along the shorter side.
_ARROWS = 24
#: Length of the longest arrow, in distances.
_LONGEST = 1.5
#: Drawn so many times larger and then reduced, for smooth edges.
_FINER = 3
#: Share of the displacements that no arrow is longer than.
_PERCENTILE = 99.5


def in_plane(displacement: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """Lateral displacement ``(2, y, x)`` of what a maximum projection shows.

    Args:
        displacement: ``(d, z, y, x)``, (y, x) or (z, y, x).
        planes: ``(z, y, x)``, values that the projection takes its maximum of.
    """
    lateral = displacement[-2:]
    if planes.shape[0] == 1:
        return lateral[:, 0]
    known = np.isfinite(lateral).all(axis=0)
    brightest = np.where(known, np.nan_to_num(planes, nan=-np.inf), -np.inf).argmax(axis=0)
    return np.take_along_axis(lateral, brightest[None, None], axis=1)[:, 0]


def enlargement(panel: Panel, um_per_px: float, size: tuple[int, int]) -> tuple[float, float]:
    """How many times longer than in the sample arrows are drawn at all times, and the longest displacement, um."""
    lengths = []
    for index in range(panel.images.sizes["t"]):
        moved = panel.moved(index)
        if moved is not None:
            length = np.hypot(*moved[-2:])
            lengths.append(length[np.isfinite(length)])
    found = np.concatenate(lengths) if lengths else np.zeros(0)
    longest = float(np.percentile(found, _PERCENTILE)) if found.size else 0.0
    if longest <= 0:
        return 1.0, 0.0
    return max(1.0, float(f"{min(size) / _ARROWS * _LONGEST * um_per_px / longest:.1g}")), longest


def draw_arrows(picture: Image.Image, displacement_um: np.ndarray, um_per_px: float, text_px: int) -> None:
    """Draw arrows that end at the structure's place, none where the displacement is not known.

    Args:
        picture: of the field, drawn into.
        displacement_um: ``(2, y, x)``, (y, x) components, um, NaN where not known.
        um_per_px: length that one pixel of an arrow stands for, um.
        text_px: height of the text; sets distance and width.
    """
    ny, nx = displacement_um.shape[1:]
    step = max(min(picture.size) / _ARROWS, 6)
    ys, xs = np.arange(step / 2, picture.height, step), np.arange(step / 2, picture.width, step)
    rows = np.minimum((ys * ny / picture.height).astype(int), ny - 1)
    columns = np.minimum((xs * nx / picture.width).astype(int), nx - 1)
    vectors = displacement_um[:, rows[:, None], columns[None, :]]
    large = Image.new("RGBA", (picture.width * _FINER, picture.height * _FINER))
    draw = ImageDraw.Draw(large)
    width = max(1.2, text_px / 11) * _FINER
    for i, j in np.argwhere(np.isfinite(vectors).all(axis=0)):
        vector = vectors[:, i, j]
        along = vector / um_per_px * _FINER
        length = float(np.hypot(*along))
        if length < 0.5 * _FINER:
            continue
        along *= min(1.0, 1.6 * _LONGEST * step * _FINER / length)  # single wild vectors do not cross the field
        tone = tuple(int(v) for v in np.round(255 * direction_colours(vector)))
        _arrow(draw, np.array([ys[i], xs[j]]) * _FINER, along, width, (*tone, 255))
    small = large.resize(picture.size, Image.Resampling.BOX)
    picture.paste(small, mask=small.getchannel("A"))


def _arrow(draw: ImageDraw.ImageDraw, tip: np.ndarray, along: np.ndarray, width: float, tone: tuple[int, ...]) -> None:
    """One arrow with its tip at ``tip`` (y, x), edged in black."""
    length = float(np.hypot(*along))
    unit = along / length
    side = np.array([unit[1], -unit[0]])
    head = min(3.2 * width, 0.75 * length)
    neck = tip - head * unit
    outline = [
        tip - along + side * width / 2, neck + side * width / 2, neck + side * head * 0.55, tip,
        neck - side * head * 0.55, neck - side * width / 2, tip - along - side * width / 2,
    ]  # fmt: skip
    points = [(float(x), float(y)) for y, x in outline]
    draw.line([*points, points[0]], fill=(0, 0, 0, 200), width=round(width * 0.8), joint="curve")
    draw.polygon(points, fill=tone)


def draw_wheel(picture: Image.Image, text_px: int) -> None:
    """The wheel of directions in the upper right corner."""
    size = round(text_px * 4.2)
    yy, xx = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = np.hypot(yy, xx)
    wheel = np.zeros((size, size, 4), dtype=np.uint8)
    wheel[..., :3] = np.round(255 * direction_colours(np.stack([yy, xx], axis=-1)))
    ring = np.clip((0.97 - radius) * size / 2, 0, 1) * np.clip((radius - 0.55) * size / 2, 0, 1)
    wheel[..., 3] = np.round(255 * ring)
    margin = round(0.6 * text_px)
    corner = (picture.width - margin - size, margin)
    disc = Image.new("L", (size, size))
    ImageDraw.Draw(disc).ellipse([0, 0, size - 1, size - 1], fill=170)
    picture.paste((0, 0, 0), corner, disc)
    image = Image.fromarray(wheel)
    picture.paste(image, corner, image.getchannel("A"))
    middle = (corner[0] + size / 2, corner[1] + size / 2)
    draw_text(picture, middle, "direction", max(8, round(text_px * 0.5)), (230, 230, 230), anchor="mm")
