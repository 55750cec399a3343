"""From raw files to the raw store, with the hash of every file and what was done to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xarray as xr

from nstm.acquisition import DataError
from nstm.io.files import find_files
from nstm.io.jsonfile import read_json
from nstm.io.open import printable
from nstm.io.store import write_failed, write_raw
from nstm.pipeline.experiment import Stage
from nstm.pipeline.inspect import failure, open_sample


def run_convert(params: Mapping[str, Any], inspect_json: str | Path, out_store: str | Path) -> None:
    """Write ``raw.ome.zarr``; data that cannot be read make it a store without frames that says why.

    Raises:
        OSError: the disk is full or fails.
    """
    inspected = read_json(inspect_json)
    if inspected["status"] == "fail":
        write_failed(out_store, inspected["reasons"])
        return
    stage = Stage.from_params(params)
    convert_sample(stage.sample, stage.system, out_store)


def convert_sample(sample: Any, system: Any, out_store: str | Path) -> None:
    """Convert one row of the sample sheet; see :func:`run_convert`."""
    try:
        acquisitions = open_sample(sample, system)
        write_raw(out_store, acquisitions, provenance(acquisitions, sample, system))
    except DataError as error:
        write_failed(out_store, [failure(error)])


def provenance(acquisitions: xr.Dataset, sample: Any, system: Any) -> dict[str, Any]:
    """What the raw store tells of its origin; the files are read once more for their hashes."""
    optics = system.settings.optics.model_dump(mode="json")
    source = acquisitions.attrs["source"]
    return {
        "nstm": version("nstm"),
        "sample": sample.sample,
        "files": [
            {"path": printable(path), "bytes": path.stat().st_size, "sha256": sha256(path)}
            for path in find_files(sample.path)
        ],
        "source_axes": source["axes"],
        "order": source["order"],
        "dropped_planes": source["dropped_planes"],
        "flips": source["flips"],
        "optics": {**optics, "pixel_um": acquisitions.attrs["pixel_um"], "z_step_um": acquisitions.attrs["z_step_um"]},
        "time_origin": acquisitions.attrs["time_origin"],
    }


def sha256(path: Path) -> str:
    """Hash of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
