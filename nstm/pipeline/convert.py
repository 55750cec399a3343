"""From raw files to the raw store, with the hash of every file and what was done to it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import xarray as xr

from nstm.acquisition import DataError
from nstm.io.files import find_files
from nstm.io.jsonfile import read_json
from nstm.io.open import printable
from nstm.io.store import write_failed, write_raw
from nstm.pipeline.experiment import Stage
from nstm.pipeline.inspect import failure, open_sample
from nstm.pipeline.lineage import versions

_PIECE = 2**20


def run_convert(params: Mapping[str, Any], inspect_json: str | Path, out_store: str | Path) -> None:
    """Write ``raw.ome.zarr``; data that cannot be read make it a store without frames that says why.

    Raises:
        OSError: the disk is full or fails.
    """
    inspected = read_json(inspect_json)
    if inspected["status"] == "fail":
        write_failed(out_store, inspected["reasons"])
        return
    stage = Stage.from_params(params)
    convert_sample(stage.sample, stage.system, out_store, params)


def convert_sample(sample: Any, system: Any, out_store: str | Path, params: Mapping[str, Any] | None = None) -> None:
    """Convert one row of the sample sheet; see :func:`run_convert`."""
    try:
        acquisitions = open_sample(sample, system)
        with contextlib.closing(SourceHashes(find_files(sample.path))) as hashes:

            def origin() -> dict[str, Any]:
                return provenance(acquisitions, sample, system, hashes.finish(), params)

            write_raw(out_store, acquisitions, origin, ahead=hashes.read)
    except DataError as error:
        write_failed(out_store, [failure(error)])


def provenance(
    acquisitions: xr.Dataset,
    sample: Any,
    system: Any,
    files: Sequence[Mapping[str, Any]],
    params: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the raw store tells of its origin; ``files`` as :meth:`SourceHashes.finish` gives them."""
    optics = system.settings.optics.model_dump(mode="json")
    attrs = acquisitions.attrs
    source = attrs["source"]
    known = {name: entry["value"] for name, entry in source.get("optics", {}).items()}
    return {
        "nstm": versions()["nstm"],
        "versions": versions(),
        "sample": sample.sample,
        "params": dict(params or {}),
        "files": list(files),
        "source_axes": source["axes"],
        "order": source["order"],
        "dropped_planes": source["dropped_planes"],
        "flips": source["flips"],
        "optics": {**optics, **known, "pixel_um": attrs["pixel_um"], "z_step_um": attrs["z_step_um"]},
        "time_origin": attrs["time_origin"],
    }


class SourceHashes:
    """SHA-256 of files, read a little ahead of what else reads them, so that they come from the disk only once.

    Holds a file open between two steps; :meth:`close` it.

    Attributes:
        read_bytes: how far it is.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._bytes = sum(path.stat().st_size for path in files)
        self.read_bytes = 0
        self._found: list[dict[str, Any]] = []
        self._pieces = self._hash(files)

    def read(self, share: float) -> None:
        """Hash until ``share`` (0 to 1) of all bytes have been read."""
        while self.read_bytes < share * self._bytes:
            piece = next(self._pieces, 0)
            if not piece:
                return
            self.read_bytes += piece

    def finish(self) -> list[dict[str, Any]]:
        """Path, bytes and ``sha256`` of every file, after what is left to read."""
        for _ in self._pieces:
            pass
        return self._found

    def close(self) -> None:
        """Close the file that is being read."""
        self._pieces.close()

    def _hash(self, files: Sequence[Path]) -> Generator[int]:
        piece = memoryview(bytearray(_PIECE))
        for path in files:
            digest, size = hashlib.sha256(), 0
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(piece):
                    digest.update(piece[:count])
                    size += count
                    yield count
            self._found.append({"path": printable(path), "bytes": size, "sha256": digest.hexdigest()})
