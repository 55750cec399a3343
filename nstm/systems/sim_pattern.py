"""The pattern of SIM frames: a few numbers per frame, refined together with the scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Pattern(eqx.Module):
    """``1 + sum_o m_o cos(o (2 pi k.r + phase))`` times the brightness of each frame.

    It is built on the fly, so that its numbers can be refined together with the scene. Its vectors turn about the
    centre of the field: there they do not change phases.
    """

    vectors: Float[Array, "angle 2"]  # order 1, cycles/um, (ky, kx)
    phases: Float[Array, "m"]  # of order 1 at the centre of the field, rad
    modulation: Float[Array, "angle order"]
    intensity: Float[Array, "m"]
    y: Float[Array, "y"]  # um from the centre of the field
    x: Float[Array, "x"]

    def __init__(self, calibration: Mapping[str, Any], y: np.ndarray, x: np.ndarray, centre: np.ndarray) -> None:
        """Bind a calibration to the places ``y``, ``x`` (um from the first pixel) of the scene.

        ``centre`` (2,), um, is where the phases are kept; those of the calibration are at the first pixel.
        """
        k = np.asarray(calibration["pattern_vectors"])
        phases = np.asarray(calibration["phases"])
        centred = np.angle(np.exp(1j * (phases + 2 * np.pi * (k @ centre)[:, None])))
        self.vectors = jnp.asarray(k, jnp.float32)
        self.phases = jnp.asarray(centred.ravel(), jnp.float32)
        self.modulation = jnp.asarray(calibration["modulation"], jnp.float32)
        self.intensity = jnp.asarray(calibration.get("intensity", np.ones_like(phases)), jnp.float32).ravel()
        self.y = jnp.asarray(y - centre[0], jnp.float32)
        self.x = jnp.asarray(x - centre[1], jnp.float32)

    @property
    def orders(self) -> range:
        """0, 1 and, with three beams, 2."""
        return range(self.modulation.shape[1] + 1)

    def of(self, which: Int[Array, "n"], orders: Sequence[int] | None = None) -> Float[Array, "n y x"]:
        """The pattern of the frames ``which``, or the sum of some of its ``orders``.

        A cosine of a plane wave has rank 2, so the pattern is a product of two thin matrices, and so are its
        derivatives.
        """
        angle = which // (len(self.phases) // len(self.vectors))
        k = 2 * jnp.pi * self.vectors[angle]
        along_y = k[:, :1] * self.y + self.phases[which, None]
        along_x = k[:, 1:] * self.x
        rows, columns = [], []
        for order in self.orders if orders is None else orders:
            if order == 0:
                rows.append(jnp.ones_like(along_y))
                columns.append(jnp.ones_like(along_x))
                continue
            m = self.modulation[angle][:, order - 1, None]
            rows += [m * jnp.cos(order * along_y), -m * jnp.sin(order * along_y)]
            columns += [jnp.cos(order * along_x), jnp.sin(order * along_x)]
        intensity = self.intensity[which, None, None]
        return jnp.einsum("nry,nrx->nyx", intensity * jnp.stack(rows, 1), jnp.stack(columns, 1))

    def offsets(self) -> dict[str, Array]:
        """Corrections to phases (rad), vectors (rad at the edge of the field) and modulation; all zero."""
        names = ("vectors", "phases", "modulation")
        return {name: jnp.zeros_like(getattr(self, name)) for name in names}

    def corrected(self, offsets: dict[str, Array]) -> Pattern:
        """The pattern with ``offsets`` added."""
        edge = jnp.pi * jnp.array([self.y[-1] - self.y[0], self.x[-1] - self.x[0]])
        changed = (
            self.vectors + offsets["vectors"] / edge,
            self.phases + offsets["phases"],
            self.modulation + offsets["modulation"],
        )
        return eqx.tree_at(lambda p: (p.vectors, p.phases, p.modulation), self, changed)
