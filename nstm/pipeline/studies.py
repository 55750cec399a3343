"""The paper's studies: one case fitted with and without coarse-to-fine, a study as table, figure and movies.

Cao et al., Nature Methods 2024, Extended Data 1, 2, 8 to 10 and Supplementary Videos 1, 2, 7 to 9, on a target that is
computed anew. The illumination is given, so that only scene and motion are at stake.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nstm.acquisition import DataError
from nstm.io.jsonfile import read_json, write_json
from nstm.io.whole import replace_whole
from nstm.metrics import endpoint_error, psnr_equalised, psnr_plain, ssim
from nstm.settings import Movie, Reconstruction, override
from nstm.simulate.diffusercam import LenslessCamera
from nstm.simulate.dpc import DpcMicroscope
from nstm.simulate.recording import Recording
from nstm.simulate.sim import SimMicroscope
from nstm.simulate.studies import STUDIES, Microscope, StudyCase, record_case
from nstm.visual.studies import ShownCase, save_small_png, study_figure, study_movie

SCHEMA = 1
#: The fits of a case by name, and what they are called.
FITS = {"open": "without coarse-to-fine", "nstm": "NSTM"}
#: What they change in the settings of a case.
CHANGES: dict[str, dict[str, Any]] = {"open": {"windows_open_at": 0.0, "sliding": False}, "nstm": {}}
SYSTEMS = {"dpc": "DPC", "sim": "SIM", "diffusercam": "DiffuserCam"}
MOVIE = Movie(frames_per_second=3, height_px=192)
#: What every study varies.
_TITLES = {
    "motion": "Kind of motion (Extended Data 1 and 2)",
    "rows": "Rows of a rolling shutter (Extended Data 7)",
    "magnitude": "Magnitude of motion (Extended Data 8)",
    "vibration": "Vibration (Extended Data 9)",
    "noise": "Noise (Extended Data 10)",
}


def run_study_case(params: Mapping[str, Any], out_images: str | Path, out_json: str | Path) -> None:
    """Simulate one case and fit it twice, with all levels open from the start and coarse to fine.

    Args:
        params: from :meth:`nstm.pipeline.study_runs.Studies.case_params`.
        out_images: ``.npz`` with ``times_s`` (t,), ``truth`` and a result for each of :data:`FITS`, ``(t, y, x)``, and
            the pixel of each, ``*_pixel_um``.
        out_json: the figures of both fits.
    """
    from nstm.simulate.imaging import system_of

    case = StudyCase(**params["case"])
    recording = record_case(case, microscope_of(case, params["side_px"]))
    system = system_of(recording.microscope)
    settings = Reconstruction.model_validate(params["reconstruction"])
    truth = recording.truth_tczyx()[:, -1, 0]
    images: dict[str, Any] = {
        "times_s": recording.truth_times,
        "truth": truth,
        "truth_pixel_um": recording.spacing_um[-1],
    }
    figures = {}
    for name, changes in CHANGES.items():
        images[name], images[f"{name}_pixel_um"], figures[name] = _fitted(
            recording, system, override(settings, changes)
        )
    with replace_whole(out_images) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **images)
    write_json(
        out_json,
        {
            "schema": SCHEMA,
            "case": params["case"],
            "label": params["label"],
            "side_px": params["side_px"],
            "steps": settings.steps,
            "times_s": recording.truth_times,
            "largest_interval_px": float(np.linalg.norm(true_motion(recording), axis=1).max())
            / recording.microscope.pixel_um,
            "fits": figures,
        },
    )


def microscope_of(case: StudyCase, side_px: int) -> Microscope:
    """The instrument of a case, with a square field."""
    kinds = {"dpc": DpcMicroscope, "sim": SimMicroscope, "diffusercam": LenslessCamera}
    return kinds[case.system](shape=(side_px, side_px))


def true_motion(recording: Recording) -> np.ndarray:
    """Displacement ``(t - 1, 2, y, x)`` in um from each time of the truth to the next, of what is there then."""
    times = recording.truth_times.tolist()
    return np.stack([recording.material_displacement(earlier, later) for earlier, later in pairwise(times)])


def _fitted(recording: Recording, system: Any, settings: Reconstruction) -> tuple[np.ndarray, float, dict[str, Any]]:
    """Result ``(t, y, x)`` at the times of the truth, its pixel, and its figures by time and in the mean."""
    from nstm.simulate.imaging import calibration_of, stacked
    from nstm.spacetime import reconstruct

    frames, times = stacked(recording)
    begin = time.perf_counter()
    fit = reconstruct(system, frames, times, settings, calibration=calibration_of(recording))
    seconds = time.perf_counter() - begin
    found = fit.scene(recording.truth_times)[:, -1, 0]
    truth, pixel = recording.truth_tczyx()[:, -1, 0], recording.spacing_um[-1]
    kc = system.cutoff(recording.calibration)
    curves = {
        "psnr_plain": [psnr_plain(a, b, pixel, kc) for a, b in zip(found, truth, strict=True)],
        "ssim": [ssim(a, b, pixel, kc) for a, b in zip(found, truth, strict=True)],
        "psnr_equalised": [psnr_equalised(a, b, pixel, kc) for a, b in zip(found, truth, strict=True)],
        "ssim_equalised": [ssim(a, b, pixel, kc, equalised=True) for a, b in zip(found, truth, strict=True)],
    }
    error = endpoint_error(fit.motion(recording.truth_times)[1:, :, 0], true_motion(recording), axis=1)
    noise = fit.noise_variance
    figures = {
        **curves,
        "mean": {name: float(np.mean(values)) for name, values in curves.items()},
        "residual": None if noise is None else float(np.mean(fit.residual**2) / noise.mean()),
        "motion_error_px": error["mean"] / recording.microscope.pixel_um,
        "motion_determined": error["known"],
        "seconds": seconds,
        "compile_seconds": fit.trace.compile_seconds,
    }
    return found, fit.output_pixel_um, figures


def run_study(
    records: Sequence[str | Path],
    images: Sequence[str | Path],
    out_tsv: str | Path,
    out_png: str | Path,
    out_movies: Mapping[str, str | Path],
) -> None:
    """Write table, figure and movies of a study.

    Args:
        records: the JSON file of every case, in the order of the study.
        images: the ``.npz`` file of every case, in the same order.
        out_tsv: the table, a row per case and fit.
        out_png: truth and both fits of every case, and their figures of merit.
        out_movies: by system: truth above both fits, one case per column.

    Raises:
        DataError: the movies asked for are not those of the systems of the cases, or a file cannot be read.
    """
    cases = [read_json(path) for path in records]
    shown: dict[str, list[ShownCase]] = {}
    for case, path in zip(cases, images, strict=True):
        shown.setdefault(case["case"]["system"], []).append(_shown(case, Path(path)))
    if set(shown) != set(out_movies):
        raise DataError(f"the study has cases of {sorted(shown)}, but movies are asked for of {sorted(out_movies)}")
    _write_table(cases, Path(out_tsv))
    save_small_png(study_figure({SYSTEMS[system]: some for system, some in shown.items()}), Path(out_png))
    for system, path in out_movies.items():
        study_movie(shown[system], Path(path), MOVIE)


def _shown(record: Mapping[str, Any], path: Path) -> ShownCase:
    """Images and figures of a case as they are shown."""
    with np.load(path, allow_pickle=False) as file:
        stored = dict(file)
    panels = {
        title: xr.DataArray(
            stored[name][:, None, None],
            dims=("t", "c", "z", "y", "x"),
            coords={"t": stored["times_s"]},
            attrs={"pixel_um": float(stored[f"{name}_pixel_um"])},
        )
        for name, title in {"truth": "truth", **FITS}.items()
    }
    means = {title: record["fits"][name]["mean"] for name, title in FITS.items()}
    return ShownCase(record["label"], panels, {title: float(m["psnr_equalised"]) for title, m in means.items()})


def _rows(cases: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """A row per case and fit, means over the times."""
    for case in cases:
        for name, title in FITS.items():
            fit = case["fits"][name]
            yield {
                "system": case["case"]["system"],
                "case": case["label"],
                "largest_interval_px": case["largest_interval_px"],
                "fit": title,
                **fit["mean"],
                **{k: fit[k] for k in ("residual", "motion_error_px", "motion_determined", "seconds")},
            }


def _write_table(cases: Sequence[Mapping[str, Any]], out: Path) -> None:
    text = io.StringIO()
    rows = list(_rows(cases))
    writer = csv.DictWriter(text, list(rows[0]), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
    with replace_whole(out) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def run_studies(records: Sequence[str | Path], chosen: Sequence[tuple[str, str]], out_page: str | Path) -> None:
    """Write the page of all studies (Markdown); pictures and movies stand beside it in ``pictures``.

    Args:
        records: the JSON files of all cases of all studies, in their order.
        chosen: engine and study of every one.
        out_page: the page.
    """
    read = iter(records)
    parts = [_HEAD]
    for engine, study in chosen:
        cases = [read_json(path) for path in islice(read, len(STUDIES[study]))]
        name = f"pictures/studies_{engine}_{study}"
        systems = dict.fromkeys(case.system for case in STUDIES[study])
        movies = ", ".join(f"[{SYSTEMS[system]}]({name}_{system}.mp4)" for system in systems)
        side, steps = cases[0]["side_px"], cases[0]["steps"]
        parts += [
            f"## {_TITLES[study]}, engine `{engine}`",
            f"{side} x {side} camera pixels, {steps} steps. Movies: {movies}.",
            f"![{_TITLES[study]}: truth, both fits, and their PSNR]({name}.png)",
            _markdown(cases),
            f"Mean of all cases, equalised: {'; '.join(_summary(cases))}.",
        ]
    with replace_whole(out_page) as temporary:
        temporary.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


_HEAD = """\
# The paper's studies

