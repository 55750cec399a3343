"""Config and sheet: what is accepted, what is refused and how, and what each stage depends on."""

import copy
import shutil
from pathlib import Path

import pytest
import yaml

from nstm.acquisition import DataError
from nstm.pipeline.experiment import Experiment, Stage, jobs
from nstm.pipeline.sheet import read_sheet
from tests.experiments import ROOT, STUB

OPTICS = {"na": 1.4, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488}
CONFIG = {"samples": "samples.tsv", "systems": {"tirf": {"kind": "sim", "optics": OPTICS}}}
SHEET = "sample\tpath\tsystem\ncell\tcell.tif\ttirf\n"


def load(folder: Path, config: dict | None = None, sheet: str = SHEET) -> Experiment:
    (folder / "samples.tsv").write_bytes(sheet.encode())
    return Experiment.load(config or CONFIG, folder)


def changed(**changes) -> dict:
    """``CONFIG`` with ``systems__tirf__optics__na=2`` and the like."""
    config = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *way, last = path.split("__")
        place = config
        for key in way:
            place = place.setdefault(key, {})
        place[last] = value
    return config


def problems(call) -> str:
    with pytest.raises(DataError) as error:
        call()
    return str(error.value)


def test_defaults_and_absolute_paths(tmp_path: Path) -> None:
    experiment = load(tmp_path)
    assert experiment.samples["cell"].path == str(tmp_path / "cell.tif")
    assert experiment.config.reconstruction.output_times == "orientations"
    assert set(experiment.baselines("cell")) == {"conventional", "widefield"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampels": 1}, "sampels: is no known key (did you mean 'samples'?)"),
        ({"reconstruction": {"steps": 0}}, "reconstruction.steps: 0 is refused: must be greater than or equal to 1"),
        ({"reconstruction": {"output_times": "never"}}, "reconstruction.output_times: 'never' is refused"),
        ({"reconstruction": {"held_out": [-1]}}, "reconstruction.held_out.0: -1 is refused"),
        ({"conventional": {"wiener": 0}}, "conventional.wiener: 0 is refused: must be greater than 0"),
        ({"reconstruction": {"multigrid": {"x": 1}}}, "reconstruction.multigrid.x: is no known key"),
        ({"systems__tirf__kind": "simm"}, "systems.tirf.kind: 'simm' is no known kind of system (did you mean 'sim'?)"),
        (
            {"systems__tirf__optics__na": 1.6, "systems__tirf__optics__index": 1.518},
            "systems.tirf.optics: na = 1.6 must be below the refractive index",
        ),
        ({"systems__tirf__optics__pixel_um": 65}, "systems.tirf.optics.pixel_um: 65 is refused"),
        ({"systems__tirf__optics__emission_wavelength_um": 515}, "less than or equal to 2"),
        ({"systems__tirf__optics__na": float("nan")}, "systems.tirf.optics.na"),
        ({"systems__tirf__illumination": {"beams": 3}}, "3-beam SIM needs at least 5 phases"),
        ({"systems__tirf__reconstruction": {"stepz": 3}}, "systems.tirf.reconstruction.stepz: is no known key"),
        ({"systems__tirf__movie": {"panels": ["nstm", "truht"]}}, "systems.tirf.movie.panels: 'truht' is no result"),
        ({"systems": {}}, "systems"),
        ({"samples": None}, "samples"),
        ({"systems": {"tirf": 3}}, "systems.tirf"),
    ],
)
def test_a_bad_config_names_key_value_and_remedy(tmp_path: Path, changes: dict, message: str) -> None:
    assert message in problems(lambda: load(tmp_path, changed(**changes)))


