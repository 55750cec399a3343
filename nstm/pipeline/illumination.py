"""Rule ``illumination``: calibrate every acquisition, agree on one calibration per sample, open or close the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nstm.acquisition import DataError
from nstm.illumination.transfer import SeenTransfer
from nstm.io.jsonfile import read_json, write_json
from nstm.io.store import open_raw
from nstm.pipeline.experiment import Stage
from nstm.pipeline.lineage import lineage
from nstm.systems.base import Calibration, ImagingSystem


def run_illumination(params: Mapping[str, Any], raw_store: Path, quality_json: Path, out_json: Path) -> None:
    """Write ``illumination.json``: the consensus and one calibration per acquisition, with a status that is the gate.

    A sample whose raw data failed, or in which no acquisition shows its pattern, gets ``fail`` and the reasons; the
    expensive rules then leave it out. ``transfer`` holds, of the first acquisition that shows its pattern, the transfer
    functions by order as they are assumed and as the data show them, by frequency in cycles/um.
    """
    stage = Stage.from_params(params)
    quality = read_json(quality_json)
    result: dict[str, Any] = {"schema": 1, "sample": stage.sample.sample, "consensus": None, "acquisitions": []}
    result["provenance"] = lineage(None, params)
    if quality["status"] == "fail":
        result |= {"status": "fail", "reasons": quality["reasons"]}
    else:
        try:
            raw = open_raw(raw_store)
            result["provenance"] = lineage(raw, params)
            result |= _calibrated(stage.system_of(raw), raw, quality)
        except DataError as error:
            reason = {"severity": "fail", "code": "illumination", "message": str(error)}
            result |= {"status": "fail", "reasons": [reason]}
    write_json(out_json, result)


def _calibrated(system: ImagingSystem, raw: xr.Dataset, quality: Mapping[str, Any]) -> dict[str, Any]:
    offset = np.float32(system.settings.camera.offset)
    own: list[Calibration] = []
    transfer: list[SeenTransfer] = []
    for entry in quality["acquisitions"]:
        if entry["status"] == "fail":
            own.append({"status": "fail", "reasons": entry["reasons"], "data_failed": True})
            continue
        frames = raw["frames"].isel(t=entry["index"]).values.astype(np.float32) - offset
        own.append(system.calibrate(frames, raw.attrs["pixel_um"]))
        if not transfer and own[-1]["status"] != "fail":
            transfer = system.seen_transfer(frames, own[-1], raw.attrs["pixel_um"])
    # an acquisition that lost one orientation still knows the others
    estimates: list[Calibration] = [{**c, "acquisition": t} for t, c in enumerate(own) if not c.get("data_failed")]
    consensus = system.consensus(estimates) if estimates else {"status": "fail", "reasons": []}
    if consensus["status"] == "fail":
        found = [*consensus["reasons"], *(r for c in own for r in c["reasons"] if r["severity"] == "fail")]
        return {"status": "fail", "reasons": _once(found), "acquisitions": own}
    final = [c if c.get("data_failed") else system.with_consensus(c, consensus) for c in own]
    reasons = _once([*quality["reasons"], *(r for c in final for r in c["reasons"])])
    reasons = [{**r, "severity": "warn"} for r in reasons]  # the sample goes on without what failed
    return {
        "status": "warn" if reasons else "pass",
        "reasons": reasons,
        "consensus": consensus,
        "acquisitions": final,
        "transfer": [asdict(order) for order in transfer],
    }


def _once(reasons: list[dict[str, str]]) -> list[dict[str, str]]:
    """The reasons without repetition, in order."""
    return list({(r["code"], r["message"]): r for r in reasons}.values())
