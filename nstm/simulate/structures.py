"""Fluorescent structures as weighted points: motion moves the points, whatever model later explains them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import Voronoi

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """Emitters: ``position`` (n, d), ``weight`` (n,).

    Positions are (y, x), or (z, y, x), in um from the centre of camera pixel (0, 0) of the first plane.
    """

    position: Array
    weight: Array

    def __post_init__(self) -> None:
        if self.position.ndim != 2 or len(self.position) != self.weight.size or self.position.shape[1] not in (2, 3):
            raise ValueError(f"positions {self.position.shape} do not fit {self.weight.size} weights")

    def joined(self, other: Points) -> Points:
        """Both sets of emitters."""
        return Points(np.vstack([self.position, other.position]), np.r_[self.weight, other.weight])

    def scaled(self, factor: float) -> Points:
        """The same emitters, ``factor`` times as bright."""
        return Points(self.position, self.weight * factor)

    def merged(self, cell_um: float) -> Points:
        """Fewer emitters: those within one cell of a grid become one, where their centre of mass is."""
        cells = np.floor(self.position / cell_um).astype(np.int64)
        _, number = np.unique(cells, axis=0, return_inverse=True)
        number = number.ravel()
        weight = np.asarray(np.bincount(number, self.weight), np.float64)
        moment = [np.bincount(number, self.weight * axis) for axis in self.position.T]
        return Points(np.stack(moment, axis=1) / weight[:, None], weight)


@dataclass(frozen=True)
class Area:
    """The rectangle (um) in which a structure is made; larger than the field, so that light enters from outside."""

    y0: float
    x0: float
    y1: float
    x1: float

    @staticmethod
    def of_field(shape: tuple[int, int], pixel_um: float, margin_um: float) -> Area:
        """A camera field of ``(y, x)`` pixels and ``margin_um`` around it."""
        y, x = shape
        return Area(-margin_um, -margin_um, y * pixel_um + margin_um, x * pixel_um + margin_um)

    @property
    def size(self) -> Array:
        """Height and width, um."""
        return np.array([self.y1 - self.y0, self.x1 - self.x0])

    def uniform(self, rng: np.random.Generator, n: int) -> Array:
        """``n`` random positions."""
        return np.array([self.y0, self.x0]) + rng.random((n, 2)) * self.size


#: Distance of the points along and across what they draw, um: a quarter of a pixel of a 2x result at 65 nm.
SPACING_UM = 0.008
#: Offsets (in standard deviations) and weights across a thin round structure.
_ACROSS = np.linspace(-2, 2, 5)
_PROFILE = np.exp(-(_ACROSS**2) / 2) / np.exp(-(_ACROSS**2) / 2).sum()


def ribbon(path: Array, brightness: Array, sigma_um: float) -> Points:
    """A curve drawn with a Gaussian cross section.

    Args:
        path: (n, 2) points along the curve, um, close to each other.
        brightness: (n,) light per um at them.
        sigma_um: standard deviation of the cross section, um.
    """
    step = np.gradient(path, axis=0)
    length = np.hypot(*step.T)
    normal = np.stack([-step[:, 1], step[:, 0]], axis=1) / np.maximum(length, 1e-12)[:, None]
    position = path[:, None] + normal[:, None] * (_ACROSS * sigma_um)[None, :, None]
    weight = (brightness * length)[:, None] * _PROFILE
    return Points(position.reshape(-1, 2), weight.ravel())


def _wander(rng: np.random.Generator, n: int, correlation: float) -> Array:
    """A smooth random curve of about unit standard deviation, ``correlation`` (at least 1) samples long."""
    border = int(4 * correlation)
    smooth = gaussian_filter1d(rng.standard_normal(n + 2 * border), correlation)[border : border + n]
    return np.asarray(smooth * np.sqrt(2 * np.sqrt(np.pi) * correlation))  # a Gaussian of unit sum has that power


def _tubule(rng: np.random.Generator, a: Array, b: Array, bend: float, sigma_um: float) -> Points:
    """A curved tubule between two junctions; ``bend`` is the height of its bow in units of its length."""
    length = float(np.hypot(*(b - a)))
    n = max(4, int(np.ceil(length / SPACING_UM)))
    u = np.linspace(0, 1, n)
    bow = length * (np.sin(np.pi * u) * rng.normal(0, bend) + np.sin(2 * np.pi * u) * rng.normal(0, bend / 2))
    direction = (b - a) / max(length, 1e-12)
    path = a + u[:, None] * (b - a) + bow[:, None] * np.array([-direction[1], direction[0]])
    brightness = rng.uniform(0.6, 1.2) * (1 + 0.12 * _wander(rng, n, 0.15 / SPACING_UM))
    return ribbon(path, np.maximum(brightness, 0.2), sigma_um)


def er_network(seed: int, area: Area, *, mesh_um: float = 1.0, sigma_um: float = 0.03, sheets: int = 10) -> Points:
    """An endoplasmic reticulum: a polygonal network of tubules with three-way junctions, and some sheets.

    Args:
        seed: the same seed gives the same network.
        area: where.
        mesh_um: typical distance of junction-free holes, um.
        sigma_um: standard deviation of a tubule's cross section, um.
        sheets: number of sheet-like patches.
    """
    rng = np.random.default_rng(seed)
    around = Area(area.y0 - mesh_um, area.x0 - mesh_um, area.y1 + mesh_um, area.x1 + mesh_um)
    cells = _scattered(rng, around, mesh_um)
    diagram = Voronoi(cells)  # its vertices are three-way junctions
    parts = []
    for first, second in diagram.ridge_vertices:
        if first < 0 or rng.random() < 0.07:  # open to infinity; some tubules are missing
            continue
        a, b = diagram.vertices[first], diagram.vertices[second]
        inside = np.all([(a > [around.y0, around.x0]) & (a < [around.y1, around.x1])])
        if inside and np.hypot(*(b - a)) < 3 * mesh_um:
            parts.append(_tubule(rng, a, b, 0.1, sigma_um))
    for _ in range(sheets):
        parts.append(_sheet(rng, around.uniform(rng, 1)[0], rng.uniform(0.35, 0.6) * mesh_um))
    return _inside(_all(parts), area)


def filaments(seed: int, area: Area, *, number: int = 14, sigma_um: float = 0.015, bend_um: float = 4.0) -> Points:
    """Filaments (microtubule-like): long curves that cross the area.

    Args:
        seed: the same seed gives the same filaments.
        area: where.
        number: how many.
        sigma_um: standard deviation of the cross section, um.
        bend_um: length over which the direction wanders by about one radian, um.
    """
    rng = np.random.default_rng(seed)
    reach = float(np.hypot(*area.size))
    n = int(2 * reach / SPACING_UM)
    parts = []
    for start in area.uniform(rng, number):
        turning = _wander(rng, n, 0.5 * bend_um / SPACING_UM) * 0.6
        angle = rng.uniform(0, 2 * np.pi) + turning - turning[n // 2]
        path = np.cumsum(np.stack([np.sin(angle), np.cos(angle)], axis=1) * SPACING_UM, axis=0)
        path += start - path[n // 2]
        light = rng.uniform(0.7, 1.1) * (1 + 0.1 * _wander(rng, n, 0.1 / SPACING_UM))
        parts.append(ribbon(path, np.maximum(light, 0.2), sigma_um))
    return _inside(_all(parts), area)


def through_depth(points: Points, seed: int, low_um: float, high_um: float, *, scale_um: float = 4.0) -> Points:
    """A flat structure laid on a smooth random surface between two depths: (y, x) become (z, y, x).

    Args:
        points: (n, 2).
        seed: the same seed gives the same surface.
        low_um: smallest z.
        high_um: largest z.
        scale_um: shortest wavelength of the surface.
    """
    rng = np.random.default_rng([seed, 3])
    angle, length = rng.uniform(0, 2 * np.pi, 8), rng.uniform(0.4, 1.0, 8) * 2 * np.pi / scale_um
    waves = points.position @ (length * np.stack([np.sin(angle), np.cos(angle)])) + rng.uniform(0, 2 * np.pi, 8)
    height = 0.5 + 0.5 * np.tanh(0.7 * np.cos(waves).sum(axis=1))
    return Points(np.column_stack([low_um + (high_um - low_um) * height, points.position]), points.weight)


def _scattered(rng: np.random.Generator, area: Area, distance: float) -> Array:
    """Positions no closer than 0.6 ``distance``: uneven but not clumped, as the holes of the network are."""
    wanted = int(np.prod(area.size) / distance**2)
    kept = np.zeros((0, 2))
    for candidate in area.uniform(rng, 30 * wanted):
        if kept.size == 0 or np.min(np.sum((kept - candidate) ** 2, axis=1)) > (0.6 * distance) ** 2:
            kept = np.vstack([kept, candidate])
    return kept


def _sheet(rng: np.random.Generator, centre: Array, radius: float) -> Points:
    """A flat patch with a wavy outline and a soft edge; as bright per area as a few tubules side by side."""
    spacing = 2 * SPACING_UM
    axis = np.arange(-1.6 * radius, 1.6 * radius, spacing)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    angle, distance = np.arctan2(grid[:, 0], grid[:, 1]), np.hypot(*grid.T)
    edge = radius * np.ones(angle.size)
    for order in (2, 3, 5):
        edge += radius * rng.normal(0, 0.13) * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    inside = 1 / (1 + np.exp((distance - edge) / 0.03))
    keep = inside > 1e-3
    return Points(centre + grid[keep], inside[keep] * 7.0 * spacing**2)


def _all(parts: list[Points]) -> Points:
    return Points(np.vstack([p.position for p in parts]), np.concatenate([p.weight for p in parts]))


def _inside(points: Points, area: Area) -> Points:
    low, high = np.array([area.y0, area.x0]), np.array([area.y1, area.x1])
    keep = np.all((points.position >= low) & (points.position <= high), axis=1)
    return Points(points.position[keep], points.weight[keep])
