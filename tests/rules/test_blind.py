"""The rules of learned blind SIM: a training of two tiny epochs, and the studies of one small image per structure."""

from pathlib import Path

import pytest

from nstm.blindsim import load_weights
from nstm.io.jsonfile import read_json
from tests.experiments import SMALL_CONFIG, Workdir, script

TINY = (
    "blind: {training: {frames: 4, width: 2, blocks: 2, side_px: 16, stacks: 4, validation_stacks: 2, batch: 2, "
    "epochs: 2}, studies: {side_px: 64, each: 1, iterations: 10, frames: [4]}}\n"
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
    assert workdir.planned("studies_blind") == {"studies_blind": 1}


def test_studies(tmp_path: Path) -> None:
    params = {"side_px": 64, "each": 1, "iterations": 10, "frames": [4]}
    names = {"page": "page.md", "figures": "figures.json"} | {
        n: f"{n}.png" for n in ("quality", "iterations", "frames")
    }
    out = {name: tmp_path / file for name, file in names.items()}
    script("studies_blind").main(params, None, out)
    page = out["page"].read_text()
    assert "| filaments |" in page
    assert "| network |" in page
    found = read_json(out["figures"])
    assert {e["structure"] for e in found["quality"]} == {"filaments", "network"}
    assert all(path.stat().st_size > 1000 for path in tmp_path.glob("*.png"))
