"""What is in the raw files of a sample, from their headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from nstm.acquisition import DataError
from nstm.io import open_acquisitions
from nstm.io.jsonfile import write_json
from nstm.io.protocol import clean_text
from nstm.pipeline.experiment import Stage

SCHEMA = 1


def run_inspect(params: Mapping[str, Any], out_json: str | Path) -> None:
    """Write ``inspect.json``; unusable data give status ``fail`` and the reasons, never an exception."""
    stage = Stage.from_params(params)
    write_json(out_json, inspect_sample(stage.sample, stage.system))


def open_sample(sample: Any, system: Any) -> xr.Dataset:
    """The acquisitions of one row of the sample sheet.

    Raises:
        DataError: as :func:`nstm.io.open_acquisitions`, and when a file cannot be opened.
    """
    try:
        return open_acquisitions(
            sample.path,
            system,
            channel=sample.channel,
            position=sample.position,
            acquisitions=sample.acquisitions,
            crop=sample.crop,
        )
    except (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise DataError(f"{clean_text(error)}: correct `path` or the rights of the file") from error


def inspect_sample(sample: Any, system: Any) -> dict[str, Any]:
    """The content of ``inspect.json`` for a row of the sample sheet."""
    about: dict[str, Any] = {"schema": SCHEMA, "sample": sample.sample}
    try:
        acquisitions = open_sample(sample, system)
    except DataError as error:
        return {**about, "status": "fail", "reasons": [failure(error)], "files": [], "sizes": {}}
    source = acquisitions.attrs["source"]
    times = acquisitions["time"].values
    reasons = source["reasons"]
    return {
        **about,
        "status": "warn" if reasons else "pass",
        "reasons": reasons,
        "files": source["files"],
        "format": source["format"],
        "source_axes": source["axes"],
        "order": source["order"],
        "dtype": source["dtype"],
        "sizes": {str(name): int(length) for name, length in acquisitions["frames"].sizes.items()},
        "recorded_acquisitions": source["recorded_acquisitions"],
        "dropped_planes": source["dropped_planes"],
        "channel": source["channel"],
        "position": source["position"],
        "crop": source["crop"],
        "pixel_um": acquisitions.attrs["pixel_um"],
        "pixel_origin": source["pixel_origin"],
        "z_step_um": acquisitions.attrs["z_step_um"],
        "times": {
            "origin": acquisitions.attrs["time_origin"],
            "duration_s": float(times.max() - times.min()),
        },
        "optics": system.settings.optics.model_dump(mode="json"),
        "metadata": source["metadata"],
        "raw_bytes": int(acquisitions["frames"].nbytes),
    }


def failure(error: Exception) -> dict[str, str]:
    """The reason that an error of the user's data stands for."""
    return {"severity": "fail", "code": "unusable_data", "message": str(error)}
