"""What runs, and what a change runs again; with stages that only leave traces."""

import json
import os
import shutil

import pytest

from tests.experiments import Workdir


def test_gates_stop_samples_and_the_report_covers_all(finished: Workdir) -> None:
    shown = json.loads(finished.result("report.html").read_text())["samples"]
    assert set(shown) == {"good", "sim", "dim", "gone"}
    assert {"metrics.json", "trust.json", "movie.mp4", "still.png", "figures", "timelapse"} <= set(shown["good"])
    assert not {"metrics.json", "movie.mp4", "timelapse"} & set(shown["dim"])
    assert "illumination.json" in shown["dim"]
    assert not {"quality.json", "raw.ome.zarr", "illumination.json"} & set(shown["gone"])
    assert json.loads(finished.result("sim/metrics.json").read_text())["truth"].endswith("er_small_truth.ome.zarr")
    assert not list(finished.folder.glob("**/pwned"))


def test_jobs_are_batches_and_their_arrays_are_removed(finished: Workdir) -> None:
    fits = sorted(p.name for p in finished.result("good/fits").iterdir())
    assert fits == ["00000-00002.zarr", "00003-00003.zarr"]
    assert not list(finished.folder.glob("results/good/jobs/*.zarr"))
    products = sorted(p.name for p in finished.result("good/timelapse").iterdir())
    assert products == [f"{n}.ome.zarr" for n in ("conventional", "motion", "nstm", "static", "widefield")]


def test_nothing_to_do_when_nothing_changed(finished: Workdir) -> None:
    assert finished.planned() == {}


def test_changed_steps_run_the_fit_and_what_follows(finished: Workdir) -> None:
    planned = finished.planned("--config", "reconstruction={steps: 7}")
    assert planned == {"reconstruct": 4, "assemble": 6, "evaluate": 2, "movie": 2, "figures": 2, "report": 1}


def test_changed_frame_rate_runs_only_what_is_looked_at(finished: Workdir) -> None:
    planned = finished.planned("--config", "movie={frames_per_second: 9}")
    assert planned == {"movie": 2, "figures": 2, "report": 1}


def test_changed_baseline_does_not_fit_again(finished: Workdir) -> None:
    planned = finished.planned("--config", "conventional={wiener: 0.1}")
    assert planned == {"conventional": 4, "evaluate": 2, "movie": 2, "figures": 2, "report": 1}


def test_deleted_store_is_made_again(finished: Workdir) -> None:
    store = finished.result("good/timelapse/conventional.ome.zarr")
    aside = finished.folder / "aside"
    shutil.move(store, aside)
    try:
        assert finished.planned() == {"conventional": 1, "evaluate": 1, "movie": 1, "figures": 1, "report": 1}
    finally:
        shutil.move(aside, store)
    assert finished.planned() == {}


def test_changed_raw_file_is_noticed_even_with_a_name_that_snakemake_cannot_take(finished: Workdir) -> None:
    hostile = next(p for p in (finished.folder / "data").iterdir() if p.name.startswith("dim"))
    before, when = hostile.read_text(), hostile.stat().st_mtime_ns
    hostile.write_text(before + "\n\n")
    try:
        assert finished.planned()["inspect"] == 1
    finally:
        hostile.write_text(before)
        os.utime(hostile, ns=(when, when))


def test_works_from_another_directory_and_with_a_config_of_its_own(finished: Workdir, tmp_path) -> None:
    assert "Nothing to be done" in finished.snakemake("--dry-run", "--directory", str(finished.folder), cwd=tmp_path)
    # a config given on the command line replaces config/config.yaml: a key of that file must not leak in
    own = tmp_path / "own.yaml"
    text = (finished.folder / "config" / "config.yaml").read_text().split("reconstruction")[0]
    for name in ("samples.tsv", "system.py"):
        text = text.replace(name, str(finished.folder / "config" / name))
    own.write_text(text)
    planned = finished.planned("--configfile", str(own))
    assert planned["reconstruct"] == 2  # eight acquisitions per job and no static fit: the defaults


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("reconstruction={stepps: 3}", "reconstruction.stepps: is no known key (did you mean 'steps'?)"),
        ("systems={stub: {optics: {na: 1.6, index: 1.518}}}", "na = 1.6 must be below the refractive index"),
        ("systems={stub: {optics: {emission_wavelength_um: 515}}}", "optics.emission_wavelength_um: '515' is refused"),
        ("movie={panels: [nstn]}", "did you mean 'nstm'?"),
        ("samples=nowhere.tsv", "there is no sample sheet"),
    ],
)
def test_a_bad_config_is_refused_readably(finished: Workdir, change: str, message: str) -> None:
    text = finished.snakemake("--dry-run", "--config", change, check=False)
    assert message in text
    assert "Traceback" not in text
