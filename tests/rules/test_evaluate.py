import json

import pytest

from tests.experiments import script


def test_function_without_truth(experiment, params, tmp_path) -> None:
    small = experiment.result("small")
    stores = {"nstm": small / "timelapse" / "nstm.ome.zarr"}
    fits = sorted((small / "fits").iterdir())
    metrics, trust = tmp_path / "metrics.json", tmp_path / "trust.json"
    raw, light = small / "raw.ome.zarr", small / "illumination.json"
    script("evaluate").main(params("evaluate"), raw, light, stores, fits, None, metrics, trust)
    assert json.loads(metrics.read_text())["methods"] == {}
    assert len(json.loads(trust.read_text())["acquisitions"]) == 2


def test_rule(experiment, ran) -> None:
    ran("evaluate")
    methods = json.loads(experiment.result("small/metrics.json").read_text())["methods"]
    assert set(methods) == {"nstm", "static", "conventional", "widefield"}
    assert methods["nstm"]["mean"]["psnr_equalised"] > methods["widefield"]["mean"]["psnr_equalised"]


@pytest.mark.parametrize("name", ["inspect", "quality", "illumination", "metrics", "trust"])
def test_every_result_says_where_it_comes_from(experiment, name) -> None:
    for sample in ("small", "hostile"):
        found = json.loads(experiment.result(f"{sample}/{name}.json").read_text())["provenance"]
        assert {"nstm", "jax", "numpy"} <= set(found["versions"])
        assert found["params"]["sample"]["sample"] == sample
        if name in ("quality", "illumination"):
            assert len(found["source"]["provenance"]["files"]) == 1
