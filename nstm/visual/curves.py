"""Figures of curves: line profiles, Fourier ring correlation, loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import ndimage

from nstm.metrics.frc import THRESHOLD, fourier_ring_correlation
from nstm.metrics.image import resample
from nstm.visual.figures import ACCENT_TONE, LARGE, SMALL, new_figure, plain, show, zoom_box
from nstm.visual.panels import intensity_range, plane
from nstm.visual.series import Panel
from nstm.visual.text import time_labels

#: Tones that every kind of colour vision tells apart (Okabe and Ito, 2008), for white ground.
TONES = ("#0072b2", "#c25400", "#00805e", "#a04a82", "#6b6b6b", "#8a6d00")


def tone_of(name: str, position: int) -> str:
    """The colour of a method, the same in every figure; the truth is black."""
    fixed = {"NSTM": TONES[0], "widefield": TONES[4]}
    if name in fixed:
        return fixed[name]
    if name.startswith(("truth", "reference")):
        return "black"
    if "moving window" in name:
        return TONES[1]
    return TONES[3] if name.startswith("static") else TONES[2 + position % 3]


def profile_line(panels: Sequence[Panel], time_index: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ends ((y, x), (y, x)) in um of the row or column with most structure in the square that figures enlarge."""
    y0, x0, side = zoom_box(list(panels), time_index)
    chosen = next((p for p in panels if p.name == "NSTM"), panels[-1])
    pixel_um = float(chosen.images.attrs["pixel_um"])
    image = np.nan_to_num(plane(chosen.images, time_index))
    rows, columns = (slice(round(v / pixel_um), round((v + side) / pixel_um)) for v in (y0, x0))
    part = image[rows, columns]
    spreads = [part.std(axis=1), part.std(axis=0)]
    along_x = spreads[0].max() >= spreads[1].max()
    at = int(spreads[0 if along_x else 1].argmax()) + 0.5
    if along_x:
        return (y0 + at * pixel_um, x0), (y0 + at * pixel_um, x0 + side)
    return (y0, x0 + at * pixel_um), (y0 + side, x0 + at * pixel_um)


def profile(image: np.ndarray, pixel_um: float, ends_um: np.ndarray, count: int = 400) -> np.ndarray:
    """Values of ``image (y, x)`` along a line from ``ends_um[0]`` to ``ends_um[1]``, linearly between pixels."""
    places = np.linspace(ends_um[0], ends_um[1], count) / pixel_um - 0.5
    return np.asarray(ndimage.map_coordinates(np.nan_to_num(image), places.T, order=1, mode="nearest"))


def profile_figure(
    panels: Sequence[Panel],
    time_index: int,
    ends_um: Sequence[Sequence[float]] | None = None,
    *,
    saturated_percent: float = 0.1,
) -> Figure:
    """The same line through every method, with the line drawn on NSTM.

    Args:
        panels: on the same times; those without a result at this one are left out.
        time_index: which time.
        ends_um: (y, x) of both ends, um; default: :func:`profile_line`.
        saturated_percent: of the range that each profile is scaled to, black to white of its panel.
    """
    ends = np.asarray(profile_line(panels, time_index) if ends_um is None else ends_um, dtype=float)
    length = float(np.linalg.norm(ends[1] - ends[0]))
    figure = new_figure(9.0, 2.9)
    picture = figure.add_axes((0.01, 0.11, 0.26, 0.8))
    axes = figure.add_axes((0.335, 0.2, 0.415, 0.69))
    chosen = next((p for p in panels if p.name == "NSTM"), panels[-1])
    pixel_um = float(chosen.images.attrs["pixel_um"])
    middle, side = ends.mean(axis=0), 1.25 * length
    show(picture, plane(chosen.images, time_index), pixel_um, intensity_range(chosen.images, saturated_percent),
         box=(middle[0] - side / 2, middle[1] - side / 2, side))  # fmt: skip
    picture.plot(ends[:, 1], ends[:, 0], color=ACCENT_TONE, lw=1.5)
    picture.set_title(plain(chosen.name), fontsize=LARGE, fontweight="bold", loc="left", pad=4)
    for i, panel in enumerate(panels):
        image = plane(panel.images, time_index)
        if not np.isfinite(image).any():
            continue
        low, high = intensity_range(panel.images, saturated_percent)
        values = profile(image, float(panel.images.attrs["pixel_um"]), ends)
        axes.plot(np.linspace(0, length, len(values)), (values - low) / (high - low), lw=1.5,
                  color=tone_of(panel.name, i), label=plain(panel.name))  # fmt: skip
    stamp = time_labels(panels[0].images["t"].values)[time_index]
    axes.set_title(f"Line profile at t = {stamp}", fontsize=LARGE, fontweight="bold", loc="left", pad=4)
    axes.set_xlim(0, length)
    _plain_axes(axes, "along the line (µm)", "black (0) to white (1) of each panel")
    return figure


