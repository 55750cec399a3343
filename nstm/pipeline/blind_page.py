"""The page of the studies of blind SIM: a picture and tables of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nstm.acquisition import DataError
from nstm.io.jsonfile import read_json
from nstm.io.whole import replace_whole
from nstm.visual.blind import NETWORKS, UNTRAINED

#: Titles of the studies.
TITLES = {
    "structures": "Quality by structure",
    "iterations": "Iterations and time to the cost of UBSIM",
    "noise": "Quality by iteration",
    "frames": "Number of frames",
    "pace": "Pace",
    "domains": "Structures that a network never saw",
}
#: Methods by what they are called.
METHODS = {
    "widefield": "widefield",
    **{name: title for name, title in NETWORKS.items() if name.startswith("ubsim")},
    "conjugate_gradient": "conjugate gradients, stopped at the noise",
    "conjugate_gradient_best": "conjugate gradients, stopped at their best",
    "per_frame": "convex, stopped at the noise",
}


def run_page(records: Sequence[str | Path], out: str | Path) -> None:
    """Write the page of all studies (Markdown); the pictures stand beside it in ``pictures``.

    Raises:
        DataError: a file is that of no study.
    """
    parts = [_HEAD]
    for record in map(read_json, records):
        study = record.get("study")
        if study not in _TABLES:
            raise DataError(f"{study!r} is no study of blind SIM: one of {', '.join(_TABLES)}")
        parts += [f"## {record['title']}", f"![{record['title']}](pictures/studies_blind_{study}.png)"]
        parts += list(_TABLES[study](record))
    with replace_whole(out) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


_HEAD = """\
# Studies of blind SIM

