"""The network of UBSIM: a small U-Net with two rescalings.

Burns et al., Nature Communications 2026, give its bounds (two rescalings, skip connections, fewer than 250,000
parameters), not its layout. Here: a 3 x 3 convolution per level of widths ``c``, ``2c``, ``4c``, maxima of 2 x 2 on the
way down, repeated pixels on the way up, a linear output, no normalisation (sizes carry information), and periodic
borders as the model has them.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: Images must have sides that are a multiple of this.
MULTIPLE = 4


class UNet(eqx.Module):
    """``(inputs, y, x) -> (outputs, y, x)``; where there are as many, it adds to what it is given.

    A new one gives zero, so that what it is added to is untouched at first.

    Attributes:
        width: channels of the finest level.
        residual: whether the first ``outputs`` channels of the input are added to the output.
    """

    down: list[eqx.nn.Conv2d]
    up: list[eqx.nn.Conv2d]
    last: eqx.nn.Conv2d
    outputs: int = eqx.field(static=True)
    residual: bool = eqx.field(static=True)

    def __init__(self, inputs: int, outputs: int, width: int, *, residual: bool = True, key: Array) -> None:
        keys = iter(jax.random.split(key, 6))

        def convolution(a: int, b: int) -> eqx.nn.Conv2d:
            return eqx.nn.Conv2d(a, b, 3, padding=1, padding_mode="CIRCULAR", key=next(keys))

        c = width
        self.down = [convolution(inputs, c), convolution(c, 2 * c), convolution(2 * c, 4 * c)]
        self.up = [convolution(6 * c, 2 * c), convolution(3 * c, c)]
        last = eqx.nn.Conv2d(c, outputs, 1, key=next(keys))
        self.last = jax.tree.map(jnp.zeros_like, last)
        self.outputs, self.residual = outputs, residual

    def __call__(self, x: Float[Array, "i y x"]) -> Float[Array, "o y x"]:
        """Apply the network."""
        given, skips = x, []
        for level, layer in enumerate(self.down):
            if level:
                skips.append(x)
                x = _halved(x)
            x = jax.nn.leaky_relu(layer(x))
        for layer in self.up:
            x = jax.nn.leaky_relu(layer(jnp.concatenate([_doubled(x), skips.pop()])))
        x = self.last(x)
        return x + given[: self.outputs] if self.residual else x


def parameters(network: eqx.Module) -> int:
    """Number of trained numbers."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array)))


def _halved(x: Float[Array, "c y x"]) -> Float[Array, "c v u"]:
    c, y, width = x.shape
    return jnp.max(x.reshape(c, y // 2, 2, width // 2, 2), axis=(2, 4))


def _doubled(x: Float[Array, "c y x"]) -> Float[Array, "c v u"]:
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
