"""Text and scale bars drawn into pictures with Pillow, in the font that matplotlib ships (nothing to install)."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

RGB = tuple[int, int, int]

ELLIPSIS = "…"


@functools.cache
def font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at ``size_px`` pixel."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    # the basic layout engine draws the same pixels wherever Pillow was built with or without raqm
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name
    return ImageFont.truetype(path, max(1, size_px), layout_engine=ImageFont.Layout.BASIC)


def one_line(text: str, limit: int = 200) -> str:
    """``text`` without line breaks, control and direction-changing characters, at most ``limit`` long."""
    clean = " ".join("".join(c if c.isprintable() or c.isspace() else " " for c in str(text)).split())
    return clean if len(clean) <= limit else clean[: limit - 1] + ELLIPSIS


def fitted(text: str, face: ImageFont.FreeTypeFont, width_px: float) -> str:
    """``text`` on one line, cut with an ellipsis where it is wider than ``width_px``."""
    text = one_line(text)
    if face.getlength(text) <= width_px:
        return text
    while text and face.getlength(text + ELLIPSIS) > width_px:
        text = text[:-1]
    return text.rstrip() + ELLIPSIS if text else ""


def wrapped(text: str, face: ImageFont.FreeTypeFont, width_px: float, lines: int) -> list[str]:
    """``text`` broken at spaces into at most ``lines`` lines of ``width_px``, the last cut where needed."""
    words = one_line(text, 400).split()
    out: list[str] = []
    while words and len(out) < lines - 1:
        count = 1
        while count < len(words) and face.getlength(" ".join(words[: count + 1])) <= width_px:
            count += 1
        out.append(fitted(" ".join(words[:count]), face, width_px))
        words = words[count:]
    if words:
        out.append(fitted(" ".join(words), face, width_px))
    return out


def draw_text(
    image: Image.Image,
    xy: tuple[float, float],
    text: str,
    size_px: int,
    colour: RGB,
    *,
    anchor: str = "lm",
    bold: bool = False,
    outline: RGB | None = None,
) -> None:
    """Draw one line of text at ``xy`` (Pillow's anchors); an outline keeps it readable on bright structure."""
    stroke = max(1, round(size_px / 9)) if outline else 0
    ImageDraw.Draw(image).text(
        xy, text, fill=colour, font=font(size_px, bold=bold), anchor=anchor, stroke_width=stroke, stroke_fill=outline
    )


def round_length_um(field_um: float, share: float = 0.2) -> float:
    """The length 1, 2 or 5 x 10^n um that is closest (in ratio) to ``share`` of ``field_um``.

    Raises:
        ValueError: the field is not positive.
    """
    if not (field_um > 0 and math.isfinite(field_um)):
        raise ValueError(f"the width of the field is {field_um} um, must be positive")
    wanted = math.log10(field_um * share)
    choices = [math.log10(m) + n for n in range(math.floor(wanted) - 1, math.floor(wanted) + 2) for m in (1, 2, 5)]
    best = min(choices, key=lambda c: abs(c - wanted))
    return float(f"{10**best:.0e}")


def length_label(length_um: float) -> str:
    """``2 µm`` or ``500 nm``."""
    return f"{length_um:g} µm" if length_um >= 0.999 else f"{length_um * 1000:g} nm"


def draw_scale_bar(image: Image.Image, um_per_px: float, size_px: int) -> None:
    """Draw a scale bar with its length into the lower right corner of ``image``.

    Args:
        image: RGB picture of a field.
        um_per_px: width of one of its pixels in the sample, um.
        size_px: height of the text, pixel.
    """
    length = round_length_um(image.width * um_per_px)
    width, thick = max(2, round(length / um_per_px)), max(3, round(size_px / 4))
    margin = round(0.8 * size_px)
    x1, y1 = image.width - margin, image.height - margin
    x0, y0 = x1 - width, y1 - thick
    draw = ImageDraw.Draw(image)
    edge = max(1, thick // 3)
    draw.rectangle([x0 - edge, y0 - edge, x1 - 1 + edge, y1 - 1 + edge], fill=(0, 0, 0))
    draw.rectangle([x0, y0, x1 - 1, y1 - 1], fill=(255, 255, 255))
    middle = min((x0 + x1) / 2, image.width - margin - font(size_px).getlength(length_label(length)) / 2)
    place = (middle, y0 - edge - size_px * 0.25)
    draw_text(image, place, length_label(length), size_px, (255, 255, 255), anchor="mb", outline=(0, 0, 0))


def time_labels(times_s: Sequence[float] | np.ndarray) -> list[str]:
    """Time stamps of one series with one unit (s or ms) and the same number of decimals throughout.

    The decimals show two digits of the shortest step. Negative zero is written as zero.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if times.size == 0:
        return []
    steps = np.abs(np.diff(np.unique(times)))
    step = float(steps[steps > 0].min()) if np.any(steps > 0) else max(abs(float(times[0])), 1e-3) / 10
    factor, unit = (1e3, "ms") if np.max(np.abs(times)) < 1 else (1.0, "s")
    decimals = int(np.clip(1 - math.floor(math.log10(step * factor) + 1e-9), 0, 6))
    return [f"{0.0 + np.round(t * factor, decimals) + 0.0:.{decimals}f} {unit}" for t in times]
