"""The rule `figures`: the figures of a sample for the page, each with what it shows in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from nstm.acquisition import DataError, frame_shape_of, main_channel
from nstm.illumination.transfer import SeenTransfer
from nstm.io.jsonfile import read_json, write_json
from nstm.io.store import open_raw, replace_whole
from nstm.pipeline.experiment import Stage
from nstm.pipeline.fits import snapshots_of
from nstm.pipeline.panels import Shown, panels_of
from nstm.systems.base import ImagingSystem
from nstm.visual.arrows import in_plane
from nstm.visual.curves import frc_figure, loss_figure, profile_figure
from nstm.visual.figures import save_png
from nstm.visual.motion import backward_paths, motion_figure, paths_figure
from nstm.visual.optics import transfer_figure
from nstm.visual.overlay import overlay_figure
from nstm.visual.panels import colours_of, intensity_range, plane, volume
from nstm.visual.preview import write_small
from nstm.visual.rows import rows_figure
from nstm.visual.series import Panel, block_of
from nstm.visual.snapshots import snapshots_figure
from nstm.visual.spectra import illumination_figure, spectra_figure
from nstm.visual.text import time_labels

#: Methods in the order in which figures show them; those of other names come last.
_ORDER = ("widefield", "conventional", "nstm", "static")
#: Points along the shorter side whose paths are shown.
_POINTS = 22
_DPI = 130
#: Arrays of a transfer function in ``illumination.json``, in the order of :class:`SeenTransfer`.
_CURVES = ("frequency", "assumed", "seen")


def run_figures(
    params: Mapping[str, Any],
    raw_store: str | Path,
    illumination_json: str | Path,
    metrics_json: str | Path,
    first_fit: str | Path,
    files: Shown,
    out_folder: str | Path,
    pictures: Mapping[str, str | Path] | None = None,
) -> None:
    """Write a folder with PNG files and ``figures.json``, which lists them with titles and captions in order.

    A figure that a sample gives no ground for (no truth, no displacement, no pattern) is left out.

    Args:
        params: of the stage.
        raw_store: frames of the sample.
        illumination_json: its consensus says what the instrument transfers, its transfer functions what is seen of it.
        metrics_json: holds the loss of the fits.
        first_fit: record of the sample's first job, with the snapshots of its first fit.
        files: stores of the sample.
        out_folder: folder to write.
        pictures: ``movie``, ``still`` and ``quality``; of these and of the figures ``small`` then holds copies
            for the page.
    """
    stage = Stage.from_params(params)
    raw = open_raw(raw_store)
    named = str(params["sample"].get("truth") or "")
    wanted = sorted(files.stores, key=lambda n: (_ORDER.index(n) if n in _ORDER else len(_ORDER), n))
    light = read_json(illumination_json)
    sample = Sample(
        panels=panels_of(files, wanted, named),
        has_truth=files.truth is not None,
        raw=raw,
        system=stage.system_of(raw),
        consensus=light["consensus"],
        transfer=[SeenTransfer(o["order"], *(np.array(o[k], float) for k in _CURVES)) for o in light["transfer"]],
        fits=[f for f in read_json(metrics_json).get("fits") or [] if f.get("loss")],
        snapshots=snapshots_of(first_fit),
        saturated_percent=float(params["saturated_percent"]),
    )
    listed = []
    with replace_whole(Path(out_folder)) as folder:
        folder.mkdir()
        for drawing in drawings_of(sample):
            try:
                figure = drawing.draw()
            except DataError:  # no method has a result where this figure would look
                continue
            save_png(figure, folder / f"{drawing.name}.png", dpi=_DPI)
            listed.append({"file": f"{drawing.name}.png", "title": drawing.title, "caption": drawing.caption})
        write_json(folder / "figures.json", {"figures": listed})
        if pictures is not None:
            others = {name: Path(path) for name, path in pictures.items()}
            write_small(folder / "small", figures=[folder / entry["file"] for entry in listed], **others)


@dataclass(frozen=True)
class Sample:
    """What the figures of a sample are drawn from."""

    panels: list[Panel]
    has_truth: bool
    raw: xr.Dataset
    system: ImagingSystem
    consensus: Mapping[str, Any]
    transfer: list[SeenTransfer]
    fits: list[dict[str, Any]]
    snapshots: dict[int, np.ndarray]
    saturated_percent: float

    @property
    def nstm(self) -> Panel:
        """The panel of the fit, or the last one where there is none."""
        return next((p for p in self.panels if p.displacement is not None), self.panels[-1])

    @property
    def truth(self) -> Panel | None:
        """The panel of the truth, where there is one."""
        known = self.has_truth and self.panels[-1].name.startswith(("truth", "reference"))
        return self.panels[-1] if known else None

    @cached_property
    def results(self) -> np.ndarray:
        """``(panel, t)``, whether a panel has a result at a time."""
        times = range(self.nstm.images.sizes["t"])
        return np.array([[bool(np.isfinite(plane(p.images, i)).any()) for i in times] for p in self.panels])

    @cached_property
    def acquisition(self) -> list[int]:
        """Times of the acquisition that the figures show: with most results, and of these the one that moves most."""
        count = self.nstm.images.sizes["t"]
        found = block_of([self.nstm], 0)
        each = count // self.raw.sizes["t"] if found is None else found[2]
        starts = range(0, count - each + 1, max(each, 1))

        def worth(start: int) -> tuple[int, float]:
            inside = range(start, start + each)
            return int(self.results[:, list(inside)].sum()), sum(map(self.step_um, inside[1:]))

        best = max(starts, key=worth)
        return list(range(best, best + each))

    @property
    def raw_index(self) -> int:
        """Number in the raw store of the acquisition that the figures show."""
        each = self.nstm.images.sizes["t"] / self.raw.sizes["t"]
        return min(int(self.acquisition[0] / each), self.raw.sizes["t"] - 1)

    def step_um(self, index: int) -> float:
        """Median length of the displacement since the time before, um; 0 where nothing is known of it."""
        moved = self.nstm.moved(index)
        return 0.0 if moved is None else float(np.nanmedian(np.hypot(*moved[-2:])))

    @property
    def time(self) -> int:
        """The time that figures of one time show."""
        inside = self.acquisition
        return max(inside, key=lambda i: (int(self.results[:, i].sum()), -abs(i - inside[len(inside) // 2])))

    def where(self, index: int) -> str:
        """A time in words."""
        stamp = time_labels(self.nstm.images["t"].values)[index]
        found = block_of([self.nstm], index)
        return f"t = {stamp}" if found is None else f"{stamp}, acquisition {found[0]}, {found[3]} {found[1]}"


class Drawing(NamedTuple):
    """A figure that can be drawn: name of its file, what stands above and below it."""

    name: str
    title: str
    caption: str
    draw: Callable[[], Figure]


def drawings_of(sample: Sample) -> Iterator[Drawing]:
    """The figures that a sample gives ground for, in the order of the page."""
    yield from _of_rows(sample)
    yield from _of_motion(sample)
    limits = sample.system.passband(), sample.system.cutoff(sample.consensus)
    if colours_of(sample.nstm.images) == "gray":
        caption = (
            "What each method holds beyond the diffraction limit (dashed); nothing is transferred beyond the orange."
        )
        yield Drawing("spectra", "Spectra", caption, partial(spectra_figure, sample.panels, sample.time, *limits))
    caption = "The same line through every method, scaled to black and white of its panel."
    percent = sample.saturated_percent
    draw = partial(profile_figure, sample.panels, sample.time, saturated_percent=percent)
    yield Drawing("profile", "Line profile", caption, draw)
    truth = sample.truth
    if truth is not None:
        caption = "With the truth, at the same time: 1 is perfect, below 1/7 nothing is resolved."
        methods = [p for p in sample.panels if p is not truth]
        yield Drawing(
            "frc", "Fourier ring correlation", caption, partial(frc_figure, methods, truth, sample.time, *limits)
        )
    vectors = sample.consensus.get("pattern_vectors")
    if vectors:
        caption = "Mean spectrum of the raw frames of one acquisition; the peaks of the pattern are circled."
        yield Drawing("illumination", "Illumination", caption, partial(_illumination, sample, vectors))
    if sample.transfer:
        caption = (
            "The transfer function of every order as it is assumed (lines) and as the frames show it (dots). Dots off "
            "their line speak for another numerical aperture, wavelength or pixel size, or for aberrations."
        )
        yield Drawing("transfer", "Transfer functions", caption, partial(transfer_figure, sample.transfer))
    if sample.snapshots:
        caption = "The scene of the first acquisition on the way of its fit: levels open from coarse to fine."
        images = sample.nstm.images
        pixel_um, channel = float(images.attrs["pixel_um"]), main_channel(images)
        draw = partial(snapshots_figure, sample.snapshots, pixel_um, channel=channel, saturated_percent=percent)
        yield Drawing("snapshots", "From coarse to fine", caption, draw)
    if sample.fits:
        caption = "Mean squared residual over the steps: levels open from coarse to fine, so it falls in stages."
        yield Drawing("loss", "Loss of the fits", caption, partial(loss_figure, sample.fits))


def _of_motion(sample: Sample) -> Iterator[Drawing]:
    times = sample.acquisition
    if len(times) > 1 and colours_of(sample.nstm.images) == "gray":
        caption = f"The {len(times)} times of one acquisition in different colours, from {sample.where(times[0])}."
        draw = partial(overlay_figure, sample.panels, times, saturated_percent=sample.saturated_percent)
        yield Drawing("overlay", "Colour-coded time", caption, draw)
    known = [i for i in times[1:] if sample.nstm.moved(i) is not None]
    if not known:
        return
    at = max(known, key=sample.step_um)
    caption = f"How far the structure came since the time before ({sample.where(at)}); arrows end at the structure."
    yield Drawing("displacement", "Displacement", caption, partial(_displacement, sample, at))
    if len(known) == len(times) - 1 > 1:
        caption = f"Paths over one acquisition, followed backwards from its last time ({sample.where(times[-1])})."
        yield Drawing("paths", "Trajectories", caption, partial(_paths, sample, times))


def _lateral(panel: Panel, index: int) -> np.ndarray:
    """Displacement ``(2, y, x)`` um of what the picture of a time shows; NaN where nothing is known."""
    moved = panel.moved(index)
    if moved is None:
        return np.full((2, panel.images.sizes["y"], panel.images.sizes["x"]), np.nan, np.float32)
    return in_plane(moved, volume(panel.images, index))


def _displacement(sample: Sample, index: int) -> Figure:
    panel = sample.nstm
    limits = intensity_range(panel.images, sample.saturated_percent)
    pixel_um = float(panel.images.attrs["pixel_um"])
    return motion_figure(
        plane(panel.images, index), _lateral(panel, index), pixel_um,
        title=f"{panel.name}: displacement since the previous time", limits=limits, outlines=panel.outlined(index),
    )  # fmt: skip


def _paths(sample: Sample, times: list[int]) -> Figure:
    panel = sample.nstm
    pixel_um = float(panel.images.attrs["pixel_um"])
    image = plane(panel.images, times[-1])
    displacement = np.stack([_lateral(panel, i) for i in times])
    step = max(1, min(image.shape) // _POINTS)
    rows, columns = np.mgrid[step // 2 : image.shape[0] : step, step // 2 : image.shape[1] : step]
    points = np.stack([rows.ravel(), columns.ravel()], axis=-1) * pixel_um
    paths = backward_paths(displacement, points, pixel_um)
    limits = intensity_range(panel.images, sample.saturated_percent)
    title = f"{panel.name}: paths over one acquisition"
    return paths_figure(image, paths, panel.images["t"].values[times], pixel_um, limits=limits, title=title)


def _of_rows(sample: Sample) -> Iterator[Drawing]:
    index = sample.raw_index
    acquisition = sample.raw.isel(t=index)
    parts = sample.system.parts(acquisition["time"].values, frame_shape_of(sample.raw))
    if parts:
        frames = acquisition["frames"].values
        frame = frames.reshape(-1, *frames.shape[-2:])[0].astype(np.float64) - sample.system.settings.camera.offset
        caption = "The rows of a frame were exposed one after the other; colours as in the trajectories."
        draw = partial(rows_figure, frame, sample.raw.attrs["pixel_um"], parts)
        yield Drawing("rows", "Exposed rows", caption, draw)


def _illumination(sample: Sample, vectors: list[list[float]]) -> Figure:
    """Spectrum of the frames of the acquisition that the figures show."""
    frames = sample.raw["frames"].isel(t=sample.raw_index).values
    frames = frames.reshape(-1, *frames.shape[-3:])[:, frames.shape[-3] // 2].astype(np.float64)
    modulation = sample.consensus.get("modulation") or [[1]]
    orders = max(1, len(modulation[0]) if isinstance(modulation[0], list) else 1)
    return illumination_figure(frames, sample.raw.attrs["pixel_um"], vectors, orders, sample.system.passband())
