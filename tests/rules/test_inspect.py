import json

import pytest

from tests.experiments import script


def test_function(experiment, params, tmp_path) -> None:
    script("inspect").main(params("inspect"), tmp_path / "inspect.json")
    found = json.loads((tmp_path / "inspect.json").read_text())
    assert found["status"] != "fail"
    assert found["sizes"]["t"] == 2


def test_rule(experiment, ran) -> None:
    ran("inspect")
    assert json.loads(experiment.result("hostile/inspect.json").read_text())["sizes"]["t"] == 1


@pytest.mark.parametrize("sample", ["missing", "cut", "short"])
def test_unusable_files_fail_with_a_reason_and_go_no_further(experiment, sample: str) -> None:
    found = json.loads(experiment.result(f"{sample}/inspect.json").read_text())
    assert found["status"] == "fail"
    assert len(found["reasons"][0]["message"]) > 20
    left = {p.name for p in experiment.result(sample).iterdir()}
    assert left == {"inspect.json", "logs", "benchmarks"}


def test_text_from_outside_runs_nowhere(experiment) -> None:
    assert not list(experiment.folder.glob("**/pwned*"))
    assert "<script>alert(1)" not in experiment.result("report.html").read_text()
