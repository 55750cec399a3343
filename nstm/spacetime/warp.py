"""Backward warp by linear interpolation in two or three dimensions, with a derivative that is fast everywhere.

The corners of every cell are packed side by side, so that a pixel is one gather of its neighbours and its derivative
one scatter: several times faster than gathers and scatters of scalars. An image is packed once and seen at many times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Place(NamedTuple):
    """Where every pixel of a moved image comes from, and how it changes with the displacement."""

    corner: Int[Array, "m *space"]  # first corner of the cell, flat
    fractions: tuple[Array, ...]  # place within the cell along each axis
    slopes: tuple[Array, ...]  # change per pixel of displacement along each axis, (m, *space, c)


def pack(image: Float[Array, "c *space"]) -> Float[Array, "pixels corners c"]:
    """The corners of the cell of every pixel side by side; the last axis varies fastest among the corners."""
    corners = [image]
    for axis in range(1, image.ndim):
        corners = [moved for c in corners for moved in (c, jnp.roll(c, -1, axis))]
    together = jnp.moveaxis(jnp.stack(corners), (0, 1), (-2, -1))
    return together.reshape(-1, len(corners), image.shape[0])


def unpack(corners: Float[Array, "pixels corners c"], shape: Sequence[int]) -> Float[Array, "c *space"]:
    """The adjoint of :func:`pack`."""
    parts = list(jnp.moveaxis(corners.reshape(*shape, *corners.shape[1:]), (-2, -1), (0, 1)))
    for axis in range(len(shape), 0, -1):
        parts = [a + jnp.roll(b, 1, axis) for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def gather(
    packed: Float[Array, "pixels corners c"], displacement: Float[Array, "m d *space"]
) -> tuple[Float[Array, "m c *space"], Place]:
    """The packed image at ``r + displacement(r)``, for each of ``m`` displacements in pixels.

    Points that leave the field take its edge.
    """
    shape = displacement.shape[2:]
    corner, fractions = _cells(displacement, shape)
    values = packed.at[corner].get(mode="promise_in_bounds")  # m *space corners c
    weights = tuple(f[..., None] for f in fractions)
    slopes = tuple(_slope(values, weights, axis) for axis in range(len(shape)))
    corners = [values[..., i, :] for i in range(values.shape[-2])]
    return jnp.moveaxis(_blend(corners, weights), -1, 1), Place(corner, fractions, slopes)


def scatter(
    total: Float[Array, "pixels corners c"], place: Place, g: Float[Array, "m c *space"]
) -> tuple[Float[Array, "pixels corners c"], Float[Array, "m d *space"]]:
    """The adjoint of :func:`gather`: ``total`` with what ``g`` means for the packed image, and for the displacement."""
    g = jnp.moveaxis(g, 1, -1)
    parts = [g]
    for fraction in place.fractions:
        f = fraction[..., None]
        parts = [share for part in parts for share in (part * (1 - f), part * f)]
    corners = jnp.stack(parts, axis=-2)
    flat = corners.reshape(-1, *corners.shape[-2:])
    total = total.at[place.corner.reshape(-1)].add(flat, mode="promise_in_bounds")
    return total, jnp.stack([(g * slope).sum(-1) for slope in place.slopes], axis=1)


@jax.custom_vjp
def warp(image: Float[Array, "c *space"], displacement: Float[Array, "m d *space"]) -> Float[Array, "m c *space"]:
    """``out[m](r) = image(r + displacement[m](r))`` with linear interpolation (a backward warp).

    Args:
        image: one image (y, x) or volume (z, y, x) per channel.
        displacement: pixels, in the order of the axes, for each of ``m`` times. Points that leave the field take its
            edge.

    Returns:
        The image at each time.
    """
    return gather(pack(image), displacement)[0]


def _forward(image: Array, displacement: Array) -> tuple[Array, Place]:
    return gather(pack(image), displacement)


def _backward(place: Place, g: Array) -> tuple[Array, Array]:
    shape, channels = g.shape[2:], g.shape[1]
    total, toward_displacement = scatter(jnp.zeros((math.prod(shape), 2 ** len(shape), channels), g.dtype), place, g)
    return unpack(total, shape), toward_displacement


warp.defvjp(_forward, _backward)


def _cells(displacement: Array, shape: Sequence[int]) -> tuple[Array, tuple[Array, ...]]:
    """Flat index of the first corner and the fractions along each axis; points outside are held at the edge."""
    corner, fractions = jnp.zeros((), jnp.int32), []
    for axis, n in enumerate(shape):
        here = jnp.arange(n, dtype=displacement.dtype).reshape(-1, *[1] * (len(shape) - axis - 1))
        place = jnp.clip(here + displacement[:, axis], 0, n - 1)
        first = jnp.minimum(jnp.floor(place), max(n - 2, 0))
        corner = corner * n + first.astype(jnp.int32)
        fractions.append(place - first)
    return corner, tuple(fractions)


def _blend(corners: list[Array], weights: Sequence[Array]) -> Array:
    """Linear interpolation of the corners of cells; the first axis is the slowest."""
    for f in weights:
        half = len(corners) // 2
        corners = [a + (b - a) * f for a, b in zip(corners[:half], corners[half:], strict=True)]
    return corners[0]


def _slope(values: Array, weights: Sequence[Array], axis: int) -> Array:
    """Derivative of the interpolation along ``axis``."""
    step = 2 ** (len(weights) - axis - 1)
    low = [i for i in range(values.shape[-2]) if not i // step % 2]
    differences = [values[..., i + step, :] - values[..., i, :] for i in low]
    return _blend(differences, [f for a, f in enumerate(weights) if a != axis])
