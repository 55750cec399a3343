"""Outputs that are whole or absent: written beside their place and renamed into it."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replace_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` to write a file or folder to; renamed to ``path`` when the block ends well.

    What stood at ``path`` before is replaced; after an error it still stands, and what was written is deleted.
    Left-overs of runs that were killed are cleared away (of this machine: they are told by their process id).

    Raises:
        OSError: the folder cannot be written, or the block ended well without having written anything.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _clear_left_overs(target)
    temporary = target.parent / f".{target.name}.partial-{os.getpid()}"
    _delete(temporary)
    try:
        yield temporary
        _swap(temporary, target)
    except BaseException:
        _delete(temporary)
        raise


def _swap(temporary: Path, target: Path) -> None:
    if not os.path.lexists(temporary):
        raise FileNotFoundError(f"nothing was written for {target}")
    folder = target.is_dir() and not target.is_symlink()
    if not folder and not temporary.is_dir():
        os.replace(temporary, target)
        return
    old = target.parent / f".{target.name}.old-{os.getpid()}"
    if os.path.lexists(target):  # a folder cannot be replaced in one step: the gap is two renames long
        _delete(old)
        os.rename(target, old)
    try:
        os.rename(temporary, target)
    except BaseException:
        if os.path.lexists(old):
            os.rename(old, target)
        raise
    _delete(old)


def _clear_left_overs(target: Path) -> None:
    for kind in ("partial", "old"):
        prefix = f".{target.name}.{kind}-"
        for entry in os.scandir(target.parent):
            number = entry.name.removeprefix(prefix)
            if entry.name.startswith(prefix) and number.isdecimal() and not _alive(int(number)):
                if kind == "old" and not os.path.lexists(target):
                    os.rename(entry.path, target)  # killed between the two renames
                else:
                    _delete(Path(entry.path))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
