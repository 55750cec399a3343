"""One experiment: its config and sample sheet, checked before anything runs, and what each stage depends on."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os.path
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from pydantic import Field, ValidationError

from nstm.acquisition import DataError
from nstm.pipeline.blind_settings import TRAINED, Blind
from nstm.pipeline.problems import closest, lines_of, refuse, shown
from nstm.pipeline.sheet import SampleRow, read_sheet, resolve
from nstm.pipeline.study_runs import Studies
from nstm.settings import (
    OVERRIDABLE,
    SECTIONS,
    Conventional,
    Keep,
    Movie,
    Reconstruction,
    Report,
    Section,
    SystemSettings,
    override,
)
from nstm.systems.base import ImagingSystem, kinds, registered_in, system_of_kind

if TYPE_CHECKING:
    import xarray as xr

#: Raised by hand when the results of a stage change for the same settings; a release alone reruns nothing.
NUMERICS: dict[str, int] = {
    "simulate": 2,
    "inspect": 2,
    "convert": 2,
    "quality": 6,
    "illumination": 7,
    "reconstruct": 17,
    "conventional": 7,
    "assemble": 4,
    "evaluate": 7,
    "movie": 5,
    "figures": 2,
    "report": 3,
    "blind": 2,
    "blind_studies": 3,
}

#: Time-lapse stores that the reconstruct jobs are assembled into.
FITTED = ("nstm", "motion", "static")

#: Folder of the networks of the package; their module would load the engine with them.
_SHIPPED = Path(__file__).parents[1] / "blindsim"
_READS_FILE = ("inspect", "convert")
_SEES_TRUTH = ("evaluate", "movie", "figures")
_HAS_SYSTEM = (
    *("inspect", "convert", "quality", "illumination", "reconstruct"),
    *("conventional", "assemble", "evaluate", "figures"),
)


class ExperimentConfig(Section):
    """The config of an experiment, ``config.yaml``."""

    samples: Annotated[
        str, Field(min_length=1, description="the sample sheet; absolute or relative to this config file")
    ]
    systems: Annotated[
        dict[str, dict[str, Any]],
        Field(min_length=1, description="imaging systems by name; see the tables of each kind"),
    ]
    reconstruction: Annotated[Reconstruction, Field(description="the space-time fit")] = Reconstruction()
    conventional: Annotated[Conventional, Field(description="the conventional reconstruction")] = Conventional()
    movie: Annotated[Movie, Field(description="the side-by-side movie")] = Movie()
    report: Annotated[Report, Field(description="the page of the experiment")] = Report()
    keep: Annotated[Keep, Field(description="what stays on disk when a sample is finished")] = Keep()
    allow_cpu: Annotated[
        bool,
        Field(
            strict=True,
            description="fit on the CPU where a job asked for a GPU and there is none; otherwise that is an error",
        ),
    ] = False
    studies: Annotated[Studies, Field(description="the paper's studies, `snakemake studies`")] = Studies()
    blind: Annotated[Blind, Field(description="learned blind SIM, `snakemake train_blind`")] = Blind()


S = TypeVar("S", bound=Section)


@dataclass(frozen=True)
class Stage:
    """What one run of a stage needs, read back from its plain ``params``."""

    params: Mapping[str, Any]
    sample: SampleRow

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> Stage:
        """Bind ``params`` as made by :meth:`Experiment.stage_params`."""
        return cls(dict(params), SampleRow.model_validate(params["sample"]))

    @functools.cached_property
    def system(self) -> ImagingSystem:
        """The imaging system of the sample as the config describes it."""
        settings = self._given("system")
        kind = system_class(settings["kind"], Path.cwd())
        return kind(kind.Settings.model_validate({**settings, "kind": kind.kind}))

    def system_of(self, raw: xr.Dataset) -> ImagingSystem:
        """The imaging system of the sample, with what the config leaves to the file."""
        return self.system.of(raw)

    @property
    def reconstruction(self) -> Reconstruction:
        """Settings of the fit, as far as the stage depends on them."""
        return self._section("reconstruction", Reconstruction)

    @property
    def conventional(self) -> Conventional:
        """Settings of the conventional reconstruction."""
        return self._section("conventional", Conventional)

    @property
    def movie(self) -> Movie:
        """Settings of the movie."""
        return self._section("movie", Movie)

    def _section(self, name: str, model: type[S]) -> S:
        return model.model_validate(self._given(name))

    def _given(self, name: str) -> Any:
        if name not in self.params:
            raise KeyError(f"this stage does not depend on {name!r}, so it must not use it")
        return self.params[name]


@dataclass(frozen=True)
class Experiment:
    """A checked experiment: every sample with its system and its merged settings."""

    config: ExperimentConfig
    samples: dict[str, SampleRow]
    base_dir: Path

    @classmethod
    def load(cls, config: Mapping[str, Any], base_dir: str | Path) -> Experiment:
        """Check the config and the sheet that it names.

        Args:
            config: the content of ``config.yaml``.
            base_dir: folder that relative paths of the config start from (that of the file).

        Raises:
            DataError: lists every problem with its key or line, the value and what is allowed.
        """
        base_dir = Path(os.path.abspath(base_dir))
        problems: list[str] = []
        try:
            checked = ExperimentConfig.model_validate(config)
        except ValidationError as error:
            problems += lines_of(error, ExperimentConfig)
            checked = None
        systems = config.get("systems") if isinstance(config, Mapping) else None
        if isinstance(systems, Mapping):
            for name, settings in systems.items():
                problems += _system_problems(str(name), settings, checked, base_dir)
        if checked is not None and checked.blind.images is not None:
            problems += _image_problems(resolve(base_dir, checked.blind.images))
        if problems or checked is None:
            refuse("the config cannot be used", problems)
        problems = [p for name in checked.systems for p in _panel_problems(name, checked, base_dir)]
        if problems:
            refuse("the config cannot be used", problems)
        rows = read_sheet(Path(resolve(base_dir, checked.samples)), list(checked.systems))
        return cls(checked, {row.sample: row for row in rows}, base_dir)

    def system_settings(self, sample: str) -> dict[str, Any]:
        """Settings of the sample's system without its overrides; a ``kind`` that is a file is made absolute."""
        settings = _plain_system(self.config.systems[self.samples[sample].system], self.base_dir)
        kind = system_class(settings["kind"], self.base_dir)
        valid = kind.Settings.model_validate({**settings, "kind": kind.kind})
        return {**_resolved(valid, kind, self.base_dir), "kind": settings["kind"]}

    def system_files(self, sample: str) -> dict[str, Path]:
        """The files that the system's settings name, by key."""
        settings = self.system_settings(sample)
        kind = system_class(settings["kind"], self.base_dir)
        named = {name: settings[name.split(".")[0]][name.split(".")[1]] for name in kind.file_keys}
        return {name: Path(path) for name, path in named.items() if path is not None}

    def section(self, sample: str, name: str) -> Section:
        """A section as it holds for the sample: the experiment's, with the overrides of its system."""
        whole: Section = getattr(self.config, name)
        if name not in OVERRIDABLE:
            return whole
        settings = self.config.systems[self.samples[sample].system]
        kind = system_class(_plain_system(settings, self.base_dir)["kind"], self.base_dir)
        return override(_suited(whole, name, kind), settings.get(name) or {})

    def baselines(self, sample: str) -> list[str]:
        """Names of the conventional results of the sample's system."""
        return list(self.stage(sample, "convert").system.baselines)

    def stage(self, sample: str, stage: str) -> Stage:
        """What ``stage`` of the sample needs."""
        return Stage.from_params(self.stage_params(sample, stage))

    def stage_params(
        self, sample: str, stage: str, first: int | None = None, last: int | None = None
    ) -> dict[str, Any]:
        """Plain settings that the results of a stage depend on, and nothing else.

        ``first`` and ``last`` bound a reconstruct job: choices made for other acquisitions do not concern it.
        """
        if stage == "report":
            rows = [row.model_dump() for row in self.samples.values()]
            return {"numerics": NUMERICS[stage], "report": self.config.report.model_dump(mode="json"), "samples": rows}
        params: dict[str, Any] = {"numerics": NUMERICS[stage], "sample": self._row(sample, stage)}
        if stage in _HAS_SYSTEM:
            params["system"] = self.system_settings(sample)
            named = self.system_files(sample).items()
            files = {name: _content(path) for name, path in named if not is_made_here(path)}
            params |= {"system_files": files} if files else {}
        reconstruction = cast(Reconstruction, self.section(sample, "reconstruction"))
        if stage == "reconstruct":
            # What only groups acquisitions into jobs changes no result.
            params["reconstruction"] = reconstruction.model_dump(mode="json", exclude={"acquisitions_per_job"})
            if first is not None and last is not None:
                _restrict(params["reconstruction"], range(first, last + 1))
        if stage == "evaluate":
            params["reconstruction"] = {"held_out": reconstruction.held_out, "static": reconstruction.static}
        if stage in ("conventional", "assemble"):
            params["reconstruction"] = {"output_times": reconstruction.output_times}
        if stage in ("conventional", "movie"):
            params[stage] = self.section(sample, stage).model_dump(mode="json")
        if stage == "figures":
            params["saturated_percent"] = cast(Movie, self.section(sample, "movie")).saturated_percent
        return params

    def blind_images(self) -> Path | None:
        """Folder of the images that UBSIM is trained on."""
        images = self.config.blind.images
        return None if images is None else Path(resolve(self.base_dir, images))

    def blind_weights(self, network: str) -> Path:
        """The network of UBSIM that is studied: that of the settings, or one of the package by its name."""
        weights = self.config.blind.studies.weights
        return _SHIPPED / f"{network}.safetensors" if weights is None else Path(resolve(self.base_dir, weights))

    def lpips_weights(self) -> Path | None:
        """Weights of LPIPS for the studies of blind SIM."""
        weights = self.config.blind.studies.lpips_weights
        return None if weights is None else Path(resolve(self.base_dir, weights))

    def jobs(self, sample: str, acquisitions: int) -> list[tuple[int, int]]:
        """First and last acquisition of every reconstruct job."""
        return jobs(acquisitions, cast(Reconstruction, self.section(sample, "reconstruction")).acquisitions_per_job)

    def fitted(self, sample: str, acquisitions: int) -> list[str]:
        """Stores assembled from the reconstruct jobs; ``static`` only where some acquisition asks for it."""
        static = cast(Reconstruction, self.section(sample, "reconstruction")).static
        wanted = static if isinstance(static, bool) else any(0 <= i < acquisitions for i in static)
        return [name for name in FITTED if name != "static" or wanted]

    def _row(self, sample: str, stage: str) -> dict[str, Any]:
        row = self.samples[sample].model_dump()
        if stage not in _READS_FILE:
            # The raw store already is the chosen part of the file.
            row.update(channel=None, position=None, acquisitions=None, crop=None)
        if stage not in _SEES_TRUTH:
            row.update(truth=None)
        return {**row, "group": None}


