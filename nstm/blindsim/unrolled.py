"""UBSIM: a few iterations of blind SIM whose steps a network has learned.

Burns et al., Nature Communications 2026. Every block computes the gradients of the cost in closed form, and one
network, the same for all blocks, turns them into the step: ``xi <- xi + a_n CNN(-dF/dxi)`` and alike for every ``i_l``.
It is trained by the cost itself, without ground truth.

The text leaves open how the network sees the gradients. ``stacked`` gives it all of them as channels, so that a network
is made for one number of frames; they enter in units of their root mean square in the first block, one for the object
and one for the patterns, and the step leaves in them.

``per_frame`` gives it the object or one pattern at a time, so that any number of frames will do and their order does
not matter. The channels are the negative gradient, the projected step of the products (:func:`by_products`), the same
step of what it is multiplied by, itself, and what it is multiplied by; a new network makes the projected step.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstm.acquisition import DataError
from nstm.blindsim.line_search import moved
from nstm.blindsim.model import BlindModel, Residual, Unknowns, along, patterns_of
from nstm.blindsim.unet import MULTIPLE, UNet

Mode = Literal["stacked", "per_frame"]
Network = Callable[[Float[Array, "i y x"]], Float[Array, "o y x"]]

#: Blocks of the published network.
BLOCKS = 6
#: Step that a new network makes (frames in the units of the iterations): along the gradient, where 0.02 diverges on
#: some, or along that of the products.
FIRST_STEP: MappingProxyType[Mode, float] = MappingProxyType({"stacked": 0.004, "per_frame": 0.9})
#: Channels of an image in the mode ``per_frame``.
_CONTEXT = 5
#: Added to the object where its light is divided by it, and the least square of a root (frames in the units of the
#: iterations).
_DARK, _LEAST = 0.02, 1e-6


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
        """Untrained: gradient descent with a small step (``stacked``), or projected steps (``per_frame``).

        Args:
            mode: ``stacked`` or ``per_frame``.
            frames: number of frames, for ``stacked``.
            width: channels of the network's finest level; 76 gives 229,000 parameters for 20 stacked frames, 20 gives
                27,800; ``per_frame`` 24 gives 21,000.
            blocks: iterations.
            seed: of the network.
        """
        stacked, key = mode == "stacked", jax.random.PRNGKey(seed)
        if stacked:
            network = UNet(frames, frames, width, key=key)
        else:
            network = UNet(_CONTEXT, 1, width, skip=1, limit=1.0, key=key)
        steps = jnp.full((blocks, 2), FIRST_STEP[mode])
        return cls(network, inverse_softplus(steps), mode, frames if stacked else None)

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
        first = model.gradient(unknowns, residual)

        def block(state: tuple[Unknowns, Array], log_steps: Float[Array, "2"]) -> tuple[tuple[Unknowns, Array], Array]:
            unknowns, residual = state
            moved_to = along(unknowns, self.direction(log_steps, model, unknowns, residual, first), 1.0)
            residual = model.residual(moved_to)
            return (moved_to, residual), model.cost(residual)

        # a loop on the device would be eight times slower: XLA's fast convolutions on a CPU are for straight code only
        (found, _), costs = jax.lax.scan(block, (unknowns, residual), self.log_steps, unroll=True)
        return found, jnp.concatenate([model.cost(residual)[None], costs])

    def direction(
        self, log_steps: Float[Array, "2"], model: BlindModel, unknowns: Unknowns, residual: Residual, first: Unknowns
    ) -> Unknowns:
        """What a block changes; ``first`` is the gradient that the first block begins with."""
        if self.mode == "stacked":
            # what the network does not see it must not learn to change
            units = jax.tree.map(lambda g: jax.lax.stop_gradient(jnp.sqrt(jnp.mean(g**2)) + 1e-12), first)
            change = self._stacked(model.gradient(unknowns, residual), units)
        else:
            change = self._per_frame(model, unknowns, residual)
        steps = jax.nn.softplus(log_steps)
        return Unknowns(steps[0] * change.object, steps[1] * change.patterns)

    def followed(
        self, model: BlindModel, unknowns: Unknowns, stop_cost: float = 0.0, blocks: int | None = None
    ) -> tuple[Unknowns, list[float]]:
        """The first ``blocks`` (all) one by one, each with the best step, until the cost is at most ``stop_cost``.

        The learned steps are those of the frames of the training; the exact line search makes the directions safe for
        any others, because the cost rises in none.

        Returns:
            The unknowns, and the cost before the first and after every block.
        """
        self.check(model.frames, model.shape)
        residual = model.residual(unknowns)
        costs, first = [float(model.cost(residual))], model.gradient(unknowns, residual)
        for log_steps in self.log_steps[:blocks]:
            if costs[-1] <= stop_cost:
                break
            unknowns, residual, cost = _block(self, log_steps, model, unknowns, residual, first)
            costs.append(float(cost))
        return unknowns, costs

    def _stacked(self, gradient: Unknowns, units: Unknowns) -> Unknowns:
        """What the network makes of all gradients at once."""
        seen = jnp.concatenate([-gradient.object[None] / units.object, -gradient.patterns / units.patterns])
        out = self.network(seen)
        return Unknowns(units.object * out[0], units.patterns * out[1:])

    def _per_frame(self, model: BlindModel, unknowns: Unknowns, residual: Residual) -> Unknowns:
        """What it makes of the object and of every pattern by itself; the channels are those of the class."""
        gradient, to = model.gradient(unknowns, residual), by_products(model, unknowns, residual)
        one = jnp.ones_like(unknowns.object)
        of_object = (-gradient.object, to.object, jnp.mean(to.patterns, axis=0), unknowns.object, one)
        of_patterns = (-gradient.patterns, to.patterns, to.object, unknowns.patterns, unknowns.object)
        inputs = [
            jnp.concatenate([first[None], jnp.broadcast_to(others, unknowns.patterns.shape)])
            for first, others in zip(of_object, of_patterns, strict=True)
        ]
        out = jax.vmap(self.network)(jnp.stack(inputs, axis=1))[:, 0]
        return Unknowns(out[0], out[1:])


@eqx.filter_jit
def _block(
    unrolled: Unrolled, log_steps: Array, model: BlindModel, unknowns: Unknowns, residual: Residual, first: Unknowns
) -> tuple[Unknowns, Residual, Array]:
    direction = unrolled.direction(log_steps, model, unknowns, residual, first)
    step, residual, cost = moved(model, unknowns, residual, direction)
    return along(unknowns, direction, step), residual, cost


def by_products(model: BlindModel, unknowns: Unknowns, residual: Residual) -> Unknowns:
    """Change of the unknowns that is the step of :class:`nstm.blindsim.convex.PerFrame`, without its momentum.

    The gradients of the unknowns are those of the products ``q_l = rho I_l`` times sizes of object and light, so they
    hardly move what is dark; a projected step of the products, ``max(q_l + h^T r_l, 0)``, does, and it never diverges.
    """
    density, light = unknowns.object**2, patterns_of(unknowns)
    products = jnp.maximum(density * light + model.back(residual), 0)
    mean = jnp.mean(products, axis=0)
    lit = (products + _DARK * light) / (mean + _DARK)  # where it is dark, light stays as it is
    return Unknowns(_root(mean, unknowns.object), _root(lit[:-1], unknowns.patterns))


def _root(square: Float[Array, "*s"], old: Float[Array, "*s"]) -> Float[Array, "*s"]:
    """How far the root of a square is from the old one, on its side of 0."""
    return jnp.where(old < 0, -1, 1) * jnp.sqrt(jnp.maximum(square, _LEAST)) - old


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
