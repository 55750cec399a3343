"""Rule `evaluate` as a function: figures against a truth, and the verdict."""

import numpy as np
import pytest
import zarr

from nstm.acquisition import DataError, make_acquisitions
from nstm.io.jsonfile import read_json, write_json
from nstm.io.store import write_raw, write_timelapse
from nstm.metrics import limit
from nstm.pipeline.evaluate import run_evaluate
from nstm.simulate import SimMicroscope, drift, er_network, simulate_sim, structure_area

SYSTEM = {
    "kind": "sim",
    "optics": {"na": 1.4, "emission_wavelength_um": 0.515, "excitation_wavelength_um": 0.488, "pixel_um": 0.065},
    "camera": {"offset": 100},
}


def params(truth=None):
    row = {"sample": "cell", "path": "/absent.tif", "system": "microscope", "truth": truth}
    return {"numerics": 1, "sample": row, "system": SYSTEM}


def images(path, stack, times, pixel_um=0.0325, label="made"):
    write_timelapse(
        path,
        np.asarray(stack, np.float32)[:, None, None],
        times_s=list(times),
        pixel_um=pixel_um,
        z_step_um=None,
        label=label,
        channels=["intensity"],
        effective_transfer="",
        flags=[""] * len(times),
        provenance={},
    )
    return path


def record(index, **changes):
    return {
        "index": index,
        "status": "pass",
        "reasons": [],
        "seconds": 2.0,
        "compile_seconds": 1.0,
        "peak_memory_mb": 100.0 + index,
        "residual_noise_units": [0.8, 0.9],
        "static_residual_noise_units": [2.0, 2.0] if index == 0 else None,
        "held_out": [{"frame": [0, 1], "error": 1.1, "static_error": 2.2}] if index == 0 else [],
        "motion_px": {"total_rms": 3.0, "total_max": 5.0, "per_interval_max": 0.6},
        **changes,
    }


class World:
    """A moving sample of two acquisitions with stores of known quality."""

    def __init__(self, folder):
        self.folder = folder
        m = SimMicroscope(shape=(64, 64))
        self.recording = simulate_sim(er_network(1, structure_area(m, 0.5)), drift((0.0, 1.0)), m, 2)
        r = self.recording
        self.times = r.times.mean(axis=2).ravel()  # six orientations
        raw = make_acquisitions(
            r.frames[:, :, :, None], r.times[..., None], ["angle", "phase"], pixel_um=0.065, time_origin="computed"
        )
        write_raw(folder / "raw.ome.zarr", raw, {})
        write_json(folder / "illumination.json", {"status": "pass", "consensus": r.calibration})
        self.truth = images(folder / "truth.ome.zarr", r.truth, r.truth_times)
        rng = np.random.default_rng(0)
        right = r.truth[1::3] + rng.normal(0, 0.1, r.truth[1::3].shape)
        noisy = right + right.std() * rng.standard_normal(right.shape)
        noisy[[0, -1]] = np.nan  # a window that does not exist at the ends
        self.stores = {
            "nstm": images(folder / "nstm.ome.zarr", right, self.times),
            "conventional": images(folder / "conventional.ome.zarr", noisy, self.times),
            "widefield": images(folder / "widefield.ome.zarr", [limit(i, 0.0325, 4.0) for i in right], self.times),
            "motion": folder / "absent.ome.zarr",  # never opened
        }
        self.jobs = [self.job(1, 1), self.job(0, 0)]

    def job(self, first, last):
        path = self.folder / f"{first}-{last}.zarr"
        group = zarr.create_group(str(path), overwrite=True)
        group.attrs["nstm"] = {"schema": 1, "acquisitions": [record(i) for i in range(first, last + 1)]}
        return path

    def evaluate(self, truth_store, stores=None, **changes):
        out = self.folder / "metrics.json", self.folder / "trust.json"
        given = params(**changes)
        raw, light = self.folder / "raw.ome.zarr", self.folder / "illumination.json"
        run_evaluate(given, raw, light, stores or self.stores, self.jobs, truth_store, *out)
        return read_json(out[0]), read_json(out[1])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("evaluate"))


def test_figures_of_every_method_at_common_times(world):
    metrics, trust = world.evaluate(world.truth)
    assert (metrics["schema"], metrics["sample"]) == (1, "cell")
    assert metrics["times_s"] == pytest.approx(world.times)
    assert metrics["common_times_s"] == pytest.approx(world.times[1:-1])
    methods = metrics["methods"]
    assert set(methods) == {"nstm", "conventional", "widefield"}
    assert methods["conventional"]["psnr_plain"][0] is None
    assert len(methods["nstm"]["psnr_plain"]) == 6
    means = {name: m["mean"] for name, m in methods.items()}
    assert means["nstm"]["psnr_equalised"] > means["conventional"]["psnr_equalised"] + 10
    assert means["nstm"]["psnr_equalised"] > means["widefield"]["psnr_equalised"] + 3
    assert means["conventional"]["psnr_plain"] == pytest.approx(np.mean(methods["conventional"]["psnr_plain"][1:-1]))
    assert means["nstm"]["frc_um"] < means["widefield"]["frc_um"]
    assert means["widefield"]["frc_um"] == pytest.approx(1 / 4.0, rel=0.15)
    assert means["nstm"]["ssim_equalised"] == pytest.approx(1, abs=1e-3)
    assert trust["status"] == "pass"


