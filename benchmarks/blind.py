"""UBSIM against the iterative solvers: iterations and time to its cost, and quality of images it was not trained on.

python benchmarks/blind.py [--images FOLDER] [--side 256] [--structures NAME ...] [--json OUT]

Seconds are of the processor (others may use the machine), compiled and warm, all in one process. The convex solution
(per_frame) stands beside, with the least cost it reaches; no cost is asked that lies below. ``floor``: the transforms
of the six blocks alone. PSNR is equalised. Without images structures are simulated.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.fft

from nstm.blindsim import METHODS, SHIPPED, BlindModel, Unrolled, load_weights, reconstruct, solve, start
from nstm.blindsim.reconstruct import ordered
from nstm.metrics import decorrelation, ms_ssim, psnr_equalised, scales_of
from nstm.simulate.blind_images import Sources, sources
from nstm.simulate.speckle import SpeckleMicroscope, Stack, stack, transfer_on

BESIDE = Path(os.environ.get("NSTM_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
#: Light and detection of equal aperture, on the coarsest grid without aliases; photons at the brightest place.
MICROSCOPE = SpeckleMicroscope(
    na=1.0, illumination_na=1.0, emission_wavelength_um=0.52, excitation_wavelength_um=0.52, patterns=20, photons=500
)
PITCH_UM = 0.065
#: Pixel of the images: so small that they hold what the objective alone does not show.
IMAGE_PIXEL_UM = PITCH_UM / 3


@dataclass(frozen=True)
class Case:
    """One held-out object under speckle; ``frames`` are in the units of the iterations, the brightest last."""

    structure: str
    truth: np.ndarray
    recorded: Stack
    frames: np.ndarray
    unit: float
    transfer: np.ndarray

    @classmethod
    def of(cls, structure: str, truth: np.ndarray, microscope: SpeckleMicroscope, seed: int) -> Case:
        """Record an object."""
        recorded = stack(truth, microscope, PITCH_UM, seed)
        order, unit = ordered(recorded.frames, np.ones(len(recorded.frames), bool))
        frames = (recorded.frames[order] / np.float32(unit)).astype(np.float32)
        shape = (truth.shape[0], truth.shape[1])
        return cls(structure, truth, recorded, frames, unit, transfer_on(shape, microscope, PITCH_UM))

    @property
    def noise_cost(self) -> float:
        """Cost of the true object and patterns: the energy of the noise."""
        return self.recorded.noise_energy / self.unit**2

    def psnr(self, image: np.ndarray) -> float:
        """Equalised PSNR, dB."""
        return psnr_equalised(image, self.truth, PITCH_UM, MICROSCOPE.reach)

    def ms_ssim(self, image: np.ndarray) -> float:
        """MS-SSIM with as many scales as the image is large enough for."""
        return ms_ssim(image, self.truth, scales_of(self.truth.shape))

    @property
    def widefield(self) -> np.ndarray:
        """Mean of the frames."""
        return np.asarray(self.frames.mean(axis=0))


def held_out(folder: Path | None, side: int, each: int, microscope: SpeckleMicroscope = MICROSCOPE) -> Iterator[Case]:
    """The middle of ``each`` test images of every structure under light and noise of their own."""
    found: Sources = sources(folder, "test", PITCH_UM, IMAGE_PIXEL_UM)
    for structure, images in sorted(found.images.items()):
        for number, image in enumerate(images[:each]):
            y, x = ((n - side) // 2 for n in image.shape)
            short = max(0, -min(y, x))
            crop = np.pad(image, short, mode="symmetric")[y + short :, x + short :][:side, :side]
            yield Case.of(structure, crop, microscope, 1000 + number)


def learned(network: Unrolled, case: Case, *, stop: bool = False) -> tuple[np.ndarray, list[float]]:
    """The object that a network finds, and the cost before the first and after every block.

    ``stop``: where the cost has the energy of the noise, as the workflow does.
    """
    model = BlindModel.of(case.frames, case.transfer)
    found, costs = network.followed(model, start(case.frames), case.noise_cost if stop else 0.0)
    return np.asarray(found.object**2), costs


def followed(name: str, case: Case, iterations: int) -> tuple[list[float], list[float]]:
    """Cost and PSNR before the first and after every iteration of a solver."""
    method, model = METHODS[name], BlindModel.of(case.frames, case.transfer)
    state = jax.jit(method.init)(model, start(case.frames))
    step, costs, psnr = stepper(name), [], []
    for k in range(iterations + 1):
        if k:
            state = step(model, state)
        costs.append(float(state.cost))
        psnr.append(case.psnr(np.asarray(method.estimate(state)[0])))
    return costs, psnr


@functools.cache
def stepper(name: str) -> Any:
    """One compiled iteration; the same for all cases."""
    return jax.jit(METHODS[name].step)


def race(case: Case, network: Unrolled, most: int) -> dict[str, Any]:
    """Iterations and processor seconds, compiled and warm, that every solver takes to the cost that UBSIM reaches."""
    model = BlindModel.of(case.frames, case.transfer)
    costs = learned(network, case)[1]
    seconds = min(_seconds(lambda: learned(network, case)) for _ in range(2))
    goal, blocks = costs[-1], len(costs) - 1
    solvers: dict[str, Any] = {}
    for name, method in METHODS.items():
        begin = start(case.frames)

        def run(stop: float, method: Any = method, begin: Any = begin) -> Any:
            return jax.block_until_ready(solve(method, model, begin, most, stop))

        run(np.inf)
        before = time.process_time()
        outcome = run(goal)
        taken, made = time.process_time() - before, int(outcome.iterations)
        solvers[name] = {
            "iterations": made,
            "seconds": taken,
            "reached": bool(outcome.costs[made] <= goal),
            "iterations_ratio": made / blocks,
            "seconds_ratio": taken / seconds,
        }
    return {
        "side_px": case.truth.shape[0],
        "frames": len(case.frames),
        "ubsim": {"iterations": blocks, "seconds": seconds, "cost": goal, "costs": costs},
        "noise_cost": case.noise_cost,
        "convex_cost": float(solve(METHODS["per_frame"], model, start(case.frames), most).costs[most]),
        "solvers": solvers,
    }


def _seconds(function: Any) -> float:
    before = time.process_time()
    function()
    return time.process_time() - before


def quality(case: Case, network: Unrolled, iterations: int) -> dict[str, Any]:
    """PSNR, MS-SSIM and resolution of UBSIM, of conjugate gradients at their best, convex at the end, and widefield."""
    found = learned(network, case, stop=True)[0]
    _, by_iteration = followed("conjugate_gradient", case, iterations)
    best = int(np.argmax(by_iteration))
    images = {"widefield": case.widefield, "ubsim": found}
    for name, label in (("conjugate_gradient", "conjugate_gradient_best"), ("per_frame", "per_frame")):
        number = best if name == "conjugate_gradient" else iterations
        images[label] = reconstruct(case.recorded.frames, case.transfer, name, iterations=max(number, 1)).density
    sharp = {name: decorrelation(image, PITCH_UM).resolution_um for name, image in images.items()}
    return {
        "structure": case.structure,
        "best_iteration": best,
        "psnr": {name: case.psnr(image) for name, image in images.items()},
        "ms_ssim": {name: case.ms_ssim(image) for name, image in images.items()},
        "resolution_um": sharp,
        "resolution_gain": {name: sharp["widefield"] / value for name, value in sharp.items()},
    }


def floor(frames, side):
    """Processor seconds of the transforms of six blocks, and of the first gradient."""
    images = np.zeros((frames, side, side), np.float32)
    before = time.process_time()
    for _ in range(7):
        scipy.fft.irfft2(scipy.fft.rfft2(images), s=images.shape[-2:])
    return time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=BESIDE / "phantom" / "cell_structures")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--structures", nargs="*", help="left out: all")
    parser.add_argument("--most", type=int, default=200, help="iterations after which a solver gives up")
    parser.add_argument("--json", help="also write the figures to this file")
    chosen = parser.parse_args()
    network = load_weights(SHIPPED)[0]
    folder = chosen.images if chosen.images.is_dir() else None
    results = {"floor_s": floor(20, chosen.side), "races": {}, "quality": {}}
    for case in held_out(folder, chosen.side, 1):
        if chosen.structures and case.structure not in chosen.structures:
            continue
        results["races"][case.structure] = found = race(case, network, chosen.most)
        seconds, cost, noise = found["ubsim"]["seconds"], found["ubsim"]["cost"], found["noise_cost"]
        least = found["convex_cost"]
        print(
            f"{case.structure}: UBSIM {seconds:.2f} s, cost {cost:.4g}, noise {noise:.4g}, convex {least:.4g}",
            flush=True,
        )
        for name, f in found["solvers"].items():
            more = "" if f["reached"] else " (gave up)"
            ratios = f"{f['iterations_ratio']:.1f} x, {f['seconds_ratio']:.1f} x the time"
            print(f"  {name:20} {f['iterations']:5} iterations{more}, {ratios}", flush=True)
        results["quality"][case.structure] = found = quality(case, network, 60)
        gains = found["resolution_gain"]
        texts = [f"{name} {psnr:.2f} dB x{gains[name]:.2f}" for name, psnr in found["psnr"].items()]
        print("  " + "  ".join(texts), flush=True)
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
