"""The one protocol of an imaging modality: its settings, its frame axes, its forward model, its baselines."""

from __future__ import annotations

import abc
import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from scipy.fft import next_fast_len

from nstm.acquisition import Channel, DataError, computed_times
from nstm.optics.grids import samples
from nstm.settings import Conventional, SystemSettings, override

if TYPE_CHECKING:
    import xarray as xr

    from nstm.illumination.speckle import Usable
    from nstm.illumination.transfer import SeenTransfer
    from nstm.systems.forward import ForwardModel

#: What is known of the illumination of one acquisition: a JSON-able mapping whose keys belong to the system.
#: Every one carries ``status`` (pass | warn | fail) and ``reasons`` (list of ``{"severity", "code", "message"}``);
#: ``left_out``, where it is there, holds the flat numbers of frames that a fit must not see.
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


@dataclass(frozen=True)
class Baseline:
    """A conventional reconstruction of one window of blocks.

    ``reconstruct(frames, calibrations, pixel_um, settings)`` takes float32 frames of shape ``(*frame_axes, z, y, x)``,
    counts with the offset removed, one calibration per block (each block's own acquisition), and gives
    ``(c, z, y, x)`` on the grid of the results. ``window`` is the number of consecutive blocks that it
    needs, ``None``: all of an acquisition; with 1 the frames hold that block only (length 1 along the block axis).
    ``step`` is the number of blocks from one result to the next.
    ``channels`` are those of its result, ``None``: those of the system.
    ``check(image, frames, pixel_um)`` tells how far the image of a window is from that of an independent method, a
    share of that one's; it is asked at every ``check_every``-th window. ``at_rest``: motion within a window ruins
    the result. ``why_none(frames)`` says why the window of these frames has no result, "" where it has one.
    """

    label: str
    window: int | None
    reconstruct: Callable[[np.ndarray, list[Calibration], float, Conventional], np.ndarray]
    effective_transfer: str
    channels: tuple[Channel, ...] | None = None
    step: int = 1
    check: Callable[[np.ndarray, np.ndarray, float], float] | None = None
    check_every: int = 0
    at_rest: bool = False
    why_none: Callable[[np.ndarray], str] | None = None


@dataclass(frozen=True)
class Series:
    """A conventional reconstruction of one acquisition by itself, at any times within it.

    ``reconstruct(frames, calibration, pixel_um, settings, times_s)`` takes frames as a :class:`Baseline` does, of all
    blocks, and times ``(t,)`` in s from the first frame; it gives ``(t, c, z, y, x)``, the same image at all times
    where the sample is taken to be at rest.
    """

    label: str
    reconstruct: Callable[[np.ndarray, Calibration, float, Conventional, np.ndarray], np.ndarray]
    effective_transfer: str
    channels: tuple[Channel, ...] | None = None


