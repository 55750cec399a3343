"""The panels of movies and figures, from the stores of a sample."""

from __future__ import annotations

import contextlib
import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nstm.acquisition import DataError
from nstm.io.jsonfile import read_json
from nstm.io.store import open_timelapse
from nstm.visual.series import Outline, Panel, align_times

#: What stands above a panel; stores of other names bring their own label.
_NAMES = {"nstm": "NSTM", "static": "static fit (no motion)", "motion": "NSTM, displacement"}
_LABELS = {"widefield": "widefield", "conventional": "moving window (conventional)"}


@dataclass(frozen=True)
class Shown:
    """Files of a sample that movies and figures are made from.

    Args:
        stores: time-lapse stores of images by product name.
        motion: store of the displacement.
        trust: ``trust.json``, for the regions to read with care.
        truth: store of the truth.
    """

    stores: Mapping[str, str | Path]
    motion: str | Path | None = None
    trust: str | Path | None = None
    truth: str | Path | None = field(default=None)


def panels_of(files: Shown, wanted: Sequence[str], truth_named: str = "") -> list[Panel]:
    """The panels ``wanted``, as far as the sample has them, in that order, and the truth.

    Args:
        files: of the sample.
        wanted: names of stores, and ``motion`` for NSTM with arrows.
        truth_named: column ``truth`` of the sheet.

    Raises:
        DataError: none of the wished panels is there, or a store cannot be read.
    """
    images = {name: open_timelapse(Path(path)) for name, path in files.stores.items() if name in {*wanted, "nstm"}}
    motion = None if files.motion is None else open_timelapse(Path(files.motion))
    regions = regions_of(files.trust)
    panels = []
    for name in wanted:
        source = "nstm" if name == "motion" else name
        if source not in images or (name == "motion" and motion is None):
            continue
        panel = _panel(name, images[source])
        if source == "nstm":
            fits = motion is not None and motion.sizes["t"] == images[source].sizes["t"]
            outlines = outlines_of(regions, images[source].sizes["t"])
            panel = replace(panel, displacement=motion if fits else None, arrows=name == "motion", outlines=outlines)
        panels.append(panel)
    if not panels:
        raise DataError(
            f"movie.panels names {', '.join(map(repr, wanted))} but there are only the stores "
            f"{', '.join(map(repr, sorted(files.stores))) or 'none'}: name one of these"
        )
    if files.truth is not None:
        with contextlib.suppress(DataError):  # a truth that cannot be read: `evaluate` says so
            panels.append(_truth_panel(open_timelapse(Path(files.truth)), panels[0].images["t"].values, truth_named))
    return panels


def time_note(panels: Sequence[Panel]) -> str:
    """What stands behind time stamps where times were assumed."""
    return " (times assumed)" if any(times_assumed(panel.images.attrs) for panel in panels) else ""


def regions_of(trust: str | Path | None) -> list[list[Mapping[str, Any]]]:
    """The regions of every acquisition that must not be believed, or only with care."""
    if trust is None:
        return []
    return [list(entry.get("regions") or []) for entry in read_json(trust).get("acquisitions") or []]


def outlines_of(regions: Sequence[Sequence[Mapping[str, Any]]], times: int) -> list[Outline]:
    """The regions of every acquisition at its times; all acquisitions have the same number of times."""
    if not regions or times % len(regions):
        return []
    each = times // len(regions)
    return [
        Outline(
            np.asarray(region["outline_um"], dtype=float),
            frozenset(range(i * each, (i + 1) * each)),
            "?" if region.get("slides") else "!",
        )
        for i, found in enumerate(regions)
        for region in found
    ]


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
