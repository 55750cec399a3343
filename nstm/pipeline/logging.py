"""How a rule runs: its threads, its log, and its lists of inputs as plain values."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

#: What to do about the errors of a disk, by their numbers.
_ADVICE = {
    (errno.ENOSPC, errno.EDQUOT): "the disk or the quota is full: free space",
    (errno.EROFS, errno.EACCES, errno.EPERM): "the place cannot be written or read: correct its rights or its mount",
    (errno.ENOENT, errno.ESTALE, errno.EIO): "a file has vanished or its disk failed: bring it back",
}


@contextlib.contextmanager
def rule_log(log: str | os.PathLike[str], name: str, threads: int = 1) -> Iterator[None]:
    """Run one rule: limit it to its threads, send what it prints to ``log``, report an error in one line.

    Output is redirected at the level of file descriptors, so that what compiled libraries and child
    processes print lands in the log too.

    Args:
        log: the log file, made anew.
        name: what the terminal calls the rule.
        threads: cores that the rule may use.

    Raises:
        SystemExit: with code 1 when the rule failed; the traceback stands in the log.
    """
    limit_threads(threads)
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    terminal = os.dup(2), os.dup(1)
    with open(log, "wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    except Exception as error:
        from nstm.acquisition import DataError  # not earlier: numpy must find the limits set

        # A user's mistake needs no traceback.
        with contextlib.suppress(OSError):  # the disk that is full may be the log's
            print(f"{error}" if isinstance(error, DataError) else traceback.format_exc(), file=sys.stderr, flush=True)
        lines = str(error).splitlines() or [""]
        what = lines[0] if isinstance(error, DataError) else f"{type(error).__name__}: {lines[0]}{_advice(error)}"
        os.write(terminal[0], f"{name} failed: {what} (all of it in {log})\n".encode())
        raise SystemExit(1) from None
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os.dup2(terminal[1], 1)
        os.dup2(terminal[0], 2)
        for descriptor in terminal:
            os.close(descriptor)


def _advice(error: Exception) -> str:
    """What to do about an error of the disk; nothing for other errors."""
    number = error.errno if isinstance(error, OSError) else None
    for numbers, advice in _ADVICE.items():
        if number in numbers:
            return f"; {advice}, then run again: what is finished is kept"
    return ""


def limit_threads(threads: int) -> None:
    """Keep numerical libraries to ``threads`` cores; must come before they are imported.

    The user's own environment wins. JAX gets one compilation cache for all jobs of the working directory
    and no claim on the whole memory of a GPU.
    """
    count = str(max(1, int(threads)))
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "DASK_NUM_WORKERS", "NPROC"):
        os.environ.setdefault(variable, count)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath(".jax_cache"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


def paths(files: str | Sequence[str]) -> list[Path]:
    """Inputs that may be one file or several."""
    return [Path(path) for path in ([files] if isinstance(files, str) else files)]


def path_or_none(files: str | Sequence[str]) -> Path | None:
    """An input that may be absent."""
    return next(iter(paths(files)), None)


def by_name(stores: str | Sequence[str]) -> dict[str, Path]:
    """Time-lapse stores by their names."""
    return {path.name.removesuffix(".ome.zarr"): path for path in paths(stores)}


def shown_files(inputs: Any) -> dict[str, Any]:
    """What movies and figures are made from, by the names of :class:`nstm.pipeline.panels.Shown`."""
    return {
        "stores": by_name(inputs.stores),
        "motion": path_or_none(inputs.motion),
        "trust": path_or_none(inputs.trust),
        "truth": path_or_none(inputs.truth),
    }
