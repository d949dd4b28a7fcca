"""Our numbers on Ray's own dashboard: Prometheus metrics, which every node of a cluster exports.

``cluster/grafana/booster_ray.json`` shows them; Ray puts ``ray_`` before their names.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from booster_ray.config import Config

PREFIX = "booster_ray_"

GAUGES = {
    "env_steps": "Control steps done, summed over worlds",
    "env_steps_per_second": "Control steps per second, summed over worlds",
    "learner_updates_per_second": "Gradient updates per second",
    "checkpoint_seconds": "Time that training has stood still for checkpoints in this attempt, s",
    "preemptions": "Attempts that ended because the machine was taken away",
    "score": "Mean official score of the newest evaluation",
}
"""Name, without the prefix, to what it says."""

TAGS = ("run", "trial")


class RayMetrics:
    """One trial's numbers; does nothing outside a Ray cluster.

    Args:
        config: a resolved config.
        run: name of the sweep, or of the single run.
        trial: its name in a sweep, ``0007`` or ``0007/seed_1``; empty for a single run.
    """

    def __init__(self, config: Config, run: str, trial: str = "") -> None:
        self._config, self._tags = config, {"run": run, "trial": trial}
        self._gauges = _gauges() if _in_ray() else {}

    def update(
        self, report: Mapping[str, Any], checkpoint_seconds: float, preemptions: int
    ) -> None:
        """Export a report's numbers.

        Args:
            report: of the training loop.
            checkpoint_seconds: that saving has held the loop up, in this attempt.
            preemptions: of all attempts at the trial.
        """
        if not self._gauges:
            return
        found = {name: report[name] for name in GAUGES if name in report}
        found |= {"checkpoint_seconds": checkpoint_seconds, "preemptions": preemptions}
        if (rate := updates_per_second(self._config, report)) is not None:
            found["learner_updates_per_second"] = rate
        for name, value in found.items():
            self._gauges[name].set(float(value), tags=self._tags)


def updates_per_second(config: Config, report: Mapping[str, Any]) -> float | None:
    """Gradient updates per second; None before the first, or where the rate is not known."""
    rate = report.get("env_steps_per_second")
    if rate is None or "critic_loss" not in report:
        return None
    learner = config.ddpg if config.stage == "finetune" else config.sac
    return float(rate) / config.world.num_envs * learner.updates_per_step


def _in_ray() -> bool:
    # Outside a cluster, importing Ray to say nothing would cost seconds.
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _gauges() -> dict[str, Any]:
    from ray.util.metrics import Gauge

    return {name: Gauge(PREFIX + name, text, tag_keys=TAGS) for name, text in GAUGES.items()}
