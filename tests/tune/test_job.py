"""The same command through Ray Jobs, on a real head node."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import driving
import pytest

RAY = str(Path(sys.executable).with_name("ray"))


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def dashboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a head node's job server; all of it dies with the test."""
    gcs, web = free_port(), free_port()
    log = (tmp_path / "head.log").open("w")
    # As in an activated virtual environment: a job's `python` is the head's.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    head = subprocess.Popen(
        [
            RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={gcs}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={web}", "--num-cpus=2",
            "--disable-usage-stats", f"--temp-dir=/tmp/ray-job-{os.getpid()}",
        ],
        stdout=log, stderr=subprocess.STDOUT, cwd=driving.ROOT,
    )  # fmt: skip
    address = f"http://127.0.0.1:{web}"
    try:
        driving.wait_for(lambda: _listens(web))
        yield address
    finally:
        driving.kill_all(head.pid)
        head.wait()


def _listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_ray_job_submit_of_the_debug_sweep_succeeds(dashboard: str, tmp_path: Path) -> None:
    submitted = subprocess.run(
        [
            RAY, "job", "submit", "--address", dashboard, "--working-dir", ".", "--",
            "python", "-m", "booster_ray.tune", "tune_configs/debug.yaml", f"storage={tmp_path}",
        ],
        cwd=driving.ROOT, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    output = submitted.stdout + submitted.stderr
    assert submitted.returncode == 0, output
    assert "succeeded" in output and "Leaderboard" in output
    assert (tmp_path / "debug" / "report.html").exists()
