"""The forward model of an imaging system: what every measurement of an acquisition shows of a scene."""

from __future__ import annotations

import abc
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nstm.systems.base import Field


class ForwardModel(eqx.Module):
    """Predicts the measurements of one acquisition from the scene at the times that each of them needs.

    A measurement is what one exposure records (a frame; for a rolling shutter a block of rows). The scene
    lives on its own grid, which may be finer and larger than the camera's.
    """

    scene_shape: tuple[int, int, int, int] = eqx.field(static=True)  # (channel, z, y, x), padding included
    #: First sample and number of samples of the camera's field on the scene's grid, along z, y and x.
    output_field: Field = eqx.field(static=True)
    times: Float[Array, "m k"]  # scene times that each measurement needs, s from the first frame

    nonnegative: ClassVar[bool] = True  # a density is never below zero; a phase may be

    @abc.abstractmethod
    def render(self, scenes: Float[Array, "n k c z y x"], which: Int[Array, "n"]) -> Float[Array, "n z v u"]:
        """The measurements ``which`` from the scene at their ``times``; differentiable, pure, no host round trip."""

    def offsets(self) -> dict[str, Array]:
        """Small corrections of the calibration that a fit may refine, all zero; default: the gain of every measurement.

        ``intensity (m,)`` is known to every model whose measurements are proportional to the light: what bleaching or
        a lamp adds to it, as a share. A model that leaves it out has no gains.
        """
        return {"intensity": jnp.zeros(len(self.times))}

    def light(self, offsets: dict[str, Array]) -> dict[str, Array]:
        """What ``offsets`` make of the light, worked out once for all measurements; default: the offsets themselves."""
        return offsets

    def corrected(self, light: dict[str, Array]) -> ForwardModel:
        """The model under that :meth:`light`, gains aside; default: itself."""
        return self

    def seen(
        self, scenes: Float[Array, "n k c z y x"], which: Int[Array, "n"], light: dict[str, Array]
    ) -> Float[Array, "n z v u"]:
        """:meth:`render` under that :meth:`light`; the mean gain is 1, so that the scene keeps its scale."""
        images = self.corrected(light).render(scenes, which)
        if "intensity" not in light:
            return images
        gain = 1 + light["intensity"]
        return images * (gain[which] / jnp.mean(gain))[:, None, None, None]

    @property
    def joins_late(self) -> bool:
        """Some channels may join a fit later than the others (:meth:`joined`); default: none."""
        return False

    def joined(self, share: Array) -> ForwardModel:
        """The model in which what :attr:`joins_late` counts by ``share``, itself at 1; default: itself."""
        return self

    def scene_noise(self) -> Float[Array, "m"] | None:
        """Noise variance of a pixel of the scene per that of a measurement's pixel, for what each measurement tells.

        For instruments that spread every place of the scene over all pixels: those do not tell where a motion was
        seen. ``None`` (default): a pixel of a measurement sees its own place of the scene.
        """
        return None

    def in_units(self, scene: Float[Array, "*n c z y x"]) -> Float[Array, "*n c z y x"]:
        """A scene in the units of the results; default: those that it is fitted in."""
        return scene

    def in_field(self, images: Float[Array, "... y x"]) -> Float[Array, "... v u"]:
        """What lies in the camera's field, of images on the scene's grid."""
        _, (y, rows), (x, columns) = self.output_field
        return images[..., y : y + rows, x : x + columns]

    def output(self, scene: Float[Array, "c z y x"]) -> Float[Array, "c z y x"]:
        """A scene as it is stored: padding cut off; a system also limits it to the support that it transfers."""
        first, planes = self.output_field[0]
        return self.in_field(scene[:, first : first + planes])
