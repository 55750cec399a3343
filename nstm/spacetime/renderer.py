"""Frames from coefficients: the scene, moved to the times of each measurement, seen by the instrument."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from nstm.settings import Multigrid, Networks, Reconstruction
from nstm.spacetime.change import Change
from nstm.spacetime.multigrid import MotionGrids, SceneGrids
from nstm.spacetime.networks import MotionNetwork, SceneNetwork
from nstm.spacetime.rendering import Back, Once, PerPixel, Rendering
from nstm.spacetime.representation import Motion, Scene, relative_times
from nstm.systems.forward import ForwardModel

#: Coefficients of scene and motion, and corrections of the calibration by name.
Parameters = dict[str, Any]


class Renderer(eqx.Module):
    """Scene, motion, rendering and instrument of one acquisition.

    Measurements ``n`` see the scene at ``k`` times each; space is ``(y, x)`` of a single plane, else ``(z, y, x)``.
    """

    scene: Scene
    motion: Motion
    rendering: Rendering
    in_time: Any  # of all times of all measurements
    change: Change
    change_in_time: Float[Array, "m k b"]
    model: ForwardModel

    @property
    def space(self) -> tuple[int, ...]:
        """Shape of what moves."""
        _, planes, *plane = self.model.scene_shape
        return tuple(plane) if planes == 1 else (planes, *plane)

    @property
    def deep(self) -> bool:
        """A volume on the planes of a grid."""
        return len(self.space) == 3 and isinstance(self.scene, SceneGrids)

    def initial(self, seed: int) -> Parameters:
        """What a fit starts from."""
        scene, motion = self.scene.initial(seed), self.motion.initial(seed)
        change, illumination = self.change.initial(), self.model.offsets()
        return {"scene": scene, "motion": motion, "change": change, "illumination": illumination}

    def joined(self, share: Array) -> Renderer:
        """The renderer in which what joins late counts by ``share``."""
        return replace(self, model=self.model.joined(share))

    def shared(self, parameters: Parameters, alpha: Array) -> tuple[Any, Float[Array, "c *space"] | None]:
        """What frames share, and the canonical scene where it is rendered."""
        shared, canonical = self.rendering.shared(self.scene, parameters["scene"], alpha, self.space)
        return (shared, self.change.grids(parameters["change"], alpha)), canonical

    def nodes(
        self, parameters: Parameters, alpha: Array, which: Int[Array, "n"] | None = None
    ) -> Float[Array, "n k d *nodes"]:
        """Displacement nodes of the measurements ``which``, of all when ``None``."""
        count, k = self.model.times.shape
        in_time = self.in_time
        if which is not None:
            count, times = len(which), (which[:, None] * k + jnp.arange(k)).reshape(-1)
            in_time = jax.tree.map(lambda a: a[times], in_time)
        nodes = self.motion.nodes(parameters["motion"], in_time, alpha)
        return nodes.reshape(count, k, *nodes.shape[1:])

    def unsteadiness(
        self, nodes: Float[Array, "n k d *nodes"], which: Int[Array, "n"] | None = None
    ) -> Float[Array, "b+1"]:
        """How differently neighbouring places change their velocity from one measurement to the next, and how much.

        The mean squared gradients of that change (:meth:`Motion.roughness`), last its own mean square (pixels): a
        sample may shake as a whole, but its parts do so together.
        """
        if len(nodes) < 3:
            return jnp.zeros(len(self.motion.shares) + 1, nodes.dtype)
        times = jnp.mean(self.model.times if which is None else self.model.times[which], axis=1)
        order = jnp.argsort(times)
        step = jnp.diff(times[order])
        mean = jnp.maximum(jnp.mean(step), 1e-9)
        wait = jnp.maximum(step / mean, 1e-3).reshape(-1, *[1] * (nodes.ndim - 1))
        change = jnp.diff(jnp.diff(nodes[order], axis=0) / wait, axis=0)
        return jnp.append(self.motion.roughness(change), jnp.mean(change**2))

    def moved(
        self, shared: Any, nodes: Float[Array, "n k d *nodes"], which: Int[Array, "n"]
    ) -> tuple[Float[Array, "n k c *space"], Back]:
        """The scene at the times of the measurements ``which``, and what adds its gradient to that of ``shared``."""
        (scene, change), flat = shared, nodes.reshape(-1, *nodes.shape[2:])
        moved, of_scene = self.rendering.moved(self.scene, self.motion.spread, scene, flat)

        def changed(moved: Array, change: Array, nodes: Array) -> Array:
            in_time = self.change_in_time[which].reshape(len(flat), -1)
            return self.change.seen(moved, change, self.motion.spread(nodes), in_time)

        def back(total: Any, g: Array) -> tuple[Any, Array]:
            g = g.reshape(moved.shape)
            if not self.change.terms:
                added, g_nodes = of_scene(total[0], g)
                return (added, total[1]), g_nodes.reshape(nodes.shape)
            g, g_change, g_changed = of_change(g)
            added, g_nodes = of_scene(total[0], g)
            return (added, total[1] + g_change), (g_nodes + g_changed).reshape(nodes.shape)

        if self.change.terms:
            seen, of_change = jax.vjp(changed, moved, change, flat)
        else:
            seen = moved
        return seen.reshape(*nodes.shape[:2], *moved.shape[1:]), back

    def seen(
        self, moved: Float[Array, "n k c *space"], light: dict[str, Array], which: Int[Array, "n"]
    ) -> Float[Array, "n z v u"]:
        """The measurements ``which`` of the scene at their times, under the :meth:`ForwardModel.light`."""
        return self.model.seen(self.volumes(moved), which, light)

    def volumes(self, images: Float[Array, "*n c *space"]) -> Float[Array, "*n c z y x"]:
        """What moves, as the instrument takes it."""
        leading = images.shape[: images.ndim - len(self.space)]
        return images.reshape(*leading, *self.model.scene_shape[1:])

    @eqx.filter_jit
    def at(
        self,
        parameters: Parameters,
        displacement: Float[Array, "t d *space"],
        change_in_time: Float[Array, "t b"],
        alpha: ArrayLike = 1.0,
    ) -> Float[Array, "t c z y x"]:
        """The scene under the given displacements (pixels) and as bright as it is then, as stored.

        ``change_in_time`` is :meth:`Change.in_time` of the times of ``displacement``, ``alpha`` how far the levels of
        the scene are open.
        """
        (shared, change), _ = self.shared(parameters, jnp.asarray(alpha, jnp.float32))

        def one(at: tuple[Array, Array]) -> Array:
            d, in_time = (a[None] for a in at)
            moved, _ = self.rendering.moved(self.scene, lambda d: d, shared, d)
            if self.change.terms:
                moved = self.change.seen(moved, change, d, in_time)
            return self.model.output(self.volumes(moved)[0])

        return jax.lax.map(one, (displacement, change_in_time))


def make_renderer(model: ForwardModel, settings: Reconstruction, motion: Motion | None = None) -> Renderer:
    """The representation of ``settings`` in front of a forward model; ``motion`` takes the place of theirs."""
    channels, *shape = model.scene_shape
    space = (shape[0], shape[1], shape[2])
    times = np.asarray(model.times, np.float64)
    motion = motion or _motion(space, len(times), settings.of_motion)
    change = Change(space if space[0] > 1 else space[1:], settings.brightness_terms)
    tau = relative_times(times.reshape(-1), times)
    return Renderer(
        scene=_scene(channels, space, settings.of_scene),
        motion=motion,
        rendering=Once() if settings.parts.rendering == "once" else PerPixel(),
        in_time=motion.in_time(tau),
        change=change,
        change_in_time=change.in_time(tau).reshape(*times.shape, -1),
        model=model,
    )


def _scene(channels: int, shape: tuple[int, int, int], settings: Multigrid | Networks) -> Scene:
    if isinstance(settings, Networks):
        return SceneNetwork(channels, shape, settings)
    return SceneGrids(channels, shape, settings)


def _motion(shape: tuple[int, int, int], frames: int, settings: Multigrid | Networks) -> Motion:
    if isinstance(settings, Networks):
        return MotionNetwork(shape, settings)
    return MotionGrids(shape, frames, settings)


@eqx.filter_jit
def predict(
    renderer: Renderer, parameters: Parameters, shift: Float[Array, "d"] | None = None
) -> Float[Array, "m z v u"]:
    """Predicted measurements with every level open; ``shift`` moves the scene by result pixels along its axes."""
    shared, _ = renderer.shared(parameters, jnp.float32(1))
    light = renderer.model.light(parameters["illumination"])

    def one(i: Array) -> Array:
        nodes = renderer.nodes(parameters, jnp.float32(1), i[None])
        if shift is not None:
            nodes = nodes - shift.reshape(-1, *[1] * len(renderer.space))
        moved, _ = renderer.moved(shared, nodes, i[None])
        return renderer.seen(moved, light, i[None])[0]

    return jax.lax.map(one, jnp.arange(len(renderer.model.times)))
