"""Structured illumination microscopy: two- or three-beam patterns, one plane."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int
from pydantic import Field, model_validator
from scipy.fft import next_fast_len

from nstm.acquisition import DataError
from nstm.conventional import sim as conventional_sim
from nstm.illumination import sim as illumination_sim
from nstm.optics.grids import frequencies
from nstm.optics.otf import incoherent_otf, pixel_transfer
from nstm.settings import Conventional, FrameSettings, Optics, Section, SystemSettings
from nstm.systems.base import Baseline, Calibration, ForwardModel, ImagingSystem, register


class SimOptics(Optics):
    """Objective, wavelengths and sampling of a SIM; lengths in um, in the sample."""

    excitation_wavelength_um: Annotated[
        float, Field(ge=0.2, le=2, description="wavelength of the pattern (vacuum), um; 0.488, not 488")
    ]
    upsampling: Annotated[
        float, Field(ge=1, le=4, description="pixels of the result per camera pixel along y and x")
    ] = 2.0
    pixel_integration: Annotated[
        bool, Field(description="the camera pixel's own blur is part of the transfer function")
    ] = True


class SimIllumination(Section):
    """What the microscope projects."""

    angles: Annotated[int, Field(ge=1, le=12, description="orientations of the pattern")] = 3
    phases: Annotated[int, Field(ge=3, le=25, description="phase steps of each orientation")] = 3
    beams: Annotated[Literal[2, 3], Field(description="interfering beams: 2 (one order) or 3 (two orders)")] = 2

    @model_validator(mode="after")
    def _enough_phases(self) -> SimIllumination:
        if self.phases < 2 * self.beams - 1:
            raise ValueError(
                f"phases = {self.phases} cannot separate {2 * self.beams - 1} bands: "
                f"{self.beams}-beam SIM needs at least {2 * self.beams - 1} phases"
            )
        return self


class SimFrames(FrameSettings):
    """How SIM frames follow each other."""

    phase_delay_s: Annotated[float, Field(ge=0, description="wait before the next phase, s")] = 0.0
    orientation_delay_s: Annotated[float, Field(ge=0, description="wait before the next orientation, s")] = 0.0
    orientation_from_acquisition: Annotated[
        list[Annotated[int, Field(ge=0)]] | None,
        Field(
            description="take orientation k of acquisition a from acquisition a + list[k]: exaggerates motion, "
            "for tests (Cao et al. 2024, Extended Data 6)"
        ),
    ] = None

    def delays_s(self) -> dict[str, float]:
        """Wait before a step of each axis, s."""
        return {**super().delays_s(), "phase": self.phase_delay_s, "angle": self.orientation_delay_s}


class SimSettings(SystemSettings):
    """A structured illumination microscope."""

    kind: Literal["sim"] = "sim"
    optics: SimOptics
    illumination: SimIllumination = SimIllumination()
    frames: SimFrames = SimFrames()

    @model_validator(mode="after")
    def _one_shift_per_orientation(self) -> SimSettings:
        shifts = self.frames.orientation_from_acquisition
        if shifts is not None and len(shifts) != self.illumination.angles:
            raise ValueError(
                f"frames.orientation_from_acquisition has {len(shifts)} entries, "
                f"one per orientation is needed ({self.illumination.angles})"
            )
        return self


def padded_side(side: int, padding: int, ratio: float) -> tuple[int, int]:
    """Camera and result samples of a padded side: both whole, the result a fast FFT length.

    Args:
        side: camera pixels of the field.
        padding: camera pixels wanted on each side; as many or more are taken, none stays none.
        ratio: result pixels per camera pixel.

    Raises:
        DataError: ``side * ratio`` is not whole and there is no padding to make it so.
    """
    candidates = [side] if padding == 0 else range(side + 2 * padding, 2 * side + 4 * padding + 64)
    for camera in candidates:
        fine = round(camera * ratio)
        whole = math.isclose(fine, camera * ratio, abs_tol=1e-6) and fine % 2 == 0
        fast = next_fast_len(fine) == fine and next_fast_len(camera) == camera and camera % 2 == 0
        if whole and (fast or padding == 0):
            return camera, fine
    raise DataError(
        f"optics.upsampling = {ratio} does not give an even whole number of pixels for a side of {side}: "
        "choose another upsampling (2 always fits even sides) or allow padding"
    )


class SimForward(ForwardModel):
    """``frame = crop F^-1{ OTF F{ scene x pattern } }`` at camera sampling (Gustafsson 2008).

    The pattern is built on the fly from its few numbers, as products of rows and columns, so that they can be
    refined together with the scene. Its vectors turn about the centre of the field: there they do not change phases.
    """

    nonnegative: ClassVar[bool] = True

    vectors: Float[Array, "angle 2"]
    phases: Float[Array, "m"]
    modulation: Float[Array, "angle order"]
    intensity: Float[Array, "m"]
    y: Float[Array, "y"]
    x: Float[Array, "x"]
    transfer: Float[Array, "v h"]
    support: Float[Array, "y g"]
    times: Float[Array, "m 1"]
    scene_shape: tuple[int, int, int, int] = eqx.field(static=True)
    camera_shape: tuple[int, int] = eqx.field(static=True)
    offset: tuple[int, int] = eqx.field(static=True)
    field: tuple[int, int] = eqx.field(static=True)
    output_field: tuple[int, int, int, int] = eqx.field(static=True)

    def pattern(self, which: Int[Array, "n"]) -> Float[Array, "n y x"]:
        """Illumination of the frames ``which``: ``1 + sum_o m_o cos(o (2 pi k.r + phase))``, r from the centre."""
        angle = which // (len(self.phases) // len(self.vectors))
        k = 2 * jnp.pi * self.vectors[angle]
        along_y = k[:, :1] * self.y + self.phases[which, None]
        along_x = k[:, 1:] * self.x
        first = jnp.cos(along_y)[:, :, None] * jnp.cos(along_x)[:, None, :]
        first -= jnp.sin(along_y)[:, :, None] * jnp.sin(along_x)[:, None, :]
        m = self.modulation[angle][:, :, None, None]
        total = 1 + m[:, 0] * first
        if self.modulation.shape[1] > 1:
            total += m[:, 1] * (2 * first * first - 1)
        return self.intensity[which, None, None] * total

    def render(self, scenes: Float[Array, "n 1 1 1 y x"], which: Int[Array, "n"]) -> Float[Array, "n 1 v u"]:
        """Frames of the camera from the scene at the time of each."""
        lit = scenes[:, 0, 0, 0] * self.pattern(which)
        spectrum = _crop_spectrum(lit, self.camera_shape) * self.transfer
        frames = jnp.fft.irfft2(spectrum, s=self.camera_shape)
        (y, x), (h, w) = self.offset, self.field
        return frames[:, None, y : y + h, x : x + w]

    def offsets(self) -> dict[str, Array]:
        """Corrections to phases (rad), vectors (rad at the edge of the field), modulation and intensity; all zero."""
        names = ("vectors", "phases", "modulation", "intensity")
        return {name: jnp.zeros_like(getattr(self, name)) for name in names}

    def corrected(self, offsets: dict[str, Array]) -> SimForward:
        """The model with ``offsets`` added; the mean intensity stays."""
        edge = jnp.pi * jnp.array([self.y[-1] - self.y[0], self.x[-1] - self.x[0]])
        intensity = self.intensity + offsets["intensity"]
        changed = (
            self.vectors + offsets["vectors"] / edge,
            self.phases + offsets["phases"],
            self.modulation + offsets["modulation"],
            intensity / jnp.mean(intensity),
        )
        return eqx.tree_at(lambda m: (m.vectors, m.phases, m.modulation, m.intensity), self, changed)

    def output(self, scene: Float[Array, "1 1 y x"]) -> Float[Array, "1 1 y x"]:
        """The field of the camera, limited to the support of the shifted transfer functions."""
        limited = jnp.fft.irfft2(jnp.fft.rfft2(scene) * self.support, s=self.scene_shape[-2:])
        y, x, h, w = self.output_field
        return limited[..., y : y + h, x : x + w]


def _crop_spectrum(images: Float[Array, "m y x"], shape: tuple[int, int]) -> Complex[Array, "m v h"]:
    """Half spectrum of ``images`` on a coarser grid of ``shape``, scaled to keep intensities."""
    fine, (rows, columns) = images.shape[-2:], shape
    half = jnp.fft.rfft(images, axis=-1)[..., : columns // 2 + 1]  # columns beyond the camera are never transformed
    full = jnp.fft.fft(half, axis=-2)
    cut = jnp.concatenate([full[..., : rows // 2, :], full[..., full.shape[-2] - rows + rows // 2 :, :]], axis=-2)
    return cut * (rows * columns / (fine[0] * fine[1]))


@register
class Sim(ImagingSystem):
    """SIM with ``angles`` x ``phases`` frames of one plane."""

    kind = "sim"
    Settings = SimSettings
    block_axis = "angle"
    settings: SimSettings

    @property
    def frame_axes(self) -> dict[str, int]:
        """Orientation, then phase."""
        return {"angle": self.settings.illumination.angles, "phase": self.settings.illumination.phases}

    @property
    def grid_ratio(self) -> float:
        """``optics.upsampling``."""
        return self.settings.optics.upsampling

    def calibrate(self, frames: np.ndarray, pixel_um: float) -> Calibration:
        """Pattern vectors, phases and modulation; see :func:`nstm.illumination.sim.estimate`."""
        optics = self.settings.optics
        return illumination_sim.estimate(
            _single_plane(frames),
            pixel_um=pixel_um,
            na=optics.na,
            emission_wavelength_um=optics.emission_wavelength_um,
            beams=self.settings.illumination.beams,
            pixel_integration=optics.pixel_integration,
        )

    def consensus(self, calibrations: list[Calibration]) -> Calibration:
        """Vectors and modulation from all good acquisitions."""
        return illumination_sim.consensus(list(calibrations))

    def with_consensus(self, calibration: Calibration, consensus: Calibration) -> Calibration:
        """Vectors and modulation of the consensus, phases of the acquisition."""
        return illumination_sim.with_consensus(calibration, consensus)

    def forward(
        self,
        frame_shape: tuple[int, int, int],
        times: np.ndarray,
        calibration: Calibration,
        pixel_um: float,
        padding_px: int,
    ) -> SimForward:
        """The forward model on a grid with ``padding_px`` camera pixels around the field."""
        if frame_shape[0] != 1:
            raise DataError(
                f"the frames have {frame_shape[0]} planes, SIM reconstructs single planes: set frames.planes: 1"
            )
        optics, ratio = self.settings.optics, self.grid_ratio
        field = frame_shape[1:]
        camera, fine = zip(*(padded_side(n, padding_px, ratio) for n in field), strict=True)
        offset = tuple((c - n) // 2 for c, n in zip(camera, field, strict=True))
        fine_pixel = pixel_um / ratio
        # the field must begin on a sample of both grids
        offset = tuple(_aligned(o, ratio) for o in offset)
        start = tuple(round(o * ratio) for o in offset)
        y = (np.arange(fine[0]) - start[0]) * fine_pixel
        x = (np.arange(fine[1]) - start[1]) * fine_pixel
        fy, fx = frequencies(camera, pixel_um)
        transfer = incoherent_otf(np.hypot(fy, fx), optics.na, optics.emission_wavelength_um)
        if optics.pixel_integration:
            transfer = transfer * pixel_transfer(fy, fx, pixel_um)
        transfer[camera[0] // 2] = 0  # the Nyquist row has no sign
        size = (round(field[0] * ratio), round(field[1] * ratio))
        k = np.asarray(calibration["pattern_vectors"])
        phases = np.asarray(calibration["phases"])
        middle = np.array([y.mean(), x.mean()])
        centred = np.angle(np.exp(1j * (phases + 2 * np.pi * (k @ middle)[:, None])))
        return SimForward(
            vectors=jnp.asarray(k, jnp.float32),
            phases=jnp.asarray(centred.ravel(), jnp.float32),
            modulation=jnp.asarray(calibration["modulation"], jnp.float32),
            intensity=jnp.asarray(calibration.get("intensity", np.ones_like(phases)), jnp.float32).ravel(),
            y=jnp.asarray(y - middle[0], jnp.float32),
            x=jnp.asarray(x - middle[1], jnp.float32),
            transfer=jnp.asarray(transfer[:, : camera[1] // 2 + 1], jnp.float32),
            support=jnp.asarray(self._support(calibration, fine, fine_pixel)),
            scene_shape=(1, 1, *fine),
            times=jnp.asarray(times.reshape(-1, 1), jnp.float32),
            camera_shape=camera,
            offset=offset,
            field=field,
            output_field=(*start, *size),
        )

    def _support(self, calibration: Calibration, shape: tuple[int, int], pitch_um: float) -> np.ndarray:
        """1 where a shifted band of any orientation and order reaches, on the half spectrum."""
        fy, fx = frequencies(shape, pitch_um)
        fx = np.abs(fx[:, : shape[1] // 2 + 1])
        orders = self.settings.illumination.beams - 1
        inside = np.hypot(fy, fx) < self.passband()
        for ky, kx in calibration["pattern_vectors"]:
            for m in range(1, orders + 1):
                for sign in (-m, m):
                    inside |= np.hypot(fy - sign * ky, fx - sign * kx) < self.passband()
        return inside.astype(np.float32)

    @property
    def baselines(self) -> dict[str, Baseline]:
        """Moving-window generalised Wiener and widefield."""
        return {
            "conventional": Baseline(
                label="conventional (moving window)",
                window=self.settings.illumination.angles,
                reconstruct=self._wiener,
                effective_transfer="generalised Wiener, not apodised",
            ),
            "widefield": Baseline(
                label="widefield",
                window=1,
                reconstruct=self._widefield,
                effective_transfer="widefield transfer function, mean over the phases of one orientation",
            ),
        }

    def _wiener(
        self, frames: np.ndarray, calibrations: list[Calibration], pixel_um: float, settings: Conventional
    ) -> np.ndarray:
        optics = self.settings.optics
        image = conventional_sim.reconstruct(
            _single_plane(frames),
            calibrations,
            pixel_um=pixel_um,
            na=optics.na,
            emission_wavelength_um=optics.emission_wavelength_um,
            ratio=self.grid_ratio,
            wiener=settings.wiener,
            pixel_integration=optics.pixel_integration,
        )
        return image[None, None]

    def _widefield(
        self, frames: np.ndarray, calibrations: list[Calibration], pixel_um: float, settings: Conventional
    ) -> np.ndarray:
        return conventional_sim.widefield(_single_plane(frames), self.grid_ratio)[0][None, None]

    def cutoff(self, calibration: Calibration) -> float:
        """``2 NA / emission wavelength + |k|`` of the finest pattern, cycles/um."""
        finest = (self.settings.illumination.beams - 1) * max(math.hypot(*k) for k in calibration["pattern_vectors"])
        return self.passband() + finest

    def passband(self) -> float:
        """``2 NA / emission wavelength``, cycles/um."""
        return 2 * self.settings.optics.na / self.settings.optics.emission_wavelength_um


def _aligned(offset: int, ratio: float) -> int:
    """The largest offset up to the given one that is a whole number of samples on both grids."""
    for candidate in range(offset, -1, -1):
        if math.isclose(candidate * ratio, round(candidate * ratio), abs_tol=1e-6):
            return candidate
    return 0


def _single_plane(frames: np.ndarray) -> np.ndarray:
    if frames.shape[-3] != 1:
        raise DataError(f"the frames have {frames.shape[-3]} planes; SIM handles single planes: set frames.planes: 1")
    return np.ascontiguousarray(frames[..., 0, :, :], dtype=np.float32)
