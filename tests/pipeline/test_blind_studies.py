"""The studies of blind SIM in miniature: every figure is of the method that it names."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from pydantic import ValidationError

from nstm.acquisition import DataError
from nstm.blindsim.weights import SHIPPED
from nstm.io.jsonfile import read_json, write_json
from nstm.pipeline.blind_page import TITLES, run_page
from nstm.pipeline.blind_settings import Blind, domains_of
from nstm.pipeline.blind_studies import run_blind_study, run_domain_training

TINY = {
    "training": {"frames": 4, "width": 2, "blocks": 2, "side_px": 16, "stacks": 2, "validation_stacks": 2, "batch": 2},
    "studies": {
        **{"frames": 5, "side_px": 64, "images": 1, "iterations": 4, "race_side_px": 64, "race_iterations": 40},
        **{"numbers": [4, 8], "domains": ["dots", "digits"], "networks": ["ubsim", "edsr"], "epochs": 1},
    },
}


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("blind")
    images, rng = folder / "images", np.random.default_rng(0)
    for structure in ("dots", "lines"):
        (images / structure).mkdir(parents=True)
        for number in range(5):
            iio.imwrite(images / structure / f"{number}.png", (255 * rng.random((64, 64)) ** 4).astype(np.uint8))
    settings = Blind.model_validate(TINY)
    trained = {}
    for key in ("dots/ubsim", "dots/edsr", "digits/ubsim", "digits/edsr"):
        domain, network = key.split("/")
        trained[key] = folder / f"{domain}-{network}.safetensors"
        run_domain_training(settings.domain_params(domain, network), images, trained[key])
    for study in TITLES:
        weights, of = trained if study == "domains" else {"ubsim": SHIPPED}, folder / study
        run_blind_study(study, settings.model_dump(), images, weights, of.with_suffix(".json"), of.with_suffix(".png"))
        assert (folder / f"{study}.png").stat().st_size > 10_000
    assert not list(folder.glob("*.state.npz"))
    return folder


def test_structures(records):
    rows = read_json(records / "structures.json")["rows"]
    assert [row["structure"] for row in rows] == ["dots", "lines"]
    for row in rows:
        methods = row["methods"]
        assert methods["widefield"]["gain"] == 1
        assert methods["conjugate_gradient_best"]["psnr"] >= methods["conjugate_gradient"]["psnr"]
        assert row["best_iteration"] <= 4


def test_iterations(records):
    for row in read_json(records / "iterations.json")["rows"]:
        goal = row["ubsim"]["cost"]
        assert goal == row["ubsim"]["costs"][-1]
        for solver in row["solvers"].values():
            assert solver["costs"][0] == pytest.approx(row["ubsim"]["costs"][0], rel=1e-5)
            assert solver["reached"] == (solver["costs"][-1] <= goal)
            assert all(cost > goal for cost in solver["costs"][:-1])


def test_noise_and_frames(records):
    rows = read_json(records / "noise.json")["rows"]
    assert {row["photons"] for row in rows} == {100, 1000}
    assert all(np.diff(row["solvers"]["conjugate_gradient"]["cost_over_noise"]).max() <= 0 for row in rows)
    rows = read_json(records / "frames.json")["rows"]
    assert [row["frames"] for row in rows] == [4, 4, 8, 8]


def test_domains(records):
    """What a network loses on others' structures is of the same table."""
    found = read_json(records / "domains.json")
    psnr = found["psnr"]
    for network, drop in found["drop_db"].items():
        own = (psnr[f"dots/{network}"]["dots"] + psnr[f"digits/{network}"]["digits"]) / 2
        other = (psnr[f"dots/{network}"]["digits"] + psnr[f"digits/{network}"]["dots"]) / 2
        assert drop == pytest.approx(own - other)


def test_page(records, tmp_path):
    run_page([records / f"{study}.json" for study in TITLES], tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert [page.count(f"## {title}\n") for title in TITLES.values()] == [1] * 5
    write_json(tmp_path / "other.json", {"study": "motion"})
    with pytest.raises(DataError, match="no study of blind SIM"):
        run_page([tmp_path / "other.json"], tmp_path / "page.md")


def test_domains_of_images(records, tmp_path):
    for name in ("er", "actin", "pits"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValidationError, match="name two or more"):
        Blind.model_validate({"studies": {"domains": ["er"]}})
    studies = Blind().studies
    assert domains_of(studies, tmp_path) == ["actin", "er", "digits"]
    assert domains_of(studies, None) == ["network", "filaments", "digits"]
    with pytest.raises(DataError, match="no images of 'pits': there are those of dots, lines"):
        run_domain_training(Blind().domain_params("pits", "edsr"), records / "images", tmp_path / "w.safetensors")
