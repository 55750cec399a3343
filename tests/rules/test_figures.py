import json

from PIL import Image

from tests.experiments import script


def test_function(experiment, params, tmp_path) -> None:
    folder = experiment.result("small")
    names = {"illumination": "illumination.json", "metrics": "metrics.json", "movie": "movie.mp4", "still": "still.png"}
    found = {name: folder / file for name, file in {**names, "quality": "quality.png"}.items()}
    (found["first_fit"],) = (folder / "fits").glob("00000-*.zarr")
    files = {
        "stores": {n: folder / "timelapse" / f"{n}.ome.zarr" for n in ("nstm", "conventional", "widefield")},
        "motion": folder / "timelapse" / "motion.ome.zarr",
        "trust": folder / "trust.json",
        "truth": None,
    }
    script("figures").main(params("figures"), folder / "raw.ome.zarr", found, files, tmp_path / "figures")
    listed = [f["file"] for f in json.loads((tmp_path / "figures" / "figures.json").read_text())["figures"]]
    assert "frc.png" not in listed  # no truth was given
    assert {"overlay.png", "spectra.png", "profile.png", "illumination.png", "transfer.png", "loss.png"} <= set(listed)
    assert "snapshots.png" in listed


def test_rule(experiment, ran) -> None:
    ran("figures")
    ran("figures", "hostile")
    folder = experiment.result("small/figures")
    listed = [f["file"] for f in json.loads((folder / "figures.json").read_text())["figures"]]
    assert "frc.png" in listed
    for name in listed:
        with Image.open(folder / name) as picture:
            assert picture.width > 400
    small = [p.stat().st_size for p in (folder / "small").iterdir()]
    assert len(small) == len(listed) + 3
    assert sum(small) <= 400_000
