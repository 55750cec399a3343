"""The studies of blind SIM: UBSIM beside the iterative solvers, and beside networks that were shown what to find.

After Burns et al., Nature Communications 2026. Every study is one JSON file and one figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nstm.acquisition import DataError
from nstm.io.jsonfile import write_json
from nstm.io.whole import replace_whole
from nstm.pipeline.blind_page import METHODS, TITLES
from nstm.pipeline.blind_settings import Blind, Training, domains_of
from nstm.simulate.blind_images import DIGITS, Part, Sources, digits, sources
from nstm.simulate.speckle import SpeckleMicroscope

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
    """Train one network on one structure; its weights as safetensors, in the end.

    Args:
        params: ``training`` (settings), ``frames``, ``domain`` and ``network``.
        images: folder of the images; ``None``: simulated.
        out: the weights; the state of a training that was stopped stands beside.
        progress: told one line after every epoch.
    """
    import jax.numpy as jnp
    from safetensors.numpy import save

    from nstm.blindsim.supervised import Supervised, squared_error
    from nstm.blindsim.training import Plan, Unsupervised, train
    from nstm.blindsim.unrolled import Unrolled
    from nstm.blindsim.weights import arrays_of
    from nstm.pipeline.train_blind import batches
    from nstm.simulate.speckle import transfer_on

    s, kind = Training.model_validate(params["training"]), params["network"]
    taught = kind != "ubsim"
    of = domain(s, images, params["domain"], "training")
    held = domain(s, images, params["domain"], "validation")
    plan, state = Plan(epochs=s.epochs, rate=s.rate, patience=s.patience), out.with_suffix(".state.npz")
    network: Any
    loss: Any
    if taught:
        s = s.model_copy(update={"frames": params["frames"]})
        network, loss = Supervised.new(kind, s.frames, seed=s.seed), squared_error
    else:
        transfer = jnp.asarray(transfer_on((s.side_px, s.side_px), s.microscope, s.pitch_um), jnp.float32)
        network = Unrolled.new(s.mode, s.frames, s.width, blocks=s.blocks, seed=s.seed)
        loss = Unsupervised(transfer, s.every_block)
    found, _ = train(
        network,
        loss,
        lambda epoch: batches(of, s, s.stacks, [s.seed, 1, epoch], taught=taught),
        list(batches(held, s, s.validation_stacks, [s.seed, 2], taught=taught)),
        plan,
        about={**{k: params[k] for k in ("network", "domain")}, **s.model_dump(exclude={"epochs"})},
        checkpoint=state,
        progress=progress,
    )
    with replace_whole(out) as temporary:
        Path(temporary).write_bytes(save(arrays_of(found)))
    state.unlink(missing_ok=True)


def run_blind_study(
    study: str,
    params: Mapping[str, Any],
    images: Path | None,
    weights: Mapping[str, str | Path],
    out_json: Path,
    out_png: Path,
) -> None:
    """Write figures and picture of one study.

    Args:
        study: key of :data:`nstm.pipeline.blind_page.TITLES`.
        params: the settings ``blind``, as :meth:`Blind.model_dump` gives them.
        images: folder of the images; ``None``: simulated.
        weights: of ``ubsim``; for the study ``domains`` by ``DOMAIN/NETWORK``.
        out_json: the figures.
        out_png: the picture.
    """
    from nstm.visual import blind as pictures
    from nstm.visual.figures import save_png

    settings = Blind.model_validate(params)
    record = _STUDIES[study](settings, images, weights)
    write_json(out_json, {"study": study, "title": TITLES[study], **record["figures"]})
    save_png(getattr(pictures, f"{study}_figure")(record["figures"], **record.get("shown", {})), out_png, dpi=110)


def _test_images(settings: Blind, images: Path | None) -> Sources:
    s = settings.training
    return sources(images, "test", s.pitch_um, s.image_pixel_um)


def _structures(settings: Blind, images: Path | None, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Every method on every image that the network was not trained on."""
    from nstm.blindsim import load_weights
    from nstm.pipeline.blind_cases import at_best, at_noise, cases, learned

    network, chosen, rows = load_weights(weights["ubsim"])[0], settings.studies, []
    pictures: dict[str, dict[str, np.ndarray]] = {}
    for case in cases(_test_images(settings, images), microscope_of(settings), chosen.side_px, chosen.images):
        best, iteration = at_best("conjugate_gradient", case, chosen.iterations)
        found = {
            "widefield": case.widefield,
            "ubsim": learned(network, case, stop=True)[0],
            "conjugate_gradient": at_noise("conjugate_gradient", case, chosen.iterations),
            "conjugate_gradient_best": best,
            "per_frame": at_noise("per_frame", case, chosen.iterations),
        }
        methods = {name: case.figures(image) for name, image in found.items()}
        for figures in methods.values():
            figures["gain"] = methods["widefield"]["resolution_um"] / figures["resolution_um"]
        rows.append({"structure": case.structure, "best_iteration": iteration, "methods": methods})
        pictures.setdefault(case.structure, {"truth": case.truth, **{METHODS[k]: v for k, v in found.items()}})
    return {"figures": {"rows": rows}, "shown": {"pictures": pictures, "pixel_um": settings.training.pitch_um}}


