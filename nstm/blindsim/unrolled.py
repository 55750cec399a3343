"""UBSIM: a few iterations of blind SIM whose steps a network has learned.

Burns et al., Nature Communications 2026. Every block computes the gradients of the cost in closed form, and one
network, the same for all blocks, turns them into the step: ``xi <- xi + a_n CNN(-dF/dxi)`` and alike for every ``i_l``.
It is trained by the cost itself, without ground truth.

The text leaves open how the network sees the gradients. ``stacked`` gives it all of them as channels, so that a network
is made for one number of frames; ``per_frame`` gives it one at a time with what it belongs to, so that any number of
frames will do and their order does not matter. Gradients enter in units of their root mean square in the first block,
one for the object and one for the patterns, and the step leaves in them: frames of any size and light look alike.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstm.acquisition import DataError
from nstm.blindsim.model import BlindModel, Unknowns
from nstm.blindsim.unet import MULTIPLE, UNet

Mode = Literal["stacked", "per_frame"]
Network = Callable[[Float[Array, "i y x"]], Float[Array, "o y x"]]

#: Blocks of the published network.
BLOCKS = 6
#: Step along the gradient that a new network makes (frames in the units of the iterations): 0.02 diverges on some.
FIRST_STEP = 0.004
#: Inputs of the network per image in the mode ``per_frame``.
_CONTEXT = 3


class Unrolled(eqx.Module):
    """The learned iterations.

    Attributes:
        network: of the mode's channels.
        log_steps: ``(blocks, 2)`` of the steps of object and patterns, ``softplus^-1``.
        mode: what the network sees.
        frames: how many frames it is made for; ``None``: any.
    """

    network: Network
    log_steps: Float[Array, "b 2"]
    mode: Mode = eqx.field(static=True)
    frames: int | None = eqx.field(static=True)

    @classmethod
    def new(cls, mode: Mode, frames: int, width: int, *, blocks: int = BLOCKS, seed: int = 0) -> Unrolled:
        """Untrained: gradient descent with a small step.

        Args:
            mode: ``stacked`` or ``per_frame``.
            frames: number of frames, for ``stacked``.
            width: channels of the network's finest level; 32 gives 237,000 parameters for 20 stacked frames, 11 gives
                29,600.
            blocks: iterations.
            seed: of the network.
        """
        channels = (frames, frames) if mode == "stacked" else (_CONTEXT, 1)
        network = UNet(*channels, width, key=jax.random.PRNGKey(seed))
        return cls(
            network, inverse_softplus(jnp.full((blocks, 2), FIRST_STEP)), mode, frames if mode == "stacked" else None
        )

    def check(self, frames: int, shape: tuple[int, int]) -> None:
        """Whether the network can take frames like these.

        Raises:
            DataError: another number of frames than it was trained for, or sides that cannot be halved twice.
        """
        if self.frames is not None and frames != self.frames:
            raise DataError(
                f"this network was trained for {self.frames} stacked frames and cannot take {frames}: use windows of "
                f"{self.frames} frames, or a network of the mode per_frame, which takes any number"
            )
        if any(n % MULTIPLE for n in shape):
            raise DataError(f"images of {shape} pixels: the network needs sides that are a multiple of {MULTIPLE}")

    def __call__(self, model: BlindModel, unknowns: Unknowns) -> tuple[Unknowns, Float[Array, "k"]]:
        """What the blocks make of a start, and the cost before the first and after every block."""
        self.check(model.frames, model.shape)
        residual = model.residual(unknowns)
        gradient = model.gradient(unknowns, residual)
        # what the network does not see it must not learn to change
        units = jax.tree.map(lambda g: jax.lax.stop_gradient(jnp.sqrt(jnp.mean(g**2)) + 1e-12), gradient)

        @functools.partial(jax.checkpoint, prevent_cse=False)
        def block(state: tuple[Unknowns, Array], log_steps: Float[Array, "2"]) -> tuple[tuple[Unknowns, Array], Array]:
            unknowns, residual = state
            gradient = model.gradient(unknowns, residual)
            seen = jax.tree.map(lambda g, unit: -g / unit, gradient, units)
            change = self._change(seen, unknowns)
            steps = jax.nn.softplus(log_steps)
            moved = Unknowns(
                unknowns.object + steps[0] * units.object * change.object,
                unknowns.patterns + steps[1] * units.patterns * change.patterns,
            )
            residual = model.residual(moved)
            return (moved, residual), model.cost(residual)

        # a loop on the device would be eight times slower: XLA's fast convolutions on a CPU are for straight code only
        (found, _), costs = jax.lax.scan(block, (unknowns, residual), self.log_steps, unroll=True)
        return found, jnp.concatenate([model.cost(residual)[None], costs])

    def _change(self, seen: Unknowns, unknowns: Unknowns) -> Unknowns:
        """What the network makes of the descent directions."""
        if self.mode == "stacked":
            out = self.network(jnp.concatenate([seen.object[None], seen.patterns]))
            return Unknowns(out[0], out[1:])
        same = jnp.broadcast_to(seen.object, seen.patterns.shape)
        of_patterns = jnp.stack([seen.patterns, same, unknowns.patterns], axis=1)
        of_object = jnp.stack([seen.object, jnp.mean(seen.patterns, axis=0), unknowns.object])
        out = jax.vmap(self.network)(jnp.concatenate([of_object[None], of_patterns]))[:, 0]
        return Unknowns(out[0], out[1:])


def inverse_softplus(value: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """What ``softplus`` makes ``value`` of."""
    return jnp.log(jnp.expm1(value))


def loss(unrolled: Unrolled, models: BlindModel, starts: Unknowns, *, every_block: bool = False) -> Float[Array, ""]:
    """Mean cost of a batch per pixel and frame: of the last block, or of all, each counting twice the one before.

    Args:
        unrolled: the network.
        models: with a leading axis of the batch.
        starts: likewise.
        every_block: whether all blocks count, which steadies the beginning of a training.
    """
    costs = jax.vmap(lambda m, u: unrolled(m, u)[1][1:])(models, starts)
    weights = 2.0 ** jnp.arange(costs.shape[1]) if every_block else jnp.zeros(costs.shape[1]).at[-1].set(1)
    pixels = models.spectra.shape[1] * models.shape[0] * models.shape[1]
    return jnp.mean(costs @ (weights / jnp.sum(weights))) / pixels
