"""Fitting scene and motion to the frames of one acquisition, coarse to fine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from tqdm import tqdm

from nstm.settings import Reconstruction, override
from nstm.spacetime.checkpoint import Progress, Stopped, fingerprint, read_checkpoint, write_checkpoint
from nstm.spacetime.finish import finished, initial, iterations, with_light_held
from nstm.spacetime.objective import Objective, make_objective
from nstm.spacetime.renderer import Parameters, Renderer
from nstm.spacetime.rendering import Still

#: Steps of one dispatch to the device; between dispatches the loss is looked at.
CHUNK = 20
#: Share of the steps over which a loss must have stopped falling.
_FLAT = 0.025
_ADAM = optax.scale_by_adam(b1=0.9, b2=0.99, eps=1e-15)


class FitError(RuntimeError):
    """The optimisation broke down; the message names the step, ``state`` is the last good one (``None``: none was)."""

    def __init__(self, message: str, state: State | None = None) -> None:
        super().__init__(message)
        self.state = state


@dataclass(frozen=True)
class State:
    """Everything that a fit needs to go on."""

    parameters: Parameters
    moments: optax.OptState
    step: int


@dataclass(frozen=True)
class Trace:
    """What happened during a fit.

    ``loss`` is the mean square error by step in the units of the data (while L-BFGS finishes a volume, that after every
    20 steps), ``frame_loss`` that of each frame in the end.
    """

    loss: np.ndarray
    frame_loss: np.ndarray
    seconds: float
    compile_seconds: float
    snapshots: dict[int, Parameters]
    early: bool = False  # the fit ended before its last step, at a flat loss or at the noise


@eqx.filter_jit(donate="all-except-first")
def _advance(
    objective: Objective, parameters: Parameters, moments: optax.OptState, step: Array, count: Array
) -> tuple[Parameters, optax.OptState, Array, Array]:
    """``count`` (at most CHUNK) steps of Adam; mean square error by step and frame, -1 where a frame had no turn."""
    schedule = objective.schedule

    def body(i: Array, carry: tuple) -> tuple:
        parameters, moments, history = carry
        now = (step + i).astype(jnp.float32)
        alpha = jnp.minimum(1.0, (now + 1) / (schedule["open_at"] * schedule["steps"]))
        which = objective.frames(step + i)
        slope, by_frame = objective.gradient(parameters, alpha, which)
        updates, moments = _ADAM.update(slope, moments)
        decay = 0.1 ** (now / schedule["steps"])
        # the calibration is refined only once the scene is sharp enough to tell a wrong one from a blurred one
        rates = {**schedule, "illumination": schedule["illumination"] * jnp.clip(2 * alpha - 1, 0, 1)}
        updates = {k: jax.tree.map(lambda u, r=rates[k]: -decay * r * u, updates[k]) for k in updates}
        row = by_frame if which is None else jnp.full(history.shape[1:], -1.0).at[which].set(by_frame)
        return optax.apply_updates(parameters, updates), moments, history.at[i].set(row)

    history = jnp.zeros((CHUNK, len(objective.data)), jnp.float32)
    parameters, moments, history = jax.lax.fori_loop(0, count, body, (parameters, moments, history))
    return parameters, moments, step + count, history


@jax.jit
def _finite(parameters: Parameters) -> Array:
    """Whether every coefficient is."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(parameters)]).all()


def _last_known(errors: np.ndarray, before: np.ndarray) -> np.ndarray:
    """``errors (steps, m)`` with the last known of each frame where it had no turn; ``before (m,)`` the first step."""
    filled = errors.copy()
    for row, last in zip(filled, [before, *filled[:-1]], strict=True):
        np.copyto(row, last, where=row < 0)
    return filled


