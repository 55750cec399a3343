"""Smooth motions of points, deterministic in time: what simulated samples do while they are imaged.

A motion maps where a point was at rest (y, x in um) and a time (s) to its displacement (um). No motion here
is built from what a reconstruction uses to describe motion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: ``(positions (n, 2) um, time s) -> displacements (n, 2) um``
Displacement = Callable[[Array, float], Array]


@dataclass(frozen=True)
class Motion:
    """The sum of ``parts``: each a field of displacements times an amplitude that changes in time.

    ``parts`` holds pairs (field: positions (n, 2) -> (n, 2) um, amplitude: time s -> factor).
    Rigid and swirling motions, which are not of that form, are in ``others``.
    """

    parts: tuple[tuple[Callable[[Array], Array], Callable[[float], float]], ...] = ()
    others: tuple[Displacement, ...] = ()

    def __add__(self, other: Motion) -> Motion:
        return Motion(self.parts + other.parts, self.others + other.others)

    def displacement(self, positions: Array, time_s: float) -> Array:
        """Displacement (n, 2) in um at ``time_s`` of what rests at ``positions`` (n, 2) um."""
        total = np.zeros_like(positions, dtype=np.float64)
        for field, amplitude in self.parts:
            total += field(positions) * amplitude(time_s)
        for other in self.others:
            total += other(positions, time_s)
        return total

    def positions(self, points: Array, time_s: float) -> Array:
        """Where ``points`` (n, 2) um are at ``time_s``."""
        return points + self.displacement(points, time_s)

    def followed(self, points: Array) -> Callable[[float], Array]:
        """``time -> positions`` of fixed points; fields are evaluated once, which makes many times cheap."""
        fields = [(field(points), amplitude) for field, amplitude in self.parts]

        def at(time_s: float) -> Array:
            moved = points.astype(np.float64, copy=True)
            for field, amplitude in fields:
                moved += field * amplitude(time_s)
            for other in self.others:
                moved += other(points, time_s)
            return moved

        return at

    def scaled(self, factor: float) -> Motion:
        """Every displacement times ``factor``."""

        def times(other: Displacement) -> Displacement:
            return lambda p, t: other(p, t) * factor

        def faster(amplitude: Callable[[float], float]) -> Callable[[float], float]:
            return lambda t: amplitude(t) * factor

        return Motion(
            tuple((field, faster(amplitude)) for field, amplitude in self.parts),
            tuple(times(other) for other in self.others),
        )

    def rest_positions(self, places: Array, time_s: float, iterations: int = 30) -> Array:
        """Where at rest the points are that pass ``places`` (n, 2) um at ``time_s`` (fixed-point iteration)."""
        rest = places - self.displacement(places, time_s)
        for _ in range(iterations):
            rest = places - self.displacement(rest, time_s)
        return rest

    def material_displacement(self, places: Array, earlier_s: float, later_s: float) -> Array:
        """How far what is at ``places`` at the later time has moved since the earlier one, (n, 2) um."""
        rest = self.rest_positions(places, later_s)
        return self.displacement(rest, later_s) - self.displacement(rest, earlier_s)


def largest_travel(motion: Motion, points: Array, spans: list[tuple[float, float]], samples: int = 9) -> Array:
    """Largest distance (um) between where any of ``points`` is at the start of each span (s) and later in it."""
    follow = motion.followed(points)
    travel = []
    for start, end in spans:
        first = follow(start)
        travel.append(max(float(np.hypot(*(follow(t) - first).T).max()) for t in np.linspace(start, end, samples)[1:]))
    return np.array(travel)


def still() -> Motion:
    """Nothing moves."""
    return Motion()


def drift(velocity_um_s: tuple[float, float]) -> Motion:
    """Constant velocity (y, x), um/s."""
    velocity = np.asarray(velocity_um_s, dtype=np.float64)
    return Motion(((lambda p: np.broadcast_to(velocity, p.shape), lambda t: t),))


def vibration(amplitude_um: tuple[float, float], period_s: float, phase_rad: float = 0.0) -> Motion:
    """The whole sample swings by ``amplitude_um`` (y, x) to either side."""
    amplitude = np.asarray(amplitude_um, dtype=np.float64)
    return Motion(((lambda p: np.broadcast_to(amplitude, p.shape), _swing(period_s, phase_rad)),))


def rotation(rate_rad_s: float, centre_um: tuple[float, float]) -> Motion:
    """Rigid rotation about ``centre_um`` (y, x); positive turns +x towards +y."""
    centre = np.asarray(centre_um, dtype=np.float64)

    def turn(p: Array, t: float) -> Array:
        c, s = np.cos(rate_rad_s * t), np.sin(rate_rad_s * t)
        d = p - centre
        return np.stack([c * d[:, 0] + s * d[:, 1], c * d[:, 1] - s * d[:, 0]], axis=1) - d

    return Motion(others=(turn,))


def swirl(rate_rad_s: float, centre_um: tuple[float, float], radius_um: float) -> Motion:
    """Rotation about ``centre_um`` that fades as ``exp(-(r/radius)^2)``."""
    centre = np.asarray(centre_um, dtype=np.float64)

    def turn(p: Array, t: float) -> Array:
        d = p - centre
        angle = rate_rad_s * t * np.exp(-np.sum(d**2, axis=1) / radius_um**2)
        c, s = np.cos(angle), np.sin(angle)
        return np.stack([c * d[:, 0] + s * d[:, 1], c * d[:, 1] - s * d[:, 0]], axis=1) - d

    return Motion(others=(turn,))


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
    parts = []
    for _ in range(number):
        centre = np.array([rng.uniform(y0, y1), rng.uniform(x0, x1)])
        strength = amplitude_um * rng.choice([-1.0, 1.0]) * rng.uniform(0.6, 1.0)
        parts.append(
            (
                _eddy(centre, size_um * rng.uniform(0.8, 1.25), strength),
                _swing(period_s * rng.uniform(0.75, 1.35), rng.uniform(0, 2 * np.pi)),
            )
        )
    return Motion(tuple(parts))


def _eddy(centre: Array, size: float, strength: float) -> Callable[[Array], Array]:
    def field(p: Array) -> Array:
        d = (p - centre) / size
        # curl of exp(-d^2/2): divergence-free; exp(1/2) makes the largest length 1
        gain = strength * np.exp(0.5 - np.sum(d**2, axis=1) / 2)
        return np.stack([gain * d[:, 1], -gain * d[:, 0]], axis=1)

    return field


def _swing(period_s: float, phase: float) -> Callable[[float], float]:
    return lambda t: float(np.sin(2 * np.pi * t / period_s + phase))
