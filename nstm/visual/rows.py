"""A raw frame whose rows saw the scene at times of their own (Cao et al., Nature Methods 2024, Extended Data 7)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nstm.systems.base import FramePart
from nstm.visual.figures import LARGE, SMALL, new_figure, show
from nstm.visual.motion import time_strip, time_tones


def rows_figure(frame: np.ndarray, pixel_um: float, parts: Sequence[FramePart]) -> Figure:
    """The frame with a box around the rows of each part, in the colour of its time as in the figure of paths.

    Args:
        frame: ``(y, x)``, counts.
        pixel_um: um.
        parts: rows and their times.
    """
    ny, nx = frame.shape
    figure = new_figure(5.4, 5.2 * ny / nx + 0.75)
    bottom, top = 0.45 / figure.get_figheight(), 1 - 0.3 / figure.get_figheight()
    axes = figure.add_axes((0.02, bottom, 0.96, top - bottom))
    axes.set_title("raw frame: rows by the time they saw", fontsize=LARGE, fontweight="bold", loc="left", pad=4)
    low, high = np.percentile(frame, [0.1, 99.9])
    show(axes, frame, pixel_um, (float(low), float(high)))
    times = np.unique([part.time_s for part in parts])
    tones = time_tones(len(times))
    inset = 0.004 * nx * pixel_um
    for part in parts:
        first, last = part.rows
        tone = tones[np.searchsorted(times, part.time_s)]
        corner, size = (inset, first * pixel_um), (nx * pixel_um - 2 * inset, (last - first) * pixel_um)
        axes.add_patch(Rectangle(corner, *size, facecolor=(*tone, 0.16), edgecolor=tone, linewidth=1.6))
    below = time_strip(figure, tones, times)
    figure.text(0.36, below, "a box: rows that are fitted together", fontsize=SMALL)
    return figure
