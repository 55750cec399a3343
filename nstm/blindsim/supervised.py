"""Networks that are shown what to find: from the frames at once to the object, trained on known objects.

What UBSIM is compared with (Burns et al., Nature Communications 2026). Each adds to the mean of the frames what it
finds in the mean and in all frames, so that it begins as the widefield image, and takes one number of frames. They are
small forms of the published ones, without the enlargement at their end, since the frames are on the grid of the result:

* ``unet``: the network of UBSIM's blocks (:class:`nstm.blindsim.unet.UNet`), used once;
* ``edsr``: residual blocks without normalisation, their change scaled (Lim et al., CVPR Workshops 2017);
* ``rcan``: residual blocks whose channels are weighted by their means, in groups (Zhang et al., ECCV 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstm.acquisition import DataError
from nstm.blindsim.unet import MULTIPLE, Convolution, UNet

Kind = Literal["unet", "edsr", "rcan"]
#: Channels, which give 54,000 to 80,000 parameters with 20 frames.
WIDTHS: dict[Kind, int] = {"unet": 32, "edsr": 32, "rcan": 24}
#: Residual blocks of EDSR; groups of RCAN and blocks of each; share of a block's change that is added.
_BLOCKS, _GROUPS, _IN_GROUP, _SHARE = 4, 2, 2, 0.1


class Supervised(eqx.Module):
    """A network for ``frames`` frames in the units of the iterations."""

    network: Callable[[Float[Array, "i y x"]], Float[Array, "1 y x"]]
    frames: int = eqx.field(static=True)

    @classmethod
    def new(cls, kind: Kind, frames: int, *, seed: int = 0) -> Supervised:
        """Untrained: it gives the mean of the frames."""
        made = {"unet": UNet, "edsr": Edsr, "rcan": Rcan}[kind]
        return cls(made(frames + 1, 1, WIDTHS[kind], key=jax.random.PRNGKey(seed)), frames)

    def __call__(self, frames: Float[Array, "n y x"]) -> Float[Array, "y x"]:
        """The object.

        Raises:
            DataError: another number of frames than it was trained for, or sides that cannot be halved twice.
        """
        if len(frames) != self.frames or any(n % MULTIPLE for n in frames.shape[-2:]):
            raise DataError(
                f"frames {frames.shape}: this network takes {self.frames} frames with sides that {MULTIPLE} divides"
            )
        return self.network(jnp.concatenate([jnp.mean(frames, axis=0)[None], frames]))[0]


def squared_error(network: Supervised, batch: tuple[Array, Array]) -> Float[Array, ""]:
    """Mean squared difference from the objects ``(b, y, x)`` for frames ``(b, n, y, x)``."""
    frames, objects = batch
    return jnp.mean((jax.vmap(network)(frames) - objects) ** 2)


class Edsr(eqx.Module):
    """``(inputs, y, x) -> (1, y, x)``: adds to the first channel; a new one adds nothing."""

    head: Convolution
    blocks: list[tuple[Convolution, Convolution]]
    tail: Convolution

    def __init__(self, inputs: int, outputs: int, width: int, *, key: Array) -> None:
        keys = iter(jax.random.split(key, 2 * _BLOCKS + 2))
        self.head = Convolution(inputs, width, 3, key=next(keys))
        self.blocks = [_pair(width, next(keys), next(keys)) for _ in range(_BLOCKS)]
        self.tail = _silent(Convolution(width, outputs, 3, key=next(keys)))

    def __call__(self, x: Float[Array, "i y x"]) -> Float[Array, "1 y x"]:
        """Apply the network."""
        first = self.head(x.transpose(1, 2, 0))
        inside = first
        for one, other in self.blocks:
            inside = inside + _SHARE * other(jax.nn.relu(one(inside)))
        return x[:1] + self.tail(first + inside).transpose(2, 0, 1)


class Rcan(eqx.Module):
    """``(inputs, y, x) -> (1, y, x)``: adds to the first channel; a new one adds nothing."""

    head: Convolution
    groups: list[list[AttentiveBlock]]
    ends: list[Convolution]  # of each group
    tail: Convolution

    def __init__(self, inputs: int, outputs: int, width: int, *, key: Array) -> None:
        keys = iter(jax.random.split(key, _GROUPS * (_IN_GROUP + 1) + 2))
        self.head = Convolution(inputs, width, 3, key=next(keys))
        self.groups = [[AttentiveBlock(width, key=next(keys)) for _ in range(_IN_GROUP)] for _ in range(_GROUPS)]
        self.ends = [Convolution(width, width, 3, key=next(keys)) for _ in range(_GROUPS)]
        self.tail = _silent(Convolution(width, outputs, 3, key=next(keys)))

    def __call__(self, x: Float[Array, "i y x"]) -> Float[Array, "1 y x"]:
        """Apply the network."""
        first = self.head(x.transpose(1, 2, 0))
        inside = first
        for blocks, end in zip(self.groups, self.ends, strict=True):
            group = inside
            for block in blocks:
                group = block(group)
            inside = inside + end(group)
        return x[:1] + self.tail(first + inside).transpose(2, 0, 1)


class AttentiveBlock(eqx.Module):
    """Two convolutions whose channels are weighted by what their means say, added to what came in."""

    pair: tuple[Convolution, Convolution]
    narrow: Convolution
    wide: Convolution

    def __init__(self, width: int, *, key: Array) -> None:
        one, other, narrow, wide = jax.random.split(key, 4)
        self.pair = _pair(width, one, other)
        self.narrow = Convolution(width, width // 4, 1, key=narrow)
        self.wide = Convolution(width // 4, width, 1, key=wide)

    def __call__(self, x: Float[Array, "y x c"]) -> Float[Array, "y x c"]:
        """Apply the block."""
        one, other = self.pair
        change = other(jax.nn.relu(one(x)))
        means = jnp.mean(change, axis=(0, 1), keepdims=True)
        return x + change * jax.nn.sigmoid(self.wide(jax.nn.relu(self.narrow(means))))


def _pair(width: int, one: Array, other: Array) -> tuple[Convolution, Convolution]:
    return Convolution(width, width, 3, key=one), Convolution(width, width, 3, key=other)


def _silent(last: Convolution) -> Convolution:
    return jax.tree.map(jnp.zeros_like, last)