def jobs(acquisitions: int, per_job: int) -> list[tuple[int, int]]:
    """First and last acquisition (inclusive) of every job."""
    return [(first, min(first + per_job, acquisitions) - 1) for first in range(0, acquisitions, per_job)]


def system_class(kind: str, base_dir: Path) -> type[ImagingSystem]:
    """The imaging system of ``kind``: a registered name, or a Python file that registers one.

    Args:
        kind: as in the config.
        base_dir: folder that the path of a file is relative to.

    Raises:
        DataError: neither is there, or the file cannot be used.
    """
    known = kinds()
    if kind in known:
        return system_of_kind(kind)
    if kind.endswith(".py"):
        return _from_file(resolve(base_dir, kind))
    raise DataError(
        f"{shown(kind)} is no known kind of system{closest(kind, known)}; allowed: "
        f"{', '.join(sorted(known))}, or the path of a Python file that registers one"
    )


@functools.cache
def _from_file(path: str) -> type[ImagingSystem]:
    if not os.path.isfile(path):
        raise DataError(f"there is no file {path} that would register a system")
    spec = importlib.util.spec_from_file_location(f"nstm_system_{Path(path).stem}", path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path} is no Python file")
    before = registered_in(spec.name)  # another file of that name
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"{path} cannot be loaded: {type(error).__name__}: {error}") from error
    own = [system for system in registered_in(spec.name) if system not in before]
    if len(own) != 1:
        raise DataError(
            f"{path} registers {len(own)} systems; exactly one class under @nstm.systems.base.register is needed"
        )
    return own[0]


