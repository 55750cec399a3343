"""All checks of the raw frames of one acquisition, before anything is made from them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from nstm.quality.motion import Pair, movement, shake
from nstm.quality.raw import check_counts
from nstm.quality.reasons import Reason, counted, reason, status_of
from nstm.quality.spectrum import PEAKED, STRIPED, Spectra, Stripes, blur_of_frames, stripes
from nstm.systems.base import ImagingSystem

#: Deviation of a frame's light from the mean of its block, relative.
FLICKER_WARN = 0.15
#: Signal over noise above which what lies beyond the passband is no noise of a camera (simulated frames).
NOISE_FREE = 1000.0
#: A frame counts as blurred from this length (camera pixels) and significance (standard errors) on: none of 900
#: simulated frames without blur had both.
BLUR_PX, BLUR_SURE = 2.0, 6.0


@dataclass(frozen=True)
class Blocks:
    """The mean image of each block of an acquisition, ``(block, y, x)``, and its mean time ``(block,)``, s.

    ``alike`` tells whether the blocks differ by the sample's motion only.
    """

    images: np.ndarray
    times_s: np.ndarray
    alike: bool

    @staticmethod
    def of(frames: np.ndarray, times_s: np.ndarray, axis: int, system: ImagingSystem) -> Blocks:
        """Of frames ``(*frame_axes, z, y, x)`` and times ``(*frame_axes, z)``, whose blocks are along ``axis``."""
        first = float(np.nanmin(times_s))  # images are float32, and a recording may last for days
        images, moments = system.alike(frames), system.alike((times_s - first)[..., None, None])
        if len(images) > 1:
            return Blocks(images, first + moments[:, 0, 0].astype(np.float64), alike=True)
        others = tuple(i for i in range(frames.ndim - 2) if i != axis)
        images = np.asarray(frames.mean(axis=others, dtype=np.float64), np.float32)
        return Blocks(images, times_s.mean(axis=others), alike=False)

    def pairs(self, before: Blocks | None) -> list[Pair]:
        """Images that differ by motion alone: consecutive blocks where these are alike, else those of ``before``."""
        if self.alike:
            when, order = self.times_s, np.argsort(self.times_s, kind="stable")
            both = [(self.images[a], self.images[b], float(when[b] - when[a])) for a, b in pairwise(order)]
        elif before is not None:
            waits = (self.times_s - before.times_s).tolist()
            both = list(zip(before.images, self.images, waits, strict=True))
        else:
            both = []
        return [pair for pair in both if pair[2] > 0]


def check_acquisition(
    frames: np.ndarray,
    times_s: np.ndarray,
    frame_axes: Sequence[str],
    system: ImagingSystem,
    *,
    index: int,
    pixel_um: float,
    before: Blocks | None = None,
) -> tuple[dict[str, Any], Blocks | None]:
    """Figures and verdict of one acquisition.

    Args:
        frames: ``(*frame_axes, z, y, x)``, counts as recorded.
        times_s: ``(*frame_axes, z)``, s.
        frame_axes: names of the leading axes.
        system: the modality with its optics.
        index: number of the acquisition.
        pixel_um: camera pixel in the sample, um.
        before: blocks of the acquisition before, where it could be used.

    Where results can do without some frames (:meth:`ImagingSystem.usable`) these are named and the others are judged.

    Returns:
        The entry of ``quality.json``, and the blocks for the next acquisition (``None`` where this one fails). The
        entry holds ``status, reasons``, what :func:`nstm.quality.raw.check_counts` gives, and
        ``light`` (relative: ``within_blocks`` and ``between_blocks``, the largest steps, ``lost`` from first to last
        frame), ``stripes`` (:class:`nstm.quality.spectrum.Stripes`), ``blur`` (``length_px, direction_deg,
        significance`` of every frame against the others of its block), ``figures`` (label -> value of every block) of
        the system, ``motion`` (:func:`nstm.quality.motion.movement` with ``per_exposure_px``), ``motion_px`` (its
        ``between_px``) and ``shake_px``; ``None`` for what cannot be measured.
    """
    camera, passband = system.settings.camera, system.passband()
    counts = frames.astype(np.float32) - np.float32(camera.offset)
    spared = system.usable(counts)
    used = spared.used if spared is not None and status_of(spared.reasons) != "fail" else None
    axis = list(frame_axes).index(system.block_axis)
    lights = tuple(i for i, name in enumerate(frame_axes) if name in system.light_axes)
    block_of, kind_of = (_numbers(frames.shape[:-3], axes) for axes in ((axis,), lights))
    entry, reasons = check_counts(
        frames,
        index=index,
        pixel_um=pixel_um,
        passband=passband,
        camera=camera,
        counts=system.counts,
        used=used,
        kinds=kind_of,
    )
    reasons = [*reasons, *(spared.reasons if spared is not None else ())]
    entry |= dict.fromkeys(("light", "stripes", "blur", "motion", "motion_px", "shake_px")) | {"figures": {}}
    if status_of(reasons) == "fail":
        return _entry(entry, reasons), None
    moments = times_s.mean(axis=-1).ravel()
    kept = np.ones(moments.shape, bool) if used is None else used
    if system.counts:
        levels = np.array(entry["intensity_by_frame"], float)
        lit = kept & np.isfinite(levels)
        entry["light"] = _light(levels[lit], block_of[lit], moments[lit])
        reasons += _flicker(entry["light"])

    spectra = Spectra.of(looked_at(frames, used), pixel_um, passband)
    found = stripes(spectra) if (entry["signal_to_noise"] or 0) < NOISE_FREE else None
    entry["stripes"] = found and asdict(found)
    reasons += _stripes(found)
    blurs = iter(blur_of_frames(spectra, _numbers(frames.shape[:-3], (axis, *lights))[kept]))
    entry["blur"] = [(blur := next(blurs)) and asdict(blur) if k else None for k in kept]
    reasons += _blurred(entry["blur"])

    for figure in system.frame_figures(counts, pixel_um):
        entry["figures"][figure.label] = figure.values
        low = [i for i, value in enumerate(figure.values) if value is not None and value < figure.least]
        if low:
            text = ", ".join(f"{figure.values[i]:.2f}" for i in low)
            where = f"{system.block_axis} {counted(low)}"
            reasons.append(reason("warn", "low_figure", f"{figure.label}: {text} at {where}; {figure.advice}"))

    # a frame that is not used has no time, so that no pair holds its block
    blocks = Blocks.of(counts, np.where(kept.reshape(frames.shape[:-3])[..., None], times_s, np.nan), axis, system)
    entry["motion"] = _motion(blocks.pairs(before), moments, system.settings.frames.exposure_s)
    entry["motion_px"] = entry["motion"] and entry["motion"]["between_px"]
    in_blocks = np.moveaxis(counts.mean(axis=(*lights, counts.ndim - 3), keepdims=True).squeeze(-3), axis, 0)
    in_blocks = in_blocks.reshape(len(in_blocks), -1, *in_blocks.shape[-2:])
    entry["shake_px"] = shake(in_blocks, entry["noise_std"])
    return _entry(entry, reasons), blocks


def looked_at(frames: np.ndarray, used: np.ndarray | None) -> np.ndarray:
    """Frames ``(*frame_axes, z, y, x)`` as ``(n, z, y, x)``, those that are used; ``None``: all."""
    flat = frames.reshape(-1, *frames.shape[-3:])
    return flat if used is None else flat[used]


def _entry(entry: Mapping[str, Any], reasons: list[Reason]) -> dict[str, Any]:
    return {"index": entry["index"], "status": status_of(reasons), "reasons": reasons, **entry}


def _motion(pairs: list[Pair], moments: np.ndarray, exposure_s: float | None) -> dict[str, Any] | None:
    """What the pairs tell, for the timing of the acquisition whose frames are at ``moments``."""
    steps = np.diff(np.unique(moments))
    found = movement(pairs, float(np.ptp(moments)), float(steps.max()) if steps.size else 0.0)
    if found is None:
        return None
    wait = float(np.mean([wait for *_, wait in pairs]))
    return {**found, "per_exposure_px": None if exposure_s is None else found["between_px"] * exposure_s / wait}


def _numbers(frame_axes: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    """A number for every frame, flattened: the same for those at the same place along ``axes``."""
    kept = tuple(n if axis in axes else 1 for axis, n in enumerate(frame_axes))
    return np.broadcast_to(np.arange(math.prod(kept)).reshape(kept), frame_axes).ravel()


def _light(levels: np.ndarray, block_of: np.ndarray, moments: np.ndarray) -> dict[str, float]:
    """Steps of the light within blocks and between them, and what a steady loss takes, all relative."""
    found, block_of = np.unique(block_of, return_inverse=True)
    means = np.array([levels[block_of == b].mean() for b in range(len(found))])
    order = np.argsort(moments)
    slope = np.polyfit(np.linspace(0, 1, len(levels)), np.log(levels[order]), 1)[0] if len(levels) > 2 else 0.0
    return {
        "within_blocks": float(np.max(np.abs(levels / means[block_of] - 1))),
        "between_blocks": float(np.max(np.abs(means / np.median(means) - 1))),
        "lost": 1 - math.exp(slope),
    }


def _flicker(light: Mapping[str, float]) -> list[Reason]:
    if light["within_blocks"] <= FLICKER_WARN:
        return []
    text = (
        f"the light of a frame differs by {light['within_blocks']:.0%} from that of its neighbours under the same "
        "kind of light: check laser and shutter; steps of brightness leave stripes in a conventional result"
    )
    return [reason("warn", "flicker", text)]


def _stripes(found: Stripes | None) -> list[Reason]:
    if found is None:
        return []
    which = [name for name in ("rows", "columns") if getattr(found, name) > STRIPED]
    reasons: list[Reason] = []
    if which:
        text = (
            f"the {' and '.join(which)} of the camera differ from each other by {max(found.rows, found.columns):.1f} "
            "times the noise of a pixel: correct the frames for the pattern of the camera, or results show lines"
        )
        reasons.append(reason("warn", "striped", text))
    if found.peak > PEAKED:
        frequency = math.hypot(*found.peak_frequency)
        text = (
            f"the frames hold stripes with a period of {1 / frequency:.2f} um, finer than the microscope can see, "
            f"{found.peak:.1f} times above the noise: look for electronic interference, or for frames that were "
            "resized or filtered after recording"
        )
        reasons.append(reason("warn", "interference", text))
    return reasons


def _blurred(blurs: Sequence[Mapping[str, float] | None]) -> list[Reason]:
    bad = [
        i for i, b in enumerate(blurs) if b is not None and b["length_px"] > BLUR_PX and b["significance"] > BLUR_SURE
    ]
    if not bad:
        return []
    worst = max((b for i in bad if (b := blurs[i]) is not None), key=lambda b: b["length_px"])
    text = (
        f"frame(s) {counted(bad)} are less sharp than the others of their kind, the worst as if it had moved by "
        f"{worst['length_px']:.1f} camera pixels at {worst['direction_deg']:.0f} degrees (from x towards y): the "
        "sample moved, shook or lost focus during these exposures"
    )
    return [reason("warn", "blurred_frames", text)]
