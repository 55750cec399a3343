"""Still figures: the base that all share, and methods side by side with zoom-ins.

All are :class:`matplotlib.figure.Figure` objects without global state; :func:`save_png` writes them.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from scipy import ndimage

from nstm.io.store import replace_whole
from nstm.visual.colour import ACCENT, EMPTY
from nstm.visual.frames import shown_in
from nstm.visual.panels import colours_of, intensity_range, meaning, picture_of, plane, shown_volumes
from nstm.visual.series import Outline, Panel, field_aspect, shared_times
from nstm.visual.text import length_label, one_line, round_length_um, time_labels

ACCENT_TONE, EMPTY_TONE = ((c[0] / 255, c[1] / 255, c[2] / 255) for c in (ACCENT, EMPTY))
SMALL, LARGE = 8.5, 10.0


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure bound to the Agg canvas, so that it draws without a display."""
    figure = Figure(figsize=(width_in, height_in), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_png(figure: Figure, out: Path, dpi: int = 150) -> None:
    """Write ``figure`` whole or not at all, the same bytes for the same figure."""
    with replace_whole(out) as temporary:
        figure.savefig(temporary, dpi=dpi, format="png", metadata={"Software": None})


def plain(text: str) -> str:
    """``text`` as matplotlib shall print it: one line, and no formula where a file name holds dollar signs."""
    return one_line(text, 120).replace("$", r"\$")


def still(
    panels: list[Panel], *, time_index: int | None = None, saturated_percent: float = 0.1, time_note: str = ""
) -> Figure:
    """The same time in every panel, with the same part of the field enlarged beside or below.

    Args:
        panels: methods left to right, the truth last where there is one; all on the same times.
        time_index: which time; default: the middle one of those at which most panels have a result.
        saturated_percent: pixels shown as saturated, percent at each end, over all times.
        time_note: stands behind the time, e.g. that times are assumed.

    Raises:
        DataError: no panel, no time, or panels with different times.
    """
    times = shared_times(panels)
    index = best_time(panels) if time_index is None else time_index
    aspect = field_aspect(panels)
    wide = aspect > 1.6
    across, down = (2, len(panels)) if wide else (len(panels), 2)
    # wide fields stand one below the other with their zoom at the right, others side by side with it below
    box = zoom_box(panels, index)
    side = 3.0
    size = (6.6 + 6.6 / aspect, 6.6 / aspect * down) if wide else (side * across, side / aspect + side)
    projection = "; maximum projection along z" if panels[0].images.sizes["z"] > 1 else ""
    notes = [
        f"t = {time_labels(times)[index]}{time_note}. Linear {shown_in(panels)} (gamma 1), one range per panel over "
        f"all times, {saturated_percent:g} % saturated at each end{projection}.",
        " ".join(f"{note[0].upper()}{note[1:]}." for note in dict.fromkeys(p.footnote for p in panels) if note),
    ]
    room = int(size[0] * 72 / (0.55 * SMALL))  # letters of a line
    lines = [plain(line) for note in notes for line in textwrap.wrap(note, room)]
    head, foot = 0.30 * (down if wide else 1), 0.12 + 0.15 * max(2, len(lines))
    figure = new_figure(size[0] + 0.1, size[1] + head + foot)
    grid = figure.add_gridspec(
        down,
        across,
        width_ratios=[aspect, 1] if wide else None,
        height_ratios=None if wide else [1 / aspect, 1],
        left=0.05 / figure.get_figwidth(),
        right=1 - 0.05 / figure.get_figwidth(),
        bottom=foot / figure.get_figheight(),
        top=1 - 0.30 / figure.get_figheight(),
        wspace=0.03,
        hspace=0.30 * down / size[1] if wide else 0.03,
    )
    for i, panel in enumerate(panels):
        limits = intensity_range(panel.images, saturated_percent)
        image = picture_of(shown_volumes(panel.images, index))
        pixel_um = float(panel.images.attrs["pixel_um"])
        whole, zoom = (figure.add_subplot(grid[c]) for c in ((i, 0), (i, 1))) if wide else (
            figure.add_subplot(grid[c]) for c in ((0, i), (1, i))
        )  # fmt: skip
        whole.set_title(plain(panel.name), fontsize=LARGE, fontweight="bold", loc="left", pad=4)
        colours = colours_of(panel.images)
        show(whole, image, pixel_um, limits, panel.reason(index), colours=colours)
        show(zoom, image, pixel_um, limits, panel.reason(index), box, colours=colours)
        outline(whole.text(0.03, 0.03, plain(meaning(panel.images, limits)), transform=whole.transAxes,
                           color="white", fontsize=SMALL))  # fmt: skip
        for region in panel.outlined(index):
            for axes in (whole, zoom):
                outline_region(axes, region)
        y0, x0, length = box
        whole.add_patch(Rectangle((x0, y0), length, length, fill=False, ec=ACCENT_TONE, lw=1.3))
        for spine in zoom.spines.values():
            spine.set(visible=True, color=ACCENT_TONE, linewidth=1.6)
    figure.text(0.05 / figure.get_figwidth(), 0.06 / figure.get_figheight(), "\n".join(lines),
                fontsize=SMALL, color="#333333", va="bottom", ha="left", linespacing=1.3)  # fmt: skip
    return figure


def best_time(panels: list[Panel]) -> int:
    """The middle one of the times at which most panels have a result."""
    count = panels[0].images.sizes["t"]
    there = np.array([sum(bool(np.isfinite(plane(p.images, i)).any()) for p in panels) for i in range(count)])
    best = np.flatnonzero(there == there.max())
    return int(best[np.abs(best - (count - 1) / 2).argmin()])


def zoom_box(panels: list[Panel], time_index: int, share: float = 0.3) -> tuple[float, float, float]:
    """The square with most texture and change: (y0, x0, side) in um, the same for every panel.

    The panel with the finest pixels before a truth decides (NSTM where it is shown).
    """
    named = [panel for panel in panels if np.isfinite(plane(panel.images, time_index)).any()] or panels
    chosen = max(reversed(named), key=lambda p: (p.name.startswith("NSTM"), p.images.sizes["y"]))
    pixel_um = float(chosen.images.attrs["pixel_um"])
    image = np.nan_to_num(plane(chosen.images, time_index))
    others = [plane(chosen.images, i) for i in {0, chosen.images.sizes["t"] - 1} - {time_index}]
    change = np.sum([np.abs(np.nan_to_num(o, nan=0.0) - image) for o in others if np.isfinite(o).any()], axis=0)
    score = ndimage.gaussian_gradient_magnitude(image, 1.0) + np.broadcast_to(change, image.shape)
    side = max(2, round(min(image.shape) * share))
    mean = ndimage.uniform_filter(score, side, mode="constant")
    ny, nx = image.shape
    half, border = side // 2, max(1, min(image.shape) // 32)  # the border of a fit is its worst part
    y0, y1 = half + border, max(half + border + 1, ny - (side - half) - border + 1)
    x0, x1 = half + border, max(half + border + 1, nx - (side - half) - border + 1)
    inner = mean[y0:y1, x0:x1]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape) if inner.size else (0, 0)
    return (float(y) + border) * pixel_um, (float(x) + border) * pixel_um, side * pixel_um


