"""A time-lapse store as an ImageJ hyperstack, for programs that do not read OME-Zarr."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from nstm.acquisition import DataError
from nstm.io.store import open_timelapse, replace_whole

#: ImageJ's format has 32-bit offsets.
MAX_BYTES = 4 * 1024**3 - 2**20


def export_imagej(store: str | Path, out_tif: str | Path) -> None:
    """Write a store of axes ``t c z y x`` as TZCYX hyperstack with pixel size, plane distance and frame interval.

    Missing results stay NaN. The frame interval is the mean one; the exact times stand in the property ``Info``.

    Raises:
        DataError: not a time-lapse store, larger than ImageJ's format allows (4 GB), or the output is a folder.
    """
    if Path(out_tif).is_dir():
        raise DataError(f"{out_tif} is a folder: name the TIFF file to write, e.g. {Path(out_tif) / 'out.tif'}")
    images = open_timelapse(store)
    if images.nbytes > MAX_BYTES:
        raise DataError(
            f"{store} holds {images.nbytes / 1e9:.1f} GB, an ImageJ file at most 4 GB: open the store itself in Fiji"
        )
    times = images["t"].values
    metadata = {
        "axes": "TZCYX",
        "unit": "um",
        "finterval": float(np.mean(np.diff(times))) if len(times) > 1 else 0.0,
        "tunit": "s",
        "Info": "times / s: " + ", ".join(f"{t:.6g}" for t in times),
        "Labels": [str(c) for c in images["c"].values] * (images.sizes["t"] * images.sizes["z"]),
    }
    if images.attrs.get("z_step_um"):
        metadata["spacing"] = float(images.attrs["z_step_um"])
    per_um = 1 / float(images.attrs["pixel_um"])
    with replace_whole(out_tif) as partial:
        tifffile.imwrite(
            partial,
            images.transpose("t", "z", "c", "y", "x").values,
            imagej=True,
            resolution=(per_um, per_um),
            metadata=metadata,
        )
