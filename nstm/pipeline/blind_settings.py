"""How UBSIM is trained, `snakemake train_blind`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from nstm.settings import Section

if TYPE_CHECKING:
    from nstm.simulate.speckle import SpeckleMicroscope


#: What the rule `train_blind` makes in the working directory.
TRAINED = Path("blind/ubsim.safetensors")


class Training(Section):
    """One training of UBSIM, with light and detection of equal aperture."""

    mode: Annotated[Literal["stacked", "per_frame"], Field(description="what the network sees at once")] = "per_frame"
    frames: Annotated[int, Field(ge=3, le=200, description="frames of a stack")] = 10
    width: Annotated[int, Field(ge=1, le=128, description="channels of the network's finer level")] = 24
    blocks: Annotated[int, Field(ge=1, le=50, description="learned iterations")] = 6
    side_px: Annotated[int, Field(ge=16, multiple_of=4, description="side of a crop")] = 32
    stacks: Annotated[int, Field(ge=1, description="stacks of an epoch")] = 128
    validation_stacks: Annotated[int, Field(ge=1, description="stacks of the validation")] = 16
    batch: Annotated[int, Field(ge=1, description="stacks of a step")] = 4
    epochs: Annotated[int, Field(ge=1, description="passes")] = 150
    rate: Annotated[float, Field(gt=0, description="of Adam at the start")] = 2e-3
    patience: Annotated[int, Field(ge=1, description="epochs without progress before the rate falls")] = 20
    every_block: Annotated[bool, Field(description="all blocks count in the loss, later ones more")] = True
    seed: Annotated[int, Field(ge=0, description="of network, crops, light and noise")] = 0
    wavelength_um: Annotated[float, Field(gt=0, description="of light and emission")] = 0.52
    na: Annotated[float, Field(gt=0, description="of illumination and objective")] = 1.0
    image_pixel_um: Annotated[
        float | None,
        Field(
            gt=0,
            description="pixel of the images in the sample; empty: that of the reconstruction, wavelength / (8 NA)",
        ),
    ] = None

    @model_validator(mode="after")
    def _whole_batches(self) -> Training:
        if self.batch > min(self.stacks, self.validation_stacks):
            raise ValueError(
                f"batch = {self.batch} is more than stacks = {self.stacks} or validation_stacks = "
                f"{self.validation_stacks}: only whole batches are used, so there would be none"
            )
        return self

    @property
    def pitch_um(self) -> float:
        """Pixel of the reconstruction, the largest without aliases."""
        return self.wavelength_um / (8 * self.na)

    @property
    def microscope(self) -> SpeckleMicroscope:
        """Optics of the stacks; light and noise are drawn for each."""
        from nstm.simulate.speckle import SpeckleMicroscope  # not earlier: every job of every rule reads the config

        return SpeckleMicroscope(
            na=self.na,
            illumination_na=self.na,
            emission_wavelength_um=self.wavelength_um,
            excitation_wavelength_um=self.wavelength_um,
            patterns=self.frames,
        )


def _several(domains: list[str]) -> list[str]:
    if len(set(domains)) != len(domains) or len(domains) == 1:
        raise ValueError(
            f"domains = {domains}: each network is tested on the structures of the others, so name two or more"
        )
    return domains


def _once(numbers: list[int]) -> list[int]:
    if len(set(numbers)) != len(numbers):
        raise ValueError(f"numbers = {numbers}: each at most once")
    return numbers


BlindStudy = Literal["structures", "iterations", "noise", "frames", "pace", "domains"]
Network = Literal["ubsim", "unet", "edsr", "rcan"]


class BlindStudies(Section):
    """Studies of blind SIM, `snakemake studies_blind`, on images that the network was not trained on."""

    studies: Annotated[
        list[BlindStudy],
        Field(
            description="structures: quality of every method by structure; iterations: to the cost of UBSIM; noise: "
            "quality by iteration; frames: by number of frames; pace: images per second of a large field; domains: "
            "networks on structures they never saw"
        ),
    ] = Field(default=["structures", "iterations", "noise", "frames", "pace", "domains"])
    frames: Annotated[int, Field(ge=3, le=200, description="frames of a stack")] = 20
    photons: Annotated[float, Field(gt=0, description="largest noise-free value of a frame")] = 500.0
    side_px: Annotated[int, Field(ge=64, multiple_of=4, description="side of the images")] = 128
    images: Annotated[int, Field(ge=1, description="images of every structure, at most those of the test part")] = 8
    iterations: Annotated[int, Field(ge=1, description="after which a solver gives up")] = 60
    race_side_px: Annotated[int, Field(ge=32, multiple_of=4, description="side of the images of `iterations`")] = 256
    race_iterations: Annotated[int, Field(ge=1, description="after which a solver of `iterations` gives up")] = 600
    pace_side_px: Annotated[int, Field(ge=32, multiple_of=4, description="side of the image of `pace`")] = 512
    numbers: Annotated[
        list[Annotated[int, Field(ge=3, le=200)]],
        AfterValidator(_once),
        Field(min_length=1, description="of frames, for the study `frames`"),
    ] = Field(default=[5, 10, 20, 40])
    weights: Annotated[
        str | None,
        Field(
            min_length=1,
            description="network of UBSIM, absolute or relative to this config file; empty: those of the package that "
            "take the number of frames",
        ),
    ] = None
    lpips_weights: Annotated[
        str | None,
        Field(
            min_length=1,
            description="weights of LPIPS (safetensors), absolute or relative to this config file; empty: no LPIPS",
        ),
    ] = None
    domains: Annotated[
        list[str],
        AfterValidator(_several),
        Field(
            description="structures of the study `domains`, of the images or `digits`, which are drawn; empty: the "
            "first two and digits"
        ),
    ] = Field(default=[])
    networks: Annotated[list[Network], Field(min_length=1, description="networks of the study `domains`")] = Field(
        default=["ubsim", "unet", "edsr", "rcan"]
    )
    epochs: Annotated[
        int,
        Field(
            ge=1,
            description="of each of their trainings, all of them on stacks of `frames`; the rest is as in "
            "`blind.training`",
        ),
    ] = 20
    training_side_px: Annotated[int, Field(ge=16, multiple_of=4, description="side of their crops")] = 64
    taught_rate: Annotated[
        float, Field(gt=0, description="of Adam at the start, for networks that are shown what to find")
    ] = 2e-3


class Blind(Section):
    """UBSIM, the learned iterations of blind SIM."""

    images: Annotated[
        str | None,
        Field(
            min_length=1,
            description="folder with a folder of images per structure, absolute or relative to this config file; "
            "empty: structures are simulated",
        ),
    ] = None
    training: Annotated[Training, Field(description="the training")] = Training()
    studies: Annotated[BlindStudies, Field(description="the studies")] = BlindStudies()

    def domain_params(self, domain: str, network: str) -> dict[str, Any]:
        """Plain settings that a network of the study ``domains`` depends on."""
        chosen = self.studies
        changed: dict[str, float] = {
            "epochs": chosen.epochs,
            "frames": chosen.frames,
            "side_px": chosen.training_side_px,
        }
        if network != "ubsim":
            changed["rate"] = chosen.taught_rate
        training = self.training.model_copy(update=changed)
        unseen = set() if network == "ubsim" else {"mode", "width", "blocks", "every_block"}
        return {"training": training.model_dump(mode="json", exclude=unseen), "domain": domain, "network": network}

    def study_params(self, study: BlindStudy) -> dict[str, Any]:
        """Plain settings that a study depends on; :meth:`model_validate` takes them."""
        training, own = _SEEN_BY[study]
        return {
            "training": self.training.model_dump(mode="json", include={*_OPTICS, *training}),
            "studies": self.studies.model_dump(mode="json", include=set(own)),
        }


#: Settings of the training that say how images are taken.
_OPTICS = ("wavelength_um", "na", "image_pixel_um")
#: Other settings of the training, and those of the studies, by the study that depends on them.
_SEEN_BY: Mapping[BlindStudy, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "structures": ((), ("frames", "photons", "side_px", "images", "iterations")),
    "iterations": ((), ("frames", "photons", "race_side_px", "race_iterations")),
    "noise": ((), ("frames", "side_px", "iterations")),
    "frames": ((), ("photons", "side_px", "iterations", "numbers")),
    "pace": ((), ("frames", "photons", "pace_side_px", "iterations")),
    "domains": (("mode", "width", "blocks"), ("frames", "photons", "side_px", "domains", "networks")),
}


def networks_of(study: str, settings: BlindStudies, images: Path | None) -> list[str]:
    """Names of the networks that a study needs, ``DOMAIN/NETWORK`` of those that are trained for it.

    ``ubsim`` is that of the settings; without one, ``ubsim`` and ``ubsim_stacked`` are those of the package.
    """
    if study != "domains":
        return ["ubsim"] if settings.weights else ["ubsim", "ubsim_stacked"]
    return [f"{domain}/{network}" for domain in domains_of(settings, images) for network in settings.networks]


def domains_of(settings: BlindStudies, images: Path | None) -> list[str]:
    """Structures of the study ``domains``: those of the settings, or the first two of the images and digits.

    Raises:
        DataError: the folder of the images holds no structure.
    """
    from nstm.simulate.blind_images import DIGITS, structures  # not earlier: every job of every rule reads the config

    if settings.domains:
        return list(settings.domains)
    if images is None:
        return ["network", "filaments", DIGITS]
    return [*(folder.name for folder in structures(images)[:2]), DIGITS]
