"""The page of an experiment: one self-contained HTML file that covers every row of the sheet."""

from __future__ import annotations

import base64
import functools
import io
import itertools
import math
import os
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jinja2
from PIL import Image

from nstm.visual import tables
from nstm.visual.movie import preview
from nstm.visual.tables import NONE, fixed, listing, mapping, method_mean, number, one_line, state
from nstm.visual.text import time_labels

#: Limits of what is embedded for a sample, bytes before base64: 50 samples stay below 40 MB.
MOVIE_BYTES = 360_000
STILL_BYTES = 150_000
TRAJECTORIES_BYTES = 100_000
QUALITY_BYTES = 70_000

#: Stages that carry a verdict: file name, what the page calls it.
STAGES = {
    "inspect": "file",
    "quality": "raw data",
    "illumination": "illumination",
    "trust": "trust",
}
_FAILED_WORDS = {
    "inspect": "the file could not be used",
    "quality": "the raw-data checks failed",
    "illumination": "the illumination could not be estimated",
}
#: What stands before a reason that holds for some acquisitions.
_WHOSE = re.compile(r"^acquisition\(s\) [\d, ]+(and \d+ more)?(, the first)?: ")
_VERDICT = {
    "pass": "Reconstruction: no warning (what was checked stands under Trust).",
    "warn": "Read this reconstruction with care.",
    "fail": "Do not trust this reconstruction.",
}


@dataclass
class Evidence:
    """What exists of a sample.

    Args:
        row: its row of the sheet.
        found: contents of ``inspect``, ``quality``, ``illumination``, ``metrics``, ``trust`` as far as they exist.
        problems: why one of them could not be read.
        stores: ``nstm`` attributes of its time-lapse stores by product.
        movie: the movie file, or ``None``.
        still: the still picture, or ``None``.
        trajectories: the picture of the sample's paths, or ``None``.
        quality: the figure of the raw-data checks, or ``None``.
    """

    row: Mapping[str, Any]
    found: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    stores: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    movie: Path | None = None
    still: Path | None = None
    trajectories: Path | None = None
    quality: Path | None = None


