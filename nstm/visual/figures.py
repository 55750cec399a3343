"""Still figures: methods side by side with zoom-ins, motion arrows, spectra with patterns, colour-coded time.

All are :class:`matplotlib.figure.Figure` objects without global state; :func:`save_png` writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from scipy import ndimage

from nstm.acquisition import DataError
from nstm.io.store import replace_whole
from nstm.visual.colour import ACCENT, EMPTY, direction_colours, srgb_from_linear, time_colours
from nstm.visual.frames import shown_in
from nstm.visual.panels import colours_of, intensity_range, meaning, plane
from nstm.visual.series import Panel, field_aspect, shared_times
from nstm.visual.text import length_label, one_line, round_length_um, time_labels

_ACCENT, _EMPTY = ((c[0] / 255, c[1] / 255, c[2] / 255) for c in (ACCENT, EMPTY))
_SMALL, _LARGE = 8.5, 10.0


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
    head, foot = 0.30 * (down if wide else 1), 0.42
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
        image = plane(panel.images, index)
        pixel_um = float(panel.images.attrs["pixel_um"])
        whole, zoom = (figure.add_subplot(grid[c]) for c in ((i, 0), (i, 1))) if wide else (
            figure.add_subplot(grid[c]) for c in ((0, i), (1, i))
        )  # fmt: skip
        whole.set_title(plain(panel.name), fontsize=_LARGE, fontweight="bold", loc="left", pad=4)
        colours = colours_of(panel.images)
        show(whole, image, pixel_um, limits, panel.reason(index), colours=colours)
        show(zoom, image, pixel_um, limits, panel.reason(index), box, colours=colours)
        outline(whole.text(0.03, 0.03, plain(meaning(panel.images, limits)), transform=whole.transAxes,
                           color="white", fontsize=_SMALL))  # fmt: skip
        y0, x0, length = box
        whole.add_patch(Rectangle((x0, y0), length, length, fill=False, ec=_ACCENT, lw=1.3))
        for spine in zoom.spines.values():
            spine.set(visible=True, color=_ACCENT, linewidth=1.6)
    projection = "; maximum projection along z" if panels[0].images.sizes["z"] > 1 else ""
    notes = [
        f"t = {time_labels(times)[index]}{time_note}. Linear {shown_in(panels)} (gamma 1), one range per panel over "
        f"all times, {saturated_percent:g} % saturated at each end{projection}.",
        " ".join(f"{note[0].upper()}{note[1:]}." for note in dict.fromkeys(p.footnote for p in panels) if note),
    ]
    figure.text(0.05 / figure.get_figwidth(), 0.06 / figure.get_figheight(), "\n".join(plain(n) for n in notes if n),
                fontsize=_SMALL, color="#333333", va="bottom", ha="left", linespacing=1.3)  # fmt: skip
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
        image: ``(y, x)``; NaN is left dark.
        pixel_um: um.
        limits: black and white.
        reason: why there is no result.
        box: part shown, (y0, x0, side) in um; default: all.
        scale_bar: draw one.
        colours: name of the map.
    """
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(_EMPTY)
    ny, nx = image.shape
    y0, x0, height, width = (0.0, 0.0, ny * pixel_um, nx * pixel_um) if box is None else (*box, box[2])
    axes.set_xlim(x0, x0 + width)
    axes.set_ylim(y0 + height, y0)
    axes.set_aspect("equal")
    if not np.isfinite(image).any():
        text = "no result at this time" + (f"\n({plain(reason)})" if reason else "")
        axes.text(0.5, 0.5, text, transform=axes.transAxes, color="white", ha="center", va="center",
                  fontsize=_SMALL, wrap=True)  # fmt: skip
        return
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
                         color="white", ha="right", va="bottom", fontsize=_SMALL, zorder=5)  # fmt: skip
    outline(text)


def outline(artist: Any, colour: str = "black", width: float = 1.8) -> None:
    """Edge a text so that it stays readable on bright structure."""
    from matplotlib.patheffects import withStroke

    artist.set_path_effects([withStroke(linewidth=width, foreground=colour)])


