"""The model of blind SIM, its cost and its gradients in closed form.

Frame ``l`` is ``h * (rho I_l)`` with ``sum_l I_l = L``: only the product of object and light is seen, and that the
light is uniform on average tells them apart. Both are squares, ``rho = xi^2`` and ``I_l = i_l^2``, which keeps them
from being negative; the last pattern is what the others leave, ``I_L = L - sum_l i_l^2``, and may be negative.

Frames are known by their spectra: blurring is a product there, so a gradient takes one transform forward and one back
per frame, and the cost none.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Complex, Float

#: Share of the brightest place from which the object starts at least: at 0 its gradient is 0, so it would stay there.
FLOOR = 1e-3


class Unknowns(NamedTuple):
    """Roots of the object and of all patterns but the last; also a gradient or a direction."""

    object: Float[Array, "y x"]
    patterns: Float[Array, "l y x"]


Residual = Complex[Array, "n y f"]


class BlindModel(eqx.Module):
    """What is seen of object and light, against what was seen.

    Attributes:
        spectra: half spectra of the frames, all on the grid of the result.
        transfer: of objective and camera pixel on the half spectrum, 1 at the origin.
        shape: rows and columns of the grid.
    """

    spectra: Complex[Array, "n y f"]
    transfer: Float[Array, "y f"]
    shape: tuple[int, int] = eqx.field(static=True)

    @classmethod
    def of(cls, frames: Float[ArrayLike, "n y x"], transfer: Float[ArrayLike, "y f"]) -> BlindModel:
        """The model of frames ``(L, y, x)``; the last is the one whose pattern the others determine."""
        images = jnp.asarray(frames)
        shape = (images.shape[-2], images.shape[-1])
        return cls(jnp.fft.rfft2(images), jnp.asarray(transfer, images.dtype), shape)

    @property
    def frames(self) -> int:
        """Number of frames ``L``."""
        return self.spectra.shape[0]

    def seen(self, products: Float[Array, "n y x"]) -> Residual:
        """Spectra of products of object and light, blurred."""
        return self.transfer * jnp.fft.rfft2(products)

    def residual(self, unknowns: Unknowns) -> Residual:
        """Spectra of what the unknowns leave of the frames."""
        return self.spectra - self.seen(unknowns.object**2 * patterns_of(unknowns))

    def cost(self, residual: Residual) -> Float[Array, ""]:
        """``sum_l ||r_l||^2`` over all pixels, of spectra (Parseval)."""
        power = residual.real**2 + residual.imag**2
        return jnp.sum(power * self.weights()) / (self.shape[0] * self.shape[1])

    def back(self, residual: Residual) -> Float[Array, "n y x"]:
        """``h^T r_l``: the residuals blurred once more, as images."""
        return jnp.fft.irfft2(self.transfer * residual, s=self.shape)

    def gradient(self, unknowns: Unknowns, residual: Residual) -> Unknowns:
        """Derivative of the cost by the unknowns, with ``b_l = h^T r_l``:
        ``dF/dxi = -4 xi sum_l I_l b_l`` and ``dF/di_l = -4 i_l xi^2 (b_l - b_L)``.
        """
        b, roots = self.back(residual), unknowns.patterns
        by_object = -4 * unknowns.object * jnp.sum(patterns_of(unknowns) * b, axis=0)
        return Unknowns(by_object, -4 * roots * unknowns.object**2 * (b[:-1] - b[-1]))

    def weights(self) -> Float[Array, "f"]:
        """How often each column of a half spectrum stands in the whole one."""
        columns = jnp.full(self.shape[1] // 2 + 1, 2.0, self.transfer.dtype).at[0].set(1)
        return columns.at[-1].set(1) if self.shape[1] % 2 == 0 else columns


def patterns_of(unknowns: Unknowns) -> Float[Array, "n y x"]:
    """All ``L`` patterns; their mean is 1 everywhere."""
    squares = unknowns.patterns**2
    last = squares.shape[0] + 1 - jnp.sum(squares, axis=0)
    return jnp.concatenate([squares, last[None]])


def start(frames: Float[ArrayLike, "n y x"]) -> Unknowns:
    """Widefield under uniform light: where all iterations begin.

    What is symmetric here is not for long: the gradients of two patterns differ as their frames do.
    """
    images = jnp.asarray(frames)
    widefield = jnp.mean(images, axis=0)
    root = jnp.sqrt(jnp.maximum(widefield, FLOOR * jnp.max(widefield)))
    return Unknowns(root, jnp.ones((images.shape[0] - 1, *root.shape), root.dtype))


def along(unknowns: Unknowns, direction: Unknowns, step: Float[Array, ""] | float) -> Unknowns:
    """``unknowns + step direction``."""
    return jax.tree.map(lambda x, d: x + step * d, unknowns, direction)


def inner(first: Unknowns, second: Unknowns) -> Float[Array, ""]:
    """Inner product over all unknowns."""
    return jnp.vdot(first.object, second.object) + jnp.vdot(first.patterns, second.patterns)
