"""When each part of a raw frame was exposed, and the paths of the sample meanwhile, in the colours of time.

After Cao et al., Nature Methods 2024, Extended Data 7.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nstm.visual.figures import new_figure, outline, plain, show
from nstm.visual.panels import colours_of, intensity_range, plane
from nstm.visual.text import time_labels

_MAP = matplotlib.colormaps["turbo"]
_SMALL, _LARGE = 8.5, 10.0
#: Times shown below, and points along the longer side whose paths are drawn.
_SHOWN, _POINTS = 5, 14


def paths_of(displacement: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Where the structure that lies at ``points`` at the last time was before.

    Args:
        displacement: ``(t, 2, y, x)``, pixels, since the time before; NaN where it is not determined.
        points: ``(n, 2)``, whole pixels (y, x) at the last time.

    Returns:
        ``(t, n, 2)``, pixels; NaN before the time up to which a path is known.
    """
    limits = np.array(displacement.shape[-2:]) - 1
    paths = np.full((len(displacement), len(points), 2), np.nan)
    paths[-1] = points
    for i in range(len(displacement) - 1, 0, -1):
        known = np.isfinite(paths[i]).all(axis=1)
        at = np.clip(np.rint(paths[i][known]), 0, limits).astype(int)
        paths[i - 1][known] = paths[i][known] - displacement[i][:, at[:, 0], at[:, 1]].T
    return paths


def trajectories_figure(
    frame: np.ndarray,
    frame_pixel_um: float,
    parts: Sequence[tuple[tuple[int, int], float]],
    images: xr.DataArray,
    displacement_um: np.ndarray,
) -> Figure:
    """The raw frame with its parts, the paths on the mean image, and the sample at some times below.

    Args:
        frame: ``(y, x)``, counts.
        frame_pixel_um: um.
        parts: first row and the one after the last of each part, with its time, s; none: the frame has one time.
        images: the time lapse of one acquisition, dims ``(t, c, z, y, x)``.
        displacement_um: ``(t, 2, y, x)``, um, since the time before.
    """
    times = images["t"].values
    span = Normalize(float(times[0]), float(max(times[-1], times[0] + 1e-12)))
    pixel_um = float(images.attrs["pixel_um"])
    shown = np.unique(np.linspace(0, len(times) - 1, _SHOWN).round().astype(int))
    width, aspect = 10.0, images.sizes["x"] / images.sizes["y"]
    side, frame_aspect = width / len(shown), frame.shape[1] / frame.shape[0]
    high = (width - 1.2) / (frame_aspect + aspect)
    height = 0.35 + high + 0.35 + side / aspect + 0.1
    figure = new_figure(width, height)

    def place(left: float, bottom: float, wide: float, tall: float) -> Axes:
        return figure.add_axes((left / width, bottom / height, wide / width, tall / height))

    bottom = height - 0.35 - high
    raw = place(0.05, bottom, high * frame_aspect, high)
    _raw(raw, frame, frame_pixel_um, parts, span)
    middle = place(0.15 + high * frame_aspect, bottom, high * aspect, high)
    _paths(middle, images, displacement_um / pixel_um, span)
    bar = place(0.25 + high * (frame_aspect + aspect), bottom, 0.12, high)
    stamps = time_labels(times)
    ticks = sorted({0, len(times) // 2, len(times) - 1})
    drawn = figure.colorbar(matplotlib.cm.ScalarMappable(span, _MAP), cax=bar, ticks=[times[i] for i in ticks])
    drawn.ax.set_yticklabels([stamps[i] for i in ticks], fontsize=_SMALL)
    limits = intensity_range(images)
    for number, index in enumerate(shown):
        axes = place(number * side + 0.05, 0.05, side - 0.1, (side - 0.1) / aspect)
        show(axes, plane(images, int(index)), pixel_um, limits, colours=colours_of(images), scale_bar=number == 0)
        outline(
            axes.text(0.03, 0.96, stamps[index], transform=axes.transAxes, color="white", va="top", fontsize=_SMALL)
        )
        for spine in axes.spines.values():
            spine.set(visible=True, color=_MAP(span(times[index])), linewidth=2.5)
    return figure


def _raw(
    axes: Axes, frame: np.ndarray, pixel_um: float, parts: Sequence[tuple[tuple[int, int], float]], span: Normalize
) -> None:
    axes.set_title("raw frame" + (", rows by the time they saw" if parts else ""), fontsize=_LARGE, fontweight="bold",
                   loc="left", pad=4)  # fmt: skip
    low, high = np.percentile(frame, [0.1, 99.9])
    show(axes, frame, pixel_um, (float(low), float(high)))
    inset = 0.004 * frame.shape[1] * pixel_um
    for (first, last), time in parts:
        corner, size = (inset, first * pixel_um), (frame.shape[1] * pixel_um - 2 * inset, (last - first) * pixel_um)
        axes.add_patch(
            Rectangle(corner, *size, fill=True, fc=(*_MAP(span(time))[:3], 0.16), ec=_MAP(span(time)), lw=1.6)
        )


def _paths(axes: Axes, images: xr.DataArray, displacement: np.ndarray, span: Normalize) -> None:
    axes.set_title(plain("NSTM, mean over time, with paths of the sample"), fontsize=_LARGE, fontweight="bold",
                   loc="left", pad=4)  # fmt: skip
    times, pixel_um = images["t"].values, float(images.attrs["pixel_um"])
    mean = np.mean([plane(images, i) for i in range(len(times))], axis=0)
    low, high = intensity_range(images)
    show(axes, mean, pixel_um, (low, low + 1.4 * (high - low)), colours=colours_of(images))
    step = max(1, round(max(mean.shape) / _POINTS))
    grid = np.stack(np.meshgrid(*(np.arange(step // 2, n, step) for n in mean.shape), indexing="ij"), -1).reshape(-1, 2)
    paths = paths_of(displacement, grid)
    pairs = np.stack([paths[:-1], paths[1:]], axis=2)[..., ::-1]  # (t, n, 2 ends, xy)
    known = np.isfinite(pairs).all(axis=(2, 3))
    middles = np.broadcast_to(((times[:-1] + times[1:]) / 2)[:, None], known.shape)
    lines = LineCollection(
        list((pairs[known] + 0.5) * pixel_um), colors=_MAP(span(middles[known])), linewidths=1.8, capstyle="round"
    )
    axes.add_collection(lines)
    ends = known[-1] if len(known) else np.zeros(len(grid), bool)
    x, y = ((grid[ends][:, ::-1] + 0.5) * pixel_um).T
    axes.scatter(x, y, s=9, color=_MAP(1.0), zorder=3)
    if not known.any():
        outline(axes.text(0.5, 0.5, "no motion is determined", transform=axes.transAxes, color="white", ha="center",
                          fontsize=_SMALL))  # fmt: skip
