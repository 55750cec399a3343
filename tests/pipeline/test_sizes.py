"""The estimate of disk space against stores that were written, and against sums by hand."""

import dask.array as da
import numpy as np
import pytest

from nstm.acquisition import make_acquisitions
from nstm.io.store import write_raw, write_timelapse
from nstm.pipeline.experiment import Experiment
from nstm.pipeline.sizes import compression_of, compression_ratio, estimate_sizes, sizes_text

OPTICS = {"na": 1.4, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488}
T, Y, X = 5, 40, 56


def _experiment(folder, **sections):
    (folder / "samples.tsv").write_text("sample\tpath\tsystem\ncell\tcell.tif\ttirf\n")
    config = {"samples": "samples.tsv", "systems": {"tirf": {"kind": "sim", "optics": OPTICS}}, **sections}
    return Experiment.load(config, folder)


def _inspected(dtype="uint16", t=T, z=1, y=Y, x=X):
    sizes = {"t": t, "angle": 3, "phase": 3, "z": z, "y": y, "x": x}
    return {"sizes": sizes, "dtype": dtype, "files": [{"path": "cell.tif", "bytes": 1}]}


def _on_disk(store):
    files = [f.stat().st_size for f in store.rglob("*") if f.is_file()]
    return sum(files), len(files)


def _frames(t=T, dtype=np.uint16, noise=False):
    rng = np.random.default_rng(0)
    shape = (t, 3, 3, 1, Y, X)
    frames = rng.integers(0, 2**16, shape) if noise else rng.poisson(100, shape)
    times = np.arange(t * 9, dtype=float).reshape(t, 3, 3, 1)
    return make_acquisitions(
        frames.astype(dtype), times, ["angle", "phase"], pixel_um=0.065, time_origin="read", source={}
    )


def test_a_raw_store_is_within_its_bound_and_has_as_many_files(tmp_path):
    write_raw(tmp_path / "raw.ome.zarr", _frames(noise=True), {})
    size, files = _on_disk(tmp_path / "raw.ome.zarr")
    found = estimate_sizes(_inspected(), _experiment(tmp_path), "cell")["raw"]
    assert found["files"] == files
    assert found["files_per_acquisition"] == 1
    assert T * 9 * Y * X * 2 < size <= found["bytes_at_most"]
    assert found["bytes_expected"] is None


def test_the_expected_size_is_that_of_like_frames(tmp_path):
    frames = _frames(t=400)
    ratio = compression_of(frames)
    write_raw(tmp_path / "raw.ome.zarr", frames, {})
    size, _ = _on_disk(tmp_path / "raw.ome.zarr")
    found = estimate_sizes(_inspected(t=400), _experiment(tmp_path), "cell", ratio)["raw"]
    assert found["bytes_expected"] == pytest.approx(size, rel=0.05)
    assert found["bytes_expected"] < found["bytes_at_most"] / 1.5


def test_results_are_within_their_bound_and_have_as_many_files(tmp_path):
    images = np.random.default_rng(0).integers(1, 2**31, (T * 3, 1, 1, 2 * Y, 2 * X)).astype(np.int32).view(np.float32)
    write_timelapse(
        tmp_path / "nstm.ome.zarr",
        images,
        times_s=np.arange(15.0),
        pixel_um=0.03,
        z_step_um=None,
        label="x",
        channels=["a"],
        effective_transfer="x",
        flags=["the displacement since the previous acquisition is not determined"] * 15,
        provenance={"source": {"files": [{"path": "x" * 200}]}},
        extra={"block": [0, 1, 2] * 5},
    )
    size, files = _on_disk(tmp_path / "nstm.ome.zarr")
    found = estimate_sizes(_inspected(), _experiment(tmp_path), "cell")["timelapse"]
    assert set(found) == {"nstm", "motion", "conventional", "widefield"}
    for name in found:
        assert found[name]["files"] == files
    assert size <= found["nstm"]["bytes_at_most"] < size + 2**17  # metadata count for little in real results
    one_more_channel = found["motion"]["bytes_at_most"] - found["nstm"]["bytes_at_most"]
    assert one_more_channel == pytest.approx(images.nbytes, rel=0.01)


