"""Settings of a rolling-shutter lensless camera: its readout, its point spread function, its conventional results."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nstm.settings import FrameSettings, Section, SystemSettings


class DiffuserReadout(Section):
    """When the rows of the sensor are exposed."""

    line_time_s: Annotated[
        float, Field(gt=0, lt=1, description="from the reading of one row of the file to that of the next, s")
    ]
    halves: Annotated[
        Literal["dual", "single"],
        Field(
            description="dual: both halves are read at once, from the first and from the last row towards the centre; "
            "single: all rows from the first to the last"
        ),
    ] = "dual"
    lines_per_layer: Annotated[
        int,
        Field(
            ge=1, le=64, description="rows (after binning) that are read during one layer of the scene: its time step"
        ),
    ] = 1
    rows_per_step: Annotated[
        int,
        Field(
            ge=1,
            le=4096,
            description="rows, read one after the other, that are computed together (of each half); decides memory",
        ),
    ] = 20


class DiffuserPattern(Section):
    """The pattern of one point in the middle of the scene."""

    path: Annotated[
        str,
        Field(min_length=1, description="file with the point spread function (y, x), (colour, y, x) or (y, x, colour)"),
    ]
    array: Annotated[str | None, Field(description="name of the array in an .npz file")] = None
    background: Annotated[
        float | None, Field(ge=0, description="counts of a dark pixel of that file; empty: camera.offset")
    ] = None


class DiffuserWiener(Section):
    """The static result by a Wiener filter."""

    parameter: Annotated[float, Field(gt=0, description="in units of the largest squared transfer")] = 1e-4


class DiffuserAdmm(Section):
    """The static result with total variation, by ADMM."""

    weight: Annotated[float, Field(ge=0, description="weight of the total variation, data and pattern of norm 1")] = (
        1e-5
    )
    iterations: Annotated[int, Field(ge=1, le=100_000, description="iterations")] = 300


class DiffuserFista(Section):
    """The video with total variation in space and time, by FISTA."""

    weight: Annotated[float, Field(ge=0, description="weight of the total variation, data of maximum 1")] = 1e-6
    time_weight: Annotated[float, Field(ge=0, description="how much more that along time counts")] = 10.0
    iterations: Annotated[int, Field(ge=1, le=100_000, description="iterations")] = 300
    proximal: Annotated[
        Literal["haar", "exact"],
        Field(description="haar: the approximate operator of the published program; exact: by its dual"),
    ] = "haar"


class DiffuserFrames(FrameSettings):
    """How frames follow each other; the time of a frame is the middle of the exposure of its first row."""

    @model_validator(mode="after")
    def _of_rows(self) -> DiffuserFrames:
        if self.exposure_s is None:
            raise ValueError("exposure_s is missing: without the exposure of a row nothing tells what it has seen")
        if self.planes != 1:
            raise ValueError(f"planes = {self.planes}: a frame of this camera has one plane")
        return self


class DiffuserSettings(SystemSettings):
    """A lensless camera with a diffuser and a rolling shutter."""

    kind: Literal["diffusercam"] = "diffusercam"
    frames: DiffuserFrames
    readout: DiffuserReadout
    psf: DiffuserPattern
    colours: Annotated[Literal[1, 3], Field(description="1: grey; 3: red, green and blue, each a plane")] = 1
    scene_share: Annotated[
        float, Field(gt=0, le=1, description="height and width of the scene over those of the sensor's field")
    ] = 0.5
    wiener: DiffuserWiener = DiffuserWiener()
    admm: DiffuserAdmm = DiffuserAdmm()
    fista: DiffuserFista = DiffuserFista()

    @property
    def exposure_lines(self) -> int:
        """Line times of a (binned) row that a row is exposed for."""
        assert self.frames.exposure_s is not None
        return round(self.frames.exposure_s / (self.readout.line_time_s * self.frames.binning))

    @model_validator(mode="after")
    def _exposed(self) -> DiffuserSettings:
        if self.exposure_lines < 1:
            raise ValueError(
                f"frames.exposure_s = {self.frames.exposure_s:g} is shorter than one line "
                f"({self.readout.line_time_s * self.frames.binning:g} s after binning): check both"
            )
        return self
