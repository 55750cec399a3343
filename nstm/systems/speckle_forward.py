"""The forward model of random light: every frame has a pattern of its own, found along with scene and motion."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from nstm.systems.forward import ForwardModel
from nstm.systems.sim_forward import crop_spectrum


class SpeckleForward(ForwardModel):
    """``frame_l = crop F^-1{ OTF F{ scene_l x I_l } }``, the sample where it is at that time, under unknown light.

    The light is the square of an amplitude, so it is not negative; the amplitude holds the frequencies of the
    illumination's band, and at every place the patterns of the frames that are used have the mean 1, which tells
    light from sample. The amplitudes are corrections that a fit refines from uniform light on (:meth:`offsets`).
    """

    patterns: Float[Array, "m y x"]  # the light of every frame, mean 1 over the used frames at every place
    used: Bool[Array, "m"]  # which frames are used
    band: Float[Array, "y f"]
    transfer: Float[Array, "v h"]
    support: Float[Array, "y f"]
    camera_shape: tuple[int, int] = eqx.field(static=True)
    camera_field: tuple[int, int, int, int] = eqx.field(static=True)  # first row and column, rows, columns

    def render(self, scenes: Float[Array, "n 1 1 1 y x"], which: Int[Array, "n"]) -> Float[Array, "n 1 v u"]:
        """Frames of the camera from the scene at their times."""
        spectrum = crop_spectrum(scenes[:, 0, 0, 0] * self.patterns[which], self.camera_shape)
        frames = jnp.fft.irfft2(spectrum * self.transfer, s=self.camera_shape)
        y, x, h, w = self.camera_field
        return frames[:, None, y : y + h, x : x + w]

    def offsets(self) -> dict[str, Array]:
        """The amplitudes, from 1 on; gains are part of them."""
        return {"amplitude": jnp.zeros_like(self.patterns)}

    def light(self, offsets: dict[str, Array]) -> dict[str, Array]:
        """The patterns, ``(m, y, x)``."""
        amplitude = jnp.fft.rfft2(1 + offsets["amplitude"]) * self.band
        patterns = jnp.fft.irfft2(amplitude, s=self.scene_shape[-2:]) ** 2
        return {"patterns": patterns / jnp.maximum(jnp.mean(patterns, axis=0, where=self.used[:, None, None]), 1e-6)}

    def corrected(self, light: dict[str, Array]) -> SpeckleForward:
        """The model under these patterns."""
        return eqx.tree_at(lambda m: m.patterns, self, light["patterns"])

    def output(self, scene: Float[Array, "1 1 y x"]) -> Float[Array, "1 1 y x"]:
        """The field of the camera, limited to the frequencies that the patterns bring into the objective's reach."""
        return super().output(jnp.fft.irfft2(jnp.fft.rfft2(scene) * self.support, s=self.scene_shape[-2:]))
