"""A fit that goes on where it was stopped: its whole state in one file, refused for other data or settings."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import numpy as np

from nstm.acquisition import DataError

_SCHEMA = 1


@dataclass
class Progress:
    """How far a fit is: what the optimiser needs to go on, and what has happened so far."""

    state: tuple[Any, Any]  # coefficients and moments
    step: int
    history: list[np.ndarray] = field(default_factory=list)  # errors (steps, m) of each dispatch
    snapshots: dict[int, Any] = field(default_factory=dict)  # coefficients after some steps
    seconds: float = 0.0


def fingerprint(*trees: Any) -> str:
    """SHA-256 of all arrays, numbers and texts of ``trees``, shapes and types included."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(trees):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write_checkpoint(path: str | os.PathLike[str], mark: str, progress: Progress) -> None:
    """Write ``progress``, whole or not at all; ``mark`` is the :func:`fingerprint` of what is fitted."""
    arrays = {f"state_{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(progress.state))}
    for step, tree in progress.snapshots.items():
        arrays |= {f"snapshot_{step}_{i}": np.asarray(a) for i, a in enumerate(jax.tree.leaves(tree))}
    about = {
        "schema": _SCHEMA,
        "fingerprint": mark,
        "step": progress.step,
        "seconds": progress.seconds,
        "snapshots": list(progress.snapshots),
    }
    partial = Path(path).with_name(f".{Path(path).name}.partial-{os.getpid()}")
    history = np.concatenate(progress.history)
    with partial.open("wb") as file:
        np.savez(file, about=np.array(json.dumps(about)), history=history, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


def read_checkpoint(
    path: str | os.PathLike[str], mark: str, like: tuple[Any, Any], parameters_like: Any
) -> Progress | None:
    """The progress in ``path``; ``None`` where there is no such file.

    Args:
        path: of :func:`write_checkpoint`.
        mark: fingerprint of what is to be fitted.
        like: a state, for the structure of the tree.
        parameters_like: coefficients, the same of the snapshots.

    Raises:
        DataError: a checkpoint of other data or settings, or no checkpoint.
    """
    if not Path(path).exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(str(arrays["about"]))
        if about["schema"] != _SCHEMA or about["fingerprint"] != mark:
            raise DataError(
                f"{path}: this checkpoint belongs to other data, settings or a program of another version: remove it, "
                "or give another place"
            )
        return Progress(
            _tree(arrays, "state", like),
            int(about["step"]),
            [arrays["history"]],
            {int(s): _tree(arrays, f"snapshot_{s}", parameters_like) for s in about["snapshots"]},
            float(about["seconds"]),
        )
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: no checkpoint of a fit ({error}): remove it, or give another place") from error


def _tree(arrays: dict[str, np.ndarray], name: str, like: Any) -> Any:
    leaves, structure = jax.tree.flatten(like)
    found = [arrays[f"{name}_{i}"] for i in range(len(leaves))]
    return jax.tree.unflatten(structure, [jax.numpy.asarray(a) for a in found])
