"""The network of UBSIM: a small U-Net with two rescalings.

Burns et al., Nature Communications 2026, give its bounds (two rescalings, skip connections, fewer than 250,000
parameters), not its layout. Here, for speed on a CPU: pixels of 2 x 2 become channels, so that nothing is computed on
the finest level; a 3 x 3 convolution there to the width ``c``; maxima of 2 x 2 and a convolution to ``2c``; back by
repeated pixels, added to what was there, and a last convolution; a linear output, no normalisation (sizes carry
information), and periodic borders as the model has them. What is added is smoothed by (1, 2, 1) / 4 along both axes:
the pixels of a 2 x 2 come from different channels, and no cost would tell a pattern of that period, which no objective
passes.
"""

from __future__ import annotations

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

#: Images must have sides that are a multiple of this.
MULTIPLE = 4


class Convolution(eqx.Module):
    """``(y, x, i) -> (y, x, o)`` with periodic borders; channels come last, which is faster on a CPU."""

    weight: Float[Array, "k k i o"]
    bias: Float[Array, "o"]

    def __init__(self, inputs: int, outputs: int, size: int, *, key: Array) -> None:
        limit = 1 / math.sqrt(inputs * size**2)
        self.weight = jax.random.uniform(key, (size, size, inputs, outputs), minval=-limit, maxval=limit)
        self.bias = jnp.zeros(outputs)

    def __call__(self, x: Float[Array, "y x i"]) -> Float[Array, "y x o"]:
        """Convolve."""
        edge = self.weight.shape[0] // 2
        around = jnp.pad(x, ((edge, edge), (edge, edge), (0, 0)), mode="wrap")
        layout = ("NHWC", "HWIO", "NHWC")
        found = jax.lax.conv_general_dilated(around[None], self.weight, (1, 1), "VALID", dimension_numbers=layout)
        return found[0] + self.bias


class UNet(eqx.Module):
    """``(inputs, y, x) -> (outputs, y, x)``: adds to ``outputs`` channels of what it is given.

    A new one gives zero, so that what it is added to is untouched at first.

    Attributes:
        skip: the first of the channels of the input that are added to.
        limit: the most that is added; ``None``: no limit.
    """

    first: Convolution
    coarse: Convolution
    back: Convolution
    fine: Convolution
    last: Convolution
    outputs: int = eqx.field(static=True)
    skip: int = eqx.field(static=True)
    limit: float | None = eqx.field(static=True)

    def __init__(
        self, inputs: int, outputs: int, width: int, *, skip: int = 0, limit: float | None = None, key: Array
    ) -> None:
        keys, c = iter(jax.random.split(key, 5)), width
        self.first = Convolution(4 * inputs, c, 3, key=next(keys))
        self.coarse = Convolution(c, 2 * c, 3, key=next(keys))
        self.back = Convolution(2 * c, c, 1, key=next(keys))
        self.fine = Convolution(c, c, 3, key=next(keys))
        self.last = jax.tree.map(jnp.zeros_like, Convolution(c, 4 * outputs, 1, key=next(keys)))
        self.outputs, self.skip, self.limit = outputs, skip, limit

    def __call__(self, x: Float[Array, "i y x"]) -> Float[Array, "o y x"]:
        """Apply the network."""
        half = jax.nn.leaky_relu(self.first(_packed(x)))
        quarter = jax.nn.leaky_relu(self.coarse(_halved(half)))
        half = half + _doubled(self.back(quarter))
        more = _unpacked(self.last(jax.nn.leaky_relu(self.fine(half))))
        more = more if self.limit is None else self.limit * jnp.tanh(more / self.limit)
        return x[self.skip : self.skip + self.outputs] + _smooth(_smooth(more, -2), -1)


def _smooth(image: Float[Array, "o y x"], axis: int) -> Float[Array, "o y x"]:
    """Without the highest frequency of an axis, periodic."""
    return 0.5 * image + 0.25 * (jnp.roll(image, 1, axis) + jnp.roll(image, -1, axis))


def parameters(network: eqx.Module) -> int:
    """Number of trained numbers."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array)))


def _packed(x: Float[Array, "c y x"]) -> Float[Array, "v u d"]:
    c, y, width = x.shape
    return x.reshape(c, y // 2, 2, width // 2, 2).transpose(1, 3, 0, 2, 4).reshape(y // 2, width // 2, 4 * c)


def _unpacked(x: Float[Array, "v u d"]) -> Float[Array, "c y x"]:
    y, width, c = x.shape[0], x.shape[1], x.shape[2] // 4
    return x.reshape(y, width, c, 2, 2).transpose(2, 0, 3, 1, 4).reshape(c, 2 * y, 2 * width)


def _halved(x: Float[Array, "y x c"]) -> Float[Array, "v u c"]:
    y, width, c = x.shape
    return jnp.max(x.reshape(y // 2, 2, width // 2, 2, c), axis=(1, 3))


def _doubled(x: Float[Array, "v u c"]) -> Float[Array, "y x c"]:
    return jnp.repeat(jnp.repeat(x, 2, axis=0), 2, axis=1)