@pytest.mark.parametrize(("wanted", "times"), [("orientations", 15), ("frames", 45), (4, 20)])
def test_results_have_the_times_that_are_asked_for(wanted, times, tmp_path):
    experiment = _experiment(tmp_path, reconstruction={"output_times": wanted})
    found = estimate_sizes(_inspected(), experiment, "cell")["timelapse"]["nstm"]
    assert found["files"] == times + 2


@pytest.mark.parametrize(("static", "arrays", "channels"), [(False, 2, 3), (True, 3, 4), ([1], 3, 4), ([99], 2, 3)])
def test_jobs_hold_scene_displacement_and_what_is_fitted_at_rest(static, arrays, channels, tmp_path):
    experiment = _experiment(tmp_path, reconstruction={"acquisitions_per_job": 2, "static": static})
    inspected = _inspected(y=512, x=512)
    found = estimate_sizes(inspected, experiment, "cell")
    assert found["jobs"]["files"] == 15 * arrays + 3 * (arrays + 1)
    assert found["jobs"]["bytes_at_most"] == pytest.approx(15 * channels * 1024 * 1024 * 4, rel=0.01)
    assert ("static" in found["timelapse"]) == (arrays == 3)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("jobs", [True, False])
def test_what_stays_is_what_is_kept(raw, jobs, tmp_path):
    found = estimate_sizes(_inspected(), _experiment(tmp_path, keep={"raw": raw, "jobs": jobs}), "cell", 2.0)
    results = [found["timelapse"][name] for name in found["timelapse"]]
    kept = [*results, *([found["raw"]] if raw else []), *([found["jobs"]] if jobs else [])]
    for key in ("bytes_at_most", "files"):
        assert found["stays"][key] == sum(entry[key] for entry in kept)
        assert found["peak"][key] == sum(e[key] for e in [*results, found["raw"], found["jobs"]])
    saved = found["raw"]["bytes_at_most"] - found["raw"]["bytes_expected"]
    assert found["stays"]["bytes_at_most"] - found["stays"]["bytes_expected"] == (saved if raw else 0)


def test_only_some_planes_are_read_for_the_compression():
    frames, seen = _frames(), []

    def spy(block, block_id=None):
        seen.append(block_id[:4])
        return block

    lazy = da.from_array(frames["frames"].values, chunks=(1, 1, 1, 1, Y, X))
    lazy = lazy.map_blocks(spy, dtype=np.uint16, meta=np.empty(0, np.uint16))
    ratio = compression_of(frames.assign(frames=(frames["frames"].dims, lazy)), planes=4)
    assert sorted(seen) == [(0, 0, 0, 0), (1, 2, 0, 0), (3, 0, 2, 0), (4, 2, 2, 0)]
    assert ratio == pytest.approx(compression_ratio(frames["frames"].values.reshape(-1, Y, X)), rel=0.05)


def test_the_text_names_every_store_and_what_goes(tmp_path):
    text = sizes_text(estimate_sizes(_inspected(), _experiment(tmp_path, keep={"raw": False}), "cell", 2.0))
    lines = {line.split("  ")[0].strip(): line for line in text.splitlines()}
    assert "removed in the end" in lines["raw.ome.zarr"]
    assert "1 per acquisition" in lines["raw.ome.zarr"]
    assert "removed in the end" in lines["jobs"]
    assert {"timelapse/nstm.ome.zarr", "timelapse/widefield.ome.zarr", "stays", "needed while it runs"} <= lines.keys()


def test_a_sample_that_cannot_be_used_has_no_sizes(tmp_path):
    assert estimate_sizes({"sizes": {}, "files": []}, _experiment(tmp_path), "cell") == {}
    assert sizes_text({}) == ""
