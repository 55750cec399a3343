"""Jobs that are stopped: what they leave, and that the next attempt gives the same arrays."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import zarr

from nstm.acquisition import make_acquisitions
from nstm.io.jsonfile import write_json
from nstm.io.store import write_raw
from nstm.pipeline.progress import Progress, until_terminated
from nstm.pipeline.reconstruct import run_reconstruct
from tests.spacetime.test_reconstruct import recorded

JOB = """
import json, sys
from pathlib import Path
from nstm.pipeline.reconstruct import run_reconstruct
folder = Path(sys.argv[1])
params = json.loads((folder / "params.json").read_text())
raw, light = folder / "raw.ome.zarr", folder / "illumination.json"
run_reconstruct(params, raw, light, 0, 1, folder / "stopped.zarr", folder / ".checkpoints")
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Folder with the inputs of a job of two acquisitions, its settings, and the store of an undisturbed run."""
    folder = tmp_path_factory.mktemp("job")
    system, frames, times, known = recorded((0, 1))
    both = np.stack([frames, frames[::-1]]).round().astype(np.uint16)
    clock = np.stack([times, times + 1])
    raw = make_acquisitions(both, clock, ("angle", "phase"), pixel_um=0.065, time_origin="read")
    write_raw(folder / "raw.ome.zarr", raw, {})
    write_json(folder / "illumination.json", {"acquisitions": [known, known]})
    params = {
        "numerics": 1,
        "sample": {"sample": "drifting", "path": "raw.tif", "system": "sim"},
        "system": system.settings.model_dump(mode="json"),
        "reconstruction": {"steps": 240, "starts": 1, "sliding": False, "padding_px": 4},
    }
    write_json(folder / "params.json", params)
    raw_store, light = folder / "raw.ome.zarr", folder / "illumination.json"
    run_reconstruct(params, raw_store, light, 0, 1, folder / "whole.zarr", folder / "others")
    assert not (folder / "others").exists()  # a finished job leaves no checkpoints
    return folder


def start(folder):
    environment = {**os.environ, "XLA_FLAGS": ""}
    command = [sys.executable, "-c", JOB, str(folder)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(process, ready, seconds=240):
    end = time.monotonic() + seconds
    while not ready() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)


def test_a_job_that_gets_sigterm_goes_on_to_the_same_arrays(job):
    kept = job / ".checkpoints"
    first = start(job)
    wait_for(first, lambda: list(kept.glob("*/00000.npz")))  # the first acquisition is finished
    first.send_signal(signal.SIGTERM)
    message = first.communicate(timeout=240)[1]
    assert first.returncode == 1
    assert "was stopped" in message
    assert not (job / "stopped.zarr").exists()
    finished = next(kept.glob("*/00000.npz"))
    assert not (finished.parent / "00000").exists()  # results stand in for the checkpoints of their fits

    second = start(job)
    message = second.communicate(timeout=240)[1]
    assert second.returncode == 0, message
    assert "acquisition 0" not in message  # its fits are not repeated
    assert not kept.exists()
    whole, stopped = (zarr.open_group(job / f"{name}.zarr", mode="r") for name in ("whole", "stopped"))
    for name in ("scene", "displacement"):
        np.testing.assert_array_equal(stopped[name][:], whole[name][:])
    for one, other in zip(*(g.attrs["nstm"]["acquisitions"] for g in (whole, stopped)), strict=True):
        assert [one[k] for k in ("loss", "motion_px")] == [other[k] for k in ("loss", "motion_px")]


def test_only_the_first_sigterm_is_a_wish():
    before = signal.getsignal(signal.SIGTERM)
    with until_terminated() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_settings_or_data_have_another_folder_and_damage_is_no_result(tmp_path, capsys):
    one, same, other = (Progress(tmp_path, {"steps": steps, "hash": "ab"}) for steps in (1, 1, 2))
    assert one.folder == same.folder != other.folder
    one.keep(3, {"scene": np.arange(4.0)}, {"status": "pass"})
    arrays, record = same.finished(3)
    np.testing.assert_array_equal(arrays["scene"], np.arange(4.0))
    assert record == {"status": "pass"}
    assert other.finished(3) is None
    content = bytearray((one.folder / "00003.npz").read_bytes())
    content[content.index(np.arange(4.0).tobytes()) + 9] ^= 1
    (one.folder / "00003.npz").write_bytes(content)
    assert same.finished(3) is None
    assert "damaged" in capsys.readouterr().err
    one.clear()
    assert not tmp_path.exists()


def test_without_a_folder_nothing_is_kept():
    nothing = Progress(None, {})
    nothing.keep(0, {"scene": np.zeros(2)}, {})
    assert (nothing.finished(0), nothing.of_fit(0, "static")) == (None, None)
    nothing.clear()
