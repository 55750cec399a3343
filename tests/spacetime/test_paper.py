"""The paper's experiments are usable configs of the paper's engine."""

from pathlib import Path

import pytest
import yaml

from nstm.pipeline.experiment import Experiment

PAPER = Path(__file__).parents[2] / "config" / "examples" / "paper"


@pytest.mark.parametrize("name", ["dpc", "beads", "mitochondria", "er", "actin", "diffusercam"])
def test_the_papers_settings_are_valid(name):
    experiment = Experiment.load(yaml.safe_load((PAPER / f"{name}.yaml").read_text()), PAPER)
    fitted = experiment.section("ball" if name == "diffusercam" else name, "reconstruction")
    assert fitted.parts == ("network", "network", "per_pixel")
    motion_rate = 5e-5 if name == "diffusercam" else 1e-5
    assert (fitted.networks.scene_rate, fitted.networks.motion_rate) == (1e-3, motion_rate)
    rounds = fitted.steps * fitted.frames_per_step / {"dpc": 4, "diffusercam": 7}.get(name, 15)
    assert rounds == {"dpc": 5000, "beads": 2000, "diffusercam": 200}.get(name, 500)
