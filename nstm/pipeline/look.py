"""The facts of one recording, with or without a config, or of all samples of an experiment."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from nstm.pipeline.experiment import Experiment
from nstm.pipeline.inspect import inspect_file, inspect_sample, open_sample
from nstm.pipeline.simulate import case_of
from nstm.pipeline.single import read_config, single_experiment
from nstm.pipeline.sizes import compression_of, estimate_sizes


def look_at_file(
    path: str, config: Path | None = None, system: str | None = None, **choice: str | None
) -> dict[str, Any]:
    """Facts of a recording.

    Args:
        path: file, folder or glob.
        config: config whose system it is checked against; ``None``: only what the file says.
        system: a key of its ``systems:``.
        choice: ``channel`` and ``position`` as in the sample sheet.

    Raises:
        DataError: nothing there, no recording, or a config that cannot be used.
    """
    if config is None:
        return inspect_file(path, choice.get("channel"), choice.get("position"))
    with tempfile.TemporaryDirectory() as folder:
        row = {"path": path, **{name: value or "" for name, value in choice.items()}}
        experiment = single_experiment(read_config(config), config.absolute().parent, system, row, Path(folder))
        return _with_disk(experiment, next(iter(experiment.samples)))


def look_at_experiment(config: Path) -> list[dict[str, Any]]:
    """Facts of every sample of an experiment, in the order of its sheet.

    A recording that the workflow has yet to simulate has status ``later``.

    Raises:
        DataError: the config or the sheet cannot be used.
    """
    experiment = Experiment.load(read_config(config), config.absolute().parent)
    return [_sample_facts(experiment, name) for name in experiment.samples]


def _sample_facts(experiment: Experiment, name: str) -> dict[str, Any]:
    stage = experiment.stage(name, "inspect")
    if case_of(stage.sample.path) and not Path(stage.sample.path).exists():
        note = {"severity": "note", "code": "simulated", "message": "the workflow simulates this recording first"}
        return {"sample": name, "status": "later", "reasons": [note], "missing": []}
    return _with_disk(experiment, name)


def _with_disk(experiment: Experiment, name: str) -> dict[str, Any]:
    """Facts of a sample, and what its stores will take."""
    stage = experiment.stage(name, "inspect")
    found = inspect_sample(stage.sample, stage.system)
    if found["status"] == "fail":
        return found
    compression = compression_of(open_sample(stage.sample, stage.system))
    return {**found, "disk": estimate_sizes(found, experiment, name, compression)}
