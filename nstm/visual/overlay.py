"""Colour-coded time: every time in its own colour, so that what moves is coloured and what rests is grey."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from nstm.acquisition import DataError
from nstm.visual.colour import linear_from_srgb, srgb_from_linear, time_colours
from nstm.visual.figures import LARGE, SMALL, add_scale_bar, new_figure, outline_region, plain
from nstm.visual.panels import intensity_range, plane
from nstm.visual.series import Panel
from nstm.visual.text import time_labels


def time_overlay(images: xr.DataArray, time_indices: Sequence[int], saturated_percent: float = 0.1) -> np.ndarray:
    """Colour-coded time: every time in its own colour, added in linear light; what does not move is grey.

    Args:
        images: dims ``(t, c, z, y, x)``.
        time_indices: times shown, e.g. the orientations of one acquisition.
        saturated_percent: of the common intensity range.

    Returns:
        ``(y, x, 3)`` float sRGB in 0..1; times without a result are left out.

    Raises:
        DataError: none of the times has a result.
    """
    low, high = intensity_range(images, saturated_percent)
    planes = [plane(images, i) for i in time_indices]
    there = [p for p in planes if np.isfinite(p).any()]
    if not there:
        raise DataError("none of the times to overlay has a result")
    scaled = np.clip((np.nan_to_num(np.stack(there), nan=low) - low) / (high - low), 0, 1)
    light = linear_from_srgb(scaled)  # what rests looks as it does in the grey pictures
    return np.asarray(srgb_from_linear(np.einsum("tyx,tc->yxc", light, time_colours(len(there)))))


def overlay_figure(
    panels: Sequence[Panel], time_indices: Sequence[int], *, saturated_percent: float = 0.1, note: str = ""
) -> Figure:
    """:func:`time_overlay` of every panel that has all of the times, with scale bars and the times in their colours.

    Args:
        panels: left to right, on the same times.
        time_indices: times shown, e.g. the orientations of one acquisition.
        saturated_percent: of the common intensity range.
        note: what the times are, in words.

    Raises:
        DataError: no panel has a result at any of the times.
    """
    there = [p for p in panels if all(np.isfinite(plane(p.images, i)).any() for i in time_indices)]
    if not there:
        raise DataError("no panel has a result at all of the times to overlay")
    ny, nx = (there[0].images.sizes[axis] for axis in "yx")
    side = 3.1
    figure = new_figure(side * len(there) + 0.05, side * ny / nx + 0.78)
    bottom, top = 0.48 / figure.get_figheight(), 1 - 0.3 / figure.get_figheight()
    for i, panel in enumerate(there):
        left = (0.05 + side * i) / figure.get_figwidth()
        axes = figure.add_axes((left, bottom, (side - 0.05) / figure.get_figwidth(), top - bottom))
        height, width = (panel.images.sizes[axis] * float(panel.images.attrs["pixel_um"]) for axis in "yx")
        axes.imshow(time_overlay(panel.images, time_indices, saturated_percent), extent=(0, width, height, 0),
                    interpolation="antialiased")  # fmt: skip
        axes.set_title(plain(panel.name), fontsize=LARGE, fontweight="bold", loc="left", pad=4)
        axes.set_xticks([])
        axes.set_yticks([])
        add_scale_bar(axes, 0, 0, width, height)
        for region in {r.corners_um.tobytes(): r for t in time_indices for r in panel.outlined(t)}.values():
            outline_region(axes, region)
    _time_strip(figure, time_labels(there[0].images["t"].values), list(time_indices))
    words = f"{note + '. ' if note else ''}Each time in its colour, added in linear light: what rests is grey."
    x = 0.05 / figure.get_figwidth()
    figure.text(x, 0.05 / figure.get_figheight(), plain(words), fontsize=SMALL - 0.5, color="#333333", va="bottom")
    return figure


def _time_strip(figure: Figure, stamps: Sequence[str], time_indices: Sequence[int]) -> None:
    """The times as swatches below the pictures."""
    tones = srgb_from_linear(time_colours(len(time_indices)) * len(time_indices) / 3)
    shown: Sequence[int] = range(len(time_indices))
    if len(time_indices) > 5:
        shown = sorted({0, len(time_indices) // 2, len(time_indices) - 1})
    y, swatch = 0.27 / figure.get_figheight(), 0.16 / figure.get_figwidth()
    x = 0.05 / figure.get_figwidth()
    for k in range(len(time_indices)):
        axes = figure.add_axes((x, y, swatch, 0.14 / figure.get_figheight()))
        axes.set_facecolor(tuple(tones[k]))
        axes.set_xticks([])
        axes.set_yticks([])
        x += swatch
        if k in shown:
            text = figure.text(
                x + 0.05 / figure.get_figwidth(), y, stamps[time_indices[k]], fontsize=SMALL - 0.5, va="bottom"
            )
            x += (0.12 + 0.072 * len(text.get_text())) / figure.get_figwidth()
