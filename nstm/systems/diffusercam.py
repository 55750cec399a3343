"""A lensless camera with a diffuser and a rolling shutter: one frame that holds a video.

Every place of the scene lights the whole sensor through the diffuser, and the rows of the sensor are exposed one after
the other, so that each of them saw the whole scene at its own time (Antipa et al., ICCP 2019; Cao et al., Nature
Methods 2024, Extended Data 7). A measurement is a block of rows that are read one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from scipy.ndimage import uniform_filter

from nstm.acquisition import COLOURS, Channel, DataError
from nstm.io.arrays import array_shape, read_array
from nstm.optics.rolling_shutter import Blocks, Readout
from nstm.settings import Conventional, override
from nstm.systems.base import Calibration, FramePart, ImagingSystem, Series, register
from nstm.systems.diffusercam_settings import DiffuserSettings

if TYPE_CHECKING:
    import xarray as xr

    from nstm.systems.diffusercam_forward import DiffuserForward


@register
class DiffuserCam(ImagingSystem):
    """A lensless camera whose rows are read one after the other."""

    kind = "diffusercam"
    Settings = DiffuserSettings
    block_axis, block_name = "readout", "frame"
    light_axes = simultaneous_axes = ("colour",)
    file_keys = ("psf.path",)
    axis_labels: ClassVar[Mapping[str, str]] = {"S": "colour"}
    fit_defaults: ClassVar[Mapping[str, Any]] = {
        "padding_px": 0,  # the scene ends within the field
        "frames_at_once": 1,  # a block of rows in memory
        "output_times": 20,
        "steps": 800,
        "multigrid": {
            **{"scene_coarsest": 0.1, "motion_rate": 2e-3, "motion_time_nodes": 8},
            **{"motion_smoothness": 0.25, "motion_steadiness": 0.25},
        },
        "networks": {"motion_rate": 5e-5, "scene_nonnegativity": 1e-6},
    }
    movie_defaults: ClassVar[Mapping[str, Any]] = {"panels": ["wiener", "admm", "conventional", "nstm"]}
    settings: DiffuserSettings

    def __init__(self, settings: DiffuserSettings, pattern: np.ndarray | None = None) -> None:
        """Bind the settings; ``pattern (c, y, x)`` or ``(y, x)``, without background, takes the place of the file."""
        super().__init__(settings)
        self.pattern = pattern
        self.channels = COLOURS if settings.colours == 3 else (Channel("intensity"),)
        #: The part of the sensor that the sheet cuts out, "": all of it.
        self.crop = ""

    @property
    def frame_axes(self) -> dict[str, int]:
        """One readout in each colour."""
        return {"readout": 1, "colour": self.settings.colours}

    @property
    def usual_order(self) -> str:
        """Frame after frame, the colours of each side by side."""
        return "t colour"

    @property
    def needed_optics(self) -> tuple[str, ...]:
        """None: the point spread function is measured."""
        return ()

    @property
    def smeared_s(self) -> float:
        """A layer: what moves during the exposure of a row is in the model."""
        return self._layer_s()

    def of(self, acquisitions: xr.Dataset) -> Self:
        """See :meth:`ImagingSystem.of`."""
        pixel_um = acquisitions.attrs["pixel_um"] / self.settings.frames.binning
        found = type(self)(override(self.settings, {"optics": {"pixel_um": pixel_um}}), self.pattern)
        found.crop = acquisitions.attrs["source"].get("crop") or ""
        return found

    def times(self, acquisitions: int, order: Any) -> tuple[np.ndarray, str]:
        """Middle of the exposure of each frame's first row, the same in all colours."""
        frames = self.settings.frames
        if acquisitions > 1 and frames.acquisition_interval_s is None:
            raise DataError(
                "the file does not tell when its frames begin: give frames.acquisition_interval_s, start to start"
            )
        assert frames.exposure_s is not None
        first = np.arange(acquisitions) * (frames.acquisition_interval_s or 0.0) + frames.exposure_s / 2
        return np.tile(first[:, None, None, None], (1, 1, self.settings.colours, 1)), "computed"

    def scene_times(self, times: np.ndarray, frame_shape: tuple[int, int, int]) -> np.ndarray:
        """Middle of every layer."""
        readout, layer_s = self._readout(frame_shape[1]), self._layer_s()
        exposure_s = self.settings.frames.exposure_s or 0.0
        return np.asarray(times - exposure_s / 2 + (np.arange(readout.layers) + 0.5) * layer_s)

    def result_shape(self, frame_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The scene in the middle of the sensor's field."""
        rows, columns = (max(1, round(self.settings.scene_share * n)) for n in frame_shape[1:])
        return 1, rows, columns

    def measured_axes(self, frame_shape: tuple[int, int, int]) -> dict[str, int]:
        """Blocks of rows."""
        return {"rows": len(self._blocks(frame_shape[1]).row)}

    def noise_of_frames(self, frames: np.ndarray, noise_variance: np.ndarray) -> np.ndarray:
        """The same everywhere."""
        return np.sqrt(noise_variance.mean()).reshape(1, 1, 1, 1, 1)

    def parts(self, times: np.ndarray, frame_shape: tuple[int, int, int]) -> list[FramePart]:
        """Rows that are read together."""
        blocks = self._blocks(frame_shape[1])
        layers = self.scene_times(times, frame_shape)[0, 0]
        layers = layers - times.min()
        lines, found = blocks.line.shape[1], []
        for number, (share, layer) in enumerate(zip(blocks.share, blocks.layer, strict=True)):
            moment = float(np.average(layers[layer], weights=share.sum(axis=0)))
            for first in range(0, blocks.row.shape[1], lines):
                half = slice(first, first + lines)
                rows = blocks.row[number, half][blocks.present[number, half]]
                found.append(FramePart((int(rows.min()), int(rows.max()) + 1), moment))
        return found

    def alike(self, frames: np.ndarray) -> np.ndarray:
        """None: an acquisition is one frame."""
        return frames.reshape(-1, *frames.shape[-2:])[:0]

    def calibrate(self, frames: np.ndarray, pixel_um: float) -> Calibration:
        """Whether the frames fit their point spread function and readout; nothing is estimated."""
        try:
            if not np.all(np.isfinite(frames)):
                raise DataError("the frames hold NaN or infinity: mend or drop them")
            self._check(frames.shape[-3:])
            readout = self._readout(frames.shape[-2])
            self._psf(frames.shape[-2:])
        except DataError as error:
            return {"status": "fail", "reasons": [{"severity": "fail", "code": "camera", "message": str(error)}]}
        about = {"layers": readout.layers, "layer_s": self._layer_s(), "exposure_lines": readout.exposure_lines}
        return {"status": "pass", "reasons": [], **about}

    def cropped(self, calibration: Calibration, corner: tuple[int, int], pixel_um: float) -> Calibration:
        """Refused: every pixel sees the whole scene."""
        raise DataError(
            "every pixel of a lensless camera sees the whole scene, so its field cannot be fitted in tiles: leave "
            "reconstruction.tile_px empty, and where memory is short, set readout.rows_per_step lower, frames.binning "
            "higher, or give it more (reconstruction.memory_gb)"
        )

    def forward(
        self,
        frame_shape: tuple[int, int, int],
        times: np.ndarray,
        calibration: Calibration,
        pixel_um: float,
        padding_px: int,
    ) -> DiffuserForward:
        """The forward model; the scene has ``padding_px`` pixels around what is shown of it."""
        import jax.numpy as jnp

        from nstm.optics.lensless import Diffuser
        from nstm.systems.diffusercam_forward import DiffuserForward

        self._check(frame_shape)
        blocks, psf = self._blocks(frame_shape[1]), self._psf(frame_shape[1:])
        _, *shown = self.result_shape(frame_shape)
        rows, columns = (n + 2 * padding_px for n in shown)
        light = np.sum([uniform_filter(h, (rows, columns), mode="constant").max() for h in psf]) / len(psf)
        of_rows = np.mean(np.sum(psf**2, axis=-1), axis=0)  # what a row holds of a place, squared
        energy = np.array([of_rows.mean() * present.sum() for present in blocks.present])
        return DiffuserForward(
            diffuser=Diffuser(psf, (rows, columns)),
            share=jnp.asarray(blocks.share, float),
            row=jnp.asarray(blocks.row),
            present=jnp.asarray(blocks.present, float),
            unit=jnp.asarray(1 / (light * rows * columns), float),
            spread=jnp.asarray(1 / energy, float),
            times=jnp.asarray(self.scene_times(times, frame_shape)[0, 0][blocks.layer], float),
            scene_shape=(self.settings.colours, 1, rows, columns),
            output_field=((0, 1), (padding_px, shown[0]), (padding_px, shown[1])),
        )

    def measurements(self, frames: np.ndarray, calibration: Calibration | None = None) -> np.ndarray:
        """Blocks of rows ``(block, colour, row, x)``."""
        self._check(frames.shape[-3:])
        return self._blocks(frames.shape[-2]).cut(frames[0, :, 0])

    @property
    def baselines(self) -> dict[str, Series]:
        """The frame as that of a scene at rest, in two ways, and as a video."""
        return {
            "wiener": Series("static, Wiener filter", self._wiener, "pattern of a point, inverted (Wiener)"),
            "admm": Series("static, total variation (ADMM)", self._admm, "pattern of a point, inverted"),
            "conventional": Series("video, total variation (FISTA)", self._fista, "pattern of a point, inverted"),
        }

    def _wiener(
        self, frames: np.ndarray, calibration: Calibration, pixel_um: float, settings: Conventional, times_s: np.ndarray
    ) -> np.ndarray:
        from nstm.conventional import diffusercam as still_results

        frame, psf, scene = self._still(frames)
        return _at_rest(still_results.wiener(frame, psf, scene, self.settings.wiener.parameter), times_s)

    def _admm(
        self, frames: np.ndarray, calibration: Calibration, pixel_um: float, settings: Conventional, times_s: np.ndarray
    ) -> np.ndarray:
        from nstm.conventional import diffusercam as still_results

        frame, psf, scene = self._still(frames)
        admm = self.settings.admm
        weights = still_results.Admm(total_variation=admm.weight)
        return _at_rest(still_results.total_variation(frame, psf, scene, admm.iterations, weights), times_s)

    def _fista(
        self, frames: np.ndarray, calibration: Calibration, pixel_um: float, settings: Conventional, times_s: np.ndarray
    ) -> np.ndarray:
        """The layer of the video that each time lies in."""
        from nstm.conventional import diffusercam_video as video_results
        from nstm.optics.lensless import Diffuser

        frame, psf, scene = self._still(frames)
        blocks, readout, fista = self._blocks(frame.shape[-2]), self._readout(frame.shape[-2]), self.settings.fista
        camera = video_results.Camera(Diffuser(psf, scene), blocks, readout.layers)
        scale = max(float(frame.max()), np.finfo(np.float32).tiny)
        prior = video_results.Prior(fista.weight, fista.time_weight)
        video, _ = video_results.fista(
            camera, blocks.cut(frame) / scale, prior, fista.iterations, proximal=fista.proximal
        )
        middles = self.scene_times(np.zeros((1, 1, 1)), (1, *frame.shape[-2:]))[0, 0]
        layer = np.abs(middles - times_s[:, None]).argmin(axis=1)
        return scale * video[layer][:, :, None]

    def _still(self, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """Frame ``(c, y, x)``, its point spread function and the shape of the scene."""
        self._check(frames.shape[-3:])
        _, rows, columns = self.result_shape(frames.shape[-3:])
        return frames[0, :, 0], self._psf(frames.shape[-2:]), (rows, columns)

    def passband(self) -> float:
        """That of the pixels, cycles/um; only the corners of the spectrum lie beyond."""
        return 0.5 / (self.settings.optics.known("pixel_um") * self.settings.frames.binning)

    def _check(self, frame_shape: tuple[int, ...]) -> None:
        if frame_shape[0] != 1:
            raise DataError(f"the frames have {frame_shape[0]} planes; this camera has one: set frames.planes: 1")
        if self.crop:
            raise DataError(
                f"crop is {self.crop!r}, but every row of a lensless camera sees the whole scene, at its own time: "
                "leave the column `crop` empty"
            )

    def _layer_s(self) -> float:
        readout = self.settings.readout
        return readout.line_time_s * self.settings.frames.binning * readout.lines_per_layer

    def _readout(self, rows: int) -> Readout:
        readout = self.settings.readout
        return Readout(rows, self.settings.exposure_lines, readout.halves == "dual", readout.lines_per_layer)

    def _blocks(self, rows: int) -> Blocks:
        return Blocks.of(self._readout(rows), self.settings.readout.rows_per_step)

    def _psf(self, frame_shape: tuple[int, ...]) -> np.ndarray:
        """The point spread function ``(1 or colours, y, x)`` at the pixels of the frames, its largest sum 1.

        Raises:
            DataError: of another size than the frames, or without light.
        """
        from nstm.optics.lensless import binned, prepared_psf

        pattern, background = self.settings.psf, self.settings.psf.background
        if self.pattern is not None:
            stored, background = self.pattern.reshape(-1, *self.pattern.shape[-2:]), 0.0
        else:
            stored = _stored_psf(pattern.path, pattern.array, _changed(pattern.path))
            background = self.settings.camera.offset if background is None else background
        binning = self.settings.frames.binning
        fits = {1, binning} & {b for b in (1, binning) if binned(stored[:1, :, :], b).shape[1:] == tuple(frame_shape)}
        if not fits:
            raise DataError(
                f"{pattern.path}: the point spread function has {stored.shape[1]} x {stored.shape[2]} pixels, the "
                f"frames have {frame_shape[0]} x {frame_shape[1]}: give the one that was recorded with this sensor"
            )
        if len(stored) not in (1, self.settings.colours):
            raise DataError(
                f"{pattern.path}: the point spread function has {len(stored)} colours, the frames have "
                f"{self.settings.colours}: give one for all or one for each (colours)"
            )
        return prepared_psf(stored, background, max(fits))


@lru_cache(maxsize=2)
def _stored_psf(path: str, array: str | None, _: int) -> np.ndarray:
    """A point spread function as ``(c, y, x)``."""
    shape = array_shape(path, array)
    values = read_array(path, shape, array)
    if len(shape) == 3 and shape[-1] in (1, 3) and shape[0] not in (1, 3):
        values = np.moveaxis(values, -1, 0)
    values = values.reshape(-1, *values.shape[-2:]) if values.ndim == 2 else values
    if values.ndim != 3 or len(values) not in (1, 3):
        raise DataError(
            f"{path}: the point spread function has shape {shape}; needed is (y, x), (colour, y, x) or (y, x, colour)"
        )
    return values


def _changed(path: str) -> int:
    """When a file was last written; 0 where it is not there."""
    return Path(path).stat().st_mtime_ns if Path(path).is_file() else 0


def _at_rest(image: np.ndarray, times_s: np.ndarray) -> np.ndarray:
    """The same image ``(c, y, x)`` at all times, ``(t, c, 1, y, x)``."""
    return np.broadcast_to(image[None, :, None], (len(times_s), len(image), 1, *image.shape[-2:]))
