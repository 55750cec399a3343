"""Verdicts: pass, warn or fail, and why in plain words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

#: ``{"severity": "warn" | "fail", "code": short, "message": what was found and what to do}``
Reason = dict[str, str]


def reason(severity: Literal["warn", "fail"], code: str, message: str) -> Reason:
    """One reason of a verdict."""
    return {"severity": severity, "code": code, "message": message}


def status_of(reasons: Iterable[Mapping[str, Any]]) -> str:
    """The worst severity among ``reasons``: ``fail``, ``warn``, or ``pass`` where there is none."""
    found = {r["severity"] for r in reasons}
    return "fail" if "fail" in found else "warn" if "warn" in found else "pass"


def counted(numbers: Iterable[int], limit: int = 8) -> str:
    """``0, 1, 2 and 9 more``: a list of indices for a message."""
    listed = [str(n) for n in numbers]
    more = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {more} more" if more > 0 else "")
