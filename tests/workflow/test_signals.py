"""Signals to Snakemake and a killed job: what each leaves, and that another run completes (stub stages)."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.experiments import stub_experiment

#: Longer than a busy machine may take, s; no test waits so long unless it fails.
PATIENCE = 1200


def wait_until(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that its parent has not reaped yet has."""
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


class Hanging:
    """An experiment whose only fit hangs, and the Snakemake that runs it."""

    def __init__(self, folder: Path) -> None:
        row = {"sample": "slow", "path": "../data/slow.txt", "system": "stub"}
        self.work = stub_experiment(folder, {"slow.txt": "t=1\nreconstruct=hang\n"}, [row])
        self.store = self.work.result("slow/jobs/00000-00000.zarr")
        self.log = folder / "snakemake.log"
        with self.log.open("w") as log:
            self.run = subprocess.Popen(
                self.work.command("--cores", "1"),
                cwd=self.work.folder,
                env=self.work.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # as by a shell in the foreground: what is started in the background may ignore interrupts
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        started = Path(f"{self.store}.started")
        wait_until(lambda: self.run.poll() is not None or (started.exists() and bool(started.read_text())))
        assert started.exists(), self.log.read_text()
        self.fit = int(started.read_text())

    def go_on(self) -> None:
        Path(f"{self.store}.go-on").touch()

    def locked(self) -> bool:
        return any((self.work.folder / ".snakemake").glob("locks/*"))

    def completes(self, *target: str) -> None:
        """A run by the user makes what is missing of the target."""
        assert not self.locked()
        self.work.env["STUB_FREE"] = "1"
        self.work.snakemake(*target)
        assert json.loads((self.work.result("slow/fits/00000-00000.zarr") / "zarr.json").read_text())
        assert self.work.planned(*target) == {}


#: What the hanging fit writes: the rest takes time and tells no more.
FIT = "results/slow/fits/00000-00000.zarr"


@pytest.fixture
def hanging(tmp_path):
    one = Hanging(tmp_path)
    yield one
    with contextlib.suppress(ProcessLookupError):
        os.killpg(one.run.pid, signal.SIGKILL)
    one.run.wait()


def test_an_interrupt_ends_the_jobs_and_leaves_no_lock(hanging: Hanging) -> None:
    os.killpg(hanging.run.pid, signal.SIGINT)  # as Ctrl-C does
    assert hanging.run.wait(PATIENCE) != 0
    wait_until(lambda: is_gone(hanging.fit))
    hanging.completes(FIT)


def test_a_termination_lets_running_jobs_finish_and_starts_no_other(hanging: Hanging) -> None:
    hanging.run.send_signal(signal.SIGTERM)
    wait_until(lambda: "Will exit after finishing currently running jobs" in hanging.log.read_text())
    assert hanging.run.poll() is None
    hanging.go_on()
    assert hanging.run.wait(PATIENCE) != 0
    assert hanging.work.result("slow/fits/00000-00000.zarr").is_dir()
    assert not hanging.work.result("report.html").exists()
    hanging.completes(FIT)


def test_a_crash_leaves_a_lock_and_nothing_that_passes_for_whole(hanging: Hanging) -> None:
    os.killpg(hanging.run.pid, signal.SIGKILL)  # nothing may tidy up
    hanging.run.wait()
    assert hanging.store.is_dir()
    assert hanging.locked()
    assert "cannot be locked" in hanging.work.snakemake(check=False)
    hanging.work.snakemake("--unlock")
    hanging.completes()


def test_a_killed_job_fails_by_name_and_costs_nothing_else(hanging: Hanging) -> None:
    os.kill(hanging.fit, signal.SIGKILL)
    assert hanging.run.wait(PATIENCE) != 0
    assert "Error in rule reconstruct" in hanging.log.read_text()
    assert not hanging.store.exists()
    assert hanging.work.result("slow/timelapse/conventional.ome.zarr").is_dir()  # keep-going
    hanging.completes(FIT)
