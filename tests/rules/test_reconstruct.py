import zarr

from tests.experiments import script


def test_function(experiment, params, tmp_path) -> None:
    settings = params("reconstruct", first=0, last=0)
    settings["reconstruction"]["steps"] = 3
    raw, illumination = experiment.result("small/raw.ome.zarr"), experiment.result("small/illumination.json")
    script("reconstruct").main(settings, raw, illumination, 0, 0, tmp_path / "job.zarr", tmp_path / "fit.zarr")
    job, record = zarr.open_group(tmp_path / "job.zarr", mode="r"), zarr.open_group(tmp_path / "fit.zarr", mode="r")
    assert job["scene"].shape == (3, 1, 1, 128, 128)
    assert dict(record.attrs) == dict(job.attrs)
    assert list(record.keys()) == ["snapshots"]
    assert record["snapshots"].shape == (3, 1, 1, 128, 128), "one after each step"


def test_rule(experiment, ran) -> None:
    ran("reconstruct_00000-00000")
    ran("reconstruct_00001-00001")
    assert not list(experiment.result("small/jobs").glob("*"))
