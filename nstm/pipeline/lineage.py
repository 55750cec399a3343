"""Provenance that every result carries."""

from __future__ import annotations

import functools
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import xarray as xr

#: Packages that read, store and compute what a result is made of.
_PACKAGES = ("nstm", "numpy", "scipy", "jax", "zarr", "tifffile", "imagecodecs", "mrc", "nd2", "pylibCZIrw")


@functools.cache
def versions() -> dict[str, str]:
    """Version of Python and of the packages that results depend on, by name."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def lineage(
    raw: xr.Dataset | None, params: Mapping[str, Any], before: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """Where a result comes from: versions, settings and numerics of its stage, source of the raw frames.

    The source files stand once in it, with their hashes.

    Args:
        raw: the frames that it was made from; ``None``: not yet known, or those of the raw store beside it.
        params: settings of its stage.
        before: settings of the stages between the raw frames and it, by their names.
    """
    source = {} if raw is None else dict(raw.attrs.get("source", {}))
    if source.get("provenance", {}).get("files"):
        source.pop("files", None)
    return {
        "nstm": versions()["nstm"],
        "versions": versions(),
        "params": dict(params),
        **({"before": {name: dict(settings) for name, settings in before.items()}} if before else {}),
        **({} if raw is None else {"source": source, "time_origin": raw.attrs["time_origin"]}),
    }
