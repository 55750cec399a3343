"""The studies of blind SIM: UBSIM beside the iterative solvers, and beside networks that were shown what to find.

After Burns et al., Nature Communications 2026. Every study is one JSON file and one figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nstm.acquisition import DataError
from nstm.io.jsonfile import write_json
from nstm.io.whole import replace_whole
from nstm.pipeline.blind_page import METHODS, TITLES
from nstm.pipeline.blind_settings import Blind, BlindStudies, Training, domains_of
from nstm.simulate.blind_images import DIGITS, Part, Sources, digits, sources
from nstm.simulate.speckle import SpeckleMicroscope
from nstm.visual.blind import UNTRAINED

if TYPE_CHECKING:
    from nstm.blindsim import Unrolled
    from nstm.pipeline.blind_cases import Case

#: Images of each domain that the networks are tested on.
_OF_DOMAIN = 4
#: Light of the study `noise`, photons.
_LIGHTS = (100.0, 1000.0)


def microscope_of(settings: Blind, **changes: Any) -> SpeckleMicroscope:
    """The instrument of the studies."""
    chosen = {"patterns": settings.studies.frames, "photons": settings.studies.photons, **changes}
    return replace(settings.training.microscope, **chosen)


def domain(settings: Training, images: Path | None, name: str, part: Part) -> Sources:
    """The images of one structure.

    Raises:
        DataError: there is none of this name.
    """
    if name == DIGITS:
        if images is not None and (images / DIGITS).exists():
            raise DataError(
                f"{images / DIGITS}: digits are drawn, so no folder of images may have this name: rename it"
            )
        return digits(part, settings.pitch_um)
    return sources(images, part, settings.pitch_um, settings.image_pixel_um).only(name)


def run_domain_training(
    params: Mapping[str, Any], images: Path | None, out: Path, progress: Callable[[str], None] | None = None
) -> None:
    """Train one network on one structure; its weights as safetensors with their card, in the end.

    Args:
        params: ``training`` (settings), ``domain`` and ``network``.
        images: folder of the images; ``None``: simulated.
        out: the weights; the state of a training that was stopped stands beside.
        progress: told one line after every epoch.
    """
    import jax.numpy as jnp
    from safetensors.numpy import save

    from nstm.blindsim.supervised import Supervised, squared_error
    from nstm.blindsim.training import Plan, Unsupervised, train
    from nstm.blindsim.unet import parameters
    from nstm.blindsim.unrolled import Unrolled
    from nstm.blindsim.weights import arrays_of
    from nstm.pipeline.train_blind import batches
    from nstm.simulate.speckle import transfer_on

    s, kind = Training.model_validate(params["training"]), params["network"]
    taught = kind != "ubsim"
    of = domain(s, images, params["domain"], "training")
    held = domain(s, images, params["domain"], "validation")
    state = out.with_suffix(".state.npz")
    network: Any
    loss: Any
    validated: Any
    if taught:
        network, loss = Supervised.new(kind, s.frames, seed=s.seed), squared_error
        validated = loss
    else:
        transfer = jnp.asarray(transfer_on((s.side_px, s.side_px), s.microscope, s.pitch_um), jnp.float32)
        network = Unrolled.new(s.mode, s.frames, s.width, blocks=s.blocks, seed=s.seed)
        loss, validated = Unsupervised(transfer, s.every_block), Unsupervised(transfer, every_block=False)
    found, history = train(
        network,
        loss,
        lambda epoch: batches(of, s, s.stacks, [s.seed, 1, epoch], taught=taught),
        list(batches(held, s, s.validation_stacks, [s.seed, 2], taught=taught)),
        Plan(epochs=s.epochs, rate=s.rate, patience=s.patience),
        validated=validated,
        about={
            **{k: params[k] for k in ("network", "domain")},
            **s.model_dump(exclude={"epochs"}),
            "images": [of.fingerprint, held.fingerprint],
        },
        checkpoint=state,
        progress=progress,
    )
    card = {
        "parameters": parameters(found.network),
        "stacks": s.stacks // s.batch * s.batch * len(history.training),
        "frames": s.frames,
        "side_px": s.side_px,
        "seconds": sum(history.seconds),
    }
    with replace_whole(out) as temporary:
        Path(temporary).write_bytes(save(arrays_of(found), {"card": json.dumps(card)}))
    state.unlink(missing_ok=True)


def run_blind_study(
    study: str,
    params: Mapping[str, Any],
    images: Path | None,
    weights: Mapping[str, str | Path],
    out_json: Path,
    out_png: Path,
    lpips: Path | None = None,
) -> None:
    """Write figures and picture of one study.

    Args:
        study: key of :data:`nstm.pipeline.blind_page.TITLES`.
        params: the settings ``blind``, as :meth:`Blind.study_params` gives them.
        images: folder of the images; ``None``: simulated.
        weights: of networks of UBSIM by their name; for the study ``domains`` by ``DOMAIN/NETWORK``.
        out_json: the figures.
        out_png: the picture.
        lpips: weights of LPIPS; ``None``: without this figure.

    Raises:
        DataError: no network takes the number of frames.
    """
    from nstm.visual import blind as pictures
    from nstm.visual.figures import save_png

    run = _Run(Blind.model_validate(params), images, weights, lpips)
    record = _STUDIES[study](run)
    write_json(out_json, {"study": study, "title": TITLES[study], **record["figures"]})
    save_png(getattr(pictures, f"{study}_figure")(record["figures"], **record.get("shown", {})), out_png, dpi=110)


@dataclass(frozen=True)
class _Run:
    """What a study is made of; see :func:`run_blind_study`."""

    settings: Blind
    images: Path | None
    weights: Mapping[str, str | Path]
    lpips: Path | None

    @property
    def chosen(self) -> BlindStudies:
        return self.settings.studies

    def cases(self, side: int, each: int, **changes: Any) -> Iterator[Case]:
        """The test images, under light as the settings say but for ``changes``."""
        from nstm.pipeline.blind_cases import cases

        s = self.settings.training
        of = sources(self.images, "test", s.pitch_um, s.image_pixel_um)
        return cases(of, microscope_of(self.settings, **changes), side, each)

    def networks(self, frames: int | None = None, *, untrained_too: bool = False) -> dict[str, Unrolled]:
        """Those of UBSIM that take so many frames (those of the settings), each followed by itself untrained."""
        from nstm.blindsim import load_weights, untrained

        number, loaded = frames or self.chosen.frames, {}
        for name, path in self.weights.items():
            loaded[name] = load_weights(path)[0]
            if untrained_too:
                loaded[name + UNTRAINED] = untrained(path)
        fit = {name: network for name, network in loaded.items() if network.frames in (None, number)}
        if not fit:
            raise DataError(
                f"the network of blind.studies.weights takes {next(iter(loaded.values())).frames} frames and not "
                f"{number}: change blind.studies.frames (and numbers), or take a network of the mode per_frame"
            )
        return fit


def _structures(run: _Run) -> dict[str, Any]:
    """Every method on every image that the network was not trained on."""
    from nstm.metrics.lpips import load_weights
    from nstm.pipeline.blind_cases import at_best, at_noise, learned

    networks, chosen, rows = run.networks(untrained_too=True), run.chosen, []
    lpips = None if run.lpips is None else load_weights(run.lpips)
    pictures: dict[str, dict[str, np.ndarray]] = {}
    for case in run.cases(chosen.side_px, chosen.images):
        best, iteration = at_best("conjugate_gradient", case, chosen.iterations)
        found = {
            "widefield": case.widefield,
            **{name: learned(network, case, stop=True)[0] for name, network in networks.items()},
            "conjugate_gradient": at_noise("conjugate_gradient", case, chosen.iterations),
            "conjugate_gradient_best": best,
            "per_frame": at_noise("per_frame", case, chosen.iterations),
        }
        methods = {name: case.figures(image, lpips) for name, image in found.items()}
        for figures in methods.values():
            figures["gain"] = methods["widefield"]["resolution_um"] / figures["resolution_um"]
        rows.append({"structure": case.structure, "best_iteration": iteration, "methods": methods})
        pictures.setdefault(case.structure, {"truth": case.truth, **{METHODS[k]: v for k, v in found.items()}})
    return {"figures": {"rows": rows}, "shown": {"pictures": pictures, "pixel_um": run.settings.training.pitch_um}}


def _iterations(run: _Run) -> dict[str, Any]:
    """How many iterations every solver takes to the cost that UBSIM reaches."""
    from nstm.pipeline.blind_cases import race

    networks, chosen = run.networks(untrained_too=True), run.chosen
    some = run.cases(chosen.race_side_px, 1)
    return {"figures": {"rows": [race(case, networks, chosen.race_iterations) for case in some]}}


def _noise(run: _Run) -> dict[str, Any]:
    """Cost and quality by iteration, in little and in much light: where the noise begins to be fitted."""
    from nstm.pipeline.blind_cases import followed, learned

    networks, chosen, rows = run.networks(), run.chosen, []
    for photons in _LIGHTS:
        for case in run.cases(chosen.side_px, 1, photons=photons):
            curves = {}
            for name in ("conjugate_gradient", "nesterov", "per_frame"):
                made = [(cost, case.psnr(image)) for cost, image in followed(name, case, 2 * chosen.iterations)]
                costs, psnr = (list(values) for values in zip(*made, strict=True))
                curves[name] = {"cost_over_noise": [c / case.noise_cost for c in costs], "psnr": psnr}
            levels = {name: case.psnr(learned(network, case, stop=True)[0]) for name, network in networks.items()}
            rows.append(
                {
                    "structure": case.structure,
                    "photons": photons,
                    "levels": {"widefield": case.psnr(case.widefield), **levels},
                    "solvers": curves,
                }
            )
    return {"figures": {"rows": rows}}


def _frames(run: _Run) -> dict[str, Any]:
    """Quality by number of frames."""
    from nstm.pipeline.blind_cases import at_noise, learned

    chosen, rows = run.chosen, []
    for number in chosen.numbers:
        networks = run.networks(number)
        for case in run.cases(chosen.side_px, 2, patterns=number):
            found = {
                "widefield": case.widefield,
                **{name: learned(network, case, stop=True)[0] for name, network in networks.items()},
                **{name: at_noise(name, case, chosen.iterations) for name in ("conjugate_gradient", "per_frame")},
            }
            psnr = {name: case.psnr(image) for name, image in found.items()}
            rows.append({"structure": case.structure, "frames": number, "psnr": psnr})
    return {"figures": {"rows": rows}}


def _pace(run: _Run) -> dict[str, Any]:
    """How long a large image takes every method."""
    from nstm.pipeline.blind_cases import pace

    networks, chosen = run.networks(), run.chosen
    rows = [
        {"structure": case.structure, "side_px": len(case.truth), "methods": pace(case, networks, chosen.iterations)}
        for case in run.cases(chosen.pace_side_px, 1)
    ]
    return {"figures": {"rows": rows, "frames": chosen.frames}}


def _domains(run: _Run) -> dict[str, Any]:
    """Every network, trained on one structure, on images of all; and UBSIM without any training."""
    from nstm.blindsim import Unrolled
    from nstm.pipeline.blind_cases import cases, learned

    settings, chosen, rows, pictures = run.settings, run.chosen, [], {}
    names, s = domains_of(chosen, run.images), settings.training
    begin = Unrolled.new(s.mode, chosen.frames, s.width, blocks=s.blocks)  # finds the same whatever its seed
    trained = {key: _network(settings, key.split("/")[1], Path(path)) for key, path in run.weights.items()}
    for tested in names:
        of = domain(s, run.images, tested, "test")
        for number, case in enumerate(cases(of, microscope_of(settings), chosen.side_px, _OF_DOMAIN)):
            found = {key: network(case) for key, network in trained.items()}
            psnr = {key: case.psnr(image) for key, image in found.items()}
            untrained = case.psnr(learned(begin, case, stop=True)[0])
            rows.append(
                {"tested": tested, "widefield": case.psnr(case.widefield), "untrained": untrained, "psnr": psnr}
            )
            if number == 0:
                pictures[tested] = {"truth": case.truth, "widefield": case.widefield, **found}
    figures = {
        "domains": names,
        "networks": list(chosen.networks),
        "rows": rows,
        "trainings": {key: _card(Path(path)) for key, path in run.weights.items()},
        **_drops(rows, names),
    }
    return {"figures": figures, "shown": {"pictures": pictures, "pixel_um": s.pitch_um}}


def _card(path: Path) -> dict[str, Any]:
    """What a network says of its training."""
    from safetensors import safe_open

    with safe_open(str(path), framework="numpy") as file:
        return dict(json.loads(file.metadata()["card"]))


def _network(settings: Blind, kind: str, path: Path) -> Callable[[Case], np.ndarray]:
    """A trained network as a function of a case."""
    from safetensors.numpy import load

    from nstm.blindsim.supervised import Supervised
    from nstm.blindsim.unrolled import Unrolled
    from nstm.blindsim.weights import with_arrays
    from nstm.pipeline.blind_cases import learned

    s, frames, arrays = settings.training, settings.studies.frames, load(path.read_bytes())
    if kind == "ubsim":
        unrolled = with_arrays(Unrolled.new(s.mode, frames, s.width, blocks=s.blocks), arrays, str(path))
        return lambda case: learned(unrolled, case, stop=True)[0]
    empty: Any = Supervised.new(kind, frames)  # type: ignore[arg-type]  # a Kind by the settings
    taught = with_arrays(empty, arrays, str(path))
    return lambda case: np.asarray(taught(case.frames))


def _drops(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Mean PSNR by ``DOMAIN/NETWORK`` and what it was tested on; by network its mean on the structures that it was
    trained on, on others, and the difference.
    """
    keys = list(rows[0]["psnr"])
    table = {
        key: {name: float(np.mean([r["psnr"][key] for r in rows if r["tested"] == name])) for name in names}
        for key in keys
    }
    means = {}
    for network in dict.fromkeys(key.split("/")[1] for key in keys):
        own = float(np.mean([table[f"{name}/{network}"][name] for name in names]))
        others = float(np.mean([table[f"{a}/{network}"][b] for a in names for b in names if a != b]))
        means[network] = {"own": own, "others": others, "drop_db": own - others}
    return {"psnr": table, "means": means}


_STUDIES: dict[str, Callable[[_Run], dict[str, Any]]] = {
    "structures": _structures,
    "iterations": _iterations,
    "noise": _noise,
    "frames": _frames,
    "pace": _pace,
    "domains": _domains,
}
