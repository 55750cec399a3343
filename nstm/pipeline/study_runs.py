"""Which studies of the paper are run, how large, and what every case of them depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from nstm.pipeline.problems import lines_of
from nstm.settings import Reconstruction, Section, override
from nstm.systems.base import system_of_kind

if TYPE_CHECKING:
    from nstm.simulate.studies import StudyCase

#: What the amounts of motions are given in.
_UNITS = {"translation": " px", "rotation": "°", "shear": "", "swirl": " rad", "vibration": " px", "swing": " px"}
#: What a study itself decides.
_DECIDED = ("engine", "windows_open_at")
#: What only concerns recordings of several acquisitions.
_OF_EXPERIMENTS = ("static", "held_out", "held_out_frames", "seeds", "output_times", "acquisitions_per_job")


def _usable(changes: dict[str, Any]) -> dict[str, Any]:
    if found := [key for key in (*_DECIDED, *_OF_EXPERIMENTS) if key in changes]:
        raise ValueError(f"{', '.join(found)}: a study sets this itself or has no use for it, leave it out")
    try:
        override(Reconstruction(), changes)
    except ValidationError as error:
        raise ValueError("; ".join(lines_of(error, Reconstruction))) from None
    return changes


Study = Literal["motion", "rows", "magnitude", "vibration", "noise"]
_Names = Annotated[
    list[Study],
    Field(
        description="studies: motion (Extended Data 1, 2), rows of a rolling shutter (7), magnitude (8), vibration "
        "(9), noise (10); empty: none",
    ),
]
_Side = Annotated[int, Field(ge=32, le=1024, description="camera pixels along a side of the field")]
_Changes = Annotated[
    dict[str, Any],
    AfterValidator(_usable),
    Field(description="keys of `reconstruction` that differ from the defaults of the system"),
]


class MultigridStudies(Section):
    """Studies of the engine ``multigrid``."""

    studies: _Names = Field(default=["motion", "rows", "magnitude", "vibration", "noise"])
    side_px: _Side = 128
    reconstruction: _Changes = Field(default={})


class NetworksStudies(Section):
    """Studies of the engine ``networks``, small and short, so with the faster rates of the paper's program for volumes.

    The paper: 128 pixels, 5000 steps of all frames.
    """

    studies: _Names = Field(default=["motion"])
    side_px: _Side = 64
    reconstruction: _Changes = Field(
        default={
            **{"steps": 1200, "frames_per_step": 2, "starts": 1, "padding_px": 0, "illumination_rate": 0.0},
            "networks": {"scene_rate": 5e-3, "motion_rate": 5e-5},
        }
    )


class Studies(Section):
    """The studies of the paper on simulated data: `snakemake studies` runs them."""

    multigrid: MultigridStudies = MultigridStudies()
    networks: NetworksStudies = NetworksStudies()

    @property
    def chosen(self) -> list[tuple[str, str]]:
        """Engine and study of every run."""
        return [(engine, study) for engine in type(self).model_fields for study in getattr(self, engine).studies]

    def case_params(self, engine: str, study: str, name: str) -> dict[str, Any]:
        """Plain settings that the results of a case depend on, and nothing else."""
        run, case = getattr(self, engine), cases(study)[name]
        whole = override(Reconstruction(), dict(system_of_kind(case.system).fit_defaults))
        settings = override(whole, {"engine": engine, **run.reconstruction})
        return {
            "case": dataclasses.asdict(case),
            "label": label(study, case),
            "side_px": run.side_px,
            "reconstruction": settings.model_dump(mode="json", exclude=set(_OF_EXPERIMENTS)),
        }


def cases(study: str) -> Mapping[str, StudyCase]:
    """The cases of a study by their names, which are good file names."""
    from nstm.simulate.studies import STUDIES  # not earlier: every job of every rule reads the config

    return {"-".join(_words(case)): case for case in STUDIES[study]}


def case_files(pattern: str, engine: str, study: str) -> list[str]:
    """``pattern`` with ``{engine}``, ``{study}`` and ``{case}`` filled in for every case of a study, in its order."""
    return [pattern.format(engine=engine, study=study, case=name) for name in cases(study)]


def label(study: str, case: StudyCase) -> str:
    """A case in words, as far as it differs from the others of its study."""
    if study == "noise":
        return f"{case.photons:g} photons"
    return case.motion if case.motion == "static" else f"{case.motion} {case.amount:g}{_UNITS[case.motion]}"


def _words(case: StudyCase) -> list[str]:
    amounts = [case.amount] if case.photons is None else [case.amount, case.photons]
    return [case.system, case.motion, *(f"{amount:g}" for amount in amounts if case.motion != "static")]
