"""What stays of a reconstruct job when its arrays have been assembled: its record, in a store without arrays."""

from __future__ import annotations

from pathlib import Path

import zarr

from nstm.io.store import replace_whole


def keep_record(job_store: str | Path, out_store: str | Path) -> None:
    """Copy the attributes of a job store (settings, residuals, held-out errors) and none of its arrays.

    Figures are made from the record, so that a new baseline or figure never asks for the fits again although
    their arrays, by far the larger part, are gone.
    """
    with replace_whole(Path(out_store)) as partial:
        group = zarr.create_group(str(partial))
        group.attrs.update(zarr.open_group(str(job_store), mode="r").attrs.asdict())
