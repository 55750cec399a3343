"""The JSON results of a sample as rows of text for the report; tolerant of anything that a file may hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nstm.visual.text import one_line

NONE = "–"
STATES = ("pass", "warn", "fail")

#: Rows of a table that the page shows; the files beside the page hold all.
MOST_ROWS = 200


@dataclass(frozen=True)
class Table:
    """A table of plain text; ``states`` are the states of the rows (or empty)."""

    caption: str
    head: list[str]
    rows: list[list[str]]
    states: list[str] = field(default_factory=list)
    note: str = ""
    wordy: int | None = None  # index of a column of sentences


def without_empty_words(table: Table) -> Table:
    """The table without its column of sentences where no row has one."""
    k = table.wordy
    if k is None or any(row[k] for row in table.rows):
        return table
    rows = [row[:k] + row[k + 1 :] for row in table.rows]
    return Table(table.caption, table.head[:k] + table.head[k + 1 :], rows, table.states, table.note)


def mapping(value: Any) -> Mapping[str, Any]:
    """``value`` where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def listing(value: Any) -> Sequence[Any]:
    """``value`` where it is a list, else an empty one."""
    return value if isinstance(value, list | tuple) else []


def number(value: Any) -> float | None:
    """``value`` where it is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def fixed(value: Any, decimals: int, unit: str = "") -> str:
    """A number with fixed decimals, a dash where there is none."""
    found = number(value)
    return NONE if found is None else f"{found:.{decimals}f}{unit}"


def short(value: Any, digits: int = 3, unit: str = "") -> str:
    """A number with significant digits, a dash where there is none."""
    found = number(value)
    if found is None:
        return NONE
    text = f"{found:.0f}" if abs(found) >= 10**digits else f"{found:.{digits}g}"
    return text + unit


def spread(value: Any, digits: int = 3, unit: str = "") -> str:
    """A number, or the mean and the largest of a list of numbers."""
    if number(value) is not None:
        return short(value, digits, unit)
    found = [n for n in map(number, flat(value)) if n is not None]
    if not found:
        return NONE
    mean = short(sum(found) / len(found), digits, unit)
    return mean if len(found) == 1 else f"{mean} (max {short(max(found), digits, unit)})"


def flat(value: Any) -> Iterable[Any]:
    """All items of nested lists."""
    for item in listing(value):
        if isinstance(item, list | tuple):
            yield from flat(item)
        else:
            yield item


def size_text(count: Any) -> str:
    """Bytes in a readable unit."""
    found = number(count)
    if found is None:
        return NONE
    for unit in ("B", "kB", "MB", "GB"):
        if found < 1000:
            return f"{found:.0f} {unit}" if unit == "B" else f"{found:.1f} {unit}"
        found /= 1000
    return f"{found:.1f} TB"


def duration_text(seconds: Any) -> str:
    """Seconds as s, min or h."""
    found = number(seconds)
    if found is None:
        return NONE
    if found < 120:
        return f"{found:.1f} s"
    return f"{found / 60:.1f} min" if found < 7200 else f"{found / 3600:.1f} h"


def state(block: Any) -> str:
    """``pass``, ``warn`` or ``fail``; anything else is a failure."""
    value = mapping(block).get("status")
    return value if value in STATES else "fail"


def reasons(block: Any) -> list[dict[str, str]]:
    """Reasons of a block as ``{"severity", "message"}``, doubles removed."""
    out: list[dict[str, str]] = []
    for item in listing(mapping(block).get("reasons")):
        given = mapping(item)
        message = given.get("message", item if isinstance(item, str) else given.get("code", ""))
        severity = given.get("severity")
        reason = {
            "severity": severity if severity in ("warn", "fail") else "warn",
            "message": one_line(str(message), 1000) or "no reason given",
        }
        if reason not in out:
            out.append(reason)
    return out[:50]


def reason_text(block: Any) -> str:
    """All reasons of a block in one line."""
    return " ".join(r["message"] for r in reasons(block))


def cut(rows: list[Any]) -> tuple[list[Any], str]:
    """At most :data:`MOST_ROWS` rows, and a note where some are left out."""
    if len(rows) <= MOST_ROWS:
        return rows, ""
    return rows[:MOST_ROWS], f"{len(rows) - MOST_ROWS} more rows stand in the JSON file beside this page."


METRICS = [
    ("psnr_plain", "PSNR, plain (dB)", 1),
    ("psnr_equalised", "PSNR, equalised (dB)", 1),
    ("psnr_ring_equalised", "PSNR, ring-equalised (dB)", 1),
    ("ssim", "SSIM", 3),
    ("frc_um", "FRC resolution (nm)", 0),
]


def method_name(name: str) -> str:
    """A product as the page calls it."""
    names = {"nstm": "NSTM", "static": "static fit", "conventional": "conventional (moving window)"}
    return names.get(name, one_line(name, 60))


def method_mean(metrics: Any, method: str, key: str) -> float | None:
    """Mean of a figure over the times common to all methods (as ``evaluate`` gives it, else of all times)."""
    return _mean_of(mapping(mapping(metrics).get("methods")).get(method), key)


def _mean_of(figures: Any, key: str) -> float | None:
    block = mapping(figures)
    mean = mapping(block.get("mean"))
    if key in mean:
        return number(mean[key])
    values = [n for n in map(number, listing(block.get(key))) if n is not None]
    return sum(values) / len(values) if values else None


def metrics_table(metrics: Any) -> Table | None:
    """Methods against the truth, or what does not need one; ``None`` where there is no figure at all."""
    methods = mapping(mapping(metrics).get("methods"))
    named = [(method_name(m), methods[m]) for m in sorted(methods, key=lambda m: (m != "nstm", m))]
    for method, block in list(named):
        others = mapping(mapping(block).get("channels"))
        named += [(f"{method}: {one_line(str(channel), 40)}", figures) for channel, figures in others.items()]
    columns = [c for c in METRICS if any(_mean_of(block, c[0]) is not None for _, block in named)]
    if not columns:
        return None
    rows = []
    for name, block in named:
        scale = {"frc_um": 1000.0}
        values = [(_mean_of(block, key), scale.get(key, 1.0), d) for key, _, d in columns]
        rows.append([name, *(NONE if v is None else fixed(v * s, d) for v, s, d in values)])
    note = (
        "Means over the times at which every method has a result. Against the truth, after removal of the mean "
        "and the best gain, border of 1/8 cut; equalised: both limited to the transfer of the finest pattern; "
        "ring-equalised: after radial gain equalisation to the truth."
    )
    against = any(c[0].startswith("psnr") for c in columns)
    return Table(
        "Methods against the truth" if against else "Methods",
        ["method", *(c[1] for c in columns)],
        rows,
        note=note if against else "",
    )


def trust_table(trust: Any) -> Table | None:
    """Residual, held-out error and motion of every acquisition."""
    blocks, note = cut([mapping(b) for b in listing(mapping(trust).get("acquisitions"))])
    if not blocks:
        return None
    rows = [
        [
            acquisition_name(b, i),
            state(b),
            spread(b.get("residual_noise_units")),
            spread(b.get("held_out_error")),
            spread(b.get("held_out_ratio_to_static")),
            spread(b.get("motion_px_per_interval")),
            reason_text(b),
        ]
        for i, b in enumerate(blocks)
    ]
    head = [
        "acquisition", "verdict", "residual (× noise)", "held-out error (× noise)",
        "held-out error / static fit", "motion per frame interval (px)", "reasons",
    ]  # fmt: skip
    return without_empty_words(
        Table("Trust, acquisition by acquisition", head, rows, [r[1] for r in rows], note, wordy=6)
    )


def quality_table(quality: Any) -> Table | None:
    """Raw-data checks of every acquisition."""
    blocks, note = cut([mapping(b) for b in listing(mapping(quality).get("acquisitions"))])
    if not blocks:
        return None
    labels = list(dict.fromkeys(str(label) for b in blocks for label in mapping(b.get("figures"))))
    rows = [
        [
            acquisition_name(b, i),
            state(b),
            short(b.get("mean")),
            percent(b.get("saturated_fraction")),
            percent(b.get("nan_fraction")),
            ", ".join(one_line(str(f), 20) for f in list(flat(b.get("dead_frames")))[:20]) or "none",
            short(b.get("noise_std")),
            short(b.get("signal_to_noise")),
            percent(mapping(b.get("light")).get("within_blocks")),
            percent(mapping(b.get("light")).get("between_blocks")),
            *(spread(mapping(b.get("figures")).get(label)) for label in labels),
            spread(b.get("motion_px")),
            reason_text(b),
        ]
        for i, b in enumerate(blocks)
    ]
    head = [
        "acquisition", "state", "mean (counts)", "saturated", "NaN", "dead frames", "noise (counts)", "signal / noise",
        "steps of light, frames", "blocks", *(one_line(label, 60) for label in labels), "motion (px)", "reasons",
    ]  # fmt: skip
    words = len(head) - 1
    return without_empty_words(Table("Raw-data checks", head, rows, [r[1] for r in rows], note, wordy=words))


def motion_text(quality: Any) -> str:
    """What the motion score says."""
    return one_line(str(mapping(mapping(quality).get("motion")).get("message") or ""), 400)


def percent(value: Any) -> str:
    """A fraction in percent."""
    found = number(value)
    return NONE if found is None else f"{100 * found:.3g} %"


def acquisition_name(block: Mapping[str, Any], position: int) -> str:
    """Number of an acquisition, counted from 0 as in the sheet, the config and the stores."""
    index = block.get("index", position)
    return str(index) if isinstance(index, int) and not isinstance(index, bool) else one_line(str(index), 20)


def illumination_table(illumination: Any) -> Table | None:
    """Patterns of the consensus, or the plain numbers of a system without patterns."""
    block = mapping(mapping(illumination).get("consensus"))
    vectors = listing(block.get("pattern_vectors"))
    if not vectors:
        plain = [[one_line(str(k), 60), spread(v, 4)] for k, v in block.items() if spread(v) != NONE]
        return Table("Illumination", ["quantity", "value"], plain[:MOST_ROWS]) if plain else None
    rows = []
    for i, vector in enumerate(vectors):
        pair = [number(c) for c in listing(vector)]
        modulation = _at(block.get("modulation"), i)
        orders = max(1, len(modulation))
        ky, kx = (pair[0], pair[1]) if len(pair) == 2 else (None, None)
        length = math.hypot(ky, kx) * orders if ky is not None and kx is not None else 0.0
        angle = math.degrees(math.atan2(ky, kx)) if ky is not None and kx is not None else None
        rows.append(
            [
                str(i),
                fixed(1000 / length if length > 0 else None, 1),
                fixed(angle, 2),
                joined(modulation),
                joined(_at(block.get("overlap_correlation"), i)),
                joined(_at(block.get("peak_ratio"), i)),
                joined([math.degrees(p) for p in map(number, _at(block.get("phases"), i)) if p is not None], 0),
            ]
        )
    head = [
        "angle", "finest period (nm)", "direction (°)", "modulation", "overlap correlation", "peak ratio", "phases (°)",
    ]  # fmt: skip
    note = "Several numbers: one per order, lowest first. Direction: of the pattern vector, from x towards y (down)."
    return Table("Illumination patterns (consensus of the sample)", head, rows, note=note)


def _at(value: Any, index: int) -> Sequence[Any]:
    items = listing(value)
    if index >= len(items):
        return []
    return listing(items[index]) or ([items[index]] if number(items[index]) is not None else [])


def joined(values: Sequence[Any], decimals: int = 2) -> str:
    """Several numbers in one cell."""
    return " / ".join(fixed(v, decimals) for v in list(values)[:20]) or NONE


def illumination_counts(illumination: Any) -> str:
    """How many acquisitions passed, warned and failed."""
    blocks = listing(mapping(illumination).get("acquisitions"))
    counts = {s: sum(state(b) == s for b in blocks) for s in STATES}
    words = {"pass": "passed", "warn": "with a warning", "fail": "failed"}
    parts = [f"{n} {words[s]}" for s, n in counts.items() if n]
    return (
        f"Estimated in {len(blocks)} acquisition{'s' if len(blocks) != 1 else ''}: {', '.join(parts)}." if parts else ""
    )


def file_rows(inspect: Any) -> list[tuple[str, str]]:
    """What the file is, as (name, text)."""
    block = mapping(inspect)
    sizes = mapping(block.get("sizes"))
    times = mapping(block.get("times"))
    files = [mapping(f) for f in listing(block.get("files"))]
    origin = {
        "config": "from the config",
        "file": "read from the file",
        "read": "read from the file",
        "computed": "computed from exposure and delays of the config",
        "assumed": "assumed",
    }
    axes = {k: v for k, v in mapping(block.get("source_axes")).items() if number(v) is not None}
    optics = ", ".join(
        f"{one_line(str(k), 40)} {one_line(str(v), 60)}" for k, v in mapping(block.get("optics")).items()
    )
    pixel = short(block.get("pixel_um"), 4, " µm")
    named = "; ".join(f"{one_line(str(f.get('path', '')), 300)} ({size_text(f.get('bytes'))})" for f in files[:10])
    named += f"; and {len(files) - 10} more" if len(files) > 10 else ""
    rows = [
        ("files", named),
        ("format", one_line(str(block.get("format", "")), 80)),
        ("axes in the file", ", ".join(f"{one_line(str(k), 20)} {v:g}" for k, v in axes.items())),
        ("read as", ", ".join(f"{one_line(str(k), 20)} {v:g}" for k, v in sizes.items() if number(v) is not None)),
        ("type", one_line(str(block.get("dtype", "")), 40)),
        ("pixel", f"{pixel}, {origin.get(str(block.get('pixel_origin')), 'origin unknown')}" if pixel != NONE else ""),
        ("distance of planes", short(block.get("z_step_um"), 4, " µm") if number(block.get("z_step_um")) else ""),
        ("times", f"{origin.get(str(times.get('origin')), 'origin unknown')}, "
         f"{duration_text(times.get('duration_s'))} in all" if times else ""),
        ("planes left out", short(block.get("dropped_planes")) if number(block.get("dropped_planes")) else ""),
        ("optics", optics),
    ]  # fmt: skip
    return [(name, text) for name, text in rows if text and text != NONE]


def metadata_rows(inspect: Any) -> list[tuple[str, str]]:
    """Metadata of the file, bounded."""
    items = list(mapping(mapping(inspect).get("metadata")).items())[:80]
    return [(one_line(str(key), 80), one_line(str(value), 400)) for key, value in items]
