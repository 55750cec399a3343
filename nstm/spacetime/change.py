"""Slow change of the brightness of structure: what appears, fades or switches while it is recorded.

At the time ``tau`` in [0, 1] of an acquisition the scene is ``c(r) exp(sum_b P_b(2 tau - 1) g_b(r))``: ``c`` the
canonical scene, ``P_b`` the Legendre polynomials from the first on, ``g_b`` sums of coarse grids that move along.
The mean of each polynomial is 0, so ``c`` is the geometric mean of the brightness in time.
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import legendre

from nstm.spacetime.multigrid import geometric, sides
from nstm.spacetime.representation import windows
from nstm.spacetime.resampling import interpolation, spread
from nstm.spacetime.warp import warp

#: Adam rate of the logarithms.
RATE = 0.1
#: Pixels between the nodes of the finest grid, and of the coarsest.
_FINEST_PX, _COARSEST_PX, _LEVELS = 4, 32, 4
#: Weight of the prior: less costs a sample that stays as bright up to 2 dB, more misses what changes; measured.
_WEIGHT = 3.0
#: Square of a logarithm that counts as none.
_NONE = 1e-5


class Change(eqx.Module):
    """The logarithm of the brightness on grids over ``space``, one for each of ``terms`` functions of time."""

    levels: list[tuple[Float[Array, "points nodes"], ...]]  # of each level onto the finest nodes, along each axis
    matrices: tuple[Float[Array, "points nodes"], ...]  # of the finest nodes onto the pixels
    shapes: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    places: tuple[tuple[int, ...], ...] = eqx.field(static=True)  # of the finest nodes along each axis, pixels
    terms: int = eqx.field(static=True)

    def __init__(self, space: Sequence[int], terms: int) -> None:
        cells = geometric(max(space) / _COARSEST_PX, max(space) / _FINEST_PX, _LEVELS)
        nodes = [tuple(n + 1 for n in sides(c, tuple(space))) for c in cells]
        self.shapes, self.terms = tuple((terms, *of_level) for of_level in nodes), terms
        self.levels = [_onto(of_level, nodes[-1]) for of_level in nodes]
        self.matrices = _onto(nodes[-1], space)
        along = [np.rint(np.linspace(0, points - 1, n)) for n, points in zip(nodes[-1], space, strict=True)]
        self.places = tuple(tuple(places.astype(int).tolist()) for places in along)

    def initial(self) -> dict[str, list[Array]]:
        """Coefficients of a brightness that does not change; none where it cannot."""
        return {"levels": [jnp.zeros(shape, jnp.float32) for shape in self.shapes]} if self.terms else {}

    def in_time(self, tau: np.ndarray) -> Float[Array, "t b"]:
        """The polynomials at the times ``tau`` in [0, 1]."""
        return jnp.asarray(legendre.legvander(2 * np.asarray(tau, float) - 1, self.terms)[:, 1:], jnp.float32)

    def grids(self, coefficients: dict[str, list[Array]], alpha: Array) -> Float[Array, "b *nodes"]:
        """The sum of all levels on the nodes of the finest."""
        total = jnp.zeros(self.shapes[-1])
        if self.terms:
            for weight, c, onto in zip(windows(alpha, _LEVELS), coefficients["levels"], self.levels, strict=True):
                total += spread(weight * c, onto)
        return total

    def seen(
        self,
        moved: Float[Array, "t c *space"],
        grids: Float[Array, "b *nodes"],
        displacement: Float[Array, "t d *space"],
        in_time: Float[Array, "t b"],
    ) -> Float[Array, "t c *space"]:
        """A scene that was ``moved`` by ``displacement`` (pixels), as bright as it is at the times of ``in_time``.

        The grids are moved like a scene: by :func:`~nstm.spacetime.warp.warp`, in a volume cubically along z.
        """
        pitch = jnp.array([places[-1] / (len(places) - 1) for places in self.places], jnp.float32)
        for axis, places in enumerate(self.places, start=2):
            displacement = jnp.take(displacement, np.array(places), axis=axis)
        logarithms = warp(grids, displacement / pitch.reshape(-1, *[1] * len(pitch)))
        change = jnp.einsum("tb...,tb->t...", logarithms, in_time)
        return moved * jnp.exp(spread(change, self.matrices))[:, None]

    def surprise(self, grids: Float[Array, "b *nodes"]) -> Float[Array, ""]:
        """What is known before: most places do not change. Each number has a variance of its own, found with it."""
        return _WEIGHT * jnp.sum(jnp.log(grids**2 + _NONE))


def _onto(nodes: Sequence[int], points: Sequence[int]) -> tuple[Float[Array, "points nodes"], ...]:
    """Matrices that interpolate grids of ``nodes`` to ``points`` along each axis."""
    pairs = zip(nodes, points, strict=True)
    return tuple(jnp.asarray(interpolation(n, np.linspace(0, 1, count))) for n, count in pairs)
