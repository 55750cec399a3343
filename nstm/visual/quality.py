"""The figure of the raw-data checks: light, spectrum, motion and what else was measured, on one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from nstm.visual.figures import new_figure, plain
from nstm.visual.tables import listing, mapping, number

_SIZE = 8.5
_TONES = ("#1f6f8b", "#c8553d", "#6a994e", "#7d5ba6", "#b08900", "#444444")


def quality_figure(
    quality: Mapping[str, Any], power: np.ndarray, pixel_um: float, passband: float, block_of: Sequence[int]
) -> Figure:
    """Four panels: light of every frame, mean spectrum, motion, and a figure of the system or the blur of frames.

    Args:
        quality: contents of ``quality.json``.
        power: ``(y, x // 2 + 1)``, mean power spectrum of the frames of one acquisition.
        pixel_um: camera pixel, um.
        passband: highest frequency of a frame, cycles/um.
        block_of: ``(m,)``, block of each frame.
    """
    entries = [mapping(e) for e in listing(quality.get("acquisitions"))]
    figure = new_figure(11.0, 3.3)
    axes = figure.subplots(1, 4, width_ratios=[1.25, 1, 1.1, 1.1])
    _light(axes[0], entries, np.asarray(block_of))
    _spectrum(axes[1], power, pixel_um, passband)
    _motion(axes[2], entries)
    _of_blocks(axes[3], entries)
    for panel in axes:
        panel.tick_params(labelsize=_SIZE - 1)
    words = mapping(quality.get("motion")).get("message")
    if words:
        figure.text(0.01, 0.015, plain_lines(f"Motion: {words}."), fontsize=_SIZE, va="bottom", ha="left")
    figure.subplots_adjust(left=0.055, right=0.99, bottom=0.27, top=0.90, wspace=0.36)
    return figure


def nothing_figure(why: str) -> Figure:
    """A picture that says why there is none."""
    figure = new_figure(6.0, 0.6)
    figure.text(0.5, 0.5, plain_lines(why), ha="center", va="center", fontsize=_SIZE)
    return figure


def plain_lines(text: str) -> str:
    """A sentence without formulas."""
    return " ".join(text.split()).replace("$", r"\$")


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, fontsize=_SIZE + 0.5, fontweight="bold", loc="left")


def _light(axes: Axes, entries: Sequence[Mapping[str, Any]], block_of: np.ndarray) -> None:
    """Light of the frames of every acquisition, one line for each, blocks shaded in turn."""
    _title(axes, "Light of the frames")
    for start in np.flatnonzero(np.diff(block_of, prepend=-1)):
        if block_of[start] % 2:
            axes.axvspan(start - 0.5, start + np.sum(block_of == block_of[start]) - 0.5, color="#eeeeee", lw=0)
    shade = np.linspace(0.75, 0.0, max(len(entries), 2))
    for grey, entry in zip(shade, entries, strict=False):
        levels = [number(v) for v in listing(entry.get("intensity_by_frame"))]
        values = [np.nan if v is None else v for v in levels]
        axes.plot(values, color=str(grey), lw=1, marker="o", ms=2.5)
    axes.set_xlabel("frame (blocks shaded in turn)", fontsize=_SIZE)
    axes.set_ylabel("relative to the median", fontsize=_SIZE)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.9), max(high, 1.1))


def _spectrum(axes: Axes, power: np.ndarray, pixel_um: float, passband: float) -> None:
    """Logarithm of the power; the half that is not stored is the same turned round."""
    _title(axes, "Spectrum of the frames")
    half = np.fft.fftshift(power, axes=0)
    rows = half.shape[0]
    mirrored = np.roll(half[::-1, ::-1], 1 if rows % 2 == 0 else 0, axis=0)
    whole = np.log10(np.concatenate([mirrored[:, :-1], half], axis=1) + 1e-12)
    reach = 0.5 / pixel_um
    low, high = np.percentile(whole, [2, 99.8])
    axes.imshow(whole, cmap="magma", vmin=low, vmax=high, extent=(-reach, reach, reach, -reach), aspect="equal")
    axes.add_patch(Circle((0, 0), passband, fill=False, ec="white", ls="--", lw=1))
    axes.set_xlabel("$f_x$ (cycles/µm); dashed: passband", fontsize=_SIZE)
    axes.set_ylabel("$f_y$ (cycles/µm)", fontsize=_SIZE)


def _motion(axes: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    """Path of the field as a whole in every acquisition, and how much its parts move besides."""
    _title(axes, "Drift within acquisitions")
    known = False
    shade = np.linspace(0.75, 0.0, max(len(entries), 2))
    for grey, entry in zip(shade, entries, strict=False):
        steps = np.array(listing(mapping(entry.get("motion")).get("drift_px")), dtype=float)
        if steps.size:
            path = np.concatenate([[[0, 0]], np.cumsum(steps.reshape(-1, 2), axis=0)])
            axes.plot(path[:, 1], path[:, 0], color=str(grey), lw=1, marker="o", ms=3)
            known = True
    axes.set_xlabel("x (camera pixels)", fontsize=_SIZE)
    axes.set_ylabel("y (camera pixels)", fontsize=_SIZE)
    reach = max(0.5, *(abs(v) for v in (*axes.get_xlim(), *axes.get_ylim()))) if known else 0.5
    axes.set_xlim(-reach, reach)
    axes.set_ylim(reach, -reach)
    axes.set_aspect("equal")
    axes.plot(0, 0, "+", color=_TONES[1], ms=8)
    if not known:
        axes.text(0.5, 0.6, "not measured", transform=axes.transAxes, ha="center", fontsize=_SIZE)


def _of_blocks(axes: Axes, entries: Sequence[Mapping[str, Any]]) -> None:
    """Figures of the system, or where it has none the signal over noise of the acquisitions."""
    labels = list(dict.fromkeys(str(k) for e in entries for k in mapping(e.get("figures"))))
    if not labels:
        _title(axes, "Signal over noise")
        ratios = [number(e.get("signal_to_noise")) for e in entries]
        axes.plot([np.nan if v is None else v for v in ratios], color=_TONES[0], marker="o", ms=3)
        axes.set_xlabel("acquisition", fontsize=_SIZE)
        axes.set_ylim(bottom=0)
        return
    common = labels[0].rsplit(" over ", 1)[-1] if " over " in labels[0] else ""
    _title(axes, f"Over {common}, by block" if common else "By block")
    width = 0.8 / len(labels)
    for i, label in enumerate(labels):
        found = [[number(v) for v in listing(mapping(e.get("figures")).get(label))] for e in entries]
        values = np.array([[np.nan if v is None else v for v in row] for row in found if row], dtype=float)
        if not values.size or np.all(np.isnan(values)):
            continue
        middle = np.nanmedian(values, axis=0)
        spread = np.abs([np.nanmin(values, axis=0) - middle, np.nanmax(values, axis=0) - middle])
        places = np.arange(len(middle)) + (i - (len(labels) - 1) / 2) * width
        name = plain(label.rsplit(" over ", 1)[0])
        axes.bar(places, middle, width, yerr=spread, color=_TONES[i % len(_TONES)], ecolor="#555555", label=name)
    axes.set_xticks(range(int(np.ceil(axes.get_xlim()[1]))))
    axes.set_xlabel("block (bars: range of acquisitions)", fontsize=_SIZE)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
    axes.legend(fontsize=_SIZE - 1.5, loc="upper right", frameon=False)
