"""Results as layers of a viewer, as plain data: ``(data, keywords, type)``, which is what napari's readers return.

All layers share the axes ``t z y x`` of the time lapses; the raw frames have an axis ``raw`` before them and stand at
every time of their acquisition. Scales are those of the stores, s and um; the exact times stand in ``metadata``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from scipy.ndimage import map_coordinates

from nstm.acquisition import Channel, DataError, channels_of, frame_axes_of, in_colour, main_channel
from nstm.io.protocol import clean_text, shown
from nstm.io.store import is_raw, open_raw, open_timelapse
from nstm.pipeline.provenance import RAW
from nstm.visual.colour import direction_colours, lookup
from nstm.visual.panels import intensity_range

LayerData = tuple[Any, dict[str, Any], str]

#: Time lapses from the bottom to the top, and what their layers are called; motion becomes vectors and tracks.
PRODUCTS = {
    "widefield": "widefield",
    "conventional": "conventional, moving window",
    "static": "fit without motion",
    "nstm": "NSTM",
}
_AXES = ("t", "z", "y", "x")
_UNITS = ("second", "micrometer", "micrometer", "micrometer")
#: Arrows and tracks along the longer side of a plane, and planes that have them.
_ARROWS, _TRACKS, _PLANES = 32, 16, 8
#: Times looked at for the range of brightness.
_SAMPLED_TIMES = 12


def view_layers(path: str | Path) -> list[LayerData]:
    """The layers of a sample, a store, or an experiment of one sample, from the bottom to the top.

    Args:
        path: ``results/SAMPLE``, one of the stores in it, or ``results`` where it holds one sample.

    Raises:
        DataError: nothing to show there, several samples, or a damaged store.
    """
    path = Path(path)
    if (path / "zarr.json").is_file():
        if is_raw(path):
            return [_raw_layer(open_raw(path))]
        images = open_timelapse(path)
        return _motion_layers(images) if _is_motion(images) else _image_layers(images, str(images.attrs.get("label")))
    return list(_sample_layers(_sample_folder(path)))


def layers_text(layers: Sequence[LayerData]) -> str:
    """One line for every layer: its type, name, shape and scale."""
    lines = []
    for data, keywords, kind in layers:
        scale = " x ".join(f"{step:.4g}" for step in keywords["scale"])
        axes = " ".join(keywords["axis_labels"])
        lines.append(f"{kind:<8} {keywords['name']}: {' x '.join(map(str, data.shape))}; {axes} in steps of {scale}")
    return "\n".join(lines)


def _sample_folder(path: Path) -> Path:
    if not path.is_dir():
        raise DataError(f"{shown(path)}: no such folder: name results/SAMPLE, or a store in it")
    if _has_stores(path):
        return path
    found = sorted(folder for folder in path.iterdir() if folder.is_dir() and _has_stores(folder))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(clean_text(folder.name) for folder in found[:20])
        raise DataError(f"{shown(path)}: several samples, {names}: name one of them, e.g. {shown(found[0])}")
    raise DataError(f"{shown(path)}: no stores in it: name results/SAMPLE, or run the workflow first")


def _has_stores(folder: Path) -> bool:
    return (folder / RAW / "zarr.json").is_file() or any((folder / "timelapse").glob("*.ome.zarr"))


def _sample_layers(folder: Path) -> Iterator[LayerData]:
    found = {name: folder / "timelapse" / f"{name}.ome.zarr" for name in (*PRODUCTS, "motion")}
    stores = {name: open_timelapse(path) for name, path in found.items() if (path / "zarr.json").is_file()}
    if (folder / RAW / "zarr.json").is_file():
        times = next((images["t"].values for images in stores.values()), None)
        yield _raw_layer(open_raw(folder / RAW), times)
    top = [name for name in PRODUCTS if name in stores][-1:]
    for name, title in PRODUCTS.items():
        if name in stores:
            yield from _image_layers(stores[name], title, visible=[name] == top)
    if "motion" in stores:
        yield from _motion_layers(stores["motion"])


def _raw_layer(raw: xr.Dataset, times_s: np.ndarray | None = None) -> LayerData:
    """The frames ``(frame, t, z, y, x)``, at ``times_s`` those of the acquisition that each time belongs to."""
    count, axes = raw.sizes["t"], frame_axes_of(raw)
    starts = raw["time"].values.reshape(count, -1).min(axis=1)
    times_s = starts if times_s is None or len(times_s) % count else times_s
    acquisition = np.repeat(np.arange(count), len(times_s) // count)
    frames = da.asarray(raw["frames"].data)
    flat = frames.reshape(count, -1, *frames.shape[-3:])
    names = [" ".join(f"{a} {i}" for a, i in zip(axes, at, strict=True)) for at in np.ndindex(*frames.shape[1:-3])]
    common = _common("raw frames", times_s, raw.attrs["z_step_um"], raw.attrs["pixel_um"])
    keywords = {
        **common,
        "scale": (1.0, *common["scale"]),
        "translate": (0.0, *common["translate"]),
        "axis_labels": ("raw", *common["axis_labels"]),
        "units": ("pixel", *common["units"]),
        "colormap": "gray",
        "contrast_limits": _percentiles(np.asarray(flat[0])),
        "visible": False,
    }
    keywords["metadata"]["frames"] = names
    return flat[acquisition].transpose(1, 0, 2, 3, 4), keywords, "image"


def _image_layers(images: xr.DataArray, title: str, visible: bool = True) -> list[LayerData]:
    """One layer for every channel; the main one is shown, or all colours of a picture."""
    channels, main = channels_of(images), main_channel(images)
    together = in_colour(channels)
    layers: list[LayerData] = []
    for index, channel in enumerate(channels):
        keywords = {
            **_of_store(title if len(channels) == 1 else f"{title}: {clean_text(channel.name)}", images),
            "colormap": _colormap(channel),
            "contrast_limits": _limits(images, None if together else index),
            "visible": visible and (together or index == main),
            **({"blending": "additive"} if together else {}),
        }
        layers.append((images.isel(c=index).data, keywords, "image"))
    return layers


def _motion_layers(motion: xr.DataArray) -> list[LayerData]:
    """Arrows that end at a structure, and the ways that structures took."""
    steps = _steps_px(motion)
    return [_vectors(motion, steps), _tracks(motion, steps)]


def _vectors(motion: xr.DataArray, steps: np.ndarray) -> LayerData:
    """Displacement since the previous time as arrows ``(arrow, start | step, t z y x)`` that end at the structure.

    Small displacements are drawn larger, and the name says how much; ``features`` have the true lengths.
    """
    shape = steps.shape[2:]
    at = _lattice(shape, _ARROWS)
    arrows = []
    for t, step in enumerate(steps):
        moved = step[(slice(None), *at.T)].T
        known = np.isfinite(moved).all(axis=1)
        arrows.append(np.pad(np.stack([at[known] - moved[known], moved[known]], axis=1), ((0, 0), (0, 0), (1, 0))))
        arrows[-1][:, 0, 0] = t
    data = np.concatenate(arrows)
    um = data[:, 1, 1:] * _pitch(motion)
    drawn = _enlargement(data[:, 1], max(shape[-2:]) / _ARROWS)
    data[:, 0] -= (drawn - 1) * data[:, 1]
    data[:, 1] *= drawn
    keywords = {
        **_of_store("motion" + (f", drawn {drawn} x" if drawn > 1 else ""), motion),
        "features": {"length_um": np.linalg.norm(um, axis=1), "direction_deg": np.degrees(np.arctan2(*um[:, -2:].T))},
        "edge_color": np.concatenate([direction_colours(um[:, -2:]), np.ones((len(um), 1))], axis=1),
        "edge_width": max(shape[-2:]) / 500,
        "vector_style": "arrow",
    }
    return data, keywords, "vectors"


def _enlargement(steps: np.ndarray, room_px: float) -> int:
    """How many times longer arrows are drawn, so that all but the longest fit between their neighbours."""
    longest = float(np.percentile(np.linalg.norm(steps[:, -2:], axis=1), 95)) if len(steps) else 0.0
    return next((times for times in (100, 50, 20, 10, 5, 2) if 0 < times * longest <= room_px), 1)


def _tracks(motion: xr.DataArray, steps: np.ndarray) -> LayerData:
    """Ways of material points ``(point, id t z y x)`` through each acquisition, back from its last time.

    Where a structure is at ``t`` and its displacement since the time before tell where it was: exact but for the
    interpolation between pixels. A track ends where the displacement is not determined.
    """
    rows, number = [], 0
    determined = np.isfinite(steps).all(axis=1).any(axis=(1, 2, 3))
    for last in np.flatnonzero(determined & ~np.append(determined[1:], False)):
        at = _lattice(steps.shape[2:], _TRACKS).astype(float)
        identity, t = number + np.arange(len(at)), int(last)
        number += len(at)
        while len(at):
            rows.append(np.column_stack([identity, np.full(len(at), t), at]))
            if t == 0:
                break
            moved = np.stack([map_coordinates(part, at.T, order=1, cval=np.nan) for part in steps[t]], axis=1)
            known = np.isfinite(moved).all(axis=1)
            identity, at, t = identity[known], (at - moved)[known], t - 1
    data = np.concatenate(rows) if rows else np.empty((0, 2 + steps.ndim - 2))
    lengths = np.unique(data[:, 0], return_counts=True)
    data = data[np.isin(data[:, 0], lengths[0][lengths[1] > 1])]
    data = data[np.lexsort((data[:, 1], data[:, 0]))]
    times = motion["t"].values
    keywords = {
        **_of_store("tracks", motion),
        "features": {"time_s": times[data[:, 1].astype(int)]},
        "color_by": "time_s",
        "colormap": "viridis",
        "tail_length": len(times),
        "visible": False,
    }
    return data, keywords, "tracks"


def _steps_px(motion: xr.DataArray) -> np.ndarray:
    """The displacements ``(t, z y x, z, y, x)`` in pixels and planes; those of one plane stay in it."""
    steps = np.asarray(motion.values, np.float32)
    if steps.shape[1] == 2:
        steps = np.pad(steps, ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))
    return steps / _pitch(motion)[None, :, None, None, None].astype(np.float32)


def _lattice(shape: Sequence[int], count: int) -> np.ndarray:
    """Places ``(place, z y x)`` of a lattice, ``count`` along the longer side of a plane."""
    pitch = max(1, round(max(shape[1:]) / count))
    between = (max(1, round(shape[0] / _PLANES)), pitch, pitch)
    sides = [np.arange(step // 2, length, step) for length, step in zip(shape, between, strict=True)]
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, 3)


def _of_store(name: str, images: xr.DataArray) -> dict[str, Any]:
    keywords = _common(name, images["t"].values, images.attrs.get("z_step_um"), images.attrs["pixel_um"])
    keywords["metadata"]["flags"] = [clean_text(flag) for flag in images.attrs["flags"]]
    return keywords


def _common(name: str, times_s: np.ndarray, z_step_um: float | None, pixel_um: float) -> dict[str, Any]:
    """Keywords of every layer. Steps of time may differ: ``scale`` has their median, ``metadata`` all times."""
    steps = np.diff(times_s)
    step = float(np.median(steps[steps > 0])) if np.any(steps > 0) else 1.0
    return {
        "name": name,
        "scale": (step, float(z_step_um or 1.0), float(pixel_um), float(pixel_um)),
        "translate": (float(times_s[0]), 0.0, 0.0, 0.0),
        "axis_labels": _AXES,
        "units": _UNITS,
        "metadata": {"times_s": [float(t) for t in times_s]},
    }


def _pitch(images: xr.DataArray) -> np.ndarray:
    """Distance of planes, rows and columns, um."""
    pixel = float(images.attrs["pixel_um"])
    return np.array([images.attrs.get("z_step_um") or 1.0, pixel, pixel])


def _is_motion(images: xr.DataArray) -> bool:
    return all(name.startswith("displacement_") for name in map(str, images["c"].values))


def _colormap(channel: Channel) -> Any:
    if channel.colour == "signed":
        return "red and blue about zero", lookup("RdBu_r") / 255.0
    return "gray" if channel.colour == "grey" else channel.colour


def _limits(images: xr.DataArray, channel: int | None) -> tuple[float, float]:
    """The range that movies and figures show, from some of the times; ``None``: of all colours together."""
    chosen = np.unique(np.linspace(0, images.sizes["t"] - 1, _SAMPLED_TIMES).round().astype(int))
    if channel is None:
        return intensity_range(images.isel(t=chosen))
    one = images.isel(t=chosen, c=[channel])
    about = images.attrs.get("channel_about")
    one.attrs = {**images.attrs, "channel_about": about and [about[channel]]}
    return intensity_range(one)


def _percentiles(frames: np.ndarray) -> tuple[float, float]:
    finite = frames[np.isfinite(frames)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, (0.1, 99.9)))
    return low, high if high > low else low + 1.0