def _iterations(settings: Blind, images: Path | None, weights: Mapping[str, Any]) -> dict[str, Any]:
    """How many iterations every solver takes to the cost that UBSIM reaches."""
    from nstm.blindsim import load_weights
    from nstm.pipeline.blind_cases import cases, race

    network, chosen = load_weights(weights["ubsim"])[0], settings.studies
    some = cases(_test_images(settings, images), microscope_of(settings), chosen.race_side_px, 1)
    return {"figures": {"rows": [race(case, network, chosen.race_iterations) for case in some]}}


def _noise(settings: Blind, images: Path | None, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Cost and quality by iteration, in little and in much light: where the noise begins to be fitted."""
    from nstm.blindsim import load_weights
    from nstm.pipeline.blind_cases import cases, followed, learned

    network, chosen, rows = load_weights(weights["ubsim"])[0], settings.studies, []
    for photons in _LIGHTS:
        microscope = microscope_of(settings, photons=photons)
        for case in cases(_test_images(settings, images), microscope, chosen.side_px, 1):
            curves = {}
            for name in ("conjugate_gradient", "nesterov", "per_frame"):
                made = [(cost, case.psnr(image)) for cost, image in followed(name, case, 2 * chosen.iterations)]
                costs, psnr = (list(values) for values in zip(*made, strict=True))
                curves[name] = {"cost_over_noise": [c / case.noise_cost for c in costs], "psnr": psnr}
            rows.append(
                {
                    "structure": case.structure,
                    "photons": photons,
                    "widefield": case.psnr(case.widefield),
                    "ubsim": case.psnr(learned(network, case, stop=True)[0]),
                    "solvers": curves,
                }
            )
    return {"figures": {"rows": rows}}


def _frames(settings: Blind, images: Path | None, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Quality by number of frames."""
    from nstm.blindsim import load_weights
    from nstm.pipeline.blind_cases import at_noise, cases, learned

    network, chosen, rows = load_weights(weights["ubsim"])[0], settings.studies, []
    for number in chosen.numbers:
        microscope = microscope_of(settings, patterns=number)
        for case in cases(_test_images(settings, images), microscope, chosen.side_px, 2):
            found = {
                "widefield": case.widefield,
                "ubsim": learned(network, case, stop=True)[0],
                **{name: at_noise(name, case, chosen.iterations) for name in ("conjugate_gradient", "per_frame")},
            }
            psnr = {name: case.psnr(image) for name, image in found.items()}
            rows.append({"structure": case.structure, "frames": number, "psnr": psnr})
    return {"figures": {"rows": rows}}


def _domains(settings: Blind, images: Path | None, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Every network, trained on one structure, on images of all."""
    from nstm.pipeline.blind_cases import cases

    chosen, rows, pictures = settings.studies, [], {}
    names = domains_of(chosen, images)
    trained = {key: _network(settings, key.split("/")[1], Path(path)) for key, path in weights.items()}
    for tested in names:
        of = domain(settings.training, images, tested, "test")
        for number, case in enumerate(cases(of, microscope_of(settings), chosen.side_px, _OF_DOMAIN)):
            found = {key: network(case) for key, network in trained.items()}
            psnr = {key: case.psnr(image) for key, image in found.items()}
            rows.append({"tested": tested, "widefield": case.psnr(case.widefield), "psnr": psnr})
            if number == 0:
                pictures[tested] = {"truth": case.truth, "widefield": case.widefield, **found}
    figures = {"domains": names, "networks": list(chosen.networks), "rows": rows, **_drops(rows, names)}
    return {"figures": figures, "shown": {"pictures": pictures, "pixel_um": settings.training.pitch_um}}


def _network(settings: Blind, kind: str, path: Path) -> Callable[[Any], np.ndarray]:
    """A trained network as a function of a case."""
    from safetensors.numpy import load

    from nstm.blindsim.supervised import Supervised
    from nstm.blindsim.unrolled import Unrolled
    from nstm.blindsim.weights import with_arrays
    from nstm.pipeline.blind_cases import learned

    s, arrays = settings.training, load(path.read_bytes())
    if kind == "ubsim":
        unrolled = with_arrays(Unrolled.new(s.mode, s.frames, s.width, blocks=s.blocks), arrays, str(path))
        return lambda case: learned(unrolled, case, stop=True)[0]
    empty: Any = Supervised.new(kind, settings.studies.frames)  # type: ignore[arg-type]  # a Kind by the settings
    taught = with_arrays(empty, arrays, str(path))
    return lambda case: np.asarray(taught(case.frames))


def _drops(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Mean PSNR by ``DOMAIN/NETWORK`` and what it was tested on, and what a network loses on others' structures."""
    keys = list(rows[0]["psnr"])
    table = {
        key: {name: float(np.mean([r["psnr"][key] for r in rows if r["tested"] == name])) for name in names}
        for key in keys
    }
    drops = {}
    for network in dict.fromkeys(key.split("/")[1] for key in keys):
        own = np.mean([table[f"{name}/{network}"][name] for name in names])
        others = [table[f"{a}/{network}"][b] for a in names for b in names if a != b]
        drops[network] = float(own - np.mean(others))
    return {"psnr": table, "drop_db": drops}


_STUDIES: dict[str, Callable[[Blind, Path | None, Mapping[str, Any]], dict[str, Any]]] = {
    "structures": _structures,
    "iterations": _iterations,
    "noise": _noise,
    "frames": _frames,
    "domains": _domains,
}
