"""A config and a sample sheet for a folder of recordings: what the files say, and blanks for what they do not."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nstm.acquisition import DataError
from nstm.io.protocol import clean_text, shown
from nstm.io.whole import replace_whole
from nstm.pipeline.draft import Key, Source, system_keys
from nstm.pipeline.recorded import channels_of, file_notes, has_colours
from nstm.pipeline.scan import alike, family, scan
from nstm.pipeline.sheet import RESERVED
from nstm.pipeline.table import columns, section, wrapped
from nstm.systems.base import kinds
from nstm.systems.instruments import INSTRUMENTS

_COLUMNS = ("sample", "path", "system", "channel", "position", "group")
#: More notes are counted only.
MOST_NOTES = 40
_HEAD = """\
# Written by `nstm init` from the headers of {count}. FILL IN: the files do not say it.
# Every key is explained in config/README.md of the program; what is still missing is listed by
#   nstm inspect --config {config}
samples: samples.tsv # one row for each recording, position and channel

systems: # by name; the column `system` of the sheet picks one
"""
_INSTRUMENT = f"""\
    # instrument: {" | ".join(INSTRUMENTS)}
    #   (one of them presets order, illumination and delays: the keys below that it fills may then be removed)
"""
_NOTHING = " {} # all of it is read from the file; to state a number here, remove the brackets"
_TAIL = """
reconstruction:
  acquisitions_per_job: 8 # acquisitions in one job of a cluster; changes cost, not results
"""


@dataclass(frozen=True)
class Row:
    """One row of the sample sheet."""

    sample: str
    system: str
    group: str  # shared by the rows of one recording
    pattern: str  # the file, or a pattern of several
    source: Source


@dataclass(frozen=True)
class Written:
    """What was written, and what is left to do."""

    config: Path
    sheet: Path
    rows: list[Row]
    systems: dict[str, list[Key]]
    notes: list[str] = field(default_factory=list)


def write_experiment(folder: str | Path) -> Written:
    """Write ``config/config.yaml`` and ``config/samples.tsv`` into ``folder`` for the recordings below it.

    Raises:
        DataError: no such folder, no recording in it, or a config already there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"there is no folder {shown(folder)}")
    config, sheet = folder / "config" / "config.yaml", folder / "config" / "samples.tsv"
    for path in (config, sheet):
        if path.exists():
            raise DataError(f"{shown(path)} is there already and is not overwritten: move it away first")
    found = scan(folder)
    notes = [f"left out: {text}" for text in found.left_out]
    if not found.sources:
        raise DataError(f"no recording was found in {shown(folder)}" + "".join(f"\n  - {note}" for note in notes))
    rows = named_rows(found.sources)
    systems = {
        name: system_keys([row.source for row in rows if row.system == name])
        for name in dict.fromkeys(row.system for row in rows)
    }
    with replace_whole(sheet) as temporary:
        temporary.write_text(sheet_text(rows, sheet.parent), encoding="utf-8")
    with replace_whole(config) as temporary:
        temporary.write_text(config_text(rows, systems, config), encoding="utf-8")
    odd = dict.fromkeys(note["message"] for row in rows for note in file_notes(row.source.recorded))
    return Written(config, sheet, rows, systems, [*odd, *_doubts(rows), *notes])


def named_rows(sources: Sequence[tuple[str, Source]]) -> list[Row]:
    """Rows with names for the samples, different even without capitals, and for the systems that they share."""
    recordings = _recording_names(list(dict.fromkeys(pattern for pattern, _ in sources)))
    samples, systems = {name.lower() for name in RESERVED}, set[str]()
    groups: dict[tuple[object, ...], str] = {}
    rows = []
    for pattern, source in sources:
        key = alike(source)
        if key not in groups:
            groups[key] = _unique(_system_name(source), systems)
        name, choice = recordings[pattern], (source.recorded.position, source.channel.cell)
        sample = _unique("_".join([name, *(_safe(text) for text in choice if text)]), samples)
        rows.append(Row(sample, groups[key], name if any(choice) else "", pattern, source))
    return rows


def _recording_names(patterns: Sequence[str]) -> dict[str, str]:
    """The shortest name that tells each recording from the others: of the file, its ending, its folder."""
    schemes = []
    for pattern in patterns:
        path = Path(pattern)
        stem, ending, folder = _stem(pattern), path.suffix.lstrip("."), path.parent.name
        parts = ((stem,), (stem, ending), (folder, stem), (folder, stem, ending))
        schemes.append(["_".join(filter(None, map(_safe, p))) or "sample" for p in parts])
    counts = [Counter(name.lower() for name in names) for names in zip(*schemes, strict=True)]
    return {
        pattern: next((n for n, count in zip(names, counts, strict=True) if count[n.lower()] == 1), names[-1])
        for pattern, names in zip(patterns, schemes, strict=True)
    }


