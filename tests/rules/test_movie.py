import json

from tests.experiments import script


def test_function(experiment, params, tmp_path) -> None:
    files = {
        "stores": {"nstm": experiment.result("small/timelapse/nstm.ome.zarr")},
        "motion": experiment.result("small/timelapse/motion.ome.zarr"),
        "trust": experiment.result("small/trust.json"),
        "truth": None,
    }
    out = [tmp_path / name for name in ("movie.mp4", "still.png", "movie.json")]
    script("movie").main(params("movie"), files, *out)
    assert out[0].read_bytes()[4:8] == b"ftyp"
    assert out[1].read_bytes().startswith(b"\x89PNG")
    assert [t["frame"] for t in json.loads(out[2].read_text())["times"]] == [0, 3, 6, 9, 12, 15]


def test_rule(experiment, ran) -> None:
    ran("movie")
    ran("movie", "hostile")
    assert experiment.result("small/movie.mp4").stat().st_size > 1000