def motion_figure(
    image: np.ndarray,
    displacement_um: np.ndarray,
    pixel_um: float,
    *,
    title: str = "material displacement",
    limits: tuple[float, float] | None = None,
    arrows: int = 24,
) -> Figure:
    """Arrows of the material displacement on the structure, coloured by direction with the wheel as legend.

    Args:
        image: ``(y, x)``, shown in grey.
        displacement_um: ``(2, y, x)``, (y, x) components in um; no arrow where NaN (not determined).
        pixel_um: um.
        title: heading.
        limits: black and white; default: 0.1 % saturated.
        arrows: arrows along the longer side.

    Raises:
        DataError: shapes do not fit.
    """
    if displacement_um.shape != (2, *image.shape):
        raise DataError(f"displacement is {displacement_um.shape}, the image {image.shape}: expected (2, y, x)")
    ny, nx = image.shape
    finite = image[np.isfinite(image)]
    low, high = limits or tuple(np.percentile(finite, [0.1, 99.9])) if finite.size or limits else (0.0, 1.0)
    figure = new_figure(6.1, 5.0 * ny / nx + 0.75)
    bottom, top = 0.4 / figure.get_figheight(), 1 - 0.35 / figure.get_figheight()
    axes = figure.add_axes((0.1 / 6.1, bottom, 5.0 / 6.1, top - bottom))
    axes.set_title(plain(title), fontsize=_LARGE, fontweight="bold", loc="left", pad=4)
    show(axes, image * 1.0, pixel_um, (low, low + (high - low) * 1.6 + 1e-30))  # dimmed: arrows stand out
    step = max(1, round(max(ny, nx) / arrows))
    yy, xx = np.mgrid[step // 2 : ny : step, step // 2 : nx : step]
    vectors = displacement_um[:, yy, xx]
    known = np.isfinite(vectors).all(axis=0)
    longest = float(np.hypot(*vectors[:, known]).max()) if known.any() else 0.0
    note = "no displacement is determined here"
    if longest > 0:
        factor = 1.4 * step * pixel_um / longest
        axes.quiver(
            (xx[known] + 0.5) * pixel_um, (yy[known] + 0.5) * pixel_um,
            vectors[1][known] * factor, vectors[0][known] * factor,
            color=direction_colours(vectors[:, known].T), angles="xy", scale_units="xy", scale=1,
            units="width", width=0.0055, headwidth=3.6, headlength=4.2, edgecolor="black", linewidth=0.35,
        )  # fmt: skip
        note = f"longest arrow {length_label(float(f'{longest:.2g}'))}; arrows enlarged {factor:.2g} times"
    figure.text(0.1 / 6.1, 0.10 / figure.get_figheight(), note + "; none where not determined", fontsize=_SMALL)
    _add_wheel(figure, (1 - 0.9 / 6.1, top - 0.82 / figure.get_figheight(), 0.8 / 6.1, 0.8 / figure.get_figheight()))
    return figure


def _add_wheel(figure: Figure, place: tuple[float, float, float, float]) -> None:
    size = 161
    yy, xx = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    radius = np.hypot(yy, xx)
    wheel = np.ones((size, size, 4))
    wheel[..., :3] = direction_colours(np.stack([yy, xx], axis=-1))
    wheel[..., 3] = np.clip((0.98 - radius) * size / 2, 0, 1) * np.clip((radius - 0.45) * size / 2, 0, 1)
    axes = figure.add_axes(place)
    axes.imshow(wheel, extent=(-1, 1, 1, -1), interpolation="antialiased")
    axes.set_axis_off()
    axes.text(0, 0, "direction", ha="center", va="center", fontsize=5.5, color="#333333")


def illumination_figure(
    frame: np.ndarray,
    pixel_um: float,
    pattern_vectors: Sequence[Sequence[float]],
    orders: int,
    cutoff: float,
    *,
    title: str = "pattern vectors in the spectrum of the raw data",
) -> Figure:
    """Log power spectrum of a raw frame (or their mean) with the pattern peaks circled and the OTF's edge.

    Args:
        frame: ``(y, x)`` counts.
        pixel_um: camera pixel, um.
        pattern_vectors: (ky, kx) of order 1 per angle, cycles/um.
        orders: number of orders (2 for three-beam SIM).
        cutoff: edge of the detection transfer function, cycles/um.
        title: heading.
    """
    ny, nx = frame.shape
    taper = np.outer(np.hanning(ny), np.hanning(nx))
    clean = np.nan_to_num(frame - np.nanmean(frame))
    power = np.log10(np.abs(np.fft.fftshift(np.fft.fft2(clean * taper))) ** 2 + 1e-12)
    fy, fx = (np.fft.fftshift(np.fft.fftfreq(n, pixel_um)) for n in (ny, nx))
    dy, dx = fy[1] - fy[0], fx[1] - fx[0]
    figure = new_figure(5.2, 5.5)
    axes = figure.add_axes((0.13, 0.19, 0.80, 0.756))
    low, high = np.percentile(power, [5, 99.97])
    axes.imshow(power, cmap="magma", vmin=low, vmax=high, interpolation="nearest", aspect="equal",
                extent=(fx[0] - dx / 2, fx[-1] + dx / 2, fy[-1] + dy / 2, fy[0] - dy / 2))  # fmt: skip
    axes.add_patch(Circle((0, 0), cutoff, fill=False, ec="white", lw=1.1, ls="--", label="edge of the OTF"))
    tones = direction_colours(np.stack([np.sin(a := np.arange(len(pattern_vectors)) * 2.1), np.cos(a)], axis=-1))
    for number, vector in enumerate(pattern_vectors):
        for order in range(1, orders + 1):
            for sign in (1, -1):
                centre = (sign * order * float(vector[1]), sign * order * float(vector[0]))
                named = f"angle {number}" if order == 1 and sign == 1 else None
                axes.add_patch(Circle(centre, 0.03 / pixel_um, fill=False, ec=tones[number], lw=1.6, label=named))
    axes.set_xlabel("$f_x$ (cycles/µm)", fontsize=_SMALL)
    axes.set_ylabel("$f_y$ (cycles/µm)", fontsize=_SMALL)
    axes.tick_params(labelsize=_SMALL)
    axes.set_title(plain(title), fontsize=_LARGE, fontweight="bold", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=4, handlelength=1.2,
                fontsize=7.5, facecolor="#222222", labelcolor="white")  # fmt: skip
    return figure


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
    return np.asarray(srgb_from_linear(np.einsum("tyx,tc->yxc", scaled, time_colours(len(there)))))


def overlay_figure(
    images: xr.DataArray, time_indices: Sequence[int], *, title: str = "", saturated_percent: float = 0.1
) -> Figure:
    """:func:`time_overlay` with a scale bar and the times in their colours."""
    stamps = [time_labels(images["t"].values)[i] for i in time_indices]
    there = [k for k, i in enumerate(time_indices) if np.isfinite(plane(images, i)).any()]
    rgb = time_overlay(images, time_indices, saturated_percent)
    ny, nx = rgb.shape[:2]
    pixel_um = float(images.attrs["pixel_um"])
    figure = new_figure(5.0, 5.0 * ny / nx + 0.7)
    bottom, top = 0.38 / figure.get_figheight(), 1 - 0.32 / figure.get_figheight()
    axes = figure.add_axes((0.01, bottom, 0.98, top - bottom))
    axes.set_title(plain(title), fontsize=_LARGE, fontweight="bold", loc="left", pad=4)
    axes.imshow(rgb, extent=(0, nx * pixel_um, ny * pixel_um, 0), interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    add_scale_bar(axes, 0, 0, nx * pixel_um, ny * pixel_um)
    swatches = srgb_from_linear(time_colours(len(there)) * len(there) / 3)
    strip = figure.add_axes((0.01, 0.2 / figure.get_figheight(), 0.98, 0.12 / figure.get_figheight()))
    strip.imshow(swatches[None], aspect="auto", interpolation="nearest")
    strip.set_axis_off()
    shown = there if len(there) <= 8 else [there[0], there[len(there) // 2], there[-1]]
    for k in shown:
        x = (there.index(k) + 0.5) / len(there)
        figure.text(0.01 + 0.98 * x, 0.04 / figure.get_figheight(), stamps[k], fontsize=7.5, ha="center")
    return figure
