"""A fit that goes on where it was stopped: its whole state in one file, refused for other data or settings.

The state before the last stands beside it (``.previous``) and is used where the last is damaged: every array carries
the checksum of the ZIP format.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import numpy as np

from nstm.acquisition import DataError

_SCHEMA = 1


class CheckpointError(DataError):
    """A file that is no checkpoint, or that of other data or settings."""


class Stopped(RuntimeError):
    """A fit was asked to stop; the message says how far it came and where its progress is."""


@dataclass
class Progress:
    """How far a fit is: what the optimiser needs to go on, and what has happened so far."""

    state: tuple[Any, Any] = (None, None)  # coefficients and moments
    step: int = 0
    history: list[np.ndarray] = field(default_factory=list)  # errors (steps, m) of each dispatch
    snapshots: dict[int, Any] = field(default_factory=dict)  # coefficients after some steps
    seconds: float = 0.0
    early: bool = False  # the fit ended before its last step
    search: Any = None  # of a volume: where its last steps are, from the coefficients of ``state``
    final_steps: int = 0  # how many of them are made
    finished: bool = False  # they all are, or the noise was reached


def fingerprint(*trees: Any) -> str:
    """SHA-256 of all arrays, numbers and texts of ``trees``, shapes, types and structure included."""
    digest = hashlib.sha256(str(jax.tree.structure(trees)).encode())
    for leaf in jax.tree.leaves(trees):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_checkpoint(path: str | os.PathLike[str], mark: str, progress: Progress) -> None:
    """Write ``progress``, whole or not at all; ``mark`` is the :func:`fingerprint` of what is fitted.

    The folder is made where there is none; the checkpoint that stood at ``path`` is kept as the previous one.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {f"state_{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(progress.state))}
    for step, tree in progress.snapshots.items():
        arrays |= {f"snapshot_{step}_{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(tree))}
    if progress.search is not None:
        arrays |= {f"search_{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(progress.search))}
    about = {
        "schema": _SCHEMA,
        "fingerprint": mark,
        "step": progress.step,
        "seconds": progress.seconds,
        "early": progress.early,
        "searching": progress.search is not None,
        "final_steps": progress.final_steps,
        "finished": progress.finished,
        "snapshots": list(progress.snapshots),
    }
    partial = path.with_name(f".{path.name}.partial-{os.getpid()}")
    history = np.concatenate(progress.history)
    with partial.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), history=history, **arrays)  # type: ignore[arg-type]  # of numpy's stub
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        path.replace(_previous(path))
    partial.replace(path)


def _previous(path: Path) -> Path:
    return path.with_name(f"{path.name}.previous")


def read_checkpoint(
    path: str | os.PathLike[str], mark: str, like: tuple[Any, Any], parameters_like: Any, search_like: Any
) -> Progress | None:
    """The progress in ``path``, or in the checkpoint before it where ``path`` is damaged; ``None`` where neither is.

    Args:
        path: of :func:`write_checkpoint`.
        mark: fingerprint of what is to be fitted.
        like: a state, for the structure of the tree.
        parameters_like: coefficients, the same of the snapshots.
        search_like: the same of the search.

    Raises:
        CheckpointError: a checkpoint of other data or settings, or no checkpoint.
    """
    damage: Exception | None = None
    for place in (Path(path), _previous(Path(path))):
        if not place.exists():
            continue
        try:
            found = _read(place, mark, like, parameters_like, search_like)
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile, zlib.error) as error:
            if isinstance(error, CheckpointError):
                raise
            damage = damage or error
            continue
        if damage is not None:
            print(f"{path} is damaged ({damage}): going on from {place}, step {found.step}", file=sys.stderr)
        return found
    if damage is not None:
        raise CheckpointError(
            f"{path}: no checkpoint of a fit ({damage}): remove it, or give another place"
        ) from damage
    return None


def _read(path: Path, mark: str, like: tuple[Any, Any], parameters_like: Any, search_like: Any) -> Progress:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(str(arrays["about"]))
    if about["schema"] != _SCHEMA or about["fingerprint"] != mark:
        raise CheckpointError(
            f"{path}: this checkpoint belongs to other data, settings or a program of another version: remove it, "
            "or give another place"
        )
    return Progress(
        _tree(arrays, "state", like),
        int(about["step"]),
        [arrays["history"]],
        {int(s): _tree(arrays, f"snapshot_{s}", parameters_like) for s in about["snapshots"]},
        float(about["seconds"]),
        bool(about["early"]),
        _tree(arrays, "search", search_like) if about["searching"] else None,
        int(about["final_steps"]),
        bool(about["finished"]),
    )


def _tree(arrays: dict[str, np.ndarray], name: str, like: Any) -> Any:
    leaves, structure = jax.tree.flatten(like)
    found = [arrays[f"{name}_{i}"] for i in range(len(leaves))]
    return jax.tree.unflatten(structure, [jax.numpy.asarray(a) for a in found])
