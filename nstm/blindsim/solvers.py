"""Iterative blind SIM: gradient descent, conjugate gradients, and Nesterov's method on object and patterns together.

All of them are methods for one loop, :func:`solve`, which runs on the device from the first to the last iteration.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nstm.blindsim.line_search import moved
from nstm.blindsim.model import BlindModel, Residual, Unknowns, along, inner, patterns_of


class State(Protocol):
    """What a method hands from one iteration to the next."""

    @property
    def cost(self) -> Float[Array, ""]:
        """Of the estimate that the state holds."""


class Method(Protocol):
    """One way to lower the cost."""

    def init(self, model: BlindModel, unknowns: Unknowns) -> Any:
        """The state that the first iteration begins with."""

    def step(self, model: BlindModel, state: Any) -> Any:
        """One iteration."""

    def estimate(self, state: Any) -> tuple[Float[Array, "y x"], Float[Array, "n y x"]]:
        """Object and patterns."""


class Outcome(NamedTuple):
    """Where a method came to.

    Attributes:
        object: ``(y, x)`` in units of the frames.
        patterns: ``(L, y, x)``, 1 on average at every place.
        costs: ``(iterations + 1,)`` before the first and after every iteration; NaN after the last that was made.
        iterations: how many were made.
    """

    object: Float[Array, "y x"]
    patterns: Float[Array, "n y x"]
    costs: Float[Array, "k"]
    iterations: Int[Array, ""]


@functools.partial(jax.jit, static_argnames=("method", "iterations"))
def solve(
    method: Method,
    model: BlindModel,
    unknowns: Unknowns,
    iterations: int,
    stop_cost: Float[Array, ""] | float = 0.0,
    flat: Float[Array, ""] | float = 0.0,
) -> Outcome:
    """Iterate until ``iterations`` are made, the cost is at most ``stop_cost``, or it hardly falls any more.

    Args:
        method: one of this module, or :class:`nstm.blindsim.convex.PerFrame`.
        model: the frames.
        unknowns: where to begin.
        iterations: the most that are made.
        stop_cost: a cost that is low enough, such as the energy of the noise (the discrepancy principle).
        flat: share of the cost by which the last ten iterations must have lowered it; 0: go on.
    """
    state = method.init(model, unknowns)
    costs = jnp.full(iterations + 1, jnp.nan, state.cost.dtype).at[0].set(state.cost)

    def goes_on(carry: tuple[Any, Array, Array]) -> Array:
        state, costs, k = carry
        before = costs[jnp.maximum(k - 10, 0)]
        fell = (k < 10) | (before - state.cost >= flat * before) | (flat <= 0)
        return (k < iterations) & (state.cost > stop_cost) & fell

    def iterate(carry: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
        state, costs, k = carry
        state = method.step(model, state)
        return state, costs.at[k + 1].set(state.cost), k + 1

    state, costs, made = jax.lax.while_loop(goes_on, iterate, (state, costs, jnp.array(0)))
    return Outcome(*method.estimate(state), costs, made)


class _Point(NamedTuple):
    """An estimate with what is known of it."""

    unknowns: Unknowns
    residual: Residual
    cost: Float[Array, ""]


def _point(model: BlindModel, unknowns: Unknowns) -> _Point:
    residual = model.residual(unknowns)
    return _Point(unknowns, residual, model.cost(residual))


def _estimate(unknowns: Unknowns) -> tuple[Float[Array, "y x"], Float[Array, "n y x"]]:
    return unknowns.object**2, patterns_of(unknowns)


def _negative(gradient: Unknowns) -> Unknowns:
    return jax.tree.map(jnp.negative, gradient)


class GradientDescent(eqx.Module):
    """Steepest descent.

    Attributes:
        step_size: of every iteration; ``None``: the best along the gradient (exact line search).
    """

    step_size: float | None = None

    def init(self, model: BlindModel, unknowns: Unknowns) -> _Point:
        """See :class:`Method`."""
        return _point(model, unknowns)

    def step(self, model: BlindModel, state: _Point) -> _Point:
        """See :class:`Method`."""
        direction = _negative(model.gradient(state.unknowns, state.residual))
        if self.step_size is not None:
            return _point(model, along(state.unknowns, direction, self.step_size))
        step, residual, cost = moved(model, state.unknowns, state.residual, direction)
        return _Point(along(state.unknowns, direction, step), residual, cost)

    def estimate(self, state: _Point) -> tuple[Float[Array, "y x"], Float[Array, "n y x"]]:
        """See :class:`Method`."""
        return _estimate(state.unknowns)


class _Conjugate(NamedTuple):
    point: _Point
    gradient: Unknowns  # of the point before
    direction: Unknowns  # that led to the point

    @property
    def cost(self) -> Float[Array, ""]:
        return self.point.cost


class ConjugateGradient(eqx.Module):
    """Conjugate gradients of Polak and Ribiere with the exact line search.

    It begins anew along the gradient where ``beta`` would be negative or the direction would not descend.
    """

    def init(self, model: BlindModel, unknowns: Unknowns) -> _Conjugate:
        """See :class:`Method`."""
        zero = jax.tree.map(jnp.zeros_like, unknowns)
        return _Conjugate(_point(model, unknowns), zero, zero)

    def step(self, model: BlindModel, state: _Conjugate) -> _Conjugate:
        """See :class:`Method`."""
        point, before = state.point, state.gradient
        gradient = model.gradient(point.unknowns, point.residual)
        power = inner(before, before)
        change = inner(gradient, gradient) - inner(gradient, before)
        beta = jnp.where(power > 0, jnp.maximum(change, 0) / jnp.where(power > 0, power, 1), 0)
        descends = beta * inner(state.direction, gradient) < inner(gradient, gradient)
        direction = along(_negative(gradient), state.direction, jnp.where(descends, beta, 0))
        step, residual, cost = moved(model, point.unknowns, point.residual, direction)
        return _Conjugate(_Point(along(point.unknowns, direction, step), residual, cost), gradient, direction)

    def estimate(self, state: _Conjugate) -> tuple[Float[Array, "y x"], Float[Array, "n y x"]]:
        """See :class:`Method`."""
        return _estimate(state.point.unknowns)


class _Accelerated(NamedTuple):
    unknowns: Unknowns
    cost: Float[Array, ""]
    ahead: _Point  # where the next gradient is taken
    t: Float[Array, ""]
    step_size: Float[Array, ""]


class Nesterov(eqx.Module):
    """Nesterov's accelerated gradients with backtracking, begun anew where the momentum leads uphill.

    Nesterov 1983; the restarts of O'Donoghue and Candes, Found. Comput. Math. 15, 715 (2015).

    Attributes:
        growth: of the step from one iteration to the next, before backtracking halves it.
    """

    growth: float = 1.2

    def init(self, model: BlindModel, unknowns: Unknowns) -> _Accelerated:
        """See :class:`Method`."""
        point = _point(model, unknowns)
        direction = _negative(model.gradient(unknowns, point.residual))
        first = moved(model, unknowns, point.residual, direction)[0]
        return _Accelerated(unknowns, point.cost, point, jnp.ones_like(point.cost), first)

    def step(self, model: BlindModel, state: _Accelerated) -> _Accelerated:
        """See :class:`Method`."""
        ahead = state.ahead
        gradient = model.gradient(ahead.unknowns, ahead.residual)
        power = inner(gradient, gradient)

        def too_far(trial: tuple[Array, _Point]) -> Array:
            # the negation also takes a cost that is not a number; a vanishing step ends the search
            return ~(trial[1].cost <= ahead.cost - 0.5 * trial[0] * power) & (trial[0] * jnp.sqrt(power) > 1e-12)

        def tried(size: Array) -> tuple[Array, _Point]:
            return size, _point(model, along(ahead.unknowns, gradient, -size))

        size, point = jax.lax.while_loop(too_far, lambda t: tried(t[0] / 2), tried(state.step_size * self.growth))
        moved_by = jax.tree.map(jnp.subtract, point.unknowns, state.unknowns)
        uphill = (inner(gradient, moved_by) > 0) | (point.cost > state.cost)
        t = (1 + jnp.sqrt(1 + 4 * state.t**2)) / 2
        momentum = jnp.where(uphill, 0, (state.t - 1) / t)
        return _Accelerated(
            point.unknowns,
            point.cost,
            _point(model, along(point.unknowns, moved_by, momentum)),
            jnp.where(uphill, 1, t),
            size,
        )

    def estimate(self, state: _Accelerated) -> tuple[Float[Array, "y x"], Float[Array, "n y x"]]:
        """See :class:`Method`."""
        return _estimate(state.unknowns)