Made by `snakemake studies_blind`; do not edit. Images of the test part of the split, which a network trained on the
same folder has not seen, under fully developed speckle of the objective's aperture, with photon and read noise. Images
that are smaller than asked go on as their mirror images. PSNR is equalised, in dB; MSE is not. *At the noise*: stopped
where the cost has the energy of the noise, as the workflow does but for the convex solution, which it lets go on until
the cost is flat; *at their best*: at the iteration of the largest PSNR, which only a simulation tells. Seconds are of
the processor, compiled and warm, the least of two runs; those to a cost are in proportion to the iterations.
*Untrained*: a network of UBSIM before its training. It adds nothing yet to the projected steps that its blocks begin
with, each as long as is best; so what it reaches is due to the unrolled scheme, and only the rest to learning."""


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _median(values: Sequence[float], decimals: int) -> str:
    return f"{np.median(values):.{decimals}f}"


#: Figures of an image: title and decimals.
_FIGURES = {
    "psnr": ("PSNR", 1),
    "ssim": ("SSIM", 2),
    "ms_ssim": ("MS-SSIM", 2),
    "mse": ("MSE x 1000", 2),
    "lpips": ("LPIPS", 3),
    "frc_um": ("resolution by ring correlation with the truth (1/7), um", 3),
    "gain": ("gain of resolution over widefield (image decorrelation)", 2),
}


def _of_structures(record: Mapping[str, Any]) -> Iterator[str]:
    rows = record["rows"]
    names = list(rows[0]["methods"])
    for figure in (name for name in _FIGURES if name in rows[0]["methods"]["widefield"]):
        title, decimals = _FIGURES[figure]
        scale, lines = 1000 if figure == "mse" else 1, []
        for structure in dict.fromkeys(row["structure"] for row in rows):
            some = [row["methods"] for row in rows if row["structure"] == structure]
            medians = [_median([scale * methods[name][figure] for methods in some], decimals) for name in names]
            lines.append([f"{structure}, {len(some)} images", *medians])
        yield _table([f"{title}, median", *(METHODS[name] for name in names)], lines)


def _of_iterations(record: Mapping[str, Any]) -> Iterator[str]:
    rows = record["rows"]
    side, frames = rows[0]["side_px"], rows[0]["frames"]
    yield (
        f"{side} x {side} pixels, {frames} frames, one image of each structure. Every solver runs until its cost is "
        "that of a network after its last block; the convex solution (`per_frame`) stands beside."
    )
    networks = rows[0]["networks"]
    yield _table(
        ["conjugate gradients, iterations to the cost of", *(METHODS[name] for name in networks)],
        [[row["structure"], *(_count(row["networks"][name]) for name in networks)] for row in rows],
    )
    for name in networks:
        lines = []
        for row in rows:
            for solver, made in row["networks"][name]["solvers"].items():
                more = "" if made["reached"] else "more than "
                count, ratio = (f"{more}{made[key]:.0f}" for key in ("iterations", "iterations_ratio"))
                times = [f"{more}{made[key]:.2f}" for key in ("seconds", "seconds_ratio")]
                lines.append([row["structure"], solver, count, ratio, *times])
        own = [row["networks"][name] for row in rows]
        seconds, floor = (np.mean([r[key] for r in own]) for key in ("seconds", "floor_s"))
        yield (
            f"{METHODS[name]}: {own[0]['iterations']} iterations, {seconds:.2f} s; the transforms of its blocks alone "
            f"take {floor:.2f} s."
        )
        yield _table(["structure", "solver", "iterations", "times its own", "s", "times its own"], lines)


def _count(network: Mapping[str, Any]) -> str:
    made = network["solvers"]["conjugate_gradient"]
    return f"{'' if made['reached'] else 'more than '}{made['iterations']}"


def _of_noise(record: Mapping[str, Any]) -> Iterator[str]:
    lines = []
    for row in record["rows"]:
        cells = [row["structure"], f"{row['photons']:g}", *(f"{psnr:.1f}" for psnr in row["levels"].values())]
        for curve in row["solvers"].values():
            psnr, cost = np.array(curve["psnr"]), np.array(curve["cost_over_noise"])
            reached = np.flatnonzero(cost <= 1)
            at_noise = f"{psnr[reached[0]]:.1f} ({reached[0]})" if len(reached) else "not reached"
            cells.append(f"{psnr.max():.1f} ({psnr.argmax()}) / {at_noise} / {psnr[-1]:.1f}")
        lines.append(cells)
    first = record["rows"][0]
    yield (
        "One image of each structure. Of every solver: PSNR at its best / at the noise / in the end, with the "
        "iteration."
    )
    yield _table(["structure", "photons", *(METHODS[name] for name in first["levels"]), *first["solvers"]], lines)


def _of_frames(record: Mapping[str, Any]) -> Iterator[str]:
    rows, lines = record["rows"], []
    names = [name for name in METHODS if any(name in row["psnr"] for row in rows)]
    for number in dict.fromkeys(row["frames"] for row in rows):
        some = [row["psnr"] for row in rows if row["frames"] == number]
        means = [f"{np.mean([psnr[name] for psnr in some]):.1f}" if name in some[0] else "" for name in names]
        lines.append([str(number), *means])
    yield f"Mean of {len(rows) // len(lines)} images, two of each structure."
    yield _table(["frames", *(METHODS[name] for name in names)], lines)


def _of_pace(record: Mapping[str, Any]) -> Iterator[str]:
    rows = record["rows"]
    side = rows[0]["side_px"]
    yield (
        f"{side} x {side} pixels, {record['frames']} frames, to the noise; mean of {len(rows)} images, one of each "
        "structure."
    )
    lines = []
    for name in rows[0]["methods"]:
        iterations, seconds, psnr = (
            np.mean([row["methods"][name][key] for row in rows]) for key in ("iterations", "seconds", "psnr")
        )
        lines.append([METHODS[name], f"{iterations:.0f}", f"{seconds:.2f}", f"{1 / seconds:.2f}", f"{psnr:.1f}"])
    yield _table(["method", "iterations", "s", "images per second", "PSNR"], lines)


def _of_domains(record: Mapping[str, Any]) -> Iterator[str]:
    names, trainings, lines = record["domains"], record["trainings"], []
    for key, by in record["psnr"].items():
        trained, network = key.split("/")
        lines.append([NETWORKS[network], trained, *(f"{by[name]:.1f}" for name in names)])
    untrained = [NETWORKS["ubsim" + UNTRAINED], ""]
    for begin, key in ((untrained, "untrained"), (["widefield", ""], "widefield")):
        means = [np.mean([r[key] for r in record["rows"] if r["tested"] == name]) for name in names]
        lines.append([*begin, *(f"{value:.1f}" for value in means)])
    each = len(record["rows"]) // len(names)
    yield (
        f"Mean PSNR of {each} images of each structure. UBSIM stops at the noise; the others are shown the truth in "
        "training."
    )
    yield _table(["network", "trained on", *(f"tested on {name}" for name in names)], lines)
    lines = []
    for network, own in record["means"].items():
        cards = [card for key, card in trainings.items() if key.endswith(f"/{network}")]
        first, seconds = cards[0], np.median([card["seconds"] for card in cards])
        lines.append(
            [
                NETWORKS[network],
                *(f"{own[key]:.2f}" for key in ("own", "others", "drop_db")),
                f"{first['parameters']:,}",
                f"{first['stacks']:,} of {first['frames']} frames, {first['side_px']} px",
                f"{seconds:.0f}",
            ]
        )
    whole = f"{np.mean([r['untrained'] for r in record['rows']]):.2f}"
    lines.append([untrained[0], whole, whole, "0.00", "0", "none", ""])
    means = ["on its own structure", "on the others", "lost, dB"]
    yield _table(["network", *means, "parameters", "trained on stacks", "in s, median"], lines)


_TABLES: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "structures": _of_structures,
    "iterations": _of_iterations,
    "noise": _of_noise,
    "frames": _of_frames,
    "pace": _of_pace,
    "domains": _of_domains,
}
