"""Rule ``conventional``: one conventional result of a sample as a time-lapse store."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nstm.acquisition import frame_shape_of
from nstm.conventional.window import Window
from nstm.io.jsonfile import read_json
from nstm.io.store import open_raw, write_timelapse
from nstm.pipeline.experiment import Stage
from nstm.pipeline.lineage import lineage
from nstm.pipeline.timeaxis import TimeAxis, block_times, place, rolling, time_axis
from nstm.settings import Conventional
from nstm.systems.base import Baseline, Calibration, ImagingSystem, Series

#: What the attributes of every store of a moving window say.
CAVEAT = "does not raise the temporal resolution, which is window_span_s (Biomed. Opt. Express 12, 790, 2021)"


def run_conventional(
    params: Mapping[str, Any], raw_store: Path, illumination_json: Path, product: str, out_store: Path
) -> None:
    """Write ``timelapse/{product}.ome.zarr``: a conventional result of the system, NaN where there is none.

    Results of a window of blocks are centred: the one at a block uses the blocks around it, those of a neighbouring
    acquisition only where the gap is no longer than between blocks. It does not raise the time resolution (Biomed. Opt.
    Express 12, 790, 2021), and the label says so. Results of a series stand at all times of their acquisition.
    """
    stage = Stage.from_params(params)
    raw = open_raw(raw_store)
    system = stage.system_of(raw)
    baseline = system.baselines[product]
    source = _Source(
        raw,
        system,
        calibrations=read_json(illumination_json)["acquisitions"],
        settings=stage.conventional,
        axis=time_axis(raw, system, params["reconstruction"]["output_times"]),
    )
    results = _of_series(source, baseline) if isinstance(baseline, Series) else _of_windows(source, baseline)
    channels = baseline.channels or system.channels
    shape = (len(channels), *system.result_shape(frame_shape_of(raw)))
    nothing = np.full(shape, np.nan, np.float32)
    write_timelapse(
        out_store,
        (nothing if flag else results.image(index) for index, flag in enumerate(results.flags)),
        times_s=source.axis.times_s,
        pixel_um=raw.attrs["pixel_um"] / system.grid_ratio,
        z_step_um=raw.attrs["z_step_um"],
        label=baseline.label,
        channels=channels,
        effective_transfer=baseline.effective_transfer,
        flags=results.flags,
        provenance=lineage(raw, params),
        extra={
            **results.about,
            "block": [int(b) for b in source.axis.block],
            "block_name": system.block_name,
        },
    )


@dataclass(frozen=True)
class _Source:
    """What the results of a sample are made of."""

    raw: xr.Dataset
    system: ImagingSystem
    calibrations: list[Calibration]
    settings: Conventional
    axis: TimeAxis

    def usable(self, acquisition: int) -> bool:
        """Whether an acquisition passed its checks."""
        return bool(self.calibrations[acquisition]["status"] != "fail")

    @functools.cached_property
    def frames_of(self) -> Callable[[int], xr.DataArray]:
        """Frames of an acquisition, offset removed; the last few stay in memory."""
        offset = np.float32(self.system.settings.camera.offset)

        @functools.lru_cache(maxsize=4)
        def frames(acquisition: int) -> xr.DataArray:
            return self.raw["frames"].isel(t=acquisition).compute().astype(np.float32) - offset

        return frames


@dataclass(frozen=True)
class _Results:
    """The result at every time, why there is none ("": there is one), and what the store tells of them."""

    image: Callable[[int], np.ndarray]
    flags: list[str]
    about: dict[str, Any]


def _of_windows(source: _Source, baseline: Baseline) -> _Results:
    raw, system, axis = source.raw, source.system, source.axis
    block, pixel = system.block_axis, raw.attrs["pixel_um"]
    times = block_times(raw, system)
    window_blocks = baseline.window or raw.sizes[block]
    series = rolling(raw, system, baseline)
    found = {w.centre: w for w in series if all(source.usable(t) for t, _ in w.members)}
    spacing = np.diff(np.unique(times)).min() if times.size > 1 else 1.0
    placed = place(axis, {c: w.time_s for c, w in found.items()}, spacing / 2)

    def stack(index: int) -> tuple[np.ndarray, list[Calibration]]:
        members = sorted(found[placed[index]].members, key=lambda member: member[1])
        blocks = [source.frames_of(t).isel({block: [b]}).values for t, b in members]
        return np.concatenate(blocks, axis=_position(raw, block)), [source.calibrations[t] for t, _ in members]

    def image(index: int) -> np.ndarray:
        frames, own = stack(index)
        return baseline.reconstruct(frames, own, pixel, source.settings)

    refused = {i: baseline.why_none(stack(i)[0]) for i in placed} if baseline.why_none else {}
    placed = {i: centre for i, centre in placed.items() if not refused.get(i)}
    about: dict[str, Any] = {}
    if baseline.at_rest:
        about["at_rest"] = window_blocks / raw.sizes[block]
    if baseline.check and baseline.check_every:
        chosen = sorted(placed)[:: baseline.check_every]
        disagreement = [baseline.check(image(i), stack(i)[0], pixel) for i in chosen]
        about["checked"] = {"times_s": [axis.times_s[i] for i in chosen], "disagreement": disagreement}

    indices = range(len(axis.times_s))
    return _Results(
        image,
        flags=["" if i in placed else refused.get(i) or _missing(source.usable(axis.acquisition[i])) for i in indices],
        about={
            **about,
            "window": window_blocks,
            "window_note": series.explanation,
            "window_caveat": CAVEAT if window_blocks > 1 else None,
            "window_span_s": [_span_s(raw, block, found[placed[i]]) if i in placed else None for i in indices],
        },
    )


def _of_series(source: _Source, series: Series) -> _Results:
    raw, axis = source.raw, source.axis

    @functools.lru_cache(maxsize=1)
    def images(acquisition: int) -> np.ndarray:
        frames, own = source.frames_of(acquisition).values, source.calibrations[acquisition]
        since_first = axis.times_s[axis.of(acquisition)] - float(raw["time"].isel(t=acquisition).min())
        return series.reconstruct(frames, own, raw.attrs["pixel_um"], source.settings, since_first)

    def image(index: int) -> np.ndarray:
        acquisition = int(axis.acquisition[index])
        return images(acquisition)[index - axis.of(acquisition)[0]]

    flags = ["" if source.usable(t) else _missing(usable=False) for t in axis.acquisition]
    about = {"window": 1, "window_note": "Every acquisition by itself.", "window_caveat": None}
    return _Results(image, flags, about)


def _span_s(raw: Any, block: str, window: Window) -> float:
    """Time from the first to the last exposure of a window, s."""
    times = [raw["time"].isel({"t": t, block: b}).values for t, b in window.members]
    return float(max(t.max() for t in times) - min(t.min() for t in times))


def _missing(usable: bool) -> str:
    return "the window of blocks does not exist here" if usable else "this acquisition failed the checks"


def _position(raw: Any, axis: str) -> int:
    return list(raw["frames"].dims).index(axis) - 1  # the acquisition axis is gone