def test_costs_and_trust_without_truth(world):
    metrics, trust = world.evaluate(None)
    assert metrics["methods"] == {}
    assert (metrics["seconds"], metrics["peak_memory_mb"]) == (4.0, 101.0)
    assert metrics["residual"] == pytest.approx(np.sqrt((0.64 + 0.81) / 2))
    assert metrics["static_residual"] == pytest.approx(2.0)
    assert metrics["held_out"] == {"frames": 1, "error": pytest.approx(1.1), "static_error": pytest.approx(2.2)}
    assert [a["index"] for a in trust["acquisitions"]] == [0, 1]
    assert trust["acquisitions"][0]["held_out_ratio_to_static"] == pytest.approx(0.5)
    assert trust["acquisitions"][1]["held_out_error"] is None


@pytest.mark.parametrize(("held_out", "told"), [([], False), ([1, 7], False), ([7, 9], True)])
def test_a_choice_of_acquisitions_that_the_sample_does_not_have_is_told(world, tmp_path, held_out, told):
    given = params() | {"reconstruction": {"held_out": held_out, "static": True}}
    raw, light = world.folder / "raw.ome.zarr", world.folder / "illumination.json"
    run_evaluate(given, raw, light, world.stores, world.jobs, None, tmp_path / "m.json", tmp_path / "t.json")
    messages = [r["message"] for r in read_json(tmp_path / "t.json")["reasons"]]
    assert len(messages) == told
    assert all("held_out names acquisition(s) 7, 9, but this sample has 2, counted from 0" in m for m in messages)


def test_truth_at_other_times_is_not_used(world, tmp_path):
    late = images(tmp_path / "late.ome.zarr", world.recording.truth, world.recording.truth_times + 100)
    metrics, _ = world.evaluate(late)
    assert metrics["common_times_s"] == []
    assert metrics["methods"]["nstm"]["psnr_plain"] == [None] * 6
    assert metrics["methods"]["nstm"]["mean"]["psnr_plain"] is None


def test_another_samples_result_is_a_still_reference(world, tmp_path):
    stack = np.stack([np.full((128, 128), np.nan), world.recording.truth[4], world.recording.truth[4]])
    still = images(tmp_path / "still.ome.zarr", stack, [50.0, 51.0, 52.0])
    metrics, _ = world.evaluate(still, truth="fixed_cell")
    curve = metrics["methods"]["nstm"]["psnr_equalised"]
    assert None not in [v for i, v in enumerate(curve) if i != 1]
    assert np.argmax([v if v is not None else np.inf for v in curve]) == 1  # truth[4] is orientation 1's own


def test_a_method_without_any_result_does_not_hide_the_others(world, tmp_path):
    empty = images(tmp_path / "static.ome.zarr", np.full((6, 128, 128), np.nan), world.times)
    metrics, _ = world.evaluate(world.truth, {**world.stores, "static": empty})
    assert metrics["methods"]["static"]["mean"]["psnr_plain"] is None
    assert metrics["methods"]["nstm"]["mean"]["psnr_plain"] > 20


def test_truth_on_another_grid_and_of_another_field(world, tmp_path):
    from nstm.metrics import resample

    coarse = np.stack([resample(i, (96, 96)) for i in world.recording.truth])
    other = images(tmp_path / "coarse.ome.zarr", coarse, world.recording.truth_times, pixel_um=0.0325 * 128 / 96)
    metrics, _ = world.evaluate(other)
    assert metrics["methods"]["nstm"]["mean"]["psnr_equalised"] > 35
    wrong = images(tmp_path / "wrong.ome.zarr", coarse, world.recording.truth_times, pixel_um=0.0325)
    metrics, trust = world.evaluate(wrong)
    assert metrics["methods"] == {}
    assert trust["status"] == "warn"
    assert "same field" in trust["reasons"][-1]["message"]


def test_a_truth_that_is_no_store_costs_only_its_figures(world, tmp_path):
    (tmp_path / "truth.tif").write_text("no store")
    metrics, trust = world.evaluate(tmp_path / "truth.tif")
    assert (metrics["methods"], metrics["residual"] is None) == ({}, False)
    assert [r["code"] for r in trust["reasons"]] == ["truth"]


def test_a_store_that_is_no_job_is_named(world, tmp_path):
    with pytest.raises(DataError, match="reconstruct job"):
        run_evaluate(
            params(),
            world.folder / "raw.ome.zarr",
            world.folder / "illumination.json",
            {},
            [tmp_path / "absent.zarr"],
            None,
            tmp_path / "m.json",
            tmp_path / "t.json",
        )
