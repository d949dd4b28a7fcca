"""A SLURM cluster of this machine alone: its daemons, keys and state live in one scratch folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
FOLDERS = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def missing() -> str | None:
    """Why SLURM cannot run here; None: it can."""
    for name in (*DAEMONS, "sbatch", "srun"):
        if shutil.which(name, path=FOLDERS) is None:
            return f"{name} is not installed: apt-get install slurmctld slurmd slurm-client munge"
    if os.geteuid() != 0:
        return "slurmd runs jobs as their users, which root alone may"
    try:
        pwd.getpwnam("munge")
    except KeyError:
        return "munged has no user of its own"
    return None


class Slurm:
    """One node with ``cpus`` CPUs; what it says of jobs."""

    def __init__(self, cpus: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)  # munged is another user
        self._daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "RAY_"))},
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": FOLDERS,
        }
        try:
            self._start(cpus)
        except BaseException:
            self.close()
            raise

    def _start(self, cpus: int) -> None:
        munge, state = self.folder / "munge", self.folder / "state"
        for folder in (munge, state, self.folder / "spool"):
            folder.mkdir()
        (munge / "key").write_bytes(os.urandom(128))
        for path in (munge / "key", munge):
            shutil.chown(path, "munge", "munge")
        (munge / "key").chmod(0o400)
        munge.chmod(0o755)
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log",
                 "seed-file": "seed"}  # fmt: skip
        options = [f"--{option}={munge / name}" for option, name in names.items()]
        self._run("munged", "--foreground", *options, user="munge")
        wait_for(lambda: (munge / "socket").exists(), 60)
        (self.folder / "slurm.conf").write_text(self._config(cpus))
        self._run("slurmctld", "-D")
        self._run("slurmd", "-D")
        wait_for(lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%t"), 120)

    def _config(self, cpus: int) -> str:
        host = socket.gethostname().partition(".")[0]
        settings = {
            "ClusterName": "here",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmctldPort": free_port(),
            "SlurmdPort": free_port(),
            "SlurmUser": "root",
            "AuthType": "auth/munge",
            "AuthInfo": f"socket={self.folder / 'munge' / 'socket'}",
            "ProctrackType": "proctrack/pgid",
            "TaskPlugin": "task/none",
            "MpiDefault": "none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU",
            "ReturnToService": 2,
            "JobRequeue": 1,
            "KillWait": 30,
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd.pid",
            "SlurmctldLogFile": self.folder / "slurmctld.log",
            "SlurmdLogFile": self.folder / "slurmd.log",
        }
        lines = [f"{name}={value}" for name, value in settings.items()]
        lines += [
            f"NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN",
            f"PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP",
        ]
        return "\n".join(lines) + "\n"

    def _run(self, name: str, *options: str, user: str | None = None) -> None:
        program = shutil.which(name, path=FOLDERS)
        assert program
        self._daemons.append(
            subprocess.Popen(
                [program, *options], env=self.environment, user=user, group=user,
                extra_groups=[] if user else None, start_new_session=True,
                stdout=(self.folder / f"{name}.out").open("wb"), stderr=subprocess.STDOUT,
            )
        )  # fmt: skip

    # -- jobs --------------------------------------------------------------------------------

    def ask(self, *command: str) -> str:
        """What a client command prints."""
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=120,
        )  # fmt: skip
        return done.stdout

    def submit(self, *arguments: str, cwd: Path, **environment: str) -> int:
        """The number of a job that was submitted."""
        done = subprocess.run(
            ["sbatch", "--parsable", *arguments], env={**self.environment, **environment}, cwd=cwd,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    def about(self, job: int) -> dict[str, str]:
        """A job's JobState, Restarts, ExitCode, …"""
        words = self.ask("scontrol", "show", "job", str(job)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def state(self, job: int) -> str:
        """Of a job, such as RUNNING."""
        return self.about(job).get("JobState", "")

    def logs(self) -> str:
        """The daemons' own, for a test that fails."""
        files = [*self.folder.glob("*.log"), *self.folder.glob("*.out")]
        return "\n".join(f"== {f.name}\n{f.read_text(errors='replace')[-2000:]}" for f in files)

    def close(self) -> None:
        """End what is running, then the daemons."""
        if len(self._daemons) > 1:
            with suppress(subprocess.TimeoutExpired):
                self.ask("scancel", "--full", "--user=root")
            with suppress(AssertionError, subprocess.TimeoutExpired):
                wait_for(lambda: not self.ask("squeue", "--noheader").strip(), 60)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """Of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], timeout: float) -> None:
    """Until it is true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s"
        time.sleep(0.5)
