"""From a stack of frames to one image: which frames are used, in what units, by which method, until when."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np

from nstm.acquisition import DataError
from nstm.blindsim.convex import PerFrame
from nstm.blindsim.model import BlindModel, patterns_of, start
from nstm.blindsim.solvers import ConjugateGradient, GradientDescent, Method, Nesterov, Outcome, solve
from nstm.blindsim.unrolled import Unrolled
from nstm.illumination.speckle import FEWEST, Usable, usable

#: Iterative methods by name.
METHODS: MappingProxyType[str, Method] = MappingProxyType(
    {
        "gradient_descent": GradientDescent(),
        "conjugate_gradient": ConjugateGradient(),
        "nesterov": Nesterov(),
        "per_frame": PerFrame(),
    }
)
#: Largest value of the mean frame in the units of the iterations. Object and patterns share one step, so their scales
#: matter: of 0.03 to 10 (a filament phantom, 20 frames, 40 iterations) 1 to 3 led furthest, for all methods.
PEAK = 2.0
#: By how much a transfer may exceed 1.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class BlindResult:
    """What blind SIM found.

    Attributes:
        density: (y, x), in units of the frames: a uniform sample of value v gives a mean frame of v.
        patterns: (L, y, x), mean 1 over the frames at every place; NaN of a frame that was left out.
        costs: (iterations + 1,) ``sum_l ||r_l||^2`` before the first and after every iteration, units of the frames.
        used: (L,) which frames were used.
        reasons: why others were not, and what else is to be known.
    """

    density: np.ndarray
    patterns: np.ndarray
    costs: np.ndarray
    used: np.ndarray
    reasons: list[dict[str, Any]]

    @property
    def iterations(self) -> int:
        """How many iterations were made."""
        return len(self.costs) - 1

    def cropped(self, rows: slice, columns: slice) -> BlindResult:
        """What lies in a part of the field; the costs stay those of the whole."""
        return replace(self, density=self.density[rows, columns], patterns=self.patterns[:, rows, columns])


def reconstruct(
    frames: np.ndarray,
    transfer: np.ndarray,
    method: str | Unrolled = "per_frame",
    *,
    iterations: int = 100,
    stop_cost: float = 0.0,
    noise_energy: np.ndarray | None = None,
    flat: float = 0.0,
    usable_frames: Usable | None = None,
) -> BlindResult:
    """Reconstruct one image from frames under unknown light.

    The result does not depend on the order of the frames: the pattern that follows from the others is that of the
    brightest frame, wherever it stands (see :func:`ordered`).

    Args:
        frames: ``(L, y, x)`` on the grid of the result, background removed; taken as periodic.
        transfer: of objective and camera pixel, ``(y, x // 2 + 1)``, 1 at the origin and nowhere more.
        method: key of :data:`METHODS`, or learned iterations, at most as many as the network has.
        iterations: the most that are made.
        stop_cost: stop at this cost, units of the frames squared.
        noise_energy: ``(L,)`` expected ``||noise||^2`` of every frame on this grid: stop where the cost meets their sum
            (discrepancy principle); ``None``: not known.
        flat: stop where ten iterations lower the cost by less than this share.
        usable_frames: what :func:`nstm.illumination.speckle.usable` said of the raw frames; ``None``: asked of these.

    Raises:
        DataError: unknown method, shapes or numbers that do not fit, fewer than :data:`FEWEST` frames that can be used,
            or another number than the network takes.
    """
    if isinstance(method, str) and method not in METHODS:
        raise DataError(f"no method {method!r} of blind SIM: choose one of {', '.join(METHODS)}")
    _check(frames, transfer, iterations, noise_energy)
    found = usable_frames or usable(frames)
    order, scale = ordered(frames, found.used)
    scaled = np.asarray(frames[order] / scale, np.float32)
    if noise_energy is not None:
        stop_cost = max(stop_cost, float(np.asarray(noise_energy)[order].sum()))
    model, begin = BlindModel.of(scaled, transfer), start(scaled)
    if isinstance(method, str):
        outcome = solve(METHODS[method], model, begin, iterations, stop_cost / scale**2, flat)
    else:
        unknowns, costs = method.followed(model, begin, stop_cost / scale**2, iterations)
        outcome = Outcome(unknowns.object**2, patterns_of(unknowns), jnp.array(costs), jnp.array(len(costs) - 1))
    patterns = np.full(frames.shape, np.nan, np.float32)
    patterns[order] = outcome.patterns
    return BlindResult(
        density=np.asarray(outcome.object) * np.float32(scale),
        patterns=patterns,
        costs=np.asarray(outcome.costs, np.float64)[: int(outcome.iterations) + 1] * scale**2,
        used=found.used,
        reasons=found.reasons,
    )


def _check(frames: np.ndarray, transfer: np.ndarray, iterations: int, noise_energy: np.ndarray | None) -> None:
    if frames.ndim != 3:
        raise DataError(f"frames {frames.shape} must be (frame, y, x)")
    shape = (frames.shape[1], frames.shape[2] // 2 + 1)
    if transfer.shape != shape:
        raise DataError(f"the transfer of frames {frames.shape} must be {shape}, not {transfer.shape}")
    highest = float(np.abs(transfer).max())
    if not highest <= 1 + _ROUNDING:
        raise DataError(f"the transfer reaches {highest:.4g}: it must be finite, 1 at the origin and nowhere more")
    if iterations < 0:
        raise DataError(f"iterations = {iterations} must be 0 or more")
    if noise_energy is not None and np.shape(noise_energy) != frames.shape[:1]:
        raise DataError(
            f"noise_energy {np.shape(noise_energy)} must hold one value for each of the {len(frames)} frames"
        )


def ordered(frames: np.ndarray, used: np.ndarray) -> tuple[np.ndarray, float]:
    """Numbers of the usable frames, the brightest last, and the unit of the iterations.

    The order follows from what the frames hold and not from where they stand, so that sums over frames round alike
    however they are ordered: from their light, where that is equal from their squares, then from all their pixels.
    Where frames are equally bright but for rounding, another rounding (other units, another type) may choose another
    one whose pattern follows from the others, and so another of the solutions that explain the frames.

    Raises:
        DataError: too few frames can be used.
    """
    if used.sum() < FEWEST:
        raise DataError(
            f"{int(used.sum())} of {len(used)} frames can be used, blind SIM needs at least {FEWEST}: "
            "check exposure, saturation and dropped frames"
        )
    numbers = np.flatnonzero(used)
    order = np.array(sorted(numbers, key=lambda number: _content(frames[number])))
    scale = float(frames[order].mean(axis=0).max()) / PEAK
    if not scale > 0:
        raise DataError("the mean of the frames is nowhere above 0: check the camera offset")
    return order, scale


def _content(frame: np.ndarray) -> tuple[float, float, bytes]:
    """What tells frames apart: their light, their squares, their pixels."""
    values = np.ascontiguousarray(frame)
    squares = np.sum(np.square(values, dtype=np.float64))
    return float(values.sum(dtype=np.float64)), float(squares), hashlib.sha256(values.tobytes()).digest()
