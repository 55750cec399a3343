"""Signals to Snakemake and a killed job: what each leaves, and that another run completes (stub stages)."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.experiments import Workdir, stub_experiment


@pytest.fixture
def hanging(tmp_path):
    """An experiment whose fit hangs, Snakemake that runs it, the process of the fit, and where to tell it to go on."""
    row = {"sample": "slow", "path": "../data/slow.txt", "system": "stub"}
    work = stub_experiment(tmp_path, {"slow.txt": "t=1\nreconstruct=hang\n"}, [row])
    started = work.result("slow/jobs/00000-00000.zarr.started")
    run = subprocess.Popen(
        work.command("--cores", "1"),
        cwd=work.folder,
        env=work.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # as by a shell in the foreground: what is started in the background inherits that interrupts are ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        text=True,
    )
    deadline = time.monotonic() + 240
    while not (started.exists() and started.read_text()) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert started.exists()
    yield work, run, int(started.read_text()), started.with_suffix(".go-on")
    run.kill()


def completes(work: Workdir) -> None:
    """No lock is left, and a run by the user completes what is missing."""
    assert not list((work.folder / ".snakemake" / "locks").glob("*"))
    work.env["STUB_FREE"] = "1"
    work.snakemake()
    assert json.loads((work.result("slow/fits/00000-00000.zarr") / "zarr.json").read_text())
    assert work.planned() == {}


def test_an_interrupt_ends_the_jobs_and_leaves_no_lock(hanging) -> None:
    work, run, fit, _ = hanging
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does
    assert run.wait(120) != 0
    with pytest.raises(ProcessLookupError):
        os.kill(fit, 0)
    completes(work)


def test_sigterm_waits_for_the_jobs_that_run_and_starts_no_other(hanging) -> None:
    work, run, _, go_on = hanging
    run.send_signal(signal.SIGTERM)
    time.sleep(1)
    assert run.poll() is None
    Path(go_on).write_text("")
    assert run.wait(120) != 0
    assert work.result("slow/fits/00000-00000.zarr").is_dir()
    assert not work.result("report.html").exists()
    assert "reconstruct" not in work.planned()
    completes(work)


def test_a_killed_job_fails_by_name_and_costs_nothing_else(hanging) -> None:
    work, run, fit, _ = hanging
    os.kill(fit, signal.SIGKILL)
    output = run.communicate(timeout=240)[0]
    assert run.returncode != 0
    assert "Error in rule reconstruct" in output
    assert not work.result("slow/jobs/00000-00000.zarr").exists()
    assert work.result("slow/timelapse/conventional.ome.zarr").is_dir()  # keep-going
    completes(work)
