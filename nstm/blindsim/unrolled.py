"""UBSIM: a few iterations of blind SIM whose steps a network has learned.

Burns et al., Nature Communications 2026. Every block computes the gradients of the cost in closed form, and one
network, the same for all blocks, turns them into the step: ``xi <- xi + a_n CNN(-dF/dxi)`` and alike for every ``i_l``.
It is trained by the cost itself, without ground truth.

The text leaves open how the network sees the gradients. The gradients of the unknowns are those of the products
``q_l = rho I_l`` times sizes of object and light, so they hardly move what is dark; beside them it is given the
unknowns' change by a projected step of the products (:func:`by_products`), and a new network makes that step.

``stacked`` gives it everything as channels, so that a network is made for one number of frames: the negative gradients,
the projected steps along the residuals that are brought back to equal weight of all frequencies (:func:`sharpened`),
and the object.

``per_frame`` gives it the object or one pattern at a time, so that any number of frames will do and their order does
not matter. The channels are the negative gradient, the projected step along the gradient of the products, the same step
of what it is multiplied by, itself, and what it is multiplied by.
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstm.acquisition import DataError
from nstm.blindsim.line_search import moved
from nstm.blindsim.model import BlindModel, Residual, Unknowns, along, patterns_of
from nstm.blindsim.unet import MULTIPLE, UNet
from nstm.io.network import Mode

Network = Callable[[Float[Array, "i y x"]], Float[Array, "o y x"]]

#: Blocks of the published network.
BLOCKS = 6
#: Share of the projected step that a new network makes.
FIRST_STEP = 0.9
#: Channels of an image in the mode ``per_frame``.
_CONTEXT = 5
#: Added to the object where its light is divided by it, and the least square of a root (frames in the units of the
#: iterations).
_DARK, _LEAST = 0.02, 1e-6
#: Power of the transfer below which frequencies keep a lower weight: of 1, 0.3, 0.1 and 0.05 the one whose six steps
#: led to the best images.
_SHARP = 0.1


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
        """Untrained: projected steps.

        Args:
            mode: ``stacked`` or ``per_frame``.
            frames: number of frames, for ``stacked``.
            width: channels of the network's finest level; 64 gives 219,000 parameters for 20 stacked frames, 14 gives
                27,600; ``per_frame`` 24 gives 21,000.
            blocks: iterations.
            seed: of the network.
        """
        stacked, key = mode == "stacked", jax.random.PRNGKey(seed)
        inputs, outputs = (2 * frames + 1, frames) if stacked else (_CONTEXT, 1)
        network = UNet(inputs, outputs, width, skip=outputs, limit=1.0, key=key)
        steps = jnp.full((blocks, 2), FIRST_STEP)
        return cls(network, inverse_softplus(steps), mode, frames if stacked else None)

    def check(self, frames: int, shape: tuple[int, int]) -> None:
        """Whether the network can take frames like these.

        Raises:
            DataError: another number of frames than it was trained for, or sides that cannot be halved twice.
        """
        if self.frames is not None and frames != self.frames:
            raise DataError(
                f"this network was trained for {self.frames} stacked frames and cannot take {frames}: use windows of "
                f"{self.frames} frames of which none is dead, damaged or full, or a network of the mode per_frame, "
                "which takes any number"
            )
        if any(n % MULTIPLE for n in shape):
            raise DataError(f"images of {shape} pixels: the network needs sides that are a multiple of {MULTIPLE}")

    def __call__(self, model: BlindModel, unknowns: Unknowns) -> tuple[Unknowns, Float[Array, "k"]]:
        """What the blocks make of a start, and the cost before the first and after every block."""
        self.check(model.frames, model.shape)
        residual = model.residual(unknowns)

        def block(state: tuple[Unknowns, Array], log_steps: Float[Array, "2"]) -> tuple[tuple[Unknowns, Array], Array]:
            unknowns, residual = state
            moved_to = along(unknowns, self.direction(log_steps, model, unknowns, residual), 1.0)
            residual = model.residual(moved_to)
            return (moved_to, residual), model.cost(residual)

        # a loop on the device would be eight times slower: XLA's fast convolutions on a CPU are for straight code only
        (found, _), costs = jax.lax.scan(block, (unknowns, residual), self.log_steps, unroll=True)
        return found, jnp.concatenate([model.cost(residual)[None], costs])

    def direction(
        self, log_steps: Float[Array, "2"], model: BlindModel, unknowns: Unknowns, residual: Residual
    ) -> Unknowns:
        """What a block changes."""
        gradient, stacked = model.gradient(unknowns, residual), self.mode == "stacked"
        to = by_products(unknowns, sharpened(model, residual) if stacked else model.back(residual))
        change = self._stacked(unknowns, gradient, to) if stacked else self._per_frame(unknowns, gradient, to)
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
        costs = [float(model.cost(residual))]
        for log_steps in self.log_steps[:blocks]:
            if costs[-1] <= stop_cost:
                break
            unknowns, residual, cost = _block(self, log_steps, model, unknowns, residual)
            costs.append(float(cost))
        return unknowns, costs

    def _stacked(self, unknowns: Unknowns, gradient: Unknowns, to: Unknowns) -> Unknowns:
        """What the network makes of everything at once."""
        seen = [-gradient.object[None], -gradient.patterns, to.object[None], to.patterns, unknowns.object[None]]
        out = self.network(jnp.concatenate(seen))
        return Unknowns(out[0], out[1:])

    def _per_frame(self, unknowns: Unknowns, gradient: Unknowns, to: Unknowns) -> Unknowns:
        """What it makes of the object and of every pattern by itself; the channels are those of the class."""
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
    unrolled: Unrolled, log_steps: Array, model: BlindModel, unknowns: Unknowns, residual: Residual
) -> tuple[Unknowns, Residual, Array]:
    direction = unrolled.direction(log_steps, model, unknowns, residual)
    step, residual, cost = moved(model, unknowns, residual, direction)
    return along(unknowns, direction, step), residual, cost


def sharpened(model: BlindModel, residual: Residual) -> Float[Array, "n y x"]:
    """The residuals as images, brought back to equal weight of all frequencies that are seen (Wiener)."""
    return jnp.fft.irfft2((1 + _SHARP) * model.transfer / (model.transfer**2 + _SHARP) * residual, s=model.shape)


def by_products(unknowns: Unknowns, change: Float[Array, "n y x"]) -> Unknowns:
    """Change of the unknowns that changes their products ``q_l`` to ``max(q_l + change_l, 0)``.

    With ``change_l = h^T r_l`` it is the step of :class:`nstm.blindsim.convex.PerFrame`, without its momentum: it moves
    what is dark, too, and never diverges.
    """
    density, light = unknowns.object**2, patterns_of(unknowns)
    products = jnp.maximum(density * light + change, 0)
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
