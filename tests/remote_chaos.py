"""The same faults where machines share nothing but remote storage, and those that only it has."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import driving
import psutil
from chaos import Chaos, Machines

from booster_ray.store.files import PROGRESS, VERDICT
from booster_ray.store.mirror import CHECKPOINT, EPOCH
from booster_ray.store.remote import RemoteFolder

REMOTE_KINDS = {
    "worker killed": 8,
    "node and its disk lost": 5,
    "newest copy damaged, node lost": 4,
    "killed in the middle of an upload": 4,
    "SIGTERM": 4,
    "cut off, and back later": 3,
    "driver killed, resumed on another machine": 2,
}
"""Kind of fault -> how many of thirty."""


class Disks(Machines):
    """A cluster each of whose nodes has folders of its own for what is temporary and for home."""

    def add(self, **settings: Any) -> None:
        """Another machine, with an empty disk."""
        super().add(**settings, env_vars=disk())


def disk() -> dict[str, str]:
    """The environment of a machine with an empty disk."""
    folder = Path(tempfile.mkdtemp(prefix="disk-", dir="/tmp"))
    for name in ("TMPDIR", "HOME"):
        (folder / name).mkdir()
    return {name: str(folder / name) for name in ("TMPDIR", "HOME")}


class RemoteChaos(Chaos):
    """Runs one sweep whose storage is a URL, and disturbs it; see the base for arguments."""

    def __init__(
        self, machines: Machines, url: str, arguments: list[str], name: str, seed: int
    ) -> None:
        self._url = url
        self._there = RemoteFolder(f"{url}/{name}")
        super().__init__(machines, Path(url), arguments, name, seed)

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        where = ["--storage", self._url] if "--resume" in arguments else [f"storage={self._url}"]
        return driving.start(*arguments, *where, RAY_ADDRESS=self._machines.address, **disk())

    # -- watching ----------------------------------------------------------------------------

    def numbers(self) -> list[int]:
        return sorted(int(name) for name in self._there.names("trials") if name.isdigit())

    def reports(self, number: int) -> list[dict[str, float]]:
        text = self._there.read(f"{self._trial(number)}/{PROGRESS}") or b""
        return [json.loads(line) for line in text.splitlines() if line.endswith(b"}")]

    def verdict(self, number: int) -> dict[str, Any] | None:
        """How a trial has ended; None: it has not."""
        found = self._there.read(f"{self._trial(number)}/{VERDICT}")
        return json.loads(found) if found else None

    def board(self) -> list[dict[str, Any]]:
        """The leaderboard, but for where checkpoints lie."""
        rows = json.loads(self._there.read("leaderboard.json") or b"[]")
        return [{key: value for key, value in row.items() if key != "checkpoint"} for row in rows]

    def _trial(self, number: int) -> str:
        return f"trials/{number:04d}"

    def _has_ended(self, number: int) -> bool:
        return self.verdict(number) is not None

    def _epoch(self, number: int) -> str:
        """The newest owner's folder; empty: there is none yet."""
        names = self._there.names(self._trial(number))
        return max((name for name in names if EPOCH.fullmatch(name)), default="")

    def _checkpoints(self, number: int) -> list[str]:
        """Full checkpoints of the newest owner, oldest first."""
        home = f"{self._trial(number)}/{self._epoch(number)}"
        names = [n for n in self._there.names(home) if CHECKPOINT.fullmatch(n)]
        return [f"{home}/{name}" for name in sorted(names) if name.startswith("step_")]

    def _process_of(self, number: int) -> psutil.Process | None:
        mine = f"/{self._name}/{self._trial(number)}/.lock"
        for process in self._machines.trials():
            try:
                if any(file.path.endswith(mine) for file in process.open_files()):
                    return process
            except psutil.Error:
                continue
        return None

    # -- faults ------------------------------------------------------------------------------

    def _inject(self, kind: str, number: int) -> bool:
        process = self._process_of(number)
        if process is None:
            return False
        if kind == "node and its disk lost":
            self._lose_node(process)
        elif kind == "newest copy damaged, node lost":
            return self._damage(number, process)
        elif kind == "killed in the middle of an upload":
            return self._cut_upload(number, process)
        elif kind == "cut off, and back later":
            self._cut_off(number, process)
        elif kind == "driver killed, resumed on another machine":
            self._process.send_signal(signal.SIGKILL)
            self.output += self._process.communicate()[0]
            self._process = self._start("--resume", self._name, "--take-over")
        else:
            return super()._inject(kind, number)
        return True

    def _damage(self, number: int, process: psutil.Process) -> bool:
        process.suspend()
        whole = [c for c in self._checkpoints(number) if "manifest.json" in self._there.names(c)]
        if len(whole) < 2:
            process.resume()
            return False
        content = bytearray(self._there.read(f"{whole[-1]}/arrays.bin") or b"")
        content[self._rng.randrange(len(content))] ^= 0xFF
        self._there.write(f"{whole[-1]}/arrays.bin", bytes(content))
        self._lose_node(process)
        return True

    def _cut_upload(self, number: int, process: psutil.Process) -> bool:
        """Kill it when the newest checkpoint's arrays are there and its manifest is not."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and process.is_running():
            newest = self._checkpoints(number)[-1:]
            if newest and "manifest.json" not in self._there.names(newest[0]):
                process.suspend()
                if "manifest.json" not in self._there.names(newest[0]):
                    process.kill()
                    return True
                process.resume()
        return False

    def _cut_off(self, number: int, process: psutil.Process) -> None:
        """Its machine is taken for lost, another goes on, and then it comes back for a while."""
        process.suspend()
        before = self._epoch(number)
        keeper = self._machines.cut_off(self._machines.node_of(process))
        driving.wait_for(lambda: self._epoch(number) > before, 300)
        assert process.status() == psutil.STATUS_STOPPED
        process.resume()
        time.sleep(5.0)
        driving.kill_all(keeper.pid)
