"""The rules of the studies: one tiny case through Snakemake, and what a whole run would do."""

from pathlib import Path

import pytest

from nstm.io.jsonfile import read_json
from nstm.pipeline.study_runs import Studies
from nstm.simulate.studies import STUDIES
from tests.experiments import SMALL_CONFIG, Workdir, script

TINY = "studies: {multigrid: {side_px: 32, reconstruction: {steps: 4, starts: 1}}, networks: {studies: []}}\n"
CASE = "studies/cases/multigrid/motion/dpc-translation-9.4"


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> Workdir:
    small = {"sample": "small", "path": "../simulated/er_small.ome.tif", "system": "sim"}
    return Workdir(tmp_path_factory.mktemp("studies"), SMALL_CONFIG + TINY, [small])


def test_function(tmp_path: Path) -> None:
    tiny = Studies.model_validate({"multigrid": {"side_px": 32, "reconstruction": {"steps": 2, "starts": 1}}})
    params = tiny.case_params("multigrid", "motion", "dpc-static")
    record, images = tmp_path / "case.json", tmp_path / "case.npz"
    script("study_case").main(params, images, record)
    movies = {"dpc": tmp_path / "dpc.mp4"}
    script("study").main([record], [images], tmp_path / "study.tsv", tmp_path / "study.png", movies)
    assert len((tmp_path / "study.tsv").read_text().splitlines()) == 3
    assert (tmp_path / "dpc.mp4").read_bytes()[4:8] == b"ftyp"
    script("studies").main([record] * len(STUDIES["motion"]), [("multigrid", "motion")], tmp_path / "studies.md")
    assert (tmp_path / "studies.md").read_text().count("| DPC | static |") == len(STUDIES["motion"])


def test_rule(workdir: Workdir) -> None:
    workdir.snakemake(f"{CASE}.json")
    record = read_json(workdir.folder / f"{CASE}.json")
    assert record["side_px"] == 32
    assert (workdir.folder / f"{CASE}.npz").is_file()
    assert (workdir.folder / "studies/logs/multigrid/motion/dpc-translation-9.4.log").is_file()
    counts = sum(len(cases) for cases in STUDIES.values())
    assert workdir.planned("studies") == {
        "study_case": counts - 1,
        "study": len(STUDIES) - 1,
        "study_of_rows": 1,
        "studies": 1,
    }
    changed = TINY.replace("steps: 4", "steps: 5").removeprefix("studies: ").strip()
    assert workdir.planned(f"{CASE}.json", "--config", f"studies={changed}") == {"study_case": 1}