def test_all_problems_at_once(tmp_path: Path) -> None:
    text = problems(lambda: load(tmp_path, changed(reconstruction={"steps": -1, "a": 1}, keep={"raw": "x"})))
    assert text.startswith("the config cannot be used: 3 problems")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("cell\ta.tif\ttirf\ncell\tb.tif\ttirf\n", "lines 2, 3: sample 'cell' stands 2 times"),
        ("cell\ta.tif\ttirf\nCell\tb.tif\ttirf\n", "differ only in capital letters"),
        ("../up\ta.tif\ttirf\n", "line 2: sample: '../up' is refused"),
        (".hidden\ta.tif\ttirf\n", "line 2: sample"),
        ("logs\ta.tif\ttirf\n", "reserved"),
        ("ok\ta.tif\ttirff\n", "line 2: system: 'tirff' is not among `systems:` of the config (did you mean 'tirf'?)"),
        ("ok\t\ttirf\n", "line 2: path: is missing"),
        ("", "there is no row"),
        ("a\tb\ttirf\td\te\n", "line 2: 5 cells but 3 columns"),
        ("a\tb\x07c\ttirf\n", "control characters"),
    ],
)
def test_a_bad_sheet_names_the_line(tmp_path: Path, rows: str, message: str) -> None:
    assert message in problems(lambda: load(tmp_path, sheet="sample\tpath\tsystem\n" + rows))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("acquisitions", "all", "acquisitions: 'all' is refused"),
        ("acquisitions", "0:4:0", "step of the slice"),
        ("crop", "0:10", "crop: '0:10' is refused"),
        ("crop", "10:10,0:5", "y0:y1,x0:x1"),
        ("truth", "nobody", "neither a sample of this sheet nor an existing store"),
        ("truth", "cell", "is the sample itself"),
    ],
)
def test_bad_optional_columns(tmp_path: Path, column: str, value: str, message: str) -> None:
    sheet = f"sample\tpath\tsystem\t{column}\ncell\ta.tif\ttirf\t{value}\n"
    assert message in problems(lambda: load(tmp_path, sheet=sheet))


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ("", "is empty"),
        ("sample,path,system\n", "separated by tabs"),
        ("sample\tpath\tsystem\tchanel\n", "'chanel' is unknown (did you mean 'channel'?)"),
        ("sample\tpath\n", "column 'system' is missing"),
        ("sample\tpath\tsystem\tpath\n", "stands twice"),
    ],
)
def test_bad_header(tmp_path: Path, sheet: str, message: str) -> None:
    assert message in problems(lambda: load(tmp_path, sheet=sheet))


def test_a_sheet_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "samples.tsv").write_bytes(b"\xff\xfe\x00\x81")
    assert "UTF-8" in problems(lambda: read_sheet(tmp_path / "samples.tsv"))


def test_byte_order_mark_crlf_quotes_comments_and_unicode(tmp_path: Path) -> None:
    name = "a \"b\" 'c' {d} $(e) ü.tif"
    sheet = f"\ufeffsample\tpath\tsystem\r\n# a note\t\t\r\n\r\ncell\t{name}\ttirf\r\n"
    assert load(tmp_path, sheet=sheet).samples["cell"].path == str(tmp_path / name)


def test_a_system_from_a_file_relative_to_the_config(tmp_path: Path) -> None:
    shutil.copy(STUB / "system.py", tmp_path / "mine.py")
    optics = {"na": 1.2, "emission_wavelength_um": 0.5}
    config = {**CONFIG, "systems": {"tirf": {"kind": "mine.py", "optics": optics}}}
    params = load(tmp_path, config).stage_params("cell", "quality")
    assert params["system"]["kind"] == str(tmp_path / "mine.py")
    assert Stage.from_params(params).system.kind == "stub"
    missing = {**CONFIG, "systems": {"tirf": {"kind": "other.py", "optics": optics}}}
    assert "there is no file" in problems(lambda: load(tmp_path, missing))


def test_stages_depend_on_their_settings_only(tmp_path: Path) -> None:
    plain = load(tmp_path)

    def same(stage: str, changes: dict) -> bool:
        other = load(tmp_path, changed(**changes))
        return other.stage_params("cell", stage) == plain.stage_params("cell", stage)

    before_the_fit = ("inspect", "convert", "quality", "illumination")
    others = (*before_the_fit, "conventional", "assemble", "evaluate", "movie", "report")
    assert all(same(stage, {"reconstruction": {"steps": 3}}) for stage in others)
    assert not same("reconstruct", {"reconstruction": {"steps": 3}})
    assert same("reconstruct", {"reconstruction": {"acquisitions_per_job": 1}})
    assert not same("assemble", {"reconstruction": {"output_times": "frames"}})
    assert not same("conventional", {"reconstruction": {"output_times": "frames"}})
    assert not same("movie", {"movie": {"frames_per_second": 9}})
    assert all(same(s, {"movie": {"frames_per_second": 9}}) for s in (*others, "reconstruct") if s != "movie")
    assert not same("inspect", {"systems__tirf__camera": {"offset": 3}})
    # an override of a section reaches that section, not the settings of the system
    assert same("quality", {"systems__tirf__reconstruction": {"steps": 3}})
    assert not same("reconstruct", {"systems__tirf__reconstruction": {"steps": 3}})


def test_a_job_depends_on_the_choices_for_its_own_acquisitions(tmp_path: Path) -> None:
    first, second = (load(tmp_path, changed(reconstruction={"held_out": [n]})) for n in (5, 6))
    assert first.stage_params("cell", "reconstruct", 0, 3) == second.stage_params("cell", "reconstruct", 0, 3)
    assert first.stage_params("cell", "reconstruct", 4, 7) != second.stage_params("cell", "reconstruct", 4, 7)


def test_a_stage_must_not_use_what_it_does_not_depend_on(tmp_path: Path) -> None:
    stage = load(tmp_path).stage("cell", "movie")
    assert stage.movie.frames_per_second > 0
    with pytest.raises(KeyError, match="does not depend on 'reconstruction'"):
        _ = stage.reconstruction


