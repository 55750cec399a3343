"""How frames see the scene: rendered once and warped, asked at every pixel of every frame, or at rest.

A rendering works in two parts, so that a step can go through its frames group by group: what all frames share, and
the scene as some of them see it together with the way back of its gradient.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nstm.spacetime.representation import Coefficients, ContinuousScene, Scene
from nstm.spacetime.warp import gather, pack, scatter, unpack

#: Displacement of every pixel from that of the nodes.
Spread = Callable[[Array], Array]
#: Takes the total so far and the gradient of the moved scene; gives the new total and the gradient of the nodes.
Back = Callable[[Any, Array], tuple[Any, Array]]


class Rendering(eqx.Module):
    """How frames see a scene that moves."""

    @abc.abstractmethod
    def shared(
        self, scene: Scene, coefficients: Coefficients, alpha: Array, space: tuple[int, ...]
    ) -> tuple[Any, Float[Array, "c *space"] | None]:
        """What all frames share, and the canonical scene where it is rendered; differentiable."""

    @abc.abstractmethod
    def moved(
        self, scene: Scene, spread: Spread, shared: Any, nodes: Float[Array, "n d *nodes"]
    ) -> tuple[Float[Array, "n c *space"], Back]:
        """The scene under some displacements, and what adds its gradient to that of ``shared``."""


class Once(Rendering):
    """The canonical scene is rendered once and warped to every frame (:mod:`nstm.spacetime.warp`)."""

    def shared(
        self, scene: Scene, coefficients: Coefficients, alpha: Array, space: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """The canonical scene, the corners of its cells side by side."""
        canonical = scene.render(coefficients, alpha)
        canonical = canonical.reshape(len(canonical), *space)
        return _packed(canonical, space), canonical

    def moved(
        self, scene: Scene, spread: Spread, shared: Array, nodes: Float[Array, "n d *nodes"]
    ) -> tuple[Float[Array, "n c *space"], Back]:
        """The warped scene."""
        displacement, to_nodes = jax.vjp(spread, nodes)
        moved, place = gather(shared, displacement)

        def back(total: Array, g: Array) -> tuple[Array, Array]:
            total, g_displacement = scatter(total, place, g)
            return total, to_nodes(g_displacement)[0]

        return moved, back


class PerPixel(Rendering):
    """The scene is asked at the place that each pixel of each frame comes from (Cao et al., Nature Methods 2024)."""

    def shared(
        self, scene: Scene, coefficients: Coefficients, alpha: Array, space: tuple[int, ...]
    ) -> tuple[Any, None]:
        """The coefficients, prepared for many places."""
        return _continuous(scene).opened(coefficients, alpha), None

    def moved(
        self, scene: Scene, spread: Spread, shared: Any, nodes: Float[Array, "n d *nodes"]
    ) -> tuple[Float[Array, "n c *space"], Back]:
        """The scene at the displaced places."""
        moved, pull_back = jax.vjp(lambda s, n: _continuous(scene).at(s, spread(n)), shared, nodes)

        def back(total: Any, g: Array) -> tuple[Any, Array]:
            g_shared, g_nodes = pull_back(g)
            return jax.tree.map(jnp.add, total, g_shared), g_nodes

        return moved, back


class Still(Rendering):
    """A sample at rest: the canonical scene is what every frame sees."""

    def shared(
        self, scene: Scene, coefficients: Coefficients, alpha: Array, space: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """The canonical scene."""
        canonical = scene.render(coefficients, alpha)
        canonical = canonical.reshape(len(canonical), *space)
        return canonical, canonical

    def moved(
        self, scene: Scene, spread: Spread, shared: Array, nodes: Float[Array, "n d *nodes"]
    ) -> tuple[Float[Array, "n c *space"], Back]:
        """The canonical scene again and again."""
        still = jnp.broadcast_to(shared, (len(nodes), *shared.shape))
        return still, lambda total, g: (total + jnp.sum(g, 0), jnp.zeros_like(nodes))


def _continuous(scene: Scene) -> ContinuousScene:
    if not isinstance(scene, ContinuousScene):
        raise TypeError(f"{type(scene).__name__} has values on the pixels only and cannot be rendered per pixel")
    return scene


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _packed(canonical: Float[Array, "c *space"], space: tuple[int, ...]) -> Array:
    return pack(canonical)


def _packed_forward(canonical: Array, space: tuple[int, ...]) -> tuple[Array, None]:
    return pack(canonical), None


def _packed_backward(space: tuple[int, ...], _: None, g: Array) -> tuple[Array]:
    return (unpack(g, space),)


_packed.defvjp(_packed_forward, _packed_backward)
