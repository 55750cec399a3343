"""Rule ``quality``: look at the raw frames of every acquisition before anything expensive is made from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from nstm.acquisition import frame_axes_of
from nstm.io.jsonfile import write_json
from nstm.io.store import open_raw, raw_status
from nstm.pipeline.experiment import Stage
from nstm.pipeline.lineage import lineage
from nstm.quality.acquisition import Blocks, check_acquisition, looked_at
from nstm.quality.prospect import prospect, reasons_of
from nstm.quality.raw import check_sample
from nstm.quality.reasons import status_of
from nstm.quality.spectrum import Spectra
from nstm.systems.base import ImagingSystem
from nstm.visual.figures import save_png
from nstm.visual.quality import nothing_figure, quality_figure

SCHEMA = 2


def run_quality(
    params: Mapping[str, Any], raw_store: str | Path, out_json: str | Path, out_png: str | Path | None = None
) -> None:
    """Write ``quality.json``, figures and verdict of every acquisition and of the sample, and their picture.

    A store that holds no frames because its data are bad passes its own reasons on. One acquisition is in
    memory at a time.
    """
    stage = Stage.from_params(params)
    result: dict[str, Any] = {"schema": SCHEMA, "sample": stage.sample.sample}
    status, reasons = raw_status(raw_store)
    if status == "fail":
        result |= {"status": "fail", "reasons": reasons, "motion": None, "acquisitions": []}
        result["provenance"] = lineage(None, params)
        write_json(out_json, result)
        if out_png is not None:
            save_png(nothing_figure("no frames: the recording could not be read"), Path(out_png))
        return
    raw = open_raw(raw_store)
    system = stage.system_of(raw)
    acquisitions: list[dict[str, Any]] = []
    before: Blocks | None = None
    for index in range(raw.sizes["t"]):
        one = raw.isel(t=index)
        entry, before = check_acquisition(
            one["frames"].values,
            one["time"].values,
            frame_axes_of(raw),
            system,
            index=index,
            pixel_um=raw.attrs["pixel_um"],
            before=before,
        )
        acquisitions.append(entry)
    score = prospect([a for a in acquisitions if a["status"] != "fail"])
    # what conversion had to say (dropped planes) stays
    reasons = [*reasons, *check_sample(acquisitions)[1], *reasons_of(score)]
    result |= {"status": status_of(reasons), "reasons": reasons, "motion": score, "acquisitions": acquisitions}
    result["provenance"] = lineage(raw, params)
    write_json(out_json, result)
    if out_png is not None:
        save_png(_picture(result, raw, system), Path(out_png), dpi=100)


def _picture(quality: Mapping[str, Any], raw: xr.Dataset, system: ImagingSystem) -> Figure:
    """The figure, with the spectrum of the first acquisition that can be used."""
    usable = next((a["index"] for a in quality["acquisitions"] if a["status"] != "fail"), None)
    if usable is None:
        return nothing_figure("no acquisition can be used")
    frames = raw["frames"].isel(t=usable).values
    axis = frame_axes_of(raw).index(system.block_axis)
    pixel_um, passband = raw.attrs["pixel_um"], system.passband()
    spared = system.usable(frames.astype(np.float32) - np.float32(system.settings.camera.offset))
    seen = looked_at(frames, None if spared is None else spared.used)
    power = Spectra.of(seen, pixel_um, passband).power.mean(axis=0)
    return quality_figure(quality, power, pixel_um, passband, np.indices(frames.shape[:-3])[axis].ravel())
