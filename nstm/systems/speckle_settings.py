"""Settings of a microscope with random, unknown light."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nstm.settings import FrameSettings, Optics, Section, SystemSettings

Solver = Literal["per_frame", "conjugate_gradient", "nesterov", "gradient_descent", "ubsim"]


#: Frames that the stacked network of the package was trained for.
STACKED_FRAMES = 20


class SpeckleOptics(Optics):
    """Objective and light; the aperture of the light is that of what projects the patterns."""

    illumination_na: Annotated[
        float | None,
        Field(gt=0, lt=2, description="numerical aperture of the illumination; empty: that of the objective"),
    ] = None
    excitation_wavelength_um: Annotated[
        float | None,
        Field(ge=0.2, le=2, description="wavelength of the light (vacuum), um; empty: that of the emission"),
    ] = None
    upsampling: Annotated[
        Literal[1, 2],
        Field(description="result pixels per camera pixel and side; 1 where the camera has emission / (8 NA) or finer"),
    ] = 2
    pixel_integration: Annotated[
        bool, Field(description="a pixel takes the mean over its area (every camera); false: a sample of the image")
    ] = True


class SpeckleIllumination(Section):
    """The patterns: nothing is known but how many."""

    patterns: Annotated[
        int,
        Field(
            ge=3,
            le=1000,
            description="frames of an acquisition, each under a pattern of its own; a video of N frames is taken as "
            "N / patterns acquisitions",
        ),
    ] = 20


class RollingWindow(Section):
    """Which frames a result is made of."""

    frames: Annotated[
        int | None,
        Field(ge=3, description="consecutive frames of a result, at most illumination.patterns; empty: that many"),
    ] = None
    step: Annotated[int, Field(ge=1, description="frames from one result to the next")] = 2


class BlindSolver(Section):
    """The reconstruction without knowledge of the light."""

    methods: Annotated[
        list[Solver],
        Field(
            min_length=1,
            max_length=5,
            description="solvers, the first gives the store `conventional`, every other one a store of its name: "
            "per_frame (convex, every frame by itself), conjugate_gradient, nesterov, gradient_descent (object and "
            "patterns together), ubsim (six learned iterations)",
        ),
    ] = ["per_frame"]  # noqa: RUF012
    weights: Annotated[
        str | None,
        Field(min_length=1, description="network of ubsim, NAME.safetensors; empty: one of the package"),
    ] = None
    network: Annotated[
        Literal["per_frame", "stacked"],
        Field(
            description="which network of the package ubsim uses: per_frame takes any number of frames, stacked is "
            f"quicker and takes windows of {STACKED_FRAMES}"
        ),
    ] = "per_frame"
    check_every: Annotated[
        int,
        Field(
            ge=0,
            description="every n-th window of ubsim is also solved by conjugate gradients; how far the two "
            "differ stands in trust.json; 0: none",
        ),
    ] = 10
    iterations: Annotated[
        int, Field(ge=1, le=100_000, description="the most that are made; ubsim has those of its network")
    ] = 60
    stop_at_noise: Annotated[
        bool,
        Field(
            description="stop where the residual has the energy of the noise, where that is known: further iterations "
            "fit the noise (per_frame gets better and goes on)"
        ),
    ] = True
    flat: Annotated[
        float,
        Field(ge=0, lt=1, description="stop where ten iterations lower the cost by less than this share; 0: never"),
    ] = 1e-3
    padding_px: Annotated[
        int, Field(ge=0, le=256, description="camera pixels of mirrored image around the field (0: periodic field)")
    ] = 12


class SpeckleFrames(FrameSettings):
    """How frames follow each other."""

    pattern_delay_s: Annotated[float, Field(ge=0, description="wait before the next pattern, s")] = 0.0

    def delays_s(self) -> dict[str, float]:
        """Wait before a step of each axis, s."""
        return {**super().delays_s(), "pattern": self.pattern_delay_s}


class SpeckleSettings(SystemSettings):
    """A microscope with random, unknown light."""

    kind: Literal["speckle"] = "speckle"
    optics: SpeckleOptics
    illumination: SpeckleIllumination = SpeckleIllumination()
    window: RollingWindow = RollingWindow()
    solver: BlindSolver = BlindSolver()
    frames: SpeckleFrames = SpeckleFrames()

    @model_validator(mode="after")
    def _window_fits(self) -> SpeckleSettings:
        if self.window.frames is not None and self.window.frames > self.illumination.patterns:
            raise ValueError(
                f"window.frames = {self.window.frames} must not exceed illumination.patterns = "
                f"{self.illumination.patterns}, the frames of an acquisition"
            )
        names = self.solver.methods
        if len(set(names)) < len(names):
            raise ValueError(f"solver.methods = {names}: each solver at most once")
        frames = self.window.frames or self.illumination.patterns
        stacked = "ubsim" in names and self.solver.weights is None and self.solver.network == "stacked"
        if stacked and frames != STACKED_FRAMES:
            raise ValueError(
                f"solver.network = stacked was trained for windows of {STACKED_FRAMES} frames, these have {frames} "
                "(window.frames, or illumination.patterns): use per_frame, or solver.weights of a network of your own"
            )
        return self
