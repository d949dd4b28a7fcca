"""Many trials of a trivial objective through the whole stack, on a simulated cluster."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}

import psutil
import ray
from ray import tune
from ray.tune.trainable import wrap_function
from rich.console import Console

from booster_ray.config import load
from booster_ray.store.address import Address
from booster_ray.tune.sweep import SweepRunner

NODES = 16
REPORTS = 10
STEPS = 10
SAMPLE_SECONDS = 1.0
# Workers do not find this module on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
PRESETS = Path(__file__).parents[2] / "tune_configs"


def trivial(config: dict[str, Any]) -> None:
    """A trial's records and reports, without its training."""
    directory = Address(config["storage"], config["name"], config["number"]).directory
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "progress.jsonl").open("w") as stream:
        for step in range(1, REPORTS + 1):
            height = config["params"]["rewards.height"]
            metrics = {"env_steps": step * STEPS, "score": -((height - 1) ** 2) * step}
            stream.write(json.dumps(metrics) + "\n")
            stream.flush()
            tune.report({**metrics, "finished": step == REPORTS})


class TrivialProcess(wrap_function(trivial)):
    """What runs it."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """As a trial's own."""
        return tune.PlacementGroupFactory([config["claims"]])


class Trivial(SweepRunner):
    """A sweep of it."""

    trainable = TrivialProcess


class Memory(threading.Thread):
    """Resident size of this process, MB, beside the number of trials that have ended."""

    def __init__(self, study: Any) -> None:
        super().__init__(daemon=True)
        self._study, self.ended = study, threading.Event()
        self.samples: list[tuple[int, float]] = []

    def run(self) -> None:
        """Sample until told to end."""
        process = psutil.Process()
        while not self.ended.wait(SAMPLE_SECONDS):
            trials = self._study.trials()
            done = sum(trial.state.is_finished() for trial in trials)
            self.samples.append((done, process.memory_info().rss / 1e6))

    def growth(self) -> float:
        """MB a hundred trials, by least squares over the second half of the sweep."""
        import numpy as np

        half = [s for s in self.samples if s[0] >= self.samples[-1][0] / 2]
        done, size = np.array(half, dtype=float).T
        return float(100 * np.polyfit(done, size, 1)[0]) if len(set(done)) > 1 else float("nan")


def many_trials(storage: Path, trials: int) -> dict[str, float]:
    """Run them; driver time a result in ms (processor and wall), memory growth, seconds in all."""
    from ray.cluster_utils import Cluster

    cluster: Any = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    for _ in range(NODES):
        cluster.add_node(num_cpus=1)
    os.environ["RAY_ADDRESS"] = cluster.address
    overrides = [
        f"tune.trials={trials}", "tune.scheduler=none", "tune.sampler=random", "name=many",
        f"training.env_steps={REPORTS * STEPS}", "randomization.level=0", "sac.critic_lr=3e-4",
        f"storage={storage}",
    ]  # fmt: skip
    sweep = load(PRESETS / "debug.yaml", overrides)
    root = storage / "many"
    root.mkdir(parents=True)
    (root / "sweep.yaml").write_text(sweep.complete().to_yaml())
    runner = Trivial(sweep, root, Console(file=io.StringIO()))
    memory = Memory(runner.study)
    memory.start()
    wall, spent = time.perf_counter(), time.process_time()
    try:
        complete = runner.run()
        wall, spent = time.perf_counter() - wall, time.process_time() - spent
    finally:
        memory.ended.set()
        memory.join()
        ray.shutdown()
        cluster.shutdown()
    if not complete:
        raise RuntimeError("the sweep did not complete")
    results = trials * REPORTS
    return {
        "driver_ms_per_result": 1e3 * spent / results,
        "wall_ms_per_result": 1e3 * wall / results,
        "memory_mb_per_100_trials": memory.growth(),
        "seconds": wall,
    }
