"""What a reconstruct job that is stopped leaves for its next attempt: finished acquisitions, and fits on their way."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import signal
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from nstm.io.jsonfile import plain
from nstm.io.whole import replace_whole


@contextlib.contextmanager
def until_terminated() -> Iterator[Callable[[], bool]]:
    """Within the block SIGTERM only makes the function that is given True; a second SIGTERM ends the process."""
    asked = threading.Event()

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


class Progress:
    """The folder of one job, ``{folder}/{fingerprint}``; ``folder = None`` keeps nothing.

    Args:
        folder: of all jobs.
        about: what the results of the job depend on, as plain values: other settings or data have another folder.
    """

    def __init__(self, folder: Path | None, about: Mapping[str, Any]) -> None:
        text = json.dumps(plain(about), sort_keys=True)
        self.folder = None if folder is None else folder / hashlib.sha256(text.encode()).hexdigest()[:32]

    def of_fit(self, index: int, name: str) -> Path | None:
        """Where the fit ``name`` of an acquisition keeps its checkpoints."""
        return None if self.folder is None else self.folder / f"{index:05d}" / name

    def finished(self, index: int) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Arrays and record of an acquisition that an attempt before has finished; ``None`` where none has."""
        if self.folder is None or not self._results(index).exists():
            return None
        try:
            with np.load(self._results(index), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            return arrays, json.loads(str(arrays.pop("record")))
        except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
            print(f"{self._results(index)} is damaged ({error}): fitting this acquisition again", file=sys.stderr)
            return None

    def keep(self, index: int, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
        """Keep the results of an acquisition in place of the checkpoints of its fits."""
        if self.folder is None:
            return
        with replace_whole(self._results(index)) as partial, partial.open("wb") as file:
            np.savez(file, record=np.array(json.dumps(plain(record))), **arrays)  # type: ignore[arg-type]  # of numpy's stub
        shutil.rmtree(self.folder / f"{index:05d}", ignore_errors=True)

    def clear(self) -> None:
        """Remove what is kept: the job has finished."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.folder.parent.rmdir()  # other jobs may be on their way

    def _results(self, index: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{index:05d}.npz"