Made by `snakemake studies`; do not edit. The studies of Cao et al., Nature Methods 2024 (Extended Data 1, 2, 7 to 10,
Supplementary Videos 1, 2, 7 to 9) on a USAF-1951 target that is drawn from its definition, moves within one
acquisition and is imaged with noise: for DPC it delays the light (four images, Abbe's sum over the source), for SIM it
shines (two-beam, nine images, 300 photons at the brightest where nothing else is said). The illumination is given.
Before the rolling-shutter DiffuserCam (one frame, 10000 photons at the brightest) a disc with patches and seams swings
and is deformed; its times are the layers of the readout.

Each case is fitted twice with the same settings, *without coarse-to-fine* (all levels open from the start, and no
finer grids for parts that slide, which make such a fit worse) and as usual (*NSTM*). All figures are means over the
times of the frames. PSNR and SSIM are those of [Measured](results.md), plain and equalised. *Residual*: mean square in
units of the noise variance, near 1 where the frames are explained. *Motion error*: mean distance between found and true
displacement from one frame to the next, camera pixels, where the frames determine it. *Movement*: largest true
displacement from one frame to the next, camera pixels. *Seconds*: all starts of a fit; the one without coarse-to-fine
comes first and also compiles. In every cell: without coarse-to-fine / NSTM."""

_COLUMNS = (
    ("plain PSNR / dB", "psnr_plain", 1),
    ("SSIM", "ssim", 2),
    ("equalised PSNR / dB", "psnr_equalised", 1),
    ("SSIM", "ssim_equalised", 2),
    ("residual", "residual", 2),
    ("motion error / px", "motion_error_px", 2),
    ("seconds", "seconds", 0),
)


def _markdown(cases: Sequence[Mapping[str, Any]]) -> str:
    """A table with a row per case and both fits in every cell."""
    lines = ["| | | movement / px | " + " | ".join(title for title, _, _ in _COLUMNS) + " |", "|---" * 10 + "|"]
    rows = list(_rows(cases))
    for without, with_ in zip(rows[::2], rows[1::2], strict=True):
        cells = [" / ".join(_fixed(row[key], decimals) for row in (without, with_)) for _, key, decimals in _COLUMNS]
        first = [SYSTEMS[with_["system"]], with_["case"], _fixed(with_["largest_interval_px"], 1)]
        lines.append("| " + " | ".join([*first, *cells]) + " |")
    return "\n".join(lines)


def _fixed(value: float | None, decimals: int) -> str:
    return "–" if value is None else f"{value:.{decimals}f}"


def _summary(cases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Mean equalised PSNR of both fits by system, in words."""
    for system in dict.fromkeys(case["case"]["system"] for case in cases):
        some = [case["fits"] for case in cases if case["case"]["system"] == system]
        without, nstm = (np.mean([fits[name]["mean"]["psnr_equalised"] for fits in some]) for name in FITS)
        yield f"{SYSTEMS[system]} {without:.1f} dB without coarse-to-fine, {nstm:.1f} dB with it"
