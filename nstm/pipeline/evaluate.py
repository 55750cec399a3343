"""Rule ``evaluate``: figures of every method against a truth, if there is one, and how far NSTM can be trusted."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from nstm.acquisition import DataError, channels_of, main_channel
from nstm.io.jsonfile import read_json, write_json
from nstm.io.store import open_raw, open_timelapse
from nstm.metrics import (
    decorrelation,
    frc_resolution_um,
    ms_ssim,
    psnr_equalised,
    psnr_plain,
    ring_equalise,
    scales_of,
    ssim,
)
from nstm.metrics.decorrelation import EDGE_PX
from nstm.metrics.image import planes
from nstm.pipeline.experiment import Stage
from nstm.pipeline.lineage import lineage
from nstm.pipeline.timeaxis import scene_times
from nstm.quality.reasons import Reason, counted, reason, status_of
from nstm.quality.trust import disagreement_reasons, verdict, verdict_of_sample, window_reasons
from nstm.systems.base import ImagingSystem

SCHEMA = 1
#: What ``metrics.json`` keeps of the fit of every acquisition.
_OF_FIT = ("index", "steps", "seconds", "noise_variance", "start", "loss", "loss_steps")


def run_evaluate(
    params: Mapping[str, Any],
    raw_store: str | Path,
    illumination_json: str | Path,
    stores: Mapping[str, str | Path],
    job_stores: Sequence[str | Path],
    truth_store: str | Path | None,
    out_metrics: str | Path,
    out_trust: str | Path,
) -> None:
    """Write ``metrics.json`` and ``trust.json``.

    Args:
        params: of the stage.
        raw_store: the sample's frames; their times say how far a truth may be from a result in time.
        illumination_json: its consensus gives the highest frequency that the instrument transfers.
        stores: time-lapse stores by name; all are compared but ``motion``, which is no image.
        job_stores: stores of the reconstruct jobs, any order.
        truth_store: time-lapse store of the truth, or ``None``. The result of another sample (``truth`` of
            the sheet is a sample's name) is a still reference: its mean over time, for all times.
        out_metrics: ``metrics.json``.
        out_trust: ``trust.json``.

    A truth that cannot be used (another field, no store) costs the figures against it, no more: it is a warning.
    """
    stage = Stage.from_params(params)
    records = acquisition_records(job_stores)
    images = {name: open_timelapse(path) for name, path in stores.items() if name != "motion"}
    consensus = read_json(illumination_json)["consensus"]
    methods: dict[str, Any] = {}
    common: list[float] = []
    unusable: list[Reason] = []
    if truth_store is not None and consensus is not None and images:
        named = stage.sample.truth is not None and not os.path.isabs(stage.sample.truth)
        try:
            raw = open_raw(raw_store)
            system = stage.system_of(raw)
            truth = _Truth(open_timelapse(truth_store), still=named, tolerance_s=half_interval(raw, system))
            methods, common = against_truth(images, truth, system.cutoff(consensus))
        except DataError as error:
            unusable = [reason("warn", "truth", f"no figures against the truth: {error}")]
    first = next(iter(images.values()), None)
    write_json(
        out_metrics,
        {
            "schema": SCHEMA,
            "sample": stage.sample.sample,
            "times_s": [] if first is None else first["t"].values,
            "common_times_s": common,
            "methods": methods,
            **_costs(records),
            "fits": [{key: record.get(key) for key in _OF_FIT} for record in records],
            "provenance": lineage(None, params),
        },
    )
    entries = [verdict(record) for record in records]
    asked = unanswered(params.get("reconstruction", {}), len(records))
    checks = {name: image.attrs["checked"] for name, image in images.items() if "checked" in image.attrs}
    differ = [r for name, check in checks.items() for r in disagreement_reasons(name, check["disagreement"])]
    rest = window_reasons({name: image.attrs for name, image in images.items()}, records)
    reasons = [*verdict_of_sample(entries)[1], *asked, *unusable, *differ, *rest]
    trust = {"schema": SCHEMA, "sample": stage.sample.sample, "status": status_of(reasons), "reasons": reasons}
    trust |= {"checked_windows": checks} if checks else {}
    write_json(out_trust, {**trust, "acquisitions": entries, "provenance": lineage(None, params)})


def unanswered(reconstruction: Mapping[str, Any], acquisitions: int) -> list[Reason]:
    """Lists of acquisitions in the config of which this sample has none.

    One list may serve samples of different lengths, and the length of a sample is known only when its file has been
    read: so it is a warning of the sample and no error of the config.
    """
    what = {"held_out": "no frames were held out", "static": "nothing was fitted at rest"}
    return [
        reason(
            "warn",
            key,
            f"reconstruction.{key} names acquisition(s) {counted(reconstruction[key])}, but this sample has "
            f"{acquisitions}, counted from 0: {result}",
        )
        for key, result in what.items()
        if isinstance(reconstruction.get(key), list)
        and reconstruction[key]
        and min(reconstruction[key]) >= acquisitions
    ]


def acquisition_records(job_stores: Sequence[str | Path]) -> list[dict[str, Any]]:
    """The records of all acquisitions in the job stores, in order.

    Raises:
        DataError: a store is not that of a reconstruct job.
    """
    records: list[dict[str, Any]] = []
    for path in job_stores:
        try:
            group = zarr.open_group(str(path), mode="r")
            block: Any = group.attrs["nstm"]
            records += block["acquisitions"]
        except (FileNotFoundError, KeyError, TypeError) as error:
            raise DataError(f"{path} is not the store of a reconstruct job: delete it and run again") from error
    return sorted(records, key=lambda record: record["index"])


def half_interval(raw: xr.Dataset, system: ImagingSystem) -> float:
    """Half the usual time from frame to frame, or from one look at the scene to the next, s; the shorter one."""
    waits = [np.diff(np.unique(times)) for times in (raw["time"].values, scene_times(raw, system))]
    return min((float(np.median(steps)) for steps in waits if steps.size), default=float("inf")) / 2


class _Truth:
    """The truth at a time: the nearest within the tolerance, or one still image for all times."""

    def __init__(self, images: xr.DataArray, *, still: bool, tolerance_s: float) -> None:
        self.images = images
        self.times = images["t"].values
        self.tolerance_s = tolerance_s
        self.pixel_um = float(images.attrs["pixel_um"])
        self.still: np.ndarray | None = None
        if still or len(self.times) == 1:
            every = images.values
            known = np.all(np.isfinite(every), axis=(1, 2, 3, 4))
            if not known.any():
                raise DataError(f"the truth {images.attrs.get('label', '')!r} holds no complete image")
            self.still = every[known].mean(axis=0)

    def at(self, time_s: float) -> np.ndarray | None:
        """``(c, z, y, x)``, or ``None`` where there is no truth at that time."""
        if self.still is not None:
            return self.still
        nearest = int(np.argmin(np.abs(self.times - time_s)))
        if abs(self.times[nearest] - time_s) > self.tolerance_s * (1 + 1e-6) + 1e-9:
            return None
        return np.asarray(self.images.isel(t=nearest).values)

    def same_field(self, image: xr.DataArray, name: str) -> None:
        """Raise :class:`DataError` unless ``image`` shows the field and the planes of the truth."""
        for axis in ("y", "x"):
            mine = self.images.sizes[axis] * self.pixel_um
            other = image.sizes[axis] * float(image.attrs["pixel_um"])
            if abs(mine - other) > 0.01 * mine:
                raise DataError(
                    f"the truth is {mine:.4g} um along {axis}, {name} {other:.4g} um: truth must show the same field "
                    "(check its pixel size, and the crop of the sample)"
                )
        if image.sizes["z"] != self.images.sizes["z"]:
            raise DataError(
                f"the truth has {self.images.sizes['z']} planes, {name} {image.sizes['z']}: they must be the same"
            )


def figures(image: np.ndarray, truth: np.ndarray, pixel_um: float, kc: float) -> dict[str, float]:
    """All figures of one image ``(z, y, x)`` against the truth; ``pixel_um`` is the truth's.

    ``psnr_ring_equalised`` is :func:`nstm.metrics.psnr_equalised` after radial gain equalisation to the truth.
    """
    equalised = ring_equalise(image, truth, pixel_um, kc)
    return {
        "psnr_plain": psnr_plain(image, truth, pixel_um, kc),
        "psnr_equalised": psnr_equalised(image, truth, pixel_um, kc),
        "psnr_ring_equalised": psnr_equalised(equalised, truth, pixel_um, kc),
        "ssim": ssim(image, truth, pixel_um, kc),
        "ssim_equalised": ssim(image, truth, pixel_um, kc, equalised=True),
        "frc_um": frc_resolution_um(image, truth, pixel_um),
        "ms_ssim": _ms_ssim(image, truth),
    }


def _ms_ssim(image: np.ndarray, truth: np.ndarray) -> float:
    """Of the planes in the mean, with as many scales as they are large enough for; NaN: too small."""
    scales = scales_of(truth.shape[-2:])
    return float(np.mean([ms_ssim(a, b, scales) for a, b in planes(image, truth)])) if scales else float("nan")


def _resolution_um(image: xr.DataArray, channel: int, time_s: float) -> float | None:
    """Resolution by decorrelation of the middle plane at a time; ``None``: too small a field, or none found."""
    plane = image.isel(c=channel, z=image.sizes["z"] // 2).sel(t=time_s).values
    if min(plane.shape) < 3 * EDGE_PX:
        return None
    found = decorrelation(plane, float(image.attrs["pixel_um"])).resolution_um
    return found if np.isfinite(found) else None


FIGURES = ("psnr_plain", "psnr_equalised", "psnr_ring_equalised", "ssim", "ssim_equalised", "frc_um", "ms_ssim")


def against_truth(images: Mapping[str, xr.DataArray], truth: _Truth, kc: float) -> tuple[dict[str, Any], list[float]]:
    """Figures per time of every method, their means over the times at which all have a result, and these times.

    The figures of a method are those of its main channel; those of other channels that the truth has too stand under
    ``channels``. A method whose main channel the truth does not have (a bright field beside a phase) is left out.

    Raises:
        DataError: another field, or no method shows what the truth holds.
    """
    names = [channel.name for channel in channels_of(truth.images)]
    curves: dict[str, dict[str, dict[str, np.ndarray]]] = {}
    for name, image in images.items():
        truth.same_field(image, name)
        own = [channel.name for channel in channels_of(image)]
        main = own[main_channel(image)]
        if main in names:
            shared = [main, *(c for c in own if c in names and c != main)]
            curves[name] = {c: _curves(image, own.index(c), truth, names.index(c), kc) for c in shared}
    if not curves:
        shown = sorted({channel.name for image in images.values() for channel in channels_of(image)})
        raise DataError(f"the truth holds {', '.join(names)}, the results {', '.join(shown)}: nothing to compare")
    # a method without any result (static fits of no acquisition) must not leave nothing to compare
    firsts = [next(iter(of_channels.values()))["psnr_plain"] for of_channels in curves.values()]
    present = [values for values in firsts if np.isfinite(values).any()]
    times = next(iter(images.values()))["t"].values
    common = np.all(np.isfinite(present), axis=0) if present else np.zeros(times.shape, bool)
    methods: dict[str, Any] = {}
    for name, of_channels in curves.items():
        with_means = {c: {**curve, "mean": _means(curve, common)} for c, curve in of_channels.items()}
        main, *others = with_means
        resolution = None
        if common.any():
            resolution = _resolution_um(images[name], main_channel(images[name]), times[common][common.sum() // 2])
        methods[name] = (
            with_means[main]
            | {"decorrelation_um": resolution}
            | ({"channels": {c: with_means[c] for c in others}} if others else {})
        )
    return methods, times[common].tolist()


def _curves(image: xr.DataArray, channel: int, truth: _Truth, true_channel: int, kc: float) -> dict[str, np.ndarray]:
    """Figures of one channel at every time, NaN where result or truth is missing."""
    rows = []
    for index, time_s in enumerate(image["t"].values.tolist()):
        there, seen = truth.at(time_s), np.asarray(image.isel(t=index, c=channel).values)
        known = there is not None and bool(np.all(np.isfinite(seen)))
        rows.append(
            figures(seen, there[true_channel], truth.pixel_um, kc)
            if known and there is not None
            else dict.fromkeys(FIGURES, np.nan)
        )
    return {figure: np.array([row[figure] for row in rows]) for figure in FIGURES}


def _means(curve: Mapping[str, np.ndarray], common: np.ndarray) -> dict[str, float | None]:
    return {figure: float(values[common].mean()) if common.any() else None for figure, values in curve.items()}


def _costs(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the reconstruction took and what it left unexplained, over all acquisitions."""

    def numbers(key: str) -> list[float]:
        return [float(r[key]) for r in records if r.get(key) is not None]

    def mean_of(key: str) -> float | None:
        values = [v for r in records for v in (r.get(key) or []) if v is not None]
        return float(np.sqrt(np.mean(np.square(values)))) if values else None

    held_out = [e for r in records for e in (r.get("held_out") or []) if e.get("error") is not None]
    known = [e for e in held_out if e.get("static_error") is not None]
    error = float(np.sqrt(np.mean([e["error"] ** 2 for e in held_out]))) if held_out else None
    static = float(np.sqrt(np.mean([e["static_error"] ** 2 for e in known]))) if known else None
    return {
        "seconds": sum(numbers("seconds")) if numbers("seconds") else None,
        "compile_seconds": sum(numbers("compile_seconds")) if numbers("compile_seconds") else None,
        "peak_memory_mb": max(numbers("peak_memory_mb"), default=None),
        "residual": mean_of("residual_noise_units"),
        "static_residual": mean_of("static_residual_noise_units"),
        "held_out": {"frames": len(held_out), "error": error, "static_error": static},
    }
