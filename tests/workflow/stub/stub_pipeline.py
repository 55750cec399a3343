"""Functions of the pipeline that leave traces. The raw file is text: `t=4`, `illumination=fail`, `reconstruct=hang`."""

import json
import os
import time
from pathlib import Path

from nstm.pipeline.experiment import Stage


def _directives(row):
    files = row.files()
    if not files:
        return None
    return dict(line.split("=") for line in files[0].read_text().splitlines() if "=" in line)


def _write(path, **content):
    Path(path).write_text(json.dumps(content, default=str))


def _store(path, **content):
    Path(path).mkdir(parents=True)
    _write(Path(path) / "zarr.json", **content)


def run_inspect(params, out_json):
    stage = Stage.from_params(params)
    found = _directives(stage.sample)
    if found is None:
        _write(out_json, status="fail", reasons=[{"severity": "fail", "code": "missing", "message": "no file"}])
        return
    _write(out_json, status="pass", reasons=[], sizes={"t": int(found["t"])})


def run_convert(params, inspect_json, out_store):
    _store(out_store, **_directives(Stage.from_params(params).sample))


def run_quality(params, raw_store, out_json, out_png):
    _write(out_json, status="pass", reasons=[])
    Path(out_png).touch()


def run_illumination(params, raw_store, quality_json, out_json):
    raw = json.loads((Path(raw_store) / "zarr.json").read_text())
    _write(out_json, status=raw.get("illumination", "pass"), reasons=[])


def run_reconstruct(params, raw_store, illumination_json, first, last, out_store, checkpoints=None, **device):
    raw = json.loads((Path(raw_store) / "zarr.json").read_text())
    assert Stage.from_params(params).reconstruction.steps
    if raw.get("reconstruct") == "hang" and "STUB_FREE" not in os.environ:
        Path(out_store).mkdir()
        Path(f"{out_store}.started").write_text(str(os.getpid()))
        for _ in range(36_000):
            if Path(f"{out_store}.go-on").exists():
                break
            time.sleep(0.1)
        Path(out_store).rmdir()
    import zarr

    zarr.create_group(str(out_store)).attrs["nstm"] = {"first": first, "last": last}


def run_conventional(params, raw_store, illumination_json, product, out_store):
    _store(out_store, product=product)


def run_assemble(params, raw_store, job_stores, product, out_store):
    jobs = [json.loads((Path(p) / "zarr.json").read_text()) for p in job_stores]
    _store(out_store, jobs=jobs)


def run_evaluate(params, raw_store, illumination_json, stores, job_stores, truth_store, out_metrics, out_trust):
    _write(out_metrics, stores=sorted(stores), truth=truth_store)
    _write(out_trust, status="pass", reasons=[])


def run_movie(params, files, out_mp4, out_png, out_json):
    _write(out_mp4, panels=list(files.stores), rate=Stage.from_params(params).movie.frames_per_second)
    _write(out_png)
    _write(out_json)


def run_figures(params, raw_store, illumination_json, metrics_json, first_fit, files, out_folder, pictures):
    assert all(Path(path).is_file() for path in pictures.values())
    Path(out_folder).mkdir()
    _write(Path(out_folder) / "figures.json", stores=sorted(files.stores), saturated=params["saturated_percent"])


def run_report(params, sample_dirs, out_html):
    _write(out_html, samples={s: sorted(p.name for p in Path(d).iterdir()) for s, d in sample_dirs.items()})
