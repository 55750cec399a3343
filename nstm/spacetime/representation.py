"""What a representation of the scene or of its motion must be able to do, and the windows that open its levels."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

#: Weight of the prior on shaking as a whole beside that on the motion of the parts; measured.
SHAKING = 0.1
#: Numbers that a fit finds: a tree of dictionaries, lists and arrays.
Coefficients = Any


def windows(alpha: Float[Array, ""], levels: int) -> Float[Array, "levels"]:
    """Weight of every level, ``1/2 - 1/2 cos(pi clip(alpha N - l, 0, 1))``; all open at ``alpha = 1``.

    Cao et al., Nature Methods 2024, Methods, coarse-to-fine.
    """
    return 0.5 - 0.5 * jnp.cos(jnp.pi * jnp.clip(alpha * levels - jnp.arange(levels), 0, 1))


class Scene(eqx.Module):
    """The sample in its canonical frame."""

    @abc.abstractmethod
    def initial(self, seed: int) -> Coefficients:
        """Coefficients to start from."""

    @abc.abstractmethod
    def render(self, coefficients: Coefficients, alpha: Array) -> Float[Array, "c z y x"]:
        """The canonical scene on the pixels."""


class ContinuousScene(Scene):
    """A scene that has a value at every place, not only on the pixels."""

    @abc.abstractmethod
    def opened(self, coefficients: Coefficients, alpha: Array) -> Any:
        """What all places need of the coefficients, windows applied; the first argument of :meth:`at`."""

    @abc.abstractmethod
    def at(self, opened: Any, displacement: Float[Array, "n d *space"]) -> Float[Array, "n c *space"]:
        """The scene at ``r + displacement(r)``, pixels, for every pixel ``r``."""


class Motion(eqx.Module):
    """Displacement of the backward warp in pixels: what is at ``r`` lies at ``r + d(r, t)`` in the canonical frame.

    It is found on nodes first and spread from there to the pixels, frame by frame.
    """

    cells: eqx.AbstractVar[int]  # along the longest side, finest level: the detail that the motion can have
    pitch_px: eqx.AbstractVar[float]  # distance of the nodes; between them the displacement is smooth
    freedom: eqx.AbstractVar[int]  # how many independent numbers the motion has
    shares: eqx.AbstractVar[tuple[float, ...]]  # of them, for each value of :meth:`roughness`
    shaking: eqx.AbstractVar[float]  # for how many numbers the prior on shaking as a whole counts

    @abc.abstractmethod
    def initial(self, seed: int) -> Coefficients:
        """Coefficients to start from."""

    @abc.abstractmethod
    def at_rest(self) -> Coefficients:
        """Coefficients of a sample that does not move."""

    @abc.abstractmethod
    def in_time(self, tau: np.ndarray) -> Any:
        """What the times ``tau (t,)`` in [0, 1] need, arrays with the times along their first axis."""

    @abc.abstractmethod
    def nodes(self, coefficients: Coefficients, in_time: Any, alpha: Array) -> Float[Array, "t d *nodes"]:
        """The displacement on the nodes at the times of ``in_time``."""

    def spread(self, nodes: Float[Array, "t d *nodes"]) -> Float[Array, "t d *space"]:
        """The displacement between the nodes; default: every pixel is a node."""
        return nodes

    def render(self, coefficients: Coefficients, in_time: Any, alpha: Array) -> Float[Array, "t d *space"]:
        """The displacement of every pixel at the times of ``in_time``."""
        return self.spread(self.nodes(coefficients, in_time, alpha))

    @abc.abstractmethod
    def roughness(self, nodes: Float[Array, "n k d *nodes"]) -> Float[Array, "b"]:
        """Mean squared gradients of the displacement (pixels per pixel), a gauge where nothing tells the motion.

        Each is of some of the numbers that the motion has: of parts against each other, of the field as a whole.
        """


def mean_squared_gradient(nodes: Float[Array, "n k d *nodes"]) -> Float[Array, "2"]:
    """Variance over the nodes of the difference of neighbours, and mean square of its mean; summed over their axes."""
    field = tuple(range(3 - nodes.ndim, 0))
    apart = whole = jnp.zeros((), nodes.dtype)
    for axis in field:
        if nodes.shape[axis] > 1:
            slope = jnp.diff(nodes, axis=axis)
            mean = jnp.mean(slope, axis=field, keepdims=True)
            apart += jnp.mean((slope - mean) ** 2)
            whole += jnp.mean(mean**2)
    return jnp.stack([apart, whole])


def usual_squared_gradient(
    nodes: Float[Array, "... d *nodes"], pitches: tuple[float, ...], least: float
) -> Float[Array, ""]:
    """Geometric mean of the squared difference of neighbours, ``least`` added: a few that differ much hardly count."""
    axes = range(-len(pitches), 0)
    moved = len(pitches) + 1  # counted from the end, the axis of the displacement
    logs = [
        jnp.mean(jnp.log(jnp.sum((jnp.diff(nodes, axis=axis) / pitch) ** 2, axis=-moved) + least))
        for axis, pitch in zip(axes, pitches, strict=True)
        if nodes.shape[axis] > 1
    ]
    return jnp.exp(sum(logs) / len(logs)) if logs else jnp.zeros((), nodes.dtype)


def relative_times(times: np.ndarray, frame_times: np.ndarray) -> np.ndarray:
    """Times as a share of the acquisition, 0 at its first and 1 at its last frame."""
    first, last = frame_times.min(), frame_times.max()
    return np.zeros_like(times) if last == first else (times - first) / (last - first)


class KnownMotion(Motion):
    """A motion that is given, not fitted: the bound for what a fit that must find it can reach.

    Args:
        displacement: ``(m, k, d, *space)``, pixels, of every measurement at each of its scene times.
        times: ``(m, k)``, s, as the forward model has them; between them the displacement is interpolated.
    """

    displacement: Float[Array, "t d *space"]
    knots: tuple[float, ...] = eqx.field(static=True)
    cells: int = eqx.field(static=True)
    pitch_px: float = eqx.field(static=True)
    freedom: int = eqx.field(static=True)
    shares: tuple[float, ...] = eqx.field(static=True)
    shaking: float = eqx.field(static=True)

    def __init__(self, displacement: np.ndarray, times: np.ndarray) -> None:
        tau, first = np.unique(relative_times(np.ravel(times), np.asarray(times)), return_index=True)
        self.knots = tuple(tau.tolist())
        self.displacement = jnp.asarray(np.reshape(displacement, (-1, *np.shape(displacement)[2:]))[first], float)
        self.cells, self.pitch_px = max(np.shape(displacement)[3:]), 1.0
        self.freedom, self.shares, self.shaking = 0, (), 0.0

    def initial(self, seed: int) -> Coefficients:
        """None."""
        return []

    def at_rest(self) -> Coefficients:
        """None: the motion is what it is."""
        return []

    def in_time(self, tau: np.ndarray) -> Float[Array, "t d *space"]:
        """The displacement at ``tau``; exact at the times that it was given at."""
        place = np.interp(tau, self.knots, np.arange(len(self.knots)))
        left = np.minimum(place.astype(int), max(len(self.knots) - 2, 0))
        share = jnp.asarray(place - left, float).reshape(-1, *[1] * (self.displacement.ndim - 1))
        right = np.minimum(left + 1, len(self.knots) - 1)
        return (1 - share) * self.displacement[left] + share * self.displacement[right]

    def nodes(self, coefficients: Coefficients, in_time: Any, alpha: Array) -> Float[Array, "t d *space"]:
        """The displacement at the times of ``in_time``."""
        return in_time

    def roughness(self, nodes: Float[Array, "n k d *nodes"]) -> Float[Array, "b"]:
        """None: nothing is found."""
        return jnp.zeros(0, nodes.dtype)
