"""A picture of the rule `movie`: when the raw frame was exposed, and how the sample moved meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nstm.acquisition import frame_shape_of
from nstm.io.store import open_raw, open_timelapse
from nstm.pipeline.experiment import Stage
from nstm.visual.figures import save_png
from nstm.visual.quality import nothing_figure
from nstm.visual.trajectories import trajectories_figure


def run_trajectories(
    params: Mapping[str, Any], raw_store: Path, nstm_store: Path, motion_store: Path, out_png: Path
) -> None:
    """Write the picture of the first acquisition that was reconstructed; of a volume the motion in its middle plane."""
    raw, images, motion = open_raw(raw_store), open_timelapse(nstm_store), open_timelapse(motion_store)
    system = Stage.from_params(params).system_of(raw)
    count = images.sizes["t"] // raw.sizes["t"]
    for acquisition in range(raw.sizes["t"]):
        inside = slice(acquisition * count, (acquisition + 1) * count)
        lapse = images.isel(t=inside).compute()
        if np.isfinite(lapse.values).any():
            break
    else:
        save_png(nothing_figure("no acquisition was reconstructed"), out_png, dpi=100)
        return
    moved = motion.isel(t=inside, z=motion.sizes["z"] // 2).values[:, -2:]
    one = raw.isel(t=acquisition)
    times, shape = one["time"].values, frame_shape_of(raw)
    frames = one["frames"].values
    frame = frames.reshape(-1, *frames.shape[-2:])[0].astype(np.float64) - system.settings.camera.offset
    parts = [(part.rows, float(times.min()) + part.time_s) for part in system.parts(times, shape)]
    save_png(trajectories_figure(frame, raw.attrs["pixel_um"], parts, lapse, moved), out_png, dpi=110)
