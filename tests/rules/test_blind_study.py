"""Rule blind_study: one small study, and which settings make it run again."""

from pathlib import Path

from nstm.blindsim import SHIPPED
from nstm.io.jsonfile import read_json
from nstm.pipeline.blind_settings import Blind
from tests.experiments import Workdir, script
from tests.rules.conftest import BLIND

RECORD = "blind/studies/pace.json"


def test_function(tmp_path: Path, blind: Workdir) -> None:
    params = Blind.model_validate(BLIND).study_params("frames")
    outs = tmp_path / "frames.json", tmp_path / "frames.png"
    weights = {"ubsim": str(SHIPPED["per_frame"])}
    script("blind_study").main("frames", params, str(blind.folder / "images"), weights, *outs, None)
    assert read_json(outs[0])["study"] == "frames"


def test_rule(blind: Workdir) -> None:
    blind.snakemake(RECORD)
    assert "ubsim" in read_json(blind.folder / RECORD)["rows"][0]["methods"]
    assert (blind.folder / "blind/studies/pictures/studies_blind_pace.png").stat().st_size > 5_000
    assert (blind.folder / "blind/studies/benchmarks/pace.tsv").is_file()
    for key, value, jobs in (("race_iterations", 5, {}), ("pace_side_px", 36, {"blind_study": 1})):
        changed = {"studies": {**BLIND["studies"], key: value}}
        assert blind.planned(RECORD, "--config", f"blind={ {**BLIND, **changed} }") == jobs, key
