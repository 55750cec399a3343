"""Training a network: Adam, a rate that falls when the validation loss stays, checkpoints, and going on from them."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from nstm.acquisition import DataError
from nstm.blindsim.model import BlindModel, start
from nstm.blindsim.unrolled import Unrolled, loss
from nstm.blindsim.weights import arrays_of, with_arrays
from nstm.io.store import replace_whole

#: One epoch's batches: arrays with the batch along their first axis.
Batches = Iterable[PyTree[np.ndarray]]
#: What a network makes of a batch, to be lowered.
Loss = Callable[[Any, PyTree[Array]], Float[Array, ""]]


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
    """

    epochs: int = 200
    rate: float = 1e-4
    factor: float = 0.1
    patience: int = 10
    least: float = 1e-4
    clip: float = 0.1


@dataclass(frozen=True)
class History:
    """What happened, one entry per epoch."""

    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Unsupervised(eqx.Module):
    """The loss of UBSIM: the cost of what it finds in frames ``(batch, L, y, x)``, in the units of the iterations.

    Attributes:
        transfer: of all images, on their half spectrum.
        every_block: see :func:`nstm.blindsim.unrolled.loss`.
    """

    transfer: Float[Array, "y f"]
    every_block: bool = eqx.field(static=True)

    def __call__(self, network: Unrolled, frames: Float[Array, "b n y x"]) -> Float[Array, ""]:
        """Mean cost per pixel and frame."""
        models = jax.vmap(lambda f: BlindModel.of(f, self.transfer))(frames)
        return loss(network, models, jax.vmap(start)(frames), every_block=self.every_block)


def train(
    network: Any,
    of: Loss,
    training: Callable[[int], Batches],
    validation: Batches,
    plan: Plan,
    *,
    validated: Loss | None = None,
    about: Mapping[str, Any] | None = None,
    checkpoint: Path | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Any, History]:
    """Train a network.

    Args:
        network: where to begin.
        of: the loss.
        training: ``epoch -> batches``; the same epoch gives the same batches, so that a training that was stopped goes
            on to the same weights.
        validation: batches, the same after every epoch.
        plan: how.
        validated: the loss of the validation; ``None``: that of the training.
        about: what else the training is made of, JSON-able; a checkpoint that says otherwise is refused.
        checkpoint: file that holds the state after every epoch and from which a training goes on.
        progress: told one line after every epoch.

    Returns:
        The network of the lowest validation loss, and what happened.

    Raises:
        DataError: the loss is not finite, or the checkpoint is damaged, that of another training or of a longer one.
    """
    adam = optax.chain(optax.clip_by_global_norm(plan.clip), optax.scale_by_adam())
    plateau = optax.contrib.reduce_on_plateau(factor=plan.factor, patience=plan.patience, rtol=plan.least)
    own = eqx.filter(network, eqx.is_inexact_array)
    state = _State(network, network, adam.init(own), plateau.init(own))
    history, made_of = History(), {**asdict(plan), **(about or {})}
    del made_of["epochs"]
    if checkpoint is not None and checkpoint.is_file():
        state, history = _read(checkpoint, state, made_of)
        if len(history.training) > plan.epochs:
            raise DataError(
                f"{checkpoint}: this training has made {len(history.training)} epochs, more than epochs = "
                f"{plan.epochs}: set as many at least, or remove the file to begin anew"
            )
    held, validated = list(validation), validated or of
    for epoch in range(len(history.training), plan.epochs):
        begin, losses = time.perf_counter(), []
        rate = plan.rate * float(state.plateau.scale)
        network, moments = state.network, state.moments
        for batch in training(epoch):
            network, moments, value = _step(
                network, moments, of, jax.tree.map(jnp.asarray, batch), jnp.float32(rate), adam
            )
            losses.append(value)
        now = float(np.mean([float(_loss(network, validated, jax.tree.map(jnp.asarray, batch))) for batch in held]))
        if not np.isfinite(now):
            raise DataError(
                f"the training broke down in epoch {epoch + 1}: its validation loss is not finite; lower the rate "
                f"({rate:.1e})"
            )
        lowest = not history.validation or now < min(history.validation)
        _, after = plateau.update(own, state.plateau, value=jnp.float32(now))
        state = _State(network, network if lowest else state.best, moments, after)
        history.training.append(float(np.mean([float(v) for v in losses])))
        history.validation.append(now)
        history.rate.append(rate)
        history.seconds.append(time.perf_counter() - begin)
        if checkpoint is not None:
            _write(checkpoint, state, history, made_of)
        if progress is not None:
            progress(
                f"epoch {epoch + 1} of {plan.epochs}: loss {history.training[-1]:.4g}, validation {now:.4g}, "
                f"rate {rate:.1e}, {history.seconds[-1]:.1f} s"
            )
    return state.best, history


class _State(eqx.Module):
    """Everything that a training needs to go on."""

    network: Any
    best: Any
    moments: Any
    plateau: Any


@eqx.filter_jit
def _loss(network: Any, of: Loss, batch: PyTree[Array]) -> Array:
    return of(network, batch)


@eqx.filter_jit
def _step(
    network: Any, moments: Any, of: Loss, batch: PyTree[Array], rate: Array, adam: optax.GradientTransformation
) -> tuple[Any, Any, Array]:
    value, slope = eqx.filter_value_and_grad(of)(network, batch)
    updates, moments = adam.update(slope, moments)
    return eqx.apply_updates(network, jax.tree.map(lambda u: -rate * u, updates)), moments, value


def _write(path: Path, state: _State, history: History, made_of: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    meta = json.dumps({"history": asdict(history), "made_of": made_of})
    with replace_whole(path) as temporary, Path(temporary).open("wb") as file:
        np.savez(file, meta=np.array(meta), **arrays_of(state))  # type: ignore[arg-type]  # of numpy's stub


def _read(path: Path, state: _State, made_of: Mapping[str, Any]) -> tuple[_State, History]:
    """The state of a training that was stopped.

    Raises:
        DataError: it is damaged, or that of another network or training.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        meta = json.loads(str(arrays.pop("meta")))
        before, history = dict(meta["made_of"]), History(**meta["history"])
    except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not the state of a training, or damaged ({error}): remove it to begin anew") from None
    changed = _changed(before, json.loads(json.dumps(made_of)))
    if changed:
        raise DataError(f"{path}: this training was begun with {changed}: remove it to begin anew, or go on so")
    return with_arrays(state, arrays, str(path)), history


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, as text; of long values only that they do."""
    found = []
    for key in [key for key in {**before, **now} if before.get(key) != now.get(key)]:
        text = f"{key} = {before.get(key)} and not {now.get(key)}"
        found.append(text if len(text) <= 80 else f"other {key}")
    return ", ".join(found)
