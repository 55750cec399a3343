"""Objects that UBSIM was not trained on, under speckle, and what every method of blind SIM makes of them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import scipy.fft

from nstm.blindsim import METHODS, BlindModel, Unrolled, solve, start
from nstm.blindsim.reconstruct import ordered
from nstm.metrics import decorrelation, ms_ssim, psnr_equalised, scales_of, ssim
from nstm.simulate.blind_images import Sources
from nstm.simulate.speckle import SpeckleMicroscope, Stack, stack, transfer_on


@dataclass(frozen=True)
class Case:
    """One object under speckle; ``frames`` are in the units of the iterations, the brightest last."""

    structure: str
    truth: np.ndarray
    microscope: SpeckleMicroscope
    pitch_um: float
    recorded: Stack
    frames: np.ndarray
    unit: float
    transfer: np.ndarray

    @classmethod
    def of(cls, structure: str, truth: np.ndarray, microscope: SpeckleMicroscope, pitch_um: float, seed: int) -> Case:
        """Record an object."""
        recorded = stack(truth, microscope, pitch_um, seed)
        order, unit = ordered(recorded.frames, np.ones(len(recorded.frames), bool))
        frames = (recorded.frames[order] / np.float32(unit)).astype(np.float32)
        transfer = transfer_on((truth.shape[0], truth.shape[1]), microscope, pitch_um)
        return cls(structure, truth, microscope, pitch_um, recorded, frames, unit, transfer)

    @property
    def model(self) -> BlindModel:
        """What the iterations need."""
        return BlindModel.of(self.frames, self.transfer)

    @property
    def noise_cost(self) -> float:
        """Cost of the true object and patterns: the energy of the noise."""
        return self.recorded.noise_energy / self.unit**2

    @property
    def widefield(self) -> np.ndarray:
        """Mean of the frames."""
        return np.asarray(self.frames.mean(axis=0))

    def psnr(self, image: np.ndarray) -> float:
        """Equalised PSNR, dB."""
        return psnr_equalised(image, self.truth, self.pitch_um, self.microscope.reach)

    def figures(self, image: np.ndarray) -> dict[str, float]:
        """Equalised PSNR and SSIM, MS-SSIM with as many scales as the image is large enough for, resolution in um."""
        return {
            "psnr": self.psnr(image),
            "ssim": ssim(image, self.truth, self.pitch_um, self.microscope.reach, equalised=True),
            "ms_ssim": ms_ssim(image, self.truth, scales_of(self.truth.shape)),
            "resolution_um": decorrelation(image, self.pitch_um).resolution_um,
        }


def cases(sources: Sources, microscope: SpeckleMicroscope, side: int, each: int) -> Iterator[Case]:
    """The middle of the first ``each`` images of every structure under light and noise of their own.

    An image that is smaller than ``side`` goes on as its mirror image.
    """
    for structure, images in sorted(sources.images.items()):
        for number, image in enumerate(images[:each]):
            y, x = ((n - side) // 2 for n in image.shape)
            short = max(0, -y, -x)
            crop = np.pad(image, short, mode="symmetric")[y + short :, x + short :][:side, :side]
            yield Case.of(structure, crop, microscope, sources.pitch_um, 1000 + number)


def learned(network: Unrolled, case: Case, *, stop: bool = False) -> tuple[np.ndarray, list[float]]:
    """The object that a network finds, and the cost before the first and after every block.

    ``stop``: where the cost has the energy of the noise, as the workflow does.
    """
    found, costs = network.followed(case.model, start(case.frames), case.noise_cost if stop else 0.0)
    return np.asarray(found.object**2), costs


def followed(name: str, case: Case, iterations: int) -> Iterator[tuple[float, np.ndarray]]:
    """Cost and object before the first and after every iteration of a solver."""
    method, model, step = METHODS[name], case.model, _stepper(name)
    state = jax.jit(method.init)(model, start(case.frames))
    for k in range(iterations + 1):
        if k:
            state = step(model, state)
        yield float(state.cost), np.asarray(method.estimate(state)[0])


@functools.cache
def _stepper(name: str) -> Callable[..., Any]:
    """One compiled iteration; the same for all cases."""
    return jax.jit(METHODS[name].step)


def at_best(name: str, case: Case, iterations: int) -> tuple[np.ndarray, int]:
    """The object of the iteration of a solver at which its PSNR is largest, which only a simulation tells."""
    found = [(case.psnr(image), image) for _, image in followed(name, case, iterations)]
    best = int(np.argmax([psnr for psnr, _ in found]))
    return found[best][1], best


def at_noise(name: str, case: Case, iterations: int) -> np.ndarray:
    """The object of a solver that stops where its cost has the energy of the noise, as the workflow does."""
    return np.asarray(solve(METHODS[name], case.model, start(case.frames), iterations, case.noise_cost).object)


def race(case: Case, network: Unrolled, most: int) -> dict[str, Any]:
    """Iterations and seconds of the processor, compiled and warm, that every solver takes to the cost of UBSIM.

    ``floor_s``: the transforms of UBSIM's blocks alone. ``convex_cost``: the least that the convex solution reaches.
    """
    costs = learned(network, case)[1]
    seconds = min(_seconds(lambda: learned(network, case)) for _ in range(2))
    goal, blocks, model, begin = costs[-1], len(costs) - 1, case.model, start(case.frames)
    solvers: dict[str, Any] = {}
    for name, method in METHODS.items():

        def run(stop: float, method: Any = method) -> Any:
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
            "costs": [float(c) for c in np.asarray(outcome.costs)[: made + 1]],
        }
    return {
        "structure": case.structure,
        "side_px": case.truth.shape[0],
        "frames": len(case.frames),
        "ubsim": {"iterations": blocks, "seconds": seconds, "cost": goal, "costs": costs},
        "noise_cost": case.noise_cost,
        "convex_cost": float(np.nanmin(solve(METHODS["per_frame"], model, begin, most).costs)),
        "floor_s": _seconds(lambda: _transforms(case.frames, blocks + 1)),
        "solvers": solvers,
    }


def _seconds(function: Callable[[], Any]) -> float:
    before = time.process_time()
    function()
    return time.process_time() - before


def _transforms(frames: np.ndarray, times: int) -> None:
    """There and back, forward and for the gradient."""
    for _ in range(2 * times):
        scipy.fft.irfft2(scipy.fft.rfft2(frames), s=frames.shape[-2:])
