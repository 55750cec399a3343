"""The end of the fit of a volume: scene, motion and light together.

Every frame of a volume holds light from all planes, and what tells the planes apart is faint: steps of first order
have not brought it out by the time the motion is found. From there on L-BFGS (Liu and Nocedal, Math. Program. 45, 503,
1989) takes a few dozen iterations if all that it looks for counts alike: the misfit is nearly quadratic in the scene,
nearly the same everywhere in the field, and differs from one spatial frequency to the next by many powers of ten. A
brightness that changes stays as it was found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from nstm.settings import Reconstruction
from nstm.spacetime.objective import Objective
from nstm.spacetime.renderer import Parameters, Renderer, predict

#: Iterations of one dispatch to the device.
_CHUNK = 20
#: Earlier steps that the curvature is estimated from; each takes the memory of two scenes.
_LBFGS = optax.lbfgs(memory_size=5)
#: Random scenes that tell the curvature, and the share of its largest value that every frequency has at least.
_PROBES, _LEAST = 16, 3e-3
#: Size of the changes that do so: of the motion, pixels, and of the light.
_MOTION_PX, _LIGHT = 0.1, 1e-3
_AXES = (-3, -2, -1)

#: What was added to scene, motion and light so far, all counting alike, and the memory of L-BFGS.
Search = tuple[dict[str, Any], optax.OptState]


def iterations(renderer: Renderer, settings: Reconstruction) -> int:
    """How many of a fit's steps these are: the share of the settings for the grids of a volume, else none."""
    return min(round(settings.multigrid.final_share * settings.steps), settings.steps - 1) if renderer.deep else 0


def with_light_held(objective: Objective, count: int) -> Objective:
    """What the steps before ``count`` iterations minimise: where there are some, the light waits for them."""
    return replace(objective, refines=False) if count else objective


def finished(
    objective: Objective, parameters: Parameters, search: Search | None, count: int
) -> Iterator[tuple[int, Parameters, Search, np.ndarray]]:
    """``count`` iterations on the finest grid of the scene, all levels open and all frames together.

    Args:
        objective: of the fit.
        parameters: those that the first iteration began with.
        search: how far an attempt before has come; ``None``: there is none.
        count: iterations that are left.

    Yields:
        After every 20 iterations and after the last: how many were made, the coefficients, where the search is, and
        the mean square error of each frame ``(m,)``.
    """
    search, evenly = search or initial(parameters), even(objective, parameters)
    for begin in range(0, count, _CHUNK):
        now = min(_CHUNK, count - begin)
        found, search, by_frame = advance(objective, parameters, evenly, search, jnp.int32(now))
        yield now, found, search, np.asarray(by_frame)


def initial(parameters: Parameters) -> Search:
    """Before the first iteration."""
    nothing = jax.tree.map(jnp.zeros_like, {"scene": parameters["scene"][-1], "other": _other(parameters)})
    return nothing, _LBFGS.init(nothing)


@eqx.filter_jit
def even(objective: Objective, parameters: Parameters) -> dict[str, Any]:
    """What makes all that is sought count alike: ``H^(-1/2)``, ``H`` the curvature of what is minimised.

    Of the scene at every spatial frequency, ``(c, kz, v, h)``, of motion and light for every array. The diagonal of the
    curvature is estimated from random vectors (Bekas, Kokiopoulou and Saad, Appl. Numer. Math. 57, 1214, 2007), of the
    scene in Fourier space and smoothed over neighbouring frequencies.
    """
    objective = _together(objective)
    return {"scene": _even_scene(objective, parameters), "other": _even_other(objective, parameters)}


