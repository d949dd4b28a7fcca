"""Our numbers on a real Ray cluster, and the dashboard that shows them."""

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from booster_ray.config import Config
from booster_ray.track.metrics import GAUGES, PREFIX, TAGS, RayMetrics, updates_per_second

DASHBOARD = Path(__file__).parents[2] / "cluster/grafana/booster_ray.json"
REPORT = {"env_steps": 640, "env_steps_per_second": 320.0, "critic_loss": 0.1, "score": 1.5}


def strings(node: Any) -> Iterator[str]:
    """Every text in JSON."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from strings(child)


def test_the_dashboard_asks_for_what_is_exported_and_shows_all_of_it() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    exported = {f"ray_{PREFIX}{name}" for name in GAUGES}
    queried = {
        name
        for text in strings([panel["targets"] for panel in dashboard["panels"]])
        for name in re.findall(r"\bray_\w+", text)
    }
    assert queried == exported
    asked = {n for text in strings(dashboard["templating"]) for n in re.findall(r"\bray_\w+", text)}
    assert asked <= exported
    labels = {
        label
        for text in strings(dashboard)
        for labels in re.findall(r"\{(\w+=~[^}]*)\}", text)
        for label in re.findall(r"(\w+)=~", labels)
    }
    assert labels == set(TAGS)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_updates_follow_from_the_steps() -> None:
    config = Config()
    rate = updates_per_second(config, REPORT)
    assert rate == 320 / config.world.num_envs * config.sac.updates_per_step
    assert updates_per_second(config, {"env_steps_per_second": 320.0}) is None
    assert updates_per_second(config, {"critic_loss": 0.1}) is None
    finetuned = Config.model_validate(
        {"stage": "finetune", "ddpg": {"updates_per_step": 7}, "world": {"num_envs": 10}}
    )
    assert updates_per_second(finetuned, REPORT) == 320 / 10 * 7


def test_outside_a_cluster_nothing_is_done() -> None:
    import ray

    assert not ray.is_initialized()
    RayMetrics(Config(), "run").update(REPORT, 0.0, 0)


def test_a_worker_s_numbers_are_on_its_node_s_export_endpoint(tmp_path: Path) -> None:
    # In a process of its own: what Ray has read of tokens in this one by now, holds.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    environment |= {"RAY_AUTH_MODE": "disabled", "HOME": str(tmp_path)}
    tests = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", "from track.test_metrics import export; export()"],
        cwd=tests, env={**environment, "PYTHONPATH": f"{tests}:{Path(tests).parent}"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def export() -> None:
    """A worker reports, and its node's endpoint shows it."""
    import ray

    @ray.remote
    class Trial:
        """As a trial does, in a process of its own."""

        def __init__(self) -> None:
            self.metrics = RayMetrics(Config(), "sweep", "0007")

        def report(self) -> None:
            self.metrics.update({**REPORT, "unknown": 1.0}, 0.25, 3)

    ray.init(
        "local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    try:
        trial = Trial.remote()
        (node,) = ray.nodes()
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        expected = {
            "env_steps": 640.0, "env_steps_per_second": 320.0, "checkpoint_seconds": 0.25,
            "learner_updates_per_second": 10.0, "preemptions": 3.0, "score": 1.5,
        }  # fmt: skip
        assert expected.keys() == GAUGES.keys()
        deadline, found = time.monotonic() + 120, {}
        while found != expected and time.monotonic() < deadline:
            ray.get(trial.report.remote())
            time.sleep(0.5)
            found = exported(url)
        assert found == expected
    finally:
        ray.shutdown()


def exported(url: str) -> dict[str, float]:
    """Our metrics of trial 0007, as Prometheus would read them."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        text = opener.open(url, timeout=10).read().decode()
    except OSError:  # the node's agent is still starting
        return {}
    found = {}
    for line in text.splitlines():
        match = re.fullmatch(rf"ray_{PREFIX}(\w+)\{{(.*)\}} (\S+)", line)
        if match and 'run="sweep"' in match[2] and 'trial="0007"' in match[2]:
            found[match[1]] = float(match[3])
    return found
