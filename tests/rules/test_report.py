from nstm.pipeline.status import read_status
from tests.experiments import script

BAD = ("missing", "cut", "nan", "short", "zeros", "saturated", "empty", "text")
SAMPLES = ("small", "hostile", *BAD)


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
    assert {name for name, state in states.items() if state == "failed"} == set(BAD)
    assert states["small"] != "unfinished"


def test_unusable_samples_leave_no_results_that_pass_for_whole(experiment) -> None:
    for name in BAD:
        left = {p.name for p in experiment.result(name).iterdir()}
        checked = {"inspect.json", "quality.json", "quality.png", "illumination.json"}
        assert left <= checked | {"raw.ome.zarr", "logs", "benchmarks"}, name
    assert not list(experiment.folder.rglob("*partial*"))
