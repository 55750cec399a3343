"""Spectra: of raw frames with the pattern peaks, and of the results with what the instrument can transfer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from nstm.visual.colour import ACCENT, direction_colours
from nstm.visual.figures import LARGE, SMALL, new_figure, plain
from nstm.visual.panels import plane
from nstm.visual.series import Panel
from nstm.visual.text import time_labels

#: Exponent of the magnitude that spectra are shown with: linear, only their centre would be seen.
GAMMA = 0.3


def illumination_figure(
    frames: np.ndarray,
    pixel_um: float,
    pattern_vectors: Sequence[Sequence[float]],
    orders: int,
    cutoff: float,
    *,
    title: str = "Pattern in the spectrum of the raw frames",
) -> Figure:
    """Mean power spectrum of raw frames, logarithmic, with the pattern peaks circled and the OTF's edge.

    Args:
        frames: ``(m, y, x)`` or ``(y, x)``, counts.
        pixel_um: camera pixel, um.
        pattern_vectors: (ky, kx) of order 1 per angle, cycles/um.
        orders: number of orders (2 for three-beam SIM).
        cutoff: edge of the detection transfer function, cycles/um.
        title: heading.
    """
    ny, nx = frames.shape[-2:]
    taper = np.outer(np.hanning(ny), np.hanning(nx))
    clean = np.nan_to_num(frames - np.nanmean(frames, axis=(-2, -1), keepdims=True)).reshape(-1, ny, nx)
    mean = np.mean(np.abs(np.fft.fft2(clean * taper)) ** 2, axis=0)
    power = np.log10(np.fft.fftshift(mean) + 1e-12)
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
    axes.set_xlabel("$f_x$ (cycles/µm)", fontsize=SMALL)
    axes.set_ylabel("$f_y$ (cycles/µm)", fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    axes.set_title(plain(title), fontsize=LARGE, fontweight="bold", loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.11), ncols=4, handlelength=1.2,
                fontsize=7.5, facecolor="#222222", labelcolor="white")  # fmt: skip
    return figure


def spectra_figure(
    panels: Sequence[Panel], time_index: int, diffraction_limit: float, extended: float, gamma: float = GAMMA
) -> Figure:
    """Magnitude of the spectra of the results, with the circles of what can be transferred.

    Args:
        panels: left to right.
        time_index: which time; panels without a result there are left out.
        diffraction_limit: highest frequency of a single frame, cycles/um, dashed.
        extended: highest frequency of a result, cycles/um, drawn through.
        gamma: exponent of the magnitude.
    """
    shown = [(p, image) for p in panels if np.isfinite(image := plane(p.images, time_index)).all()]
    figure = new_figure(2.6 * max(len(shown), 1) + 0.1, 3.3)
    reach = 1.12 * extended
    for i, (panel, image) in enumerate(shown):
        axes = figure.add_axes(((0.06 + 2.6 * i) / figure.get_figwidth(), 0.125, 2.52 / figure.get_figwidth(), 0.764))
        pixel_um = float(panel.images.attrs["pixel_um"])
        window = np.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1]))
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2((image - image.mean()) * window)))
        fy, fx = (np.fft.fftshift(np.fft.fftfreq(n, pixel_um)) for n in image.shape)
        dy, dx = fy[1] - fy[0], fx[1] - fx[0]
        axes.imshow((spectrum / np.percentile(spectrum, 99.97)) ** gamma, cmap="magma", vmin=0, vmax=1,
                    interpolation="nearest", aspect="equal",
                    extent=(fx[0] - dx / 2, fx[-1] + dx / 2, fy[-1] + dy / 2, fy[0] - dy / 2))  # fmt: skip
        tone = tuple(c / 255 for c in ACCENT)
        axes.add_patch(Circle((0, 0), diffraction_limit, fill=False, ec="white", lw=1.0, ls=(0, (4, 3))))
        axes.add_patch(Circle((0, 0), extended, fill=False, ec=tone, lw=1.2))
        axes.set_xlim(-reach, reach)
        axes.set_ylim(reach, -reach)
        axes.set_facecolor("black")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(plain(panel.name), fontsize=LARGE - 0.5, fontweight="bold", loc="left", pad=4)
    stamp = time_labels(panels[0].images["t"].values)[time_index]
    limits = [f"{f:.3g} cycles/µm ({500 / f:.0f} nm half period)" for f in (diffraction_limit, extended)]
    note = (
        f"t = {stamp}. Magnitude to the power of {gamma:g} (gamma), each scaled to its largest. Dashed: diffraction "
        f"limit,\n{limits[0]}; orange: limit of the result, {limits[1]}."
    )
    figure.text(0.06 / figure.get_figwidth(), 0.015, note, fontsize=SMALL - 1, color="#333333", va="bottom")
    return figure
