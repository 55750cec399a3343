"""Settings of differential phase contrast: optics, light sources, background and what is reconstructed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nstm.settings import FrameSettings, Optics, Section, SystemSettings


class DpcOptics(Optics):
    """Objective and condenser of a DPC microscope; ``emission_wavelength_um`` is the wavelength of its light."""

    illumination_na: Annotated[
        float | None,
        Field(gt=0, lt=2, description="outer numerical aperture of the light sources; empty: that of the objective"),
    ] = None
    inner_na: Annotated[
        float, Field(ge=0, lt=2, description="inner numerical aperture of ring-shaped sources; 0: discs")
    ] = 0.0

    @model_validator(mode="after")
    def _ring(self) -> DpcOptics:
        outer = self.illumination_na if self.illumination_na is not None else self.na
        if outer is not None and self.inner_na >= outer:
            raise ValueError(f"inner_na = {self.inner_na} must be below illumination_na = {outer}")
        if self.na is not None and self.inner_na >= self.na:
            raise ValueError(
                f"inner_na = {self.inner_na} must be below na = {self.na}: dark-field images are not linear"
            )
        return self


Led = Annotated[list[float], Field(min_length=3, max_length=3)]


class DpcIllumination(Section):
    """The light of each image: halves of a disc or ring, a measured map, or LEDs."""

    rotations_deg: Annotated[
        list[float],
        Field(
            min_length=1,
            max_length=64,
            description="rotation of the half disc (half ring) of each image, degree: 0 shines from y >= 0, 90 from "
            "x <= 0, 180 from y <= 0, 270 from x >= 0 (y down, x right)",
        ),
    ] = [0.0, 90.0, 180.0, 270.0]  # noqa: RUF012
    source_map: Annotated[
        str | None,
        Field(
            description="file with the measured sources (source, y, x) over the frequencies of the images, .npz, .npy "
            "or .tif; replaces rotations_deg"
        ),
    ] = None
    source_map_array: Annotated[str | None, Field(description="name of the array in an .npz file")] = None
    source_map_order: Annotated[
        Literal["fft", "centred"], Field(description="frequency 0 of the map at its first pixel, or in its middle")
    ] = "fft"
    source_map_px: Annotated[
        list[Annotated[int, Field(ge=1)]] | None,
        Field(
            min_length=2,
            max_length=2,
            description="height and width of the images that the map was made for; empty: those of the file, before "
            "any crop of the sheet",
        ),
    ] = None
    leds: Annotated[
        list[Annotated[list[Led], Field(min_length=1, max_length=4096)]] | None,
        Field(
            min_length=1,
            max_length=64,
            description="LEDs of each image as [y, x, brightness], y and x as numerical apertures; replaces "
            "rotations_deg",
        ),
    ] = None
    source_coordinates: Annotated[
        Literal["led", "wave"],
        Field(
            description="what the places of the sources are: led, where the light comes from (light at +x travels "
            "towards -x), or wave, where it travels to; the wrong one turns the sign of the phase"
        ),
    ] = "led"

    @model_validator(mode="after")
    def _one_description(self) -> DpcIllumination:
        if self.leds is not None and self.source_map is not None:
            raise ValueError("source_map and leds both describe the sources: give one of them")
        if self.leds is not None and any(led[2] < 0 for leds in self.leds for led in leds):
            raise ValueError("the brightness of an LED must not be negative")
        return self


class DpcBackground(Section):
    """What the images are divided by."""

    method: Annotated[
        Literal["lowpass", "given", "none"],
        Field(
            description="lowpass: each image's own mean within a box; given: counts or images of an empty field; none: "
            "the images already are intensity over background, minus 1"
        ),
    ] = "lowpass"
    lowpass_share: Annotated[
        float, Field(gt=0, le=1, description="side of the box of lowpass in units of the images' height")
    ] = 0.5
    counts: Annotated[
        list[Annotated[float, Field(gt=0)]] | None,
        Field(
            min_length=1, description="given: counts of the empty field above the camera offset, one for each source"
        ),
    ] = None
    images: Annotated[
        str | None,
        Field(
            description="given: file with images (source, y, x) of the empty field, counts with the camera offset, "
            ".npz, .npy or .tif"
        ),
    ] = None

    @model_validator(mode="after")
    def _given(self) -> DpcBackground:
        given = sum(v is not None for v in (self.counts, self.images))
        if self.method == "given" and given != 1:
            raise ValueError("method = given needs counts or images of the empty field, one of the two")
        if self.method != "given" and given:
            raise ValueError(f"counts and images are not used with method = {self.method}: set method: given")
        return self


class DpcTikhonov(Section):
    """Penalties of the conventional reconstruction, in units of the squared transfer."""

    absorption: Annotated[float, Field(gt=0, description="penalty on the squared absorption")] = 1e-4
    phase: Annotated[float, Field(gt=0, description="penalty on the squared phase (rad)")] = 1e-4


class DpcFrames(FrameSettings):
    """How DPC images follow each other."""

    illumination_delay_s: Annotated[float, Field(ge=0, description="wait before the next source, s")] = 0.0

    def delays_s(self) -> dict[str, float]:
        """Wait before a step of each axis, s."""
        return {**super().delays_s(), "illumination": self.illumination_delay_s}


class DpcSettings(SystemSettings):
    """A differential phase contrast microscope."""

    kind: Literal["dpc"] = "dpc"
    optics: DpcOptics
    illumination: DpcIllumination = DpcIllumination()
    model: Annotated[
        Literal["absorption_and_phase", "phase"],
        Field(description="what is reconstructed; phase: the sample does not absorb"),
    ] = "absorption_and_phase"
    background: DpcBackground = DpcBackground()
    tikhonov: DpcTikhonov = DpcTikhonov()
    frames: DpcFrames = DpcFrames()
