"""The paper's experiments are usable configs of the paper's engine."""

from pathlib import Path

import pytest
import yaml

from nstm.pipeline.experiment import Experiment

PAPER = Path(__file__).parents[2] / "config" / "examples" / "paper"


@pytest.mark.parametrize("name", ["dpc", "beads", "mitochondria", "er", "actin"])
def test_the_papers_settings_are_valid(name):
    experiment = Experiment.load(yaml.safe_load((PAPER / f"{name}.yaml").read_text()), PAPER)
    fitted = experiment.section(name, "reconstruction")
    assert fitted.parts == ("network", "network", "per_pixel")
    assert (fitted.networks.scene_rate, fitted.networks.motion_rate) == (1e-3, 1e-5)
    rounds = fitted.steps * fitted.frames_per_step / (4 if name == "dpc" else 15)
    assert rounds == {"dpc": 5000, "beads": 2000}.get(name, 500)
