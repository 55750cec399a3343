"""The studies of blind SIM in miniature: every figure is of the method that it names."""

from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import yaml
from pydantic import ValidationError
from safetensors.numpy import save_file

from nstm.acquisition import DataError
from nstm.blindsim.weights import SHIPPED, load_weights
from nstm.io.jsonfile import read_json, write_json
from nstm.metrics.lpips import _shapes
from nstm.pipeline.blind_page import TITLES, run_page
from nstm.pipeline.blind_settings import Blind, domains_of
from nstm.pipeline.blind_studies import run_blind_study, run_domain_training
from nstm.pipeline.experiment import ExperimentConfig
from tests.experiments import ROOT

TINY = {
    "training": {"frames": 4, "width": 2, "blocks": 2, "side_px": 16, "stacks": 2, "validation_stacks": 2, "batch": 2},
    "studies": {
        **{"frames": 5, "side_px": 64, "images": 1, "iterations": 4, "race_side_px": 64, "race_iterations": 40},
        **{"numbers": [4, 20], "pace_side_px": 64, "training_side_px": 16, "epochs": 2},
        **{"domains": ["dots", "digits"], "networks": ["ubsim", "edsr"]},
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
    package = {"ubsim": SHIPPED["per_frame"], "ubsim_stacked": SHIPPED["stacked"]}
    for study in TITLES:
        weights, of = trained if study == "domains" else package, folder / study
        params = settings.study_params(study)
        run_blind_study(study, params, images, weights, of.with_suffix(".json"), of.with_suffix(".png"))
        assert (folder / f"{study}.png").stat().st_size > 5_000
    assert not list(folder.glob("*.state.npz"))
    return folder


def test_structures(records):
    rows = read_json(records / "structures.json")["rows"]
    assert [row["structure"] for row in rows] == ["dots", "lines"]
    for row in rows:
        methods = row["methods"]
        assert methods["widefield"]["gain"] == 1
        assert methods["ubsim_untrained"]["psnr"] != methods["ubsim"]["psnr"]
        assert methods["conjugate_gradient_best"]["psnr"] >= methods["conjugate_gradient"]["psnr"]
        assert row["best_iteration"] <= 4
        assert "ubsim_stacked" not in methods, "it takes 20 frames, and these are 5"
        for figures in methods.values():
            assert 0 < figures["mse"] < 1
            assert figures["frc_um"] > 0
            assert "lpips" not in figures, "without its weights there is none"


def test_iterations(records):
    for row in read_json(records / "iterations.json")["rows"]:
        assert list(row["networks"]) == ["ubsim", "ubsim_untrained"]
        assert row["networks"]["ubsim_untrained"]["costs"][-1] > row["networks"]["ubsim"]["costs"][-1]
        network = row["networks"]["ubsim"]
        goal = network["costs"][-1]
        assert 0 < network["floor_s"] < network["seconds"]
        for name, made in network["solvers"].items():
            costs = row["solvers"][name]["costs"]
            assert costs[0] == pytest.approx(network["costs"][0], rel=1e-5)
            assert made["reached"] == (costs[made["iterations"]] <= goal)
            assert all(cost > goal for cost in costs[: made["iterations"]])
            assert made["seconds_ratio"] == pytest.approx(made["seconds"] / network["seconds"])


def test_noise_frames_and_pace(records):
    rows = read_json(records / "noise.json")["rows"]
    assert {row["photons"] for row in rows} == {100, 1000}
    assert all(np.diff(row["solvers"]["conjugate_gradient"]["cost_over_noise"]).max() <= 0 for row in rows)
    rows = read_json(records / "frames.json")["rows"]
    assert [row["frames"] for row in rows] == [4, 4, 20, 20]
    assert ["ubsim_stacked" in row["psnr"] for row in rows] == [False, False, True, True]
    for row in read_json(records / "pace.json")["rows"]:
        assert list(row["methods"]) == ["ubsim", "conjugate_gradient", "per_frame"]
        assert all(made["seconds"] > 0 and made["iterations"] <= 6 for made in row["methods"].values())


def test_another_number_of_frames_than_the_network_takes(records, tmp_path):
    params = Blind.model_validate(TINY).study_params("pace")
    outs = tmp_path / "pace.json", tmp_path / "pace.png"
    with pytest.raises(DataError, match="takes 20 frames and not 5: change blind"):
        run_blind_study("pace", params, records / "images", {"ubsim": SHIPPED["stacked"]}, *outs)


def test_lpips_comes_with_its_weights_only(records, tmp_path):
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in _shapes().items()}
    save_file({name: np.abs(w) if name.startswith("lin") else w for name, w in weights.items()}, tmp_path / "vgg")
    params = Blind.model_validate(TINY).study_params("structures")
    outs = tmp_path / "structures.json", tmp_path / "structures.png"
    run_blind_study("structures", params, records / "images", {"ubsim": SHIPPED["per_frame"]}, *outs, tmp_path / "vgg")
    for row in read_json(outs[0])["rows"]:
        assert all(figures["lpips"] > 0 for figures in row["methods"].values())
    run_page([outs[0]], tmp_path / "page.md")
    assert "| LPIPS, median |" in (tmp_path / "page.md").read_text()


def test_a_study_depends_on_its_own_keys_only():
    def changed(**keys):
        now = Blind.model_validate({"studies": keys})
        return {study for study in TITLES if now.study_params(study) != Blind().study_params(study)}

    assert changed(images=3) == {"structures"}
    assert changed(race_iterations=7) == {"iterations"}
    assert changed(numbers=[6]) == {"frames"}
    assert changed(epochs=1) == set(), "its networks are inputs of the study of domains"
    assert changed(photons=9) == set(TITLES) - {"noise"}, "which has lights of its own"
    assert changed(frames=9) == set(TITLES) - {"frames"}
    assert changed(lpips_weights="vgg.safetensors") == set(), "it is an input"
    longer = Blind.model_validate({"training": {"epochs": 7, "rate": 1}})
    assert all(longer.study_params(study) == Blind().study_params(study) for study in TITLES)


def test_domains(records):
    """What a network loses on others' structures is of the same table."""
    found = read_json(records / "domains.json")
    psnr = found["psnr"]
    for network, means in found["means"].items():
        own = (psnr[f"dots/{network}"]["dots"] + psnr[f"digits/{network}"]["digits"]) / 2
        other = (psnr[f"dots/{network}"]["digits"] + psnr[f"digits/{network}"]["dots"]) / 2
        assert means == pytest.approx({"own": own, "others": other, "drop_db": own - other})
    assert {len(row["psnr"]) for row in found["rows"]} == {4}, "the untrained one is trained on no structure"
    assert all(row["untrained"] > 0 for row in found["rows"])
    for key, card in found["trainings"].items():
        assert (card["frames"], card["side_px"], card["stacks"]) == (5, 16, 4), key
        assert card["seconds"] > 0


def test_page(records, tmp_path):
    run_page([records / f"{study}.json" for study in TITLES], tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text()
    assert [page.count(f"## {title}\n") for title in TITLES.values()] == [1] * len(TITLES)
    assert page.count("| UBSIM, untrained |") > 2, "a column of the structures, and rows of the domains"
    write_json(tmp_path / "other.json", {"study": "motion"})
    with pytest.raises(DataError, match="no study of blind SIM"):
        run_page([tmp_path / "other.json"], tmp_path / "page.md")


def test_the_example_trains_the_stacked_network_of_the_package():
    folder = ROOT / "config" / "examples" / "speckle"
    config = ExperimentConfig.model_validate(yaml.safe_load((folder / "studies.yaml").read_text()))
    assert config.blind.training.model_dump() == load_weights(SHIPPED["stacked"])[1]["settings"]


@pytest.mark.parametrize(
    ("numbers", "message"), [([2], "greater than or equal to 3"), ([4, 4], "each at most once"), ([], "at least 1")]
)
def test_numbers_of_frames_that_no_study_can_be_made_of(numbers, message):
    with pytest.raises(ValidationError, match=message):
        Blind.model_validate({"studies": {"numbers": numbers}})


def test_domains_of_images(records, tmp_path):
    for name in ("er", "actin", "pits"):
        (tmp_path / name).mkdir()
    with pytest.raises(ValidationError, match="name two or more"):
        Blind.model_validate({"studies": {"domains": ["er"]}})
    studies = Blind().studies
    assert domains_of(studies, tmp_path) == ["actin", "er", "digits"]
    with pytest.raises(DataError, match=r"nowhere: holds no folder of images"):
        domains_of(studies, tmp_path / "nowhere")
    assert domains_of(studies, None) == ["network", "filaments", "digits"]
    with pytest.raises(DataError, match="no images of 'pits': there are those of dots, lines"):
        run_domain_training(Blind().domain_params("pits", "edsr"), records / "images", tmp_path / "w.safetensors")
