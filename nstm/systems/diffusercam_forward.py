"""The forward model of a lensless camera with a rolling shutter, block of rows by block of rows."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nstm.optics.lensless import Diffuser
from nstm.systems.forward import ForwardModel


class DiffuserForward(ForwardModel):
    """``y(r, c) = sum_t S_t(r) (h * x_t)(r, c)`` for blocks of rows ``r``; only a block's own layers are rendered.

    The scene is in units of :attr:`unit`, such that an even one of 1 gives the brightest pixel 1. Planes of the
    measurements are colours.
    """

    diffuser: Diffuser
    share: Float[Array, "m lines k"]  # of the exposure of each line that falls into each layer
    row: Int[Array, "m v"]
    present: Float[Array, "m v"]  # 0 where the last block has no row
    unit: Float[Array, ""]
    spread: Float[Array, "m"]

    def render(self, scenes: Float[Array, "n k c 1 y x"], which: Int[Array, "n"]) -> Float[Array, "n c v u"]:
        """Blocks of rows from the scene in the layers that expose them."""
        blocks = [
            self.diffuser.rows(layers[:, :, 0] * self.unit, self.share[i], self.row[i]) * self.present[i][:, None]
            for layers, i in zip(scenes, which, strict=True)
        ]
        return jnp.stack(blocks)

    def offsets(self) -> dict[str, Array]:
        """None: the light does not change from row to row of one frame."""
        return {}

    def scene_noise(self) -> Float[Array, "m"]:
        """By the light of a place that falls on the rows of each block."""
        return self.spread

    def in_units(self, scene: Float[Array, "*n c 1 y x"]) -> Float[Array, "*n c 1 y x"]:
        """All light of a place, in counts."""
        return scene * self.unit

    def output(self, scene: Float[Array, "c 1 y x"]) -> Float[Array, "c 1 y x"]:
        """The scene without its padding."""
        return self.in_field(self.in_units(scene))
