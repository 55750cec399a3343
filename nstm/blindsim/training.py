"""Training UBSIM: Adam, a rate that falls when the validation loss stays, checkpoints, and going on from them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from nstm.acquisition import DataError
from nstm.blindsim.model import BlindModel, Unknowns, start
from nstm.blindsim.unrolled import Unrolled, loss
from nstm.blindsim.weights import arrays_of, with_arrays
from nstm.io.store import replace_whole

#: One epoch's batches ``(batch, L, y, x)``, in the units of the iterations.
Batches = Iterable[np.ndarray]


@dataclass(frozen=True)
class Plan:
    """How a network is trained.

    Attributes:
        epochs: passes through the training images.
        rate: of Adam at the start.
        factor: by which the rate is multiplied after ``patience`` epochs without a validation loss lower by ``least``.
        patience: in epochs.
        least: relative.
        clip: largest norm of a gradient.
        every_block: see :func:`nstm.blindsim.unrolled.loss`.
    """

    epochs: int = 200
    rate: float = 1e-4
    factor: float = 0.1
    patience: int = 10
    least: float = 1e-4
    clip: float = 0.1
    every_block: bool = False


@dataclass(frozen=True)
class History:
    """What happened, one entry per epoch."""

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def train(
    unrolled: Unrolled,
    transfer: np.ndarray,
    training: Callable[[int], Batches],
    validation: Batches,
    plan: Plan,
    *,
    checkpoint: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Unrolled, History]:
    """Train a network.

    Args:
        unrolled: where to begin.
        transfer: of all images, on their half spectrum.
        training: ``epoch -> batches``; the same epoch gives the same batches, so that a training that was stopped goes
            on to the same weights.
        validation: batches, the same after every epoch.
        plan: how.
        checkpoint: file that holds the state after every epoch and from which a training goes on.
        progress: told one line after every epoch.

    Returns:
        The network of the lowest validation loss, and what happened.

    Raises:
        DataError: the loss is not finite, or the checkpoint is that of another training.
    """
    adam = optax.chain(optax.clip_by_global_norm(plan.clip), optax.scale_by_adam())
    plateau = optax.contrib.reduce_on_plateau(factor=plan.factor, patience=plan.patience, rtol=plan.least)
    own = eqx.filter(unrolled, eqx.is_inexact_array)
    state = _State(unrolled, unrolled, adam.init(own), plateau.init(own))
    history = History()
    if checkpoint is not None and checkpoint.is_file():
        state, history = _read(checkpoint, state, plan)
    transfer_ = jnp.asarray(transfer, jnp.float32)
    held = list(validation)
    for epoch in range(len(history.training), plan.epochs):
        begin, losses = time.perf_counter(), []
        rate = plan.rate * float(state.plateau.scale)
        network, moments = state.network, state.moments
        for batch in training(epoch):
            frames, pace = jnp.asarray(batch), jnp.float32(rate)
            network, moments, value = _step(network, moments, transfer_, frames, pace, adam, plan.every_block)
            losses.append(value)
        now = float(np.mean([float(_loss(network, transfer_, jnp.asarray(batch))) for batch in held]))
        if not np.isfinite(now):
            raise DataError(
                f"the training broke down in epoch {epoch + 1}: its validation loss is not finite; lower the rate "
                f"({rate:.1e}), or train every block"
            )
        lowest = not history.validation or now < min(history.validation)
        _, after = plateau.update(own, state.plateau, value=jnp.float32(now))
        state = _State(network, network if lowest else state.best, moments, after)
        history.training.append(float(np.mean([float(v) for v in losses])))
        history.validation.append(now)
        history.rate.append(rate)
        history.seconds.append(time.perf_counter() - begin)
        if checkpoint is not None:
            _write(checkpoint, state, history, plan)
        if progress is not None:
            progress(
                f"epoch {epoch + 1} of {plan.epochs}: loss {history.training[-1]:.4g}, validation {now:.4g}, "
                f"rate {rate:.1e}, {history.seconds[-1]:.1f} s"
            )
    return state.best, history


class _State(eqx.Module):
    """Everything that a training needs to go on."""

    network: Unrolled
    best: Unrolled
    moments: Any
    plateau: Any


def _models(transfer: Float[Array, "y f"], frames: Float[Array, "b n y x"]) -> tuple[BlindModel, Unknowns]:
    models = jax.vmap(lambda f: BlindModel.of(f, transfer))(frames)
    return models, jax.vmap(start)(frames)


@eqx.filter_jit
def _loss(network: Unrolled, transfer: Array, frames: Array) -> Array:
    return loss(network, *_models(transfer, frames))


@eqx.filter_jit
def _step(
    network: Unrolled,
    moments: Any,
    transfer: Array,
    frames: Array,
    rate: float | Array,
    adam: optax.GradientTransformation,
    every_block: bool,
) -> tuple[Unrolled, Any, Array]:
    models, starts = _models(transfer, frames)
    value, slope = eqx.filter_value_and_grad(loss)(network, models, starts, every_block=every_block)
    updates, moments = adam.update(slope, moments)
    return eqx.apply_updates(network, jax.tree.map(lambda u: -rate * u, updates)), moments, value


def _write(path: Path, state: _State, history: History, plan: Plan) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = json.dumps({"history": asdict(history), "plan": asdict(plan)})
    with replace_whole(path) as temporary, Path(temporary).open("wb") as file:
        np.savez(file, meta=np.array(meta), **arrays_of(state))  # type: ignore[arg-type]


def _read(path: Path, state: _State, plan: Plan) -> tuple[_State, History]:
    """The state of a training that was stopped.

    Raises:
        DataError: it is that of another network or plan.
    """
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(str(arrays.pop("meta")))
    if {**meta["plan"], "epochs": plan.epochs} != asdict(plan):
        raise DataError(f"{path}: this training was begun with {meta['plan']}: remove it to begin anew, or go on so")
    return with_arrays(state, arrays, str(path)), History(**meta["history"])
