"""A Ray cluster that grows and shrinks by itself: Ray's own autoscaler, with machines of its own.

Ray's ``AutoscalingCluster`` is the same, but that it begins with ``ray stop --force``, which ends
every cluster of the machine, and wants a file that Ray's wheel has not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import driving
import ray
from two_nodes import ATTEMPTS, RAY, STORE_BYTES, free_port

IDLE_MINUTES = 0.05
"""After which a machine goes."""


class AutoscalingCluster:
    """A head without CPUs, and an autoscaler that starts up to ``most`` machines of ``cpus`` CPUs.

    Dies with :meth:`close`.
    """

    def __init__(self, cpus: int, most: int) -> None:
        self._scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets want short paths
        os.environ["RAY_AUTH_MODE"] = "disabled"  # what an imported Ray has read, holds
        self._log = Path(self._scratch, "log").open("w")  # noqa: SIM115
        for _ in range(ATTEMPTS):  # Ray gives up after 30 s
            self._start(cpus, most)
            driving.wait_for(lambda: self._process.poll() is not None or self._up(), 120)
            if self._process.poll() is None:
                return
        raise AssertionError(self.log())

    def _up(self) -> bool:
        return "Ray runtime started" in self.log()

    def _start(self, cpus: int, most: int) -> None:
        here = ray.util.get_node_ip_address()
        port = free_port(here)
        self.address = f"{here}:{port}"
        config = Path(self._scratch, "cluster.json")
        config.write_text(json.dumps(self._config(cpus, most)))
        self._process = subprocess.Popen(
            [
                RAY, "start", "--block", "--head", "--num-cpus=0", f"--port={port}",
                f"--node-ip-address={here}", "--include-dashboard=false",
                f"--temp-dir={self._scratch}", f"--object-store-memory={STORE_BYTES}",
                "--disable-usage-stats", f"--autoscaling-config={config}",
            ],
            env={
                **os.environ, "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdout=self._log, stderr=self._log, cwd=self._scratch,
        )  # fmt: skip

    def _config(self, cpus: int, most: int) -> dict[str, Any]:
        machine = {"CPU": cpus, "object_store_memory": STORE_BYTES}
        return {
            "cluster_name": "grows",
            "max_workers": most,
            "upscaling_speed": 1.0,
            "idle_timeout_minutes": IDLE_MINUTES,
            "provider": {
                "type": "fake_multinode",
                "use_node_id_as_ip": True,
                "gcs_address": self.address,
                "disable_node_updaters": True,
                "disable_launch_config_check": True,
            },
            "head_node_type": "ray.head.default",
            "available_node_types": {
                "ray.head.default": {"resources": {}, "node_config": {}, "max_workers": 0},
                "machine": {
                    "resources": machine, "node_config": {}, "min_workers": 0, "max_workers": most,
                },
            },
            "auth": {}, "docker": {}, "file_mounts": {}, "cluster_synced_files": [],
            "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [],
            "initialization_commands": [], "setup_commands": [], "head_setup_commands": [],
            "worker_setup_commands": [], "head_start_ray_commands": [],
            "worker_start_ray_commands": [],
        }  # fmt: skip

    def machines(self) -> int:
        """How many there are now, but for the head."""
        # Of one that has ended there is no command line.
        lines = [driving._command(p) for p in driving.family(self._process.pid)]
        return sum(line.split(" ")[0].endswith("raylet") for line in lines) - 1

    def log(self) -> str:
        """What the head said."""
        return Path(self._scratch, "log").read_text()

    def close(self) -> None:
        """Kill everything, and remove what was made."""
        if self._process.poll() is None:
            driving.kill_all(self._process.pid)
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
