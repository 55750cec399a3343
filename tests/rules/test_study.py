"""Rule study: the table, the figure and the movies of one study."""

from pathlib import Path

from nstm.simulate.studies import STUDIES
from tests.experiments import Workdir, script


def test_function(study_case: tuple[Path, Path], tmp_path: Path) -> None:
    record, images = study_case
    movies = {"dpc": tmp_path / "dpc.mp4"}
    script("study").main([record], [images], tmp_path / "study.tsv", tmp_path / "study.png", movies)
    assert len((tmp_path / "study.tsv").read_text().splitlines()) == 3
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "dpc.mp4").read_bytes()[4:8] == b"ftyp"


def test_rule(studies: Workdir) -> None:
    planned = studies.planned("studies/pictures/studies_multigrid_noise.png")
    assert planned == {"study_case": len(STUDIES["noise"]), "study": 1}
