"""A transfer function measured from a recording of one bead."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nstm.io import replace_whole
from nstm.pipeline.inspect import open_sample
from nstm.pipeline.single import SAMPLE, single_experiment


def measure_transfer(
    config: Mapping[str, Any], base_dir: str | Path, system: str | None, row: Mapping[str, str], out: Path
) -> None:
    """Measure the transfer function from the first acquisition of a file, and write it whole or not at all.

    Args:
        config: see :func:`nstm.pipeline.single.single_experiment`, as for ``base_dir``, ``system`` and ``row``.
        out: the file to write.

    Raises:
        DataError: the recording cannot be used, or shows no bead.
    """
    with tempfile.TemporaryDirectory() as folder:
        stage = single_experiment(config, base_dir, system, row, Path(folder)).stage(SAMPLE, "convert")
    acquisitions = open_sample(stage.sample, stage.system)
    imaging = stage.system.of(acquisitions)
    frames = np.asarray(acquisitions["frames"].isel(t=0).values, np.float32) - np.float32(
        imaging.settings.camera.offset
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    with replace_whole(out) as temporary:
        imaging.measure_transfer(frames, float(acquisitions.attrs["pixel_um"]), temporary)
