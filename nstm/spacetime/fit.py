"""Fitting scene and motion to the frames of one acquisition, coarse to fine."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from tqdm import tqdm

from nstm.settings import Reconstruction
from nstm.spacetime.checkpoint import Progress, fingerprint, read_checkpoint, write_checkpoint
from nstm.spacetime.renderer import Parameters, Renderer

#: Steps of one dispatch to the device; between dispatches the loss is looked at.
CHUNK = 20
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
    """What happened during a fit: mean square error by step (counts squared), seconds, steps to the end."""

    loss: np.ndarray
    frame_loss: np.ndarray
    seconds: float
    compile_seconds: float
    snapshots: dict[int, Parameters]


def _at_once(frames: int, wanted: int | None) -> int:
    """Frames rendered together: the largest divisor up to the wish; one on a CPU (cache), all on an accelerator."""
    limit = wanted or (1 if jax.default_backend() == "cpu" else frames)
    return max(n for n in range(1, min(limit, frames) + 1) if frames % n == 0)


@eqx.filter_jit(donate="all-except-first")
def _advance(
    fixed: tuple[Renderer, Array, Array, dict[str, Array], int],
    parameters: dict,
    moments: optax.OptState,
    step: Array,
    count: Array,
) -> tuple[dict, optax.OptState, Array, Array]:
    """``count`` (at most CHUNK) steps of Adam; mean square error of each frame at every step."""
    renderer, data, weights, schedule, at_once = fixed

    share = weights / jnp.sum(weights)
    everything = jnp.arange(len(data)).reshape(-1, at_once)

    def misfit(moved: Array, offsets: dict, which: Array) -> tuple[Array, Array]:
        residual = renderer.seen(moved, offsets, which) - data[which]
        by_frame = jnp.mean(residual**2, axis=tuple(range(1, residual.ndim)))
        return jnp.sum(share[which] * by_frame), by_frame

    def prior(canonical: Array) -> Array:
        bends = jnp.mean(jnp.diff(canonical, 2, axis=-2) ** 2) + jnp.mean(jnp.diff(canonical, 2, axis=-1) ** 2)
        below = jnp.mean(jnp.minimum(canonical, 0.0) ** 2) if renderer.model.nonnegative else 0.0
        return schedule["scene_smoothness"] * canonical.size / data.size * bends + schedule["nonnegativity"] * below

    def gradient(parameters: dict, alpha: Array) -> tuple[dict, Array]:
        # The scene is packed once; frames are summed group by group with their gradients, in place, so that one
        # group's buffers fit the cache.
        (canonical, nodes), pull_back = jax.vjp(
            lambda p: renderer.unfolded(p, alpha), {k: parameters[k] for k in ("scene", "motion")}
        )
        packed = renderer.packed(canonical)

        def one(totals: tuple[Array, dict], which: Array) -> tuple[tuple[Array, dict], tuple[Array, Array]]:
            moved, back = renderer.moved(packed, nodes[which])
            slope = jax.value_and_grad(misfit, (0, 1), has_aux=True)
            (_, by_frame), (g_moved, g_offsets) = slope(moved, parameters["illumination"], which)
            total, g_nodes = back(totals[0], g_moved)
            return (total, jax.tree.map(jnp.add, totals[1], g_offsets)), (g_nodes, by_frame)

        zero = jnp.zeros_like(packed), jax.tree.map(jnp.zeros_like, parameters["illumination"])
        (g_packed, g_offsets), (g_nodes, by_frame) = jax.lax.scan(one, zero, everything)
        g_nodes = g_nodes.reshape(nodes.shape)
        g_nodes += schedule["smoothness"] * jax.grad(renderer.motion.roughness)(nodes)
        g_nodes += schedule["steadiness"] * jax.grad(renderer.unsteadiness)(nodes)
        g_scene = renderer.unpacked(g_packed) + jax.grad(prior)(canonical)
        return {**pull_back((g_scene, g_nodes))[0], "illumination": g_offsets}, by_frame.reshape(-1)

    def body(i: Array, carry: tuple) -> tuple:
        parameters, moments, history = carry
        now = (step + i).astype(jnp.float32)
        alpha = jnp.minimum(1.0, (now + 1) / (schedule["open_at"] * schedule["steps"]))
        slope, by_frame = gradient(parameters, alpha)
        updates, moments = _ADAM.update(slope, moments)
        decay = 0.1 ** (now / schedule["steps"])
        # the calibration is refined only once the scene is sharp enough to tell a wrong one from a blurred one
        rates = {**schedule, "illumination": schedule["illumination"] * jnp.clip(2 * alpha - 1, 0, 1)}
        updates = {k: jax.tree.map(lambda u, r=rates[k]: -decay * r * u, updates[k]) for k in updates}
        return optax.apply_updates(parameters, updates), moments, history.at[i].set(by_frame)

    history = jnp.zeros((CHUNK, data.shape[0]), jnp.float32)
    parameters, moments, history = jax.lax.fori_loop(0, count, body, (parameters, moments, history))
    return parameters, moments, step + count, history


def fit(
    renderer: Renderer,
    data: np.ndarray,
    settings: Reconstruction,
    *,
    weights: np.ndarray | None = None,
    move: bool = True,
    noise_variance: float | None = None,
    snapshots: Sequence[int] = (),
    progress: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 60.0,
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
        snapshots: steps after which the coefficients are kept (rounded up to a whole dispatch).
        progress: label of a progress bar on standard error; ``None``: no bar.
        checkpoint: file to which the progress is written, and from which it goes on if it is there; on a CPU a fit
            that was stopped gives the same numbers as one that was not.
        checkpoint_seconds: least time from one checkpoint to the next.

    Raises:
        FitError: the loss is not finite; names the step and holds the last good state.
        DataError: the checkpoint belongs to other data or settings.
    """
    grids = settings.multigrid
    schedule = {
        "steps": settings.steps,
        "open_at": settings.windows_open_at,
        "scene": grids.scene_rate,
        "motion": grids.motion_rate,
        "illumination": settings.illumination_rate,
        "smoothness": grids.motion_smoothness * (noise_variance or 0.0),
        "steadiness": grids.motion_steadiness * (noise_variance or 0.0),
        "nonnegativity": grids.scene_nonnegativity,
        "scene_smoothness": grids.scene_smoothness * (noise_variance or 0.0),
    }
    fixed = (
        replace(renderer, moves=move),
        jnp.asarray(data, jnp.float32),
        jnp.ones(len(data), jnp.float32) if weights is None else jnp.asarray(weights, jnp.float32),
        {k: jnp.float32(v) for k, v in schedule.items()},
        _at_once(len(data), settings.frames_at_once),
    )
    used = np.ones(len(data)) if weights is None else np.asarray(weights, float)
    parameters = renderer.zeros()
    done = Progress((parameters, _ADAM.init(parameters)), 0)
    mark = fingerprint(fixed) if checkpoint else ""
    if checkpoint:
        done = read_checkpoint(checkpoint, mark, done.state, parameters) or done
    begin, compile_seconds, written = time.perf_counter() - done.seconds, None, time.perf_counter()
    with tqdm(total=settings.steps, desc=progress, disable=progress is None, mininterval=2.0, unit="step") as bar:
        bar.update(done.step)
        while done.step < settings.steps:
            count = min(CHUNK, settings.steps - done.step)
            dispatch, good = time.perf_counter(), jax.tree.map(jnp.copy, done.state)
            parameters, moments, _, by_frame = _advance(fixed, *done.state, jnp.int32(done.step), jnp.int32(count))
            errors = np.asarray(by_frame)[:count]
            if compile_seconds is None:
                compile_seconds = time.perf_counter() - dispatch
            if not np.all(np.isfinite(errors)):
                bad = done.step + int(np.argmax(~np.isfinite(errors).all(1)))
                message = f"the fit broke down at step {bad}: lower scene_rate or motion_rate, or check the data"
                raise FitError(message, State(good[0], good[1], done.step) if done.step else None)
            done.state, done.step = (parameters, moments), done.step + count
            done.history.append(errors)
            done.seconds = time.perf_counter() - begin
            bar.update(count)
            loss = float(errors[-1] @ used / used.sum())
            bar.set_postfix(loss=f"{loss:.3g}")
            done.snapshots.update(
                {s: jax.tree.map(np.asarray, parameters) for s in snapshots if done.step - count < s <= done.step}
            )
            if checkpoint and time.perf_counter() - written >= checkpoint_seconds:
                write_checkpoint(checkpoint, mark, done)
                written = time.perf_counter()
    losses = np.concatenate(done.history)
    trace = Trace(losses @ used / used.sum(), losses[-1], done.seconds, compile_seconds or 0.0, done.snapshots)
    return State(*done.state, done.step), trace
