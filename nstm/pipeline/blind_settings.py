"""How UBSIM is trained, `snakemake train_blind`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from nstm.settings import Section

if TYPE_CHECKING:
    from nstm.simulate.speckle import SpeckleMicroscope


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