def is_made_here(path: str | Path) -> bool:
    """Whether the workflow trains these weights, in this working directory: an input that counts by itself."""
    return os.path.abspath(path) == os.path.abspath(TRAINED)


def _resolved(settings: SystemSettings, kind: type[ImagingSystem], base_dir: Path) -> dict[str, Any]:
    """Plain settings of a system without its overrides; its files are made absolute."""
    plain = settings.model_dump(mode="json", exclude=set(OVERRIDABLE))
    for section, key in (name.split(".") for name in kind.file_keys):
        if plain[section][key] is not None:
            plain[section][key] = resolve(base_dir, plain[section][key])
    return plain


def _plain_system(settings: Mapping[str, Any], base_dir: Path) -> dict[str, Any]:
    plain = {k: v for k, v in settings.items() if k not in OVERRIDABLE}
    kind = plain.get("kind")
    if isinstance(kind, str) and kind.endswith(".py") and kind not in kinds():
        plain["kind"] = resolve(base_dir, kind)
    return plain


def _system_problems(name: str, settings: Any, config: ExperimentConfig | None, base_dir: Path) -> list[str]:
    key = f"systems.{name}"
    if not isinstance(settings, Mapping):
        return []  # the config's own check has said so
    kind = settings.get("kind")
    if not isinstance(kind, str):
        return [f"{key}.kind: is missing or no text; allowed: {', '.join(sorted(kinds()))}"]
    try:
        system = system_class(kind, base_dir)
    except DataError as error:
        return [f"{key}.kind: {error}"]
    problems: list[str] = []
    try:
        bound = system(system.Settings.model_validate({**settings, "kind": system.kind}))
        problems += _file_problems(bound, base_dir, key)
    except ValidationError as error:
        problems += lines_of(error, system.Settings, key)
    except DataError as error:
        problems.append(f"{key}: {error}")
    for section in OVERRIDABLE:
        changes = settings.get(section)
        if isinstance(changes, Mapping):
            whole = getattr(config, section) if config else SECTIONS[section]()
            try:
                override(whole, dict(changes))
            except ValidationError as error:
                problems += lines_of(error, SECTIONS[section], f"{key}.{section}")
    return problems


