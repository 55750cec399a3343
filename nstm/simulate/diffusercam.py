"""Simulated rolling-shutter recordings of a lensless camera: a moving object behind a diffuser.

The scene of every instant is made of points that moved, and every row is the mean of the instants that exposed it, each
convolved as a whole image in two dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.signal import fftconvolve

from nstm.acquisition import COLOURS, Channel
from nstm.optics.rolling_shutter import Readout
from nstm.simulate.camera import camera
from nstm.simulate.motion import Motion, deformation, vibration
from nstm.simulate.recording import Recording

Array = NDArray[np.float64]
Image = NDArray[np.float32]


@dataclass(frozen=True)
class LenslessCamera:
    """A sensor behind a diffuser.

    Attributes:
        shape: rows and columns of the sensor.
        scene_share: side of the scene over that of the sensor's field.
        colours: 1 or 3.
        line_time_s: from the reading of one row to that of the next.
        exposure_lines: line times that a row is exposed for.
        dual: both halves of the sensor are read at the same time.
        acquisition_interval_s: start to start of frames.
        pixel_um: pixel of the sensor in the scene.
        photons: of the brightest pixel.
        instants: of each line time.
        pattern_seed: of the surface of the diffuser.
    """

    shape: tuple[int, int] = (96, 128)
    scene_share: float = 0.5
    colours: int = 1
    line_time_s: float = 220.2e-6
    exposure_lines: int = 6
    dual: bool = True
    acquisition_interval_s: float = 0.04
    pixel_um: float = 10.0
    photons: float = 10000.0
    offset: float = 100.0
    read_noise: float = 2.0
    instants: int = 1
    pattern_seed: int = 3

    @property
    def pattern(self) -> Image:
        """The pattern ``(y, x)`` of a point in the middle of the scene, sum 1."""
        return caustics(self.pattern_seed, self.shape)

    @property
    def readout(self) -> Readout:
        """How the sensor is read."""
        return Readout(self.shape[0], self.exposure_lines, self.dual)

    @property
    def exposure_s(self) -> float:
        """Exposure of a row, s."""
        return self.exposure_lines * self.line_time_s

    @property
    def scene_shape(self) -> tuple[int, int]:
        """Rows and columns of the scene, in the middle of the field."""
        return scene_shape(self.shape, self.scene_share)

    def layer_times(self, acquisitions: int) -> Array:
        """Middle ``(t, layer)`` of every layer of every frame, s."""
        start = np.arange(acquisitions)[:, None] * self.acquisition_interval_s
        return start + (np.arange(self.readout.layers) + 0.5) * self.line_time_s

    def times(self, acquisitions: int) -> Array:
        """Times ``(t, readout, colour)`` of frames, s: the middle of the exposure of the first row."""
        first = np.arange(acquisitions) * self.acquisition_interval_s + self.exposure_s / 2
        return np.repeat(first, self.colours).reshape(acquisitions, 1, self.colours)


def scene_shape(sensor: tuple[int, int], share: float) -> tuple[int, int]:
    """Rows and columns of a scene in the middle of a sensor's field."""
    return max(1, round(share * sensor[0])), max(1, round(share * sensor[1]))


@dataclass(frozen=True)
class Picture:
    """What is seen when it is at rest: ``values (c, y, x)`` of squares of side ``step_um``, 0 beyond."""

    values: Array
    step_um: float

    def at(self, places: Array) -> Array:
        """Brightness ``(n, c)`` at places ``(n, 2)`` um from the centre of the first square."""
        where = places.T / self.step_um
        return np.stack([map_coordinates(v, where, order=3, prefilter=True) for v in self.values], axis=1)


def textured_disc(seed: int, shape: tuple[int, int], step_um: float, colours: int = 1) -> Picture:
    """A soft disc with seams and patches, as a ball has, on a black ground.

    Args:
        seed: of the texture.
        shape: rows and columns of the scene.
        step_um: side of a pixel.
        colours: 1 or 3; each has patches of its own.
    """
    rng = np.random.default_rng(seed)
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    radius = 0.3 * min(shape)
    distance = np.hypot(y[:, None], x)
    disc = 1 / (1 + np.exp((distance - radius) / 0.7))
    values = []
    for _ in range(colours):
        patches = gaussian_filter(rng.standard_normal(shape), 0.05 * min(shape), mode="wrap")
        seams = gaussian_filter(rng.standard_normal(shape), 0.06 * min(shape), mode="wrap")
        bright = 0.55 + 0.45 * np.tanh(2 * patches / patches.std())
        values.append(disc * bright * (1 - 0.8 * np.exp(-((seams / seams.std() / 0.15) ** 2))))
    return Picture(np.maximum(np.stack(values), 0), step_um)


def bounce(lens: LenslessCamera, travel_px: float, deformation_px: float, seed: int) -> Motion:
    """An object that swings across the field once in a readout and is deformed by local eddies meanwhile.

    Args:
        lens: the camera.
        travel_px: length of the swing, pixels.
        deformation_px: largest displacement by an eddy, pixels.
        seed: of the eddies.
    """
    duration = lens.readout.layers * lens.line_time_s
    direction = np.array([-0.5, 0.87]) * travel_px / 2 * lens.pixel_um
    swing = vibration(direction.tolist(), 2 * duration, -np.pi / 2)
    height, width = (n * lens.pixel_um for n in lens.scene_shape)
    eddies = deformation(
        seed,
        (0.3 * height, 0.3 * width, 0.7 * height, 0.7 * width),
        size_um=0.12 * height,
        amplitude_um=deformation_px * lens.pixel_um,
        period_s=2 * duration,
        number=5,
    )
    return swing + eddies