def frc_figure(
    panels: Sequence[Panel], truth: Panel, time_index: int, diffraction_limit: float, extended: float
) -> Figure:
    """Fourier ring correlation of every method with the truth.

    Args:
        panels: methods; those without a result at this time are left out.
        truth: on the same times.
        time_index: which time.
        diffraction_limit: highest frequency of a single frame, cycles/um.
        extended: highest frequency of a result, cycles/um.
    """
    figure = new_figure(7.2, 3.1)
    axes = figure.add_axes((0.085, 0.17, 0.6, 0.73))
    pixel_um = float(truth.images.attrs["pixel_um"])
    reference = plane(truth.images, time_index)
    for i, panel in enumerate(panels):
        image = plane(panel.images, time_index)
        if not (np.isfinite(image).all() and np.isfinite(reference).all()):
            continue
        frequency, curve = fourier_ring_correlation(resample(image, reference.shape), reference, pixel_um)
        axes.plot(frequency[1:], curve[1:], lw=1.6, color=tone_of(panel.name, i), label=plain(panel.name))
    for place, style, name in (
        (diffraction_limit, (0, (4, 3)), "diffraction limit"),
        (extended, "-", "limit of the result"),
    ):
        axes.axvline(place, color="#888888", lw=0.9, ls=style)
        axes.text(place, 1.03, name, fontsize=SMALL - 1.5, color="#555555", ha="right", va="bottom")
    axes.axhline(THRESHOLD, color="#888888", lw=0.8, ls=":")
    axes.text(0.02 * extended, THRESHOLD + 0.015, "1/7", fontsize=SMALL - 1.5, color="#555555", va="bottom")
    axes.set_xlim(0, 1.1 * extended)
    axes.set_ylim(-0.05, 1.02)
    _plain_axes(axes, "spatial frequency (cycles/µm)", "correlation with the truth")
    return figure


def loss_figure(fits: Sequence[Mapping[str, Any]]) -> Figure:
    """Loss of every fit over its steps; dashed: the noise of its frames, where the noise is known.

    Args:
        fits: for each ``index``, ``loss`` and ``loss_steps`` (the same length) and ``noise_variance`` or ``None``.
    """
    figure = new_figure(5.4, 2.9)
    axes = figure.add_axes((0.12, 0.18, 0.85, 0.75))
    shades = np.linspace(0.72, 0.0, max(len(fits), 2))
    for shade, fit in zip(shades, fits, strict=False):
        axes.plot(fit["loss_steps"], fit["loss"], color=str(shade), lw=1.3)
    known = [f["noise_variance"] for f in fits if f.get("noise_variance")]
    if known:
        axes.axhline(float(np.mean(known)), color=TONES[1], lw=1.2, ls=(0, (4, 3)))
        axes.text(0.01, float(np.mean(known)), "noise of the frames", color=TONES[1], fontsize=SMALL - 0.5,
                  transform=axes.get_yaxis_transform(), ha="left", va="bottom")  # fmt: skip
    axes.set_yscale("log")
    last = f", acquisitions {fits[0]['index']} (light) to {fits[-1]['index']} (black)" if len(fits) > 1 else ""
    _plain_axes(axes, f"step{last}", "mean squared residual (counts²)", legend=False)
    return figure


def _plain_axes(axes: Axes, x: str, y: str, *, legend: bool = True) -> None:
    axes.set_xlabel(x, fontsize=SMALL)
    axes.set_ylabel(y, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL - 0.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=SMALL - 1, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)
