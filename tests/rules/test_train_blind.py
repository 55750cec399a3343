"""Rule train_blind: two tiny epochs, and what makes it run again."""

import json
from pathlib import Path

from nstm.blindsim import load_weights
from nstm.io.jsonfile import read_json
from tests.experiments import Workdir, script
from tests.rules.conftest import BLIND


def test_function(blind: Workdir, tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    script("train_blind").main(BLIND["training"], str(blind.folder / "images"), out)
    assert load_weights(out)[1]["images"] == {"dots": 1, "lines": 1}


def test_rule(blind: Workdir) -> None:
    blind.snakemake("train_blind")
    network, card = load_weights(blind.folder / "blind/ubsim.safetensors")
    assert network.mode == "per_frame"
    assert not card["simulated_images"]
    assert len(read_json(blind.folder / "blind/ubsim.json")["history"]["validation"]) == 2
    assert (blind.folder / "blind/ubsim.png").is_file()
    assert "epoch 2 of 2: loss" in (blind.folder / "blind/train_blind.log").read_text()
    longer = {"training": {**BLIND["training"], "epochs": 3}}
    assert blind.planned("train_blind", "--config", f"blind={ {**BLIND, **longer} }") == {"train_blind": 1}


def test_samples_that_name_the_weights_have_them_trained_first(tmp_path: Path) -> None:
    solver = {"methods": ["ubsim"], "weights": "../blind/ubsim.safetensors"}
    optics = {"na": 1.0, "emission_wavelength_um": 0.52}
    systems = {"speckle": {"kind": "speckle", "optics": optics, "solver": solver}}
    row = {"sample": "cell", "path": "../simulated/speckle_small.ome.tif", "system": "speckle"}
    workdir = Workdir(tmp_path, f"samples: samples.tsv\nsystems: {json.dumps(systems)}\n", [row])
    assert workdir.planned()["train_blind"] == 1
