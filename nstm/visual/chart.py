"""Figures of merit over time as lines of an SVG that follows the colours of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from nstm.visual import tables
from nstm.visual.tables import listing, mapping, number
from nstm.visual.text import time_labels

#: Number of the page's colour of a method, as in the figures; others take those that are left.
_TONES = {"nstm": 1, "conventional": 2, "static": 4, "widefield": 5}
_LEFT = (3, 6)


def _tone(name: str, names: Iterable[str]) -> int:
    others = [other for other in names if other not in _TONES]
    return _TONES[name] if name in _TONES else _LEFT[others.index(name) % len(_LEFT)]


def chart(metrics: Any, width: int = 640, height: int = 220) -> dict[str, Any] | None:
    """Equalised PSNR of every method over time, as lines of an SVG; ``None`` with fewer than two times."""
    times = [number(t) for t in listing(mapping(metrics).get("times_s"))]
    lines = {}
    for name, block in mapping(mapping(metrics).get("methods")).items():
        values = [number(v) for v in listing(mapping(block).get("psnr_equalised"))]
        if len(values) == len(times) and any(v is not None for v in values):
            lines[name] = values
    known = [t for t in times if t is not None]
    if len(known) < 2 or len(known) != len(times) or not lines or max(known) <= min(known):
        return None
    levels = [v for values in lines.values() for v in values if v is not None]
    step = next(s for s in (1, 2, 5, 10, 20, 50, 1e3, 1e6, math.inf) if (max(levels) - min(levels)) / s <= 5)
    low = math.floor(min(levels) / step - 0.05) * step if math.isfinite(step) else min(levels)
    high = math.ceil(max(levels) / step + 0.05) * step if math.isfinite(step) else max(levels) + 1
    left, right, top, bottom = 46, width - 12, 10, height - 34

    def place(t: float, v: float) -> tuple[float, float]:
        x = left + (t - min(known)) / (max(known) - min(known)) * (right - left)
        return round(x, 1), round(bottom - (v - low) / (high - low) * (bottom - top), 1)

    drawn = []
    for name in sorted(lines, key=lambda n: (n != "nstm", n))[:6]:
        runs: list[list[tuple[float, float]]] = [[]]
        for t, v in zip(known, lines[name], strict=True):
            if v is None:
                runs.append([])  # a gap stays a gap
            else:
                runs[-1].append(place(t, v))
        points = [p for run in runs for p in run]
        paths = [" ".join(f"{x},{y}" for x, y in run) for run in runs if len(run) > 1]
        shown = points if len(points) <= 120 else []
        drawn.append({"name": tables.method_name(name), "tone": _tone(name, lines), "paths": paths, "points": shown})
    count = round((high - low) / step) if math.isfinite(step) else 1
    ticks = [low + (high - low) * i / count for i in range(count + 1)]
    stamps = time_labels([min(known), max(known)])
    return {
        "width": width, "height": height, "left": left, "right": right, "top": top, "bottom": bottom,
        "lines": drawn, "ticks": [(place(known[0], v)[1], f"{v:g}") for v in ticks], "times": stamps,
    }  # fmt: skip
