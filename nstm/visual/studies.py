"""A study as a figure and a movie: the truth and several fits of every case, one case per column."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageColor

from nstm.io.whole import replace_whole
from nstm.settings import Movie
from nstm.visual.figures import new_figure, outline, plain, show
from nstm.visual.movie import Panel, movie
from nstm.visual.panels import intensity_range, plane
from nstm.visual.text import time_labels

#: Side of a picture, width of the names of the rows, height of a heading and of a chart, inch.
_PICTURE, _NAMES, _HEAD, _CHART = 1.45, 0.3, 0.24, 1.7
_FONT = 7.5
#: Colours of the fits in charts (of Okabe and Ito, distinct for every kind of colour vision) and their marks.
_MARKS = (("#d55e00", "s"), ("#0072b2", "o"))


@dataclass(frozen=True)
class ShownCase:
    """One case: its label, by title the truth (first) and the fits, and by title a PSNR (dB) of every fit.

    Images have the dims ``(t, c, z, y, x)`` as those of a :class:`~nstm.visual.movie.Panel`, all at the same times.
    """

    label: str
    images: Mapping[str, xr.DataArray]
    psnr: Mapping[str, float]


def study_movie(cases: Sequence[ShownCase], out: Path, settings: Movie) -> None:
    """Write a movie with a column per case: the truth above the fits."""
    truth, *fits = cases[0].images
    panels = [Panel(f"{case.label}: {truth}", case.images[truth]) for case in cases]
    panels += [Panel(title, case.images[title]) for title in fits for case in cases]
    movie(panels, out, settings, columns=len(cases))


def study_figure(blocks: Mapping[str, Sequence[ShownCase]]) -> Figure:
    """The last time of every case, one block of rows per system, and a chart of all PSNR below.

    Args:
        blocks: the cases by the name of their system.
    """
    columns = max(len(cases) for cases in blocks.values())
    rows = sum(1 + len(cases[0].images) for cases in blocks.values())
    pictures = rows - len(blocks)
    width = _NAMES + columns * _PICTURE
    height = pictures * _PICTURE + len(blocks) * 2 * _HEAD + _CHART + 0.75
    figure = new_figure(width, height)
    top = height
    for name, cases in blocks.items():
        top = _block(figure, name, cases, top)
    share = 1 / len(blocks)
    for number, (name, cases) in enumerate(blocks.items()):
        left, right = number * share + 0.5 / width, (number + 1) * share - 0.1 / width
        axes = figure.add_axes((left, 0.75 / height, right - left, (_CHART - 0.35) / height))
        _chart(axes, name, cases)
    figure.text(
        0.05 / width, 0.06 / height,
        "Pictures: last frame; linear grey (gamma 1), each series with one range over all times, 0.1 % saturated at "
        "each end.\nNumbers: equalised PSNR against the truth, dB, mean over all frames.",
        fontsize=_FONT - 1, color="#333333", linespacing=1.3,
    )  # fmt: skip
    return figure


def save_small_png(figure: Figure, out: Path, dpi: int = 105, greys: int = 32) -> None:
    """Write ``figure`` whole or not at all, as a small PNG of few greys and the colours of the marks."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi, format="png", metadata={"Software": None})
    marks = [np.array(ImageColor.getrgb(colour)) for colour, _ in _MARKS]
    blends = [white * 255 + (1 - white) * mark for mark in marks for white in (0, 0.25, 0.5, 0.75)]
    levels = [*np.linspace(0, 255, greys)[:, None].repeat(3, axis=1), *blends]
    palette = Image.new("P", (1, 1))
    palette.putpalette(np.round(levels).astype(np.uint8).tobytes())
    picture = Image.open(buffer).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE)
    with replace_whole(out) as temporary:
        picture.save(temporary, format="png", optimize=True)


def _block(figure: Figure, name: str, cases: Sequence[ShownCase], top: float) -> float:
    """Draw the pictures of one system below ``top`` (inch); the new top."""
    width, height = figure.get_size_inches().tolist()
    times = cases[0].images[next(iter(cases[0].images))]["t"].values
    heading = f"{name}, t = {time_labels(times)[-1]} ({len(times)} frames)"
    figure.text(0.05 / width, (top - 0.6 * _HEAD) / height, plain(heading), fontsize=_FONT + 1.5, fontweight="bold",
                va="center")  # fmt: skip
    top -= 2 * _HEAD
    for column, case in enumerate(cases):
        x = _NAMES + (column + 0.5) * _PICTURE
        figure.text(x / width, (top + 0.35 * _HEAD) / height, plain(case.label), fontsize=_FONT, ha="center",
                    va="center")  # fmt: skip
        for row, (title, images) in enumerate(case.images.items()):
            left, bottom = _NAMES + column * _PICTURE, top - (row + 1) * _PICTURE
            place = (left / width, bottom / height, 0.97 * _PICTURE / width, 0.97 * _PICTURE / height)
            axes = figure.add_axes(place)
            pixel_um = float(images.attrs["pixel_um"])
            show(axes, plane(images, len(times) - 1), pixel_um, intensity_range(images), scale_bar=row == column == 0)
            if title in case.psnr:
                text = axes.text(0.03, 0.97, f"{case.psnr[title]:.1f}", transform=axes.transAxes, color="white",
                                 fontsize=_FONT, va="top")  # fmt: skip
                outline(text)
            if column == 0:
                figure.text(0.6 * _NAMES / width, (bottom + _PICTURE / 2) / height, title, rotation=90, fontsize=_FONT,
                            ha="center", va="center")  # fmt: skip
    return top - len(cases[0].images) * _PICTURE


def _chart(axes: Axes, name: str, cases: Sequence[ShownCase]) -> None:
    """PSNR of every fit by case."""
    places = np.arange(len(cases))
    values = np.array([[case.psnr[title] for title in cases[0].psnr] for case in cases])
    axes.vlines(places, values.min(axis=1), values.max(axis=1), color="#999999", lw=1)
    for (colour, marker), title, column in zip(_MARKS, cases[0].psnr, values.T, strict=True):
        axes.plot(places, column, color=colour, marker=marker, ms=4.5, ls="none", label=plain(title))
    axes.set_xticks(places, [plain(case.label).replace(" ", "\n", 1) for case in cases], fontsize=_FONT - 1)
    axes.margins(x=0.1, y=0.15)
    axes.tick_params(axis="y", labelsize=_FONT - 1)
    axes.set_ylabel("equalised PSNR (dB)", fontsize=_FONT)
    axes.set_title(name, fontsize=_FONT + 0.5, fontweight="bold", loc="left")
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=_FONT - 1, frameon=False, ncols=len(_MARKS), loc="lower right", bbox_to_anchor=(1.02, 0.98),
                borderaxespad=0.2, handletextpad=0.2, columnspacing=1.0)  # fmt: skip
