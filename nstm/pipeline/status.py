"""How far each sample of an experiment is, and its figures, read from the results folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nstm.acquisition import DataError
from nstm.pipeline.running import progress_text

_FILES = ("inspect", "quality", "illumination", "trust")
_NOT_SAMPLES = ("logs", "benchmarks")


@dataclass
class SampleStatus:
    """One sample: ``state`` is failed, warned, finished or unfinished, and then ``progress`` says how far it is."""

    sample: str
    state: str
    reasons: list[str] = field(default_factory=list)
    progress: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)


def read_status(results: str | Path, samples: Sequence[str] | None = None) -> list[SampleStatus]:
    """The state of every sample.

    Args:
        results: folder with a folder per sample.
        samples: names in the order of the sheet; ``None``: those that have a folder.

    Raises:
        DataError: there is no such folder, or nothing in it.
    """
    results = Path(results)
    if samples is None:
        if not results.is_dir():
            raise DataError(f"there is no folder {results}: run the workflow first, or name its results folder")
        folders = (p for p in results.iterdir() if p.is_dir() and p.name not in _NOT_SAMPLES)
        samples = sorted(p.name for p in folders if not p.name.startswith("."))
        if not samples:
            raise DataError(f"{results} holds no samples: run the workflow first, or name its results folder")
    return [_sample(results / name) for name in samples]


def _sample(folder: Path) -> SampleStatus:
    found = {name: _read(folder / f"{name}.json") for name in _FILES}
    status = SampleStatus(folder.name, "unfinished", metrics=_read(folder / "metrics.json") or {})
    severities = set()
    for name, content in found.items():
        if content is None:
            continue
        severities.add(content.get("status"))
        if content.get("status") in ("warn", "fail"):
            messages = [str(r.get("message", "")) for r in content.get("reasons", []) if isinstance(r, dict)]
            for message in map(one_line, messages or ["no reason given"]):
                if not any(reason.endswith(f": {message}") for reason in status.reasons):  # gates hand reasons on
                    status.reasons.append(f"{name}: {message}")
    if "fail" in severities:
        status.state = "failed"
    elif found["trust"] is not None and (folder / "movie.mp4").is_file():
        status.state = "warned" if "warn" in severities else "finished"
    if status.state == "unfinished":
        count = ((found["inspect"] or {}).get("sizes") or {}).get("t")
        status.progress = progress_text(folder, count if isinstance(count, int) else None)
    return status


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        return {"status": "fail", "reasons": [{"message": f"{path} cannot be read ({error}); delete it and run again"}]}
    return content if isinstance(content, dict) else {"status": "fail", "reasons": [{"message": f"{path} is damaged"}]}


def one_line(text: str, limit: int = 300) -> str:
    """Text from files as it may go to a terminal: printable, one line, bounded."""
    plain = "".join(c if c.isprintable() else " " for c in text).strip()
    return plain if len(plain) <= limit else plain[: limit - 3] + "..."


def status_text(statuses: Sequence[SampleStatus]) -> str:
    """One line per sample, and its reasons below it."""
    width = max(len(s.sample) for s in statuses)
    lines = []
    for status in statuses:
        lines.append(f"{status.sample:<{width}}  {status.state}" + (f": {status.progress}" if status.progress else ""))
        lines += [f"{'':<{width}}    {reason}" for reason in status.reasons]
    count = {state: sum(s.state == state for s in statuses) for state in ("finished", "warned", "failed", "unfinished")}
    lines.append(", ".join(f"{n} {state}" for state, n in count.items() if n))
    return "\n".join(lines)


_COLUMNS = (
    ("psnr_plain", "PSNR plain / dB", "{:.1f}"),
    ("psnr_equalised", "equalised / dB", "{:.1f}"),
    ("psnr_ring_equalised", "same transfer / dB", "{:.1f}"),
    ("ssim", "SSIM", "{:.2f}"),
    ("frc_um", "FRC / um", "{:.3f}"),
)


def summary_text(statuses: Sequence[SampleStatus]) -> str:
    """The headline table: figures of every method against the truth, means over the times common to all."""
    rows: list[tuple[str, ...]] = [("sample", "method", *(title for _, title, _ in _COLUMNS))]
    notes = []
    for status in statuses:
        for method, figures in (status.metrics.get("methods") or {}).items():
            mean = figures.get("mean") or {}
            rows.append((status.sample, one_line(method, 40), *(_number(mean.get(k), form) for k, _, form in _COLUMNS)))
        notes += [f"{status.sample}: {note}" for note in _notes(status.metrics)]
    if len(rows) == 1 and not notes:
        return "no figures yet"
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    table = ["  ".join(_padded(cell, i, w) for i, (cell, w) in enumerate(zip(r, widths, strict=True))) for r in rows]
    return "\n".join([*(line.rstrip() for line in table if len(rows) > 1), *notes])


def _padded(cell: str, column: int, width: int) -> str:
    return cell.ljust(width) if column < 2 else cell.rjust(width)


def _notes(metrics: dict[str, Any]) -> list[str]:
    notes = []
    if isinstance(metrics.get("residual"), int | float):
        notes.append(f"residual {metrics['residual']:.2f} times the noise")
    held_out = metrics.get("held_out")
    if isinstance(held_out, dict) and isinstance(held_out.get("error"), int | float):
        text = f"held-out frames predicted to {held_out['error']:.2f} times the noise"
        if isinstance(held_out.get("static_error"), int | float):
            text += f" ({held_out['static_error']:.2f} without motion)"
        notes.append(text)
    if isinstance(metrics.get("seconds"), int | float):
        notes.append(f"{metrics['seconds']:.0f} s of fits")
    return ["; ".join(notes)] if notes else []


def _number(value: Any, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else "-"
