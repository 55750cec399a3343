"""Aligned plain text: columns, sections and sentences that stay within the width of a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

WIDTH = 110
_GAP = 2
#: A longer cell does not widen its column: it pushes the rest of its row to the right.
_WIDEST = 44


def columns(rows: Sequence[Sequence[str]], indent: int = 2) -> list[str]:
    """Rows of cells as aligned lines; the last cell is wrapped under its own beginning.

    Args:
        rows: cells of every row, the same number in each.
        indent: spaces before the first column.
    """
    starts = [row[:-1] for row in rows]
    widths = [max((len(c) for c in column if len(c) <= _WIDEST), default=0) for column in zip(*starts, strict=True)]
    place = indent + sum(widths) + _GAP * len(widths)
    lines = []
    for row, start in zip(rows, starts, strict=True):
        cells = (cell.ljust(width) + " " * _GAP for cell, width in zip(start, widths, strict=True))
        lines += wrapped(row[-1], " " * indent + "".join(cells), place)
    return lines


def wrapped(text: str, start: str, place: int) -> list[str]:
    """``text`` behind ``start``, its further lines at ``place``; lines of the text are never joined."""
    indent = " " * min(place, WIDTH // 2)
    first, *more = text.splitlines() or [""]
    lines = _wrap(first, start, indent) or [start.rstrip()]
    return lines + [part for line in more for part in _wrap(line, indent, indent)]


def _wrap(line: str, start: str, indent: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False)


def section(title: str, lines: Sequence[str]) -> list[str]:
    """A title with its lines below it and an empty line before it; nothing where there are no lines."""
    return ["", title, *lines] if lines else []