def _even_scene(objective: Objective, parameters: Parameters) -> Float[Array, "c kz v h"]:
    *coarser, finest = parameters["scene"]
    without = dict.fromkeys(("nonnegativity", "scene_smoothness", "tikhonov"), jnp.float32(0))
    dark = replace(objective, data=jnp.zeros_like(objective.data), schedule={**objective.schedule, **without})
    nothing = [jnp.zeros_like(level) for level in coarser]

    def probe(sums: tuple[Array, Array], key: Array) -> tuple[tuple[Array, Array], None]:
        scene = jax.random.normal(key, finest.shape, finest.dtype)
        slope, _ = dark.gradient({**parameters, "scene": [*nothing, scene]}, jnp.float32(1), None)
        one, other = jnp.fft.rfftn(scene, axes=_AXES), jnp.fft.rfftn(slope["scene"][-1], axes=_AXES)
        return (sums[0] + jnp.real(jnp.conj(one) * other), sums[1] + jnp.abs(one) ** 2), None

    zero = jnp.zeros((*finest.shape[:-1], finest.shape[-1] // 2 + 1), finest.dtype)
    (products, powers), _ = jax.lax.scan(probe, (zero, zero), jax.random.split(jax.random.PRNGKey(0), _PROBES))
    response = jnp.fft.irfftn(products / powers, s=finest.shape[-3:], axes=_AXES)
    for axis in _AXES:  # a window in space is a Gaussian of one sample in Fourier space
        near = jnp.exp(-0.5 * (2 * jnp.pi * jnp.fft.fftfreq(finest.shape[axis])) ** 2)
        response = response * near.reshape(-1, *[1] * (-1 - axis))
    curvature = jnp.maximum(jnp.fft.rfftn(response, axes=_AXES).real, 0)
    return (curvature + _LEAST * jnp.max(curvature, axis=_AXES, keepdims=True)) ** -0.5


def _even_other(objective: Objective, parameters: Parameters) -> dict[str, Any]:
    renderer, opened = objective.renderer, jnp.float32(1)
    leaves, tree = jax.tree.flatten(_other(parameters))
    keys = jax.random.split(jax.random.PRNGKey(1), len(leaves))
    signs = [jax.random.rademacher(key, leaf.shape, leaf.dtype) for key, leaf in zip(keys, leaves, strict=True)]
    sizes = {"motion": _MOTION_PX / math.sqrt(math.prod(renderer.space[-2:])), "illumination": _LIGHT}
    steps = [sizes[path[0].key] for path, _ in jax.tree_util.tree_leaves_with_path(_other(parameters))]

    def surprise(leaves: list[Array]) -> Array:
        return objective.surprise(renderer.nodes({**parameters, **jax.tree.unflatten(tree, leaves)}, opened), None)

    def bend(number: Array) -> Array:
        """Along the signs of one array: of the misfit, linear in the frames, and of the prior."""
        along = [jnp.where(number == i, s, 0) for i, s in enumerate(signs)]

        def seen(side: int) -> Array:
            changed = [leaf + side * step * a for leaf, step, a in zip(leaves, steps, along, strict=True)]
            return predict(renderer, {**parameters, **jax.tree.unflatten(tree, changed)})

        slope = (seen(1) - seen(-1)) / (2 * jnp.asarray(steps)[number])
        _, turned = jax.jvp(jax.grad(surprise), (leaves,), (along,))
        of_prior = sum(jnp.sum(a * t) for a, t in zip(along, turned, strict=True))
        return 2 * jnp.sum(objective.frame_shares * objective.errors(slope)) + jnp.maximum(of_prior, 0)

    count = jnp.asarray([max(1, leaf.size) for leaf in leaves], jnp.float32)
    curvature = jax.lax.map(bend, jnp.arange(len(leaves))) / count
    # what the frames do not tell stays as it is, and so does what the settings hold
    scales = jax.tree.unflatten(tree, list(jnp.where(curvature > 0, jnp.maximum(curvature, 1e-30) ** -0.5, 0.0)))
    return {
        name: jax.tree.map(lambda scale, n=name: jnp.where(objective.schedule[n] > 0, scale, 0.0), part)
        for name, part in scales.items()
    }


@eqx.filter_jit
def advance(
    objective: Objective, parameters: Parameters, evenly: dict[str, Any], search: Search, count: Array
) -> tuple[Parameters, Search, Float[Array, "m"]]:
    """``count`` iterations from where ``search`` is: what is found then, and the mean square error of each frame.

    ``parameters`` are those that the search began with, ``evenly`` is :func:`even` of them.
    """
    objective, opened = _together(objective), jnp.float32(1)
    renderer = objective.renderer

    def evened(added: dict[str, Any]) -> dict[str, Any]:
        scene = jnp.fft.rfftn(added["scene"], axes=_AXES) * evenly["scene"]
        scene = jnp.fft.irfftn(scene, s=added["scene"].shape[-3:], axes=_AXES)
        return {"scene": scene, "other": jax.tree.map(jnp.multiply, evenly["other"], added["other"])}

    def with_added(added: dict[str, Any]) -> Parameters:
        (*coarser, finest), more = parameters["scene"], evened(added)
        other = jax.tree.map(jnp.add, _other(parameters), more["other"])
        return {**parameters, **other, "scene": [*coarser, finest + more["scene"]]}

    def value_and_slope(added: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
        now = with_added(added)
        slope, by_frame = objective.gradient(now, opened, None)
        _, canonical = renderer.shared(now, opened)
        assert canonical is not None
        priors = objective.penalty(canonical) + objective.surprise(renderer.nodes(now, opened), None)
        return jnp.sum(objective.frame_shares * by_frame) + priors, evened(
            {"scene": slope["scene"][-1], "other": _other(slope)}
        )

    @jax.custom_vjp
    def value(added: dict[str, Any]) -> Array:
        return value_and_slope(added)[0]

    value.defvjp(value_and_slope, lambda slope, g: (jax.tree.map(lambda s: g * s, slope),))
    with_slope = optax.value_and_grad_from_state(value)

    def body(_: Array, search: Search) -> Search:
        added, memory = search
        now, slope = with_slope(added, state=memory)
        update, memory = _LBFGS.update(slope, memory, added, value=now, grad=slope, value_fn=value)
        return optax.apply_updates(added, update), memory

    search = jax.lax.fori_loop(0, count, body, search)
    found = with_added(search[0])
    return found, search, objective.gradient(found, opened, None)[1]


def _other(parameters: Parameters) -> dict[str, Any]:
    """What is sought beside the scene."""
    return {name: parameters[name] for name in ("motion", "illumination")}


def _together(objective: Objective) -> Objective:
    """All frames in every step."""
    m = len(objective.data)
    return replace(objective, frames_per_step=m, at_once=math.gcd(m, objective.at_once))