def render(title: str, samples: Sequence[Evidence], page_folder: Path, version: str = "") -> str:
    """The page as text.

    Args:
        title: heading.
        samples: every row of the sheet, in its order.
        page_folder: folder of the page; movies too large to embed are linked relative to it.
        version: of the package.
    """
    views = [sample_view(i, evidence, page_folder) for i, evidence in enumerate(samples)]
    overall = [view["overall"] for view in views]
    counts = {name: overall.count(name) for name in ("pass", "warn", "fail", "none")}
    return _template().render(
        title=one_line(title) or "NSTM experiment", samples=views, counts=counts, version=version, NONE=NONE
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nstm.visual", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def sample_view(index: int, evidence: Evidence, page_folder: Path) -> dict[str, Any]:
    """Everything that the template shows of one sample, as text."""
    found = evidence.found
    stages = stage_views(evidence)
    worst = [s["state"] for s in stages]
    overall = next((s for s in ("fail", "warn", "none") if s in worst), "pass")
    metrics, inspect = found.get("metrics"), found.get("inspect")
    trust = next(s for s in stages if s["key"] == "trust")
    return {
        "anchor": f"sample-{index + 1}",
        "name": one_line(str(evidence.row.get("sample", NONE)), 120),
        "row": row_view(evidence.row),
        "stages": stages,
        "why": grouped_reasons(stages),
        "overall": overall,
        "acquisitions": acquisition_count(found),
        "psnr": psnr_pair(metrics),
        "seconds": tables.duration_text(mapping(metrics).get("seconds")),
        "costs": costs(metrics),
        "still": picture_view(evidence, "still", STILL_BYTES),
        "trajectories": picture_view(evidence, "trajectories", TRAJECTORIES_BYTES),
        "quality_picture": picture_view(evidence, "quality", QUALITY_BYTES),
        "motion": tables.motion_text(found.get("quality")),
        "movie": movie_view(evidence, page_folder),
        "missing": missing_text(evidence),
        "verdict": _VERDICT.get(trust["state"], ""),
        "trust": tables.trust_table(found.get("trust")),
        "metrics": tables.metrics_table(metrics),
        "no_truth": "metrics" in found and not evidence.row.get("truth"),
        "chart": chart(metrics),
        "illumination": tables.illumination_table(found.get("illumination")),
        "illumination_counts": tables.illumination_counts(found.get("illumination")),
        "quality": tables.quality_table(found.get("quality")),
        "file": tables.file_rows(inspect),
        "metadata": tables.metadata_rows(inspect),
        "assumed": mapping(mapping(inspect).get("times")).get("origin") == "assumed",
        "window": window_text(evidence),
        "gaps": gap_texts(evidence),
    }


def row_view(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The row of the sheet, without what was left empty."""
    keys = ("path", "system", "channel", "position", "acquisitions", "crop", "group", "truth")
    return [(k, one_line(str(row[k]), 400)) for k in keys if row.get(k) not in (None, "")]


def stage_views(evidence: Evidence) -> list[dict[str, Any]]:
    """State and reasons of every stage; one that was not made says why.

    Gates hand their reasons on, so that each file is whole by itself; on the page a reason stands once, at the first
    stage that gives it.
    """
    views: list[dict[str, Any]] = []
    for key, title in STAGES.items():
        view: dict[str, Any]
        if key in evidence.problems:
            message = one_line(evidence.problems[key], 600)
            view = {"state": "fail", "reasons": [{"severity": "fail", "message": message}]}
        elif key in evidence.found:
            block = evidence.found[key]
            view = {"state": state(block), "reasons": tables.reasons(block)}
            if view["state"] != "pass" and not view["reasons"]:
                view["reasons"] = [{"severity": view["state"], "message": "no reason was written"}]
            view["reasons"] = _new_reasons(view["reasons"], views)
        else:
            view = {"state": "none", "reasons": [{"severity": "none", "message": not_made(evidence, key)}]}
        views.append({"key": key, "title": title, **view})
    return views


def _new_reasons(
    reasons: Sequence[Mapping[str, str]], before: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, str]]:
    """The reasons that no stage before gives; where none is left, which stages give them."""

    def bare(message: str) -> str:
        return _WHOSE.sub("", message)

    said = {bare(r["message"]): stage["title"] for stage in reversed(before) for r in stage["reasons"]}
    own = [r for r in reasons if bare(r["message"]) not in said]
    if reasons and not own:
        titles = " and ".join(dict.fromkeys(said[bare(r["message"])] for r in reasons))
        return [{"severity": reasons[0]["severity"], "message": f"for what is said under {titles}"}]
    return own


def grouped_reasons(stages: Sequence[Mapping[str, Any]], most: int = 4) -> list[dict[str, str]]:
    """Reasons of all stages for the overview; stages that share a reason stand on one line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for stage in stages:
        if stage["state"] == "pass":
            continue
        for reason in stage["reasons"][:most]:
            groups.setdefault((reason["severity"], reason["message"]), []).append(stage["title"])
        if len(stage["reasons"]) > most:
            more = f"{len(stage['reasons']) - most} more reasons below"
            groups.setdefault((stage["state"], more), []).append(stage["title"])
    return [{"severity": s, "message": m, "stages": ", ".join(titles)} for (s, m), titles in groups.items()]


def not_made(evidence: Evidence, key: str) -> str:
    """Why something does not exist."""
    order = list(STAGES)
    before = order[: order.index(key)] if key in order else [s for s in order if s != "trust"]
    for stage in before:
        if stage in evidence.problems or (stage in evidence.found and state(evidence.found[stage]) == "fail"):
            return f"not made because {_FAILED_WORDS[stage]}"
    return "not made because the step has not finished: see its log"


def missing_text(evidence: Evidence) -> list[str]:
    """What the page cannot show, and why; things with one reason together."""
    why: dict[str, list[str]] = {}
    for name, path in {"movie": evidence.movie, "still picture": evidence.still}.items():
        if path is None:
            why.setdefault(not_made(evidence, name), []).append(name)
    for name, key in {
        "still picture": "still picture",
        "picture of the paths": "trajectories picture",
        "picture of the raw data": "quality picture",
        "figures": "metrics",
    }.items():
        if key in evidence.problems:
            why.setdefault(one_line(evidence.problems[key], 600), []).append(name)
        elif key == "metrics" and key not in evidence.found:
            why.setdefault(not_made(evidence, key), []).append(name)
    return [f"{', '.join(names).capitalize()}: {reason}." for reason, names in why.items()]


def acquisition_count(found: Mapping[str, Any]) -> str:
    """Number of acquisitions."""
    count = number(mapping(mapping(found.get("inspect")).get("sizes")).get("t"))
    if count is None:
        blocks = next(
            (listing(mapping(found.get(k)).get("acquisitions")) for k in ("trust", "quality") if k in found), []
        )
        count = len(blocks) or None
    return NONE if count is None else f"{count:.0f}"


def psnr_pair(metrics: Any) -> dict[str, str]:
    """Equalised PSNR of NSTM and of the conventional result, dB, and the gain over the best of the others."""
    ours, conventional = (method_mean(metrics, name, "psnr_equalised") for name in ("nstm", "conventional"))
    others = [
        value
        for name in mapping(mapping(metrics).get("methods"))
        if name != "nstm" and (value := method_mean(metrics, name, "psnr_equalised")) is not None
    ]
    gain = f"{ours - max(others):+.1f}" if ours is not None and others else NONE
    return {"nstm": fixed(ours, 1), "conventional": fixed(conventional, 1), "gain": gain}


def costs(metrics: Any) -> list[tuple[str, str]]:
    """Run time, memory and residuals."""
    block = mapping(metrics)
    held_out, error = block.get("held_out"), ""
    if isinstance(held_out, Mapping):
        error = tables.short(held_out.get("error"))
        if error != NONE:
            error += f" over {tables.short(held_out.get('frames'))} frames"
            static = tables.short(held_out.get("static_error"))
            error += f" (static fit: {static})" if static != NONE else ""
    rows = [
        ("reconstruction time", tables.duration_text(block.get("seconds"))),
        ("of it compilation", tables.duration_text(block.get("compile_seconds"))),
        ("peak memory", tables.short(block.get("peak_memory_mb"), 4, " MB")),
        ("residual (× noise)", tables.spread(block.get("residual"))),
        ("residual of the static fit", tables.spread(block.get("static_residual"))),
        ("held-out error (× noise)", error or tables.spread(held_out)),
    ]
    return [(name, text) for name, text in rows if text != NONE]


def window_text(evidence: Evidence) -> str:
    """The caveat of the moving window with the time that one of its results spans."""
    attrs = mapping(evidence.stores.get("conventional"))
    if not attrs or attrs.get("window") == 1:
        return ""
    window, name = number(attrs.get("window")), one_line(str(attrs.get("block_name", "orientation")), 40)
    times = [n for n in map(number, listing(attrs.get("times_s"))) if n is not None]
    steps = sorted(b - a for a, b in itertools.pairwise(times) if b > a)
    spans = [n for n in map(number, listing(attrs.get("window_span_s"))) if n is not None]
    span = max(spans) if spans else number(attrs.get("window_span_s"))
    if span is None and window and steps:
        span = window * steps[len(steps) // 2]
    mixed = f"{window:.0f} consecutive {name}s" if window else "several consecutive exposures"
    note = one_line(str(attrs.get("window_note") or ""), 400)
    over = f", spread over about {tables.short(span, 2)} s" if span else ""
    return (
        f"Each conventional image mixes {mixed}{over}. A moving window shows an image per {name} "
        f"but does not raise the time resolution: what moves within the window is blurred or doubled. {note}"
    ).rstrip()


def gap_texts(evidence: Evidence) -> list[str]:
    """Times without a result, product by product and reason by reason."""
    out = []
    for product, attrs in evidence.stores.items():
        flags, times = listing(mapping(attrs).get("flags")), listing(mapping(attrs).get("times_s"))
        why: dict[str, list[int]] = {}
        for i, flag in enumerate(flags):
            if flag:
                why.setdefault(one_line(str(flag), 200), []).append(i)
        known = [number(t) or 0.0 for t in times]
        stamps = time_labels(known) if known else []
        for reason, indices in why.items():
            at = ", ".join(stamps[i] for i in indices[:4] if i < len(stamps))
            more = f" and {len(indices) - 4} more" if len(indices) > 4 else ""
            name = tables.method_name(product)
            out.append(f"{name}: no result at {len(indices)} of {len(flags)} times ({at}{more}): {reason}")
    return out[:20]


def picture_view(evidence: Evidence, name: Literal["still", "trajectories", "quality"], most_bytes: int) -> str | None:
    """A picture of a sample as a data URI, or ``None``."""
    path: Path | None = getattr(evidence, name)
    if path is None:
        return None
    try:
        kind, data = embedded_picture(path, most_bytes)
    except (OSError, ValueError) as error:
        evidence.problems[f"{name} picture"] = str(error)
        return None
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def embedded_picture(path: Path, most_bytes: int) -> tuple[str, bytes]:
    """(format, bytes) of a picture: itself where small enough, else a JPEG that is.

    Raises:
        OSError: the picture cannot be read.
    """
    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as picture:
        picture.load()
        if len(data) <= most_bytes and picture.format == "PNG":
            return "png", data
        rgb = picture.convert("RGB")
    for quality, scale in [(90, 1.0), (80, 1.0), (75, 0.75), (70, 0.5), (60, 0.35)]:
        out = io.BytesIO()
        size = max(1, round(rgb.width * scale)), max(1, round(rgb.height * scale))
        rgb.resize(size, Image.Resampling.LANCZOS).save(out, "JPEG", quality=quality, optimize=True)
        if out.tell() <= most_bytes:
            break
    return "jpeg", out.getvalue()


def movie_view(evidence: Evidence, page_folder: Path) -> dict[str, str] | None:
    """Where the movie is: embedded where small, always linked."""
    if evidence.movie is None:
        return None
    link = relative_link(evidence.movie, page_folder)
    size = evidence.movie.stat().st_size
    data = preview(evidence.movie, MOVIE_BYTES)
    source = link if data is None else f"data:video/mp4;base64,{base64.b64encode(data).decode('ascii')}"
    kind = "Movie" if size <= MOVIE_BYTES or data is None else "Preview of the movie"
    return {"link": link, "source": source, "size": tables.size_text(size), "kind": kind}


def relative_link(target: Path, page_folder: Path) -> str:
    """A link that works when page and results are moved together; never a scheme of its own."""
    path = os.path.relpath(target.resolve(), page_folder.resolve())
    return "./" + urllib.parse.quote(Path(path).as_posix())


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
        drawn.append({"name": tables.method_name(name), "paths": paths, "points": points if len(points) <= 120 else []})
    count = round((high - low) / step) if math.isfinite(step) else 1
    ticks = [low + (high - low) * i / count for i in range(count + 1)]
    stamps = time_labels([min(known), max(known)])
    return {
        "width": width, "height": height, "left": left, "right": right, "top": top, "bottom": bottom,
        "lines": drawn, "ticks": [(place(known[0], v)[1], f"{v:g}") for v in ticks], "times": stamps,
    }  # fmt: skip
