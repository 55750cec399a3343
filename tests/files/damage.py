"""Damages files in ways that can be repeated, and judges in a process of its own what becomes of them.

A process of its own, because libraries in C may crash or hang on damaged data; it answers for one file after another.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from nstm.acquisition import DataError
from nstm.io import open_acquisitions, open_raw, raw_status
from nstm.io.files import Recording, open_recording
from nstm.pipeline.convert import convert_sample
from nstm.systems.sim import Sim, SimSettings

MAX_SECONDS = 20.0
MAX_BYTES = 2**30
KINDS = ("cut", "bits", "bytes", "swapped", "count", "zeroed", "copied", "appended")
_FIRST_BYTES = 2048
_SECONDS_TO_START = 120.0
_MAX_ADDRESSES = 2**34
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Family:
    """A kind of file; ``builder`` is ``module:function`` that writes an example into a folder."""

    builder: str
    angles: int = 3
    phases: int = 3
    channel: str | None = None

    def example(self, folder: Path) -> Path:
        """Write the example."""
        module, _, name = self.builder.partition(":")
        path: Path = getattr(importlib.import_module(module), name)(folder)
        return path

    def system(self) -> Sim:
        """A microscope that takes such files."""
        optics = {"na": 1.4, "emission_wavelength_um": 0.525, "excitation_wavelength_um": 0.488, "pixel_um": 0.065}
        illumination = {"angles": self.angles, "phases": self.phases}
        frames = {"order": "t angle phase", "exposure_s": 0.01}
        given = {"optics": optics, "illumination": illumination, "frames": frames}
        return Sim(SimSettings.model_validate(given))


@dataclass(frozen=True)
class Original:
    """A whole file: its bytes, its planes, where the bytes of every plane lie, and what the reader warns of anyway."""

    content: bytes
    planes: list[np.ndarray]
    stored: list[tuple[tuple[int, int], ...]]  # for every plane: first byte and end of its runs
    warnings: frozenset[str] = frozenset()


def read_original(path: Path) -> Original:
    """Read the whole file.

    Raises:
        AssertionError: of some plane it is not known where it lies.
    """
    recording = open_recording(path)
    planes = [recording.read_plane(i) for i in range(recording.planes)]
    content = path.read_bytes()
    places = (
        getattr(importlib.import_module("tests.files.tiff"), "stored", None) if content[:2] in (b"II", b"MM") else None
    )
    stored = (
        places(path) if places else [_find(content, planes, i, recording.axes.get("C", 1)) for i in range(len(planes))]
    )
    assert len(stored) == len(planes)
    assert all(stored)
    return Original(content, planes, stored, _warnings(recording))


def _warnings(recording: Recording) -> frozenset[str]:
    return frozenset(warning for header in recording.headers for warning in header.warnings)


def _find(content: bytes, planes: list[np.ndarray], index: int, channels: int) -> tuple[tuple[int, int], ...]:
    """Where a plane lies that is not compressed: by itself, or its channels pixel by pixel."""
    first = index - index % channels
    together = np.stack(planes[first : first + channels], axis=-1)
    for pixels in (planes[index], together):
        for data in (pixels.tobytes(), pixels.byteswap().tobytes()):
            at = content.find(data)
            if at >= 0:
                return ((at, at + len(data)),)
    return ()


def damaged(original: Original, seed: int) -> tuple[bytes, str]:
    """The content with a damage, and what was done in words; half of the places are where no pixels are."""
    rng = np.random.default_rng(seed)
    found = original.content, ""
    while found[0] == original.content:
        found = _damaged(original, KINDS[seed % len(KINDS)], rng)
    return found


def _damaged(original: Original, kind: str, rng: np.random.Generator) -> tuple[bytes, str]:
    data = np.frombuffer(original.content, dtype=np.uint8).copy()
    if kind == "cut":
        length = int(rng.integers(1, data.size))
        return data[:length].tobytes(), f"cut to {length} of {data.size} bytes"
    if kind == "appended":
        return data.tobytes() + rng.bytes(int(rng.integers(1, 5000))), "garbage appended"
    places = _places(original, rng)
    if kind in ("bits", "bytes"):
        count = int(rng.integers(1, 9))
        for place in places[:count]:
            data[place] ^= 1 << rng.integers(8) if kind == "bits" else rng.integers(1, 256)
        return data.tobytes(), f"{kind} changed at {places[:count].tolist()}"
    place = int(places[0])
    if kind in ("swapped", "count"):
        return _changed_word(data, place, kind, rng)
    length = int(rng.integers(1, 513))
    if kind == "zeroed":
        data[place : place + length] = 0
        return data.tobytes(), f"{length} bytes at {place} are 0"
    source = int(rng.integers(0, data.size))
    part = data[source : source + length].copy()
    data[place : place + part.size] = part[: data.size - place]
    return data.tobytes(), f"{length} bytes at {place} are those of {source}"


def _places(original: Original, rng: np.random.Generator) -> np.ndarray:
    """Places in the file: half of them anywhere, half at its beginning or near anything that is no pixels."""
    size = len(original.content)
    used = np.frombuffer(original.content, dtype=np.uint8) > 0
    near = np.convolve(used, np.ones(17), mode="same") > 0  # not in long stretches of padding
    is_pixel = np.zeros(size, dtype=bool)
    for runs in original.stored:
        for start, end in runs:
            is_pixel[start:end] = True
    structure = np.union1d(np.flatnonzero(near & ~is_pixel), np.arange(min(size, _FIRST_BYTES)))
    return np.where(rng.random(16) < 0.5, rng.choice(structure, 16), rng.integers(0, size, 16))


def _changed_word(data: np.ndarray, place: int, kind: str, rng: np.random.Generator) -> tuple[bytes, str]:
    """A word of 4 or 8 bytes with its bytes the other way round, or another number in it."""
    if kind == "swapped" and rng.random() < 0.3:
        place = 0
    width = int(rng.choice([2, 4, 8] if kind == "swapped" else [4, 8]))
    place -= place % (2 if width == 2 else 4)
    word = data[place : place + width].copy()
    if kind == "swapped":
        data[place : place + width] = word[::-1]
        return data.tobytes(), f"{width} bytes at {place} reversed"
    order = rng.choice(["little", "big"])
    number = int.from_bytes(word.tobytes(), str(order))
    near = number + int(rng.choice([-4096, -256, -16, -4, -2, -1, 1, 2, 4, 16, 256, 4096]))
    new = int(rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, -1])) if rng.random() < 0.6 else -1
    new = (near if new < 0 else new) % 256 ** len(word)
    data[place : place + width] = np.frombuffer(new.to_bytes(len(word), str(order)), dtype=np.uint8)
    return data.tobytes(), f"{number} of {width} bytes at {place} ({order}) is {new}"


def judge(path: Path, original: Original, family: Family, folder: Path) -> str | None:
    """What is wrong with how the file at ``path`` is read; ``None``: it is read right or refused with a message."""
    touched = _touched(original, path.read_bytes())
    try:
        recording = open_recording(path)
    except DataError as error:
        problem = None if path.name in str(error) and str(error).isprintable() else f"unclear message: {error}"
        return problem or _judge_store(path, family, folder, None)
    read = [_plane(recording, i) for i in range(recording.planes)]
    told = bool(_warnings(recording) - original.warnings)
    return _judge_planes(read, original.planes, touched, told) or _judge_store(path, family, folder, read)


def _touched(original: Original, content: bytes) -> list[bool]:
    """For every plane whether its stored bytes are not what they were."""
    size = min(len(content), len(original.content))
    before, now = (np.frombuffer(c[:size], dtype=np.uint8) for c in (original.content, content))
    changed = np.ones(len(original.content), dtype=bool)
    changed[:size] = before != now
    return [any(changed[start:end].any() for start, end in runs) for runs in original.stored]


def _plane(recording: Recording, index: int) -> np.ndarray | None:
    try:
        return recording.read_plane(index)
    except DataError:
        return None


def _judge_planes(
    read: list[np.ndarray | None], original: list[np.ndarray], touched: list[bool], told: bool
) -> str | None:
    """Planes whose bytes were not touched must be as they were; if some are missing, that must be told."""
    if len(read) != len(original):
        if not told:
            return f"{len(read)} instead of {len(original)} planes without a word"
        at = 0  # what is left must follow each other as before
        for index, plane in enumerate(read):
            if plane is None:
                continue
            later = range(at, len(original))
            same, perhaps = [j for j in later if _same(plane, original[j])], [j for j in later if touched[j]]
            if not same + perhaps:
                return f"plane {index} of {len(read)} is none of the {len(original)} that follow"
            at = (same + perhaps)[0] + 1
        return None
    for index, (plane, before) in enumerate(zip(read, original, strict=True)):
        if plane is not None and not touched[index] and not _same(plane, before):
            return f"plane {index} is not what it was, {plane.dtype} {plane.shape}"
    return None


def _same(plane: np.ndarray, other: np.ndarray) -> bool:
    return plane.dtype == other.dtype and np.array_equal(plane, other)


def _judge_store(path: Path, family: Family, folder: Path, read: list[np.ndarray | None] | None) -> str | None:
    """Converting must give a whole store or one that says why there is none."""
    system, store = family.system(), folder / "raw.ome.zarr"
    try:
        open_acquisitions(path, system, channel=family.channel)
    except DataError:
        opens = False
    else:
        opens = True
    if opens and read is None:
        return "opened as acquisitions, but not as a recording"
    row = dict.fromkeys(("position", "acquisitions", "crop"))
    convert_sample(SimpleNamespace(sample="one", path=str(path), channel=family.channel, **row), system, store)
    if {p.name for p in folder.iterdir()} - {path.name} != {store.name}:
        return f"left behind: {sorted(p.name for p in folder.iterdir())}"
    status, _ = raw_status(store)
    try:
        frames = open_raw(store)["frames"].values
    except DataError as error:
        return None if status == "fail" else f"status {status}, but {error}"
    if status == "fail" or not opens:
        return "a store of data that could not be read"
    planes = list(frames.reshape(-1, *frames.shape[-2:]))
    follow = iter(read or [])
    if not all(any(_stored_as(plane, other) for other in follow) for plane in planes):
        return "the store holds other frames than the file, or in another order"
    return None


def _stored_as(plane: np.ndarray, other: np.ndarray | None) -> bool:
    """Whether ``plane`` is ``other``, perhaps turned upside down."""
    return other is not None and (_same(plane, other) or _same(plane[::-1], other))


def verdicts(family: Family, seeds: Sequence[int], folder: Path, seconds: float = MAX_SECONDS) -> Iterator[str]:
    """One line for every seed whose file is read wrong, or on which the interpreter crashes or hangs."""
    left = list(seeds)
    while left:
        here, there = _SPAWN.Pipe()
        process = _SPAWN.Process(target=_work, args=(there, family, left, folder), daemon=True)
        process.start()
        there.close()
        try:
            yield from _listen(here, process, left, seconds)
        finally:
            here.close()
            process.join(0 if left else 10)
            process.kill()
            process.join()


def _listen(here: Connection, process: Any, left: list[int], seconds: float) -> Iterator[str]:
    """Take the verdicts of a process until it ends, crashes or hangs; ``left`` is what is still to be judged."""
    what, patience = "", _SECONDS_TO_START
    while left:
        try:
            answered = here.poll(patience)
            word, text = here.recv() if answered else ("hangs", "")
        except EOFError:
            process.join()
            word, text = "died", ""
        if word == "begin":
            what, patience = text, seconds
            continue
        seed = left.pop(0)
        if word == "died":
            yield f"seed {seed} ({what}): the interpreter died with exit code {process.exitcode}"
            return
        if word == "hangs":
            yield f"seed {seed} ({what}): no answer within {seconds} s"
            return
        if text:
            yield f"seed {seed} ({what}): {text}"


def _work(there: Connection, family: Family, seeds: Sequence[int], folder: Path) -> None:
    """Judge one damaged file after another; runs in a process of its own."""
    there.send(("begin", "the example"))
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_ADDRESSES, _MAX_ADDRESSES))
    folder = folder / str(os.getpid())
    folder.mkdir()
    original = read_original(path := family.example(folder))
    path.unlink()
    for seed in seeds:
        inside = folder / str(seed)
        inside.mkdir()
        content, what = damaged(original, seed)
        there.send(("begin", what))
        (inside / path.name).write_bytes(content)
        there.send(("verdict", _guarded(inside / path.name, original, family, inside) or ""))
        shutil.rmtree(inside)


def _guarded(path: Path, original: Original, family: Family, folder: Path) -> str | None:
    """The verdict, with what an exception, a file left open, time and memory add to it."""
    begun, memory = time.monotonic(), _peak_bytes()
    try:
        problem = judge(path, original, family, folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    seconds, grown = time.monotonic() - begun, _peak_bytes() - memory
    if seconds > MAX_SECONDS:
        problem = problem or f"{seconds:.0f} s"
    if grown > MAX_BYTES:
        problem = problem or f"{grown / 2**20:.0f} MiB of memory"
    return problem or _left_open(folder)


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _left_open(folder: Path) -> str | None:
    """Files that are still open; threads that read ahead may take a moment to notice that nothing more is wanted."""
    found: list[str] = []
    for _ in range(20 if os.path.isdir("/proc/self/fd") else 0):
        links = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
        found = [str(link.readlink()) for link in links if os.path.lexists(link)]
        found = [target for target in found if target.startswith(str(folder))]
        if not found:
            return None
        gc.collect()
        time.sleep(0.1)
    return f"left open: {found}" if found else None


def crash(folder: Path) -> Path:
    """An example that ends the interpreter."""
    faulthandler._sigsegv()  # type: ignore[attr-defined]
    return folder


def forever(folder: Path) -> Path:
    """An example that takes too long."""
    time.sleep(3600)
    return folder


FAMILIES: Mapping[str, Family] = {
    "tiff": Family("tests.files.tiff:example"),
    "ome-tiff": Family("tests.files.tiff:ome"),
    "imagej": Family("tests.files.tiff:imagej"),
    "bigtiff": Family("tests.files.tiff:bigtiff"),
    "micro-manager": Family("tests.files.tiff:micro_manager"),
    "czi": Family("tests.files.czi:example"),
    "mrc": Family("tests.files.mrc:example"),
    "nd2": Family("tests.files.nd2:example", angles=1, channel="GFP"),
}