def _file_problems(system: ImagingSystem, base_dir: Path, key: str) -> list[str]:
    """Files of the settings that no job could use; what the workflow has yet to make is none."""
    plain, problems = _resolved(system.settings, type(system), base_dir), []
    for name, text in type(system)(system.Settings.model_validate(plain)).file_problems().items():
        section, last = name.split(".")
        made_here = is_made_here(plain[section][last])
        if not made_here or os.path.exists(plain[section][last]):
            problems.append(f"{key}.{name}: {text}" + ("; remove it to have it trained anew" if made_here else ""))
    return problems


def _image_problems(folder: str) -> list[str]:
    from nstm.simulate.blind_images import structures  # not earlier: every job of every rule reads the config

    try:
        structures(Path(folder))
    except DataError as error:
        return [f"blind.images: {error}"]
    return []


def _panel_problems(name: str, config: ExperimentConfig, base_dir: Path) -> list[str]:
    """Panels of the movie that are no images of the system."""
    settings = config.systems[name]
    plain = _plain_system(settings, base_dir)
    kind = system_class(plain["kind"], base_dir)
    allowed = [*kind(kind.Settings.model_validate({**plain, "kind": kind.kind})).baselines, "nstm", "static", "motion"]
    panels = override(_suited(config.movie, "movie", kind), settings.get("movie") or {}).panels
    key = f"systems.{name}.movie.panels" if "panels" in (settings.get("movie") or {}) else "movie.panels"
    return [
        f"{key}: {shown(panel)} is no result of system {name!r}{closest(panel, allowed)}; allowed: {', '.join(allowed)}"
        for panel in panels
        if panel not in allowed
    ]


def _suited(section: S, name: str, kind: type[ImagingSystem]) -> S:
    """A section of the experiment with what suits the system where it states nothing."""
    suiting = {"reconstruction": kind.fit_defaults, "movie": kind.movie_defaults}.get(name, {})
    return override(override(type(section)(), dict(suiting)), section.model_dump(exclude_unset=True))


def _content(path: Path) -> str | None:
    """SHA-256 of a file; ``None``: it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _restrict(reconstruction: dict[str, Any], acquisitions: Iterable[int]) -> None:
    """Keep only what the listed choices say of ``acquisitions``."""
    inside = set(acquisitions)
    reconstruction["held_out"] = [i for i in reconstruction["held_out"] if i in inside]
    if not reconstruction["held_out"]:
        del reconstruction["held_out_frames"], reconstruction["seeds"]
    if 0 not in inside:
        del reconstruction["snapshots"]
    if isinstance(reconstruction["static"], list):
        reconstruction["static"] = [i for i in reconstruction["static"] if i in inside]
