"""Settings: pydantic models that are the one source of the config's schema, defaults, units and documentation.

Sections shared by all imaging systems stand here; what only one modality has (its optics, its illumination)
is declared by that system as a subclass of :class:`SystemSettings`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from nstm.acquisition import DataError


class Section(BaseModel):
    """A part of the config: unknown keys are refused, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Optics(Section):
    """Objective, wavelengths and sampling; lengths in um, in the sample. What is empty is read from the file."""

    na: Annotated[
        float | None, Field(gt=0, lt=2, description="detection numerical aperture; empty: read from the file")
    ] = None
    index: Annotated[
        float | None,
        Field(
            ge=1,
            lt=2.5,
            description="refractive index of the immersion medium (oil 1.518, water 1.333); empty: read from the file",
        ),
    ] = None
    emission_wavelength_um: Annotated[
        float | None,
        Field(ge=0.2, le=2, description="detected wavelength (vacuum), um; 0.525, not 525; empty: read from the file"),
    ] = None
    pixel_um: Annotated[
        float | None,
        Field(gt=0.001, le=20, description="camera pixel in the sample, um; empty: read from the file"),
    ] = None
    z_step_um: Annotated[
        float | None, Field(gt=0.001, le=20, description="distance of planes, um; empty: read from the file")
    ] = None

    @model_validator(mode="after")
    def _na_below_index(self) -> Optics:
        if self.na is not None and self.index is not None and self.na >= self.index:
            raise ValueError(
                f"na = {self.na} must be below the refractive index = {self.index}; check both (oil 1.518, water 1.33)"
            )
        return self

    def known(self, name: str) -> float:
        """The number called ``name``.

        Raises:
            DataError: neither the config nor the file states it.
        """
        value = getattr(self, name)
        if value is None:
            raise DataError(f"optics.{name} is neither in the config nor in the file: give it in the config")
        return float(value)


class Camera(Section):
    """What turns counts into photons."""

    offset: Annotated[float, Field(ge=0, description="counts of a dark frame, subtracted")] = 0.0
    saturation: Annotated[
        float | None,
        Field(gt=0, description="count at which a pixel is full; empty: the largest value of the type"),
    ] = None


class FrameSettings(Section):
    """How frames follow each other in the file and in time."""

    order: Annotated[
        str | None,
        Field(
            description="axes of the planes in the file, slowest first, e.g. 't angle phase' or 't angle z phase'; "
            "needed where the file does not say it"
        ),
    ] = None
    planes: Annotated[int, Field(ge=1, description="number of z planes of an acquisition")] = 1
    flips: Annotated[
        list[Literal["y", "x"]] | None,
        Field(
            description="axes of the planes that are turned round when the file is read; empty: as its format says "
            "(y of MRC and DeltaVision files, whose first row is the lowest)"
        ),
    ] = None
    montage: Annotated[
        str | None,
        Field(
            description="where one large image holds several frames as tiles: the frame axes down its rows and along "
            "its columns, e.g. 'angle phase' (Nikon N-SIM); empty: every plane is a frame"
        ),
    ] = None
    binning: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description="pixels averaged along y and x when the file is read; `crop` and all results count the pixels "
            "after it, `optics.pixel_um` is that of the file",
        ),
    ] = 1
    exposure_s: Annotated[float | None, Field(gt=0, description="exposure of one frame, s")] = None
    z_delay_s: Annotated[float, Field(ge=0, description="wait before the next plane, s")] = 0.0
    acquisition_interval_s: Annotated[
        float | None, Field(gt=0, description="start to start of acquisitions, s; empty: back to back")
    ] = None

    def delays_s(self) -> dict[str, float]:
        """Wait before a step of each axis, s, by axis name."""
        return {"z": self.z_delay_s}


