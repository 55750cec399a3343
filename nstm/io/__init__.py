"""Raw data in, results out: readers of vendor formats behind one protocol, and OME-Zarr stores."""

from nstm.io.open import open_acquisitions
from nstm.io.store import (
    open_raw,
    open_timelapse,
    raw_status,
    replace_whole,
    write_failed,
    write_raw,
    write_timelapse,
)

__all__ = [
    "open_acquisitions",
    "open_raw",
    "open_timelapse",
    "raw_status",
    "replace_whole",
    "write_failed",
    "write_raw",
    "write_timelapse",
]
