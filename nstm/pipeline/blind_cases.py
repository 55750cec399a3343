"""Objects that UBSIM was not trained on, under speckle, and what every method of blind SIM makes of them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
import scipy.fft

from nstm.acquisition import DataError
from nstm.blindsim import METHODS, BlindModel, Unrolled, solve, start
from nstm.blindsim.reconstruct import ordered
from nstm.metrics import decorrelation, frc_resolution_um, ms_ssim, mse, psnr_equalised, scales_of, ssim
from nstm.metrics.lpips import Weights, lpips
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

    def figures(self, image: np.ndarray, lpips_weights: Weights | None = None) -> dict[str, float]:
        """Equalised PSNR and SSIM, MSE, MS-SSIM with as many scales as the image is large enough for, resolution in um
        by ring correlation with the truth and by decorrelation; LPIPS where there are weights for it.
        """
        found = {
            "psnr": self.psnr(image),
            "ssim": ssim(image, self.truth, self.pitch_um, self.microscope.reach, equalised=True),
            "mse": mse(image, self.truth),
            "ms_ssim": ms_ssim(image, self.truth, scales_of(self.truth.shape)),
            "frc_um": frc_resolution_um(image, self.truth, self.pitch_um),
            "resolution_um": decorrelation(image, self.pitch_um).resolution_um,
        }
        if lpips_weights is not None:
            gain = np.vdot(image, self.truth) / np.vdot(image, image)
            found["lpips"] = lpips(np.clip(gain * image, 0, 1), self.truth, lpips_weights)
        return found


def cases(sources: Sources, microscope: SpeckleMicroscope, side: int, each: int) -> Iterator[Case]:
    """The middle of the first ``each`` images of every structure under light and noise of their own.

    An image that is smaller than ``side`` goes on as its mirror image.

    Raises:
        DataError: an image is dark there.
    """
    for structure, images in sorted(sources.images.items()):
        for number, image in enumerate(images[:each]):
            y, x = ((n - side) // 2 for n in image.shape)
            short = max(0, -y, -x)
            crop = np.pad(image, short, mode="symmetric")[y + short :, x + short :][:side, :side]
            if not crop.max() > 0:
                raise DataError(
                    f"{structure}, test image {number}: its middle, {side} x {side} pixels, is dark: leave it out"
                )
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


#: How often each method is timed; the shortest time counts.
_REPEATS = 2


def race(case: Case, networks: Mapping[str, Unrolled], most: int) -> dict[str, Any]:
    """Iterations and seconds that every solver takes to the cost of each network, compiled and warm.

    A solver runs to the lowest of these costs; the seconds to another one are its share of the iterations.
    ``floor_s``: the transforms of a network's blocks alone. ``convex_cost``: the least of the convex solution.
    """
    model, begin = case.model, start(case.frames)
    learned = {name: _timed(partial(network.followed, model, begin)) for name, network in networks.items()}
    goals = {name: costs[-1] for name, ((_, costs), _) in learned.items()}
    runs = {}
    for name, method in METHODS.items():
        run = partial(solve, method, model, begin, most)
        outcome, seconds = _timed(partial(run, min(goals.values())), partial(run, np.inf))
        runs[name] = np.asarray(outcome.costs)[: int(outcome.iterations) + 1], seconds
    return {
        "structure": case.structure,
        "side_px": case.truth.shape[0],
        "frames": len(case.frames),
        "noise_cost": case.noise_cost,
        "convex_cost": float(np.nanmin(solve(METHODS["per_frame"], model, begin, most).costs)),
        "solvers": {name: {"costs": costs.tolist(), "seconds": seconds} for name, (costs, seconds) in runs.items()},
        "networks": {
            name: {
                "iterations": len(costs) - 1,
                "seconds": seconds,
                "floor_s": _floor_s(case.frames, networks[name], len(costs) - 1),
                "costs": costs,
                "solvers": {
                    solver: _behind(*run, goals[name], len(costs) - 1, seconds) for solver, run in runs.items()
                },
            }
            for name, ((_, costs), seconds) in learned.items()
        },
    }


def _behind(costs: np.ndarray, seconds: float, goal: float, blocks: int, of_network: float) -> dict[str, Any]:
    """Iterations and seconds of a solver to a cost, and how many times those of a network they are."""
    reached = np.flatnonzero(costs <= goal)
    made = int(reached[0]) if len(reached) else len(costs) - 1
    taken = seconds * made / max(1, len(costs) - 1)
    return {
        "iterations": made,
        "seconds": taken,
        "reached": bool(len(reached)),
        "iterations_ratio": made / blocks,
        "seconds_ratio": taken / of_network,
    }


def pace(case: Case, networks: Mapping[str, Unrolled], iterations: int) -> dict[str, dict[str, float]]:
    """Iterations to the noise, their seconds, and PSNR of every method."""
    model, begin, noise = case.model, start(case.frames), case.noise_cost
    found = {}
    for name, network in networks.items():
        (unknowns, costs), seconds = _timed(partial(network.followed, model, begin, noise))
        found[name] = {
            "iterations": len(costs) - 1,
            "seconds": seconds,
            "psnr": case.psnr(np.asarray(unknowns.object**2)),
        }
    for name in ("conjugate_gradient", "per_frame"):
        outcome, seconds = _timed(partial(solve, METHODS[name], model, begin, iterations, noise))
        image = np.asarray(outcome.object)
        found[name] = {"iterations": int(outcome.iterations), "seconds": seconds, "psnr": case.psnr(image)}
    return found


def _timed(function: Callable[[], Any], compiled_by: Callable[[], Any] | None = None) -> tuple[Any, float]:
    """What a function gives, and the least seconds of the processor that it takes once it is compiled."""
    jax.block_until_ready((compiled_by or function)())
    seconds = []
    for _ in range(_REPEATS):
        before = time.process_time()
        found = jax.block_until_ready(function())
        seconds.append(time.process_time() - before)
    return found, min(seconds)


def _floor_s(frames: np.ndarray, network: Unrolled, blocks: int) -> float:
    """Seconds of the transforms that blocks cannot do without.

    A block takes four forward for the line search, and one back for the gradient, which a stacked network needs
    sharpened, too.
    """
    back, shape = (2 if network.mode == "stacked" else 1), frames.shape[-2:]

    def transform() -> None:
        for _ in range(blocks):
            for _ in range(4):
                spectra = scipy.fft.rfft2(frames)
            for _ in range(back):
                scipy.fft.irfft2(spectra, s=shape)

    return _timed(transform)[1]
