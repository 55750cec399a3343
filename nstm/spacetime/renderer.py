"""Frames from coefficients: the canonical scene rendered once, warped to every time, seen by the instrument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nstm.settings import Reconstruction
from nstm.spacetime.multigrid import MotionGrids, SceneGrids
from nstm.spacetime.warp import gather, pack, scatter, unpack, warp
from nstm.systems.base import ForwardModel

#: Coefficients of scene and motion by level, and corrections of the calibration by name.
Parameters = dict[str, Any]


class Renderer(eqx.Module):
    """Scene, motion and instrument of one acquisition.

    Measurements ``n`` see the scene at ``k`` times each; space is ``(y, x)`` of a single plane, else ``(z, y, x)``.
    """

    scene: SceneGrids
    motion: MotionGrids
    in_time: list[Array]
    model: ForwardModel
    moves: bool = eqx.field(static=True, default=True)

    @property
    def space(self) -> tuple[int, ...]:
        """Shape of what is warped."""
        _, planes, *plane = self.model.scene_shape
        return tuple(plane) if planes == 1 else (planes, *plane)

    def zeros(self) -> Parameters:
        """An empty scene at rest."""
        return {"scene": self.scene.zeros(), "motion": self.motion.zeros(), "illumination": self.model.offsets()}

    def unfolded(self, parameters: Parameters, alpha: Array) -> tuple[Array, Array]:
        """Canonical scene ``(c, *space)``, and displacement nodes ``(m, k, d, ...)`` of all measurements."""
        nodes = self.motion.nodes(parameters["motion"], self.in_time, alpha)
        canonical = self.scene.render(parameters["scene"], alpha)
        nodes = nodes.reshape(*self.model.times.shape, *nodes.shape[1:])
        return canonical.reshape(len(canonical), *self.space), nodes

    def unsteadiness(self, nodes: Float[Array, "m k d *nodes"]) -> Float[Array, ""]:
        """Mean squared change of velocity from one measurement to the next, (pixels per mean step) squared."""
        times = jnp.mean(self.model.times, axis=1)
        order = jnp.argsort(times)
        step = jnp.diff(times[order])
        mean = jnp.maximum(jnp.mean(step), 1e-9)
        wait = jnp.maximum(step / mean, 1e-3).reshape(-1, *[1] * (nodes.ndim - 1))
        velocity = jnp.diff(nodes[order], axis=0) / wait
        return jnp.mean(jnp.diff(velocity, axis=0) ** 2)

    def packed(self, canonical: Float[Array, "c *space"]) -> Array:
        """The canonical scene as :meth:`moved` takes it."""
        return pack(canonical) if self.moves else canonical

    def unpacked(self, packed: Array) -> Float[Array, "c *space"]:
        """The adjoint of :meth:`packed`."""
        return unpack(packed, self.space) if self.moves else packed

    def moved(
        self, packed: Array, nodes: Float[Array, "n k d *nodes"]
    ) -> tuple[Float[Array, "n k c *space"], Callable[[Array, Array], tuple[Array, Array]]]:
        """The scene at the times of some measurements, and what adds its gradient to that of the packed scene.

        The second takes the total so far and the gradient of the moved scene; it gives the new total and the gradient
        of ``nodes``.
        """
        n, k = nodes.shape[:2]
        if not self.moves:
            still = jnp.broadcast_to(packed, (n, k, *packed.shape))
            return still, lambda total, g: (total + jnp.sum(g, (0, 1)), jnp.zeros_like(nodes))
        flat = nodes.reshape(n * k, *nodes.shape[2:])
        displacement, to_nodes = jax.vjp(self.motion.spread, flat)
        moved, place = gather(packed, displacement)

        def back(total: Array, g: Array) -> tuple[Array, Array]:
            total, g_displacement = scatter(total, place, g.reshape(moved.shape))
            return total, to_nodes(g_displacement)[0].reshape(nodes.shape)

        return moved.reshape(n, k, *moved.shape[1:]), back

    def seen(
        self, moved: Float[Array, "n k c *space"], offsets: dict[str, Array], which: Int[Array, "n"]
    ) -> Float[Array, "n z v u"]:
        """The measurements ``which`` of the scene at their times."""
        volumes = moved.reshape(*moved.shape[:3], *self.model.scene_shape[1:])
        return self.model.corrected(offsets).render(volumes, which)

    def at(self, parameters: Parameters, displacement: Float[Array, "t d *space"]) -> Float[Array, "t c z y x"]:
        """The scene under the given displacements, every level open, as it is stored."""
        canonical = self.scene.render(parameters["scene"], jnp.float32(1))
        moved = warp(canonical.reshape(len(canonical), *self.space), displacement)
        return jnp.stack([self.model.output(m.reshape(self.model.scene_shape)) for m in moved])


def make_renderer(model: ForwardModel, settings: Reconstruction) -> Renderer:
    """The representation of ``settings`` in front of a forward model."""
    channels, *shape = model.scene_shape
    space = (shape[0], shape[1], shape[2])
    grids = settings.multigrid
    times = np.asarray(model.times, np.float64)
    intervals = grids.motion_time_nodes or min(8, max(2, times.shape[0] // 2))
    motion = MotionGrids(space, intervals, grids)
    tau = relative_times(times.reshape(-1), times)
    return Renderer(SceneGrids(channels, space, grids), motion, motion.in_time(tau), model)


def relative_times(times: np.ndarray, frame_times: np.ndarray) -> np.ndarray:
    """Times as a share of the acquisition, 0 at its first and 1 at its last frame."""
    first, last = frame_times.min(), frame_times.max()
    return np.zeros_like(times) if last == first else (times - first) / (last - first)


@eqx.filter_jit
def predict(
    renderer: Renderer, parameters: Parameters, shift: Float[Array, "d"] | None = None
) -> Float[Array, "m z v u"]:
    """Predicted measurements with every level open; ``shift`` moves the scene by result pixels (y, x)."""
    canonical, nodes = renderer.unfolded(parameters, jnp.float32(1.0))
    if shift is not None:
        nodes = nodes - shift.reshape(-1, *[1] * len(renderer.space))
    packed = renderer.packed(canonical)

    def one(i: Array) -> Array:
        moved, _ = renderer.moved(packed, nodes[i][None])
        return renderer.seen(moved, parameters["illumination"], i[None])[0]

    return jax.lax.map(one, jnp.arange(len(nodes)))
