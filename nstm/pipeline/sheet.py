"""The sample sheet: one row per sample, every column checked, every problem named with its line."""

from __future__ import annotations

import csv
import io
import os.path
import re
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field, ValidationError, field_validator

from nstm.acquisition import DataError
from nstm.pipeline.problems import closest, lines_of, refuse, shown
from nstm.pipeline.simulate import case_of
from nstm.settings import Section

SAMPLE_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]*"
#: Names that stand for something else in the results folder.
RESERVED = ("logs", "benchmarks", "report.html")

_SLICE = re.compile(r"(-?\d+)?(?::(-?\d+)?(?::(-?\d+)?)?)?")
_CROP = re.compile(r"(\d+):(\d+),(\d+):(\d+)")


class SampleRow(Section):
    """One row of the sheet."""

    model_config = ConfigDict(str_strip_whitespace=True)

    sample: Annotated[
        str,
        Field(
            max_length=100,
            description="name of the sample and of its results folder: letters, digits, '.', '_', '-', no '.' first",
        ),
    ]
    path: Annotated[
        str,
        Field(min_length=1, description="file, folder or glob of the raw data; absolute or relative to the sheet"),
    ]
    system: Annotated[str, Field(min_length=1, description="imaging system: a key of `systems:` in the config")]
    channel: Annotated[
        str | None,
        Field(description="name or number (from 0) of the channel, where the file has several; `all`: every plane"),
    ] = None
    position: Annotated[
        str | None, Field(description="name or number (from 0) of the stage position, where the file has several")
    ] = None
    acquisitions: Annotated[
        str | None, Field(description="slice of the acquisitions used, as in Python, e.g. 0:20:2; empty: all")
    ] = None
    crop: Annotated[str | None, Field(description="part of the field used, camera pixels, y0:y1,x0:x1; empty: all")] = (
        None
    )
    group: Annotated[str | None, Field(description="rows that belong together (positions, channels) share it")] = None
    truth: Annotated[
        str | None,
        Field(
            description="reference for the figures: a time-lapse store, or the name of another sample whose "
            "conventional result serves as reference"
        ),
    ] = None

    @field_validator("sample")
    @classmethod
    def _name(cls, value: str) -> str:
        if not re.fullmatch(SAMPLE_NAME, value):
            raise ValueError("only letters, digits, '.', '_' and '-' are allowed, and no '.' first")
        if value in RESERVED:
            raise ValueError(f"the names {', '.join(RESERVED)} are reserved")
        return value

    @field_validator("path", "truth")
    @classmethod
    def _path(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("a path must not hold control characters")
        return value

    @field_validator("acquisitions")
    @classmethod
    def _acquisitions(cls, value: str | None) -> str | None:
        if value is not None:
            match = _SLICE.fullmatch(value)
            if not match or value == "":
                raise ValueError("must be a number or a slice such as 0:20, 0:20:2 or 5:")
            if match[3] is not None and int(match[3]) <= 0:
                raise ValueError("the step of the slice must be 1 or more")
        return value

    @field_validator("crop")
    @classmethod
    def _crop(cls, value: str | None) -> str | None:
        if value is not None:
            match = _CROP.fullmatch(value.replace(" ", ""))
            if not match or int(match[1]) >= int(match[2]) or int(match[3]) >= int(match[4]):
                raise ValueError("must be y0:y1,x0:x1 in camera pixels, e.g. 0:256,128:384")
            return value.replace(" ", "")
        return value

    def files(self) -> list[Path]:
        """The files behind ``path`` as the readers find them; none where nothing is there."""
        from nstm.io.files import find_files  # not earlier: it loads the readers

        try:
            return find_files(self.path)
        except (DataError, OSError):
            return []


COLUMNS = tuple(SampleRow.model_fields)
REQUIRED = tuple(name for name, field in SampleRow.model_fields.items() if field.is_required())


def read_sheet(path: Path, systems: list[str] | None = None) -> list[SampleRow]:
    """Read and check a sample sheet.

    Args:
        path: tab-separated text with a header line; UTF-8, a byte order mark and CRLF are accepted.
        systems: names that the column ``system`` may hold; ``None``: any.

    Returns:
        The rows, ``path`` and a ``truth`` that is a store made absolute.

    Raises:
        DataError: lists every problem of the sheet with its line.
    """
    rows = _parse(path)
    problems: list[str] = []
    good: list[tuple[int, SampleRow]] = []
    for line, cells in rows:
        try:
            row = SampleRow.model_validate({k: v for k, v in cells.items() if v != ""})
        except ValidationError as error:
            problems += [f"line {line}: {text}" for text in lines_of(error, SampleRow)]
            continue
        if systems is not None and row.system not in systems:
            problems.append(
                f"line {line}: system: {shown(row.system)} is not among `systems:` of the config"
                f"{closest(row.system, systems)}; allowed: {', '.join(systems)}"
            )
        good.append((line, row))
    problems += _duplicates(rows)
    names = {row.sample for _, row in good}
    problems += [p for line, row in good for p in _truth_problems(line, row, names, path.parent)]
    if not rows:
        problems.append("there is no row: a line per sample is needed below the header")
    if problems:
        refuse(f"sample sheet {path}", problems)
    return [_absolute(row, names, path.parent) for _, row in good]


def _parse(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"there is no sample sheet {path}: correct `samples:` in the config") from None
    except (OSError, ValueError) as error:  # no UTF-8, or a path that cannot be one
        why = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"the sample sheet {shown(str(path), 300)} cannot be read as UTF-8 text: {why}") from None
    try:
        # Paths may hold quotes: a cell is what stands between two tabs, literally.
        reader = csv.reader(io.StringIO(text, newline=None), delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
        table = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise DataError(f"sample sheet {path} is not tab-separated text: {error}") from None
    table = [(n, cells) for n, cells in table if any(cells) and not cells[0].startswith("#")]
    if not table:
        raise DataError(f"sample sheet {path} is empty: a header with {', '.join(REQUIRED)} is needed")
    _, header = table[0]
    problems = [
        f"column {shown(name)} is unknown{closest(name, COLUMNS)}; allowed: {', '.join(COLUMNS)}"
        for name in header
        if name not in COLUMNS
    ]
    problems += [f"column {name!r} is missing" for name in REQUIRED if name not in header]
    problems += [f"column {name!r} stands twice" for name in COLUMNS if header.count(name) > 1]
    if len(header) == 1 and problems:
        problems.append("columns must be separated by tabs, not by commas or spaces")
    for line, cells in table[1:]:
        if len(cells) > len(header):
            problems.append(f"line {line}: {len(cells)} cells but {len(header)} columns")
    if problems:
        refuse(f"sample sheet {path}", problems)
    return [(line, dict(zip(header, cells, strict=False))) for line, cells in table[1:]]


def _duplicates(rows: list[tuple[int, dict[str, str]]]) -> list[str]:
    lines: dict[str, list[int]] = {}
    for line, cells in rows:
        lines.setdefault(cells.get("sample", ""), []).append(line)
    problems = [
        f"lines {', '.join(map(str, where))}: sample {shown(name)} stands {len(where)} times; names must be unique"
        for name, where in lines.items()
        if name and len(where) > 1
    ]
    folded: dict[str, str] = {}
    for name in lines:
        other = folded.setdefault(name.lower(), name)
        if other != name:
            problems.append(
                f"lines {lines[other][0]}, {lines[name][0]}: samples {shown(other)} and {shown(name)} differ only "
                "in capital letters: some file systems would give them one folder"
            )
    return problems


def _truth_problems(line: int, row: SampleRow, names: set[str], folder: Path) -> list[str]:
    if row.truth is None:
        return []
    if row.truth == row.sample:
        return [f"line {line}: truth: {shown(row.truth)} is the sample itself"]
    if row.truth in names or os.path.exists(resolve(folder, row.truth)) or case_of(resolve(folder, row.truth)):
        return []
    return [
        f"line {line}: truth: {shown(row.truth)} is neither a sample of this sheet nor an existing store "
        f"(looked for {resolve(folder, row.truth)})"
    ]


def _absolute(row: SampleRow, names: set[str], folder: Path) -> SampleRow:
    changes = {"path": resolve(folder, row.path)}
    if row.truth is not None and row.truth not in names:
        changes["truth"] = resolve(folder, row.truth)
    return row.model_copy(update=changes)


def resolve(folder: Path, path: str) -> str:
    """``path`` made absolute against ``folder``, ``..`` removed without following links."""
    return os.path.normpath(os.path.join(os.path.abspath(folder), os.path.expanduser(path)))
