"""The result of a fit: scene and motion at any time, and how well the frames were explained."""

from __future__ import annotations

import functools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nstm.acquisition import DataError
from nstm.settings import Reconstruction
from nstm.spacetime.displacement import determined, material_displacement, trajectories
from nstm.spacetime.finish import iterations
from nstm.spacetime.fit import Trace
from nstm.spacetime.renderer import Parameters, Renderer, make_renderer, predict
from nstm.spacetime.representation import Coefficients, Motion, relative_times
from nstm.systems.base import ImagingSystem, kinds, system_of_kind
from nstm.systems.forward import ForwardModel

#: Standard error of the displacement (camera pixels) above which it counts as not determined.
DETERMINED_PX = 0.25
#: Share of the noise that every fit takes for structure at the least.
LEAST_FITTED_NOISE = 0.1
#: Pixels between places where the displacement is worked out, at the most.
_LATTICE_PX = 4
_SCHEMA = 5
_PARTS = ("scene", "motion", "change", "illumination")


@dataclass(frozen=True)
class Fit:
    """Scene and motion of one acquisition.

    ``settings`` are those of the start that was kept (where parts slide, of its last pass), ``times_s`` the times of
    the frames, ``residual`` is measured minus predicted ``(m, z, v, u)`` in counts, ``noise_variance`` ``(m,)`` in
    counts squared (``None`` where it cannot be read from the frames), both NaN of a frame that was left out, ``scale``
    the counts that the engine works in units of; the seconds of ``trace`` are those of all starts and passes.
    ``smooth_residual`` is what a smooth motion had left where grids for parts that slide were added, else ``None``.
    """

    system: ImagingSystem
    settings: Reconstruction
    calibration: dict[str, Any]
    frame_shape: tuple[int, int, int]
    pixel_um: float
    times_s: np.ndarray
    parameters: Parameters
    scale: float
    residual: np.ndarray
    noise_variance: np.ndarray | None
    trace: Trace
    smooth_residual: np.ndarray | None = None

    @functools.cached_property
    def renderer(self) -> Renderer:
        """The representation and forward model that the parameters belong to."""
        model = forward_model(
            self.system, self.settings, self.calibration, self.frame_shape, self.pixel_um, self.times_s
        )
        return make_renderer(model, self.settings)

    @property
    def output_pixel_um(self) -> float:
        """Pixel of the result, um."""
        return self.pixel_um / self.system.grid_ratio

    @property
    def located(self) -> bool:
        """Whether a pixel of a measurement sees its own place of the scene, so that places of both can be compared."""
        return self.renderer.model.scene_noise() is None

    @property
    def seen_s(self) -> np.ndarray:
        """Times at which each measurement sees the scene, ``(m, k)``, s, on the clock of the frames."""
        return self._scene_times(self.renderer)

    @property
    def snapshots(self) -> dict[int, np.ndarray]:
        """Scene ``(c, z, y, x)`` at the middle of the acquisition after the steps asked for, as open as it was then."""
        middle = np.array([(self.times_s.min() + self.times_s.max()) / 2])
        opening = self.settings.windows_open_at * (self.settings.steps - iterations(self.renderer, self.settings))
        return {
            step: self._scene(parameters, middle, step / opening if step < opening else 1.0)[0]
            for step, parameters in sorted(self.trace.snapshots.items())
        }

    def scene(self, times_s: np.ndarray) -> np.ndarray:
        """The scene at any times within the acquisition, ``(t, c, z, y, x)`` float32, counts.

        Args:
            times_s: ``(t,)``, s, on the clock of the frames.

        Raises:
            DataError: a time lies outside the acquisition (nothing was measured there).
        """
        return self._scene(self.parameters, times_s)

    def _scene(self, parameters: Parameters, times_s: np.ndarray, alpha: float = 1.0) -> np.ndarray:
        renderer = self.renderer
        parameters = jax.tree.map(jnp.asarray, parameters)
        displacement = jnp.asarray(self._warp(renderer, times_s, parameters, alpha))
        change = renderer.change.in_time(self._share(renderer, times_s))
        return self.scale * np.asarray(renderer.at(parameters, displacement, change, jnp.float32(alpha)))

    def motion(self, times_s: np.ndarray) -> np.ndarray:
        """Material displacement since the previous of ``times_s``, ``(t, d, z, y, x)`` float32, um.

        ``d`` is (y, x) for a single plane, (z, y, x) for a volume. The first time has no previous one: NaN. NaN also
        where the frames do not determine it (empty, textureless).
        """
        renderer = self.renderer
        warps = self._warp(renderer, times_s)
        pitch = self._pitch(renderer)
        shape = tuple(count for _, count in renderer.model.output_field)
        result = np.full((len(times_s), len(pitch), *shape), np.nan, np.float32)
        known = self._determined
        lattice = int(np.clip(renderer.motion.pitch_px, 1, _LATTICE_PX))
        for i in range(1, len(times_s)):
            moved = material_displacement(warps[i], warps[i - 1], lattice) * pitch.reshape(-1, *[1] * len(pitch))
            result[i] = np.where(known, self._field(renderer, moved).reshape(-1, *shape), np.nan)
        return result

    def trajectory(self, points_um: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """Paths of points of the sample, ``(t, n, d)`` um, from their places ``(n, d)`` at the first of ``times_s``.

        ``d`` is (y, x) for a single plane, (z, y, x) for a volume.
        """
        renderer = self.renderer
        pitch = self._pitch(renderer)
        start = np.array([first for first, _ in renderer.model.output_field[-len(pitch) :]], float)
        paths = trajectories(np.asarray(points_um) / pitch + start, self._warp(renderer, times_s))
        return (paths - start) * pitch

    def predicted(self) -> np.ndarray:
        """Predicted measurements ``(m, z, v, u)``, counts."""
        return self.scale * np.asarray(predict(self.renderer, jax.tree.map(jnp.asarray, self.parameters)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fit to one ``.npz`` file (arrays and JSON, nothing pickled)."""
        kept = {str(step): parameters for step, parameters in self.trace.snapshots.items()}
        leaves, _ = jax.tree_util.tree_flatten_with_path({**self.parameters, "snapshots": kept})
        arrays = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
        meta = {
            "schema": _SCHEMA,
            "kind": self.system.kind,
            "system": self.system.settings.model_dump(mode="json"),
            "settings": self.settings.model_dump(mode="json"),
            "calibration": dict(self.calibration),
            "frame_shape": list(self.frame_shape),
            "pixel_um": self.pixel_um,
            "scale": self.scale,
            "seconds": self.trace.seconds,
            "compile_seconds": self.trace.compile_seconds,
            "early": self.trace.early,
            "snapshots": list(self.trace.snapshots),
        }
        optional = {"noise_variance": self.noise_variance, "smooth_residual": self.smooth_residual}
        arrays |= {name: array for name, array in optional.items() if array is not None}
        partial = Path(path).with_name(f".{Path(path).name}.partial-{os.getpid()}")
        with partial.open("wb") as file:
            np.savez(
                file,
                meta=np.array(json.dumps(meta)),
                times_s=self.times_s,
                residual=self.residual,
                loss=self.trace.loss,
                frame_loss=self.trace.frame_loss,
                **arrays,  # type: ignore[arg-type]  # of numpy's stub
            )
        partial.replace(path)

    def _warp(
        self, renderer: Renderer, times_s: np.ndarray, parameters: Parameters | None = None, alpha: float = 1.0
    ) -> np.ndarray:
        times = np.atleast_1d(np.asarray(times_s, np.float64))
        if not times.size:
            raise DataError("no times were asked for: give at least one, in s")
        seen = self._scene_times(renderer)
        first, last = min(self.times_s.min(), seen.min()), max(self.times_s.max(), seen.max())
        slack = 1e-6 * max(1.0, abs(last))
        if times.min() < first - slack or times.max() > last + slack:
            raise DataError(
                f"times {times.min():g} to {times.max():g} s asked for, but the frames of this acquisition "
                f"were taken from {first:g} to {last:g} s; nothing was measured outside"
            )
        in_time = renderer.motion.in_time(self._share(renderer, times))
        motion = jax.tree.map(jnp.asarray, (parameters or self.parameters)["motion"])
        return np.asarray(_displacement(renderer.motion, motion, in_time, jnp.float32(alpha)))

    def _share(self, renderer: Renderer, times_s: np.ndarray) -> np.ndarray:
        """Times as a share of the acquisition, within [0, 1]."""
        times = np.atleast_1d(np.asarray(times_s, np.float64))
        return np.clip(relative_times(times, self._scene_times(renderer)), 0, 1)

    def _scene_times(self, renderer: Renderer) -> np.ndarray:
        """Times at which the measurements see the scene, ``(m, k)``, s, on the clock of the frames."""
        return np.asarray(renderer.model.times, np.float64) + self.times_s.min()

    def _pitch(self, renderer: Renderer) -> np.ndarray:
        """Distance of samples along the axes that move, um."""
        plane = [self.output_pixel_um] * 2
        return np.array([self.system.settings.optics.known("z_step_um"), *plane] if len(renderer.space) == 3 else plane)

    def _field(self, renderer: Renderer, image: np.ndarray) -> np.ndarray:
        field = renderer.model.output_field[-len(renderer.space) :]
        for axis, (first, count) in zip(range(-len(field), 0), field, strict=True):
            image = np.take(image, range(first, first + count), axis=axis)
        return image

    def _slope_of_fitted_noise(self, noise_variance: np.ndarray) -> float:
        """Squared slope per noise variance of the noise that the fit took for structure: white within the passband."""
        left = np.mean(self.residual**2, axis=tuple(range(1, self.residual.ndim))) / np.maximum(noise_variance, 1e-12)
        share = float(np.clip(1 - np.nanmean(left), LEAST_FITTED_NOISE, 1))
        return 2 * share * (2 * np.pi * self.system.passband() * self.pixel_um) ** 2 / 4

    @functools.cached_property
    def _determined(self) -> np.ndarray:
        """Mask ``(z, y, x)`` of the result where the lateral motion is determined."""
        renderer = self.renderer
        shape = tuple(count for _, count in renderer.model.output_field)
        parameters = jax.tree.map(jnp.asarray, self.parameters)
        scene_noise = renderer.model.scene_noise()
        slopes = self._slopes(renderer, parameters) if scene_noise is None else self._scene_slopes(renderer)
        window = max(slopes[0].shape[-2:]) / renderer.motion.cells / 2
        # what the model cannot explain hides a displacement no less than noise does; where the noise is not known, all
        left = np.mean(self.residual**2, axis=tuple(range(1, self.residual.ndim)))
        unexplained = left if self.noise_variance is None else np.maximum(self.noise_variance, left)
        fitted = self._slope_of_fitted_noise(unexplained if self.noise_variance is None else self.noise_variance)
        unexplained = unexplained if scene_noise is None else unexplained * np.asarray(scene_noise)
        seen = np.isfinite(unexplained)  # a frame that was left out tells nothing
        if not seen.all():
            slopes, unexplained = [slope[seen] for slope in slopes], unexplained[seen]
        planes = [
            determined(y, x, unexplained, window, DETERMINED_PX, fitted)
            for y, x in zip(np.moveaxis(slopes[0], 1, 0), np.moveaxis(slopes[1], 1, 0), strict=True)
        ]
        known = np.stack(planes)
        rows, columns = (
            np.minimum((np.arange(n) * known.shape[axis]) // n, known.shape[axis] - 1)
            for axis, n in zip((1, 2), shape[1:], strict=True)
        )
        return known[:, rows[:, None], columns[None, :]]

    def _slopes(self, renderer: Renderer, parameters: Parameters) -> list[np.ndarray]:
        """Change of every predicted measurement when the scene moves by a camera pixel along y, and along x."""
        slopes = []
        for axis in (-2, -1):
            half = np.zeros(len(renderer.space), np.float32)
            half[axis] = self.system.grid_ratio / 2  # half a camera pixel
            there, back = (predict(renderer, parameters, jnp.asarray(sign * half)) for sign in (1, -1))
            slopes.append(self.scale * np.asarray(there - back))
        return slopes

    def _scene_slopes(self, renderer: Renderer) -> list[np.ndarray]:
        """The same of the scene at the time of every measurement, all channels taken together."""
        scenes = self.scene(self._scene_times(renderer).mean(axis=1))
        slopes = np.gradient(scenes, axis=(-2, -1))
        return [np.sqrt(np.sum(s**2, axis=1)) * np.sign(s.sum(axis=1)) * self.system.grid_ratio for s in slopes]


@eqx.filter_jit
def _displacement(motion: Motion, coefficients: Coefficients, in_time: Any, alpha: Array) -> Array:
    """The warp at some times, ``(t, d, *space)``."""
    return motion.render(coefficients, in_time, alpha)


def forward_model(
    system: ImagingSystem,
    settings: Reconstruction,
    calibration: dict[str, Any],
    frame_shape: tuple[int, int, int],
    pixel_um: float,
    times_s: np.ndarray,
) -> ForwardModel:
    """The instrument of one acquisition, its times from the first frame."""
    return system.forward(frame_shape, times_s - times_s.min(), calibration, pixel_um, settings.padding_px)


def load(path: str | os.PathLike[str]) -> Fit:
    """Read a fit that :meth:`Fit.save` wrote.

    Raises:
        DataError: not such a file, or of an unknown version.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in file.files}
        meta = json.loads(str(arrays["meta"]))
    except (OSError, EOFError, ValueError, TypeError, KeyError, BadZipFile) as error:
        raise DataError(f"{path}: not a saved fit ({error}); give a file that fit.save wrote") from error
    if meta.get("schema") != _SCHEMA:
        raise DataError(
            f"{path}: fit of version {meta.get('schema')!r}, this program reads version {_SCHEMA}: fit it again, or "
            "read it with the program that wrote it"
        )
    if meta["kind"] not in kinds():
        raise DataError(f"{path}: fit of the system {meta['kind']!r}, registered are: {', '.join(sorted(kinds()))}")
    system = system_of_kind(meta["kind"])
    snapshots = {
        step: {part: _tree(arrays, f"snapshots/{step}/{part}") for part in _PARTS} for step in meta["snapshots"]
    }
    return Fit(
        system=system(system.Settings.model_validate(meta["system"])),
        settings=Reconstruction.model_validate(meta["settings"]),
        calibration=meta["calibration"],
        frame_shape=tuple(meta["frame_shape"]),
        pixel_um=meta["pixel_um"],
        times_s=arrays["times_s"],
        parameters={part: _tree(arrays, part) for part in _PARTS},
        scale=meta["scale"],
        residual=arrays["residual"],
        noise_variance=arrays.get("noise_variance"),
        trace=Trace(
            arrays["loss"], arrays["frame_loss"], meta["seconds"], meta["compile_seconds"], snapshots, meta["early"]
        ),
        smooth_residual=arrays.get("smooth_residual"),
    )


def _tree(arrays: dict[str, np.ndarray], name: str) -> Any:
    """The tree of arrays whose places in it are their names, ``part/key/number``."""
    if name in arrays:
        return arrays[name]
    keys = list(dict.fromkeys(n[len(name) + 1 :].split("/")[0] for n in arrays if n.startswith(f"{name}/")))
    children = [_tree(arrays, f"{name}/{key}") for key in keys]
    return children if keys and keys[0].isdigit() else dict(zip(keys, children, strict=True))
