"""Rule study_case: one recording of a study, fitted with and without motion."""

import json
from pathlib import Path

import numpy as np

from nstm.io.jsonfile import read_json
from tests.experiments import Workdir
from tests.rules.conftest import TINY_STUDIES

CASE = "studies/cases/multigrid/motion/dpc-translation-9.4"


def test_function(study_case: tuple[Path, Path]) -> None:
    record, images = study_case
    assert read_json(record)["side_px"] == 32
    with np.load(images) as found:
        images = [found[name] for name in found.files if found[name].dtype.kind == "f" and found[name].ndim > 1]
    assert len(images) >= 3, "truth, and a fit either way"
    assert all(np.isfinite(image).all() for image in images)


def test_rule(studies: Workdir) -> None:
    studies.snakemake(f"{CASE}.json")
    assert read_json(studies.folder / f"{CASE}.json")["side_px"] == 32
    assert (studies.folder / f"{CASE}.npz").is_file()
    assert (studies.folder / "studies/logs/multigrid/motion/dpc-translation-9.4.log").is_file()
    assert studies.planned(f"{CASE}.json") == {}
    changed = json.loads(json.dumps(TINY_STUDIES))
    changed["multigrid"]["reconstruction"]["steps"] = 5
    assert studies.planned(f"{CASE}.json", "--config", f"studies={changed}") == {"study_case": 1}
