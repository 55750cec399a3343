"""Blind SIM: frames under random, unknown light, one pattern for each."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from nstm.acquisition import DataError
from nstm.conventional.padding import continued, padded_axis
from nstm.illumination import speckle as illumination_speckle
from nstm.io.network import read_network
from nstm.optics.grids import fourier_resample, rfrequencies, samples
from nstm.optics.noise import noise_variance
from nstm.optics.otf import cutoff, incoherent_otf, pixel_transfer
from nstm.settings import Conventional, override
from nstm.systems.base import Baseline, Calibration, FrameFigure, ImagingSystem, register
from nstm.systems.speckle_settings import SpeckleSettings

if TYPE_CHECKING:
    import xarray as xr

    from nstm.blindsim.reconstruct import BlindResult
    from nstm.blindsim.unrolled import Unrolled
    from nstm.systems.speckle_forward import SpeckleForward

_LABELS = {
    "per_frame": "blind SIM (convex, frame by frame)",
    "conjugate_gradient": "blind SIM (conjugate gradients)",
    "nesterov": "blind SIM (Nesterov)",
    "gradient_descent": "blind SIM (gradient descent)",
    "ubsim": "blind SIM (UBSIM, learned iterations)",
}


@register
class Speckle(ImagingSystem):
    """Fluorescence under random light that nobody measured."""

    kind = "speckle"
    Settings = SpeckleSettings
    fit_defaults: ClassVar[Mapping[str, Any]] = {"output_times": "windows", "illumination_rate": 0.1}
    block_axis = "pattern"
    file_keys = ("solver.weights",)
    settings: SpeckleSettings

    @functools.cached_property
    def frame_axes(self) -> dict[str, int]:  # type: ignore[override]  # known with the settings
        """The patterns of an acquisition."""
        return {"pattern": self.settings.illumination.patterns}

    def file_problems(self) -> dict[str, str]:
        """Weights of `ubsim` that are not there, are no network, or are for another number of frames."""
        path = self.settings.solver.weights
        if path is None or "ubsim" not in self.settings.solver.methods:
            return {}
        try:
            takes = read_network(path)[0].frames
        except DataError as error:
            return {"solver.weights": str(error)}
        frames = self._window_frames
        if takes in (None, frames):
            return {}
        text = (
            f"{path}: a network for {takes} stacked frames, but windows have {frames} (window.frames, or "
            "illumination.patterns): change these, or use a network of the mode per_frame, which takes any number"
        )
        return {"solver.weights": text}

    def of(self, acquisitions: xr.Dataset) -> Self:
        """See :meth:`ImagingSystem.of`; where the config says nothing a pixel is full at the largest value."""
        found, kept_as = super().of(acquisitions), acquisitions["frames"].dtype
        if found.settings.camera.saturation is not None or kept_as.kind not in "iu":
            return found
        full = float(np.iinfo(kept_as).max)
        return type(self)(override(found.settings, {"camera": {"saturation": full}}))

    @property
    def _window_frames(self) -> int:
        return self.settings.window.frames or self.settings.illumination.patterns

    @property
    def grid_ratio(self) -> float:
        """``optics.upsampling``."""
        return float(self.settings.optics.upsampling)

    def alike(self, frames: np.ndarray) -> np.ndarray:
        """None: every frame has other light."""
        return frames.reshape(-1, *frames.shape[-2:])[:0]

    def frame_figures(self, frames: np.ndarray, pixel_um: float) -> list[FrameFigure]:
        """Contrast of the light from frame to frame, the same for all frames."""
        planes = _planes(frames)[self.usable(frames).used]
        found = illumination_speckle.light_contrast(planes, self._noise(planes, pixel_um))
        advice = "the frames hardly differ: check that the patterns change and reach the sample"
        least = illumination_speckle.NO_CONTRAST
        return [FrameFigure("contrast of the light", [found] * len(frames), least, advice)]

    def usable(self, frames: np.ndarray) -> illumination_speckle.Usable:
        """All but dead, damaged and full ones: every frame tells something by itself."""
        found = illumination_speckle.usable(_planes(frames), self._full())
        left, needed = int(found.used.sum()), illumination_speckle.FEWEST
        if left >= needed:
            return found
        text = f"{left} of {len(frames)} frames can be used, {needed} are needed"
        fault = {"severity": "fail", "code": "too_few_frames", "message": text}
        return illumination_speckle.Usable(found.used, [*found.reasons, fault])

    def calibrate(self, frames: np.ndarray, pixel_um: float) -> Calibration:
        """Whether there is light that changes; see :func:`nstm.illumination.speckle.check`. What it is, is unknown."""
        found = self.usable(frames)
        if found.used.sum() < illumination_speckle.FEWEST:
            return {"status": "fail", "reasons": found.reasons, "light_contrast": None}
        used = _planes(frames)[found.used]
        pitch = pixel_um / self.grid_ratio
        noise = self._noise(used, pixel_um)
        calibration = illumination_speckle.check(used, noise, pitch, self.cutoff({}), found.reasons)
        return {**calibration, "left_out": np.flatnonzero(~found.used).tolist()}

    def forward(
        self,
        frame_shape: tuple[int, int, int],
        times: np.ndarray,
        calibration: Calibration,
        pixel_um: float,
        padding_px: int,
    ) -> SpeckleForward:
        """The forward model on a grid with ``padding_px`` camera pixels around the field, under uniform light."""
        import jax.numpy as jnp

        from nstm.systems.sim_forward import aligned, padded_side
        from nstm.systems.speckle_forward import SpeckleForward

        if frame_shape[0] != 1:
            raise DataError(_ONE_PLANE.format(frame_shape[0]))
        ratio, field = self.grid_ratio, frame_shape[1:]
        camera, fine = zip(*(padded_side(n, padding_px, ratio) for n in field), strict=True)
        offset = [aligned((c - n) // 2, ratio) for c, n in zip(camera, field, strict=True)]
        (y, x), (h, w) = offset, field
        pitch = pixel_um / ratio
        radius = np.hypot(*rfrequencies(fine, pitch))
        transfer = self.transfer(camera, pixel_um, pixel_um)
        transfer[camera[0] // 2] = 0  # the Nyquist row has no sign
        count = self.settings.illumination.patterns
        return SpeckleForward(
            used=jnp.asarray(~np.isin(np.arange(count), calibration.get("left_out", ()))),
            patterns=jnp.ones((count, *fine), jnp.float32),
            band=jnp.asarray(radius <= self._light_band(), jnp.float32),
            transfer=jnp.asarray(transfer, jnp.float32),
            support=jnp.asarray(radius < self.cutoff(calibration), jnp.float32),
            times=jnp.asarray(times.reshape(-1, 1), jnp.float32),
            scene_shape=(1, 1, *fine),
            camera_shape=camera,
            camera_field=(y, x, h, w),
            output_field=(
                (0, 1),
                (round(y * ratio), samples(h, ratio)),
                (round(x * ratio), samples(w, ratio)),
            ),
        )

    def transfer(self, shape: tuple[int, int], pitch_um: float, pixel_um: float) -> np.ndarray:
        """Transfer ``(y, x // 2 + 1)`` of objective and camera pixel on the half spectrum of a grid."""
        optics, (fy, fx) = self.settings.optics, rfrequencies(shape, pitch_um)
        found = incoherent_otf(np.hypot(fy, fx), optics.known("na"), optics.known("emission_wavelength_um"))
        return np.asarray(found * pixel_transfer(fy, fx, pixel_um) if optics.pixel_integration else found)

    @property
    def baselines(self) -> dict[str, Baseline]:
        """Widefield, and blind SIM by every solver of the settings; the first is ``conventional``."""
        solver, rolling = self.settings.solver, self.settings.window
        frames = self._window_frames
        names = ["conventional", *solver.methods[1:]]
        blind = {
            name: Baseline(
                label=_LABELS[method],
                window=frames,
                step=rolling.step,
                reconstruct=functools.partial(self._blind, method),
                effective_transfer="not linear: up to the sum of the bands of objective and light",
                check=self._disagreement if method == "ubsim" else None,
                check_every=solver.check_every,
                at_rest=True,
                why_none=functools.partial(self._why_none, method),
            )
            for name, method in zip(names, solver.methods, strict=True)
        }
        widefield = Baseline(
            label="widefield (mean of the frames)",
            window=frames,
            step=rolling.step,
            reconstruct=self._widefield,
            effective_transfer="widefield",
            why_none=functools.partial(self._why_none, "widefield"),
        )
        return {**blind, "widefield": widefield}

    def _widefield(
        self, frames: np.ndarray, calibrations: list[Calibration], pixel_um: float, settings: Conventional
    ) -> np.ndarray:
        planes = _planes(frames)
        used = illumination_speckle.usable(planes, self._full()).used
        mean = planes[used].mean(axis=0)
        shape = (samples(mean.shape[0], self.grid_ratio), samples(mean.shape[1], self.grid_ratio))
        return fourier_resample(mean, shape)[None, None]

    def _blind(
        self,
        method: str,
        frames: np.ndarray,
        calibrations: list[Calibration],
        pixel_um: float,
        settings: Conventional,
    ) -> np.ndarray:
        return self.blind(method, frames, pixel_um).density[None, None]

    def _why_none(self, method: str, frames: np.ndarray) -> str:
        """Why a window has no result: too many of its frames are dead, damaged or full."""
        used = illumination_speckle.usable(_planes(frames), self._full()).used
        lost, least = int(np.sum(~used)), 1 if method == "widefield" else illumination_speckle.FEWEST
        together = self._network.frames if method == "ubsim" else None
        if lost and len(used) - lost < (least if together is None else together):
            needs = f"at least {least} must be left" if together is None else f"the network takes {together} together"
            return f"{lost} of the {len(used)} frames of this window are dead, damaged or full: {needs}"
        return ""

    def _disagreement(self, image: np.ndarray, frames: np.ndarray, pixel_um: float) -> float:
        """Difference from conjugate gradients as the objective would see it, root mean square, a share of theirs."""
        other = self.blind("conjugate_gradient", frames, pixel_um).density
        transfer = self.transfer(other.shape, pixel_um / self.grid_ratio, pixel_um)
        seen, expected = (np.fft.rfft2(i) * transfer for i in (image[0, 0], other))
        return float(np.linalg.norm(seen - expected) / np.linalg.norm(expected))

    @functools.cached_property
    def _network(self) -> Unrolled:
        from nstm.blindsim.weights import SHIPPED, load_weights

        return load_weights(self.settings.solver.weights or SHIPPED[self.settings.solver.network])[0]

    def blind(self, method: str, frames: np.ndarray, pixel_um: float) -> BlindResult:
        """Blind SIM of the frames ``(L, 1, y, x)`` of one window, counts with the offset removed.

        The field is continued by its mirror image on a periodic grid; what was found there is cut off.
        """
        from nstm.blindsim.reconstruct import reconstruct
        from nstm.blindsim.unet import MULTIPLE

        planes, solver, ratio = _planes(frames), self.settings.solver, self.grid_ratio
        rows, columns = (padded_axis(n, ratio, solver.padding_px, MULTIPLE) for n in planes.shape[-2:])
        periodic = continued(continued(planes, rows, -2), columns, -1)
        fine = (rows.fine, columns.fine)
        stops = solver.stop_at_noise and method != "per_frame"
        noise = self._noise(planes, pixel_um) if stops else None
        found = reconstruct(
            fourier_resample(periodic, fine),
            self.transfer(fine, pixel_um / ratio, pixel_um),
            self._network if method == "ubsim" else method,
            iterations=solver.iterations,
            noise_energy=None if noise is None else noise * math.prod(fine),
            flat=solver.flat,
            usable_frames=illumination_speckle.usable(planes, self._full()),
        )
        inside = (slice(axis.start, axis.start + axis.size) for axis in (rows, columns))
        return found.cropped(*inside)

    def _noise(self, planes: np.ndarray, pixel_um: float) -> np.ndarray | None:
        return noise_variance(planes, pixel_um, self.passband())

    def _full(self) -> float | None:
        camera = self.settings.camera
        return None if camera.saturation is None else camera.saturation - camera.offset

    def _light_band(self) -> float:
        """Highest frequency of the light, cycles/um."""
        optics = self.settings.optics
        na = optics.known("na") if optics.illumination_na is None else optics.illumination_na
        return cutoff(na, optics.excitation_wavelength_um or optics.known("emission_wavelength_um"))

    def cutoff(self, calibration: Calibration) -> float:
        """The bands of objective and light together, cycles/um."""
        return self.passband() + self._light_band()

    def passband(self) -> float:
        """``2 NA / wavelength`` of the objective, cycles/um."""
        optics = self.settings.optics
        return cutoff(optics.known("na"), optics.known("emission_wavelength_um"))


_ONE_PLANE = "the frames have {} planes; blind SIM handles single planes: set frames.planes: 1"


def _planes(frames: np.ndarray) -> np.ndarray:
    if frames.shape[-3] != 1:
        raise DataError(_ONE_PLANE.format(frames.shape[-3]))
    return np.ascontiguousarray(frames[..., 0, :, :], dtype=np.float32)
