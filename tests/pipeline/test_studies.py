"""The paper's studies: what is run, and one tiny case from its simulation to the page."""

import csv
import typing

import numpy as np
import pytest
from imageio_ffmpeg import count_frames_and_secs
from pydantic import ValidationError

from nstm.acquisition import DataError
from nstm.io.jsonfile import read_json
from nstm.metrics import psnr_equalised
from nstm.pipeline import studies
from nstm.pipeline.study_runs import Studies, Study, case_files, cases, label
from nstm.settings import Reconstruction, override
from nstm.simulate.imaging import calibration_of, stacked, system_of
from nstm.simulate.studies import STUDIES, StudyCase, record_case
from nstm.spacetime import reconstruct

SIDE = 32
FEW = {"steps": 20, "starts": 1, "sliding": False}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The translations of the motion study, tiny: folder, and by system the files of the case."""
    folder = tmp_path_factory.mktemp("studies")
    runs = Studies.model_validate({"multigrid": {"side_px": SIDE, "reconstruction": FEW}})
    files = {}
    for system in ("dpc", "sim"):
        files[system] = folder / f"{system}.json", folder / f"{system}.npz"
        params = runs.case_params("multigrid", "motion", f"{system}-translation-9.4")
        studies.run_study_case(params, files[system][1], files[system][0])
    return folder, files


def test_the_config_knows_every_study():
    assert set(typing.get_args(Study)) == set(STUDIES)
    chosen = Studies().chosen
    assert [study for engine, study in chosen if engine == "multigrid"] == list(STUDIES)
    assert ("networks", "motion") in chosen


@pytest.mark.parametrize("study", STUDIES)
def test_cases_have_names_and_labels_of_their_own(study):
    named = cases(study)
    assert list(named.values()) == list(STUDIES[study])
    assert case_files("{engine}/{study}/{case}", "networks", study) == [f"networks/{study}/{name}" for name in named]
    for system in {case.system for case in named.values()}:
        labels = [label(study, case) for case in named.values() if case.system == system]
        assert len(set(labels)) == len(labels) >= 4


def test_params_hold_the_settings_of_system_and_run():
    params = Studies().case_params("networks", "motion", "dpc-swirl-0.6")
    settings = Reconstruction.model_validate(params["reconstruction"])
    assert settings.engine == "networks"
    assert settings.steps == 1200
    assert settings.networks.scene_tikhonov > 0  # what suits DPC
    assert params["case"] == {"system": "dpc", "motion": "swirl", "amount": 0.6, "photons": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "networks"}, "engine: a study sets this itself"),
        ({"windows_open_at": 0.5}, "windows_open_at: a study sets this itself"),
        ({"held_out": [0]}, "held_out: .* has no use for it"),
        ({"stepps": 3}, "did you mean 'steps'"),
    ],
)
def test_settings_that_a_study_cannot_take_are_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        Studies.model_validate({"multigrid": {"reconstruction": changes}})


def test_the_true_motion_is_that_of_the_study():
    # 9.4 px from the first to the last of 4 equidistant frames, along (0.53, 0.848), a unit vector to 2e-6
    case = StudyCase("dpc", "translation", 9.4)
    recording = record_case(case, studies.microscope_of(case, SIDE))
    found = studies.true_motion(recording) / recording.microscope.pixel_um
    assert found.shape == (3, 2, SIDE, SIDE)
    expected = 9.4 / 3 * np.array([0.53, 0.848])
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None, None], found.shape), rtol=1e-5)


def test_without_coarse_to_fine_every_level_is_open_from_the_start():
    # after half of the steps of a fit that opens its levels within 80 % of them the finest is still closed
    case = StudyCase("dpc", "translation", 2.0)
    recording = record_case(case, studies.microscope_of(case, SIDE))
    system, (frames, times) = system_of(recording.microscope), stacked(recording)

    def moved(open_at: float) -> list[bool]:
        settings = override(Reconstruction(), {**FEW, "steps": 40, "windows_open_at": open_at})
        fit = reconstruct(system, frames, times, settings, calibration=calibration_of(recording), snapshots=[20])
        return [bool(np.any(level)) for level in fit.trace.snapshots[20]["scene"]]

    coarse_to_fine = moved(0.8)
    assert coarse_to_fine[0]
    assert not coarse_to_fine[-1]
    assert all(moved(0.0))


def test_a_case_is_fitted_twice_and_compared_with_the_truth(finished):
    _, files = finished
    for system, ratio in (("dpc", 1), ("sim", 2)):
        record, images = read_json(files[system][0]), dict(np.load(files[system][1]))
        assert record["label"] == "translation 9.4 px"
        times = np.array(record["times_s"])
        share = np.diff(times).max() / np.ptp(times)
        assert record["largest_interval_px"] == pytest.approx(9.4 * share, rel=1e-4)
        frames = len(times)
        for name in ("truth", "open", "nstm"):
            assert images[name].shape == (frames, ratio * SIDE, ratio * SIDE)
            assert np.isfinite(images[name]).all()
        assert not np.allclose(images["open"], images["nstm"])
        case = StudyCase(**record["case"])
        recording = record_case(case, studies.microscope_of(case, SIDE))
        kc = system_of(recording.microscope).cutoff(recording.calibration)
        for name in studies.FITS:
            fit, pixel = record["fits"][name], float(images["truth_pixel_um"])
            again = [psnr_equalised(a, b, pixel, kc) for a, b in zip(images[name], images["truth"], strict=True)]
            np.testing.assert_allclose(fit["psnr_equalised"], again, rtol=1e-6)
            assert fit["mean"]["psnr_equalised"] == pytest.approx(np.mean(again))
            assert fit["residual"] > 0
            assert 0 <= fit["motion_determined"] <= 1


def test_rows_of_a_rolling_shutter(tmp_path):
    runs = Studies.model_validate({"multigrid": {"side_px": SIDE, "reconstruction": FEW}})
    files = tmp_path / "case.json", tmp_path / "case.npz"
    studies.run_study_case(runs.case_params("multigrid", "rows", "diffusercam-swing-5"), files[1], files[0])
    record, images = read_json(files[0]), dict(np.load(files[1]))
    assert len(record["times_s"]) == SIDE // 2 + 6 - 1, "a time for every layer"
    assert images["nstm"].shape == images["truth"].shape == (len(record["times_s"]), SIDE // 2, SIDE // 2)
    movies = {"diffusercam": tmp_path / "rows.mp4"}
    studies.run_study([files[0]], [files[1]], tmp_path / "table.tsv", tmp_path / "figure.png", movies)
    assert movies["diffusercam"].stat().st_size > 1000


def test_table_figure_and_movies(finished):
    folder, files = finished
    records, images = ([pair[i] for pair in files.values()] for i in (0, 1))
    movies = {system: folder / f"{system}.mp4" for system in files}
    studies.run_study(records, images, folder / "study.tsv", folder / "study.png", movies)
    with (folder / "study.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["system"], row["fit"]) for row in rows] == [(s, t) for s in files for t in studies.FITS.values()]
    expected = read_json(records[1])["fits"]["nstm"]
    assert float(rows[3]["psnr_equalised"]) == pytest.approx(expected["mean"]["psnr_equalised"], rel=1e-3)
    assert (folder / "study.png").read_bytes().startswith(b"\x89PNG")
    assert [count_frames_and_secs(str(movies[system]))[0] for system in ("dpc", "sim")] == [4, 9]


def test_movies_of_other_systems_are_refused(finished):
    folder, files = finished
    record, images = files["dpc"]
    with pytest.raises(DataError, match=r"cases of \['dpc'\], but movies .* of \['sim'\]"):
        studies.run_study([record], [images], folder / "x.tsv", folder / "x.png", {"sim": folder / "x.mp4"})


def test_the_page_names_every_case_and_links_its_pictures(finished, monkeypatch):
    folder, files = finished
    monkeypatch.setattr(studies, "STUDIES", {"motion": tuple(StudyCase(s, "translation", 9.4) for s in files)})
    page = folder / "studies.md"
    studies.run_studies([pair[0] for pair in files.values()], [("multigrid", "motion")], page)
    text = page.read_text()
    for link in (
        "studies_multigrid_motion.png",
        "studies_multigrid_motion_dpc.mp4",
        "studies_multigrid_motion_sim.mp4",
    ):
        assert f"(pictures/{link})" in text
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[:2] for line in table[1:]] == [
        ["| DPC", "translation 9.4 px"],
        ["| SIM", "translation 9.4 px"],
    ]
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1
