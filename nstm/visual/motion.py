"""Figures of motion: displacements as arrows with the wheel of directions, and paths of points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from scipy import ndimage

from nstm.acquisition import DataError
from nstm.visual.colour import direction_colours, lookup
from nstm.visual.figures import LARGE, SMALL, new_figure, outline_region, plain, show
from nstm.visual.series import Outline
from nstm.visual.text import length_label, time_labels


def motion_figure(
    image: np.ndarray,
    displacement_um: np.ndarray,
    pixel_um: float,
    *,
    title: str = "material displacement",
    limits: tuple[float, float] | None = None,
    arrows: int = 24,
    outlines: Sequence[Outline] = (),
) -> Figure:
    """Arrows of the material displacement on the structure, coloured by direction with the wheel as legend.

    Args:
        image: ``(y, x)``, shown in grey.
        displacement_um: ``(2, y, x)``, (y, x) components in um; no arrow where NaN (not determined).
        pixel_um: um.
        title: heading.
        limits: black and white; default: 0.1 % saturated.
        arrows: arrows along the longer side.
        outlines: regions to read with care.

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
    axes.set_title(plain(title), fontsize=LARGE, fontweight="bold", loc="left", pad=4)
    show(axes, image * 1.0, pixel_um, (low, low + (high - low) * 1.6 + 1e-30))  # dimmed: arrows stand out
    for region in outlines:
        outline_region(axes, region)
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
    figure.text(0.1 / 6.1, 0.10 / figure.get_figheight(), note + "; none where not determined", fontsize=SMALL)
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


def backward_paths(displacement_um: np.ndarray, points_um: np.ndarray, pixel_um: float) -> np.ndarray:
    """Paths that lead to ``points_um`` at the last time, followed backwards through the displacements.

    Args:
        displacement_um: ``(t, 2, y, x)``, material displacement (y, x) since the previous time at the structure's
            place, um; what the first time holds is not used.
        points_um: ``(n, 2)``, (y, x) at the last time, um from the centre of the first pixel.
        pixel_um: um.

    Returns:
        ``(t, n, 2)`` um; NaN before a time since which the displacement is not known.
    """
    paths = np.full((len(displacement_um), *np.shape(points_um)), np.nan)
    paths[-1] = points_um
    for index in range(len(displacement_um) - 1, 0, -1):
        places = (paths[index] / pixel_um).T
        sizes = displacement_um.shape[2:]
        nearest = np.nan_to_num(np.round(places)).astype(int)
        row, column = (np.clip(p, 0, n - 1) for p, n in zip(nearest, sizes, strict=True))
        known = np.isfinite(places).all(axis=0) & np.isfinite(displacement_um[index][:, row, column]).all(axis=0)
        moved = [
            ndimage.map_coordinates(np.nan_to_num(d), np.nan_to_num(places), order=1, mode="nearest")
            for d in displacement_um[index]
        ]
        paths[index - 1] = np.where(known[:, None], paths[index] - np.stack(moved, axis=-1), np.nan)
    return paths


def time_tones(count: int) -> np.ndarray:
    """``(count, 3)``, red, green and blue from the first time (dark) to the last (bright)."""
    tones: np.ndarray = lookup("viridis")[np.linspace(120, 255, count).round().astype(int)] / 255
    return tones


def time_strip(figure: Figure, tones: np.ndarray, times_s: np.ndarray) -> float:
    """Draw what the tones stand for at the lower left; the height at which words beside it stand."""
    strip = figure.add_axes((0.02, 0.26 / figure.get_figheight(), 0.3, 0.09 / figure.get_figheight()))
    strip.imshow(tones[None], aspect="auto", interpolation="nearest")
    strip.set_axis_off()
    stamps, below = time_labels(times_s), 0.06 / figure.get_figheight()
    figure.text(0.02, below, stamps[0], fontsize=SMALL - 1)
    figure.text(0.32, below, stamps[-1], fontsize=SMALL - 1, ha="right")
    return below


def paths_figure(
    image: np.ndarray,
    paths_um: np.ndarray,
    times_s: np.ndarray,
    pixel_um: float,
    *,
    limits: tuple[float, float],
    title: str = "paths of the structure",
) -> Figure:
    """Paths of points on the dimmed structure, coloured from the first time (dark) to the last (bright).

    Args:
        image: ``(y, x)`` at the last time.
        paths_um: ``(t, n, 2)``, (y, x), um.
        times_s: ``(t,)``, s.
        pixel_um: um.
        limits: black and white of the image.
        title: heading.
    """
    ny, nx = image.shape
    figure = new_figure(5.4, 5.2 * ny / nx + 0.75)
    bottom, top = 0.45 / figure.get_figheight(), 1 - 0.3 / figure.get_figheight()
    axes = figure.add_axes((0.02, bottom, 0.96, top - bottom))
    axes.set_title(plain(title), fontsize=LARGE, fontweight="bold", loc="left", pad=4)
    show(axes, image, pixel_um, (limits[0], limits[0] + (limits[1] - limits[0]) * 1.8))
    tones = time_tones(max(len(times_s) - 1, 1))
    centres = (paths_um + pixel_um / 2)[..., ::-1]
    for index in range(len(times_s) - 1):
        pieces = np.stack([centres[index], centres[index + 1]], axis=1)
        pieces = pieces[np.isfinite(pieces).all(axis=(1, 2))]
        axes.add_collection(LineCollection(list(pieces), colors=[tones[index]], linewidths=1.5, capstyle="round"))
    ends = centres[-1][np.isfinite(centres).all(axis=(0, 2))]
    axes.plot(ends[:, 0], ends[:, 1], "o", ms=2.2, color="white", mec="black", mew=0.4, ls="none")
    below = time_strip(figure, tones, times_s)
    lengths = np.linalg.norm(np.diff(paths_um, axis=0), axis=-1).sum(axis=0)
    longest = float(np.nanmax(lengths)) if np.isfinite(lengths).any() else 0.0
    note = f"dot: last time; longest path {length_label(float(f'{longest:.2g}'))}, true to scale"
    figure.text(0.36, below, note, fontsize=SMALL)
    return figure