def test_jobs_cover_all_acquisitions_once() -> None:
    assert jobs(7, 3) == [(0, 2), (3, 5), (6, 6)]
    assert jobs(1, 8) == [(0, 0)]
    assert jobs(0, 8) == []


def test_static_store_only_where_asked_for(tmp_path: Path) -> None:
    assert "static" not in load(tmp_path).fitted("cell", 5)
    assert "static" in load(tmp_path, changed(reconstruction={"static": [4]})).fitted("cell", 5)
    assert "static" not in load(tmp_path, changed(reconstruction={"static": [4]})).fitted("cell", 4)


def test_the_defaults_of_a_system_hold_until_the_config_says_otherwise(tmp_path: Path, monkeypatch) -> None:
    from nstm.systems.sim import Sim

    monkeypatch.setattr(Sim, "fit_defaults", {"steps": 123, "multigrid": {"scene_rate": 0.02}})
    assert load(tmp_path).section("cell", "reconstruction").steps == 123
    own = load(tmp_path, changed(reconstruction__steps=77)).section("cell", "reconstruction")
    assert (own.steps, own.multigrid.scene_rate) == (77, 0.02)
    system = load(tmp_path, changed(systems__tirf__reconstruction__multigrid__scene_rate=0.5))
    assert system.section("cell", "reconstruction").multigrid.scene_rate == 0.5


def test_a_mistake_in_every_row_is_not_listed_a_thousand_times(tmp_path: Path) -> None:
    sheet = "sample\tpath\tsystem\n" + "".join(f"s{i}\tcell.tif\tother\n" for i in range(1000))
    text = problems(lambda: load(tmp_path, sheet=sheet))
    assert "1000 problems" in text
    assert "line 2: system: 'other' is not among" in text
    assert text.endswith("and 950 more")


def test_a_sheet_whose_path_is_none_is_refused(tmp_path: Path) -> None:
    config = changed(samples="samples\0.tsv")
    assert "cannot be read as UTF-8 text" in problems(lambda: Experiment.load(config, tmp_path))


@pytest.mark.parametrize(
    "config", sorted((ROOT / "config" / "examples").glob("*/config.yaml")), ids=lambda path: path.parent.name
)
def test_the_examples_are_valid(config):
    experiment = Experiment.load(yaml.safe_load(config.read_text()), config.parent)
    for name in experiment.samples:
        assert experiment.baselines(name)


SPECKLE = {
    "kind": "speckle",
    "optics": {"na": 1.0, "emission_wavelength_um": 0.52},
    "solver": {"methods": ["per_frame", "ubsim"], "weights": "own.safetensors"},
}


def test_weights_that_no_window_can_be_solved_with_are_refused_before_anything_runs(tmp_path: Path) -> None:
    def text(**sections) -> str:
        return problems(lambda: load(tmp_path, changed(systems__speckle={**SPECKLE, **sections})))

    own, key = tmp_path / "own.safetensors", "systems.speckle.solver.weights: "
    assert f"{key}{own}: there is no such file of weights" in text()
    own.write_text("no weights")
    assert f"{key}{own}: not a file of weights in the safetensors format" in text()
    shutil.copy(ROOT / "nstm" / "blindsim" / "ubsim_stacked.safetensors", own)
    assert f"{key}{own}: a network for 20 stacked frames, but windows have 10" in text(window={"frames": 10})
    assert load(tmp_path, changed(systems__speckle=SPECKLE))
    own.unlink()
    unused = {**SPECKLE, "solver": {"weights": "own.safetensors"}}
    assert load(tmp_path, changed(systems__speckle=unused))


def test_weights_that_the_workflow_trains_need_not_be_there(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    solver = {**SPECKLE["solver"], "weights": "blind/ubsim.safetensors"}
    config = changed(systems__speckle={**SPECKLE, "solver": solver})
    experiment = load(tmp_path, config, "sample\tpath\tsystem\ncell\tcell.tif\tspeckle\n")
    assert "system_files" not in experiment.stage_params("cell", "reconstruct"), "trained or not, it is the same"
    (tmp_path / "blind").mkdir()
    (tmp_path / "blind" / "ubsim.safetensors").write_text("no weights")
    assert "safetensors format" in problems(lambda: load(tmp_path, config))
    assert "remove it to have it trained anew" in problems(lambda: load(tmp_path, config))


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    text = problems(lambda: load(tmp_path, changed(blind__images="nowhere")))
    assert f"blind.images: {tmp_path / 'nowhere'}: holds no folder of images; one for each structure is needed" in text
    (tmp_path / "nowhere" / "dots").mkdir(parents=True)
    assert load(tmp_path, changed(blind__images="nowhere"))
