"""Rule studies: the page of all studies."""

from pathlib import Path

from nstm.simulate.studies import STUDIES
from tests.experiments import Workdir, script


def test_function(study_case: tuple[Path, Path], tmp_path: Path) -> None:
    record, _ = study_case
    script("studies").main([record] * len(STUDIES["motion"]), [("multigrid", "motion")], tmp_path / "studies.md")
    assert (tmp_path / "studies.md").read_text().count("| DPC | static |") == len(STUDIES["motion"])


def test_rule(studies: Workdir) -> None:
    planned = studies.planned("studies")
    assert sum(planned[name] for name in ("study", "study_of_rows")) == len(STUDIES)
    assert planned["studies"] == 1
    cases = sum(len(cases) for cases in STUDIES.values())
    assert planned["study_case"] in (cases - 1, cases), "one may have been run by another test"
