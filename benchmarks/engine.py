"""What a fit costs: per step beside the floor of its own transforms and warps, to a quality, to convergence.

python benchmarks/engine.py [--device cpu|gpu] [--match TEXT] [--json OUT]

Every case runs in a process of its own, without a compilation cache. Seconds are those of the processor on a CPU (all
threads together) and of the clock on a GPU, after compilation. *Floor*: the warps of a step and its Fourier transforms,
each forward and backward, alone in the same process. *Converged*: from there on the loss stays within 5 % of its last.
*To the reference*: the first snapshot (25 in a fit, all levels open) that reaches the published code's quality.
Cases of the published simulator are read from NSTM_TEST_CASES (default ../shared/cases) and left out where absent.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from skimage.metrics import structural_similarity

import nstm
from nstm.metrics import psnr_equalised, psnr_plain
from nstm.settings import Reconstruction, override
from nstm.simulate import DpcMicroscope, Recording, SimMicroscope, VolumeMicroscope, simulate_volume
from nstm.simulate.imaging import calibration_of, stacked, system_of
from nstm.simulate.sim import simulate_sim, structure_area
from nstm.simulate.structures import Points, er_network, filaments, through_depth
from nstm.simulate.studies import MOTIONS, Field
from nstm.spacetime.finish import iterations
from nstm.spacetime.memory import peak_bytes
from nstm.spacetime.renderer import Renderer, make_renderer, predict
from nstm.spacetime.representation import KnownMotion
from nstm.spacetime.result import Fit, forward_model
from nstm.spacetime.warp import gather, pack, scatter, unpack
from nstm.systems.base import ImagingSystem
from nstm.systems.dpc import Dpc, DpcSettings
from nstm.systems.sim import Sim, SimSettings

PUBLISHED = Path(os.environ.get("NSTM_TEST_CASES", Path(__file__).parents[2] / "shared" / "cases")) / "spacetime"
_EVERY = 20
#: Room for what moves in, um.
_TRAVEL_UM = 1.5
PASS = {"status": "pass", "reasons": []}

#: Scenes ``(t, c, z, y, x)`` in; dB (the figure of the reference), SSIM, and dB equalised where it is defined.
Quality = Callable[[np.ndarray], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Case:
    """One acquisition to fit; ``reference_db``: quality that the published code ended with."""

    system: ImagingSystem
    frames: np.ndarray
    times: np.ndarray
    calibration: dict[str, Any] = dataclasses.field(default_factory=lambda: dict(PASS))
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)
    quality: Quality | None = None
    quality_times: np.ndarray | None = None
    reference_db: float | None = None
    at_rest: bool = False  # also fit the static model, to compare with

    @property
    def settings(self) -> Reconstruction:
        """The defaults of the system with the changes of the case."""
        return override(override(Reconstruction(), dict(self.system.fit_defaults)), self.changes)


def published_dpc(name: str, **changes: Any) -> Case:
    """A DPC case of the published simulator: its phase is in units of the wavelength (um)."""
    with np.load(PUBLISHED / f"{name}.npz") as case:
        frames, truth, t, wavelength = (case[k] for k in ("img", "phase_gt", "t", "wavelength"))
    optics = {"na": 0.25, "emission_wavelength_um": float(wavelength), "pixel_um": 0.454}
    system = Dpc(DpcSettings.model_validate({"optics": optics, "background": {"method": "none"}}))
    times = (t - t[0]) / (t[-1] - t[0])
    edge = truth.shape[-1] // 8

    def quality(scenes: np.ndarray) -> dict[str, float]:
        db, similarity = [], []
        for image, true in zip(scenes[:, -1, 0] * float(wavelength), truth, strict=True):
            a, b = (i[edge:-edge, edge:-edge] - i[edge:-edge, edge:-edge].mean() for i in (image, true))
            db.append(10 * np.log10(np.ptp(b) ** 2 / np.mean((a - b) ** 2)))
            similarity.append(structural_similarity(a, b, data_range=np.ptp(b)))
        return {"db": float(np.mean(db)), "ssim": float(np.mean(similarity))}

    reference = {"dpc64_swirl": 16.9, "dpc_swirl": 12.2}.get(name)
    return Case(system, frames[:, None], times[:, None], dict(PASS), changes, quality, times, reference)


def published_sim(name: str) -> Case:
    """A SIM case of the published simulator, its illumination given."""
    with np.load(PUBLISHED / f"{name}.npz") as data:
        case = dict(data)
    pixel = float(case["ps"])
    optics = {"na": 1.28, "index": 1.33, "pixel_um": pixel, "upsampling": 1.6, "pixel_integration": False}
    optics |= {"emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488}
    illumination = {"angles": 3, "phases": 5, "beams": 3}
    system = Sim(SimSettings.model_validate({"optics": optics, "illumination": illumination}))
    angles, spacing = case["k0angles"] + np.pi, case["line_spacing"]
    waves = np.stack([np.sin(angles), np.cos(angles)], axis=1) / spacing[:, None]
    centre = waves.sum(axis=1) * 64 * pixel / 1.6  # their phases are those of the middle of the field and fall
    steps = 2 * np.pi * np.arange(5) / 5
    phases = steps - (np.ravel(case["start_phase"]) - 2 * np.pi * centre)[:, None]
    calibration = {
        **PASS,
        "pattern_vectors": (-waves).tolist(),
        "phases": phases.tolist(),
        "modulation": [[1.0, 0.5]] * 3,
        "intensity": np.ones((3, 5)).tolist(),
    }
    truth = case["fluo_gt"].reshape(15, 128, 128).astype(np.float32)
    quality = _of_intensity(truth, pixel / 1.6, 2 * 1.28 / 0.515 + 2 / float(spacing.mean()))
    times = np.arange(15.0).reshape(3, 5, 1)
    frames = case["raw_camera"].reshape(3, 5, 1, 80, 80)
    return Case(system, frames, times, calibration, {"steps": 500}, quality, times.ravel(), 13.2)


def _of_intensity(truth: np.ndarray, pixel_um: float, kc: float) -> Quality:
    def quality(scenes: np.ndarray) -> dict[str, float]:
        pairs = list(zip(scenes[:, 0].squeeze(1) if truth.ndim == 3 else scenes[:, 0], truth, strict=True))
        figures = {"db": psnr_plain, "equalised_db": psnr_equalised}
        found = {k: float(np.mean([f(s, t, pixel_um, kc) for s, t in pairs])) for k, f in figures.items()}
        return found | {"ssim": float(np.mean([nstm.metrics.ssim(s, t, pixel_um, kc) for s, t in pairs]))}

    return quality


def simulated(recording: Recording, **more: Any) -> Case:
    """A recording of this package's own simulator, its illumination given."""
    system, (frames, times) = system_of(recording.microscope), stacked(recording)
    kc = system.cutoff(recording.calibration)
    quality = _of_intensity(recording.truth, recording.spacing_um[-1], kc)
    more = {"quality": quality, "quality_times": recording.truth_times, **more}
    return Case(system, frames, times, calibration_of(recording), **more)


