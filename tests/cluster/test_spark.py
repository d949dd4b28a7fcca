"""The entry that starts Ray on a Spark cluster: a real one, of one machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import driving
import psutil
import pytest

from booster_ray.config import ConfigError
from booster_ray.deploy import spark
from booster_ray.store.checkpoint.store import MANIFEST

MASTER = "local-cluster[1,1,2048]"
STEPS = 3000


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    driving.clean_up()


def test_on_databricks_the_cluster_must_bring_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE", "PYSPARK_PYTHON"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(
        ConfigError, match=r"^RAY_AUTH_TOKEN: is not set, expected it in the cluster"
    ):
        spark.main(["pretrain", "debug"])


def test_elsewhere_a_cluster_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyspark")
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(ConfigError, match="--master: is missing"):
        spark.main(["pretrain", "debug"])


def test_a_stage_hears_signals_and_its_code_is_passed_on() -> None:
    code = (
        "import os, signal, sys, threading; from booster_ray.deploy.spark import _run;"
        "threading.Timer(3, lambda: os.kill(os.getpid(), signal.SIGTERM)).start();"
        "sys.exit(_run([sys.executable, '-c', sys.argv[1]]))"
    )
    child = (
        "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(77)); signal.pause()"
    )
    done = subprocess.run([sys.executable, "-c", code, child], timeout=120)
    assert done.returncode == 77


def ours(marker: str) -> list[psutil.Process]:
    """Processes of Ray or Spark that this test started: they have the marker around them."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("BOOSTER_RAY_TEST") == marker:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_a_stage_on_spark_is_killed_and_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="pyspark is not installed: the extra databricks")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java 17: apt-get install openjdk-17-jre-headless")
    marker = str(tmp_path)
    arguments = [
        "--master", MASTER, "--workers", "1", "--cpus", "1", "--memory", "2",
        "pretrain", "debug", f"storage={tmp_path}", f"pretrain.training.env_steps={STEPS}",
        f"pretrain.evaluation.every={STEPS}", "pretrain.tune.scheduler=none",
    ]  # fmt: skip
    environment = {"BOOSTER_RAY_TEST": marker, "RAY_AUTH_MODE": "token"}
    trials = tmp_path / "debug-pretrain" / "trials"

    started = driving.start(*arguments, module="spark", **environment)

    def begun() -> bool:
        assert started.poll() is None, started.communicate()[0]
        return bool(list(trials.glob(f"*/step_*/{MANIFEST}")))

    driving.wait_for(begun, timeout=3000)
    driving.kill_all(started.pid)
    output = started.communicate()[0]
    assert "Ray on Spark is up" in output and "shut down" not in output
    # What does not descend from it ends by itself, without its head.
    driving.wait_for(lambda: not ours(marker), timeout=600)

    again = driving.start(*arguments, module="spark", **environment)
    code, output = driving.finish(again, timeout=3000)
    assert code == 0, output
    assert "pretrain: finished, version 1" in output
    assert output.rstrip().endswith("Ray on Spark is shut down")
    for number in (0, 1):
        reports = driving.progress(tmp_path / "debug-pretrain", number)
        steps = [report["env_steps"] for report in reports]
        assert steps == sorted(set(steps)) and steps[-1] >= STEPS
    driving.wait_for(lambda: not ours(marker), timeout=600)
    assert "RAY_AUTH_TOKEN" not in output and os.environ.get("RAY_ADDRESS") is None
