"""Fitting scene and motion to the frames of one acquisition, coarse to fine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from tqdm import tqdm

from nstm.acquisition import DataError
from nstm.settings import Reconstruction
from nstm.spacetime.multigrid import MotionGrids, SceneGrids
from nstm.spacetime.warp import warp
from nstm.systems.base import ForwardModel

#: Steps of one dispatch to the device; between dispatches the loss is looked at.
CHUNK = 20
#: Coefficients of scene and motion by level, and corrections of the calibration by name.
Parameters = dict[str, Any]
_ADAM = optax.scale_by_adam(b1=0.9, b2=0.99, eps=1e-15)


class FitError(RuntimeError):
    """The optimisation broke down; the message names the step."""


class Renderer(eqx.Module):
    """Frames from coefficients: the canonical scene rendered once, warped to every time, seen by the instrument."""

    scene: SceneGrids
    motion: MotionGrids
    in_time: list[Array]
    model: ForwardModel
    moves: bool = eqx.field(static=True, default=True)

    def seen(
        self,
        canonical: Float[Array, "c y x"],
        nodes: Float[Array, "nk 2 j i"],
        offsets: dict[str, Array],
        which: Int[Array, "n"],
    ) -> Float[Array, "n z v u"]:
        """The measurements ``which`` of the canonical scene under the displacement ``nodes`` of their times."""
        if self.moves:
            moved = warp(canonical, self.motion.spread(nodes))
        else:
            moved = jnp.broadcast_to(canonical, (len(nodes), *canonical.shape))
        model = self.model.corrected(offsets)
        return model.render(moved.reshape(len(which), -1, moved.shape[1], 1, *moved.shape[2:]), which)

    def unfolded(self, parameters: Parameters, alpha: Array) -> tuple[Array, Array]:
        """Canonical scene, and displacement nodes ``(m, k, 2, j, i)`` at the times of every measurement."""
        nodes = self.motion.nodes(parameters["motion"], self.in_time, alpha)
        return self.scene.render(parameters["scene"], alpha), nodes.reshape(*self.model.times.shape, *nodes.shape[1:])

    def zeros(self) -> Parameters:
        """An empty scene at rest."""
        return {"scene": self.scene.zeros(), "motion": self.motion.zeros(), "illumination": self.model.offsets()}


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


def make_renderer(model: ForwardModel, settings: Reconstruction) -> Renderer:
    """The representation of ``settings`` in front of a forward model.

    Raises:
        DataError: the scene has more than one plane (the multigrid engine is for single planes).
    """
    channels, planes, *shape = model.scene_shape
    if planes != 1:
        raise DataError(f"the scene has {planes} planes; the multigrid engine reconstructs single planes")
    grids = settings.multigrid
    times = np.asarray(model.times, np.float64)
    intervals = grids.motion_time_nodes or min(4, max(2, round(times.shape[0] / 4)))
    motion = MotionGrids((shape[0], shape[1]), intervals, grids)
    tau = relative_times(times.reshape(-1), times)
    return Renderer(SceneGrids(channels, (shape[0], shape[1]), grids), motion, motion.in_time(tau), model)


def _at_once(frames: int, wanted: int | None) -> int:
    """Frames rendered together: the largest divisor up to the wish; one on a CPU (cache), all on an accelerator."""
    limit = wanted or (1 if jax.default_backend() == "cpu" else frames)
    return max(n for n in range(1, min(limit, frames) + 1) if frames % n == 0)


def relative_times(times: np.ndarray, frame_times: np.ndarray) -> np.ndarray:
    """Times as a share of the acquisition, 0 at its first and 1 at its last frame."""
    first, last = frame_times.min(), frame_times.max()
    return np.zeros_like(times) if last == first else (times - first) / (last - first)


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

    def group(canonical: Array, nodes: Array, offsets: dict, which: Array) -> tuple[Array, Array]:
        residual = renderer.seen(canonical, nodes.reshape(-1, *nodes.shape[2:]), offsets, which) - data[which]
        by_frame = jnp.mean(residual**2, axis=tuple(range(1, residual.ndim)))
        return jnp.sum(share[which] * by_frame), by_frame

    def prior(canonical: Array) -> Array:
        bends = jnp.mean(jnp.diff(canonical, 2, axis=-2) ** 2) + jnp.mean(jnp.diff(canonical, 2, axis=-1) ** 2)
        below = jnp.mean(jnp.minimum(canonical, 0.0) ** 2) if renderer.model.nonnegative else 0.0
        return schedule["scene_smoothness"] * canonical.size / data.size * bends + schedule["nonnegativity"] * below

    def gradient(parameters: dict, alpha: Array) -> tuple[dict, Array]:
        # Frames are summed group by group with their gradients, so that one group's buffers fit the cache.
        (canonical, nodes), pull_back = jax.vjp(
            lambda p: renderer.unfolded(p, alpha), {k: parameters[k] for k in ("scene", "motion")}
        )

        def one(total: tuple[Array, dict], which: Array) -> tuple[tuple[Array, dict], tuple[Array, Array]]:
            (_, by_frame), (g_scene, g_nodes, g_offsets) = jax.value_and_grad(group, (0, 1, 2), has_aux=True)(
                canonical, nodes[which], parameters["illumination"], which
            )
            return jax.tree.map(jnp.add, total, (g_scene, g_offsets)), (g_nodes, by_frame)

        start = jax.grad(prior)(canonical)
        zero = jax.tree.map(jnp.zeros_like, parameters["illumination"])
        (g_scene, g_offsets), (g_nodes, by_frame) = jax.lax.scan(one, (start, zero), everything)
        g_nodes = g_nodes.reshape(nodes.shape)
        g_nodes += schedule["smoothness"] * jax.grad(renderer.motion.roughness)(nodes)
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


@eqx.filter_jit
def predict(
    renderer: Renderer, parameters: Parameters, shift: Float[Array, "2"] | None = None
) -> Float[Array, "m z v u"]:
    """Predicted measurements with every level open; ``shift`` moves the scene by result pixels (y, x)."""
    canonical, nodes = renderer.unfolded(parameters, jnp.float32(1.0))
    if shift is not None:
        nodes = nodes - shift[:, None, None]

    def one(i: Array) -> Array:
        return renderer.seen(canonical, nodes[i], parameters["illumination"], i[None])[0]

    return jax.lax.map(one, jnp.arange(len(nodes)))


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
) -> tuple[State, Trace]:
    """Fit scene and motion to one acquisition.

    Args:
        renderer: from :func:`make_renderer`.
        data: measurements ``(m, z, v, u)``, float32, scaled to a maximum near 1.
        settings: steps, rates and grids.
        weights: ``(m,)``, 0 leaves a frame out; default all 1.
        move: False fits a sample at rest with otherwise equal settings.
        noise_variance: of ``data``; the unit of the prior on the scene's curvature, none when it is not known.
        snapshots: steps after which the coefficients are kept (rounded up to a whole dispatch).
        progress: label of a progress bar on standard error; ``None``: no bar.

    Raises:
        FitError: the loss is not finite; names the step.
    """
    grids = settings.multigrid
    schedule = {
        "steps": settings.steps,
        "open_at": settings.windows_open_at,
        "scene": grids.scene_rate,
        "motion": grids.motion_rate,
        "illumination": settings.illumination_rate,
        "smoothness": grids.motion_smoothness,
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
    state = State(parameters, _ADAM.init(parameters), 0)
    history: list[np.ndarray] = []
    kept: dict[int, Parameters] = {}
    begin, compile_seconds = time.perf_counter(), 0.0
    with tqdm(total=settings.steps, desc=progress, disable=progress is None, mininterval=2.0, unit="step") as bar:
        while state.step < settings.steps:
            count = min(CHUNK, settings.steps - state.step)
            dispatch = time.perf_counter()
            parameters, moments, _, by_frame = _advance(
                fixed, state.parameters, state.moments, jnp.int32(state.step), jnp.int32(count)
            )
            errors = np.asarray(by_frame)[:count]
            if not history:
                compile_seconds = time.perf_counter() - dispatch
            if not np.all(np.isfinite(errors)):
                bad = state.step + int(np.argmax(~np.isfinite(errors).all(1)))
                raise FitError(f"the fit broke down at step {bad}: lower scene_rate or motion_rate, or check the data")
            state = replace(state, parameters=parameters, moments=moments, step=state.step + count)
            history.append(errors)
            bar.update(count)
            loss = float(errors[-1] @ used / used.sum())
            bar.set_postfix(loss=f"{loss:.3g}")
            kept.update(
                {s: jax.tree.map(np.asarray, parameters) for s in snapshots if state.step - count < s <= state.step}
            )
    losses = np.concatenate(history)
    return state, Trace(losses @ used / used.sum(), losses[-1], time.perf_counter() - begin, compile_seconds, kept)