_Levels = Annotated[int, Field(ge=1, le=16)]
_SceneRate = Annotated[float, Field(gt=0, description="Adam rate of the scene (data scaled to maximum 1)")]
_MotionRate = Annotated[float, Field(gt=0, description="Adam rate of the motion, in units of the field")]
_SceneNonnegativity = Annotated[
    float,
    Field(ge=0, description="weight of the squared negative part of the scene, where the system's scene is a density"),
]
_SceneTikhonov = Annotated[
    float, Field(ge=0, description="weight of the mean square of the scene, every channel in the unit of the results")
]
_SceneSmoothness = Annotated[
    float,
    Field(ge=0, description="weight of the scene's squared curvature in units of the noise, as in a Wiener filter"),
]
_MotionSmoothness = Annotated[
    float,
    Field(
        ge=0,
        description="weight of the prior that neighbouring places move alike (1: as the noise and the number of motion "
        "coefficients have it, 0: none); how much alike is found from the frames",
    ),
]
_MotionSteadiness = Annotated[
    float,
    Field(
        ge=0,
        description="the same for neighbouring places that change their velocity alike, and for how the sample "
        "shakes as a whole",
    ),
]


class Multigrid(Section):
    """Scene and motion as sums of coefficient grids, coarse to fine; they start at zero."""

    scene_levels: Annotated[_Levels, Field(description="number of scene grids")] = 8
    scene_coarsest: Annotated[
        float, Field(gt=0, le=1, description="cells per pixel of the scene grid side, coarsest level")
    ] = 0.2
    scene_finest: Annotated[float, Field(gt=0, le=1, description="the same, finest level")] = 1.0
    motion_levels: Annotated[
        _Levels,
        Field(description="number of motion grids; one more lets the whole field move from frame to frame"),
    ] = 8
    motion_coarsest_cells: Annotated[int, Field(ge=1, description="cells per side, coarsest motion grid")] = 1
    motion_finest_cells: Annotated[
        int | None,
        Field(
            ge=1,
            description="cells along the longest side, finest motion grid; empty: 12, more where one would be larger "
            "than 24 pixels of the result (a side of the result, padding included, over 24)",
        ),
    ] = None
    motion_time_nodes: Annotated[
        int | None,
        Field(
            ge=1,
            le=64,
            description="time intervals of the finest motion grid; empty: one per frame, at most 8",
        ),
    ] = None
    motion_sliding_levels: Annotated[
        int,
        Field(
            ge=0,
            le=4,
            description="motion grids twice, four times, ... as fine as the finest, for parts that slide past each "
            "other: a few neighbouring places that do not move alike hardly count then; see `sliding`",
        ),
    ] = 0
    scene_rate: _SceneRate = 0.1
    motion_rate: _MotionRate = 1e-3
    scene_nonnegativity: _SceneNonnegativity = 0.1
    scene_tikhonov: _SceneTikhonov = 0.0
    scene_smoothness: _SceneSmoothness = 2.0
    final_share: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="share of the steps that a volume ends with while its residual is above the noise: L-BFGS, "
            "scene, motion and light together; levels open and rates fall within the steps before",
        ),
    ] = 0.25
    motion_smoothness: _MotionSmoothness = 0.5
    motion_steadiness: _MotionSteadiness = 0.5