def _enough(losses: np.ndarray, settings: Reconstruction, noise: float | None) -> bool:
    """Whether the loss, with all levels open, is at the noise, or fell by no more than the share that was set."""
    window = max(CHUNK, round(_FLAT * settings.steps))
    opened = losses[math.ceil(settings.windows_open_at * settings.steps) :]
    at_noise = -math.inf if settings.stop_at_noise is None or noise is None else settings.stop_at_noise * noise
    if len(opened) and opened[-1] <= at_noise:
        return True
    if settings.stop_when_flat is None or len(opened) < 2 * window:
        return False
    before, now = opened[-2 * window : -window].mean(), opened[-window:].mean()
    return bool(before - now <= settings.stop_when_flat * before)


def _section(of: object) -> str:
    """What a config calls the settings of a representation."""
    return f"reconstruction.{type(of).__name__.lower()}"


def _kept(parameters: Parameters, snapshots: Sequence[int], after: int, until: int) -> dict[int, Parameters]:
    """The coefficients at those of the steps ``snapshots`` that lie between the two."""
    return {s: jax.tree.map(np.asarray, parameters) for s in snapshots if after < s <= until}


def fit(
    renderer: Renderer,
    data: np.ndarray,
    settings: Reconstruction,
    *,
    weights: np.ndarray | None = None,
    move: bool = True,
    noise_variance: float | None = None,
    noise_known: bool = True,
    snapshots: Sequence[int] = (),
    progress: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
    stop: Callable[[], bool] | None = None,
    so_far: Progress | None = None,
    until: int | None = None,
    begin_with: Parameters | None = None,
) -> tuple[State, Trace]:
    """Fit scene and motion to one acquisition.

    Args:
        renderer: from :func:`make_renderer`.
        data: measurements ``(m, z, v, u)``, float32, scaled to a maximum near 1.
        settings: steps, rates and grids.
        weights: ``(m,)``, 0 leaves a frame out; default all 1.
        move: False fits a sample at rest with otherwise equal settings.
        noise_variance: of ``data``; the unit of the priors on the scene's curvature and on the motion, which are none
            when it is not known.
        noise_known: False where that is no more than a bound, at which no fit ends.
        snapshots: steps after which the coefficients are kept (rounded up to a whole dispatch).
        progress: label of a progress bar on standard error; ``None``: no bar.
        checkpoint: file to which the progress is written, and from which it goes on if it is there; on a CPU a fit
            that was stopped gives the same numbers as one that was not.
        checkpoint_seconds: least time from one checkpoint to the next; the last state is always written.
        stop: asked after every dispatch; where it says True the progress is written and the fit ends.
        so_far: the fit goes on from there, and leaves there how far it came.
        until: pauses after this step (rounded up to a whole dispatch); default: the last.
        begin_with: coefficients before the first step; default: those of the renderer.

    Raises:
        Stopped: ``stop`` said so before the last step.
        FitError: the loss or a coefficient is not finite; names the step and holds the last good state.
        DataError: the checkpoint belongs to other data or settings.
    """
    renderer = renderer if move else replace(renderer, rendering=Still())
    to_finish = 0 if noise_variance is None else iterations(renderer, settings)
    total = settings.steps
    settings = override(settings, {"steps": total - to_finish})
    objective = make_objective(renderer, data, settings, weights, noise_variance)
    unseen = np.mean(np.square(data), axis=(1, 2, 3))  # what a frame counts before it had its first turn
    parameters = begin_with or renderer.initial(settings.seed)
    if not move:
        parameters["motion"] = renderer.motion.at_rest()
    done, first = so_far or Progress(), (parameters, _ADAM.init(parameters))
    ends = (settings.stop_when_flat, settings.stop_at_noise, noise_variance, noise_known, tuple(snapshots))
    mark = fingerprint(replace(objective, at_once=1), parameters, to_finish, ends) if checkpoint else ""
    if done.step == 0:
        like = first, parameters, initial(parameters) if to_finish else None
        before = read_checkpoint(checkpoint, mark, *like) if checkpoint else None
        vars(done).update(vars(before or Progress(first)))
    last = min(settings.steps, math.ceil((until or settings.steps) / CHUNK) * CHUNK)

    def mean(errors: np.ndarray) -> np.ndarray:
        used = np.asarray(objective.weights, float)
        return errors @ used / used.sum()

    kept = f"its progress is in {checkpoint}" if checkpoint else "nothing of it was kept"
    begin, compile_seconds, written = time.perf_counter() - done.seconds, None, time.perf_counter()

    def went_on(count: int, errors: np.ndarray, parameters: Parameters) -> None:
        """Note some more steps."""
        done.snapshots |= _kept(parameters, snapshots, done.step, done.step + count)
        done.step += count
        done.history.append(errors)
        done.seconds = time.perf_counter() - begin
        bar.update(count)
        bar.set_postfix(loss=f"{mean(errors[-1:])[0]:.3g}")

    def pause(ended: bool, written: float) -> float:
        """Write the progress where it is time to, and end where that is asked for before the last step."""
        stopped = stop is not None and stop()
        if checkpoint and (stopped or ended or time.perf_counter() - written >= checkpoint_seconds):
            write_checkpoint(checkpoint, mark, done)
            written = time.perf_counter()
        if stopped and not ended:
            raise Stopped(f"the fit was stopped at step {done.step} of {total}: {kept}")
        return written

    stepped = with_light_held(objective, to_finish)
    with tqdm(total=total, desc=progress, disable=progress is None, mininterval=2.0, unit="step") as bar:
        bar.update(done.step)
        while done.step < last and not done.early:
            count = min(CHUNK, last - done.step)
            dispatch, good = time.perf_counter(), jax.tree.map(jnp.copy, done.state)
            parameters, moments, _, by_frame = _advance(stepped, *done.state, jnp.int32(done.step), jnp.int32(count))
            errors = _last_known(np.asarray(by_frame)[:count], done.history[-1][-1] if done.history else unseen)
            if compile_seconds is None:
                compile_seconds = time.perf_counter() - dispatch
            known = np.isfinite(errors).all(axis=1)
            if not known.all() or not _finite(parameters):
                bad = (
                    f"at step {done.step + int(np.argmin(known))}"
                    if not known.all()
                    else f"by step {done.step + count}"
                )
                done.state = good
                scene, motion = settings.of_scene, settings.of_motion
                message = (
                    f"the fit broke down {bad}: lower scene_rate ({scene.scene_rate:g}, {_section(scene)}) or "
                    f"motion_rate ({motion.motion_rate:g}, {_section(motion)}), or check the data"
                )
                raise FitError(message, State(good[0], good[1], done.step) if done.step else None)
            done.state = parameters, moments
            went_on(count, errors, parameters)
            done.early = _enough(mean(np.concatenate(done.history)), settings, noise_variance if noise_known else None)
            written = pause((done.early or done.step == last) and not to_finish, written)
        good = None  # of a volume that takes memory
        if to_finish and not done.finished:
            assert noise_variance is not None
            limit = (settings.stop_at_noise or 1.0) * noise_variance if noise_known else -math.inf
            if done.search is None and mean(done.history[-1][-1:])[0] <= limit:
                done.early = done.finished = True
                pause(True, written)
            left = to_finish - done.final_steps
            rest = () if done.finished else finished(objective, done.state[0], done.search, left)
            for count, parameters, search, errors in rest:
                if not np.all(np.isfinite(errors)) or not _finite(parameters):
                    message = (
                        f"the fit broke down after step {done.step}: check the data, or set "
                        f"reconstruction.multigrid.final_share ({settings.multigrid.final_share:g}) to 0"
                    )
                    raise FitError(message, State(*done.state, done.step))
                done.search, done.final_steps = search, done.final_steps + count
                went_on(count, np.tile(errors, (count, 1)), parameters)
                at_noise = mean(errors[None])[0] <= limit
                if at_noise or done.final_steps == to_finish:
                    done.state, done.search, done.finished = (parameters, done.state[1]), None, True
                    done.early = done.early or done.final_steps < to_finish
                written = pause(done.finished, written)
                if done.finished:
                    break
    if done.early:
        done.snapshots |= _kept(done.state[0], snapshots, done.step, total)
    losses = np.concatenate(done.history)
    trace = Trace(mean(losses), losses[-1], done.seconds, compile_seconds or 0.0, done.snapshots, done.early)
    return State(*done.state, done.step), trace
