"""One acquisition in, one :class:`~nstm.spacetime.result.Fit` out, or the fits of its tiles."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nstm.acquisition import DataError
from nstm.optics.noise import noise_at_most, noise_variance
from nstm.settings import Reconstruction, override
from nstm.spacetime.checkpoint import Progress
from nstm.spacetime.fit import FitError, State, Trace, fit
from nstm.spacetime.memory import available_bytes, peak_bytes
from nstm.spacetime.multigrid import MotionGrids
from nstm.spacetime.renderer import make_renderer, predict
from nstm.spacetime.residual import WINDOW_AREA_PX, inner, lost_in_several_frames
from nstm.spacetime.result import Fit, forward_model
from nstm.spacetime.tiles import Tiles, Tiling, plan
from nstm.systems.base import ImagingSystem
from nstm.systems.forward import ForwardModel

#: A fit whose mean squared residual is below this, in units of the noise variance, counts as found: one that explains
#: the frames always takes a little of the noise for structure.
FOUND = 1.0
#: The same of a volume: that a structure is not negative between its planes is known to some percent of the noise.
_FOUND_DEEP = 1.15
#: Share of the variance of the frames that may remain beside the noise: no model on a grid is more exact than that.
EXACT = 1e-3
#: Stage of coarse to fine at which what joins late does so.
_LATE = 0.5
#: Levels that are added for parts that slide past each other, and how often a fit is then done again.
_SLIDING_LEVELS, _PASSES = 2, 2
#: Pixels lost in several frames from which on a fit is done again: half of what a window averages over; measured.
_LOST_PX = WINDOW_AREA_PX / 2
#: Share of the field up to which that is so: where more is lost, it is not the edges of parts that the fit lacks.
_LOST_SHARE = 0.5


#: A start, where it ended, and what happened on the way.
_Ended = tuple[Reconstruction, State, Trace]


def starts(settings: Reconstruction) -> Iterator[Reconstruction]:
    """Settings to try in turn: each from a scene of half the resolution and with twice the pace of the motion.

    A coarser start finds larger motions, and a finer one is more exact where it finds them: which one is needed shows
    in the residual. Networks start from other numbers each time.
    """
    for i in range(settings.starts):
        grids = settings.multigrid
        changes = {"scene_coarsest": grids.scene_coarsest / 2**i, "motion_rate": grids.motion_rate * 2**i}
        yield override(settings, {"multigrid": changes, "seed": settings.seed + i})


def rivals(settings: Reconstruction, joins_late: bool) -> list[Reconstruction]:
    """The settings, and where a channel may join late (``joins_late``) those with it held back.

    A weak channel that is held back does not take up what the motion leaves, and a strong one must be there from the
    start. Which it is shows before the channel joins: by then the better start has the smaller residual.
    """
    held_back = override(settings, {"late_from": max(settings.late_from, _LATE)})
    differ = joins_late and settings.starts > 1 and settings.windows_open_at > 0 and held_back != settings
    return [settings, held_back] if differ else [settings]


def sliding(kept: Reconstruction) -> Reconstruction:
    """With what a fit that went as ``kept`` is done again where parts slide past each other: finer grids."""
    return override(kept, {"sliding": False, "multigrid": {"motion_sliding_levels": _SLIDING_LEVELS}})


def start_of(kept: Reconstruction, settings: Reconstruction) -> Reconstruction:
    """The start of ``settings`` that a fit as ``kept`` came from, with parts that slide only where it has them."""
    levels = settings.multigrid.motion_sliding_levels
    slid = kept.multigrid.motion_sliding_levels > levels
    return override(kept, {"sliding": settings.sliding and slid, "multigrid": {"motion_sliding_levels": levels}})


def reconstruct(
    system: ImagingSystem,
    frames: Any,
    times: np.ndarray,
    settings: Reconstruction | None = None,
    *,
    calibration: Mapping[str, Any] | None = None,
    pixel_um: float | None = None,
    move: bool = True,
    held_out: int | None = None,
    snapshots: Sequence[int] = (),
    progress: bool | str = False,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
    stop: Callable[[], bool] | None = None,
    attempt: int = 1,
) -> Fit | Tiles:
    """Fit scene and motion to the frames of one acquisition.

    Frames that the calibration leaves out (``left_out``) do not count, and have no residual (NaN). A field that needs
    more memory than there is (or with ``settings.tile_px``) is fitted in overlapping tiles.

    Args:
        system: the imaging system.
        frames: ``(*frame_axes, z, y, x)``, counts as recorded.
        times: ``(*frame_axes, z)``, s, middle of each exposure.
        settings: the fit; the defaults of the system when ``None``.
        calibration: the illumination; estimated from these frames when ``None``.
        pixel_um: camera pixel in the sample, um; ``system.settings.optics.pixel_um`` when ``None``.
        move: False fits the sample at rest (the static model).
        held_out: flat index of a measurement that the fit must not see.
        snapshots: steps after which the coefficients are kept.
        progress: show a progress bar, with this label when a string.
        checkpoint: folder for the progress of every start; a fit that was stopped goes on from there and does not
            repeat the starts that were finished.
        checkpoint_seconds: least time from one checkpoint to the next.
        stop: asked after every dispatch; where it says True the progress is written and the fit ends.
        attempt: 2 and more where it failed before; see :func:`nstm.spacetime.memory.available_bytes`.

    Raises:
        Stopped: ``stop`` said so.
        DataError: shapes do not fit the system, the frames hold no light, or the illumination was not found;
            ``CheckpointError``: the folder holds checkpoints of other data or settings.
        FitError: the optimisation broke down.
    """
    settings = settings or override(Reconstruction(), dict(system.fit_defaults))
    pixel = pixel_um or system.settings.optics.pixel_um
    if pixel is None:
        raise DataError("the pixel size is unknown: set optics.pixel_um (um, in the sample) or pass pixel_um")
    counts = np.asarray(frames, np.float32) - np.float32(system.settings.camera.offset)
    expected = tuple(system.frame_axes.values())
    if counts.shape[:-3] != expected:
        raise DataError(f"frames have shape {counts.shape}, expected {(*expected, 'z', 'y', 'x')} for {system.kind}")
    times = np.asarray(times, np.float64)
    if times.shape != counts.shape[:-2] or not np.all(np.isfinite(times)):
        raise DataError(
            f"times have shape {times.shape}, expected finite numbers {counts.shape[:-2]}, "
            f"({', '.join((*system.frame_axes, 'z'))}): the middle of each exposure, s"
        )
    if system.usable(counts) is None:
        _refuse_damaged(counts.reshape(-1, *counts.shape[-3:]), "the frames hold", "frame")
    if calibration is None:
        calibration = system.calibrate(counts, pixel)
    if calibration["status"] == "fail":
        raise DataError("the illumination was not found: " + "; ".join(r["message"] for r in calibration["reasons"]))
    measured = system.measurements(counts, calibration)
    seen = ~np.isin(np.arange(len(measured)), calibration.get("left_out", ()))
    corrected = np.where(seen[:, None, None, None], measured, np.float32(0))
    _refuse_damaged(corrected, "corrected by their calibration, the frames hold", "measurement")
    if not seen.all():
        measured = np.where(seen[:, None, None, None], measured, np.float32(np.nan))
    if settings.margin_px and (
        measured.shape[-2:] != counts.shape[-2:] or 2 * settings.margin_px >= min(counts.shape[-2:])
    ):
        raise DataError(
            f"reconstruction.margin_px = {settings.margin_px} leaves nothing to compare of measurements of "
            f"{measured.shape[-2:]} pixels, or cuts rows within a frame: set it to 0"
        )
    scale = float(measured[seen].max())
    if not scale > 0:
        raise DataError("the frames hold no light above the camera offset: check camera.offset and the recording")
    weights = seen.astype(np.float32)
    if held_out is not None:
        weights[held_out] = 0
    recording = _Recording(system, dict(calibration), measured, counts.shape[-3:], times, pixel, scale)
    begin = time.perf_counter()
    tiles, settings = recording.tiles(settings, move, attempt)
    if 2 * settings.margin_px >= tiles.overlap_px:
        raise DataError(
            f"reconstruction.margin_px = {settings.margin_px}: tiles of {tiles.shape} pixels share "
            f"{tiles.overlap_px:g}, so that in some places none would be compared: set it to 0, or give larger tiles "
            "(reconstruction.memory_gb, reconstruction.tile_px)"
        )
    planning = time.perf_counter() - begin
    label = progress if isinstance(progress, str) else ("fit" if progress else None)
    fits = []
    for number, corner in enumerate(tiles.corners, start=1):
        alone = len(tiles.corners) == 1
        fits.append(
            _fit(
                recording if alone else recording.part(corner, tiles.shape),
                settings,
                weights=weights,
                move=move,
                snapshots=snapshots,
                progress=label if alone or label is None else f"{label}, tile {number} of {len(tiles.corners)}",
                checkpoint=None if checkpoint is None else Path(checkpoint) / ("" if alone else f"tile-{number}"),
                checkpoint_seconds=checkpoint_seconds,
                stop=stop,
            )
        )
    # the programs were compiled to know how much memory they take
    trace = fits[0].trace
    trace = replace(trace, seconds=trace.seconds + planning, compile_seconds=trace.compile_seconds + planning)
    fits[0] = replace(fits[0], trace=trace)
    return fits[0] if len(fits) == 1 else Tiles(tiles, tuple(fits))


def _refuse_damaged(frames: np.ndarray, what: str, each: str) -> None:
    """Frames or other measurements ``(m, z, y, x)`` must have a value everywhere."""
    damaged = np.flatnonzero(~np.isfinite(frames).all(axis=(1, 2, 3))).tolist()
    if damaged:
        pixels, many = np.count_nonzero(~np.isfinite(frames)), ", ..." if len(damaged) > 8 else ""
        raise DataError(
            f"{what} NaN or infinity, {pixels} pixels of {each}(s) {', '.join(map(str, damaged[:8]))}{many}: mend or "
            "drop this acquisition"
        )


@dataclass(frozen=True)
class _Recording:
    """What one acquisition, or a part of its field, gives to a fit."""

    system: ImagingSystem
    calibration: dict[str, Any]
    measured: np.ndarray  # (m, z, v, u), counts; NaN where the calibration leaves a frame out
    frame_shape: tuple[int, int, int]
    times_s: np.ndarray
    pixel_um: float
    scale: float

    def model(self, settings: Reconstruction) -> ForwardModel:
        return forward_model(self.system, settings, self.calibration, self.frame_shape, self.pixel_um, self.times_s)

    def part(self, corner: tuple[int, int], shape: tuple[int, int]) -> _Recording:
        """The part of the field that begins at the camera pixel ``corner``."""
        calibration = dict(self.system.cropped(self.calibration, corner, self.pixel_um))
        if self.measured.shape[-2:] != self.frame_shape[1:]:
            raise DataError(
                f"a measurement of {self.system.kind} is not a frame, so its field cannot be fitted in tiles: leave "
                "reconstruction.tile_px empty, and give it more memory (reconstruction.memory_gb) if it asks for some"
            )
        (y, x), (rows, columns) = corner, shape
        return replace(
            self,
            calibration=calibration,
            measured=self.measured[..., y : y + rows, x : x + columns],
            frame_shape=(self.frame_shape[0], rows, columns),
        )

    def tiles(self, settings: Reconstruction, move: bool, attempt: int) -> tuple[Tiling, Reconstruction]:
        """Tiles that suit the memory, and the settings to fit them with."""
        field, available = self.frame_shape[1:], available_bytes(settings, attempt)

        def need(shape: tuple[int, int], settings: Reconstruction) -> int:
            part = self if shape == field else self.part((0, 0), shape)
            return peak_bytes(make_renderer(part.model(settings), settings), part.measured.shape, settings, move)

        return plan(field, len(self.measured), self.system.grid_ratio, settings, need, available)


def _leader(settings: Reconstruction, joins_late: bool, run: Callable[..., _Ended]) -> tuple[Reconstruction, Progress]:
    """The rival with the smallest residual where what joins late does so, and how far it came by then."""
    several = rivals(settings, joins_late)
    paused = [Progress() for _ in several]
    if len(several) == 1:
        return settings, paused[0]
    late = several[-1]
    until = math.ceil(late.late_from * late.windows_open_at * late.steps)

    def early(rival: Reconstruction, so_far: Progress) -> float:
        try:
            _, _, trace = run(rival, _name(0, rival, settings), so_far=so_far, until=until)
        except FitError:
            return math.inf
        return float(trace.loss[:until][-1])

    ahead = int(np.argmin([early(*one) for one in zip(several, paused, strict=True)]))
    return several[ahead], paused[ahead]


def _fit(
    recording: _Recording,
    settings: Reconstruction,
    *,
    move: bool,
    progress: str | None,
    checkpoint: Path | None,
    **options: Any,
) -> Fit:
    """The best of the starts, and what comes of it where parts of the sample slide past each other."""
    system, measured, scale = recording.system, recording.measured, recording.scale
    model = recording.model(settings)
    noise = noise_variance(measured, recording.pixel_um, system.passband())
    noise = None if noise is None else noise.mean(axis=1)
    known = np.isfinite(measured).all(axis=(1, 2, 3))
    # where the camera samples too coarsely to tell, the most that it can be serves the priors, and every start is tried
    scaled_noise = float(np.mean(noise_at_most(measured[known]) if noise is None else noise[known])) / scale**2
    varied = float(measured.var(axis=(1, 2, 3))[known].mean()) / scale**2
    limit = _FOUND_DEEP if make_renderer(model, settings).deep else FOUND
    enough = 0.0 if noise is None else limit * scaled_noise + EXACT * varied

    spent: dict[str, tuple[float, float]] = {}  # s of every run, and those to compile

    def run(start: Reconstruction, name: str, **more: Any) -> _Ended:
        state, trace = fit(
            make_renderer(model, start),
            np.nan_to_num(measured / scale, copy=False),  # what has no value has no weight
            start,
            move=move,
            noise_variance=scaled_noise,
            noise_known=noise is not None,
            progress=progress,
            checkpoint=None if checkpoint is None else checkpoint / f"{name}.npz",
            **{**options, **more},
        )
        spent[name] = trace.seconds, max(trace.compile_seconds, spent.get(name, (0.0, 0.0))[1])
        return start, state, trace

    def result(ended: _Ended) -> Fit:
        start, state, trace = ended
        seconds, compile_seconds = (sum(of_runs) for of_runs in zip(*spent.values(), strict=True))
        return Fit(
            system=system,
            settings=start,
            calibration=recording.calibration,
            frame_shape=recording.frame_shape,
            pixel_um=recording.pixel_um,
            times_s=recording.times_s,
            parameters=jax.tree.map(np.asarray, state.parameters),
            scale=scale,
            residual=measured - scale * np.asarray(predict(make_renderer(model, start), state.parameters)),
            noise_variance=noise,
            trace=replace(trace, seconds=seconds, compile_seconds=compile_seconds),
        )

    if not move:
        return result(run(settings, _name(0, settings, settings)))
    kind, so_far = _leader(settings, model.joins_late, run)
    best: _Ended | None = None
    for number, start in enumerate(starts(kind)):
        try:
            ended = run(start, _name(number, start, settings), so_far=None if number else so_far)
        except FitError:
            if best is None:
                raise
            break  # those that follow are faster still
        if best is None or ended[2].loss[-1] < best[2].loss[-1]:
            best = ended
        if best[2].loss[-1] < enough:
            break
    assert best is not None
    return _slid(result(best), settings, options["weights"] > 0, run, result)


def _name(number: int, start: Reconstruction, settings: Reconstruction) -> str:
    """Of a start, for its checkpoint."""
    return f"start-{number}{'-late' if start.late_from > settings.late_from else ''}"


def _slid(
    found: Fit,
    settings: Reconstruction,
    seen: np.ndarray,
    run: Callable[..., _Ended],
    result: Callable[[_Ended], Fit],
) -> Fit:
    """A fit that lost regions, not most of a plane, again with grids for parts that slide, while that halves them.

    Each pass begins with the motion of the one before and an empty scene. Only frames that are ``seen`` count.
    """

    def lost(fit: Fit) -> tuple[int, float]:
        residual = inner(fit.residual[seen], settings.margin_px)
        return lost_in_several_frames(residual, fit.pixel_um, fit.system.passband())

    if not settings.sliding or settings.parts.motion != "grids" or found.frame_shape[0] > 1 or not found.located:
        return found
    if settings.multigrid.motion_sliding_levels:
        return found
    before, share = lost(found)
    if before < _LOST_PX or share > _LOST_SHARE:
        return found
    again = sliding(found.settings)
    renderer = make_renderer(found.renderer.model, again)
    assert isinstance(renderer.motion, MotionGrids)
    smooth_residual = found.residual
    for number in range(_PASSES):
        begin = {**renderer.initial(again.seed), "illumination": found.parameters["illumination"]}
        begin["motion"] = renderer.motion.with_sliding(found.parameters["motion"])
        try:
            # copies: a step works in the memory of what it is given
            slid = result(run(again, f"sliding-{number}", begin_with=jax.tree.map(jnp.array, begin)))
        except FitError:
            break
        after, _ = lost(slid)
        if after > before / 2 or slid.trace.loss[-1] >= found.trace.loss[-1]:
            seconds, compile_seconds = slid.trace.seconds, slid.trace.compile_seconds  # those of all runs
            return replace(found, trace=replace(found.trace, seconds=seconds, compile_seconds=compile_seconds))
        found, before = replace(slid, smooth_residual=smooth_residual), after
    return found
