"""A cluster that is not there is one line, in seconds, and takes no name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import driving
import pytest

from booster_ray.config import ConfigError
from booster_ray.train import ray_cluster
from booster_ray.train.ray_cluster import check_cluster, given_back, temporary_folder


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


@pytest.fixture
def web() -> Iterator[int]:
    """A port at which a web server answers."""
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes up connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def refused(address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("RAY_ADDRESS", address)
    began = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        check_cluster()
    assert time.monotonic() - began < 10
    assert "\n" not in str(caught.value) and str(caught.value).startswith(
        "environment: RAY_ADDRESS"
    )
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("127.0.0.1:1", "is 127.0.0.1:1, where nothing answers (Connection refused)"),
        ("ray://127.0.0.1:1", "where nothing answers"),
        ("no.such.host.invalid:6379", "where nothing answers"),
        ("127.0.0.1", "is '127.0.0.1', which is no HOST:PORT"),
        ("127.0.0.1:99999", "no HOST:PORT"),
        ("head:ray", "no HOST:PORT"),
        ("anyscale://x", "no HOST:PORT"),
        ("http://127.0.0.1:8265", "where jobs are submitted"),
    ],
)
def test_an_address_without_a_cluster_is_refused(
    address: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(address, monkeypatch)
    assert text in said and "expected HOST:PORT of a running head (6379), auto" in said


def test_another_server_is_not_taken_for_a_head(
    web: int, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = refused(f"127.0.0.1:{web}", monkeypatch)
    assert "something else than Ray's head answers" in said
    monkeypatch.setattr(ray_cluster, "CONNECT_SECONDS", 0.5)
    assert "nothing answers (timed out)" in refused(f"127.0.0.1:{silent}", monkeypatch)


@pytest.mark.parametrize("address", ["", "local"])
def test_without_an_address_only_the_folder_is_looked_at(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("TMPDIR", "/tmp")
    check_cluster()
    assert temporary_folder() is None
    long = tmp_path / ("x" * 60)
    monkeypatch.setenv("TMPDIR", str(long))
    assert temporary_folder() == Path("/tmp/ray") and not long.exists()
    monkeypatch.setenv("TMPDIR", "/proc/none")
    assert temporary_folder() == Path("/tmp/ray")
    monkeypatch.setattr(ray_cluster, "FALLBACK", Path("/proc"))
    with pytest.raises(ConfigError, match=r"^environment: TMPDIR: is /proc/none, which cannot be"):
        check_cluster()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    with pytest.raises(
        ConfigError, match=r"^environment: RAY_TMPDIR: is .* bytes too long for Ray"
    ):
        check_cluster()


def test_a_name_is_given_back_when_what_follows_fails(tmp_path: Path) -> None:
    root = tmp_path / "s"
    (root / "below").mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt), given_back(root):
        raise KeyboardInterrupt
    assert not root.exists()
    root.mkdir()
    with given_back(root):
        pass
    assert root.is_dir()


@pytest.mark.parametrize("module", ["tune", "train"])
def test_commands_refuse_a_dead_cluster_and_begin_nothing(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, began = tmp_path / "runs", time.monotonic()
    one = ["randomization.level=0", "rewards.height=1.0", "sac.critic_lr=3e-4", "trainer.workers=1"]
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    done = driving.inside(
        "debug", f"storage={storage}", *(one if module == "train" else []), module=module
    )
    took = time.monotonic() - began
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: environment: RAY_ADDRESS: is 127.0.0.1:1, where nothing")
    assert not storage.exists()
    assert took < 60


HEAD = """
import os, sys
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": sys.argv[1]}
from ray.cluster_utils import Cluster
cluster = Cluster(
    initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
)
print("ADDRESS", cluster.address, flush=True)
sys.stdin.readline()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_head_lets_in_who_has_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    token = "0123456789abcdef" * 4
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    head = subprocess.Popen(
        [sys.executable, "-c", HEAD, token], env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    driving._started.append(head)
    assert head.stdout is not None
    address = next(line for line in head.stdout if line.startswith("ADDRESS")).split()[1]
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for given, said in ((token, ""), (token[::-1], "refuses this process, expected another token")):
        ray_cluster._refusal.cache_clear()
        monkeypatch.setenv("RAY_AUTH_TOKEN", given)
        if not said:
            check_cluster()
            continue
        with pytest.raises(ConfigError, match=said) as caught:
            check_cluster()
        assert given not in str(caught.value)
    head.communicate("\n", timeout=60)
