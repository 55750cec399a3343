"""One recording without the workflow: the same stages one after another, in one process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nstm.acquisition import DataError
from nstm.io.jsonfile import read_json
from nstm.io.store import open_timelapse
from nstm.pipeline.assemble import run_assemble
from nstm.pipeline.convert import run_convert
from nstm.pipeline.experiment import Experiment
from nstm.pipeline.illumination import run_illumination
from nstm.pipeline.inspect import run_inspect
from nstm.pipeline.problems import closest, shown
from nstm.pipeline.quality import run_quality
from nstm.pipeline.reconstruct import run_reconstruct

#: Name of the only sample.
SAMPLE = "recording"


def read_config(path: str | Path) -> dict[str, Any]:
    """The content of a config file.

    Raises:
        DataError: no such file, or no YAML mapping.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"the config {path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise DataError(f"the config {path} must be a mapping of keys, as config/README.md describes")
    return content


def single_experiment(
    config: Mapping[str, Any], base_dir: str | Path, system: str | None, row: Mapping[str, str], folder: Path
) -> Experiment:
    """An experiment with one row, of a config whose own sheet is set aside.

    Args:
        config: content of a config file; ``samples`` may be missing.
        base_dir: folder of that file.
        system: a key of ``systems:``; may be ``None`` when there is only one.
        row: columns of the row besides ``sample`` and ``system``; ``path`` is needed.
        folder: where the sheet of one row is written.

    Raises:
        DataError: the config cannot be used, or the system is not known.
    """
    names = list(config.get("systems") or {})
    if system is None and len(names) == 1:
        system = str(names[0])
    if system is None or system not in names:
        found = "not given" if system is None else f"{shown(system)}{closest(system, names)}"
        raise DataError(f"the system is {found}; the config has: {', '.join(map(str, names)) or 'none'}")
    cells = {"sample": SAMPLE, "system": system, **{k: v for k, v in row.items() if v}}
    cells["path"] = str(Path(cells["path"]).expanduser().absolute())
    if any(c in value for value in cells.values() for c in "\t\r\n"):
        raise DataError(f"{shown(cells['path'])}: paths with tabs or line ends cannot be used")
    sheet = folder / "samples.tsv"
    sheet.write_text("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n", encoding="utf-8")
    return Experiment.load({**config, "samples": str(sheet)}, base_dir)


@dataclass(frozen=True)
class Single:
    """What stands in the folder of one recording, while it stands.

    Args:
        experiment: of one row.
        folder: holds ``raw.ome.zarr``, ``inspect.json``, ``quality.json`` and ``illumination.json``.
        jobs: stores of the fits.
        store: the time-lapse store that was asked for.
    """

    experiment: Experiment
    folder: Path
    jobs: list[Path]
    store: Path

    def params(self, stage: str) -> dict[str, Any]:
        """Settings of a stage."""
        return self.experiment.stage_params(SAMPLE, stage)


def reconstruct_file(
    config: Mapping[str, Any],
    base_dir: str | Path,
    system: str | None,
    row: Mapping[str, str],
    out_store: str | Path,
    then: Callable[[Single], None] | None = None,
) -> list[str]:
    """Read, calibrate, fit and store one recording.

    Args:
        config: see :func:`single_experiment`, as for ``base_dir``, ``system`` and ``row``.
        base_dir: folder that the paths of the config start from.
        system: a key of ``systems:``.
        row: columns of a sheet's row.
        out_store: time-lapse store to write.
        then: is given the stages' files before they go.

    Returns:
        Warnings in plain words.

    Raises:
        DataError: a gate refuses the data (the message holds the reasons), or ``out_store`` is something else's place.
    """
    out_store = Path(out_store).absolute()
    if out_store.exists():
        _refuse_foreign(out_store)
    out_store.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".nstm-", dir=out_store.parent) as name:
        folder = Path(name)
        experiment = single_experiment(config, base_dir, system, row, folder)

        def params(stage: str) -> dict[str, Any]:
            return experiment.stage_params(SAMPLE, stage)

        inspect, raw = folder / "inspect.json", folder / "raw.ome.zarr"
        quality, illumination = folder / "quality.json", folder / "illumination.json"
        run_inspect(params("inspect"), inspect)
        warnings = _gate(inspect)
        run_convert(params("convert"), inspect, raw)
        run_quality(params("quality"), raw, quality)
        run_illumination(params("illumination"), raw, quality, illumination)
        warnings += _gate(illumination)
        jobs = []
        for first, last in experiment.jobs(SAMPLE, read_json(inspect)["sizes"]["t"]):
            jobs.append(folder / f"{first:05d}-{last:05d}.zarr")
            settings = experiment.stage_params(SAMPLE, "reconstruct", first, last)
            settings["reconstruction"] |= {"static": False, "held_out": [], "seeds": 0}  # nobody would see those fits
            run_reconstruct(settings, raw, illumination, first, last, jobs[-1])
        run_assemble(params("assemble"), raw, jobs, "nstm", out_store)
        if then is not None:
            then(Single(experiment, folder, jobs, out_store))
    return list(dict.fromkeys(warnings))


def _refuse_foreign(out_store: Path) -> None:
    """A store may be replaced by a new one; nothing else may.

    Raises:
        DataError: what stands there is no time-lapse store.
    """
    try:
        open_timelapse(out_store)
    except DataError:
        raise DataError(
            f"{out_store} is there already and is no time-lapse store: name another place, e.g. NAME.ome.zarr"
        ) from None


def _gate(path: Path) -> list[str]:
    """Messages of a gate that let the sample through.

    Raises:
        DataError: it did not.
    """
    found = read_json(path)
    messages = [str(reason["message"]) for reason in found["reasons"]]
    if found["status"] == "fail":
        raise DataError("; ".join(dict.fromkeys(messages)))
    return messages
