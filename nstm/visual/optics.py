"""The transfer functions that are assumed, and what the data show of them."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from nstm.illumination.transfer import SeenTransfer
from nstm.visual.figures import new_figure

_ORDERS = ("#444444", "#1b6ca8", "#c0392b")


def transfer_figure(orders: Sequence[SeenTransfer]) -> Figure:
    """Assumed transfer functions as lines, those that the overlap of the bands shows as dots, by order."""
    figure = new_figure(4.8, 3.2)
    axes = figure.add_axes((0.13, 0.16, 0.84, 0.8))
    for one in orders:
        colour = _ORDERS[one.order]
        axes.plot(one.frequency, one.assumed, color=colour, linewidth=1.4, label=f"order {one.order}, assumed")
        axes.plot(one.frequency, one.seen, "o", color=colour, markersize=3, label=f"order {one.order}, data")
    axes.set_xlabel("frequency / cycles per µm")
    axes.set_ylabel("transfer")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure
