from nstm.pipeline.status import read_status
from tests.experiments import script

SAMPLES = ("small", "hostile", "missing", "cut", "nan", "short")


def test_function(experiment, params, tmp_path) -> None:
    folders = {name: experiment.result(name) for name in SAMPLES}
    script("report").main(params("report"), folders, tmp_path / "report.html")
    assert "small" in (tmp_path / "report.html").read_text()


def test_rule_covers_every_row(experiment) -> None:
    page = experiment.result("report.html").read_text()
    for name in SAMPLES:
        assert name in page
    assert (experiment.folder / "results" / "logs" / "report.log").is_file()


def test_status_tells_failed_from_finished(experiment) -> None:
    states = {s.sample: s.state for s in read_status(experiment.folder / "results")}
    assert {name for name, state in states.items() if state == "failed"} >= {"missing", "cut", "nan", "short"}
    assert states["small"] != "unfinished"