class Networks(Section):
    """Scene and motion as networks behind a hash embedding of several resolutions, coarse to fine (the paper's)."""

    levels: Annotated[_Levels, Field(description="resolutions of each embedding")] = 8
    features: Annotated[int, Field(ge=1, le=16, description="numbers that each level holds at a vertex")] = 2
    table_log2: Annotated[
        int,
        Field(ge=4, le=24, description="rows of a level's table, as a power of 2; a level with more vertices shares"),
    ] = 16
    scene_width: Annotated[int, Field(ge=1, le=1024, description="neurons of a hidden layer of the scene")] = 128
    scene_depth: Annotated[int, Field(ge=1, le=8, description="hidden layers of the scene")] = 2
    motion_width: Annotated[int, Field(ge=1, le=1024, description="neurons of a hidden layer of the motion")] = 32
    motion_depth: Annotated[int, Field(ge=1, le=8, description="hidden layers of the motion")] = 2
    scene_coarsest: Annotated[
        float, Field(gt=0, le=4, description="cells per pixel of the scene's embedding along y and x, coarsest level")
    ] = 0.05
    scene_finest: Annotated[float, Field(gt=0, le=4, description="the same, finest level")] = 0.5
    scene_coarsest_planes: Annotated[
        float, Field(gt=0, le=4, description="cells per plane of the scene's embedding along z, coarsest level")
    ] = 0.12
    scene_finest_planes: Annotated[float, Field(gt=0, le=4, description="the same, finest level")] = 0.4
    motion_coarsest: Annotated[
        float,
        Field(gt=0, le=4, description="cells per pixel of the motion's embedding along y and x, coarsest level"),
    ] = 0.01
    motion_finest: Annotated[float, Field(gt=0, le=4, description="the same, finest level")] = 0.1
    motion_coarsest_planes: Annotated[
        float, Field(gt=0, le=4, description="cells per plane of the motion's embedding along z, coarsest level")
    ] = 0.317
    motion_finest_planes: Annotated[float, Field(gt=0, le=4, description="the same, finest level")] = 0.95
    motion_coarsest_times: Annotated[
        int, Field(ge=1, le=1024, description="cells of the motion's embedding in time, coarsest level")
    ] = 1
    motion_finest_times: Annotated[int, Field(ge=1, le=1024, description="the same, finest level")] = 5
    motion_uniform: Annotated[
        bool, Field(description="the whole field moves alike (beads on a stage): the motion depends on time only")
    ] = False
    scene_rate: _SceneRate = 1e-3
    motion_rate: _MotionRate = 1e-5
    scene_nonnegativity: _SceneNonnegativity = 5e-6
    scene_tikhonov: _SceneTikhonov = 0.0
    scene_smoothness: _SceneSmoothness = 0.0
    motion_smoothness: _MotionSmoothness = 0.0
    motion_steadiness: _MotionSteadiness = 0.0


class Engine(NamedTuple):
    """How scene and motion are represented and how frames see them."""

    scene: Literal["grids", "network"]
    motion: Literal["grids", "network"]
    rendering: Literal["once", "per_pixel"]


#: What the names of ``reconstruction.engine`` stand for.
ENGINES = {
    "multigrid": Engine("grids", "grids", "once"),
    "networks": Engine("network", "network", "per_pixel"),
}


