"""Blind SIM on images that no network was trained on: solvers followed from iteration to iteration, and UBSIM."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from nstm.blindsim import METHODS, SHIPPED, BlindModel, load_weights, reconstruct, solve, start
from nstm.blindsim.reconstruct import ordered
from nstm.blindsim.unrolled import Unrolled
from nstm.io.jsonfile import write_json
from nstm.io.whole import replace_whole
from nstm.metrics import decorrelation, ms_ssim, psnr_equalised, scales_of
from nstm.pipeline.blind_settings import BlindStudies
from nstm.simulate.blind_images import Sources, sources
from nstm.simulate.speckle import SpeckleMicroscope, Stack, stack, transfer_on
from nstm.visual.figures import new_figure, save_png

#: Light and detection of equal aperture, on the coarsest grid without aliases; photons at the brightest place.
MICROSCOPE = SpeckleMicroscope(
    na=1.0, illumination_na=1.0, emission_wavelength_um=0.52, excitation_wavelength_um=0.52, patterns=20, photons=500
)
PITCH_UM = 0.065
#: What is compared, and the solvers that are followed, in words; colours of Okabe and Ito.
METHOD_LABELS = {
    "widefield": "widefield",
    "conjugate_gradient_best": "conjugate gradients at best",
    "ubsim": "UBSIM",
    "per_frame": "convex",
}
_LABELS = {
    "gradient_descent": "gradient descent",
    "conjugate_gradient": "conjugate gradients",
    "nesterov": "Nesterov",
    "per_frame": "convex",
}
_COLOURS = ("#999999", "#d55e00", "#0072b2", "#009e73")


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
    found: Sources = sources(folder, "test", PITCH_UM)
    for structure, images in sorted(found.images.items()):
        for number, image in enumerate(images[:each]):
            y, x = ((n - side) // 2 for n in image.shape)
            crop = image[y : y + side, x : x + side]
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
    step, costs, psnr = _stepper(name), [], []
    for k in range(iterations + 1):
        if k:
            state = step(model, state)
        costs.append(float(state.cost))
        psnr.append(case.psnr(np.asarray(method.estimate(state)[0])))
    return costs, psnr


_STEPPERS: dict[str, Any] = {}


def _stepper(name: str) -> Any:
    """One compiled iteration; the same for all cases."""
    return _STEPPERS.setdefault(name, jax.jit(METHODS[name].step))


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


def shipped() -> Unrolled:
    """The network of the package."""
    return load_weights(SHIPPED)[0]


def run_studies_blind(settings: BlindStudies, images: Path | None, out: Mapping[str, str | Path]) -> None:
    """Write the page of the studies, its figures as JSON, and its pictures.

    Args:
        settings: sizes.
        images: folder of images of structures; ``None``: structures are simulated.
        out: ``page``, ``figures``, and the pictures ``quality``, ``iterations`` and ``frames``.
    """
    network = shipped()
    cases = list(held_out(images, settings.side_px, settings.each))
    firsts = list({case.structure: case for case in reversed(cases)}.values())[::-1]
    # the convex method needs more iterations than the others want
    entries = [quality(case, network, min(settings.iterations, 60)) for case in cases]
    curves = [
        {
            "structure": case.structure,
            "noise_cost": case.noise_cost,
            "ubsim": learned(network, case)[1],
            "solvers": {
                name: dict(zip(("cost", "psnr"), followed(name, case, settings.iterations), strict=True))
                for name in METHODS
            },
        }
        for case in firsts
    ]
    races = {case.structure: race(case, network, 1000) for case in firsts}
    by_frames: dict[str, list[dict[str, Any]]] = {}
    for frames in settings.frames:
        microscope = replace(MICROSCOPE, patterns=frames)
        by_frames[str(frames)] = [
            quality(case, network, min(settings.iterations, 60))
            for case in held_out(images, settings.side_px, 1, microscope)
        ]
    found = {
        "settings": settings.model_dump(),
        "simulated_images": images is None,
        "quality": entries,
        "curves": curves,
        "races": races,
        "frames": by_frames,
    }
    write_json(out["figures"], found)
    save_png(quality_figure(entries), Path(out["quality"]))
    save_png(iterations_figure(curves), Path(out["iterations"]))
    save_png(frames_figure(by_frames), Path(out["frames"]))
    with replace_whole(out["page"]) as temporary:
        Path(temporary).write_text(page(found))


def page(found: Mapping[str, Any]) -> str:
    """The studies in words and tables."""
    side, iterations = found["settings"]["side_px"], found["settings"]["iterations"]
    structures = list(dict.fromkeys(e["structure"] for e in found["quality"]))

    def row(structure: str, key: str, form: str) -> str:
        values = [[e[key][m] for e in found["quality"] if e["structure"] == structure] for m in METHOD_LABELS]
        return " | ".join(form.format(float(np.median(v))) for v in values)

    lines = [
        "# Studies of blind SIM",
        "",
        f"`snakemake studies_blind` makes this page: 20 frames of {side} x {side} pixels of 65 nm under speckle of the",
        "objective's aperture, 500 photons at the brightest place, from "
        + ("simulated structures" if found["simulated_images"] else "images that the network was not trained on")
        + " (the `test` part of each structure).",
        "Everything can be read from `studies_blind.json` beside this page.",
        "",
        "## Quality by structure",
        "",
        "![Quality by structure](pictures/studies_blind_quality.png)",
        "",
        "Boxes: quartiles and median; whiskers: the last value within 1.5 interquartile ranges. Medians:",
        "",
        "| equalised PSNR, dB | " + " | ".join(METHOD_LABELS.values()) + " |",
        "|---" * (1 + len(METHOD_LABELS)) + "|",
        *(f"| {s} | {row(s, 'psnr', '{:.1f}')} |" for s in structures),
        "",
        "| gain of resolution (decorrelation) | " + " | ".join(METHOD_LABELS.values()) + " |",
        "|---" * (1 + len(METHOD_LABELS)) + "|",
        *(f"| {s} | {row(s, 'resolution_gain', '{:.2f}')} |" for s in structures),
        "",
        "Conjugate gradients stop at the iteration of highest PSNR, which only a truth can tell.",
        "",
        "## To the cost of UBSIM, and the noise",
        "",
        "![Cost and quality by iteration](pictures/studies_blind_iterations.png)",
        "",
        f"Solvers followed for {iterations} iterations, one image per structure. Below the dotted line, the energy of",
        "the noise, an iteration fits noise: the quality of gradient methods has its peak before. Iterations (and",
        "processor time, in units of UBSIM's) to the cost that UBSIM has after its blocks:",
        "",
        "| | " + " | ".join(_LABELS.values()) + " |",
        "|---" * (1 + len(_LABELS)) + "|",
    ]
    for structure, one in found["races"].items():
        cells = [
            f"{'' if s['reached'] else 'more than '}{s['iterations']} ({s['seconds_ratio']:.1f})"
            for s in (one["solvers"][name] for name in _LABELS)
        ]
        lines.append(f"| {structure} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "The convex method is no rival of the same kind: it holds every frame apart and is a lower bound of the cost.",
        "",
        "## Number of frames",
        "",
        "![Quality by number of frames](pictures/studies_blind_frames.png)",
        "",
        "The network was trained with 10 frames and takes any number.",
        "",
    ]
    return "\n".join(lines)


def quality_figure(entries: Sequence[Mapping[str, Any]]) -> Figure:
    """Box plots of PSNR, MS-SSIM and gain of resolution by structure and method."""
    structures = list(dict.fromkeys(e["structure"] for e in entries))
    titles = {"psnr": "equalised PSNR, dB", "ms_ssim": "MS-SSIM", "resolution_gain": "gain of resolution"}
    figure = new_figure(9, 3.4)
    figure.set_layout_engine("constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for number, (method, colour) in enumerate(zip(METHOD_LABELS, _COLOURS, strict=True)):
            values = [[e[key][method] for e in entries if e["structure"] == s] for s in structures]
            places = np.arange(len(structures)) + 0.2 * (number - 1.5)
            boxes = axes.boxplot(
                values, positions=places, widths=0.16, whis=1.5, patch_artist=True, manage_ticks=False,
                medianprops={"color": "black"}, flierprops={"markersize": 2},
            )  # fmt: skip
            for box in boxes["boxes"]:
                box.set_facecolor(colour)
            axes.plot([], [], "s", color=colour, label=METHOD_LABELS[method])
        axes.set_xticks(range(len(structures)), structures, rotation=20)
        axes.set_title(title, fontsize=9)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def iterations_figure(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Cost over that of the noise, and PSNR, against the iteration, one column per structure."""
    figure = new_figure(2.4 * len(curves) + 0.6, 4.6)
    figure.set_layout_engine("constrained")
    rows = figure.subplots(2, len(curves), sharex=True, sharey="row", squeeze=False)
    for column, one in enumerate(curves):
        cost, psnr = rows[0][column], rows[1][column]
        for (name, curve), colour in zip(one["solvers"].items(), _COLOURS, strict=True):
            cost.loglog(np.array(curve["cost"])[1:] / one["noise_cost"], color=colour, label=_LABELS[name])
            psnr.semilogx(curve["psnr"][1:], color=colour)
        numbers = np.arange(1, len(one["ubsim"]))
        cost.loglog(numbers, np.array(one["ubsim"])[1:] / one["noise_cost"], "k.-", label="UBSIM")
        cost.axhline(1, color="0.5", linestyle=":")
        cost.set_title(one["structure"], fontsize=9)
        psnr.set_xlabel("iteration")
    rows[0][0].set_ylabel("cost / energy of the noise")
    rows[1][0].set_ylabel("equalised PSNR, dB")
    figure.legend(*rows[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    return figure


def frames_figure(by_frames: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Median PSNR and gain of resolution against the number of frames."""
    figure = new_figure(6.4, 3)
    figure.set_layout_engine("constrained")
    titles = {"psnr": "equalised PSNR, dB", "resolution_gain": "gain of resolution"}
    for axes, (key, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        for (method, label), colour in zip(METHOD_LABELS.items(), _COLOURS, strict=True):
            values = [float(np.median([e[key][method] for e in of])) for of in by_frames.values()]
            axes.plot([int(n) for n in by_frames], values, "o-", color=colour, markersize=3, label=label)
        axes.set(xlabel="frames", title=title)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure
