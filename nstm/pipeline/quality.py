"""Rule ``quality``: look at the raw frames of every acquisition before anything expensive is made from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nstm.io.jsonfile import write_json
from nstm.io.store import open_raw, raw_status
from nstm.pipeline.experiment import Stage
from nstm.quality.raw import check_acquisition, check_sample, motion_summary
from nstm.quality.reasons import status_of

SCHEMA = 1


def run_quality(params: Mapping[str, Any], raw_store: str | Path, out_json: str | Path) -> None:
    """Write ``quality.json``: figures and verdict of every acquisition and of the sample.

    A store that holds no frames because its data are bad passes its own reasons on. One acquisition is in
    memory at a time.
    """
    stage = Stage.from_params(params)
    result: dict[str, Any] = {"schema": SCHEMA, "sample": stage.sample.sample}
    status, reasons = raw_status(raw_store)
    if status == "fail":
        write_json(out_json, {**result, "status": "fail", "reasons": reasons, "motion_px": None, "acquisitions": []})
        return
    raw = open_raw(raw_store)
    system = stage.system_of(raw)
    acquisitions = [
        check_acquisition(
            raw["frames"].isel(t=index).values,
            index=index,
            alike=system.alike,
            pixel_um=raw.attrs["pixel_um"],
            passband=system.passband(),
            camera=system.settings.camera,
            counts=system.counts,
        )
        for index in range(raw.sizes["t"])
    ]
    found = check_sample(acquisitions)[1]
    reasons = [*reasons, *found]  # what conversion had to say (dropped planes) stays
    write_json(
        out_json,
        {
            **result,
            "status": status_of(reasons),
            "reasons": reasons,
            "motion_px": motion_summary(acquisitions),
            "acquisitions": acquisitions,
        },
    )
