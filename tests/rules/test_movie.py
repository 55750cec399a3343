from tests.experiments import script


def test_function(experiment, params, tmp_path) -> None:
    fitted = [experiment.result(f"small/timelapse/{name}.ome.zarr") for name in ("nstm", "motion")]
    out = [tmp_path / name for name in ("movie.mp4", "still.png", "trajectories.png")]
    raw = experiment.result("small/raw.ome.zarr")
    script("movie").main(params("movie"), {"nstm": fitted[0]}, None, raw, fitted, out)
    assert out[0].read_bytes()[4:8] == b"ftyp"
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in out[1:])


def test_rule(experiment, ran) -> None:
    ran("movie")
    ran("movie", "hostile")
    assert experiment.result("small/movie.mp4").stat().st_size > 1000
