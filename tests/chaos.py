"""Real faults for a real sweep on a simulated cluster: what is killed is a process, a node, a disk.

Everything is done from outside, as a cloud would: signals, limits of the kernel, bytes in files.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import driving
import psutil
from two_nodes import ATTEMPTS

from booster_ray.store.files import VERDICT

FULL_BYTES = 64 * 1024
"""With a "full disk" a process can write no further than this into any file: enough for logs."""
OUTAGE_SECONDS = 10.0
KINDS = {
    "worker killed": 9,
    "node lost": 4,
    "newest checkpoint corrupted": 5,
    "disk full": 4,
    "storage away for 10 s": 2,
    "SIGTERM": 4,
    "sweep driver killed": 2,
}
"""Kind of fault -> how many of thirty."""


class Machines:
    """A Ray cluster of a head without CPUs and ``nodes`` nodes of one CPU, on this machine."""

    def __init__(self, nodes: int = 3) -> None:
        from ray.cluster_utils import Cluster

        # Ray may have been imported before: what it has read of its tokens by then, holds.
        os.environ |= {
            "RAY_AUTH_MODE": "disabled",
            # A lost node is missed soon.
            "RAY_health_check_initial_delay_ms": "1000",
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_timeout_ms": "3000",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._cluster: Any = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.nodes: list[Any] = []
        for _ in range(nodes):
            self.add(num_cpus=1)

    def add(self, **settings: Any) -> None:
        """Another node, for which Ray waits 30 s; on a busy machine it takes longer."""
        for left in range(ATTEMPTS - 1, -1, -1):
            try:
                self.nodes.append(self._cluster.add_node(**settings))
                return
            except Exception:
                if not left:
                    raise

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def trials(self) -> list[psutil.Process]:
        """The processes that run trials now."""
        found = []
        for node in self.nodes:
            try:
                below = psutil.Process(_raylet(node)).children(recursive=True)
                found += [p for p in below if "TrialProcess" in " ".join(p.cmdline())]
            except psutil.NoSuchProcess:
                continue
        return found

    def lose(self, node: Any) -> None:
        """Kill a node and all it runs; another takes its place, as for a preemptible machine.

        Args:
            node: one of ``nodes``.
        """
        driving.kill_all(_raylet(node))
        self._cluster.remove_node(node, allow_graceful=False)
        self.nodes.remove(node)
        self.add(num_cpus=1)

    def cut_off(self, node: Any) -> psutil.Process:
        """Freeze what keeps a node in the cluster, which takes it for lost; another joins.

        Returns:
            The frozen process. Were it killed, the kernel would wake whoever is stopped below it.
        """
        keeper = psutil.Process(_raylet(node))
        keeper.suspend()
        self.nodes.remove(node)
        self.add(num_cpus=1)
        return keeper

    def node_of(self, process: psutil.Process) -> Any:
        """The node that a process belongs to."""
        above = {parent.pid for parent in process.parents()}
        return next(node for node in self.nodes if _raylet(node) in above)

    def drain(self, node: Any, seconds: int) -> None:
        """Announce the end of a node, as an autoscaler does before a preemption."""
        reason = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "test"]
        when = ["--deadline-remaining-seconds", str(seconds)]
        ray = Path(sys.executable).with_name("ray")
        where = ["--address", self.address, "--node-id", node.node_id]
        subprocess.run([str(ray), "drain-node", *where, *reason, *when], check=True)

    def kill_everything(self) -> None:
        """``kill -9`` of the head and of every node, at once."""
        nodes = [self._cluster.head_node, *self.nodes]
        pids = [
            info.process.pid for n in nodes for kind in n.all_processes.values() for info in kind
        ]
        for pid in pids:
            if psutil.pid_exists(pid):
                driving.kill_all(pid)
        self._cluster.shutdown()


def _raylet(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


class Chaos:
    """Runs one sweep and disturbs it.

    Args:
        machines: where it runs.
        storage: a link to the folder of the sweeps, which this may point elsewhere.
        arguments: of ``python -m booster_ray.tune``, ``name=`` excepted.
        name: the sweep's.
        seed: of the choice of faults.
    """

    def __init__(
        self, machines: Machines, storage: Path, arguments: list[str], name: str, seed: int
    ) -> None:
        self._machines, self._storage, self._name = machines, storage, name
        self._rng = random.Random(seed)
        self._real = storage.resolve()
        self.sweep = self._real / name
        self.injected: Counter[str] = Counter()
        self.redone = 0
        """Env steps that were made again, summed over trials."""
        self.made: Counter[int] = Counter()
        """Env steps of the newest report of each trial."""
        self._hit: dict[int, float] = {}
        """Trial -> env steps when it was last disturbed."""
        self._damaged: set[Path] = set()
        self._process = self._start(*arguments, f"name={name}")
        self.output = ""

    def _start(self, *arguments: str) -> subprocess.Popen[str]:
        storage = "--storage" if "--resume" in arguments else None
        where = [storage, str(self._storage)] if storage else [f"storage={self._storage}"]
        return driving.start(*arguments, *where, RAY_ADDRESS=self._machines.address)

    # -- watching ----------------------------------------------------------------------------

    def running(self) -> bool:
        """Whether the driver is still at work; looks at the trials' progress on the way."""
        for number in self.numbers():
            reports = self.reports(number)
            steps = int(reports[-1]["env_steps"]) if reports else 0
            if steps < self.made[number]:
                self.redone += self.made[number] - steps
                self._hit[number] = steps
            self.made[number] = steps
        return self._process.poll() is None

    def numbers(self) -> list[int]:
        """Trials that have begun."""
        return sorted(int(directory.name) for directory in self.sweep.glob("trials/*"))

    def reports(self, number: int) -> list[dict[str, float]]:
        """What a trial has reported."""
        return driving.progress(self.sweep, number)

    def _has_ended(self, number: int) -> bool:
        return (self.sweep / "trials" / f"{number:04d}" / VERDICT).exists()

    def _checkpoints(self, number: int) -> list[Any]:
        return driving.checkpoints(self.sweep, number)

    def _progressing(self) -> list[int]:
        """Trials that have gone on since they were last disturbed, and are not done."""
        return [
            number
            for number, steps in self.made.items()
            if steps > self._hit.get(number, -1)
            and not self._has_ended(number)
            and len(self._checkpoints(number)) >= 2
        ]

    def _process_of(self, number: int) -> psutil.Process | None:
        """The process that has the run's lock open."""
        mine = f"{self.sweep / 'trials' / f'{number:04d}'}/"
        for process in self._machines.trials():
            try:
                if any(file.path.startswith(mine) for file in process.open_files()):
                    return process
            except psutil.Error:
                continue
        return None

    # -- faults ------------------------------------------------------------------------------

    def disturb(self, kinds: list[str], timeout: float) -> None:
        """Inject faults of these kinds in random order, each into a trial that makes progress."""
        deadline, pending = time.monotonic() + timeout, list(kinds)
        self._rng.shuffle(pending)
        while pending:
            assert time.monotonic() < deadline, f"faults not injected in time: {pending}"
            assert self.running(), f"ended with faults to come: {pending}\n{self._read()}"
            if ready := self._progressing():
                number = self._rng.choice(ready)
                if self._inject(pending[-1], number):
                    kind = pending.pop()
                    self.injected[kind] += 1
                    self._hit[number] = self.made[number]
                    print(f"{kind}: trial {number:04d} at {self.made[number]}", flush=True)
            time.sleep(0.3)

    def _inject(self, kind: str, number: int) -> bool:
        process = self._process_of(number)
        if process is None:
            return False
        if kind == "worker killed":
            process.kill()
        elif kind == "SIGTERM":
            process.terminate()
        elif kind == "disk full":
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FULL_BYTES, hard))
        elif kind == "newest checkpoint corrupted":
            return self._corrupt(number, process)
        elif kind == "node lost":
            self._lose_node(process)
        elif kind == "storage away for 10 s":
            self._outage()
        elif kind == "sweep driver killed":
            self._kill_driver()
        return True

    def _corrupt(self, number: int, process: psutil.Process) -> bool:
        process.suspend()
        before, newest = driving.checkpoints(self.sweep, number)[-2:]
        if {before, newest} & self._damaged:
            process.resume()
            return False
        # A file that the checkpoint before does not share.
        files = [p for p in newest.rglob("*") if p.is_file() and p.stat().st_nlink == 1]
        victim = self._rng.choice(sorted(p for p in files if p.stat().st_size))
        content = bytearray(victim.read_bytes())
        content[self._rng.randrange(len(content))] ^= 0xFF
        victim.write_bytes(content)
        self._damaged.add(newest)
        process.kill()
        return True

    def _lose_node(self, process: psutil.Process) -> None:
        self._machines.lose(self._machines.node_of(process))

    def _outage(self) -> None:
        """The path leads nowhere for a while; nothing can be created there either."""
        away = self._storage.with_name("nowhere")
        for target in (away / "nothing", self._real):
            link = self._storage.with_name("link.new")
            link.symlink_to(target)
            link.replace(self._storage)
            if target != self._real:
                time.sleep(OUTAGE_SECONDS)

    def _kill_driver(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self.output += self._process.communicate()[0]
        self._process = self._start("--resume", self._name)

    # -- the end -----------------------------------------------------------------------------

    def finish(self, timeout: float) -> int:
        """Let the sweep end; the exit code."""
        deadline = time.monotonic() + timeout
        while self.running():
            assert time.monotonic() < deadline, f"still running\n{self._read()}"
            time.sleep(0.3)
        self._read()
        return self._process.returncode

    def _read(self) -> str:
        driving.kill_all(self._process.pid) if self._process.poll() is None else None
        self.output += self._process.communicate()[0]
        return self.output
