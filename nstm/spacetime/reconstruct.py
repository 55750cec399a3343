"""One acquisition in, one :class:`~nstm.spacetime.result.Fit` out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from nstm.acquisition import DataError
from nstm.optics.noise import noise_variance
from nstm.settings import Reconstruction, override
from nstm.spacetime.fit import State, Trace, fit
from nstm.spacetime.renderer import make_renderer, predict
from nstm.spacetime.result import Fit, forward_model
from nstm.systems.base import ImagingSystem

#: A fit whose mean squared residual is below this, in units of the noise variance, counts as found.
FOUND = 1.2


def starts(settings: Reconstruction) -> Iterator[Reconstruction]:
    """Settings to try in turn: each from a scene of half the resolution and with twice the pace of the motion.

    A coarser start finds larger motions, and a finer one is more exact where it finds them: which one is needed shows
    in the residual.
    """
    for i in range(settings.starts):
        grids = settings.multigrid
        changes = {"scene_coarsest": grids.scene_coarsest / 2**i, "motion_rate": grids.motion_rate * 2**i}
        yield override(settings, {"multigrid": changes})


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
) -> Fit:
    """Fit scene and motion to the frames of one acquisition.

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

    Raises:
        DataError: shapes do not fit the system, the frames hold no light, or the illumination was not found.
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
    if not np.all(np.isfinite(counts)):
        raise DataError("the frames hold NaN or infinity: mend or drop this acquisition")
    if calibration is None:
        calibration = system.calibrate(counts, pixel)
    if calibration["status"] == "fail":
        raise DataError("the illumination was not found: " + "; ".join(r["message"] for r in calibration["reasons"]))
    times = np.asarray(times, np.float64)
    model = forward_model(system, settings, dict(calibration), counts.shape[-3:], pixel, times)
    measured = system.measurements(counts)
    scale = float(measured.max())
    if not scale > 0:
        raise DataError("the frames hold no light above the camera offset: check camera.offset and the recording")
    weights = np.ones(len(measured), np.float32)
    if held_out is not None:
        weights[held_out] = 0
    noise = noise_variance(measured, pixel, system.passband())
    noise = None if noise is None else noise.mean(axis=1)
    scaled_noise = None if noise is None else float(np.mean(noise)) / scale**2
    best: tuple[Reconstruction, State, Trace] | None = None
    for start in starts(settings) if move and scaled_noise else (settings,):
        state, trace = fit(
            make_renderer(model, start),
            measured / scale,
            start,
            weights=weights,
            move=move,
            noise_variance=scaled_noise,
            snapshots=snapshots,
            progress=progress if isinstance(progress, str) else ("fit" if progress else None),
        )
        if best is None or trace.loss[-1] < best[2].loss[-1]:
            best = start, state, trace
        if scaled_noise is None or best[2].loss[-1] < FOUND * scaled_noise:
            break
    assert best is not None
    settings, state, trace = best
    residual = measured - scale * np.asarray(predict(make_renderer(model, settings), state.parameters))
    return Fit(
        system=system,
        settings=settings,
        calibration=dict(calibration),
        frame_shape=counts.shape[-3:],
        pixel_um=pixel,
        times_s=times,
        parameters=jax.tree.map(np.asarray, state.parameters),
        scale=scale,
        residual=residual,
        noise_variance=noise,
        trace=trace,
    )
