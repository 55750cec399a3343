from tests.experiments import script


def test_function(experiment, params, tmp_path) -> None:
    stores = {"nstm": experiment.result("small/timelapse/nstm.ome.zarr")}
    script("movie").main(params("movie"), stores, None, tmp_path / "movie.mp4", tmp_path / "still.png")
    assert (tmp_path / "movie.mp4").read_bytes()[4:8] == b"ftyp"
    assert (tmp_path / "still.png").read_bytes().startswith(b"\x89PNG")


def test_rule(experiment, ran) -> None:
    ran("movie")
    ran("movie", "hostile")
    assert experiment.result("small/movie.mp4").stat().st_size > 1000
