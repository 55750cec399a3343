"""The rule `report`: the page of the experiment, from whatever exists of each sample."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from nstm.io.store import replace_whole
from nstm.settings import Report
from nstm.visual.report import Evidence, render

_FILES = ("inspect", "quality", "illumination", "metrics", "trust")
#: Time-lapse stores that are no images.
_NO_IMAGES = ("motion",)


def run_report(params: Mapping[str, Any], sample_dirs: Mapping[str, str | Path], out_html: str | Path) -> None:
    """Write one self-contained page that covers every row of the sheet.

    Args:
        params: ``report`` (settings) and ``samples`` (rows of the sheet).
        sample_dirs: results folder by sample; anything in it may be absent, damaged files are named.
        out_html: the page.
    """
    settings = Report.model_validate(params["report"])
    out = Path(out_html)
    out.parent.mkdir(parents=True, exist_ok=True)
    evidence = [gather(row, sample_dirs.get(row["sample"])) for row in params["samples"]]
    page = render(settings.title, evidence, out.parent, metadata.version("nstm"))
    with replace_whole(out) as temporary:
        Path(temporary).write_text(page, encoding="utf-8")


def gather(row: Mapping[str, Any], folder: str | Path | None) -> Evidence:
    """What exists of one sample; never raises for what a file holds."""
    evidence = Evidence(row)
    if folder is None:
        return evidence
    folder = Path(folder)
    for name in _FILES:
        path = folder / f"{name}.json"
        if not path.is_file():
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("not a JSON object")
            evidence.found[name] = content
        except (OSError, ValueError, RecursionError) as error:
            evidence.problems[name] = f"{path.name} cannot be read ({error}): delete it and run again"
    for store in sorted((folder / "timelapse").glob("*.ome.zarr")):
        product, attributes = store.name.removesuffix(".ome.zarr"), _store_attributes(store)
        if attributes is not None and product not in _NO_IMAGES:
            evidence.stores[product] = attributes
    for name in ("movie.mp4", "still.png", "trajectories.png", "quality.png"):
        path = folder / name
        if path.is_file() and path.stat().st_size > 0:
            setattr(evidence, path.stem, path)
    return evidence


def _store_attributes(store: Path) -> Mapping[str, Any] | None:
    """The ``nstm`` attributes of a time-lapse store, read without opening its data."""
    try:
        block = json.loads((store / "zarr.json").read_text(encoding="utf-8"))["attributes"]["nstm"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return block if isinstance(block, dict) else None
