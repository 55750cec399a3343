"""Rule ``conventional``: one conventional result of a sample as a time-lapse store."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nstm.conventional.window import Window, windows
from nstm.io.jsonfile import read_json
from nstm.io.store import open_raw, write_timelapse
from nstm.optics.grids import samples
from nstm.pipeline.experiment import Stage
from nstm.pipeline.lineage import lineage
from nstm.pipeline.timeaxis import block_times, place, time_axis

#: What the attributes of every store of a moving window say.
CAVEAT = "does not raise the temporal resolution, which is window_span_s (Biomed. Opt. Express 12, 790, 2021)"


def run_conventional(
    params: Mapping[str, Any], raw_store: Path, illumination_json: Path, product: str, out_store: Path
) -> None:
    """Write ``timelapse/{product}.ome.zarr``: ``product`` of every window of blocks, NaN where there is none.

    The window is centred: the result at a block uses the blocks around it, those of a neighbouring acquisition
    only where the gap is no longer than between blocks. It does not raise the time resolution (Biomed. Opt. Express
    12, 790, 2021), and the label says so.
    """
    stage = Stage.from_params(params)
    raw = open_raw(raw_store)
    system = stage.system_of(raw)
    baseline = system.baselines[product]
    calibrations = read_json(illumination_json)["acquisitions"]
    usable = [c["status"] != "fail" for c in calibrations]
    offset = np.float32(system.settings.camera.offset)
    block = system.block_axis
    pixel = raw.attrs["pixel_um"]

    @functools.lru_cache(maxsize=4)
    def frames_of(acquisition: int) -> Any:
        return raw["frames"].isel(t=acquisition).compute().astype(np.float32) - offset

    def result(window: Window) -> np.ndarray:
        members = sorted(window.members, key=lambda member: member[1])
        stack = np.concatenate([frames_of(t).isel({block: [b]}).values for t, b in members], axis=_position(raw, block))
        own = [calibrations[t] for t, _ in members]
        return baseline.reconstruct(stack, own, pixel, stage.conventional)

    axis = time_axis(raw, block, params["reconstruction"]["output_times"])
    times = block_times(raw, block)
    window_blocks = baseline.window or raw.sizes[block]
    series = windows(times, window_blocks)
    found = {w.centre: w for w in series if all(usable[t] for t, _ in w.members)}
    spacing = np.diff(np.unique(times)).min() if times.size > 1 else 1.0
    placed = place(axis, {c: w.time_s for c, w in found.items()}, spacing / 2)
    channels = baseline.channels or system.channels
    shape = _result_shape(raw, system.grid_ratio, len(channels))

    def images() -> Iterator[np.ndarray]:
        for index in range(len(axis.times_s)):
            yield result(found[placed[index]]) if index in placed else np.full(shape, np.nan, np.float32)

    flags = ["" if i in placed else _missing(usable[axis.acquisition[i]]) for i in range(len(axis.times_s))]
    spans = [_span_s(raw, block, found[placed[i]]) if i in placed else None for i in range(len(axis.times_s))]
    write_timelapse(
        out_store,
        images(),
        times_s=axis.times_s,
        pixel_um=pixel / system.grid_ratio,
        z_step_um=raw.attrs["z_step_um"],
        label=baseline.label,
        channels=channels,
        effective_transfer=baseline.effective_transfer,
        flags=flags,
        provenance=lineage(raw, params),
        extra={
            "window": window_blocks,
            "window_note": series.explanation,
            "window_caveat": CAVEAT if window_blocks > 1 else None,
            "window_span_s": spans,
            "block": [int(b) for b in axis.block],
            "block_name": system.block_name,
        },
    )


def _span_s(raw: Any, block: str, window: Window) -> float:
    """Time from the first to the last exposure of a window, s."""
    times = [raw["time"].isel({"t": t, block: b}).values for t, b in window.members]
    return float(max(t.max() for t in times) - min(t.min() for t in times))


def _missing(usable: bool) -> str:
    return "the window of blocks does not exist here" if usable else "this acquisition failed the checks"


def _position(raw: Any, axis: str) -> int:
    return list(raw["frames"].dims).index(axis) - 1  # the acquisition axis is gone


def _result_shape(raw: Any, ratio: float, channels: int) -> tuple[int, int, int, int]:
    sizes = raw.sizes
    return channels, sizes["z"], samples(sizes["y"], ratio), samples(sizes["x"], ratio)