def sheet_text(rows: Sequence[Row], start: Path) -> str:
    """The sample sheet, paths relative to ``start``; columns that no row needs are left out."""
    table = [
        (
            row.sample,
            os.path.relpath(row.pattern, start),
            row.system,
            row.source.channel.cell or "",
            row.source.recorded.position or "",
            row.group,
        )
        for row in rows
    ]
    used = [i for i in range(len(_COLUMNS)) if i < 3 or any(cells[i] for cells in table)]
    return "".join("\t".join(cells[i] for i in used) + "\n" for cells in [_COLUMNS, *table])


def config_text(rows: Sequence[Row], systems: dict[str, list[Key]], config: Path) -> str:
    """The config, with a comment for every key."""
    recordings = len({row.pattern for row in rows})
    text = _HEAD.format(count=_counted(recordings, "recording"), config=shown(config))
    for name, keys in systems.items():
        text += f"  {name}: # {_summary([row for row in rows if row.system == name])}\n"
        text += f"    kind: sim # the keys below are those of `sim`; known: {', '.join(sorted(kinds()))}\n"
        text += _INSTRUMENT
        for part in dict.fromkeys(key.name.partition(".")[0] for key in keys):
            own = [key for key in keys if key.name.startswith(f"{part}.")]
            text += f"    {part}:{_NOTHING if all(key.state == 'read' for key in own) else ''}\n"
            text += "".join(f"      {key.line()}\n" for key in own)
    return text + _TAIL


def todo_text(written: Written) -> str:
    """What was written and what is left to do, for a person."""
    lines = [
        f"{_counted(len(written.rows), 'sample')} in {shown(written.sheet)}",
        f"config in {shown(written.config)}",
    ]
    systems = {name: [row for row in written.rows if row.system == name] for name in written.systems}
    lines += section("systems", columns([(name, _summary(rows)) for name, rows in systems.items()]))
    for state, title in (("blank", "FILL IN: the files do not say it"), ("open", "may stay empty")):
        lines += section(title, columns(_asked(written.systems, state)))
    notes = written.notes[:MOST_NOTES]
    if len(written.notes) > MOST_NOTES:
        notes = [*notes, f"and {len(written.notes) - MOST_NOTES} more"]
    lines += section("look at", [line for note in notes for line in wrapped(note, "  - ", 4)])
    config = shown(written.config)
    steps = [
        (f"edit {config}", "fill the blanks in"),
        (f"nstm inspect --config {config}", "until nothing is missing"),
        (f"snakemake --cores 2 --directory {shown(written.config.parents[1])}", "in the folder of this program"),
    ]
    return "\n".join([*lines, *section("then", columns(steps))])


def _asked(systems: dict[str, list[Key]], state: str) -> list[tuple[str, str]]:
    """Keys of a state, what they are, and the systems in which they stand so."""
    found: dict[tuple[str, str], list[str]] = {}
    for name, keys in systems.items():
        for key in keys:
            if key.state == state:
                found.setdefault((key.name, key.what), []).append(name)
    every = list(systems) if len(systems) > 1 else []
    return [
        (name, f"{what}; in {'all systems' if where == every else ', '.join(where)}")
        for (name, what), where in found.items()
    ]


def _summary(rows: Sequence[Row]) -> str:
    """What the recordings of a system are, in a few words."""
    first = rows[0].source
    axes = {a: n for a, n in first.recorded.recording.axes.items() if a != "C" or first.channel.cell is None}
    named = ", ".join(f"{clean_text(a, 20)} = {n}" for a, n in axes.items())
    return f"{first.header.format}, {named}: {_named(rows)}"


def _doubts(rows: Sequence[Row]) -> list[str]:
    """Channels without names may be colours or the frames of an acquisition: what they were taken for."""
    found: dict[tuple[str, int], list[Row]] = {}
    for row in {row.pattern: row for row in rows}.values():
        header = row.source.header
        count = header.axes.get("C", 1)
        if count > 1 and not any(channel.name or channel.optics for channel in channels_of(header)):
            taken = "frames of an acquisition; if they are colours: one row each, with `channel`"
            if has_colours(header):
                taken = "colours, one row each; if they are frames: one row without `channel`"
            found.setdefault((taken, count), []).append(row)
    return [
        f"{_named(doubtful)}: {count} channels without names are taken for {taken}"
        for (taken, count), doubtful in found.items()
    ]


def _named(rows: Sequence[Row]) -> str:
    others = len({row.pattern for row in rows}) - 1
    return shown(Path(rows[0].pattern).name) + (f" and {_counted(others, 'more recording')}" if others else "")


def _system_name(source: Source) -> str:
    wavelengths = (source.channel.optics.get(f"{kind}_wavelength_um") for kind in ("excitation", "emission"))
    known = next((f"{1000 * wavelength:.0f}" for wavelength in wavelengths if wavelength), source.channel.name)
    return "_".join(filter(None, (family(source), _safe(known))))


def _stem(pattern: str) -> str:
    return re.sub(r"(\.ome)?\.[^.]*$", "", Path(pattern).name)


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_")[:60]


def _unique(name: str, taken: set[str]) -> str:
    """``name``, with a number where it is taken already, in capitals or not."""
    number, candidate = 1, name
    while candidate.lower() in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate.lower())
    return candidate


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