def two_beam(pixels: float) -> Case:
    """Two beams, 9 frames of 120 x 120 pixels, an ER-like network that flows by some pixels in all."""
    m = SimMicroscope(shape=(120, 120))
    motion = MOTIONS["flow"](Field.of(m, 3), pixels)
    return simulated(simulate_sim(er_network(3, structure_area(m, _TRAVEL_UM)), motion, m, 1, 3))


def beads(side: int = 80) -> Case:
    """Beads on a stage: three beams, 15 frames, the whole field moves alike by 8 pixels."""
    m = _three_beam((side, side))
    area = structure_area(m, _TRAVEL_UM)
    rng = np.random.default_rng(4)
    places = area.uniform(rng, round(2 * float(np.prod(area.size))))
    motion = MOTIONS["translation"](Field.of(m, 4), 8)
    return simulated(simulate_sim(Points(places, np.full(len(places), 30.0)), motion, m, 1, 4))


def volume() -> Case:
    """15 stacks of 8 planes of 64 x 64 pixels and those beyond: filaments that swirl; one start."""
    m = VolumeMicroscope(photons=1000.0, guard_px=12, order="angle phase z")
    points = filaments(5, structure_area(m, _TRAVEL_UM))
    deep = through_depth(points, 5, 0.0, (m.planes - 1) * m.z_step_um).merged(0.4 * m.pixel_um)
    motion = MOTIONS["swirl"](Field.of(m, 5), 1.2)
    return simulated(simulate_volume(deep, motion, m, 1, 5), changes={"starts": 1}, at_rest=True)