class Reconstruction(Section):
    """The space-time fit."""

    engine: Annotated[
        Literal["multigrid", "networks"],
        Field(
            description="multigrid: grids, rendered once, fast; networks: networks for both, asked for every pixel of "
            "every frame, the paper's, which needs thousands of steps"
        ),
    ] = "multigrid"
    scene: Annotated[
        Literal["grids", "network"] | None, Field(description="representation of the scene; empty: the engine's")
    ] = None
    motion: Annotated[
        Literal["grids", "network"] | None, Field(description="representation of the motion; empty: the engine's")
    ] = None
    rendering: Annotated[
        Literal["once", "per_pixel"] | None,
        Field(
            description="once: the scene is rendered once a step and warped to every frame; per_pixel: it is asked at "
            "the place that each pixel of each frame comes from (scene: network only); empty: the engine's"
        ),
    ] = None
    steps: Annotated[int, Field(ge=1, le=1_000_000, description="optimisation steps of one acquisition")] = 400
    seed: Annotated[int, Field(ge=0, lt=2**31, description="of the networks' start and of the order of frames")] = 0
    frames_per_step: Annotated[
        int | None,
        Field(ge=1, description="frames of one step, in random order so that all have their turn; empty: all"),
    ] = None
    margin_px: Annotated[
        int, Field(ge=0, le=256, description="camera pixels along the edges of the frames that are not compared")
    ] = 0
    stop_when_flat: Annotated[
        float | None,
        Field(
            ge=0,
            lt=1,
            description="stop early when, with all levels open, the loss fell by no more than this share in the last "
            "2.5 % of the steps (at least 20); empty: never",
        ),
    ] = None
    stop_at_noise: Annotated[
        float | None,
        Field(
            gt=0,
            description="stop early when, with all levels open, the mean squared residual is at most this many times "
            "that of the noise, such as 1.0; empty: never, but the last part of a volume ends at 1.0",
        ),
    ] = None
    windows_open_at: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="share of the steps at which all coarse-to-fine levels are open; 0: open from the start",
        ),
    ] = 0.8
    brightness_terms: Annotated[
        int,
        Field(
            ge=0,
            le=8,
            description="functions of time by which the brightness of structure may change while it is recorded, for "
            "what appears, fades or switches: 3 suits most; 0: it does not",
        ),
    ] = 0
    late_from: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="stage of coarse to fine from which on the absorption of DPC is fitted beside the phase; 0: "
            "from the start",
        ),
    ] = 0.0
    starts: Annotated[
        int,
        Field(
            ge=1,
            le=5,
            description="fits tried in turn, each from a coarser scene with faster motion, until the residual is at "
            "the noise, and the best is kept; with 2 and more DPC also tries early whether to fit the absorption later",
        ),
    ] = 3
    sliding: Annotated[
        bool,
        Field(
            description="where the residual of a single plane shows that a fit lost 100 pixels or more in two frames "
            "or more, away from the border, and half of the field at most, it is done again from the motion that was "
            "found, with finer grids for parts that slide past each other (motion_sliding_levels: 2); kept where that "
            "halves what is lost"
        ),
    ] = True
    illumination_rate: Annotated[
        float,
        Field(
            ge=0,
            description="Adam rate of the calibration's corrections (SIM: phases in rad, ...; speckle: patterns), "
            "refined together with the scene because motion biases what is estimated from the frames alone; 0 keeps "
            "the calibration; DPC and DiffuserCam have none; of a volume any other value lets L-BFGS refine them",
        ),
    ] = 3e-2
    multigrid: Multigrid = Multigrid()
    networks: Networks = Networks()
    frames_at_once: Annotated[
        int | None,
        Field(ge=1, description="frames rendered together (memory); empty: one on a CPU, all on an accelerator"),
    ] = None
    memory_gb: Annotated[
        float | None,
        Field(
            gt=0,
            description="memory that a fit may take, GB; a field that needs more is fitted in overlapping tiles and "
            "blended (where tile_px is set, in tiles of that, whatever they need); empty: four fifths of what the "
            "accelerator, the job or the machine has",
        ),
    ] = None
    tile_px: Annotated[
        int | None,
        Field(ge=32, description="largest side of a tile, camera pixels; empty: as large as the memory allows"),
    ] = None
    padding_px: Annotated[
        int, Field(ge=0, le=256, description="camera pixels added around the field (0: periodic field)")
    ] = 8
    static: Annotated[
        bool | list[Annotated[int, Field(ge=0)]],
        Field(description="also fit without motion: true, false, or a list of acquisitions"),
    ] = False
    held_out: Annotated[
        list[Annotated[int, Field(ge=0)]],
        Field(description="acquisitions on which frames are held out in separate fits (costs two fits per frame)"),
    ] = []
    held_out_frames: Annotated[
        int,
        Field(ge=1, le=64, description="frames held out per such acquisition, rotating over the orientations"),
    ] = 3
    seeds: Annotated[
        Literal[0] | Annotated[int, Field(ge=2, le=64)],
        Field(
            description="fits that repeat the acquisitions of held_out with fresh noise of the size of the frames' "
            "(networks also from other seeds): their spread is what chance decides; 0: none"
        ),
    ] = 0
    snapshots: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]],
        Field(
            description="shares of the steps after which the scene of a sample's first acquisition is kept, for the "
            "figure from coarse to fine"
        ),
    ] = [0.1, 0.3, 0.6, 1.0]
    output_times: Annotated[
        Literal["orientations", "frames", "windows"] | Annotated[int, Field(ge=1, le=1000)],
        Field(
            description="times of the results: mean of each orientation, every frame, those of the moving window, or N "
            "per acquisition"
        ),
    ] = "orientations"
    acquisitions_per_job: Annotated[
        int,
        Field(ge=1, le=10_000, description="acquisitions of one cluster job (cost only, results do not change)"),
    ] = 8

    @property
    def parts(self) -> Engine:
        """What the engine is made of, the single choices included."""
        preset = ENGINES[self.engine]
        return Engine(self.scene or preset.scene, self.motion or preset.motion, self.rendering or preset.rendering)

    @property
    def of_scene(self) -> Multigrid | Networks:
        """The section that the scene's representation is set in."""
        return self.multigrid if self.parts.scene == "grids" else self.networks

    @property
    def of_motion(self) -> Multigrid | Networks:
        """The section that the motion's representation is set in."""
        return self.multigrid if self.parts.motion == "grids" else self.networks

    @model_validator(mode="after")
    def _renders(self) -> Reconstruction:
        if self.parts.scene == "grids" and self.parts.rendering == "per_pixel":
            raise ValueError(
                "scene: grids has values on the pixels only, so it cannot be rendered per_pixel: set rendering: once, "
                "or scene: network"
            )
        if self.seeds and not self.held_out:
            raise ValueError("seeds repeats the fits of the acquisitions in held_out, and there are none: list them")
        return self


