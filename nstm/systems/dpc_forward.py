"""The forward model of DPC."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nstm.systems.forward import ForwardModel


class DpcForward(ForwardModel):
    """``image = crop F^-1{ A F{absorption} + i B F{phase} }``, intensity over background minus 1.

    The channels of the scene are in ``units``: :data:`nstm.systems.dpc.ABSORPTION_UNIT` and rad.
    """

    nonnegative: ClassVar[bool] = False

    transfer: Float[Array, "m c v h"]  # of the scene to each image; that of the phase, the last, is multiplied by i
    units: Float[Array, "c"]
    support: Float[Array, "c v h"]

    def render(self, scenes: Float[Array, "n 1 c 1 y x"], which: Int[Array, "n"]) -> Float[Array, "n 1 v u"]:
        """Images of the sources ``which`` from the sample at the time of each."""
        spectra = jnp.fft.rfft2(scenes[:, 0, :, 0]) * self.transfer[which]
        spectrum = 1j * spectra[:, -1] + jnp.sum(spectra[:, :-1], axis=1)
        images = jnp.fft.irfft2(spectrum, s=self.scene_shape[-2:])
        return self.in_field(images)[:, None]

    def offsets(self) -> dict[str, Array]:
        """None: a little light more or less looks like a phase that rises across the field, so gains are not fitted."""
        return {}

    @property
    def joins_late(self) -> bool:
        """Whether the sample absorbs: what moves between two opposite sources looks like absorption."""
        return self.transfer.shape[1] > 1

    def joined(self, share: Array) -> DpcForward:
        """The model with that ``share`` of the absorption."""
        by_channel = jnp.ones(len(self.units)).at[:-1].set(share)
        return replace(self, transfer=self.transfer * by_channel[:, None, None])

    def output(self, scene: Float[Array, "c 1 y x"]) -> Float[Array, "c 1 y x"]:
        """The field of the camera, limited to the frequencies that some source transfers; the phase has no mean."""
        limited = jnp.fft.irfft2(jnp.fft.rfft2(scene) * self.support[:, None], s=self.scene_shape[-2:])
        return self.in_field(self.in_units(limited))

    def in_units(self, scene: Float[Array, "*n c 1 y x"]) -> Float[Array, "*n c 1 y x"]:
        """Absorption in units of 1, phase in rad."""
        return scene * self.units[:, None, None, None]
