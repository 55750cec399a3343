"""Rule blind_training: one small network on one structure."""

from pathlib import Path

from safetensors import safe_open

from nstm.pipeline.blind_settings import Blind
from tests.experiments import Workdir, script
from tests.rules.conftest import BLIND

WEIGHTS = "blind/studies/weights/dots/unet.safetensors"


def test_function(tmp_path: Path, blind: Workdir) -> None:
    params, out = Blind.model_validate(BLIND).domain_params("digits", "unet"), tmp_path / "net.safetensors"
    script("blind_training").main(params, str(blind.folder / "images"), out)
    assert out.stat().st_size > 1000


def test_rule(blind: Workdir) -> None:
    blind.snakemake(WEIGHTS)
    with safe_open(str(blind.folder / WEIGHTS), framework="numpy") as file:
        assert "card" in file.metadata()
    assert "epoch 1 of 1: loss" in (blind.folder / "blind/studies/logs/dots_unet.log").read_text()
    assert not list(blind.folder.glob("blind/studies/weights/*/*.state.npz"))
    rate = {"studies": {**BLIND["studies"], "taught_rate": 1e-3}}
    assert blind.planned(WEIGHTS, "--config", f"blind={ {**BLIND, **rate} }") == {"blind_training": 1}
