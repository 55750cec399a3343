"""The rule `movie`: the side-by-side movie of a sample and a still figure of it."""

from __future__ import annotations

import contextlib
import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nstm.acquisition import DataError
from nstm.io.store import open_timelapse
from nstm.settings import Movie
from nstm.visual.figures import save_png, still
from nstm.visual.movie import Panel, align_times, movie

#: What stands above a panel; stores of other names bring their own label.
_NAMES = {"nstm": "NSTM", "static": "static fit (no motion)"}
_LABELS = {"widefield": "widefield", "conventional": "moving window (conventional)"}


def run_movie(
    params: Mapping[str, Any],
    stores: Mapping[str, str | Path],
    truth: str | Path | None,
    out_mp4: str | Path,
    out_png: str | Path,
) -> None:
    """Write the movie and the still figure of a sample.

    Args:
        params: settings of the stage (``sample``, ``movie``).
        stores: time-lapse stores by product name; those named in ``movie.panels`` are shown, in that order.
        truth: store of the truth, shown last; left out where it cannot be read.
        out_mp4: the movie.
        out_png: the still figure.

    Raises:
        DataError: none of the wished panels was given, or a store cannot be read.
    """
    settings = Movie.model_validate(params["movie"])
    shown = [name for name in settings.panels if name in stores]
    if not shown:
        raise DataError(
            f"movie.panels names {', '.join(map(repr, settings.panels))} but there are only the stores "
            f"{', '.join(map(repr, sorted(stores))) or 'none'}: name one of these"
        )
    panels = [_panel(name, open_timelapse(Path(stores[name]))) for name in shown]
    if truth is not None:
        named = str(params["sample"].get("truth") or "")
        with contextlib.suppress(DataError):  # a truth that cannot be read: `evaluate` says so
            panels.append(_truth_panel(open_timelapse(Path(truth)), panels[0].images["t"].values, named))
    note = " (times assumed)" if any(times_assumed(panel.images.attrs) for panel in panels) else ""
    movie(panels, Path(out_mp4), settings, time_note=note)
    save_png(still(panels, saturated_percent=settings.saturated_percent, time_note=note), Path(out_png))


def _panel(name: str, images: xr.DataArray) -> Panel:
    label = _NAMES.get(name) or str(images.attrs.get("label") or "") or _LABELS.get(name, name)
    return Panel(label, images, window_footnote(name, images.attrs))


def _truth_panel(images: xr.DataArray, times_s: np.ndarray, named: str) -> Panel:
    """The truth on the times of the others; another sample as reference stands still, as in the figures."""
    if named and not os.path.isabs(named):
        complete = [i for i in range(images.sizes["t"]) if np.isfinite(images.isel(t=i).values).all()]
        chosen = complete or [0]
        mean = np.mean([images.isel(t=i).values for i in chosen], axis=0, dtype=np.float32)
        still_image = images.isel(t=[chosen[0]]).copy(data=np.asarray(mean)[None])
        still_image.attrs = {**images.attrs, "flags": [""]}
        note = "another sample at rest, mean of its times"
        return Panel(f"reference: {named}", align_times(still_image, times_s), note)
    alone = images.sizes["t"] == 1 and len(times_s) > 1
    return Panel("truth", align_times(images, times_s), "one still truth, the same at all times" if alone else "")


def window_footnote(name: str, attrs: Mapping[str, Any]) -> str:
    """The caveat of a moving window, which does not raise temporal resolution (Biomed. Opt. Express 12, 790).

    Stores may say how many consecutive blocks a result mixes (``window``) and what a block is (``block_name``).
    """
    window = attrs.get("window")
    if window is None and "moving window" not in str(attrs.get("label", "")).lower() and name != "conventional":
        return ""
    if window == 1:
        return ""
    mixed = f"{window} {attrs.get('block_name', 'orientation')}s" if isinstance(window, int) else "several exposures"
    spans = [s for s in attrs.get("window_span_s") or [] if isinstance(s, int | float)]
    over = f" over {max(spans):.2g} s" if spans and max(spans) > 0 and not times_assumed(attrs) else ""
    return f"moving window: mixes {mixed}{over}, does not raise time resolution"


def times_assumed(attrs: Mapping[str, Any]) -> bool:
    """Whether the times of a store were assumed, as far as its attributes say."""
    provenance = attrs.get("provenance")
    places = [attrs, provenance if isinstance(provenance, Mapping) else {}]
    return any(place.get("time_origin") == "assumed" for place in places)