def caustics(seed: int, shape: tuple[int, int], *, smooth_px: float = 5.0, strength_px: float = 9.0) -> Image:
    """The pattern of one point behind a smooth diffuser: rays bent by its slope fall together in bright lines.

    Args:
        seed: of the surface.
        shape: rows and columns of the sensor.
        smooth_px: correlation length of the surface, pixels.
        strength_px: standard deviation of the deflection, pixels.

    Returns:
        ``(y, x)``, sum 1.
    """
    rng = np.random.default_rng(seed)
    fine, lit = 4, 0.7
    grid = tuple(fine * n for n in shape)
    surface = gaussian_filter(rng.standard_normal(grid), smooth_px * fine, mode="wrap")
    slopes = np.gradient(surface)
    scale = strength_px / np.std(slopes)
    y, x = np.meshgrid(*((np.arange(n) + 0.5) / fine for n in grid), indexing="ij")
    inside = np.hypot((y / shape[0] - 0.5) / lit, (x / shape[1] - 0.5) / lit) < 0.5
    at = [(place + scale * slope)[inside] for place, slope in zip((y, x), slopes, strict=True)]
    density, _, _ = np.histogram2d(at[0], at[1], bins=shape, range=[(0, shape[0]), (0, shape[1])])
    return np.asarray(gaussian_filter(density, 0.6) / density.sum(), np.float32)


@dataclass(frozen=True)
class DiffuserRecording(Recording):
    """Frames (t, readout, colour, y, x); the truth (n, colour, y, x) is the scene, all light of a point in counts."""

    channels: ClassVar[tuple[Channel, ...]] = (Channel("intensity"),)


@dataclass(frozen=True)
class ColourRecording(DiffuserRecording):
    """The same in red, green and blue."""

    channels: ClassVar[tuple[Channel, ...]] = COLOURS


def video(picture: Picture, motion: Motion, lens: LenslessCamera, times: Array) -> Image:
    """The scene ``(t, c, y, x)`` at any times (s)."""
    places = np.stack(np.meshgrid(*(np.arange(n) * lens.pixel_um for n in lens.scene_shape), indexing="ij"), axis=-1)
    flat = places.reshape(-1, 2)
    images = []
    for time in times.tolist():
        rest = motion.rest_positions(flat, time)
        if np.isnan(rest).any():
            raise ValueError(f"the motion folds: at {time:g} s there are places to which no part of the object belongs")
        images.append(picture.at(rest).T.reshape(-1, *lens.scene_shape))
    return np.asarray(np.maximum(images, 0), np.float32)


def seen(scene: Image, psf: Image, sensor: tuple[int, int]) -> Image:
    """The frame ``(c, y, x)`` of a scene ``(c, y, x)`` at rest; ``psf (1 or c, y, x)``."""
    top, left = (n // 2 for n in scene.shape[-2:])
    kernels = np.broadcast_to(psf, (len(scene), *psf.shape[-2:]))
    whole = np.stack([fftconvolve(s, k) for s, k in zip(scene, kernels, strict=True)])
    cut = whole[:, top : top + sensor[0], left : left + sensor[1]]
    return np.asarray(np.maximum(cut, 0), np.float32)  # transforms leave a little below zero


def simulate_diffusercam(
    picture: Picture, motion: Motion, lens: LenslessCamera, psf: Image, acquisitions: int, seed: int = 0
) -> DiffuserRecording:
    """Record a moving object.

    Args:
        picture: the object at rest.
        motion: what its parts do.
        lens: the camera.
        psf: ``(1 or c, y, x)``, the pattern of a point in the middle of the scene.
        acquisitions: number of frames.
        seed: of the noise.
    """
    shutter = lens.readout.shutter() / lens.exposure_lines
    clean = np.zeros((acquisitions, lens.colours, *lens.shape), np.float32)
    truth, truth_times = [], []
    part = (np.arange(lens.instants) + 0.5) / lens.instants - 0.5
    for frame, layer_times in enumerate(lens.layer_times(acquisitions).tolist()):
        for layer, middle in enumerate(layer_times):
            scene = video(picture, motion, lens, middle + part * lens.line_time_s).mean(axis=0)
            clean[frame] += shutter[layer][:, None] * seen(scene, psf, lens.shape)
            truth.append(scene)
            truth_times.append(middle)
    gain = np.float32(lens.photons / clean.max())
    frames = camera(clean * gain, offset=lens.offset, read_noise=lens.read_noise, seed=seed)
    kind = DiffuserRecording if lens.colours == 1 else ColourRecording
    return kind(
        frames=frames[:, None],
        clean=(clean * gain)[:, None],
        times=lens.times(acquisitions),
        truth=np.array(truth) * gain,
        truth_times=np.array(truth_times),
        spacing_um=(lens.pixel_um, lens.pixel_um),
        calibration={},
        motion=motion,
        microscope=lens,
    )
