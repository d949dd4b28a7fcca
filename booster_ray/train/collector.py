"""What a runner drives, whatever the algorithm: worlds, a learner, and its replay buffer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from booster_ray.evaluate.episodes import reward_metrics
from booster_ray.store.checkpoint import Tree

EPISODES_AVERAGED = 50
"""Ended episodes over which training metrics are averaged."""

EPISODE_MEANS = {"pretrain": ("return", "seconds"), "finetune": ("return", "seconds", "score")}
"""What of the records of ended episodes is a metric, by stage that plays some."""


class Collector(Protocol):
    """Collects experience and learns from it.

    :class:`booster_ray.train.host_collector.HostCollector` steps worlds on the host's cores;
    :class:`booster_ray.train.device_collector.DeviceCollector` does all on the device.
    """

    stride: int
    """Env steps that one :meth:`advance` makes."""
    action_size: int

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions. Shape: (n, obs) → (n, act)."""

    def advance(self, env_steps: int) -> None:
        """Collect, and learn when there is enough to learn from.

        Args:
            env_steps: made before this.

        Raises:
            TrainingDiverged: the policy's action is not finite, or what the worlds give.
        """

    def metrics(self) -> dict[str, float]:
        """Of the newest updates, and :func:`episode_metrics` of the newest episodes.

        Besides, since the run's begin: ``episodes_lost``, those whose physics was lost, and on a
        device ``contacts_dropped``, those for which a physics step had no room.
        """

    def state(self) -> Tree:
        """Everything that changes, as it is now; later steps leave it alone."""

    def restore(self, tree: Tree, env_steps: int) -> None:
        """Go on where :meth:`state` was taken; raises ValueError when it does not fit."""

    def close(self) -> None:
        """Free threads and memory."""


def episodes_averaged(tasks: int) -> int:
    """Ended episodes over which metrics are averaged where worlds have so many tasks."""
    return max(EPISODES_AVERAGED, 5 * tasks)


def episode_metrics(
    records: Sequence[Mapping[str, float]], names: Iterable[str], tasks: Sequence[str] = ()
) -> dict[str, float]:
    """Metrics of ended episodes: means of their records.

    Args:
        records: the newest; see ``StepResult.episodes``. Of none there are no metrics.
        names: of the numbers in the records; reward terms come by themselves.
        tasks: of worlds that are not the game: then ``episode_return/TASK`` and, where records
            tell, ``episode_success`` and ``episode_success/TASK`` are among the metrics.
    """
    if not records:
        return {}
    means = {f"episode_{name}": float(np.mean([r[name] for r in records])) for name in names}
    return means | reward_metrics(records) | (_of_tasks(records, tasks) if tasks else {})


def _of_tasks(records: Sequence[Mapping[str, float]], tasks: Sequence[str]) -> dict[str, float]:
    told: dict[str, float] = {}
    for name in ("return", "success"):
        by_task = {
            task: [r[name] for r in records if r["task"] == i and name in r]
            for i, task in enumerate(tasks)
        }
        means = {task: float(np.mean(mine)) for task, mine in by_task.items() if mine}
        told |= {f"episode_{name}/{task}": mean for task, mean in means.items()}
        if name == "success" and means:  # every task counts alike, however many have ended
            told["episode_success"] = float(np.mean(list(means.values())))
    return told
