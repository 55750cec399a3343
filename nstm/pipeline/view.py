"""Results in napari, which is an extra of its own (``requirements-napari.lock``)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from nstm.acquisition import DataError
from nstm.pipeline.layers import LayerData, view_layers


def view(path: str | Path) -> None:
    """Show a sample or a store in napari, until its window is closed.

    Raises:
        DataError: nothing to show (:func:`nstm.pipeline.layers.view_layers`), no napari, or no screen.
    """
    layers = view_layers(path)
    napari = _napari()
    viewer = napari.Viewer(title=f"nstm: {path}")
    fill(viewer, layers)
    napari.run()


def fill(viewer: Any, layers: Sequence[LayerData]) -> None:
    """Add the layers to a viewer (or its model, which needs no screen), with scale bar and the time in words."""
    for data, keywords, kind in layers:
        getattr(viewer, f"add_{kind}")(data, **keywords)
    viewer.dims.axis_labels = layers[0][1]["axis_labels"]
    viewer.dims.current_step = (0,) * viewer.dims.ndim
    words, bar = viewer.canvas.overlays.text, viewer.canvas.overlays.scale_bar
    words.visible = bar.visible = True
    along = viewer.dims.ndim - 4  # t, before z, y and x
    about = layers[-1][1]["metadata"]

    def tell(event: Any = None) -> None:
        words.text = time_text(about, int(viewer.dims.current_step[along]))

    viewer.dims.events.current_step.connect(tell)
    tell()


def time_text(about: dict[str, Any], index: int) -> str:
    """The exact time of a step of the slider, whose own numbers are equally spaced, and what is missing there."""
    times, flags = about["times_s"], about.get("flags", [])
    index = min(index, len(times) - 1)
    flag = flags[index] if index < len(flags) else ""
    return f"{times[index]:.4g} s" + (f": {flag}" if flag else "")


def _napari() -> ModuleType:
    try:
        import napari
    except ImportError as error:
        raise DataError(
            f"napari is not installed ({error}): pip install --no-deps -r requirements-napari.lock, or pip install "
            "'nstm[napari]'. Without it: `nstm export` writes TIFF files for ImageJ"
        ) from error
    screens = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    if sys.platform.startswith("linux") and not any(os.environ.get(name) for name in screens):
        raise DataError("there is no screen here (DISPLAY is not set): run it on a desktop, or with ssh -X")
    return napari  # type: ignore[no-any-return]  # an optional package without types
