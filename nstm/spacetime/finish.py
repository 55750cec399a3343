"""The end of the fit of a volume: the scene alone, with the motion and the light as they were found.

Every frame of a volume holds light from all planes, and what tells the planes apart is faint: steps of first order
have not brought it out by the time the motion is found. The misfit is quadratic in the scene then, and L-BFGS (Liu and
Nocedal, Math. Program. 45, 503, 1989) takes one to two hundred iterations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from nstm.settings import Multigrid, Reconstruction
from nstm.spacetime.objective import Objective
from nstm.spacetime.renderer import Parameters, Renderer

#: Iterations of one dispatch to the device.
_CHUNK = 20
#: Earlier steps that the curvature is estimated from; each takes the memory of two scenes.
_LBFGS = optax.lbfgs(memory_size=5)


def iterations(renderer: Renderer, settings: Reconstruction) -> int:
    """How many a fit needs at its end: those of the settings for the grids of a volume, else none."""
    scene = settings.of_scene
    return scene.scene_iterations if isinstance(scene, Multigrid) and len(renderer.space) == 3 else 0


def finished(objective: Objective, parameters: Parameters, count: int) -> Iterator[tuple[Parameters, np.ndarray]]:
    """``count`` iterations on the finest grid of the scene, all levels open and all frames together.

    Yields:
        The coefficients and the mean square error of each frame ``(m,)``, after every 20 iterations and
        after the last.
    """
    memory = initial(parameters)
    for begin in range(0, count, _CHUNK):
        now = jnp.int32(min(_CHUNK, count - begin))
        parameters, memory, by_frame = advance(objective, parameters, memory, now)
        yield parameters, np.asarray(by_frame)


def initial(parameters: Parameters) -> optax.OptState:
    """The memory of L-BFGS before the first iteration."""
    return _LBFGS.init(parameters["scene"][-1])


@eqx.filter_jit
def advance(
    objective: Objective, parameters: Parameters, memory: optax.OptState, count: Array
) -> tuple[Parameters, optax.OptState, Float[Array, "m"]]:
    """``count`` iterations with all frames together, and the mean square error of each frame after them."""
    m = len(objective.data)
    objective = replace(objective, frames_per_step=m, at_once=math.gcd(m, objective.at_once))
    opened = jnp.float32(1)
    renderer, share = objective.renderer, objective.weights / jnp.sum(objective.weights)

    def with_finest(finest: Array) -> Parameters:
        return {**parameters, "scene": [*parameters["scene"][:-1], finest]}

    def value_and_slope(finest: Array) -> tuple[Array, Array]:
        now = with_finest(finest)
        slope, by_frame = objective.gradient(now, opened, None)
        _, canonical = renderer.shared(now, opened)
        assert canonical is not None
        return jnp.sum(share * by_frame) + objective.penalty(canonical), slope["scene"][-1]

    @jax.custom_vjp
    def value(finest: Array) -> Array:
        return value_and_slope(finest)[0]

    value.defvjp(value_and_slope, lambda slope, g: (g * slope,))
    known = optax.value_and_grad_from_state(value)

    def body(_: Array, carry: tuple[Array, optax.OptState]) -> tuple[Array, optax.OptState]:
        finest, memory = carry
        now, slope = known(finest, state=memory)
        update, memory = _LBFGS.update(slope, memory, finest, value=now, grad=slope, value_fn=value)
        return optax.apply_updates(finest, update), memory

    finest, memory = jax.lax.fori_loop(0, count, body, (parameters["scene"][-1], memory))
    found = with_finest(finest)
    return found, memory, objective.gradient(found, opened, None)[1]
