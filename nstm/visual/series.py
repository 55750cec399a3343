"""Methods on one time axis: panels, the moments that a movie shows, and what a time is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from nstm.acquisition import DataError


@dataclass(frozen=True)
class Outline:
    """A region of the field to read with care, at some of the times.

    Args:
        corners_um: ``(n, 2)``, (y, x) of its corners from the corner of the field, um.
        times: indices of the times at which it counts.
        mark: what stands beside it: ``!`` must not be believed, ``?`` is explained only by parts that slide.
    """

    corners_um: np.ndarray
    times: frozenset[int]
    mark: str = "!"


@dataclass(frozen=True)
class Panel:
    """One panel of a movie or figure.

    Args:
        name: what stands above it.
        images: dims ``(t, c, z, y, x)``, coordinate ``t`` in s, ``attrs["pixel_um"]``; NaN where no result
            exists; ``attrs["flags"]`` may say why, one text per time.
        footnote: a caveat that stands below it.
        displacement: of the structure since the previous time, um, the same grid with channels ``(z,) y, x``; with it
            the panel is carried along between its times. ``None``: it changes at its times only.
        arrows: draw the displacement as arrows on the dimmed structure.
        outlines: regions to read with care.
    """

    name: str
    images: xr.DataArray
    footnote: str = ""
    displacement: xr.DataArray | None = None
    arrows: bool = False
    outlines: Sequence[Outline] = field(default=())

    def reason(self, time_index: int) -> str:
        """Why there is no result at this time, where the store says so."""
        flags = self.images.attrs.get("flags") or []
        return str(flags[time_index] or "") if time_index < len(flags) else ""

    def moved(self, time_index: int) -> np.ndarray | None:
        """Displacement since the previous time, ``(d, z, y, x)`` um; ``None`` where nothing is known of it."""
        if self.displacement is None:
            return None
        found = np.asarray(self.displacement.isel(t=time_index).values, dtype=np.float32)
        return found if np.isfinite(found).any() else None

    def outlined(self, time_index: int) -> list[Outline]:
        """The regions to read with care at this time."""
        return [outline for outline in self.outlines if time_index in outline.times]


@dataclass(frozen=True)
class Moment:
    """What a frame of a movie shows: ``share`` of the way from the time before ``index`` to it; 1: that time itself."""

    index: int
    share: float
    time_s: float

    @property
    def measured(self) -> bool:
        """Whether it is one of the times of the results."""
        return self.share == 1


def moments(times_s: np.ndarray, per_time: int) -> list[Moment]:
    """The moments of a movie with ``per_time`` frames from one time to the next, the first time first."""
    found = [Moment(0, 1.0, float(times_s[0]))]
    for index in range(1, len(times_s)):
        before, after = float(times_s[index - 1]), float(times_s[index])
        for k in range(1, per_time + 1):
            share = k / per_time
            found.append(Moment(index, share, before + share * (after - before)))
    return found


def frames_per_time(panels: Sequence[Panel], wanted: int) -> int:
    """Movie frames from one time to the next: one where no panel can be carried along between them."""
    return wanted if any(panel.displacement is not None for panel in panels) else 1


def shared_times(panels: Sequence[Panel]) -> np.ndarray:
    """The times (s) that all panels share.

    Raises:
        DataError: there is no panel, no time, or the times differ.
    """
    if not panels:
        raise DataError("nothing to show: no panel was given")
    times = np.asarray(panels[0].images["t"].values, dtype=np.float64)
    if times.size == 0:
        raise DataError(f"panel {panels[0].name!r} holds no time: nothing to show")
    for panel in panels[1:]:
        other = np.asarray(panel.images["t"].values, dtype=np.float64)
        if other.shape != times.shape or not np.allclose(other, times, rtol=1e-9, atol=1e-9):
            raise DataError(
                f"panels {panels[0].name!r} ({times.size} times) and {panel.name!r} ({other.size} times) have "
                "different times: put them on one time axis first"
            )
    return times


def field_aspect(panels: Sequence[Panel]) -> float:
    """Width / height of the field (of the widest panel)."""
    return max(panel.images.sizes["x"] / panel.images.sizes["y"] for panel in panels)


def block_of(panels: Sequence[Panel], time_index: int) -> tuple[int, int, int, str] | None:
    """Acquisition, block, number of blocks and what a block is called; ``None`` where no store says it.

    Stores carry ``block``, one number per time counted from 0 (-1: not the time of a block), and may carry
    ``block_name``. Where every time is that of a block, each acquisition has the same number of them.
    """
    for panel in panels:
        blocks = panel.images.attrs.get("block")
        if not isinstance(blocks, list) or len(blocks) != panel.images.sizes["t"]:
            continue
        count = max(blocks) + 1
        if min(blocks) < 0 or len(blocks) % count:
            return None
        name = str(panel.images.attrs.get("block_name", "orientation"))
        return time_index // count, blocks[time_index], count, name
    return None


def place_in_series(panels: Sequence[Panel], time_index: int) -> str:
    """Which acquisition, and which orientation (block) of it, a time belongs to, where a store says so."""
    found = block_of(panels, time_index)
    if found is None:
        return ""
    acquisition, block, _, name = found
    return f"acquisition {acquisition}, {name} {block}"


def align_times(images: xr.DataArray, times_s: np.ndarray) -> xr.DataArray:
    """``images`` on the times of the others: the nearest within half the shortest step, NaN where there is none.

    A reference of a single time (a static sample) stands at every time; its panel must say so.
    """
    own = np.asarray(images["t"].values, dtype=np.float64)
    if own.size == 1 and times_s.size > 1:
        chosen = np.zeros(times_s.size, dtype=int)
        there = np.ones(times_s.size, dtype=bool)
    else:
        chosen = np.abs(own[None, :] - times_s[:, None]).argmin(axis=1)
        steps = np.diff(np.unique(times_s))
        tolerance = 0.5 * float(steps.min()) if steps.size else np.inf
        there = np.abs(own[chosen] - times_s) <= tolerance + 1e-9
    flags = list(images.attrs.get("flags") or [""] * own.size)
    picked = images.isel(t=chosen).assign_coords(t=times_s).astype(np.float32)
    picked = picked.where(xr.DataArray(there, dims="t", coords={"t": times_s}))
    picked.attrs = {
        **images.attrs,
        "flags": [flags[c] if ok else "the reference has no such time" for c, ok in zip(chosen, there, strict=True)],
    }
    return picked
