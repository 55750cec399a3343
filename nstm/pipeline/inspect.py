"""What is in the raw files of a sample: from their headers, and from a few planes the range of the counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from nstm.acquisition import DataError
from nstm.io import open_acquisitions
from nstm.io.files import select_planes
from nstm.io.jsonfile import write_json
from nstm.io.order import UnknownOrder
from nstm.io.protocol import clean_text
from nstm.pipeline.draft import missing_without_config
from nstm.pipeline.experiment import Stage
from nstm.pipeline.facts import file_facts, usable_facts
from nstm.pipeline.lineage import lineage
from nstm.pipeline.missing import also_missing, missing_for
from nstm.pipeline.recorded import file_notes, has_colours, labelled_order, open_any

SCHEMA = 1


def run_inspect(params: Mapping[str, Any], out_json: str | Path) -> None:
    """Write ``inspect.json``; unusable data give status ``fail`` and the reasons, never an exception."""
    stage = Stage.from_params(params)
    write_json(out_json, inspect_sample(stage.sample, stage.system) | {"provenance": lineage(None, params)})


def open_sample(sample: Any, system: Any) -> xr.Dataset:
    """The acquisitions of one row of the sample sheet.

    Raises:
        DataError: as :func:`nstm.io.open_acquisitions`, and when a file cannot be opened.
    """
    with _file_errors():
        return open_acquisitions(
            sample.path,
            system,
            channel=sample.channel,
            position=sample.position,
            acquisitions=sample.acquisitions,
            crop=sample.crop,
        )


@contextmanager
def _file_errors() -> Iterator[None]:
    """A file that cannot be opened is the user's matter; a failing disk is not."""
    try:
        yield
    except (PermissionError, FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise DataError(f"{clean_text(error)}: correct `path` or the rights of the file") from error


def inspect_sample(sample: Any, system: Any) -> dict[str, Any]:
    """The content of ``inspect.json`` for a row of the sample sheet.

    ``missing`` lists what the config or the sheet must still say; data that cannot be used are described as far as
    their files can be opened.
    """
    about = {"schema": SCHEMA, "sample": sample.sample}
    try:
        acquisitions = open_sample(sample, system)
        reasons = acquisitions.attrs["source"]["reasons"]
        verdict = {"status": "warn" if reasons else "pass", "reasons": reasons}
        return {**about, **verdict, **usable_facts(acquisitions, sample, system)}
    except DataError as error:
        return {**about, "status": "fail", **_refused(error, sample, system)}


def inspect_file(path: str | Path, channel: str | None = None, position: str | None = None) -> dict[str, Any]:
    """The same without a config: what the files say, and what a config must add.

    Args:
        path: file, folder or glob.
        channel: one of several, for its optics and times; ``None``: the first.
        position: one of several images in the file; ``None``: the first.

    Raises:
        DataError: nothing there, no recording, no such channel or position, or a plane that cannot be decoded.
    """
    with _file_errors():
        recorded = open_any(path, position)
    if channel is not None:
        select_planes(recorded.recording, channel)
    reasons, order = file_notes(recorded), labelled_order(recorded.recording.axes)
    return {
        "schema": SCHEMA,
        "status": "warn" if reasons else "pass",
        "reasons": reasons,
        **file_facts(recorded, channel),
        "order": order,
        "order_origin": None if order is None else "file",
        "missing": missing_without_config(recorded, channel),
    }


def failure(error: Exception, more: str = "") -> dict[str, str]:
    """The reason that an error of the user's data stands for; ``more`` is added on lines of its own."""
    return {"severity": "fail", "code": "unusable_data", "message": "\n".join(filter(None, (str(error), more)))}


def order_candidates(error: Exception, sample: Any, system: Any) -> str:
    """A table of the orders that the frames themselves speak for, where nothing states one; else nothing.

    Args:
        error: why the sample cannot be opened.
        sample: row of the sheet.
        system: its imaging system.
    """
    if not isinstance(error, UnknownOrder) or system.settings.frames.montage:
        return ""
    recording = open_any(sample.path, sample.position, system.settings.frames.flips).recording
    if sample.channel is None and has_colours(recording.headers[0]):
        return ""
    planes, _, _ = select_planes(recording, sample.channel)
    try:
        return str(system.rank_orders(recording.read_plane, planes))
    except DataError as nothing:
        return f"the frames tell nothing of their order: {nothing}"


def _refused(error: DataError, sample: Any, system: Any) -> dict[str, Any]:
    """Why data cannot be used, what their files say all the same, and all that is missing, not only the first."""
    told: dict[str, Any] = {"reasons": [failure(error)], "files": [], "sizes": {}, "missing": []}
    try:
        recorded = open_any(sample.path, sample.position, system.settings.frames.flips)
        facts = file_facts(recorded, sample.channel, system.settings)
        told["reasons"] = [failure(error, order_candidates(error, sample, system))]
    except (DataError, OSError):
        return told
    told["missing"] = missing_for(error, recorded, sample, system)
    told["reasons"] += also_missing(told["missing"], error) + file_notes(recorded)
    return {**facts, **told, "files": facts["files"]}