def show(
    axes: Axes,
    image: np.ndarray,
    pixel_um: float,
    limits: tuple[float, float],
    reason: str = "",
    box: tuple[float, float, float] | None = None,
    scale_bar: bool = True,
    colours: str = "gray",
) -> None:
    """Draw a plane in um (y downwards) with a scale bar, or say that there is no result.

    Args:
        axes: where.
        image: ``(y, x)``, or ``(y, x, 3)`` in colour; NaN is left dark.
        pixel_um: um.
        limits: black and white.
        reason: why there is no result.
        box: part shown, (y0, x0, side) in um; default: all.
        scale_bar: draw one.
        colours: name of the map.
    """
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(EMPTY_TONE)
    ny, nx = image.shape[:2]
    y0, x0, height, width = (0.0, 0.0, ny * pixel_um, nx * pixel_um) if box is None else (*box, box[2])
    axes.set_xlim(x0, x0 + width)
    axes.set_ylim(y0 + height, y0)
    axes.set_aspect("equal")
    if not np.isfinite(image).any():
        text = "no result at this time" + (f"\n({plain(reason)})" if reason else "")
        axes.text(0.5, 0.5, text, transform=axes.transAxes, color="white", ha="center", va="center",
                  fontsize=SMALL, wrap=True)  # fmt: skip
        return
    if image.ndim == 3:
        image = np.clip((image - limits[0]) / (limits[1] - limits[0]), 0, 1)
    axes.imshow(image, cmap=colours, vmin=limits[0], vmax=limits[1], extent=(0, nx * pixel_um, ny * pixel_um, 0),
                interpolation="nearest" if box else "antialiased")  # fmt: skip
    axes.set_xlim(x0, x0 + width)
    axes.set_ylim(y0 + height, y0)
    if scale_bar:
        add_scale_bar(axes, x0, y0, width, height)


def add_scale_bar(axes: Axes, x0: float, y0: float, width: float, height: float) -> None:
    """A white bar with its length in the lower right corner of a field given in um."""
    length = round_length_um(width)
    margin, thick = 0.035 * min(width, height), 0.018 * min(width, height)
    x, y = x0 + width - margin - length, y0 + height - margin - thick
    axes.add_patch(Rectangle((x, y), length, thick, fc="white", ec="black", lw=0.6, zorder=5))
    # right-aligned: a label wider than its bar stays inside the field
    text = axes.annotate(length_label(length), (x + length, y), xytext=(0, 2.5), textcoords="offset points",
                         color="white", ha="right", va="bottom", fontsize=SMALL, zorder=5)  # fmt: skip
    outline(text)


def outline_region(axes: Axes, region: Outline) -> None:
    """Outline a region with its mark; the axes are in um."""
    corners_um = region.corners_um
    for colour, width in (("black", 2.8), (ACCENT_TONE, 1.4)):
        axes.add_patch(Polygon(corners_um[:, ::-1], closed=True, fill=False, ec=colour, lw=width, ls="-", zorder=6))
    top = corners_um[corners_um[:, 0].argmin()]
    mark = axes.text(top[1], top[0], region.mark, color=ACCENT_TONE, ha="center", va="bottom", fontsize=LARGE,
                     fontweight="bold", zorder=6, clip_on=True)  # fmt: skip
    outline(mark)


def outline(artist: Any, colour: str = "black", width: float = 1.8) -> None:
    """Edge a text so that it stays readable on bright structure."""
    from matplotlib.patheffects import withStroke

    artist.set_path_effects([withStroke(linewidth=width, foreground=colour)])
