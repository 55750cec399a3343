"""The page of an experiment: one self-contained HTML file that covers every row of the sheet."""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nstm.visual import tables
from nstm.visual.chart import chart
from nstm.visual.embedded import figure_views, movie_view, picture_view
from nstm.visual.origin import parameter_rows, provenance_rows, stage_table
from nstm.visual.preview import QUALITY_BYTES, STILL_BYTES
from nstm.visual.tables import NONE, fixed, listing, mapping, method_mean, number, one_line, state
from nstm.visual.text import time_labels

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
        contents: what is to be seen in it, ``movie.json``.
        still: the still picture, or ``None``.
        quality: the figure of the raw-data checks, or ``None``.
        figures: file, title and caption of every figure.
        small: folder with small copies of all these by their stems, as far as they were made.
        stages: seconds and largest memory (MB) of every job, by the name of its rule.
    """

    row: Mapping[str, Any]
    found: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    stores: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    movie: Path | None = None
    contents: Mapping[str, Any] = field(default_factory=dict)
    still: Path | None = None
    quality: Path | None = None
    figures: list[tuple[Path, str, str]] = field(default_factory=list)
    small: Path | None = None
    stages: dict[str, list[tuple[float, float]]] = field(default_factory=dict)


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
    script = _script()
    return _template().render(
        title=one_line(title) or "NSTM experiment",
        samples=views,
        counts=counts,
        version=version,
        NONE=NONE,
        script=Markup(script),  # the only one on the page, and the only one that the page lets run
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


@functools.cache
def _script() -> str:
    return resources.files("nstm.visual").joinpath("templates/report.js").read_text(encoding="utf-8")


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
        "fit_seconds": number(mapping(metrics).get("seconds")) or 0,
        "costs": costs(metrics),
        "still": picture_view(evidence, "still", STILL_BYTES),
        "quality_picture": picture_view(evidence, "quality", QUALITY_BYTES),
        "figures": figure_views(evidence, page_folder),
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
        "parameters": parameter_rows(evidence.stores),
        "provenance": provenance_rows(evidence.stores, found),
        "stage_costs": stage_table(evidence.stages),
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
