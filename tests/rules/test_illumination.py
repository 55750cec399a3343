import json

from tests.experiments import script


def test_function(experiment, params, tmp_path) -> None:
    raw, quality = experiment.result("small/raw.ome.zarr"), experiment.result("small/quality.json")
    script("illumination").main(params("illumination"), raw, quality, tmp_path / "illumination.json")
    found = json.loads((tmp_path / "illumination.json").read_text())
    assert found["status"] != "fail"
    assert len(found["consensus"]["pattern_vectors"]) == 3
    (order,) = found["transfer"]
    assert len(order["frequency"]) == len(order["assumed"]) == len(order["seen"])
    assert any(value is not None for value in order["seen"])


def test_rule_is_a_gate(experiment, ran) -> None:
    ran("illumination")
    assert json.loads(experiment.result("nan/illumination.json").read_text())["status"] == "fail"
    assert not experiment.result("nan/timelapse").exists()
    assert not experiment.result("nan/movie.mp4").exists()
