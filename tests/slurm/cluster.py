"""A SLURM of one machine for tests: all of its state in one folder, run by the current user, stopped by PID.

Nothing in /etc is used or changed, ports are free ones on 127.0.0.1, there is no accounting and no cgroup.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

#: What the node claims to have; it need not be true.
CPUS, MEMORY_MB, GPUS = 16, 64_000, 2
_CLIENTS = ("sacct", "salloc", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun", "sstat")

_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={d_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/sock/s
CredType=cred/munge
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/slurmd
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=100000
JobAcctGatherType=jobacct_gather/none
KillWait=2
JobRequeue=0
MinJobAge=3600
GresTypes=gpu
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={cpus} ThreadsPerCore=1 \
RealMemory={memory} Gres=gpu:{gpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=600 DefaultTime=5 State=UP DefMemPerCPU=500
"""


def missing() -> str | None:
    """Why a SLURM cannot be started here, or ``None``."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    absent = [p for p in ("sbatch", "munged", "slurmctld", "slurmd") if not shutil.which(p, path=path)]
    return f"{', '.join(absent)} not installed (Debian: apt-get install slurm-wlm munge)" if absent else None


class Cluster:
    """``with Cluster(folder) as cluster:`` runs commands in ``cluster.env``; keep the path of the folder short."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.env = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{folder}/bin:{os.environ['PATH']}:/usr/sbin",
        }
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Cluster:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def run(self, *command: str) -> str:
        """Output of a command of SLURM."""
        return subprocess.run(command, env=self.env, check=True, capture_output=True, text=True, timeout=60).stdout

    def jobs(self) -> list[dict[str, str]]:
        """What ``scontrol`` knows of every job, finished ones included."""
        lines = self.run("scontrol", "--oneliner", "show", "jobs").splitlines()
        return [dict(f.split("=", 1) for f in line.split() if "=" in f) for line in lines if "JobId=" in line]

    def restart_controller(self) -> None:
        """End slurmctld and start it again; what it knew of jobs stands in its files."""
        _end(self._daemons[1])
        self._daemons[1] = self._daemon("slurmctld", "-D", "-i")
        self._wait("slurmctld", lambda: "UP" in self.run("scontrol", "ping"))

    def _start(self) -> None:
        for name in ("sock", "munge", "log", "bin", "ctld", "slurmd"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge").chmod(0o700)
        (self.folder / "sock").chmod(0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        self._configure()
        munge = self.folder / "munge"
        munged = self._daemon(
            *("munged", "-F", "--force", f"--key-file={key}", f"--socket={self.folder}/sock/s"),
            *(f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed"),
        )
        self._daemons.append(munged)
        self._wait("munged", lambda: bool(self.run("munge", "-n", "-S", f"{self.folder}/sock/s")))
        self._daemons.append(self._daemon("slurmctld", "-D", "-i"))
        self._wait("slurmctld", lambda: "UP" in self.run("scontrol", "ping"))
        self._daemons.append(self._daemon("slurmd", "-D", "-N", self.host))
        self._wait("slurmd", lambda: self.run("sinfo", "-h", "-o", "%T").strip() == "idle")

    def _configure(self) -> None:
        ports = [socket.socket(), socket.socket()]  # both open at once, so that they differ
        for port in ports:
            port.bind(("127.0.0.1", 0))
        numbers = [port.getsockname()[1] for port in ports]
        for port in ports:
            port.close()
        values = {"host": self.host, "user": getpass.getuser(), "folder": self.folder}
        values |= {"ctld_port": numbers[0], "d_port": numbers[1], "cpus": CPUS, "memory": MEMORY_MB, "gpus": GPUS}
        (self.folder / "slurm.conf").write_text(_CONF.format(**values))
        for index in range(GPUS):
            (self.folder / f"gpu{index}").symlink_to("/dev/null")
        devices = f"{self.folder}/gpu[0-{GPUS - 1}]"
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\nNodeName={self.host} Name=gpu File={devices}\n")
        for client in _CLIENTS:
            # the executor drops SLURM_CONF from the environment of the srun inside a job
            wrapper = self.folder / "bin" / client
            wrapper.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec /usr/bin/{client} "$@"\n')
            wrapper.chmod(0o755)

    def _daemon(self, *command: str) -> subprocess.Popen[bytes]:
        with open(self.folder / "log" / f"{command[0]}.out", "ab") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            return subprocess.Popen(command, env=self.env, start_new_session=True, **streams)  # type: ignore[call-overload]

    def _wait(self, what: str, ready: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                if ready():
                    return
            except (subprocess.SubprocessError, OSError):
                pass
            if time.monotonic() > deadline:
                tails = [f"{p.name}: {p.read_text(errors='replace')[-500:]}" for p in (self.folder / "log").iterdir()]
                raise TimeoutError(f"{what} did not start\n" + "\n".join(tails))
            time.sleep(0.1)

    def _stop(self) -> None:
        if len(self._daemons) == 3:
            subprocess.run(["scancel", "-u", getpass.getuser()], env=self.env, timeout=30, check=False)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and self.run("squeue", "-h").strip():
                time.sleep(0.2)
        for daemon in reversed(self._daemons):
            _end(daemon)


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait(10)
