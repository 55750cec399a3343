"""Command ``nstm train-blind``: train UBSIM on images of structures, or on simulated ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nstm.acquisition import DataError
from nstm.io.jsonfile import write_json
from nstm.pipeline.blind_settings import Training
from nstm.simulate.blind_images import Sources, images_sha256, sources
from nstm.simulate.speckle import transfer_on
from nstm.visual.figures import save_png


def run_training(
    settings: Training, images: Path | None, out: Path, progress: Callable[[str], None] | None = None
) -> None:
    """Train a network and write its weights, its history (JSON) and the curve of its loss (PNG) beside them.

    A training that was stopped goes on from ``OUT.state.npz``, which is removed in the end.

    Raises:
        DataError: the images cannot be used, or the state is that of another training.
    """
    import jax.numpy as jnp

    from nstm.blindsim.training import Plan, Unsupervised, train
    from nstm.blindsim.unet import parameters
    from nstm.blindsim.unrolled import Unrolled
    from nstm.blindsim.weights import save_weights

    if out.suffix != ".safetensors":
        raise DataError(f"{out}: the weights are written as NAME.safetensors")
    s, state = settings, out.with_suffix(".state.npz")
    pitches = s.pitch_um, s.image_pixel_um
    training, validation = (sources(images, part, *pitches) for part in ("training", "validation"))
    sha256 = images_sha256(images) if images else None
    begin = Unrolled.new(s.mode, s.frames, s.width, blocks=s.blocks, seed=s.seed)
    transfer = jnp.asarray(transfer_on((s.side_px, s.side_px), s.microscope, s.pitch_um), jnp.float32)
    found, history = train(
        begin,
        Unsupervised(transfer, s.every_block),
        lambda epoch: batches(training, s, s.stacks, [s.seed, 1, epoch]),
        list(batches(validation, s, s.validation_stacks, [s.seed, 2])),
        Plan(epochs=s.epochs, rate=s.rate, patience=s.patience),
        validated=Unsupervised(transfer, every_block=False),
        about={**s.model_dump(exclude={"epochs"}), "images": [training.fingerprint, validation.fingerprint]},
        checkpoint=state,
        progress=progress,
    )
    card: dict[str, Any] = {
        "settings": s.model_dump(),
        "images": {name: len(of) for name, of in training.images.items()},
        "simulated_images": images is None,
        "images_sha256": sha256,
        "parameters": parameters(found.network),  # type: ignore[arg-type]  # a network of this mode
        "validation_loss": min(history.validation),
        "epochs": len(history.validation),
        "seconds": sum(history.seconds),
        "command": f"nstm train-blind {out.name}" + (" --images FOLDER" if images else "") + _changed(s),
    }
    save_weights(out, found, s.width, card)
    write_json(out.with_suffix(".json"), {**card, "history": asdict(history)})
    save_png(loss_figure(history.training, history.validation, history.rate), out.with_suffix(".png"))
    state.unlink(missing_ok=True)


def batches(
    images: Sources, settings: Training, number: int, seed: list[int], *, taught: bool = False
) -> Iterator[Any]:
    """Stacks ``(batch, L, y, x)`` in the units of the iterations; the last batch is dropped where it is not whole.

    With ``taught`` the objects ``(batch, y, x)`` in the same units come with them.
    """
    from nstm.blindsim.reconstruct import ordered

    flat = int(np.random.SeedSequence(seed).generate_state(1)[0])
    batch: list[tuple[np.ndarray, np.ndarray]] = []
    for density, stack in images.stacks(settings.microscope, settings.side_px, number, flat):
        order, unit = ordered(stack.frames, np.ones(len(stack.frames), bool))
        # frames are exchangeable but the network does not know: only the brightest has its place
        shuffled = np.r_[np.random.default_rng([flat, len(batch)]).permutation(order[:-1]), order[-1]]
        batch.append((stack.frames[shuffled] / np.float32(unit), density / density.max() / unit))
        if len(batch) == settings.batch:
            frames, objects = (np.stack(arrays).astype(np.float32) for arrays in zip(*batch, strict=True))
            yield (frames, objects) if taught else frames
            batch = []


def loss_figure(training: list[float], validation: list[float], rate: list[float]) -> Figure:
    """Loss by epoch, and where the rate fell."""
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(1, len(training) + 1)
    axes.semilogy(epochs, training, label="training")
    axes.semilogy(epochs, validation, label="validation")
    for epoch in np.flatnonzero(np.diff(rate) < 0) + 2:
        axes.axvline(float(epoch), color="0.7", linewidth=0.8, linestyle=":")
    axes.set(xlabel="epoch", ylabel="cost per pixel and frame", title="Dotted: the rate fell")
    axes.legend(frameon=False)
    return figure


def _changed(settings: Training) -> str:
    """The option that makes these settings."""
    given = settings.model_dump(exclude_defaults=True)
    return " --set " + ",".join(f"{key}={value}" for key, value in given.items()) if given else ""


def settings_of(text: str | None) -> Training:
    """Settings from ``key=value`` pairs separated by commas.

    Raises:
        DataError: a key that there is none of, or a value that is not allowed.
    """
    from pydantic import ValidationError

    given = dict(pair.partition("=")[::2] for pair in (text or "").split(",") if pair.strip())
    values = {key.strip(): json.loads(v) if _is_json(v) else v.strip() for key, v in given.items()}
    try:
        return Training.model_validate(values)
    except ValidationError as error:
        lines = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        allowed = ", ".join(Training.model_fields)
        raise DataError(f"the training cannot be set so: {lines}; allowed keys: {allowed}") from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True
