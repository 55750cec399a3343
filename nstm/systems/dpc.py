"""Differential phase contrast: a weak sample under a few light sources, one image for each."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from scipy.fft import fftshift, ifftshift

from nstm.acquisition import Channel, DataError
from nstm.conventional import dpc as conventional_dpc
from nstm.illumination import dpc as illumination_dpc
from nstm.io.arrays import array_shape, read_array
from nstm.optics.dpc import HalfDiscs, Leds, Lens, SourceMap, Sources, Transfer, transfer_functions
from nstm.optics.noise import noise_variance
from nstm.settings import Conventional, override
from nstm.systems.base import Baseline, Calibration, ImagingSystem, padded, register
from nstm.systems.dpc_settings import DpcSettings

if TYPE_CHECKING:
    import xarray as xr

    from nstm.systems.dpc_forward import DpcForward

#: Unit of the absorption in the scene that is fitted. An optimiser that gives every coefficient the same pace then
#: finds the phase and its motion first; in units of 1 the absorption takes up what the motion leaves.
ABSORPTION_UNIT = 0.1
#: Squared transfer, relative to its largest value, from which on something counts as transferred.
_TRANSFERRED = 1e-9
#: Share of the light of a source map that must lie within the illumination's aperture.
_INSIDE = 0.5


@register
class Dpc(ImagingSystem):
    """DPC with one image per light source."""

    kind = "dpc"
    Settings = DpcSettings
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "padding_px": 16,  # the light of half a disc reaches far
        "sliding": False,  # four frames do not tell finer motion from noise
        "multigrid": {
            **{"scene_rate": 3e-2, "motion_rate": 4e-3, "motion_smoothness": 0.25, "motion_steadiness": 0.25},
        },
        "networks": {
            **{"scene_finest": 0.4, "motion_coarsest": 1e-3, "motion_finest": 0.012, "motion_finest_times": 2},
            "scene_tikhonov": 1e-4,
        },
    }
    block_axis = "illumination"
    file_keys = ("illumination.source_map", "background.images")
    settings: DpcSettings

    def __init__(self, settings: DpcSettings) -> None:
        super().__init__(settings)
        absorption, phase = Channel("absorption"), Channel("phase", "rad", "signed", main=True)
        self.channels = (phase,) if settings.model == "phase" else (absorption, phase)
        self.counts = settings.background.method != "none"
        #: Height and width of the frames in their file, and the part of them that is used; ``None``: not known, all.
        self.recorded_px: tuple[int, int] | None = None
        self.window = (slice(None), slice(None))

    def alike(self, frames: np.ndarray) -> np.ndarray:
        """None: a source makes another image than the next."""
        return frames.reshape(-1, *frames.shape[-2:])[:0]

    def cropped(self, calibration: Calibration, corner: tuple[int, int], pixel_um: float) -> Calibration:
        """Refused: a part does not know the mean of its phase, so parts would not fit together."""
        raise DataError(
            "phase is known up to a constant only, so a field of DPC cannot be fitted in tiles: leave "
            "reconstruction.tile_px empty, and where memory is short, give it more (reconstruction.memory_gb) or a "
            "smaller crop"
        )

    def of(self, acquisitions: xr.Dataset) -> Self:
        """See :meth:`ImagingSystem.of`; maps and backgrounds hold for the frames as recorded, before any crop."""
        found, source = super().of(acquisitions), acquisitions.attrs["source"]
        if "plane_shape" not in source:
            return found
        from nstm.io.open import parse_crop  # not earlier: it loads the readers

        (height, width), light = source["plane_shape"], found.settings.illumination
        if light.source_map is not None and light.source_map_px is None:
            found = type(self)(override(found.settings, {"illumination": {"source_map_px": [height, width]}}))
        found.recorded_px = (height, width)
        found.window = parse_crop(source["crop"], found.recorded_px)
        return found

    @functools.cached_property
    def frame_axes(self) -> dict[str, int]:  # type: ignore[override]  # known with the settings
        """The sources; a measured map says how many there are."""
        light = self.settings.illumination
        if light.leds is not None:
            return {"illumination": len(light.leds)}
        if light.source_map is not None:
            return {"illumination": self._map_shape()[0]}
        return {"illumination": len(light.rotations_deg)}

    def calibrate(self, frames: np.ndarray, pixel_um: float) -> Calibration:
        """Whether the frames fit their background and sources; see :func:`nstm.illumination.dpc.check`."""
        planes = _single_plane(frames)
        if not np.all(np.isfinite(planes)):
            return illumination_dpc.dark(np.zeros_like(planes), "the frames hold NaN or infinity: mend or drop them")
        try:
            images = self.measurements(frames)[:, 0]
        except DataError as error:
            return illumination_dpc.dark(planes, str(error))
        shape = illumination_dpc.middle(images).shape[-2:]
        transfer = self._transfer((shape[0], shape[1]), planes.shape[-2:], pixel_um)
        noise = noise_variance(images, pixel_um, self.passband())
        return illumination_dpc.check(planes, images, transfer, noise)

    def forward(
        self,
        frame_shape: tuple[int, int, int],
        times: np.ndarray,
        calibration: Calibration,
        pixel_um: float,
        padding_px: int,
    ) -> DpcForward:
        """The forward model on a grid with at least ``padding_px`` camera pixels around the field."""
        import jax.numpy as jnp

        from nstm.systems.dpc_forward import DpcForward

        if frame_shape[0] != 1:
            raise DataError(_PLANES.format(frame_shape[0]))
        shape, field = padded(frame_shape, padding_px)
        found = self._transfer(shape[1:], frame_shape[1:], pixel_um)
        transfer = np.stack([getattr(found, channel.name) for channel in self.channels], axis=1)
        power = np.sum(transfer**2, axis=0)
        support = power > _TRANSFERRED * power.max(axis=(-2, -1), keepdims=True)
        units = np.array([ABSORPTION_UNIT if channel.name == "absorption" else 1.0 for channel in self.channels])
        return DpcForward(
            transfer=jnp.asarray(transfer * units[:, None, None], float),
            units=jnp.asarray(units, float),
            support=jnp.asarray(support, float),
            times=jnp.asarray(times.reshape(-1, 1), float),
            scene_shape=(len(self.channels), *shape),
            output_field=field,
        )

    def measurements(self, frames: np.ndarray, calibration: Calibration | None = None) -> np.ndarray:
        """Intensity over background minus 1, ``(source, 1, y, x)``, from counts ``(source, 1, y, x)``.

        The background is dimmed by the ``intensity`` of the calibration.
        """
        planes, background = _single_plane(frames), self.settings.background
        if background.method == "none":
            images = planes
        elif background.method == "lowpass":
            images = illumination_dpc.over_lowpass(planes, background.lowpass_share)
        else:
            images = illumination_dpc.over_background(planes, self._given_background(planes.shape))
        light = np.asarray((calibration or {}).get("intensity", 1.0), np.float32).reshape(-1, 1, 1)
        return ((images + 1) / light - 1 if np.any(light != 1) else images)[:, None]

    def noise_of_frames(self, frames: np.ndarray, noise_variance: np.ndarray) -> np.ndarray:
        """In counts where the images are divided by a background: there a measurement is counts over those minus 1."""
        deviation = super().noise_of_frames(frames, noise_variance)
        if not self.counts:
            return deviation
        relative = self.measurements(frames) + 1
        with np.errstate(divide="ignore", invalid="ignore"):
            background = frames / relative
        return deviation * np.where(relative > 0, background, np.nanmedian(background))

    def _given_background(self, shape: tuple[int, ...]) -> np.ndarray:
        background = self.settings.background
        if background.images is not None:
            whole = (shape[0], *self.recorded_px) if self.recorded_px else shape
            return read_array(background.images, whole)[:, *self.window] - self.settings.camera.offset
        counts = np.asarray(background.counts, np.float64)
        if len(counts) not in (1, shape[0]):
            raise DataError(
                f"background.counts has {len(counts)} entries, one for all or one per source is needed ({shape[0]})"
            )
        return counts[:, None, None]

    def _lens(self) -> Lens:
        optics = self.settings.optics
        return Lens(optics.known("na"), optics.known("emission_wavelength_um"))

    def _outer_na(self) -> float:
        """Outer aperture of the light."""
        light, optics = self.settings.illumination, self.settings.optics
        if light.leds is not None:
            return max(math.hypot(y, x) for leds in light.leds for y, x, _ in leds)
        return optics.known("na") if optics.illumination_na is None else optics.illumination_na

    def _transfer(self, shape: tuple[int, int], frame_shape: tuple[int, ...], pixel_um: float) -> Transfer:
        """Transfer to periodic images of ``shape``, cut from or padded around frames of ``frame_shape``."""
        coordinates = self.settings.illumination.source_coordinates
        sources = self._sources((frame_shape[0], frame_shape[1]), pixel_um)
        return transfer_functions(sources, shape, pixel_um, self._lens(), coordinates)

    def _sources(self, frame_shape: tuple[int, int], pixel_um: float) -> Sources:
        light = self.settings.illumination
        if light.leds is not None:
            return Leds([[(y, x, brightness) for y, x, brightness in leds] for leds in light.leds])
        if light.source_map is not None:
            return self._map(frame_shape, pixel_um)
        return HalfDiscs(light.rotations_deg, self._outer_na(), self.settings.optics.inner_na)

    def _map_shape(self) -> tuple[int, int, int]:
        light = self.settings.illumination
        shape = array_shape(str(light.source_map), light.source_map_array)
        if len(shape) != 3 or not 1 <= shape[0] <= 64:
            raise DataError(f"{light.source_map}: the source map has shape {shape}, needed is (source, y, x)")
        return shape[0], shape[1], shape[2]

    def _map(self, frame_shape: tuple[int, int], pixel_um: float) -> SourceMap:
        """The measured sources in FFT order.

        Raises:
            DataError: made for images of another size, in another order of frequencies, or negative.
        """
        light, shape = self.settings.illumination, self._map_shape()
        wanted = tuple(light.source_map_px or frame_shape)
        if shape[1:] != wanted:
            raise DataError(
                f"{light.source_map}: the source map is made for images of {shape[1:]} pixels, these have {wanted}; "
                "give the map of these images, or where they were cropped, illumination.source_map_px (their size "
                "before)"
            )
        values = read_array(str(light.source_map), shape, light.source_map_array)
        if values.min() < 0 or not np.all(values.sum(axis=(-2, -1)) > 0):
            raise DataError(f"{light.source_map}: a source must shine somewhere and nowhere less than 0")
        if light.source_map_order == "centred":
            values = ifftshift(values, axes=(-2, -1))
        source = SourceMap(values, (1 / (shape[1] * pixel_um), 1 / (shape[2] * pixel_um)))
        self._check_map(source)
        return source

    def _check_map(self, source: SourceMap) -> None:
        light = self.settings.illumination
        limit = self._outer_na() / self._lens().wavelength_um + max(source.step)
        fy, fx = (np.fft.fftfreq(n, 1 / (n * s)) for n, s in zip(source.brightness.shape[1:], source.step, strict=True))
        inside = np.hypot(fy[:, None], fx) <= limit
        whole = source.brightness.sum(axis=(-2, -1))
        share = (source.brightness * inside).sum(axis=(-2, -1)) / whole
        turned = (fftshift(source.brightness, axes=(-2, -1)) * inside).sum(axis=(-2, -1)) / whole
        worst = int(np.argmin(share))
        if share[worst] >= _INSIDE:
            return
        other = "fft" if light.source_map_order == "centred" else "centred"
        remedy = (
            f"set illumination.source_map_order: {other}"
            if turned[worst] > share[worst]
            else "check illumination_na, emission_wavelength_um and pixel_um"
        )
        raise DataError(
            f"{light.source_map}: {1 - share[worst]:.0%} of the light of source {worst} lies outside of the "
            f"illumination's aperture in the order {light.source_map_order!r}: {remedy}"
        )

    @property
    def baselines(self) -> dict[str, Baseline]:
        """Tikhonov inversion and bright field, both of a moving window over all sources."""
        return {
            "conventional": Baseline(
                label="DPC (Tikhonov, moving window)",
                window=None,
                reconstruct=self._tikhonov,
                effective_transfer="transfer of the sources, inverted with a penalty (Tikhonov)",
            ),
            "widefield": Baseline(
                label="bright field (sum over the sources)",
                window=None,
                reconstruct=self._brightfield,
                effective_transfer="bright field under all sources together",
                channels=(Channel("brightness"),),
            ),
        }

    def _tikhonov(
        self, frames: np.ndarray, calibrations: list[Calibration], pixel_um: float, settings: Conventional
    ) -> np.ndarray:
        images = self._images(frames, calibrations)
        shape = (images.shape[-2], images.shape[-1])
        weights = self.settings.tikhonov
        found = conventional_dpc.tikhonov(
            images,
            self._transfer(shape, shape, pixel_um),
            absorption_weight=weights.absorption if len(self.channels) > 1 else None,
            phase_weight=weights.phase,
        )
        return found[:, None]

    def _brightfield(
        self, frames: np.ndarray, calibrations: list[Calibration], pixel_um: float, settings: Conventional
    ) -> np.ndarray:
        return conventional_dpc.brightfield(self._images(frames, calibrations))[None, None]

    def _images(self, frames: np.ndarray, calibrations: list[Calibration]) -> np.ndarray:
        """Measurements of a window, whose frames may come from two acquisitions."""
        light = [c["intensity"][i] for i, c in enumerate(calibrations) if "intensity" in c]
        return self.measurements(frames, {"intensity": light} if len(light) == len(frames) else None)[:, 0]

    def passband(self) -> float:
        """``(NA + illumination NA) / wavelength``, cycles/um; light outside of the objective's NA does not count."""
        lens = self._lens()
        return (lens.na + min(self._outer_na(), lens.na)) / lens.wavelength_um


_PLANES = "the frames have {} planes; DPC handles single planes: set frames.planes: 1"


def _single_plane(frames: np.ndarray) -> np.ndarray:
    if frames.shape[-3] != 1:
        raise DataError(_PLANES.format(frames.shape[-3]))
    return np.ascontiguousarray(frames[..., 0, :, :], dtype=np.float32)
