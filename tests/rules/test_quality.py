import json

from tests.experiments import script


def test_function(experiment, params, tmp_path) -> None:
    script("quality").main(
        params("quality"), experiment.result("small/raw.ome.zarr"), tmp_path / "quality.json", tmp_path / "quality.png"
    )
    found = json.loads((tmp_path / "quality.json").read_text())
    assert found["status"] != "fail"
    assert len(found["acquisitions"]) == 2
    assert (tmp_path / "quality.png").read_bytes()[1:4] == b"PNG"


def test_rule(experiment, ran) -> None:
    ran("quality")
    assert json.loads(experiment.result("nan/quality.json").read_text())["status"] == "fail"
    assert experiment.result("nan/quality.png").is_file()
