"""Where the results of a sample come from, as rows of text: settings, versions, source files, cost of every stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nstm.visual.tables import MOST_ROWS, Table, duration_text, listing, mapping, number, one_line, size_text

#: Settings that say where the sample is, not how it was treated.
_NO_SETTINGS = ("numerics", "sample", "system_files")


def parameter_rows(stores: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Every setting that the fit depended on, by its key in the config; empty ones are left out."""
    provenance = mapping(mapping(stores.get("nstm")).get("provenance"))
    params = mapping(mapping(provenance.get("before")).get("reconstruct")) or mapping(provenance.get("params"))
    engine = mapping(params.get("reconstruction")).get("engine")
    rows = []
    for key, value in _leaves(params):
        other = {"multigrid": "networks", "networks": "multigrid"}.get(str(engine))
        if key.split(".")[0] in _NO_SETTINGS or (other and f"reconstruction.{other}." in f"{key}."):
            continue
        rows.append((one_line(key, 80), one_line(str(value), 200)))
    return rows[:MOST_ROWS]


def _leaves(block: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in block.items():
        name = f"{before}.{key}" if before else str(key)
        if isinstance(value, Mapping):
            yield from _leaves(value, name)
        elif value not in (None, [], ""):
            yield name, ", ".join(map(str, value)) if isinstance(value, list) else value


def provenance_rows(stores: Mapping[str, Mapping[str, Any]], found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Versions, source files with their hashes, and how times were obtained."""
    blocks = [mapping(mapping(store).get("provenance")) for store in stores.values()]
    blocks += [mapping(mapping(block).get("provenance")) for block in found.values()]
    versions = next((v for b in blocks if (v := mapping(b.get("versions")))), {})
    source = next((s for b in blocks if (s := mapping(b.get("source")))), {})
    own = mapping(source.get("provenance"))
    files = [mapping(f) for f in listing(own.get("files")) or listing(source.get("files"))]
    rows = [("versions", ", ".join(f"{one_line(str(k), 30)} {one_line(str(v), 30)}" for k, v in versions.items()))]
    for file in files[:20]:
        digest = next((str(v) for k, v in file.items() if "sha" in str(k).lower()), "")
        size = size_text(file.get("bytes")) if number(file.get("bytes")) is not None else ""
        named = ", ".join(filter(None, (one_line(str(file.get("path", "")), 300), size)))
        rows.append(("source file", f"{named}{', SHA-256 ' + one_line(digest, 80) if digest else ''}"))
    if len(files) > 20:
        rows.append(("source files", f"and {len(files) - 20} more: nstm provenance lists them"))
    origin = next((b["time_origin"] for b in blocks if b.get("time_origin")), "")
    rows.append(("times of the frames", one_line(str(origin), 40)))
    return [(name, text) for name, text in rows if text]


def stage_table(stages: Mapping[str, list[tuple[float, float]]]) -> Table | None:
    """Wall time and memory of every rule, over its jobs."""
    if not stages:
        return None
    rows = [
        [
            one_line(name, 40),
            str(len(jobs)),
            duration_text(sum(seconds for seconds, _ in jobs)),
            duration_text(max(seconds for seconds, _ in jobs)),
            size_text(max(memory for _, memory in jobs) * 1e6),
        ]
        for name, jobs in sorted(stages.items(), key=lambda item: -sum(s for s, _ in item[1]))
    ]
    total = duration_text(sum(seconds for jobs in stages.values() for seconds, _ in jobs))
    return Table(
        "Cost of the stages",
        ["stage", "jobs", "wall time, all jobs", "longest job", "largest memory"],
        rows,
        note=f"{total} in all, as the workflow measured each stage when it last ran; jobs side by side add up.",
    )
