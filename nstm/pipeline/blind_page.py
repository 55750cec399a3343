"""The page of the studies of blind SIM: a picture and tables of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nstm.acquisition import DataError
from nstm.io.jsonfile import read_json
from nstm.io.whole import replace_whole
from nstm.visual.blind import NETWORKS

#: Titles of the studies.
TITLES = {
    "structures": "Quality by structure",
    "iterations": "Iterations and time to the cost of UBSIM",
    "noise": "Quality by iteration",
    "frames": "Number of frames",
    "domains": "Structures that a network never saw",
}
#: Methods by what they are called.
METHODS = {
    "widefield": "widefield",
    "ubsim": "UBSIM",
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
that are smaller than asked go on as their mirror images. PSNR is equalised, in dB. *At the noise*: stopped where
the cost has the energy of the noise, as the workflow does; *at their best*: at the iteration of the largest PSNR, which
only a simulation tells. Seconds are of the processor, compiled and warm, in one process."""


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _median(values: Sequence[float], decimals: int) -> str:
    return f"{np.median(values):.{decimals}f}"


def _of_structures(record: Mapping[str, Any]) -> Iterator[str]:
    rows = record["rows"]
    for figure, title, decimals in (
        ("psnr", "PSNR", 1),
        ("ssim", "SSIM", 2),
        ("ms_ssim", "MS-SSIM", 2),
        ("gain", "gain of resolution over widefield (image decorrelation)", 2),
    ):
        lines = []
        for structure in dict.fromkeys(row["structure"] for row in rows):
            some = [row["methods"] for row in rows if row["structure"] == structure]
            medians = [_median([methods[name][figure] for methods in some], decimals) for name in METHODS]
            lines.append([f"{structure}, {len(some)} images", *medians])
        yield _table([f"{title}, median", *METHODS.values()], lines)


#: Seconds of UBSIM and of its transforms.
_TIMES: tuple[Callable[[Mapping[str, Any]], float], ...] = (lambda r: r["ubsim"]["seconds"], lambda r: r["floor_s"])


def _of_iterations(record: Mapping[str, Any]) -> Iterator[str]:
    lines = []
    for row in record["rows"]:
        for name, made in row["solvers"].items():
            count = f"{made['iterations']}" if made["reached"] else f"more than {made['iterations']}"
            ratio = (
                f"{made['iterations_ratio']:.0f}" if made["reached"] else f"more than {made['iterations_ratio']:.0f}"
            )
            cells = [row["structure"], name, count, ratio, f"{made['seconds']:.2f}", f"{made['seconds_ratio']:.2f}"]
            lines.append(cells)
    first = record["rows"][0]
    seconds, floor = (np.mean([value(r) for r in record["rows"]]) for value in _TIMES)
    yield (
        f"{first['side_px']} x {first['side_px']} pixels, {first['frames']} frames. UBSIM: "
        f"{first['ubsim']['iterations']} iterations, {seconds:.2f} s; its transforms alone take {floor:.2f} s. The "
        "convex solution (`per_frame`) stands beside."
    )
    yield _table(["structure", "solver", "iterations", "times those of UBSIM", "s", "times that of UBSIM"], lines)


def _of_noise(record: Mapping[str, Any]) -> Iterator[str]:
    lines = []
    for row in record["rows"]:
        cells = [row["structure"], f"{row['photons']:g}", f"{row['widefield']:.1f}", f"{row['ubsim']:.1f}"]
        for curve in row["solvers"].values():
            psnr, cost = np.array(curve["psnr"]), np.array(curve["cost_over_noise"])
            reached = np.flatnonzero(cost <= 1)
            at_noise = f"{psnr[reached[0]]:.1f} ({reached[0]})" if len(reached) else "not reached"
            cells.append(f"{psnr.max():.1f} ({psnr.argmax()}) / {at_noise} / {psnr[-1]:.1f}")
        lines.append(cells)
    names = record["rows"][0]["solvers"]
    yield "Of every solver: PSNR at its best / at the noise / in the end, with the iteration."
    yield _table(["structure", "photons", "widefield", "UBSIM", *names], lines)


def _of_frames(record: Mapping[str, Any]) -> Iterator[str]:
    rows, lines = record["rows"], []
    names = list(rows[0]["psnr"])
    for number in dict.fromkeys(row["frames"] for row in rows):
        some = [row["psnr"] for row in rows if row["frames"] == number]
        lines.append([str(number), *(f"{np.mean([psnr[name] for psnr in some]):.1f}" for name in names)])
    yield _table(["frames", *(f"{METHODS[name]}, mean" for name in names)], lines)


def _of_domains(record: Mapping[str, Any]) -> Iterator[str]:
    names, lines = record["domains"], []
    for key, by in record["psnr"].items():
        trained, network = key.split("/")
        lines.append([NETWORKS[network], trained, *(f"{by[name]:.1f}" for name in names)])
    wide = [np.mean([r["widefield"] for r in record["rows"] if r["tested"] == name]) for name in names]
    lines.append(["widefield", "", *(f"{value:.1f}" for value in wide)])
    yield _table(["network", "trained on", *(f"tested on {name}" for name in names)], lines)
    lost = ", ".join(f"{NETWORKS[network]} {drop:.1f} dB" for network, drop in record["drop_db"].items())
    yield f"Lost on structures that the network was not trained on, mean: {lost}."


_TABLES: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "structures": _of_structures,
    "iterations": _of_iterations,
    "noise": _of_noise,
    "frames": _of_frames,
    "domains": _of_domains,
}
