"""A field too large for the memory: fitted in overlapping tiles, blended into one result.

Every tile is a fit of its own with its own padding. Tiles explain the same frames where they overlap, so there their
scenes at one time agree within the noise, whatever canonical frame each of them chose.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from nstm.acquisition import DataError
from nstm.optics.grids import samples
from nstm.settings import Reconstruction, override
from nstm.spacetime import result
from nstm.spacetime.fit import Trace
from nstm.spacetime.result import Fit
from nstm.systems.base import ImagingSystem

#: Camera pixels that neighbouring tiles share at least; in small tiles a third of their side.
OVERLAP_PX = 32
#: Camera pixels along the side of the smallest tiles that the memory is allowed to ask for.
SMALLEST_PX = 48
_SCHEMA = 1


@dataclass(frozen=True)
class Tiling:
    """Overlapping tiles of one shape that cover a field; camera pixels, ``(y, x)``."""

    field: tuple[int, int]
    shape: tuple[int, int]
    corners: tuple[tuple[int, int], ...]

    @property
    def overlap_px(self) -> float:
        """What neighbours share at least; without neighbours no end of it."""
        along = [(np.unique([c[axis] for c in self.corners]), side) for axis, side in enumerate(self.shape)]
        return min((side - float(np.diff(c).max()) for c, side in along if len(c) > 1), default=math.inf)

    def weights(self, ratio: float = 1.0) -> list[np.ndarray]:
        """Weight of every tile in the blend, ``(y, x)`` with ``ratio`` samples per camera pixel.

        They sum to one at every sample of the field, rise as ``sin^2`` from the edges that a tile shares with a
        neighbour, and stay 1 to the edges of the field.
        """
        sides = [
            _ramps(n, side, sorted({c[axis] for c in self.corners}), ratio)
            for axis, (n, side) in enumerate(zip(self.field, self.shape, strict=True))
        ]
        return [sides[0][y][:, None] * sides[1][x][None, :] for y, x in self.corners]

    def places(self, ratio: float = 1.0) -> list[tuple[slice, slice]]:
        """Where every tile lies in the field."""
        rows, columns = (samples(n, ratio) for n in self.shape)
        starts = [(samples(y, ratio), samples(x, ratio)) for y, x in self.corners]
        return [(slice(y, y + rows), slice(x, x + columns)) for y, x in starts]


def _ramps(length: int, side: int, corners: Sequence[int], ratio: float) -> dict[int, np.ndarray]:
    """Weights along one axis by corner."""
    raw = {}
    for i, corner in enumerate(corners):
        at = (np.arange(samples(side, ratio)) + 0.5) / ratio
        weight = np.ones_like(at)
        if i > 0:
            weight *= _rise(at, corners[i - 1] + side - corner)
        if i + 1 < len(corners):
            weight *= _rise(side - at, corner + side - corners[i + 1])
        raw[corner] = weight
    total = np.zeros(samples(length, ratio))
    for corner, weight in raw.items():
        total[samples(corner, ratio) :][: len(weight)] += weight
    return {c: (w / total[samples(c, ratio) :][: len(w)]).astype(np.float32) for c, w in raw.items()}


def _rise(distance: np.ndarray, width: float) -> np.ndarray:
    """From 0 at the edge to 1 at ``width`` from it."""
    return np.sin(np.pi / 2 * np.clip(distance / width, 0, 1)) ** 2


def tiling(field: tuple[int, int], tile_px: int, ratio: float) -> Tiling:
    """Tiles of at most ``tile_px`` camera pixels along each side.

    Args:
        field: rows and columns of the frames.
        tile_px: largest side.
        ratio: samples of the result per camera pixel; all tiles begin on samples of both grids.

    Raises:
        DataError: no tile of that size meets the samples of both grids.
    """
    if tile_px >= max(field):
        return Tiling(field, field, ((0, 0),))
    step = next((n for n in range(1, 65) if math.isclose(n * ratio, round(n * ratio), abs_tol=1e-6)), None)
    if step is None:
        raise DataError(
            f"tiles of {tile_px} px do not begin on samples of both grids with {ratio:g} pixels of the result per "
            "camera pixel: give optics.upsampling a ratio of small whole numbers, such as 1.5, or the fit more memory "
            "(reconstruction.memory_gb, reconstruction.tile_px empty)"
        )
    shape, along = [], []
    for length in field:
        side = length - step * max(0, math.ceil((length - tile_px) / step))
        overlap = min(OVERLAP_PX, side // 3)
        if side < length and overlap < step:
            raise DataError(
                f"tiles of {tile_px} px are too small for {ratio:g} pixels of the result per camera pixel: give "
                "optics.upsampling a ratio of smaller whole numbers, such as 1.5, or reconstruction.tile_px more"
            )
        count = 1 if side == length else math.ceil((length - overlap) / (side - overlap))
        ends = np.linspace(0, (length - side) // step, count)
        shape.append(side)
        along.append([int(step * round(c)) for c in ends])
    corners = tuple((y, x) for y in along[0] for x in along[1])
    return Tiling((field[0], field[1]), (shape[0], shape[1]), corners)


@dataclass(frozen=True)
class Tiles:
    """Scene and motion of one acquisition from overlapping fits; what it offers is what :class:`Fit` offers."""

    tiling: Tiling
    fits: tuple[Fit, ...]

    @property
    def system(self) -> ImagingSystem:
        """The system."""
        return self.fits[0].system

    @property
    def settings(self) -> Reconstruction:
        """Those of the tile that needed the coarsest start, with the levels for parts that slide of any tile."""
        coarsest = min((fit.settings for fit in self.fits), key=lambda s: s.of_scene.scene_coarsest)
        levels = max(fit.settings.multigrid.motion_sliding_levels for fit in self.fits)
        return override(coarsest, {"multigrid": {"motion_sliding_levels": levels}})

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """Planes, rows and columns of the field."""
        return (self.fits[0].frame_shape[0], *self.tiling.field)

    @property
    def pixel_um(self) -> float:
        """Camera pixel, um."""
        return self.fits[0].pixel_um

    @property
    def output_pixel_um(self) -> float:
        """Pixel of the result, um."""
        return self.fits[0].output_pixel_um

    @property
    def times_s(self) -> np.ndarray:
        """Times of the frames, s."""
        return self.fits[0].times_s

    @property
    def located(self) -> bool:
        """See :attr:`Fit.located`."""
        return self.fits[0].located

    @property
    def seen_s(self) -> np.ndarray:
        """See :attr:`Fit.seen_s`."""
        return self.fits[0].seen_s

    @property
    def scale(self) -> float:
        """Counts that the engine works in units of, the same for all tiles."""
        return self.fits[0].scale

    @property
    def noise_variance(self) -> np.ndarray | None:
        """Mean over the tiles, ``(m,)``, counts squared."""
        known = [fit.noise_variance for fit in self.fits if fit.noise_variance is not None]
        return np.mean(known, axis=0) if known else None

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Corrections of the illumination, mean over the tiles; the other coefficients are the tiles' own."""
        names = self.fits[0].parameters["illumination"]
        return {
            "illumination": {n: np.mean([f.parameters["illumination"][n] for f in self.fits], axis=0) for n in names}
        }

    @cached_property
    def trace(self) -> Trace:
        """Mean losses, a tile that ended early at its last one; the seconds of all tiles together."""
        traces = [fit.trace for fit in self.fits]
        steps = max(len(t.loss) for t in traces)
        return replace(
            traces[0],
            loss=np.mean([np.pad(t.loss, (0, steps - len(t.loss)), mode="edge") for t in traces], axis=0),
            frame_loss=np.mean([t.frame_loss for t in traces], axis=0),
            seconds=sum(t.seconds for t in traces),
            compile_seconds=sum(t.compile_seconds for t in traces),
            early=all(t.early for t in traces),
        )

    @cached_property
    def residual(self) -> np.ndarray:
        """Measured minus predicted ``(m, z, v, u)``, counts."""
        return self._blend((fit.residual for fit in self.fits), 1.0)

    @cached_property
    def smooth_residual(self) -> np.ndarray | None:
        """See :class:`Fit`; ``None`` where no tile has one."""
        smooth = [fit.smooth_residual for fit in self.fits]
        if all(residual is None for residual in smooth):
            return None
        each = zip(smooth, self.fits, strict=True)
        return self._blend((fit.residual if residual is None else residual for residual, fit in each), 1.0)

    @property
    def snapshots(self) -> dict[int, np.ndarray]:
        """See :attr:`Fit.snapshots`."""
        each = [fit.snapshots for fit in self.fits]
        steps = sorted(set.intersection(*map(set, each)))
        return {step: self._blend((scenes[step] for scenes in each), self.system.grid_ratio) for step in steps}

    def scene(self, times_s: np.ndarray) -> np.ndarray:
        """See :meth:`Fit.scene`."""
        return self._blend((fit.scene(times_s) for fit in self.fits), self.system.grid_ratio)

    def motion(self, times_s: np.ndarray) -> np.ndarray:
        """See :meth:`Fit.motion`."""
        return self._blend((fit.motion(times_s) for fit in self.fits), self.system.grid_ratio)

    def predicted(self) -> np.ndarray:
        """Predicted measurements ``(m, z, v, u)``, counts."""
        return self._blend((fit.predicted() for fit in self.fits), 1.0)

    def trajectory(self, points_um: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """See :meth:`Fit.trajectory`; from time to time a point follows the tiles that it is in, by their weights."""
        path = [np.asarray(points_um, np.float64)]
        for i in range(1, len(times_s)):
            shares = self._shares(path[-1][:, -2:])
            following = np.zeros_like(path[-1])
            for fit, corner, share in zip(self.fits, self.tiling.corners, shares, strict=True):
                inside = share > 0
                if inside.any():
                    origin = np.zeros(following.shape[1])
                    origin[-2:] = np.multiply(corner, self.pixel_um)
                    moved = fit.trajectory(path[-1][inside] - origin, times_s[i - 1 : i + 1])[1] + origin
                    following[inside] += share[inside, None] * moved
            path.append(following)
        return np.stack(path)

    def _shares(self, points_um: np.ndarray) -> np.ndarray:
        """Weight of every tile at points ``(n, 2)``, ``(tile, n)``."""
        limits = np.array(self.tiling.field) - 1
        at = np.clip(np.round(points_um / self.pixel_um), 0, limits).astype(int)
        shares = np.zeros((len(self.fits), len(at)))
        whole = np.zeros(self.tiling.field, np.float32)
        for share, weight, place in zip(shares, self.tiling.weights(), self.tiling.places(), strict=True):
            whole[...] = 0
            whole[place] = weight
            share[:] = whole[at[:, 0], at[:, 1]]
        return shares

    def _blend(self, parts: Iterable[np.ndarray], ratio: float) -> np.ndarray:
        """Weighted mean of the tiles' images ``(..., y, x)``; NaN where less than half of the weight has a value."""
        total = share = np.zeros(0)
        for part, weight, place in zip(parts, self.tiling.weights(ratio), self.tiling.places(ratio), strict=True):
            if not total.size:
                shape = *part.shape[:-2], *(samples(n, ratio) for n in self.tiling.field)
                total, share = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
            known = np.isfinite(part)
            total[(..., *place)] += np.where(known, part, 0) * weight
            share[(..., *place)] += known * weight
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(share >= 0.5, total / share, np.float32(np.nan))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all tiles to one ``.npz`` file, each as the file that :meth:`Fit.save` writes."""
        meta = {"schema": _SCHEMA, "field": self.tiling.field, "shape": self.tiling.shape}
        partial = Path(path).with_name(f".{Path(path).name}.partial-{os.getpid()}")
        with tempfile.TemporaryDirectory() as folder, partial.open("wb") as file:
            files = {}
            for i, fit in enumerate(self.fits):
                one = Path(folder) / f"{i}.npz"
                fit.save(one)
                files[f"tile_{i}"] = np.fromfile(one, np.uint8)
            corners = np.array(self.tiling.corners)
            np.savez(file, tiles=np.array(json.dumps(meta)), corners=corners, **files)  # type: ignore[arg-type]  # of numpy's stub
        partial.replace(path)


def load(path: str | os.PathLike[str]) -> Fit | Tiles:
    """Read what :meth:`Fit.save` or :meth:`Tiles.save` wrote.

    Raises:
        DataError: not such a file, or of an unknown version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files} if "tiles" in file.files else None
    except (OSError, EOFError, ValueError, TypeError, BadZipFile) as error:
        raise DataError(f"{path}: not a saved fit ({error}); give a file that fit.save wrote") from error
    if arrays is None:
        return result.load(path)
    meta = json.loads(str(arrays["tiles"]))
    if meta["schema"] != _SCHEMA:
        raise DataError(f"{path}: tiles of version {meta['schema']!r}, this program reads version {_SCHEMA}")
    corners = tuple((int(y), int(x)) for y, x in arrays["corners"])
    with tempfile.TemporaryDirectory() as folder:
        fits = []
        for i in range(len(corners)):
            one = Path(folder) / f"{i}.npz"
            arrays[f"tile_{i}"].tofile(one)
            fits.append(result.load(one))
    return Tiles(Tiling(tuple(meta["field"]), tuple(meta["shape"]), corners), tuple(fits))