class Conventional(Section):
    """The conventional reconstruction that everything is compared with."""

    wiener: Annotated[
        Annotated[float, Field(gt=0)] | Literal["auto"],
        Field(description="SIM: Wiener parameter in units of the squared transfer; 'auto': from the noise"),
    ] = "auto"
    attenuation: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="SIM: share by which every order counts less near its centre, against light from out of focus, "
            "such as 0.99; costs signal of thick structures",
        ),
    ] = 0.0


class Movie(Section):
    """The side-by-side movie."""

    frames_per_second: Annotated[float, Field(gt=0, le=120, description="output times shown per second")] = 4.0
    frames_per_time: Annotated[
        int,
        Field(
            ge=1,
            le=60,
            description="movie frames per output time; between two of them the NSTM panel is carried along its own "
            "displacement, the others wait, and a mark tells which panels show a time of their results; 1: no frames "
            "between",
        ),
    ] = 3
    panels: Annotated[
        list[str],
        Field(
            min_length=1,
            description="time-lapse stores shown, left to right; motion: NSTM with its displacement as arrows",
        ),
    ] = [
        "widefield",
        "conventional",
        "nstm",
    ]
    saturated_percent: Annotated[
        float,
        Field(ge=0, lt=50, description="pixels shown as saturated, percent, one range per sample and panel"),
    ] = 0.1
    depth_colours: Annotated[
        bool, Field(description="stacks: colour the maximum projection by the depth that each pixel comes from")
    ] = True
    height_px: Annotated[int, Field(ge=64, le=2160, description="height of one panel, pixel")] = 480


class Report(Section):
    """The page of the experiment."""

    title: Annotated[str, Field(max_length=200, description="heading of the page")] = "NSTM experiment"


class Keep(Section):
    """What stays on disk when a sample is finished."""

    raw: Annotated[bool, Field(description="keep raw.ome.zarr")] = True
    jobs: Annotated[bool, Field(description="keep the stores of single reconstruct jobs")] = False


SECTIONS: dict[str, type[Section]] = {
    "reconstruction": Reconstruction,
    "conventional": Conventional,
    "movie": Movie,
    "report": Report,
    "keep": Keep,
}
#: Sections that a system may override for its samples.
OVERRIDABLE = ("reconstruction", "conventional", "movie")


class SystemSettings(Section):
    """Base of the settings of an imaging system; ``kind`` picks the system, sections override the experiment's."""

    kind: str
    optics: Optics
    camera: Camera = Camera()
    frames: FrameSettings = FrameSettings()
    reconstruction: Annotated[
        dict[str, Any], Field(description="keys of `reconstruction` that differ for this system")
    ] = {}
    conventional: Annotated[dict[str, Any], Field(description="keys of `conventional` that differ")] = {}
    movie: Annotated[dict[str, Any], Field(description="keys of `movie` that differ")] = {}


S = TypeVar("S", bound=Section)


def override(section: S, changes: dict[str, Any]) -> S:
    """``section`` with ``changes`` applied recursively and validated anew."""

    def merge(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
        return {
            **old,
            **{
                k: merge(old[k], v) if isinstance(v, dict) and isinstance(old.get(k), dict) else v
                for k, v in new.items()
            },
        }

    return type(section).model_validate(merge(section.model_dump(), changes))
