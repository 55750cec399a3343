"""The one protocol of an imaging modality: its settings, its frame axes, its forward model, its baselines."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float, Int
from scipy.fft import next_fast_len

from nstm.acquisition import Channel, DataError, computed_times
from nstm.settings import Conventional, SystemSettings, override

#: What is known of the illumination of one acquisition: a JSON-able mapping whose keys belong to the system.
#: Every one carries ``status`` (pass | warn | fail) and ``reasons`` (list of ``{"severity", "code", "message"}``).
Calibration = Mapping[str, Any]


#: First sample and number of samples along z, y and x.
Field = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def padded(frame_shape: tuple[int, int, int], padding_px: int) -> tuple[tuple[int, int, int], Field]:
    """Shape ``(z, y, x)`` of a plane with at least ``padding_px`` around it, fast to transform, and its field in that.

    Args:
        frame_shape: planes, rows and columns of a frame.
        padding_px: 0 leaves the frame as it is, periodic.
    """
    planes, *sides = frame_shape
    rows, columns = (next_fast_len(n + 2 * padding_px, True) if padding_px else n for n in sides)
    field = ((0, planes), ((rows - sides[0]) // 2, sides[0]), ((columns - sides[1]) // 2, sides[1]))
    return (planes, rows, columns), field


class ForwardModel(eqx.Module):
    """Predicts the measurements of one acquisition from the scene at the times that each of them needs.

    A measurement is what one exposure records (a frame; for a rolling shutter a block of rows). The scene
    lives on its own grid, which may be finer and larger than the camera's.
    """

    scene_shape: tuple[int, int, int, int] = eqx.field(static=True)  # (channel, z, y, x), padding included
    #: First sample and number of samples of the camera's field on the scene's grid, along z, y and x.
    output_field: Field = eqx.field(static=True)
    times: Float[Array, "m k"]  # scene times that each measurement needs, s from the first frame

    nonnegative: ClassVar[bool] = True  # a density is never below zero; a phase may be

    @abc.abstractmethod
    def render(self, scenes: Float[Array, "n k c z y x"], which: Int[Array, "n"]) -> Float[Array, "n z v u"]:
        """The measurements ``which`` from the scene at their ``times``; differentiable, pure, no host round trip."""

    def offsets(self) -> dict[str, Array]:
        """Small corrections of the calibration that a fit may refine, all zero; default: the gain of every measurement.

        ``intensity (m,)`` is known to every model whose measurements are proportional to the light: what bleaching or
        a lamp adds to it, as a share. A model that leaves it out has no gains.
        """
        return {"intensity": jnp.zeros(len(self.times))}

    def corrected(self, offsets: dict[str, Array]) -> ForwardModel:
        """The model with all ``offsets`` but the gains applied; default: none."""
        return self

    def seen(
        self, scenes: Float[Array, "n k c z y x"], which: Int[Array, "n"], offsets: dict[str, Array]
    ) -> Float[Array, "n z v u"]:
        """:meth:`render` with ``offsets`` applied; the mean gain is 1, so that the scene keeps its scale."""
        images = self.corrected(offsets).render(scenes, which)
        if "intensity" not in offsets:
            return images
        gain = 1 + offsets["intensity"]
        return images * (gain[which] / jnp.mean(gain))[:, None, None, None]

    @property
    def joins_late(self) -> bool:
        """Some channels may join a fit later than the others (:meth:`joined`); default: none."""
        return False

    def joined(self, share: Array) -> ForwardModel:
        """The model in which what :attr:`joins_late` counts by ``share``, itself at 1; default: itself."""
        return self

    def in_units(self, scene: Float[Array, "*n c z y x"]) -> Float[Array, "*n c z y x"]:
        """A scene in the units of the results; default: those that it is fitted in."""
        return scene

    def in_field(self, images: Float[Array, "... y x"]) -> Float[Array, "... v u"]:
        """What lies in the camera's field, of images on the scene's grid."""
        _, (y, rows), (x, columns) = self.output_field
        return images[..., y : y + rows, x : x + columns]

    def output(self, scene: Float[Array, "c z y x"]) -> Float[Array, "c z y x"]:
        """A scene as it is stored: padding cut off; a system also limits it to the support that it transfers."""
        first, planes = self.output_field[0]
        return self.in_field(scene[:, first : first + planes])


@dataclass(frozen=True)
class Baseline:
    """A conventional reconstruction of one window of blocks.

    ``reconstruct(frames, calibrations, pixel_um, settings)`` takes float32 frames of shape ``(*frame_axes, z, y, x)``,
    counts with the offset removed, one calibration per block (each block's own acquisition), and gives
    ``(c, z, y, x)`` on the grid of the results. ``window`` is the number of consecutive blocks that it
    needs, ``None``: all of an acquisition; with 1 the frames hold that block only (length 1 along the block axis).
    ``channels`` are those of its result, ``None``: those of the system.
    """

    label: str
    window: int | None
    reconstruct: Callable[[np.ndarray, list[Calibration], float, Conventional], np.ndarray]
    effective_transfer: str
    channels: tuple[Channel, ...] | None = None


@dataclass(frozen=True)
class FrameFigure:
    """A figure of raw frames that needs knowledge of the modality: ``values`` has one number for every block.

    Below ``least`` it is a warning, whose last words are ``advice``; ``None`` where it cannot be told.
    """

    label: str
    values: list[float | None]
    least: float
    advice: str


class ImagingSystem(abc.ABC):
    """A modality. A new one is one class in one file, registered by name, entry point or path."""

    kind: ClassVar[str]
    Settings: ClassVar[type[SystemSettings]]
    #: The frame axis whose positions are the blocks of the moving window (orientations for SIM).
    block_axis: ClassVar[str]
    #: What a person calls a block.
    block_name: ClassVar[str] = "frame"
    #: Frame axes along which the kind of light differs (wavelengths), and so the brightness of the frames.
    light_axes: ClassVar[tuple[str, ...]] = ()
    #: Keys of `reconstruction` whose defaults differ for this system.
    fit_defaults: ClassVar[Mapping[str, Any]] = {}
    #: Keys of the settings (``section.key``) that are files, relative to the config.
    file_keys: ClassVar[tuple[str, ...]] = ()
    #: What files call the frame axes, where they label them.
    axis_labels: ClassVar[Mapping[str, str]] = {}
    #: Channels of a result.
    channels: tuple[Channel, ...] = (Channel("intensity"),)
    #: Whether frames are counts of a camera, so that no light means nothing to see; False: contrast about zero.
    counts: bool = True

    def __init__(self, settings: SystemSettings) -> None:
        self.settings = settings

    @property
    @abc.abstractmethod
    def frame_axes(self) -> dict[str, int]:
        """Name and length of each frame axis, slowest first as in the raw store."""

    @property
    def usual_order(self) -> str | None:
        """Order of the planes in files of the instrument that do not label them; ``None``: not known."""
        return None

    @property
    def usual_times(self) -> str | None:
        """Words about exposure and delays that are only usual for the instrument; ``None``: they are the user's."""
        return None

    @property
    def needed_optics(self) -> tuple[str, ...]:
        """Numbers of the optics without which nothing can be computed; from the config, else from the file."""
        return ("na", "emission_wavelength_um")

    @property
    def grid_ratio(self) -> float:
        """Pixels of the result per camera pixel along y and x; default: those of the camera."""
        return 1.0

    def of(self, acquisitions: xr.Dataset) -> Self:
        """This system with the numbers of the optics that the config leaves to the file of ``acquisitions``."""
        read = {name: entry["value"] for name, entry in acquisitions.attrs["source"].get("optics", {}).items()}
        if acquisitions.attrs["z_step_um"] is not None:
            read["z_step_um"] = acquisitions.attrs["z_step_um"]
        return type(self)(override(self.settings, {"optics": read}))

    def times(self, acquisitions: int, order: Sequence[str]) -> tuple[np.ndarray, str]:
        """Computed or assumed times ``(t, *frame_axes, z)`` in s, and which of the two; planes follow in ``order``."""
        frames = self.settings.frames
        axes = {**self.frame_axes, "z": frames.planes}
        known = frames.exposure_s is not None
        order = [a for a in order if a in axes] if known else []
        order += [a for a in axes if a not in order]
        times = computed_times(
            acquisitions,
            axes,
            exposure_s=frames.exposure_s or 1.0,
            delays_s=frames.delays_s() if known else {},
            interval_s=frames.acquisition_interval_s if known else None,
            order=order,
        )
        return times, "computed" if known else "assumed"

    def frame_figures(self, frames: np.ndarray, pixel_um: float) -> list[FrameFigure]:
        """Checks of the frames ``(*frame_axes, z, y, x)`` (counts, offset removed) before anything is estimated."""
        return []

    def calibrate(self, frames: np.ndarray, pixel_um: float) -> Calibration:
        """What the frames ``(*frame_axes, z, y, x)`` (counts, offset removed) tell of the illumination."""
        return {"status": "pass", "reasons": []}

    def consensus(self, calibrations: list[Calibration]) -> Calibration:
        """One calibration of a sample from those of its acquisitions; default: the first."""
        return calibrations[0]

    def with_consensus(self, calibration: Calibration, consensus: Calibration) -> Calibration:
        """The calibration that an acquisition is reconstructed with; default: the consensus."""
        return consensus

    def alike(self, frames: np.ndarray) -> np.ndarray:
        """Images ``(n, y, x)`` in order of time that differ only where the sample has moved; may be none.

        Args:
            frames: ``(*frame_axes, z, y, x)``, counts as recorded; default: the mean of every block.
        """
        axis = list(self.frame_axes).index(self.block_axis)
        others = tuple(i for i in range(frames.ndim - 2) if i != axis)
        return np.asarray(frames.mean(axis=others, dtype=np.float64), dtype=np.float32)

    @abc.abstractmethod
    def forward(
        self,
        frame_shape: tuple[int, int, int],
        times: np.ndarray,
        calibration: Calibration,
        pixel_um: float,
        padding_px: int,
    ) -> ForwardModel:
        """The forward model of frames of ``(z, y, x)`` camera pixels.

        Args:
            frame_shape: planes, rows, columns of a frame.
            times: ``(*frame_axes, z)``, s from the first frame of the acquisition.
            calibration: what :meth:`calibrate` and the consensus found.
            pixel_um: camera pixel in the sample, um.
            padding_px: camera pixels added around the field; 0 makes it periodic.
        """

    def cropped(self, calibration: Calibration, corner: tuple[int, int], pixel_um: float) -> Calibration:
        """The calibration of a part of the field that begins at the camera pixel ``corner``; default: the same.

        Args:
            calibration: of the whole field.
            corner: row and column.
            pixel_um: camera pixel in the sample, um.

        Raises:
            DataError: every pixel of a frame sees the whole sample, so that a part cannot be fitted by itself.
        """
        return calibration

    def measurements(self, frames: np.ndarray, calibration: Calibration | None = None) -> np.ndarray:
        """Frames ``(*frame_axes, z, y, x)`` (offset removed) as :meth:`ForwardModel.render` predicts them."""
        return frames.reshape(-1, *frames.shape[-3:])

    def measure_transfer(self, frames: np.ndarray, pixel_um: float, path: Path) -> None:
        """Write to ``path`` the transfer function that frames ``(*frame_axes, z, y, x)`` of one bead show.

        Raises:
            DataError: the frames show none, or (default) the system uses none that is measured.
        """
        raise DataError(f"systems of kind {self.kind!r} use no measured transfer function")

    def rank_orders(self, read_plane: Callable[[int], np.ndarray], planes: np.ndarray) -> str:
        """What the frames themselves say of their order, as a table for the user; default: nothing.

        Args:
            read_plane: ``number in the file -> (y, x)``.
            planes: numbers of the planes, in file order.

        Raises:
            DataError: the planes cannot be judged.
        """
        return ""

    @property
    @abc.abstractmethod
    def baselines(self) -> dict[str, Baseline]:
        """Conventional reconstructions by the name of their time-lapse store, widefield among them."""

    def cutoff(self, calibration: Calibration) -> float:
        """Highest lateral frequency of a result, cycles/um (the ``kc`` of the metrics); default: of a raw frame."""
        return self.passband()

    @abc.abstractmethod
    def passband(self) -> float:
        """Highest lateral frequency in a single raw frame, cycles/um: beyond it there is only noise."""


_REGISTRY: dict[str, type[ImagingSystem]] = {}


def register(system: type[ImagingSystem]) -> type[ImagingSystem]:
    """Class decorator: make ``kind: NAME`` of the config find this system."""
    _REGISTRY[system.kind] = system
    return system


def registered() -> dict[str, type[ImagingSystem]]:
    """All systems by kind, those of installed entry points (group ``nstm.systems``) included."""
    from importlib.metadata import entry_points

    for point in entry_points(group="nstm.systems"):
        if point.name not in _REGISTRY:
            _REGISTRY[point.name] = point.load()
    return dict(_REGISTRY)
