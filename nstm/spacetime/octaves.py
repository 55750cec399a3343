"""How rough a motion is at every scale: a mean squared gradient for each octave of wavelengths.

The values on a lattice, less the straight lines of the field as a whole, are sums of cosines ``cos(pi i (n + .5) / N)``
along each axis (DCT-II, orthonormal, so that squares add up to squares), of wavelengths from twice the field to twice
the distance of the nodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.fft import dct

from nstm.spacetime.resampling import spread


class Octaves(eqx.Module):
    """Octaves of a lattice of ``nodes``, ``pitches`` pixels apart.

    ``shares`` are those of the numbers of a lattice that belong to each octave, longest waves first.
    """

    cosines: tuple[Float[Array, "nodes nodes"], ...]  # along each axis
    squares: Float[Array, "b *nodes"]  # of the wavenumbers (rad/px), over the count of an octave
    places: tuple[Float[Array, "nodes"], ...]  # of the nodes along each axis, pixels from the middle
    shares: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, nodes: Sequence[int], pitches: Sequence[float]) -> None:
        self.cosines = tuple(jnp.asarray(dct(np.eye(n), axis=0, norm="ortho"), float) for n in nodes)
        self.places = tuple(
            jnp.asarray((np.arange(n) - (n - 1) / 2) * p, float) for n, p in zip(nodes, pitches, strict=True)
        )
        axes = [np.pi * np.arange(n) / (n * p) for n, p in zip(nodes, pitches, strict=True)]
        squared = sum(k**2 for k in np.meshgrid(*axes, indexing="ij", sparse=True))
        longest = np.pi / max(n * p for n, p in zip(nodes, pitches, strict=True))
        octave = np.floor(np.log2(np.maximum(np.sqrt(squared) / longest, 0.5)) + 1e-6)  # -1: the mean
        members = np.stack([octave == o for o in np.unique(octave)[1:]]).astype(float)
        count = members.sum(axis=tuple(range(1, members.ndim)))
        self.squares = jnp.asarray(squared * members / count.reshape(-1, *[1] * len(nodes)), float)
        self.shares = tuple((count / count.sum()).tolist())

    def mean_squared_gradients(self, values: Float[Array, "... *nodes"]) -> Float[Array, "b+1"]:
        """Of every octave, then of the field as a whole: what turns, stretches and shears; per pixel of distance."""
        field = tuple(range(-len(self.places), 0))
        values = values - jnp.mean(values, axis=field, keepdims=True)
        whole = jnp.zeros((), values.dtype)
        for axis, place in zip(field, self.places, strict=True):
            if len(place) > 1:
                along = place.reshape(-1, *[1] * (-axis - 1))
                slope = jnp.mean(values * along, axis=field, keepdims=True) / jnp.mean(place**2)
                values, whole = values - slope * along, whole + jnp.mean(slope**2)
        power = jnp.mean(spread(values, self.cosines) ** 2, axis=tuple(range(values.ndim + field[0])))
        return jnp.append(jnp.sum(self.squares * power, axis=field), whole)
