"""Rule studies_blind: the page of one study whose networks are trained for it."""

from pathlib import Path

from nstm.io.jsonfile import read_json
from tests.experiments import Workdir, script
from tests.rules.conftest import BLIND


def test_rule(blind: Workdir, tmp_path: Path) -> None:
    every = {"studies": {**BLIND["studies"], "studies": ["structures", "domains"], "networks": ["ubsim", "rcan"]}}
    planned = {"blind_training": 4, "blind_study": 2, "studies_blind": 1}
    assert blind.planned("studies_blind", "--config", f"blind={ {**BLIND, **every} }") == planned
    blind.snakemake("studies_blind")
    folder = blind.folder / "blind/studies"
    page = (folder / "studies_blind.md").read_text()
    assert "](pictures/studies_blind_domains.png)" in page
    assert (folder / "pictures/studies_blind_domains.png").stat().st_size > 10_000
    assert list(read_json(folder / "domains.json")["psnr"]) == ["digits/unet", "dots/unet"]
    script("studies_blind").main([folder / "domains.json"], tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text() == page
