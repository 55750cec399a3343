"""The exact line search: along any direction the cost of blind SIM is a polynomial of degree 8.

Object and patterns are squares, so along a line they are polynomials of degree 2, their product one of degree 4, and
the squared residual one of degree 8. Its coefficients cost four transforms per frame.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from nstm.blindsim.model import BlindModel, Residual, Unknowns, patterns_of

#: Steps at which the cost is compared before the best is refined, in units of the step of a parabola.
_TRIED = np.geomspace(1e-4, 1e3, 141)
_BISECTIONS = 24


def expansion(model: BlindModel, unknowns: Unknowns, direction: Unknowns) -> Complex[Array, "4 n y f"]:
    """Spectra of what is seen more along a direction, by the power 1 to 4 of the step."""
    x = (unknowns.object**2, 2 * unknowns.object * direction.object, direction.object**2)
    roots, d = unknowns.patterns, direction.patterns
    a = (patterns_of(unknowns), _completed(2 * roots * d), _completed(d**2))
    products = (
        x[0] * a[1] + x[1] * a[0],
        x[0] * a[2] + x[1] * a[1] + x[2] * a[0],
        x[1] * a[2] + x[2] * a[1],
        x[2] * a[2],
    )
    return jnp.stack([model.seen(product) for product in products])


def _completed(change: Float[Array, "l y x"]) -> Float[Array, "n y x"]:
    """A change of all patterns but the last, with that of the last: their sum is fixed."""
    return jnp.concatenate([change, -jnp.sum(change, axis=0)[None]])


def polynomial(model: BlindModel, residual: Residual, more: Complex[Array, "4 n y f"]) -> Float[Array, "9"]:
    """Coefficients of the cost by the power 0 to 8 of the step."""
    terms = jnp.concatenate([residual[None], -more]) * jnp.sqrt(model.weights())
    flat = jnp.stack([terms.real, terms.imag], axis=1).reshape(5, -1)
    gram = jnp.matmul(flat, flat.T, precision="highest") / (model.shape[0] * model.shape[1])
    return jnp.zeros(9, gram.dtype).at[jnp.add.outer(np.arange(5), np.arange(5))].add(gram)


def best_step(coefficients: Float[Array, "9"]) -> Float[Array, ""]:
    """The positive step of least cost; 0 where the cost falls along none.

    Steps are tried over seven orders of magnitude about the step of the parabola that the first three coefficients
    make; within the neighbours of the best one the derivative's change of sign is bisected.
    """
    unit = jnp.abs(coefficients[1]) / (2 * jnp.maximum(jnp.abs(coefficients[2]), jnp.finfo(coefficients.dtype).tiny))
    # in this unit the powers of the step do not overflow
    scaled = coefficients * unit ** jnp.arange(9)
    change = scaled.at[0].set(0)
    tried = jnp.asarray(_TRIED, coefficients.dtype)
    best = jnp.argmin(jnp.polyval(change[::-1], tried))
    low, high = tried[jnp.maximum(best - 1, 0)], tried[jnp.minimum(best + 1, len(_TRIED) - 1)]
    slope = (change[1:] * jnp.arange(1, 9))[::-1]

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        falls = jnp.polyval(slope, middle) < 0
        return jnp.where(falls, middle, ends[0]), jnp.where(falls, ends[1], middle)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))
    step = (low + high) / 2
    lowers = (coefficients[1] < 0) & (jnp.polyval(change[::-1], step) < 0)
    return jnp.where(lowers, step * unit, 0)


def moved(
    model: BlindModel, unknowns: Unknowns, residual: Residual, direction: Unknowns
) -> tuple[Float[Array, ""], Residual, Float[Array, ""]]:
    """The best step along a direction, and residual and cost there."""
    more = expansion(model, unknowns, direction)
    coefficients = polynomial(model, residual, more)
    step = best_step(coefficients)
    powers = step ** jnp.arange(1, 5)
    return step, residual - jnp.tensordot(powers.astype(more.dtype), more, 1), jnp.polyval(coefficients[::-1], step)
