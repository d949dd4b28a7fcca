"""A real Ray cluster of two nodes with a token: the second in a network namespace of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import driving

RAY = str(Path(sys.executable).with_name("ray"))
ATTEMPTS = 5
STORE_BYTES = 100_000_000
"""Of each node's objects; Ray takes no less than 75 MiB."""


class Link:
    """A pair of network interfaces, one end in a namespace of its own; root alone may make one."""

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.namespace, here, there = f"nodes{number}", f"nodes{number}a", f"nodes{number}b"
        self.head, self.node = f"10.219.{number}.1", f"10.219.{number}.2"
        inside = ["netns", "exec", self.namespace, "ip"]
        try:
            _ip("netns", "add", self.namespace)
            _ip("link", "add", here, "type", "veth", "peer", "name", there)
            _ip("link", "set", there, "netns", self.namespace)
            _ip("addr", "add", f"{self.head}/30", "dev", here)
            _ip("link", "set", here, "up")
            _ip(*inside, "addr", "add", f"{self.node}/30", "dev", there)
            _ip(*inside, "link", "set", there, "up")
            _ip(*inside, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError):
            self.close()
            raise

    def close(self) -> None:
        """Remove it; the interfaces go with the namespace."""
        with open(os.devnull, "w") as nothing:
            subprocess.run(["ip", "netns", "del", self.namespace], stderr=nothing, check=False)


def _ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True)


class TwoNodes:
    """Head and node, one CPU each; all of it dies with :meth:`close`.

    Where namespaces are not allowed, both are on the loopback interface.
    """

    def __init__(self, home: Path) -> None:
        self.token = secrets.token_hex(32)
        try:
            self.link: Link | None = Link()
        except (OSError, subprocess.CalledProcessError):
            self.link = None
        self._scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets want short paths
        head, node = (self.link.head, self.link.node) if self.link else ("127.0.0.1",) * 2
        self._environment = {
            **os.environ,
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self.token,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        gcs, web = free_port(head), free_port(head)
        self.address = f"http://{head}:{web}"
        self._log = Path(self._scratch, "log").open("w")  # noqa: SIM115
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            self._start_both(head, node, gcs, web)
        except BaseException:
            print(self.log())
            self.close()
            raise

    def _start_both(self, head: str, node: str, gcs: int, web: int) -> None:
        self._up(
            lambda: listens(head, web), [],
            "--head", f"--port={gcs}", f"--node-ip-address={head}", "--dashboard-host", head,
            f"--dashboard-port={web}", f"--temp-dir={self._scratch}",
        )  # fmt: skip
        self._up(
            lambda: self._nodes() == 2, self._inside(),
            f"--address={head}:{gcs}", f"--node-ip-address={node}",
        )  # fmt: skip

    def _up(self, ready: Callable[[], bool], prefix: list[str], *args: str) -> None:
        """Start a node and wait for it; again where Ray gives up, as it does after 30 s."""
        for _ in range(ATTEMPTS):
            process = self._start(*args, prefix=prefix)
            self._processes.append(process)
            driving.wait_for(lambda p=process: p.poll() is not None or ready(), 600)
            if process.poll() is None:
                return
            self._processes.remove(process)
        raise AssertionError(f"ray start failed {ATTEMPTS} times")

    def _inside(self) -> list[str]:
        """What a command is run by on the second node.

        Its Ray has a folder of its own there, as on another machine: an agent that unpacks a job's
        files would otherwise take them away from under the other node's processes.
        """
        if self.link is None:
            return []
        own = Path(self._scratch).with_name(f"{Path(self._scratch).name}-node")
        own.mkdir(exist_ok=True)
        mounted = f'mount --bind {own} {self._scratch} && exec "$@"'
        namespaces = ["ip", "netns", "exec", self.link.namespace, "unshare", "--mount"]
        return [*namespaces, "bash", "-c", mounted, "bash"]

    def _start(self, *args: str, prefix: list[str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *prefix, RAY, "start", "--block", "--num-cpus=1", "--disable-usage-stats",
                f"--object-store-memory={STORE_BYTES}", *args,
            ],
            env=self._environment, stdout=self._log, stderr=self._log, cwd=self._scratch,
        )  # fmt: skip

    def _nodes(self) -> int:
        code = (
            "import sys; from ray.util.state import list_nodes\n"
            "print(sum(node.state == 'ALIVE' for node in list_nodes(sys.argv[1])))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, self.address],
            env=self._environment, capture_output=True, text=True,
        )  # fmt: skip
        return int(done.stdout.strip() or 0)

    def processes(self) -> list[list[str]]:
        """Command lines of all that each node runs."""
        return [
            [" ".join(p.cmdline()) for p in driving.family(process.pid)]
            for process in self._processes
        ]

    def log(self) -> str:
        """What the nodes said."""
        return Path(self._scratch, "log").read_text()

    def close(self) -> None:
        """Kill everything, and remove what was made."""
        for process in reversed(self._processes):
            if process.poll() is None:
                driving.kill_all(process.pid)
            process.wait()
        time.sleep(0.5)
        self._log.close()
        for folder in (self._scratch, f"{self._scratch}-node"):
            shutil.rmtree(folder, ignore_errors=True)
        if self.link:
            self.link.close()


def free_port(host: str) -> int:
    """A port that nothing listens on."""
    with closing(socket.socket()) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def listens(host: str, port: int) -> bool:
    """Whether something does."""
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
