"""What stays of a reconstruct job when its arrays have been assembled: its record, and snapshots of its first fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from nstm.io.store import replace_whole

#: Array ``(s, c, z, y, x)`` of the scene on the way of the first fit; only in the first job of a sample.
SNAPSHOTS = "snapshots"


def keep_record(job_store: str | Path, out_store: str | Path) -> None:
    """Copy the attributes of a job store (settings, residuals, held-out errors), and of its arrays only the snapshots.

    Figures are made from the record, so that a new baseline or figure never asks for the fits again although
    their arrays, by far the larger part, are gone.
    """
    job = zarr.open_group(str(job_store), mode="r")
    with replace_whole(Path(out_store)) as partial:
        group = zarr.create_group(str(partial))
        if SNAPSHOTS in job:
            group.create_array(SNAPSHOTS, data=np.asarray(job[SNAPSHOTS]))
        group.attrs.update(job.attrs.asdict())


def snapshots_of(record_store: str | Path) -> dict[int, np.ndarray]:
    """Scene ``(c, z, y, x)`` of a sample's first fit by step; empty where it failed or none were kept."""
    group = zarr.open_group(str(record_store), mode="r")
    if SNAPSHOTS not in group:
        return {}
    about: Any = group.attrs["nstm"]
    return dict(zip(about["acquisitions"][0]["snapshot_steps"], np.asarray(group[SNAPSHOTS]), strict=True))
