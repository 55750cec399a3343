"""The small experiment, run once through Snakemake with the real stages; every rule's test looks at its part."""

import json
import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from tests.experiments import SMALL_CONFIG, Workdir, script

HOSTILE = "a 'b' $(touch pwned) {c} <script>alert(1).tif"


@pytest.fixture(scope="session")
def experiment(tmp_path_factory) -> Workdir:
    """One good sample, the same under a hostile name, and those that are unusable, each in its own way."""
    small = {"sample": "small", "path": "../simulated/er_small.ome.tif", "system": "sim"}
    workdir = Workdir(tmp_path_factory.mktemp("small"), SMALL_CONFIG, [small])
    workdir.snakemake("simulated/er_small.ome.tif")
    raw = workdir.folder / "simulated" / "er_small.ome.tif"
    data = workdir.folder / "data"
    data.mkdir()
    frames = tifffile.imread(raw).reshape(18, 64, 64)
    shutil.copy(raw, data / HOSTILE)
    (data / "cut.tif").write_bytes(raw.read_bytes()[: raw.stat().st_size // 2])
    tifffile.imwrite(data / "nan.tif", np.full((18, 64, 64), np.nan, np.float32))
    tifffile.imwrite(data / "short.tif", frames[:7])
    tifffile.imwrite(data / "zeros.tif", np.zeros((18, 64, 64), np.uint16))
    tifffile.imwrite(data / "saturated.tif", np.full((18, 64, 64), 65535, np.uint16))
    (data / "empty.tif").write_bytes(b"")
    (data / "text.tif").write_text("no picture at all")
    bad = [
        *(
            {"sample": n, "path": f"../data/{n}.tif", "system": "no_size"}
            for n in ("zeros", "saturated", "empty", "text")
        ),
        {"sample": "missing", "path": "../data/nowhere.tif", "system": "sim"},
        {"sample": "cut", "path": "../data/cut.tif", "system": "sim"},
        {"sample": "nan", "path": "../data/nan.tif", "system": "no_size"},
        {"sample": "short", "path": "../data/short.tif", "system": "no_size"},
    ]
    hostile = {"sample": "hostile", "path": f"../data/{HOSTILE}", "system": "sim", "acquisitions": "0:1"}
    small["truth"] = "../simulated/er_small_truth.ome.zarr"
    workdir.sheet([small, hostile, *bad])
    workdir.snakemake()
    return workdir


@pytest.fixture
def params(experiment: Workdir):
    """Settings of a stage of a sample."""
    import yaml

    from nstm.pipeline.experiment import Experiment

    config = experiment.folder / "config"
    loaded = Experiment.load(yaml.safe_load((config / "config.yaml").read_text()), config)

    def of(stage: str, sample: str = "small", **job: int) -> dict:
        return loaded.stage_params(sample, stage, **job)

    return of


@pytest.fixture
def ran(experiment: Workdir):
    """Asserts that a rule ran through Snakemake: it left a log and a measurement."""

    def check(name: str, sample: str = "small") -> None:
        folder: Path = experiment.result(sample)
        assert (folder / "logs" / f"{name}.log").is_file()
        assert (folder / "benchmarks" / f"{name}.tsv").read_text().startswith("s\t")

    return check


#: Learned blind SIM in miniature.
BLIND = {
    "images": "../images",
    "training": {
        **{"frames": 4, "width": 2, "blocks": 2, "side_px": 16, "stacks": 4, "validation_stacks": 2, "batch": 2},
        "epochs": 2,
    },
    "studies": {
        **{"studies": ["domains"], "frames": 4, "side_px": 64, "images": 1, "iterations": 3, "pace_side_px": 32},
        **{"race_side_px": 32, "race_iterations": 4, "numbers": [4, 5]},
        **{"epochs": 1, "training_side_px": 16, "networks": ["unet"], "domains": ["digits", "dots"]},
    },
}


@pytest.fixture(scope="session")
def blind(tmp_path_factory) -> Workdir:
    """An experiment with images of two structures for learned blind SIM."""
    small = {"sample": "small", "path": "../simulated/er_small.ome.tif", "system": "sim"}
    config = SMALL_CONFIG + f"blind: {json.dumps(BLIND)}\n"
    workdir = Workdir(tmp_path_factory.mktemp("blind"), config, [small])
    for structure in ("dots", "lines"):
        (workdir.folder / "images" / structure).mkdir(parents=True)
        for number in range(3):
            noise = np.random.default_rng(number).random((64, 64))
            iio.imwrite(workdir.folder / "images" / structure / f"{number}.png", (255 * noise**4).astype(np.uint8))
    return workdir


#: The paper's studies in miniature, as a config has them.
TINY_STUDIES = {
    "multigrid": {"side_px": 32, "reconstruction": {"steps": 4, "starts": 1, "sliding": False}},
    "networks": {"studies": []},
}


@pytest.fixture(scope="session")
def studies(tmp_path_factory) -> Workdir:
    """An experiment whose studies take seconds."""
    small = {"sample": "small", "path": "../simulated/er_small.ome.tif", "system": "sim"}
    config = SMALL_CONFIG + f"studies: {json.dumps(TINY_STUDIES)}\n"
    return Workdir(tmp_path_factory.mktemp("studies"), config, [small])


@pytest.fixture(scope="session")
def study_case(tmp_path_factory) -> tuple[Path, Path]:
    """Figures and images of one case, by the function of its script."""
    from nstm.pipeline.study_runs import Studies

    folder = tmp_path_factory.mktemp("study_case")
    params = Studies.model_validate(TINY_STUDIES).case_params("multigrid", "motion", "dpc-static")
    record, images = folder / "case.json", folder / "case.npz"
    script("study_case").main(params, images, record)
    return record, images
