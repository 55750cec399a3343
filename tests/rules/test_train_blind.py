"""The rules of learned blind SIM: a training of two tiny epochs, and the studies in miniature."""

import imageio.v3 as iio
import numpy as np
import pytest

from nstm.blindsim import load_weights
from nstm.io.jsonfile import read_json
from tests.experiments import SMALL_CONFIG, Workdir

TINY = (
    "blind: {training: {frames: 4, width: 2, blocks: 2, side_px: 16, stacks: 4, validation_stacks: 2, batch: 2, "
    "epochs: 2}, studies: {frames: 4, side_px: 64, images: 1, iterations: 3, race_side_px: 32, race_iterations: 4, "
    "numbers: [4, 5], epochs: 1}}\n"
)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Workdir:
    small = {"sample": "small", "path": "../simulated/er_small.ome.tif", "system": "sim"}
    return Workdir(tmp_path_factory.mktemp("blind"), SMALL_CONFIG + TINY, [small])


def test_training(workdir: Workdir) -> None:
    workdir.snakemake("train_blind")
    network, card = load_weights(workdir.folder / "blind/ubsim.safetensors")
    assert network.mode == "per_frame"
    assert card["simulated_images"]
    assert len(read_json(workdir.folder / "blind/ubsim.json")["history"]["validation"]) == 2
    assert (workdir.folder / "blind/ubsim.png").is_file()
    log = (workdir.folder / "blind/train_blind.log").read_text()
    assert "epoch 2 of 2: loss" in log
    changed = TINY.replace("epochs: 2", "epochs: 3").removeprefix("blind: ").strip()
    assert workdir.planned("train_blind", "--config", f"blind={changed}") == {"train_blind": 1}


def test_studies(workdir: Workdir) -> None:
    trainings = {"blind_training": 12, "blind_study": 5, "studies_blind": 1}
    assert workdir.planned("studies_blind") == trainings
    images = workdir.folder / "images"
    for structure in ("dots", "lines"):
        (images / structure).mkdir(parents=True)
        for number in range(3):
            noise = np.random.default_rng(number).random((64, 64))
            iio.imwrite(images / structure / f"{number}.png", (255 * noise**4).astype(np.uint8))
    few = TINY.replace("epochs: 1}", "epochs: 1, networks: [unet], domains: [digits, dots], studies: [domains]}")
    few = few.replace("blind: {", f"{{images: {images}, ").strip()
    workdir.snakemake("studies_blind", "--config", f"blind={few}")
    folder = workdir.folder / "blind/studies"
    page = (folder / "studies_blind.md").read_text()
    assert "](pictures/studies_blind_domains.png)" in page
    assert (folder / "pictures/studies_blind_domains.png").stat().st_size > 10_000
    assert list(read_json(folder / "domains.json")["psnr"]) == ["digits/unet", "dots/unet"]
    assert [path.name for path in folder.glob("weights/*/*")] == ["unet.safetensors"] * 2
