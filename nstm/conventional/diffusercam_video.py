"""A frame of a rolling-shutter lensless camera as a video: FISTA with anisotropic total variation in space and time.

``min_x ||A x - y||^2 / 2 + tau TV(x)``, ``x >= 0`` (Antipa et al., ICCP 2019). ``A`` is applied block by block of rows,
so that beside the video itself the memory is that of one block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nstm.conventional.diffusercam import soft
from nstm.optics.lensless import Diffuser
from nstm.optics.rolling_shutter import Blocks

#: Share of the inverse Lipschitz constant that a step takes: power iteration finds it from below.
_SAFE = 0.95
#: Rounds of the exact proximal operator; it goes on from the last one's dual.
_INNER = 10


class Prior(NamedTuple):
    """Weight of the total variation, and how much more that along time counts."""

    weight: float
    time: float = 1.0


class Camera(eqx.Module):
    """The linear map ``A`` from a video ``(layers, c, y, x)`` to the blocks ``(blocks, c, v, u)`` of a frame."""

    diffuser: Diffuser
    share: Float[Array, "blocks lines k"]
    row: Int[Array, "blocks v"]
    present: Float[Array, "blocks v"]
    first: Int[Array, "blocks"]
    layers: int = eqx.field(static=True)

    def __init__(self, diffuser: Diffuser, blocks: Blocks, layers: int) -> None:
        self.diffuser, self.layers = diffuser, layers
        self.share, self.row = jnp.asarray(blocks.share, jnp.float32), jnp.asarray(blocks.row)
        self.present = jnp.asarray(blocks.present, jnp.float32)
        self.first = jnp.asarray(blocks.layer[:, 0])

    def block(self, layers: Float[Array, "k c y x"], which: Int[Array, ""]) -> Float[Array, "c v u"]:
        """The block ``which`` from the layers that expose it."""
        seen = self.diffuser.rows(layers, self.share[which], self.row[which])
        return seen * self.present[which][:, None]

    def part(self, video: Array, which: Int[Array, ""]) -> Array:
        """The layers that expose a block."""
        return jax.lax.dynamic_slice_in_dim(video, self.first[which], self.share.shape[-1])

    @eqx.filter_jit
    def forward(self, video: Float[Array, "t c y x"]) -> Float[Array, "blocks c v u"]:
        """``A x``."""
        return jax.lax.map(lambda b: self.block(self.part(video, b), b), jnp.arange(len(self.first)))

    @eqx.filter_jit
    def adjoint(self, blocks: Float[Array, "blocks c v u"]) -> Float[Array, "t c y x"]:
        """``A^T y``."""
        return self._back(lambda part, b: blocks[b], (self.layers, blocks.shape[1], *self.diffuser.scene_shape))[0]

    def slope(self, video: Float[Array, "t c y x"], data: Float[Array, "blocks c v u"]) -> tuple[Array, Array]:
        """``A^T (A x - y)`` and ``||A x - y||^2``, one block in memory at a time."""

        def residual(part: Array, b: Array) -> Array:
            return self.block(part, b) - data[b]

        return self._back(residual, video.shape, video)

    def _back(
        self, values: Callable[[Array, Array], Array], shape: tuple[int, ...], video: Array | None = None
    ) -> tuple[Array, Array]:
        k = self.share.shape[-1]
        zero = jnp.zeros((k, *shape[1:]), jnp.float32)

        def body(totals: tuple[Array, Array], b: Array) -> tuple[tuple[Array, Array], None]:
            total, squares = totals
            part = zero if video is None else self.part(video, b)
            _, back = jax.vjp(lambda layers: self.block(layers, b), zero)
            of_block = values(part, b)
            added = self.part(total, b) + back(of_block)[0]
            total = jax.lax.dynamic_update_slice_in_dim(total, added, self.first[b], 0)
            return (total, squares + jnp.sum(of_block**2)), None

        start = (jnp.zeros(shape, jnp.float32), jnp.float32(0))
        return jax.lax.scan(body, start, jnp.arange(len(self.first)))[0]


@eqx.filter_jit
def lipschitz(camera: Camera, colours: int, iterations: int = 30) -> Float[Array, ""]:
    """Largest eigenvalue of ``A^T A`` by power iteration."""
    shape = (camera.layers, colours, *camera.diffuser.scene_shape)
    data = jnp.zeros((len(camera.first), colours, camera.row.shape[1], camera.diffuser.sensor_shape[1]))

    def body(_: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        video, _ = state
        after = camera.slope(video, data)[0]
        size = jnp.linalg.norm(after)
        return after / size, size

    start = jnp.ones(shape, jnp.float32)
    return jax.lax.fori_loop(0, iterations, body, (start / jnp.linalg.norm(start), jnp.float32(1)))[1]


def haar(video: Float[Array, "t c y x"], prior: Prior) -> Float[Array, "t c y x"]:
    """Approximate proximal operator of the total variation: parallel single-level Haar shrinkage (Kamilov 2012).

    Along every axis, for both ways to pair neighbours, their difference is shrunk; the six results are averaged. What
    has no partner at an end stays.
    """
    axes = {0: prior.time, -2: 1.0, -1: 1.0}
    total = jnp.zeros_like(video)
    for axis, weight in axes.items():
        threshold = 2 * np.sqrt(2) * len(axes) * prior.weight * weight
        for shift in (0, 1):
            total += _shrunk_pairs(video, axis, shift, threshold)
    return total / (2 * len(axes))


def _shrunk_pairs(video: Array, axis: int, shift: int, threshold: Array) -> Array:
    moved = jnp.moveaxis(video, axis, 0)
    end = shift + (len(moved) - shift) // 2 * 2
    first, second = moved[shift:end:2], moved[shift + 1 : end : 2]
    mean, half = (first + second) / 2, (second - first) / 2
    half = soft(half, threshold / np.sqrt(2))  # the detail is sqrt(2) times the half difference
    pairs = jnp.stack([mean - half, mean + half], axis=1).reshape(end - shift, *moved.shape[1:])
    return jnp.moveaxis(jnp.concatenate([moved[:shift], pairs, moved[end:]]), 0, axis)


Dual = tuple[Array, ...]  # along time, y and x


def exact(video: Array, prior: Prior, dual: Dual, rounds: int = _INNER) -> tuple[Array, Dual]:
    """Proximal operator of total variation and ``x >= 0``, by its dual (Beck and Teboulle 2009).

    Args:
        video: ``(t, c, y, x)``.
        prior: its weight.
        dual: to begin with, along time, y and x.
        rounds: of the fast dual projection.
    """
    axes = (0, -2, -1)
    limits = (prior.weight * prior.time, prior.weight, prior.weight)

    def primal(p: Dual) -> Array:
        total = video
        for q, axis in zip(p, axes, strict=True):
            total = total - _adjoint_difference(q, axis)
        return jnp.maximum(total, 0)

    def body(_: Array, state: tuple[Dual, Dual, Array]) -> tuple[Dual, Dual, Array]:
        p, q, t = state
        image = primal(q)
        after: Dual = tuple(
            jnp.clip(d + jnp.diff(image, axis=axis) / 12, -limit, limit)
            for d, axis, limit in zip(q, axes, limits, strict=True)
        )
        faster = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        onward: Dual = tuple(a + (t - 1) / faster * (a - b) for a, b in zip(after, p, strict=True))
        return after, onward, faster

    found, _, _ = jax.lax.fori_loop(0, rounds, body, (dual, dual, jnp.float32(1)))
    return primal(found), found


def _adjoint_difference(slopes: Array, axis: int) -> Array:
    pad = [(0, 0)] * slopes.ndim
    pad[axis % slopes.ndim] = (1, 1)
    return -jnp.diff(jnp.pad(slopes, pad), axis=axis)


def no_dual(shape: tuple[int, ...]) -> Dual:
    """What the exact operator begins with."""
    return tuple(
        jnp.zeros(tuple(n - (i == axis % len(shape)) for i, n in enumerate(shape)), jnp.float32) for axis in (0, -2, -1)
    )


def fista(
    camera: Camera,
    data: np.ndarray,
    prior: Prior,
    iterations: int,
    *,
    proximal: Literal["haar", "exact"] = "haar",
    start: np.ndarray | None = None,
    step: float | None = None,
) -> tuple[np.ndarray, float]:
    """The video behind a frame.

    Args:
        camera: ``A``.
        data: ``(blocks, c, v, u)``, counts.
        prior: of the video, in the units of the data.
        iterations: of FISTA; its momentum starts anew where it points uphill.
        proximal: ``haar``: half the sum of the positive part and of the Haar shrinkage, as the public program has it,
            and of that the positive part, so that no result is negative; ``exact``: of total variation and positivity
            together.
        start: video to start from; default zero.
        step: default from power iteration.

    Returns:
        the video ``(layers, c, y, x)`` and the mean square of what it leaves of the frame.
    """
    shape = (camera.layers, data.shape[1], *camera.diffuser.scene_shape)
    step = _SAFE / float(lipschitz(camera, data.shape[1])) if step is None else step
    video = jnp.zeros(shape, jnp.float32) if start is None else jnp.asarray(start, jnp.float32)
    scaled = Prior(jnp.float32(prior.weight * step), jnp.float32(prior.time))  # type: ignore[arg-type]  # numbers of the device
    found, squares = _iterate(
        camera, jnp.asarray(data, jnp.float32), scaled, video, jnp.float32(step), iterations, proximal
    )
    pixels = float(jnp.sum(camera.present)) * data.shape[1] * data.shape[-1]
    return np.asarray(found), float(squares) / pixels


@eqx.filter_jit
def _iterate(
    camera: Camera, data: Array, prior: Prior, start: Array, step: Array, iterations: int, proximal: str
) -> tuple[Array, Array]:
    def body(_: Array, state: tuple) -> tuple:
        x, v, t, dual, _ = state
        slope, squares = camera.slope(v, data)
        z = v - step * slope
        if proximal == "exact":
            after, dual = exact(z, prior, dual)
        else:
            after = jnp.maximum((jnp.maximum(z, 0) + haar(z, prior)) / 2, 0)
        uphill = jnp.sum((v - after) * (after - x)) > 0
        t = jnp.where(uphill, 1.0, t)
        faster = (1 + jnp.sqrt(1 + 4 * t**2)) / 2
        momentum = jnp.where(uphill, 0.0, (t - 1) / faster)
        return after, after + momentum * (after - x), faster, dual, squares

    dual = no_dual(start.shape) if proximal == "exact" else None
    state = (start, start, jnp.float32(1), dual, jnp.float32(0))
    found = jax.lax.fori_loop(0, iterations, body, state)
    return found[0], found[4]
