"""What a fit minimises: the misfit of the frames and what is known of scene and motion before, with its gradient."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from nstm.settings import Reconstruction
from nstm.spacetime.change import RATE
from nstm.spacetime.renderer import Parameters, Renderer
from nstm.spacetime.rendering import Still
from nstm.spacetime.representation import windows

#: Mean squares that count as none: gradients of the displacement, of a coefficient where there are octaves; those of
#: its change of velocity per mean step; that change itself.
_EVEN, _STEADY, _CALM = 1e-4, 1e-5, 1e-4
#: Weights in a volume beside those of a plane, measured: of the scene's curvature, whose values are larger by far than
#: those of its frames, each of which spreads a structure over all planes; and of the motion priors, since most of a fit
#: passes before a volume is sharp, and motion must not make up for what the scene still lacks.
_DEEP, _DEEP_MOTION = 0.01, 4.0


class Objective(eqx.Module):
    """Misfit and priors of one acquisition.

    ``schedule`` holds the values that a run may change without being compiled anew: steps, rates and weights.
    """

    renderer: Renderer
    data: Float[Array, "m z v u"]
    weights: Float[Array, "m"]
    schedule: dict[str, Array]
    key: Array  # of the order of the frames
    frames_per_step: int = eqx.field(static=True)
    refines: bool = eqx.field(static=True)  # False: the light stays as it is, whatever its rate in ``schedule``
    at_once: int = eqx.field(static=True)  # frames rendered together, a divisor of those of a step
    margin_px: int = eqx.field(static=True)

    def frames(self, step: Int[Array, ""]) -> Int[Array, "n"] | None:
        """The measurements of a step, ``None`` where they are all: a part of an order that each round draws anew."""
        m, n = len(self.data), self.frames_per_step
        if n == m:
            return None
        order = jax.random.permutation(jax.random.fold_in(self.key, step // (m // n)), m)
        return jax.lax.dynamic_slice_in_dim(order, step % (m // n) * n, n)

    @property
    def frame_shares(self) -> Float[Array, "m"]:
        """What each frame counts of the misfit."""
        return self.weights / jnp.sum(self.weights)

    def share(self, alpha: Array) -> Array:
        """Share to which what joins late is there: the window of a last level, or all from the start."""
        late = self.schedule["late_from"]
        return jnp.where(late > 0, windows((alpha - late) / (1 - late), 1)[0], 1.0)

    def errors(self, residual: Float[Array, "n z v u"]) -> Float[Array, "n"]:
        """Mean square of each frame, without the margin."""
        if self.margin_px:
            inner = slice(self.margin_px, -self.margin_px)
            residual = residual[..., inner, inner]
        return jnp.mean(residual**2, axis=tuple(range(1, residual.ndim)))

    def penalty(self, images: Float[Array, "c *space"]) -> Float[Array, ""]:
        """What is known of any scene: its curvature, that it is not negative, its size.

        The planes of a grid stand for what lies between them, too: a structure that is nowhere negative has negative
        sidelobes in the planes beside it. In the mean of neighbouring planes there are none.
        """
        model, weights = self.renderer.model, self.schedule
        seen, bends = images, jnp.mean(jnp.diff(images, 2, axis=-2) ** 2) + jnp.mean(jnp.diff(images, 2, axis=-1) ** 2)
        if self.renderer.deep:
            curvature = jnp.diff(jnp.pad(images, ((0, 0), (1, 1), (0, 0), (0, 0)), mode="wrap"), 2, axis=1)
            seen, bends = images + 0.25 * curvature, _DEEP * (bends + jnp.mean(curvature**2))
        below = jnp.mean(jnp.minimum(seen, 0.0) ** 2) if model.nonnegative else 0.0
        total = weights["scene_smoothness"] * images.size / self.data.size * bends + weights["nonnegativity"] * below
        squares = model.in_units(self.renderer.volumes(images)) ** 2
        return total + weights["tikhonov"] * len(images) * jnp.mean(squares)  # of each channel its mean

    def surprise(self, nodes: Float[Array, "n k d *nodes"], which: Int[Array, "n"] | None) -> Float[Array, ""]:
        """What is known of any motion: neighbouring places move, and change their velocity, alike.

        How much alike differs from sample to sample, and from scale to scale, so each prior is a Gaussian whose
        variances, one for every octave of wavelengths, are found along with the motion: ``- log p = K / 2 log(mean
        square)`` for ``K`` numbers. How the sample moves as a whole has variances of its own: one that turns or shakes
        as a whole does not let its parts move as they like. What moves as a whole has fewer numbers than it counts
        for; by so little weight a dim sample at rest was found worse.
        """
        rough, unsteady = self.renderer.motion.roughness(nodes), self.renderer.unsteadiness(nodes, which)
        none = jnp.full(unsteady.shape, _STEADY, unsteady.dtype).at[-1].set(_CALM)
        return jnp.sum(self.schedule["smoothness"] * jnp.log(rough + _EVEN)) + jnp.sum(
            self.schedule["steadiness"] * jnp.log(unsteady + none)
        )

    def gradient(
        self, parameters: Parameters, alpha: Array, which: Int[Array, "n"] | None
    ) -> tuple[Parameters, Float[Array, "n"]]:
        """Derivative with respect to the parameters, and the mean square error of each frame of ``which``.

        Frames are summed group by group with their gradients, in place, so that one group's buffers fit the cache.
        """
        renderer = self.renderer.joined(self.share(alpha))
        share = self.frame_shares
        if which is not None:
            share = share * (len(self.data) / self.frames_per_step)
        used = jnp.arange(len(self.data)) if which is None else which

        def unfolded(p: dict[str, Any]) -> tuple[tuple[Any, Array | None], Array]:
            return renderer.shared(p, alpha), renderer.nodes(p, alpha, which)

        moving = {name: parameters[name] for name in ("scene", "motion", "change")}
        ((shared, canonical), nodes), pull_back = jax.vjp(unfolded, moving)
        light, of_offsets = jax.vjp(renderer.model.light, parameters["illumination"])

        def misfit(moved: Array, light: dict[str, Array], frames: Array) -> tuple[Array, Array]:
            light = light if self.refines else jax.lax.stop_gradient(light)  # its derivative takes time
            by_frame = self.errors(renderer.seen(moved, light, frames) - self.data[frames])
            value = jnp.sum(share[frames] * by_frame)
            if canonical is None:  # no image of the scene but those of the frames
                images = moved.reshape(-1, *moved.shape[2:])
                value += jnp.sum(jax.vmap(self.penalty)(images)) / (moved.shape[1] * self.frames_per_step)
            return value, by_frame

        def one(totals: tuple[Any, dict], group: Array) -> tuple[tuple[Any, dict], tuple[Array, Array]]:
            moved, back = renderer.moved(shared, nodes[group], used[group])
            slope = jax.value_and_grad(misfit, (0, 1), has_aux=True)
            (_, by_frame), (g_moved, g_light) = slope(moved, light, used[group])
            total, g_nodes = back(totals[0], g_moved)
            return (total, jax.tree.map(jnp.add, totals[1], g_light)), (g_nodes, by_frame)

        zero = jax.tree.map(jnp.zeros_like, (shared, light))
        groups = jnp.arange(self.frames_per_step).reshape(-1, self.at_once)
        (g_shared, g_light), (g_nodes, by_frame) = jax.lax.scan(one, zero, groups)
        g_nodes = g_nodes.reshape(nodes.shape)
        g_nodes += jax.grad(self.surprise)(nodes, which)
        if renderer.change.terms:
            g_known = self.schedule["constancy"] * jax.grad(renderer.change.surprise)(shared[1])
            g_shared = (g_shared[0], g_shared[1] + g_known)
        g_canonical = None if canonical is None else jax.grad(self.penalty)(canonical)
        return {
            **pull_back(((g_shared, g_canonical), g_nodes))[0],
            "illumination": of_offsets(g_light)[0],
        }, by_frame.reshape(-1)


def make_objective(
    renderer: Renderer,
    data: ArrayLike,
    settings: Reconstruction,
    weights: ArrayLike | None = None,
    noise_variance: float | None = None,
) -> Objective:
    """The objective of ``settings``; see :func:`nstm.spacetime.fit.fit` for the arguments."""
    data = jnp.asarray(data, jnp.float32)
    scene, motion, noise = settings.of_scene, settings.of_motion, noise_variance or 0.0
    moved = renderer.motion
    # of the parts against each other and of the field as a whole; of its shaking
    numbers = np.array([*(moved.freedom * share for share in moved.shares), moved.shaking])
    prior_weights = noise / data.size * numbers * (_DEEP_MOTION if renderer.deep else 1)
    schedule = {
        "steps": settings.steps,
        "late_from": settings.late_from,
        "open_at": settings.windows_open_at,
        "scene": scene.scene_rate,
        # the place of a brightness that changes must not move a sample at rest
        "motion": 0.0 if isinstance(renderer.rendering, Still) else motion.motion_rate,
        "change": RATE,
        "constancy": noise / data.size,
        "illumination": settings.illumination_rate,
        "smoothness": motion.motion_smoothness * prior_weights[:-1],
        "steadiness": motion.motion_steadiness * prior_weights,
        "nonnegativity": scene.scene_nonnegativity,
        "tikhonov": scene.scene_tikhonov,
        "scene_smoothness": scene.scene_smoothness * noise,
    }
    frames_per_step = min(settings.frames_per_step or len(data), len(data))
    return Objective(
        renderer=renderer,
        data=data,
        weights=jnp.ones(len(data), jnp.float32) if weights is None else jnp.asarray(weights, jnp.float32),
        schedule={k: jnp.asarray(v, jnp.float32) for k, v in schedule.items()},
        key=jax.random.PRNGKey(settings.seed),
        frames_per_step=frames_per_step,
        refines=settings.illumination_rate > 0,
        at_once=_at_once(frames_per_step, settings.frames_at_once),
        margin_px=settings.margin_px,
    )


def _at_once(frames: int, wanted: int | None) -> int:
    """Frames rendered together: the largest divisor up to the wish; one on a CPU (cache), all on an accelerator."""
    limit = wanted or (1 if jax.default_backend() == "cpu" else frames)
    return max(n for n in range(1, min(limit, frames) + 1) if frames % n == 0)
