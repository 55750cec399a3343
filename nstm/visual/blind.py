"""Figures of the studies of blind SIM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nstm.visual.curves import TONES
from nstm.visual.figures import LARGE, SMALL, new_figure, outline, plain, show

#: Colours of the methods, the same in every figure.
_TONES = {
    "widefield": TONES[4],
    "ubsim": TONES[0],
    "ubsim_stacked": "#56b4e9",
    "conjugate_gradient": TONES[1],
    "conjugate_gradient_best": TONES[3],
    "per_frame": TONES[2],
    "nesterov": TONES[5],
    "gradient_descent": "black",
}
#: End of the name of a network of UBSIM that was not trained yet; it has the colour of the trained one, dashed.
UNTRAINED = "_untrained"
#: Networks by what they are called.
NETWORKS = {
    "ubsim": "UBSIM",
    "ubsim_untrained": "UBSIM, untrained",
    "ubsim_stacked": "UBSIM, stacked",
    "ubsim_stacked_untrained": "UBSIM, stacked, untrained",
    "unet": "U-Net",
    "edsr": "EDSR",
    "rcan": "RCAN",
}
_PICTURE = 1.7
#: The most curves whose names stand in one line.
_IN_A_LINE = 8
Pictures = Mapping[str, Mapping[str, np.ndarray]]


def structures_figure(figures: Mapping[str, Any], pictures: Pictures, pixel_um: float) -> Figure:
    """One image of every structure by every method, and box plots over all images (whiskers: 1.5 IQR)."""
    rows, structures = figures["rows"], list(pictures)
    names = list(rows[0]["methods"])
    chart, columns = 2.4, len(next(iter(pictures.values())))
    width, height = 0.3 + columns * _PICTURE, 0.3 + len(structures) * _PICTURE + chart + 0.9
    figure = new_figure(width, height)
    _montage(figure, pictures, pixel_um, height)
    titles = (
        *(("psnr", "equalised PSNR (dB)"), ("ssim", "SSIM"), ("ms_ssim", "MS-SSIM")),
        ("gain", "gain of resolution"),
    )
    for number, (key, title) in enumerate(titles):
        share = 1 / len(titles)
        place = (number * share + 0.55 / width, 0.85 / height, share - 0.65 / width, (chart - 0.3) / height)
        axes = figure.add_axes(place)
        for k, name in enumerate(names):
            values = [[r["methods"][name][key] for r in rows if r["structure"] == s] for s in structures]
            at = np.arange(len(structures)) + (k - (len(names) - 1) / 2) * 0.84 / len(names)
            line = {"color": _tone(name)}
            box = {**line, "linestyle": _dashes(name)}
            axes.boxplot(values, positions=at, widths=0.66 / len(names), manage_ticks=False, boxprops=box,
                         whiskerprops=box, capprops=line, medianprops=line,
                         flierprops={"ms": 2, "mec": _tone(name)})  # fmt: skip
            if number == 0:
                axes.plot([], [], color=_tone(name), linestyle=_dashes(name), label=_name(name))
        axes.set_xticks(np.arange(len(structures)), structures, fontsize=SMALL)
        _plain_axes(axes, "", title)
    figure.legend(loc="lower center", ncols=len(names), frameon=False, fontsize=SMALL)
    return figure


def iterations_figure(figures: Mapping[str, Any]) -> Figure:
    """Cost by iteration of every solver, and of the networks of UBSIM by block."""
    rows = figures["rows"]
    figure, panels = _panels(len(rows))
    for axes, row in zip(panels, rows, strict=True):
        noise = row["noise_cost"]
        for name, made in row["solvers"].items():
            axes.loglog(1 + np.arange(len(made["costs"])), np.array(made["costs"]) / noise, color=_TONES[name], lw=1.2,
                        label=_name(name))  # fmt: skip
        for name, network in row["networks"].items():
            costs = np.array(network["costs"]) / noise
            axes.loglog(1 + np.arange(len(costs)), costs, "o", ls=_dashes(name), color=_tone(name), ms=4, lw=1.6,
                        mfc="white" if name.endswith(UNTRAINED) else None, label=_name(name))  # fmt: skip
            axes.axhline(costs[-1], color=_tone(name), lw=0.8, ls=":")
        axes.axhline(1, color="#999999", lw=0.8, ls="--", label="the noise")
        axes.set_title(row["structure"], fontsize=LARGE, loc="left")
        _plain_axes(axes, "1 + iterations", "cost / energy of the noise" if axes is panels[0] else "")
    _legend(figure, panels[0])
    return figure


def noise_figure(figures: Mapping[str, Any]) -> Figure:
    """PSNR by iteration; a dot where the cost has the energy of the noise."""
    rows = figures["rows"]
    lights = list(dict.fromkeys(row["photons"] for row in rows))
    figure, panels = _panels(len(rows), rows=len(lights))
    for axes, row in zip(panels, rows, strict=True):
        for name, curve in row["solvers"].items():
            psnr = np.array(curve["psnr"])
            axes.plot(psnr, color=_TONES[name], lw=1.2, label=_name(name))
            reached = np.flatnonzero(np.array(curve["cost_over_noise"]) <= 1)
            if len(reached):
                axes.plot(reached[0], psnr[reached[0]], "o", color=_TONES[name], ms=5)
        for name, psnr in row["levels"].items():
            axes.axhline(psnr, color=_TONES[name], lw=1, ls="--", label=_name(name))
        axes.set_title(f"{row['structure']}, {row['photons']:g} photons", fontsize=LARGE, loc="left")
        _plain_axes(axes, "iterations (dot: at the noise)", "equalised PSNR (dB)" if axes is panels[0] else "")
    _legend(figure, panels[0])
    return figure


def frames_figure(figures: Mapping[str, Any]) -> Figure:
    """PSNR by number of frames, mean of the images of a structure."""
    rows = figures["rows"]
    structures = list(dict.fromkeys(row["structure"] for row in rows))
    figure, panels = _panels(len(structures))
    for axes, structure in zip(panels, structures, strict=True):
        some = [row for row in rows if row["structure"] == structure]
        numbers = list(dict.fromkeys(row["frames"] for row in some))
        for name in (name for name in _TONES if any(name in row["psnr"] for row in some)):
            psnr = [[r["psnr"][name] for r in some if r["frames"] == n and name in r["psnr"]] for n in numbers]
            means = [np.mean(values) if values else np.nan for values in psnr]
            axes.plot(numbers, means, "o-", color=_TONES[name], ms=4, lw=1.2, label=_name(name))
        axes.set_xscale("log", base=2)
        axes.set_xticks(numbers, [str(n) for n in numbers])
        axes.set_title(structure, fontsize=LARGE, loc="left")
        _plain_axes(axes, "frames", "equalised PSNR (dB)" if axes is panels[0] else "")
    _legend(figure, panels[0])
    return figure


def pace_figure(figures: Mapping[str, Any]) -> Figure:
    """Images per second of every method, one bar per image."""
    rows = figures["rows"]
    figure, (axes,) = _panels(1)
    figure.set_size_inches(6, 2.8)
    names = list(rows[0]["methods"])
    for k, row in enumerate(rows):
        at = np.arange(len(names)) + (k - (len(rows) - 1) / 2) * 0.8 / len(rows)
        pace = [1 / row["methods"][name]["seconds"] for name in names]
        axes.barh(at, pace, 0.7 / len(rows), color=[_TONES[name] for name in names])
    axes.set_yticks(np.arange(len(names)), [_name(name) for name in names])
    axes.set_xscale("log")
    axes.invert_yaxis()
    _plain_axes(axes, "images per second, one bar for each structure", "")
    return figure


def domains_figure(figures: Mapping[str, Any], pictures: Pictures, pixel_um: float) -> Figure:
    """PSNR of every network by what it was trained and tested on, and one image of each structure."""
    names, networks = figures["domains"], figures["networks"]
    shown = {
        name: {
            **{k: v for k, v in images.items() if "/" not in k},
            **{
                f"{_name(network)}, trained on {'the same' if own else 'others'}": images[f"{trained}/{network}"]
                for network in networks
                for own, trained in ((True, name), (False, next(n for n in names if n != name)))
            },
        }
        for name, images in pictures.items()
    }
    columns, table = 2 + 2 * len(networks), 2.3
    width, height = 0.3 + columns * _PICTURE, 0.3 + len(names) * _PICTURE + table + 0.5
    figure = new_figure(width, height)
    _montage(figure, shown, pixel_um, height)
    for number, network in enumerate(networks):
        share = 1 / len(networks)
        axes = figure.add_axes(
            (number * share + 0.9 / width, 0.55 / height, share - 1.1 / width, (table - 0.4) / height)
        )
        values = np.array([[figures["psnr"][f"{a}/{network}"][b] for b in names] for a in names])
        wide = [np.mean([r["widefield"] for r in figures["rows"] if r["tested"] == b]) for b in names]
        gain = values - np.array(wide)
        axes.imshow(gain, cmap="RdBu", vmin=-8, vmax=8, aspect="auto")  # light enough for the text
        for (row, column), value in np.ndenumerate(values):
            axes.text(column, row, f"{value:.1f}\n({gain[row, column]:+.1f})", ha="center", va="center", fontsize=SMALL)
        axes.set_xticks(range(len(names)), names, fontsize=SMALL)
        axes.set_yticks(range(len(names)), names, fontsize=SMALL)
        axes.set_xlabel("tested on", fontsize=SMALL)
        axes.set_ylabel("trained on", fontsize=SMALL)
        axes.set_title(f"{_name(network)}: PSNR (over widefield), dB", fontsize=LARGE, loc="left")
    return figure


def _montage(figure: Figure, pictures: Pictures, pixel_um: float, height: float) -> None:
    """Images row by row from the top, each from 0 to its 99.9th percentile."""
    width = float(figure.get_size_inches()[0])
    for row, (structure, images) in enumerate(pictures.items()):
        top = height - 0.3 - row * _PICTURE
        figure.text(0.14 / width, (top - _PICTURE / 2) / height, plain(structure), rotation=90, fontsize=LARGE,
                    ha="center", va="center")  # fmt: skip
        for column, (title, image) in enumerate(images.items()):
            left = 0.3 + column * _PICTURE
            side = 0.97 * _PICTURE
            axes = figure.add_axes((left / width, (top - _PICTURE) / height, side / width, side / height))
            show(axes, image, pixel_um, (0.0, float(np.percentile(image, 99.9))), scale_bar=row == column == 0)
            if row == 0:
                outline(axes.text(0.03, 0.97, _wrapped(title), transform=axes.transAxes, color="white", va="top",
                                  fontsize=SMALL - 1))  # fmt: skip


def _wrapped(title: str) -> str:
    return plain(title).replace(", ", ",\n", 1)


def _panels(count: int, rows: int = 1) -> tuple[Figure, Sequence[Axes]]:
    columns = -(-count // rows)
    figure = new_figure(2.7 * columns + 0.3, 2.5 * rows)
    figure.set_layout_engine("constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).ravel())[:count]


def _legend(figure: Figure, axes: Axes) -> None:
    """The curves of a panel, which are those of all, below."""
    lines, names = axes.get_legend_handles_labels()
    columns = len(names) if len(names) <= _IN_A_LINE else -(-len(names) // 2)
    figure.legend(lines, names, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False)


def _tone(method: str) -> str:
    return _TONES[method.removesuffix(UNTRAINED)]


def _dashes(method: str) -> str:
    return "--" if method.endswith(UNTRAINED) else "-"


def _name(method: str) -> str:
    return "convex" if method == "per_frame" else NETWORKS.get(method) or method.replace("_", " ")


def _plain_axes(axes: Axes, x: str, y: str) -> None:
    axes.set_xlabel(x, fontsize=SMALL)
    axes.set_ylabel(y, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL - 1, which="both")
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