def _three_beam(shape: tuple[int, int]) -> SimMicroscope:
    modulation = ((0.8, 0.6), (0.75, 0.55), (0.85, 0.65))
    return SimMicroscope(shape=shape, beams=3, phases=5, finest_share=0.9, modulation=modulation)


def large(microscope: Any, planes: int = 1) -> Case:
    """Frames of a large field as the forward model has them: a random scene that moves by 6 pixels, 1 % noise."""
    system = system_of(microscope)
    axes = tuple(system.frame_axes.values())
    times = np.broadcast_to(np.arange(float(np.prod(axes))).reshape(*axes, 1), (*axes, planes))
    calibration = {**PASS, **(microscope.calibration(0) if system.kind == "sim" else {})}
    case = Case(system, np.zeros((*axes, planes, *microscope.shape), np.float32), times, calibration)
    model = forward_model(system, case.settings, calibration, case.frames.shape[-3:], microscope.pixel_um, times)
    space = model.scene_shape[1:] if planes > 1 else model.scene_shape[2:]
    shift = 6 * np.linspace(0, 1, len(model.times))[:, None, None]
    moved = np.zeros((*model.times.shape, len(space), *[1] * len(space))) + shift.reshape(-1, 1, 1, *[1] * len(space))
    everywhere = np.broadcast_to(moved, (*moved.shape[:3], *space))
    renderer = make_renderer(model, case.settings, KnownMotion(everywhere, np.asarray(model.times)))
    parameters = renderer.initial(0)
    spots = np.random.default_rng(0).random(model.scene_shape) > 0.998
    parameters["scene"][-1] = jnp.asarray(spots, jnp.float32)
    clean = np.asarray(predict(renderer, parameters))
    noisy = clean + np.random.default_rng(1).normal(scale=0.01 * clean.max(), size=clean.shape)
    # DPC divides by its background, 1, and takes 1 away
    counts = 10000 * (1 + noisy / np.abs(noisy).max() / 2) if system.kind == "dpc" else 1000 * noisy / clean.max()
    frames = counts.reshape(case.frames.shape).astype(np.float32) + microscope.offset
    return dataclasses.replace(case, frames=frames)


CASES: dict[str, dict[str, Callable[[], Case]]] = {
    "cpu": {
        "dpc64_swirl": lambda: published_dpc("dpc64_swirl"),
        "dpc_swirl": lambda: published_dpc("dpc_swirl"),
        "dpc_translation": lambda: published_dpc("dpc_translation"),
        "sim2d_swirl": lambda: published_sim("sim2d_swirl"),
        **{f"two beams, 9 x 120 x 120, {px:g} px": functools.partial(two_beam, px) for px in (3.6, 7, 14.5)},
        "beads, 15 x 80 x 80": beads,
        "volume, 15 x 8 x 64 x 64": volume,
        "networks, dpc64_swirl": lambda: published_dpc(
            "dpc64_swirl", engine="networks", steps=5000, margin_px=5, padding_px=0, starts=1, illumination_rate=0.0
        ),
    },
    "gpu": {
        "volume, 15 x 20 x 512 x 512": lambda: large(VolumeMicroscope(shape=(512, 512), planes=20), planes=20),
        "beads, 15 x 512 x 512": lambda: large(_three_beam((512, 512))),
        "DPC, 4 x 320 x 1000": lambda: large(DpcMicroscope(shape=(320, 1000))),
    },
}


