"""Raw data in, results out: readers of vendor formats behind one protocol, and OME-Zarr stores.

The public functions load on first use: checking a config needs neither readers nor zarr.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "open_acquisitions": "nstm.io.open",
    "open_raw": "nstm.io.store",
    "open_timelapse": "nstm.io.store",
    "raw_status": "nstm.io.store",
    "replace_whole": "nstm.io.whole",
    "write_failed": "nstm.io.store",
    "write_raw": "nstm.io.store",
    "write_timelapse": "nstm.io.store",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'nstm.io' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
