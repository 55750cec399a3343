"""How far a sample that is not finished has come, and how long it may still take, from what its jobs have left."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from nstm.visual.tables import duration_text

#: A log that was not written for longer belongs to a job that has ended or hangs, s.
_ALIVE_S = 300.0
#: Last line of a fit in a log: which acquisition, how far, and how long it may still take.
_BAR = re.compile(r"acquisition (\d+)[^:\r\n]*:\s+(\d+)%\|[^\r\n]*?\[(\d[\d:]*)<(\d[\d:]*|\?)")
_RANGE = re.compile(r"(\d+)-(\d+)$")
#: Bytes at the end of a log that are looked at.
_TAIL = 4096


@dataclass(frozen=True)
class Job:
    """A reconstruct job that is running: first and last acquisition, which one it is at, and the share of its fit."""

    first: int
    last: int
    at: int
    share: float

    @property
    def done(self) -> float:
        """Acquisitions, the share of the current one included."""
        return max(0.0, self.at - self.first + self.share)


def progress_text(folder: Path, acquisitions: int | None, now: float | None = None) -> str:
    """What a sample is at, in words.

    Args:
        folder: results of the sample.
        acquisitions: how many it has; ``None``: not known yet.
        now: s since the epoch; default: the clock.
    """
    if acquisitions is None:
        return "waits for the look at its file"
    if not (folder / "illumination.json").is_file():
        return "waits for the checks of the raw data and the illumination"
    finished = _finished(folder)
    count = sum(last - first + 1 for first, last in finished)
    if count >= acquisitions:
        return "fits done; waits for figures, movie or page"
    jobs = running_jobs(folder, finished, time.time() if now is None else now)
    done = count + sum(job.done for job in jobs)
    text = f"fits: {done:.1f} of {acquisitions} acquisitions"
    seconds = _seconds_each(folder)
    if not jobs:
        return f"{text}; no job has written to its log in the last {_ALIVE_S / 60:.0f} minutes"
    text += f", {len(jobs)} job(s) running"
    if seconds is None:
        return text
    left = (acquisitions - done) * seconds / len(jobs)
    return f"{text}, about {duration_text(left)} left at {duration_text(seconds)} each"


def running_jobs(folder: Path, finished: list[tuple[int, int]], now: float) -> list[Job]:
    """Reconstruct jobs whose logs have just been written."""
    jobs = []
    for log in sorted((folder / "logs").glob("reconstruct_*-*.log")):
        found = _RANGE.search(log.stem)
        if found is None or (span := (int(found[1]), int(found[2]))) in finished:
            continue
        if now - log.stat().st_mtime > _ALIVE_S:
            continue
        bars = _bars(log)
        at, percent = (int(bars[-1][0]), int(bars[-1][1])) if bars else (span[0], 0)
        jobs.append(Job(*span, min(max(at, span[0]), span[1]), percent / 100))
    return jobs


def _finished(folder: Path) -> list[tuple[int, int]]:
    """First and last acquisition of the jobs that have finished."""
    found = (_RANGE.search(path.name.removesuffix(".zarr")) for path in (folder / "fits").glob("*-*.zarr"))
    return [(int(m[1]), int(m[2])) for m in found if m]


def _seconds_each(folder: Path) -> float | None:
    """Wall time of one acquisition: of finished jobs, else of what a running one has done so far."""
    seconds, count = 0.0, 0.0
    for path in (folder / "benchmarks").glob("reconstruct_*.tsv"):
        span = _RANGE.search(path.stem)
        try:
            taken = float(path.read_text(encoding="utf-8").splitlines()[1].split("\t")[0])
        except (OSError, ValueError, IndexError):
            continue
        if span:
            seconds, count = seconds + taken, count + int(span[2]) - int(span[1]) + 1
    if count:
        return seconds / count
    logs = (folder / "logs").glob("reconstruct_*-*.log")
    bars = [found[-1] for log in logs if (found := _bars(log))]
    each = [100 * _clock(taken) / int(percent) for _, percent, taken, _ in bars if int(percent) > 0]
    return sum(each) / len(each) if each else None


def _bars(log: Path) -> list[tuple[str, str, str, str]]:
    """The states of a fit at the end of a log: acquisition, percent, time taken, time left."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        return _BAR.findall(file.read().decode("utf-8", errors="replace"))


def _clock(text: str) -> float:
    """``1:02:03`` or ``02:03`` in seconds."""
    total = 0.0
    for part in text.split(":"):
        total = 60 * total + float(part)
    return total
