"""Rule ``assemble``: the stores of all reconstruct jobs of a sample as one time-lapse store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from nstm.acquisition import Channel, DataError
from nstm.io.store import open_raw, write_timelapse
from nstm.pipeline.experiment import Stage
from nstm.pipeline.lineage import lineage
from nstm.pipeline.reconstruct import JOB_SCHEMA
from nstm.pipeline.timeaxis import measured_at, time_axis

#: Array of a job, label and what the transfer of each product is.
PRODUCTS = {
    "nstm": (
        "scene",
        "NSTM",
        "1 within the support of the shifted transfer functions, 0 outside (of a stack along z from one and a half of "
        "its reach on); not apodised",
    ),
    "static": ("static", "fit without motion", "as NSTM"),
    "motion": ("displacement", "material displacement since the previous time", "none"),
}


_DISPLACEMENTS = [Channel(f"displacement_{axis}_um", "um", "signed") for axis in "zyx"]


def run_assemble(
    params: Mapping[str, Any], raw_store: Path, job_stores: Sequence[Path], product: str, out_store: Path
) -> None:
    """Write ``timelapse/{product}.ome.zarr`` from the job stores, one job in memory at a time.

    Raises:
        DataError: the jobs do not cover the sample's times, or a job has no such array.
    """
    stage = Stage.from_params(params)
    raw = open_raw(raw_store)
    system = stage.system_of(raw)
    axis = time_axis(raw, system, params["reconstruction"]["output_times"])
    name, label, transfer = PRODUCTS[product]
    jobs = sorted((_open_job(path) for path in job_stores), key=lambda job: job.attrs["nstm"]["first"])
    times = np.concatenate([job.attrs["nstm"]["times_s"] for job in jobs])
    if times.shape != axis.times_s.shape or not np.allclose(times, axis.times_s):
        raise DataError(
            f"{out_store}: the reconstruct jobs hold {len(times)} times, the sample has {len(axis.times_s)}"
        )
    records = [record for job in jobs for record in job.attrs["nstm"]["acquisitions"]]

    def images() -> Iterator[np.ndarray]:
        for job in jobs:
            for index in range(job["scene"].shape[0]):
                # a job none of whose acquisitions was to be fitted at rest holds no such array
                yield job[name][index] if name in job else np.full(job["scene"].shape[1:], np.nan, np.float32)

    write_timelapse(
        out_store,
        images(),
        times_s=axis.times_s,
        pixel_um=raw.attrs["pixel_um"] / system.grid_ratio,
        z_step_um=raw.attrs["z_step_um"],
        label=label,
        channels=_DISPLACEMENTS[-jobs[0][name].shape[1] :] if product == "motion" else system.channels,
        effective_transfer=transfer,
        flags=_flags(product, axis.acquisition, measured_at(raw, system, axis), records),
        provenance=lineage(raw, params, before={"reconstruct": jobs[0].attrs["nstm"]["provenance"]["params"]}),
        extra={"block": [int(b) for b in axis.block], "block_name": system.block_name},
    )


def _flags(product: str, acquisition: np.ndarray, measured: np.ndarray, records: list[dict[str, Any]]) -> list[str]:
    """Why there is no result at a time, "" where there is one."""
    flags = []
    for index, a in enumerate(acquisition):
        record = records[a]
        first_of_acquisition = index == 0 or acquisition[index - 1] != a or not measured[index - 1]
        if record["status"] == "fail":
            flags.append("; ".join(r["message"] for r in record["reasons"]) or "this acquisition failed the checks")
        elif not measured[index]:
            flags.append("this time lies between two acquisitions, each of which is fitted by itself")
        elif product == "motion" and first_of_acquisition:
            flags.append("the displacement since the previous acquisition is not determined")
        elif product == "static" and record.get("static_residual_noise_units") is None:
            flags.append("no static fit was asked for here")
        else:
            flags.append("")
    return flags


def _open_job(path: Path) -> Any:
    job = zarr.open_group(str(path), mode="r")
    about: Any = job.attrs.get("nstm", {})
    if about.get("schema") != JOB_SCHEMA:
        raise DataError(f"{path}: not the store of a reconstruct job of this version; remove it and run again")
    return job
