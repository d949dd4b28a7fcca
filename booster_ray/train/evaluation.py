"""Official scores of a policy, in native worlds that equal the official environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from booster_ray.config import Config
from booster_ray.soccer import game
from booster_ray.soccer.control import Gains, leg_gains
from booster_ray.worlds.native import NativeWorld

Policy = Callable[[np.ndarray], np.ndarray]
"""Observations (n, 89) float32 to actions (n, 12) in [-1, 1]."""

TaskScores = dict[str, dict[str, float]]
"""Task to its mean score, survival (s), fall_rate, success and touched."""


def gains(config: Config) -> Gains:
    """The PD gains of a config, both legs alike. Shapes: (12,)."""
    control = config.control
    return leg_gains(control.default_pose, control.action_scale, control.kp, control.kd)


class Evaluator:
    """Plays whole official episodes, ``episodes`` a task on fixed seeds, without randomization.

    The tasks are all three of the game, whatever a config trains on.
    """

    def __init__(self, config: Config, episodes: int, threads: int) -> None:
        self._seeds = [i // len(game.TASKS) for i in range(episodes * len(game.TASKS))]
        self._world = NativeWorld(
            game.TASKS,
            len(self._seeds),
            gains(config),
            mode=config.control.mode,
            decimation=config.control.decimation,
            threads=threads,
            auto_reset=False,
        )

    def __call__(self, policy: Policy) -> TaskScores:
        """Mean outcome per task over seeds 0, 1, …"""
        observation = self._world.reset(0, env_seeds=self._seeds)
        episodes: list[dict[str, float]] = []
        over = np.zeros(self._world.num_envs, bool)
        # Not the number of records: an episode whose physics is lost leaves none.
        while not over.all():
            result = self._world.step(policy(observation))
            observation = result.observation
            over = over | result.terminated | result.truncated
            episodes += result.episodes
        return {task: summarize(episodes, i) for i, task in enumerate(game.TASKS)}

    def close(self) -> None:
        """Stop the physics threads."""
        self._world.close()


def summarize(episodes: Sequence[dict[str, float]], task: int) -> dict[str, float]:
    """Means over the episodes of one task, of what their records hold."""
    mine = [e for e in episodes if e["task"] == task]
    names = {"score": "score", "survival": "seconds", "fall_rate": "fallen"}
    names |= {"success": "success", "touched": "touched"}
    return {n: float(np.mean([e[key] for e in mine])) for n, key in names.items() if key in mine[0]}


def flat_metrics(scores: TaskScores) -> dict[str, float]:
    """``score`` (mean over tasks, the competition's) and ``score/task``, ``survival/task``, …"""
    metrics = {f"{name}/{task}": v for task, s in scores.items() for name, v in s.items()}
    metrics["score"] = float(np.mean([s["score"] for s in scores.values()]))
    return metrics
