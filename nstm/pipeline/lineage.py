"""Provenance that every result carries."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import xarray as xr


def lineage(raw: xr.Dataset, params: Mapping[str, Any]) -> dict[str, Any]:
    """Where a result comes from: program version, settings and numerics of its stage, source of the raw frames."""
    return {
        "nstm": version("nstm"),
        "params": dict(params),
        "source": raw.attrs.get("source", {}),
        "time_origin": raw.attrs["time_origin"],
    }