@dataclass(frozen=True)
class FramePart:
    """Rows of a raw frame that saw the scene at about the same time: ``time_s`` from the first frame."""

    rows: tuple[int, int]  # the first, and the one after the last
    time_s: float


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
    #: Codes of warnings about a calibration that do not concern a fit, which refines what they are about.
    refined_by_fit: ClassVar[frozenset[str]] = frozenset()
    #: Keys of `reconstruction` whose defaults differ for this system.
    fit_defaults: ClassVar[Mapping[str, Any]] = {}
    #: The same of `movie`.
    movie_defaults: ClassVar[Mapping[str, Any]] = {}
    #: Frame axes along which frames are taken at once (colours of one camera).
    simultaneous_axes: ClassVar[tuple[str, ...]] = ()
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

    def file_problems(self) -> dict[str, str]:
        """What is wrong with the files of :attr:`file_keys`, by key, told before any job; default: not looked at."""
        return {}

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
    def smeared_s(self) -> float | None:
        """Time over which motion is smeared, not resolved, s; default: the exposure of a frame; ``None``: unknown."""
        return self.settings.frames.exposure_s

    @property
    def grid_ratio(self) -> float:
        """Pixels of the result per camera pixel along y and x; default: those of the camera."""
        return 1.0

    def result_shape(self, frame_shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """Planes, rows and columns of a result; default: those of a frame, on the grid of the results."""
        planes, *sides = frame_shape
        rows, columns = (samples(n, self.grid_ratio) for n in sides)
        return planes, rows, columns

    def measured_axes(self, frame_shape: tuple[int, int, int]) -> dict[str, int]:
        """Name and length of the axes of the measurements; default: those of the frames."""
        return dict(self.frame_axes)

    def noise_of_frames(self, frames: np.ndarray, noise_variance: np.ndarray) -> np.ndarray:
        """Standard deviation of the noise of frames ``(*frame_axes, z, y, x)``, broadcast, from that of measurements.

        Args:
            frames: counts, the offset of the camera removed.
            noise_variance: of every measurement, ``(m,)``; default: the measurements are the frames.
        """
        return np.sqrt(noise_variance).reshape(*self.frame_axes.values(), 1, 1, 1)

    def scene_times(self, times: np.ndarray, frame_shape: tuple[int, int, int]) -> np.ndarray:
        """When frames see the scene, ``(*frame_axes, n)``, s; default: each once, at the mean time of its planes.

        Args:
            times: of the planes, ``(*frame_axes, z)``, s, middle of the exposure.
            frame_shape: planes, rows, columns of a frame.
        """
        return times.mean(axis=-1, keepdims=True)

    def parts(self, times: np.ndarray, frame_shape: tuple[int, int, int]) -> list[FramePart]:
        """What of the first frame is seen when, where its rows have times of their own; default: none have."""
        return []

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

    def usable(self, frames: np.ndarray) -> Usable | None:
        """Which of the frames ``(*frame_axes, z, y, x)`` (counts, offset removed) can be used (flat), and why not all.

        ``None`` (default): every frame is needed, so that a dead, damaged or full one fails its acquisition. Otherwise
        results are made of those that can be used; a reason of severity ``fail`` says that these are too few.
        """
        return None

    def calibrate(self, frames: np.ndarray, pixel_um: float) -> Calibration:
        """What the frames ``(*frame_axes, z, y, x)`` (counts, offset removed) tell of the illumination."""
        return {"status": "pass", "reasons": []}

    def consensus(self, calibrations: list[Calibration]) -> Calibration:
        """One calibration of a sample from those of its acquisitions; default: the first that did not fail."""
        return next((c for c in calibrations if c["status"] != "fail"), calibrations[0])

    def with_consensus(self, calibration: Calibration, consensus: Calibration) -> Calibration:
        """The calibration that an acquisition is reconstructed with; default: its own."""
        return calibration

    def seen_transfer(self, frames: np.ndarray, calibration: Calibration, pixel_um: float) -> list[SeenTransfer]:
        """What frames ``(*frame_axes, z, y, x)`` (offset removed) show of the transfer functions; default: nothing."""
        return []

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
    def baselines(self) -> Mapping[str, Baseline | Series]:
        """Conventional reconstructions by the name of their time-lapse store, ``conventional`` among them."""

    def cutoff(self, calibration: Calibration) -> float:
        """Highest lateral frequency of a result, cycles/um (the ``kc`` of the metrics); default: of a raw frame."""
        return self.passband()

    @abc.abstractmethod
    def passband(self) -> float:
        """Highest lateral frequency in a single raw frame, cycles/um: beyond it there is only noise."""


_REGISTRY: dict[str, type[ImagingSystem]] = {}
#: Modules that register the systems built in: loaded when the system is asked for.
_BUILT_IN = {
    "diffusercam": "nstm.systems.diffusercam",
    "dpc": "nstm.systems.dpc",
    "sim": "nstm.systems.sim",
    "speckle": "nstm.systems.speckle",
}


def register(system: type[ImagingSystem]) -> type[ImagingSystem]:
    """Class decorator: make ``kind: NAME`` of the config find this system."""
    _REGISTRY[system.kind] = system
    return system


def kinds() -> list[str]:
    """Kinds of all systems, those of installed entry points (group ``nstm.systems``) included."""
    return list(dict.fromkeys((*_BUILT_IN, *_entry_points(), *_REGISTRY)))


def system_of_kind(kind: str) -> type[ImagingSystem]:
    """The system of one of :func:`kinds`; no other is loaded."""
    if kind not in _REGISTRY:
        if kind in _BUILT_IN:
            importlib.import_module(_BUILT_IN[kind])
        else:
            _REGISTRY[kind] = _entry_points()[kind].load()
    return _REGISTRY[kind]


def registered() -> dict[str, type[ImagingSystem]]:
    """All systems by kind."""
    return {kind: system_of_kind(kind) for kind in kinds()}


def registered_in(module: str) -> list[type[ImagingSystem]]:
    """The systems that a module has registered."""
    return [system for system in _REGISTRY.values() if system.__module__ == module]


@functools.cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group="nstm.systems")}


def __getattr__(name: str) -> Any:
    """The forward model of a system, which needs JAX; what is asked before a fit does not."""
    if name != "ForwardModel":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nstm.systems.forward import ForwardModel

    return ForwardModel