def plan(
    field: tuple[int, int],
    frames: int,
    ratio: float,
    settings: Reconstruction,
    need: Callable[[tuple[int, int], Reconstruction], int],
    available: int,
) -> tuple[Tiling, Reconstruction]:
    """Tiles that fit into the memory, one for the whole field if it does, and the settings to fit them with.

    First fewer frames are rendered together, which changes no result, then the tiles get smaller.

    Args:
        field: rows and columns of the frames.
        frames: their number.
        ratio: samples of the result per camera pixel.
        settings: of the fit.
        need: peak memory of the fit of some rows and columns under some settings, bytes.
        available: bytes.

    Raises:
        DataError: not even the smallest tile fits.
    """
    if settings.tile_px is not None:
        return tiling(field, settings.tile_px, ratio), settings
    side = max(field)
    whole = need(field, settings)
    if whole <= available:
        return tiling(field, side, ratio), settings
    one = settings.model_copy(update={"frames_at_once": 1})
    least = need(field, one)
    if least <= available:
        together, fewer = settings.frames_at_once or frames, settings
        while whole > available and together > 1:
            together = next(n for n in range(together - 1, 0, -1) if frames % n == 0)
            fewer = settings.model_copy(update={"frames_at_once": together})
            whole = need(field, fewer)
        print(f"{_short(whole, available)}: {together} frames are rendered together", file=sys.stderr)
        return tiling(field, side, ratio), fewer
    tiles, used = tiling(field, side, ratio), least
    while used > available:
        wanted = _area(field, side, settings) * available / used
        side = next((n for n in range(side - 1, SMALLEST_PX - 1, -1) if _area(field, n, settings) <= wanted), 0)
        if not side:
            raise DataError(
                f"{_short(least, available)}, which does not suffice for tiles of {SMALLEST_PX} pixels either: run it "
                "where there is more memory, or set reconstruction.memory_gb"
            )
        tiles = tiling(field, side, ratio)
        used = need(tiles.shape, one)
    shape = f"{tiles.shape[0]} x {tiles.shape[1]}"
    print(f"{_short(least, available)}: {len(tiles.corners)} tiles of {shape} pixels", file=sys.stderr)
    return tiles, one


def _short(needed: int, available: int) -> str:
    return f"the fit of the whole field needs {needed / 1e9:.2g} GB of memory, there are {available / 1e9:.2g} GB"


def _area(field: tuple[int, int], side: int, settings: Reconstruction) -> int:
    """Camera pixels of a tile with its padding."""
    return math.prod(min(n, side) + 2 * settings.padding_px for n in field)
