"""Smooth motions of points, deterministic in time: what simulated samples do while they are imaged.

A motion maps where points were at rest, ``(n, d)`` in um, and a time (s) to their displacement (um). Coordinates are
(y, x), or (z, y, x) in a volume. No motion here is built from what a reconstruction uses to describe motion.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import expm

Array = NDArray[np.float64]
Field = Callable[[Array], Array]
Vector = Sequence[float] | Array

#: How well a rest position must reproduce the place it was asked for, um.
TOLERANCE_UM = 1e-7


class Motion(abc.ABC):
    """What the points of a sample do."""

    @abc.abstractmethod
    def displacement(self, points: Array, time_s: float) -> Array:
        """Displacement (n, d) in um at ``time_s`` of what rests at ``points`` (n, d) um."""

    def positions(self, points: Array, time_s: float) -> Array:
        """Where ``points`` (n, d) um are at ``time_s``."""
        return points + self.displacement(points, time_s)

    def followed(self, points: Array) -> Callable[[float], Array]:
        """``time -> positions`` of fixed points; what does not depend on time is computed once."""
        return lambda time_s: self.positions(points, time_s)

    def rest_positions(self, places: Array, time_s: float) -> Array:
        """Where at rest the points are that pass ``places`` (n, d) um at ``time_s``; NaN where nothing passes.

        Newton's method, and where it does not arrive, in small steps of time from the start on.
        """
        rest = _newton(self, places, places - self.displacement(places, time_s), time_s)
        lost = np.isnan(rest[:, 0])
        if lost.any():
            found = places[lost].astype(np.float64, copy=True)
            for part in np.linspace(0, 1, 17)[1:]:
                found = _newton(self, places[lost], found, part * time_s)
            rest[lost] = found
        return rest

    def material_displacement(self, places: Array, earlier_s: float, later_s: float) -> Array:
        """How far what is at ``places`` at the later time has moved since the earlier one, (n, d) um."""
        return places - self.positions(self.rest_positions(places, later_s), earlier_s)

    def scaled(self, factor: float) -> Motion:
        """Every displacement times ``factor``."""
        return _Scaled(self, factor)

    def __add__(self, other: Motion) -> Motion:
        return _Sum((self, other))


def _newton(motion: Motion, places: Array, start: Array, time_s: float, iterations: int = 25) -> Array:
    """Solve ``motion.positions(rest, time_s) = places``; NaN where it does not converge."""
    rest, step, dimensions = start.astype(np.float64, copy=True), 1e-5, places.shape[1]
    todo = np.flatnonzero(np.all(np.isfinite(rest), axis=1))
    rest[~np.all(np.isfinite(rest), axis=1)] = np.nan
    for _ in range(iterations):
        now = motion.positions(rest[todo], time_s)
        error = now - places[todo]
        open_ = np.max(np.abs(error), axis=1, initial=0) > TOLERANCE_UM
        todo, now, error = todo[open_], now[open_], error[open_]
        if not todo.size:
            return rest
        columns = [(motion.positions(rest[todo] + step * e, time_s) - now) / step for e in np.eye(dimensions)]
        jacobian = np.stack(columns, axis=-1)
        folded = np.linalg.det(jacobian) < 1e-3  # a point that is squeezed flat or turned inside out has no way back
        jacobian[folded] = np.eye(dimensions)
        rest[todo] -= np.linalg.solve(jacobian, error[..., None])[..., 0]
    rest[todo] = np.nan
    return rest


@dataclass(frozen=True)
class _Sum(Motion):
    """All ``parts`` at once: their displacements are added."""

    parts: tuple[Motion, ...] = ()

    def displacement(self, points: Array, time_s: float) -> Array:
        total = np.zeros_like(points, dtype=np.float64)
        for part in self.parts:
            total += part.displacement(points, time_s)
        return total

    def followed(self, points: Array) -> Callable[[float], Array]:
        follow = [part.followed(points) for part in self.parts]
        return lambda time_s: points + sum((at(time_s) - points for at in follow), np.zeros(points.shape))


@dataclass(frozen=True)
class _Scaled(Motion):
    """A motion with every displacement times ``factor``."""

    motion: Motion
    factor: float

    def displacement(self, points: Array, time_s: float) -> Array:
        return self.factor * self.motion.displacement(points, time_s)

    def followed(self, points: Array) -> Callable[[float], Array]:
        at = self.motion.followed(points)
        return lambda time_s: points + self.factor * (at(time_s) - points)


@dataclass(frozen=True)
class _Swing(Motion):
    """A field of displacements (um) times an amplitude that changes in time."""

    field: Field
    amplitude: Callable[[float], float]

    def displacement(self, points: Array, time_s: float) -> Array:
        return self.field(points) * self.amplitude(time_s)

    def followed(self, points: Array) -> Callable[[float], Array]:
        field = self.field(points)
        return lambda time_s: points + field * self.amplitude(time_s)


@dataclass(frozen=True)
class _Lateral(Motion):
    """A motion of (y, x) at every depth of a volume."""

    motion: Motion

    def displacement(self, points: Array, time_s: float) -> Array:
        return np.column_stack([np.zeros(len(points)), self.motion.displacement(points[:, 1:], time_s)])

    def followed(self, points: Array) -> Callable[[float], Array]:
        at = self.motion.followed(points[:, 1:])
        return lambda time_s: np.column_stack([points[:, 0], at(time_s)])

    def rest_positions(self, places: Array, time_s: float) -> Array:
        return np.column_stack([places[:, 0], self.motion.rest_positions(places[:, 1:], time_s)])


@dataclass(frozen=True)
class _Linear(Motion):
    """The velocity grows linearly with the distance from ``centre``: ``rate @ (place - centre)``."""

    rate: Array
    centre: Array

    def displacement(self, points: Array, time_s: float) -> Array:
        return np.asarray((points - self.centre) @ (expm(self.rate * time_s) - np.eye(len(self.rate))).T)


@dataclass(frozen=True)
class _Swirl(Motion):
    """A rotation that fades with the distance from ``centre`` (y, x)."""

    rate_rad_s: float
    centre: Array
    radius_um: float

    def displacement(self, points: Array, time_s: float) -> Array:
        d = points - self.centre
        angle = self.rate_rad_s * time_s * np.exp(-np.sum(d**2, axis=1) / self.radius_um**2)
        c, s = np.cos(angle), np.sin(angle)
        return np.stack([c * d[:, 0] + s * d[:, 1], c * d[:, 1] - s * d[:, 0]], axis=1) - d


@dataclass(frozen=True)
class Flow(Motion):
    """Points carried by ``velocity(places, time)``: its path is integrated (Runge-Kutta, order 4)."""

    velocity: Callable[[Array, float], Array]
    step_s: float

    def displacement(self, points: Array, time_s: float) -> Array:
        """From where the path begins to where it is by then."""
        return self.followed(points)(time_s) - points

    def followed(self, points: Array) -> Callable[[float], Array]:
        """Steps are whole, but for the last, and the farthest whole one is kept: later times cost little."""
        farthest: dict[float, tuple[int, Array]] = {}

        def at(time_s: float) -> Array:
            sign = math.copysign(1.0, time_s)
            whole = math.floor(abs(time_s) / self.step_s)
            done, places = farthest.get(sign, (0, points.astype(np.float64)))
            if done > whole:
                done, places = 0, points.astype(np.float64)
            for number in range(done, whole):
                places = self._advanced(places, sign * number * self.step_s, sign * self.step_s)
            farthest[sign] = (whole, places)
            start = sign * whole * self.step_s
            return self._advanced(places, start, time_s - start)

        return at

    def rest_positions(self, places: Array, time_s: float) -> Array:
        """The way back along the flow."""
        steps = max(1, math.ceil(abs(time_s) / self.step_s))
        back = places.astype(np.float64)
        for number in range(steps):
            back = self._advanced(back, time_s * (1 - number / steps), -time_s / steps)
        return back

    def _advanced(self, p: Array, t: float, h: float) -> Array:
        if h == 0:
            return p
        u = self.velocity
        first = u(p, t)
        second = u(p + h / 2 * first, t + h / 2)
        third = u(p + h / 2 * second, t + h / 2)
        return p + h / 6 * (first + 2 * second + 2 * third + u(p + h * third, t + h))


def largest_travel(motion: Motion, points: Array, spans: list[tuple[float, float]], samples: int = 9) -> Array:
    """Largest distance (um) between where any of ``points`` is at the start of each span (s) and later in it."""
    follow = motion.followed(points)
    travel = []
    for start, end in spans:
        first = follow(start)
        times = np.linspace(start, end, samples)[1:].tolist()
        travel.append(max(float(np.linalg.norm(follow(t) - first, axis=1).max()) for t in times))
    return np.array(travel)


def still() -> Motion:
    """Nothing moves."""
    return _Sum()


def lateral(motion: Motion) -> Motion:
    """The motion of a plane, (y, x), at every depth of a volume, (z, y, x)."""
    return _Lateral(motion)


def drift(velocity_um_s: Vector) -> Motion:
    """Constant velocity, um/s."""
    return _Swing(_everywhere(velocity_um_s), lambda t: t)


def vibration(amplitude_um: Vector, period_s: float, phase_rad: float = 0.0) -> Motion:
    """The whole sample swings by ``amplitude_um`` to either side."""
    return _Swing(_everywhere(amplitude_um), _sine(period_s, phase_rad))


def affine(rate_s: Sequence[Sequence[float]] | Array, centre_um: Vector) -> Motion:
    """Places move with the velocity ``rate (place - centre)``, so by ``(exp(rate t) - 1)(rest - centre)``.

    Args:
        rate_s: (d, d), 1/s: how the velocity along the first index changes along the second.
        centre_um: (d,), what stays in place, um.
    """
    return _Linear(np.asarray(rate_s, np.float64), np.asarray(centre_um, np.float64))


def rotation(rate_rad_s: float, centre_um: Vector) -> Motion:
    """Rigid rotation about ``centre_um`` (y, x); positive turns +x towards +y."""
    return affine([[0.0, rate_rad_s], [-rate_rad_s, 0.0]], centre_um)


def shear(rate_s: float, centre_um: Vector) -> Motion:
    """Rows slide along x with ``rate_s`` um/s per um of their distance from ``centre_um`` (y, x) along y."""
    return affine([[0.0, 0.0], [rate_s, 0.0]], centre_um)


def swirl(rate_rad_s: float, centre_um: Vector, radius_um: float) -> Motion:
    """Rotation about ``centre_um`` (y, x) that fades as ``exp(-(r/radius)^2)``."""
    return _Swirl(rate_rad_s, np.asarray(centre_um, np.float64), radius_um)


def opposed(velocity_um_s: Vector, point_um: Vector, normal: Vector, width_um: float) -> Motion:
    """Two objects that move against each other: one on either side of a line (in a volume: plane).

    Args:
        velocity_um_s: (d,), of what lies where ``normal`` points; what lies on the other side has the opposite one.
        point_um: (d,), a place on the line.
        normal: (d,), direction across the line, any length.
        width_um: half the width of the zone between them, in which the velocity goes from one to the other. Objects
            that move along the line slide past each other; those that meet are squeezed and must not pass through
            each other.
    """
    velocity, point = np.asarray(velocity_um_s, np.float64), np.asarray(point_um, np.float64)
    across = np.asarray(normal, np.float64) / np.linalg.norm(normal)

    def field(p: Array) -> Array:
        return np.tanh((p - point) @ across / width_um)[:, None] * velocity

    return _Swing(field, lambda t: t)


def flow(
    seed: int,
    *,
    speed_um_s: float,
    scale_um: float,
    turnover_s: float = math.inf,
    dimensions: int = 2,
    number: int = 12,
) -> Motion:
    """Points carried by a smooth random incompressible flow, ``sum_j a_j cos(k_j place + w_j t + phase)``, a_j _|_ k_j.

    Args:
        seed: the same seed gives the same flow.
        speed_um_s: root mean square of the velocity.
        scale_um: shortest wavelength; the longest is 2.5 times as long.
        turnover_s: time in which a wave passes by; infinite: the flow is steady.
        dimensions: 2 or 3.
        number: how many waves.
    """
    rng = np.random.default_rng([seed, dimensions])
    direction, side = (_unit(rng.normal(size=(number, dimensions))) for _ in range(2))
    side = _unit(side - np.sum(side * direction, axis=1, keepdims=True) * direction)
    k = 2 * np.pi / scale_um * rng.uniform(0.4, 1.0, (number, 1)) * direction
    a = speed_um_s * math.sqrt(2 / number) * side
    phase, w = rng.uniform(0, 2 * np.pi, number), rng.choice([-2.0, 2.0], number) * np.pi / turnover_s

    def velocity(p: Array, t: float) -> Array:
        return np.asarray(np.cos(p @ k.T + (w * t + phase)) @ a)

    # a third of the time in which the velocity that a point sees changes: errors of about 1e-5 of the way
    return Flow(velocity, 0.3 / (2 * np.pi * (max(speed_um_s, 1e-12) / scale_um + 1 / turnover_s)))


def deformation(
    seed: int,
    area_um: tuple[float, float, float, float],
    *,
    size_um: float,
    amplitude_um: float,
    period_s: float,
    number: int = 6,
) -> Motion:
    """Local eddies: a few Gaussian stream functions whose strengths swing with periods of their own.

    Args:
        seed: the same seed gives the same motion.
        area_um: (y0, x0, y1, x1) of the centres.
        size_um: standard deviation of an eddy.
        amplitude_um: largest displacement of one eddy.
        period_s: typical period; each eddy has 0.75 to 1.35 times it and its own phase.
        number: how many eddies.
    """
    rng = np.random.default_rng(seed)
    y0, x0, y1, x1 = area_um
    parts: list[Motion] = []
    for _ in range(number):
        centre = np.array([rng.uniform(y0, y1), rng.uniform(x0, x1)])
        strength = amplitude_um * rng.choice([-1.0, 1.0]) * rng.uniform(0.6, 1.0)
        field = _eddy(centre, size_um * rng.uniform(0.8, 1.25), strength)
        parts.append(_Swing(field, _sine(period_s * rng.uniform(0.75, 1.35), rng.uniform(0, 2 * np.pi))))
    return _Sum(tuple(parts))


def _eddy(centre: Array, size: float, strength: float) -> Field:
    def field(p: Array) -> Array:
        d = (p - centre) / size
        # curl of exp(-d^2/2): divergence-free; exp(1/2) makes the largest length 1
        gain = strength * np.exp(0.5 - np.sum(d**2, axis=1) / 2)
        return np.stack([gain * d[:, 1], -gain * d[:, 0]], axis=1)

    return field


def _everywhere(vector: Vector) -> Field:
    values = np.asarray(vector, np.float64)
    return lambda p: np.broadcast_to(values, p.shape)


def _sine(period_s: float, phase: float) -> Callable[[float], float]:
    return lambda t: float(np.sin(2 * np.pi * t / period_s + phase))


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
