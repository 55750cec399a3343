"""Coarse to fine: what the scene looks like on the way of a fit (Cao et al. 2024, Fig. 1c)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from nstm.acquisition import DataError
from nstm.visual.figures import LARGE, SMALL, new_figure, show
from nstm.visual.panels import projected


def snapshots_figure(
    snapshots: Mapping[int, np.ndarray], pixel_um: float, *, channel: int = 0, saturated_percent: float = 0.1
) -> Figure:
    """The scene after some of the steps, each with its own range: the levels open one after another.

    Args:
        snapshots: ``(c, z, y, x)`` by step, as :attr:`nstm.spacetime.result.Fit.snapshots`.
        pixel_um: um.
        channel: which one.
        saturated_percent: percent at each end.

    Raises:
        DataError: there is no snapshot.
    """
    if not snapshots:
        raise DataError("there are no snapshots: give reconstruct(..., snapshots=(step, ...)) the steps to keep")
    side, height, width = 2.4, *next(iter(snapshots.values())).shape[-2:]
    figure = new_figure(side * len(snapshots) + 0.05, side * height / width + 0.52)
    for i, (step, scene) in enumerate(sorted(snapshots.items())):
        image = projected(np.asarray(scene)[channel])
        low, high = np.percentile(image[np.isfinite(image)], [saturated_percent, 100 - saturated_percent])
        left, bottom = (0.05 + side * i) / figure.get_figwidth(), 0.24 / figure.get_figheight()
        axes = figure.add_axes(
            (left, bottom, (side - 0.05) / figure.get_figwidth(), side * height / width / figure.get_figheight())
        )
        show(
            axes, image, pixel_um, (float(low), max(float(high), float(low) + 1e-12)), scale_bar=i == len(snapshots) - 1
        )
        axes.set_title(f"after {step} steps", fontsize=LARGE - 0.5, fontweight="bold", loc="left", pad=3)
    note = f"Scene, linear grey (gamma 1), each with its own range, {saturated_percent:g} % saturated at each end."
    figure.text(0.05 / figure.get_figwidth(), 0.05 / figure.get_figheight(), note, fontsize=SMALL - 1, color="#333333")
    return figure