def clock() -> float:
    """Seconds of the processor on a CPU, else of the clock."""
    return time.process_time() if jax.default_backend() == "cpu" else time.perf_counter()


def best(function: Callable[..., Any], *arguments: Any, repeats: int = 7) -> float:
    """Shortest time of a call, compiled before, s."""
    jax.block_until_ready(function(*arguments))
    times = []
    for _ in range(repeats):
        start = clock()
        jax.block_until_ready(function(*arguments))
        times.append(clock() - start)
    return min(times)


def floor(renderer: Renderer, camera: tuple[int, ...]) -> float:
    """Seconds of the warps and transforms of a step, forward and backward: the scene's spectrum (of a volume for each
    of its two transfer functions) and the way back to the camera, for each measurement and scene time."""
    channels, space = renderer.model.scene_shape[0], renderer.space
    frames, moments = renderer.model.times.shape
    axes = tuple(range(-len(space), 0))
    scene = jnp.zeros((channels, *space)) + jnp.arange(space[-1])
    shares = jnp.linspace(0.1, 0.5, frames * moments).reshape(-1, 1, 1, *[1] * len(space))
    fields = jnp.zeros((frames * moments, 1, len(space), *space)) + shares

    @jax.jit
    def warped(packed: Any, fields: Any) -> tuple[Any, Any]:
        """All warps of a step, there and back."""

        def one(total: Any, field: Any) -> tuple[Any, Any]:
            moved, place = gather(packed, field)
            return scatter(total, place, moved)

        return jax.lax.scan(one, jnp.zeros_like(packed), fields)

    # packed by itself, as a step does it: its layout in memory is that of the frames
    packed = jax.jit(pack)(scene)
    around = best(jax.jit(pack), scene) + best(jax.jit(lambda p: unpack(p, space)), packed)
    warps = around + best(warped, packed, fields)
    there = best(jax.jit(lambda s: jnp.fft.rfftn(s, axes=axes)), scene)
    seen = camera[-len(space) :]
    back = best(
        jax.jit(lambda a: jnp.fft.irfftn(a, s=seen, axes=axes)), jnp.zeros((*seen[:-1], seen[-1] // 2 + 1)) + 0j
    )
    return warps + frames * 2 * ((2 if len(space) == 3 else 1) * there + back)


def first_step(reached: np.ndarray) -> int | None:
    """Number (from 1) of the first of the steps from which on all reached it."""
    missed = np.flatnonzero(~reached)
    start = int(missed[-1]) + 1 if len(missed) else 0
    return start + 1 if start < len(reached) else None


def snapshot_step(case: Case, fit: Fit) -> int | None:
    """First kept step whose scene has the quality of the reference."""
    assert case.quality is not None
    assert case.quality_times is not None
    for step, parameters in sorted(fit.trace.snapshots.items()):
        scenes = dataclasses.replace(fit, parameters=parameters).scene(case.quality_times)
        if case.quality(scenes)["db"] >= (case.reference_db or np.inf):
            return step
    return None


def measured(device: str, name: str) -> dict[str, Any]:
    """The figures of one case, in the units of :func:`main`'s table."""
    jax.config.update("jax_enable_compilation_cache", False)
    case = CASES[device][name]()
    settings, pixel = case.settings, case.system.settings.optics.pixel_um
    counts = case.frames - np.float32(case.system.settings.camera.offset)
    data = case.system.measurements(counts)
    model = forward_model(case.system, settings, case.calibration, case.frames.shape[-3:], pixel, case.times)
    renderer = make_renderer(model, settings)
    begin = clock()
    planned = peak_bytes(renderer, data.shape, settings)
    compiled = clock() - begin

    def run(**changes: Any) -> tuple[Fit, float]:
        chosen = override(settings, changes)
        kept = range(_EVERY, chosen.steps + 1, max(_EVERY, chosen.steps // 25)) if case.reference_db else ()
        given = {"calibration": case.calibration, "snapshots": tuple(kept)}
        start = clock()
        fit = nstm.reconstruct(case.system, case.frames, case.times, chosen, **given)
        assert isinstance(fit, Fit)
        return fit, clock() - start

    # a fit of a few steps is lost, and would be done again for parts that slide
    alone: dict[str, Any] = {"starts": 1, "sliding": False}
    run(steps=_EVERY, **alone)  # compiles what is left to compile
    few, many = (run(steps=n * _EVERY, multigrid={"final_share": 0.0}, **alone)[1] for n in (1, 6))
    step = (many - few) / (5 * _EVERY)
    fit, whole = run()
    loss = fit.trace.loss
    converged = first_step(loss <= 1.05 * loss[-1])
    least = floor(renderer, data.shape[1:] if data.shape[1] > 1 else data.shape[2:])
    voxels = np.prod(renderer.space) * len(renderer.model.times)
    figures: dict[str, Any] = {
        "device": jax.devices()[0].device_kind,
        "scene": list(renderer.space),
        "frames": len(renderer.model.times),
        "steps": len(loss),
        "compile_s": compiled,
        "fit_s": whole,
        "step_s": step,
        "step_us_per_voxel_frame": 1e6 * step / float(voxels),
        "floor_s": least,
        "ratio": step / least,
        # a volume has not converged before its scene is finished
        "converged_s": whole if iterations(renderer, settings) else converged and converged * step,
        "planned_mb": planned / 1e6,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }
    if fit.noise_variance is not None:
        figures["residual"] = float(np.mean(fit.residual**2) / fit.noise_variance.mean())
    if case.quality is not None and case.quality_times is not None:
        figures |= case.quality(fit.scene(case.quality_times))
        if case.reference_db:
            reached = snapshot_step(case, fit)
            figures |= {"reference_db": case.reference_db, "to_reference_s": reached and reached * step}
        if case.at_rest:
            static = nstm.reconstruct(
                case.system, case.frames, case.times, settings, calibration=case.calibration, move=False
            )
            figures["at_rest"] = case.quality(static.scene(case.quality_times))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=sorted(CASES), default="cpu", help="the list of cases, and where they run")
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    parser.add_argument("--json", help="also write the figures to this file")
    chosen = parser.parse_args()
    if chosen.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
    figures = {}
    # a process for each case, or its peak memory would be that of all before it
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as processes:
        if chosen.device == "gpu":
            problem = processes.submit(no_gpu).result()
            if problem:
                sys.exit(problem)
        for name in CASES[chosen.device]:
            if chosen.match not in name:
                continue
            try:
                figures[name] = processes.submit(measured, chosen.device, name).result()
            except FileNotFoundError as missing:
                print(f"{name}: left out, {missing.filename} is absent: set NSTM_TEST_CASES", flush=True)
                continue
            print(name, json.dumps(figures[name], indent=1), flush=True)
            if chosen.json:
                before = (
                    json.loads(Path(chosen.json).read_text()) if chosen.match and Path(chosen.json).exists() else {}
                )
                Path(chosen.json).write_text(json.dumps({**before, **figures}, indent=1) + "\n")


def no_gpu() -> str | None:
    """Why the list of cases for a GPU cannot run here."""
    if jax.default_backend() == "gpu":
        return None
    return (
        f"--device gpu: JAX finds no GPU here, only {jax.devices()[0].device_kind}. Run it on a machine with an NVIDIA "
        "GPU and the CUDA build of jax (pip install 'jax[cuda12]', version as in requirements.lock), or leave --device "
        "out"
    )


if __name__ == "__main__":
    main()
