"""Everything that goes wrong on a cluster, at random, during one run; then the same arrays as if nothing had.

make soak runs it; NSTM_CHAOS_SEED chooses what happens when.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.experiments import Workdir, arrays
from tests.slurm.cluster import Cluster, missing
from tests.slurm.conftest import experiment, submit

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.soak,
    pytest.mark.skipif(missing() is not None, reason=f"SLURM: {missing()}"),
]
#: Ends are noticed sooner, and sums are not split between threads, whose number they would depend on.
ARGUMENTS = ("--slurm-init-seconds-before-status-checks", "5", "--set-threads", "reconstruct=1")
#: Room of the working directory, MB: for all that the experiment writes, little beside it.
ROOM_MB = 400
#: Longer than a busy machine may take, s.
PATIENCE = 3000


@contextlib.contextmanager
def small_disk(folder: Path):
    """A file system of its own at ``folder``, where it may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM_MB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=False)


class Chaos:
    """What goes wrong; ``did`` tells in words what has."""

    def __init__(self, cluster: Cluster, work: Workdir, seed: int, mounted: bool) -> None:
        self.cluster, self.work, self.random = cluster, work, random.Random(seed)
        self.acts = [self.kill_a_process, self.cancel_a_job, self.drain, self.restart_the_controller]
        self.acts += [self.fill_the_disk] if mounted else []
        self.did: list[str] = []

    def during(self, run: subprocess.Popen[str]) -> None:
        """Every act once from the first job on, and again among the fits, in random order, while ``run`` goes on."""
        for rule in ("", "reconstruct"):
            wait_until(lambda rule=rule: run.poll() is not None or self.running(rule), PATIENCE)
            for act in self.random.sample(self.acts, len(self.acts)):
                wait_until(lambda: run.poll() is not None or self.running(), PATIENCE)
                if run.poll() is not None:
                    return
                time.sleep(self.random.uniform(3, 10))
                act()

    def running(self, rule: str = "") -> list[str]:
        """Numbers of the jobs of a rule (of any) that SLURM runs now; the executor names the rule in the comment."""
        with contextlib.suppress(subprocess.SubprocessError):
            lines = self.cluster.run("squeue", "-h", "-t", "R", "-o", "%i %k").splitlines()
            return [line.split()[0] for line in lines if rule in line]
        return []

    def processes(self) -> list[int]:
        """Processes that run the script of a job."""
        mark, found = f"{self.work.folder}/.snakemake/scripts/".encode(), []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
        return found

    def kill_a_process(self) -> None:
        wait_until(self.processes, 60)  # a job begins with the Snakemake inside it
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(self.random.choice(self.processes()), signal.SIGKILL)
            self.did.append("killed a process of a job")

    def cancel_a_job(self) -> None:
        if jobs := self.running():
            self.cluster.run("scancel", self.random.choice(jobs))
            self.did.append("cancelled a job")

    def drain(self) -> None:
        node = f"nodename={self.cluster.host}"
        self.cluster.run("scontrol", "update", node, "state=drain", "reason=chaos")
        time.sleep(self.random.uniform(3, 10))
        self.cluster.run("scontrol", "update", node, "state=resume")
        self.did.append("drained and resumed the node")

    def restart_the_controller(self) -> None:
        self.cluster.restart_controller()
        self.did.append("restarted slurmctld")

    def fill_the_disk(self) -> None:
        ballast = self.work.folder / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(2**20))
                file.flush()
        time.sleep(self.random.uniform(5, 15))
        ballast.unlink()
        self.did.append("filled the disk")


def wait_until(ready, seconds):
    end = time.monotonic() + seconds
    while not ready() and time.monotonic() < end:
        time.sleep(0.5)


def test_forty_acquisitions_in_eight_jobs_come_out_the_same(cluster: Cluster, tmp_path: Path) -> None:
    quiet = experiment(tmp_path / "quiet", acquisitions=40, per_job=5)
    quiet.snakemake(timeout=PATIENCE)
    expected = arrays(quiet)
    with small_disk(tmp_path / "work") as mounted:
        work = experiment(tmp_path / "work", acquisitions=40, per_job=5)
        chaos = Chaos(cluster, work, int(os.environ.get("NSTM_CHAOS_SEED", 1)), mounted)
        begin = time.monotonic()
        run = submit(cluster, work, *ARGUMENTS)
        try:
            chaos.during(run)
            code = run.wait(PATIENCE)
        finally:
            run.kill()
        again = None
        if code != 0:
            again = submit(cluster, work, *ARGUMENTS)
            assert again.wait(PATIENCE) == 0, (tmp_path / "snakemake.log").read_text()[-5000:]
        seconds = time.monotonic() - begin
        print(f"{seconds:.0f} s; {'; '.join(chaos.did)}; rerun by the user: {'yes' if again else 'no'}")
        assert {"killed a process of a job", "cancelled a job", "restarted slurmctld"} <= set(chaos.did)
        found = arrays(work)
        assert set(found) == set(expected)
        for name, array in found.items():
            np.testing.assert_array_equal(array, expected[name], err_msg=name)
        left = [p for p in work.folder.rglob(".*") if ".partial-" in p.name or ".old-" in p.name]
        assert not left
        assert not list((work.folder / ".snakemake" / "locks").glob("*"))
        assert not list((work.folder / ".snakemake" / "incomplete").glob("*"))
        assert not (work.folder / ".checkpoints").exists()
        assert not cluster.run("squeue", "-h").strip()
    shutil.rmtree(tmp_path / "quiet")
