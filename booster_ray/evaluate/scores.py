"""Scores of a policy: the official ones in native worlds, returns in worlds of another kind."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.contract import StepResult, World
from booster_ray.envs.make import make_world
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.options import gains, reward_options, soccer_options
from booster_ray.evaluate.episodes import reward_metrics
from booster_ray.runtime.watchdog import progress
from booster_ray.soccer import game

IDLE_CHANGE = 1e-3
"""Mean change of an action per step below which a policy counts as idle: 0.5 mrad of a joint's
target at the default scale, less than the robot's own sway makes of any policy that looks."""

AT_LIMIT = 0.99
"""|action| from which it counts as at its limit."""

SATURATED_SHARE = 0.9
"""Share of actions at their limit from which a policy counts as saturated."""


class Behaviour(NamedTuple):
    """Sums over the steps of greedy episodes; a policy that explores changes by its noise."""

    previous: np.ndarray | None = None
    """(n, act): the last actions."""
    change: float = 0.0
    """Sum of |action - the one before|."""
    changes: int = 0
    at_limit: int = 0
    actions: int = 0

    def after(self, action: np.ndarray, alive: np.ndarray) -> Behaviour:
        """With one more step. Shapes: (n, act), bool (n,): whose episodes still last."""
        mine = action[alive]
        change, changes = 0.0, 0
        if self.previous is not None:
            change = float(np.abs(mine - self.previous[alive]).sum())
            changes = mine.size
        return Behaviour(
            action,
            self.change + change,
            self.changes + changes,
            self.at_limit + int((np.abs(mine) > AT_LIMIT).sum()),
            self.actions + mine.size,
        )

    def metrics(self) -> dict[str, float]:
        """``action_change``, ``action_saturation``, and the verdicts ``idle``, ``saturated``."""
        if not self.changes:
            return {}
        change, share = self.change / self.changes, self.at_limit / self.actions
        return {
            "action_change": change,
            "action_saturation": share,
            "idle": float(change < IDLE_CHANGE),
            "saturated": float(share > SATURATED_SHARE),
        }


_log = logging.getLogger(__name__)

Policy = Callable[[np.ndarray], np.ndarray]
"""Observations (n, obs) float32 to actions (n, act) in [-1, 1]."""

TaskScores = dict[str, dict[str, float]]
"""Task to its mean score, survival (s), fall_rate, success and touched."""

RETURNS_SEED = 2**31
"""Seed of evaluation episodes outside the game, beyond those that a run is likely to train on."""


class Interrupted(Exception):
    """An evaluation was cut short on request; it has no result."""


class Evaluator:
    """Plays whole official episodes, ``episodes`` a task on fixed seeds, at a randomization level.

    The tasks are all three of the game, whatever a config trains on. The config's reward terms are
    summed beside the official score, and have no part in it.
    """

    def __init__(self, config: Config, episodes: int, threads: int, level: int = 0) -> None:
        self._seeds = [i // len(game.TASKS) for i in range(episodes * len(game.TASKS))]
        self._world = NativeWorld(
            game.TASKS,
            len(self._seeds),
            gains(config),
            threads=threads,
            auto_reset=False,
            level=level,
            **reward_options(config),
            **soccer_options(config),
        )

    def __call__(self, policy: Policy) -> TaskScores:
        """Mean outcome per task over seeds 0, 1, …; a task without a record is left out."""
        return _scores(self._play(policy)[0])

    def metrics(self, policy: Policy, interrupt: threading.Event | None = None) -> dict[str, float]:
        """:func:`flat_metrics` of the scores, how the policy moved, ``evaluation_seconds``.

        Besides, ``evaluation/reward/TERM`` and ``evaluation/reward/TERM/TASK``: what
        :func:`~booster_ray.evaluate.episodes.reward_metrics` makes of the episodes, and
        ``evaluation/lost``, how many lost their physics: they count as the worst in all means.

        Raises:
            Interrupted: ``interrupt`` was set before the last episode had ended.
        """
        began = time.monotonic()
        episodes, behaviour = self._play(policy, interrupt)
        rewards = {f"evaluation/{name}": v for name, v in reward_metrics(episodes).items()}
        told = rewards | behaviour.metrics() | lost_metric(episodes) | _took(began)
        return flat_metrics(_scores(episodes)) | told

    def _play(
        self, policy: Policy, interrupt: threading.Event | None = None
    ) -> tuple[list[dict[str, float]], Behaviour]:
        first = self._world.reset(0, env_seeds=self._seeds)
        return _play(self._world, policy, first, interrupt)

    def close(self) -> None:
        """Stop the physics threads."""
        self._world.close()


class ReturnEvaluator:
    """Plays ``episodes`` greedy episodes a task in a fresh copy of a config's own worlds.

    ``score`` is the mean of what their records say, which is the return or, of tasks that can be
    solved, the success; ``survival`` is their mean length in s. Worlds of several tasks have them
    for each, and the score is the mean over tasks. Episodes that have not ended after
    ``evaluation.max_steps`` are cut there and count as they are; ``cut`` is the share of these. No
    return is the worst of all worlds: an episode whose physics was lost counts as the worst of
    those that were played with it.
    """

    def __init__(self, config: Config, episodes: int, threads: int) -> None:
        self._kind, self._tasks = config.world.kind, config.world.task_names
        self._max_steps, self._warned = config.evaluation.max_steps, False
        count = episodes * max(1, len(self._tasks))
        self._world = make_world(config, threads, count, self._max_steps)

    def __call__(self, policy: Policy) -> TaskScores:
        """The means of each task; where there is but one, under the name of the worlds' kind."""
        return self._scores(self._play(policy)[0])

    def metrics(self, policy: Policy, interrupt: threading.Event | None = None) -> dict[str, float]:
        """The means, how the policy moved, and ``evaluation_seconds``.

        Of several tasks ``score`` and ``success``, the means over them, and ``score/TASK``,
        ``success/TASK``, ``return/TASK``, ``survival/TASK``.

        Raises:
            Interrupted: ``interrupt`` was set before the last episode had ended.
        """
        began = time.monotonic()
        episodes, behaviour = self._play(policy, interrupt)
        scores = self._scores(episodes)
        told = dict(scores[self._kind]) if not self._tasks else _over_tasks(scores)
        return told | lost_metric(episodes) | behaviour.metrics() | _took(began)

    def _play(
        self, policy: Policy, interrupt: threading.Event | None = None
    ) -> tuple[list[dict[str, float]], Behaviour]:
        first = self._world.reset(RETURNS_SEED)
        episodes, behaviour = _play(self._world, policy, first, interrupt)
        worst = min((e["score"] for e in episodes), default=0.0)
        episodes = [e | {"score": worst} if e.get("lost") else e for e in episodes]
        if any(e.get("cut") for e in episodes) and not self._warned:
            self._warned = True
            _log.warning(
                "%s: evaluation episodes are cut after %d steps (evaluation.max_steps) and count "
                "as they are then",
                self._kind,
                self._max_steps,
            )
        return episodes, behaviour

    def _scores(self, episodes: Sequence[dict[str, float]]) -> TaskScores:
        def means(task: int) -> dict[str, float]:
            mine = [e["return"] for e in episodes if e["task"] == task]
            return task_means(episodes, task) | {"return": float(np.mean(mine))}

        if not self._tasks:
            return {self._kind: task_means(episodes, task=0)}
        return {task: means(i) for i, task in enumerate(self._tasks)}

    def close(self) -> None:
        """Free the worlds."""
        self._world.close()


def make_evaluator(config: Config, threads: int) -> Evaluator | ReturnEvaluator:
    """What scores the policies of a config."""
    kind = Evaluator if config.world.is_soccer else ReturnEvaluator
    return kind(config, config.evaluation.episodes_per_task, threads)


def _took(began: float) -> dict[str, float]:
    return {"evaluation_seconds": round(time.monotonic() - began, 3)}


def _play(
    world: World,
    policy: Policy,
    observation: np.ndarray,
    interrupt: threading.Event | None = None,
) -> tuple[list[dict[str, float]], Behaviour]:
    """The record of each world's first episode, and how the policy moved in them."""
    episodes: list[dict[str, float]] = []
    behaviour = Behaviour()
    over = np.zeros(world.num_envs, bool)
    while not over.all():
        if interrupt is not None and interrupt.is_set():
            raise Interrupted
        action = policy(observation)
        behaviour = behaviour.after(action, ~over)
        result: StepResult = world.step(action)
        observation = result.observation
        episodes += [e for e in result.episodes if not over[int(e["env"])]]
        over = over | result.terminated | result.truncated
        progress()
    return episodes, behaviour


def _scores(episodes: Sequence[dict[str, float]]) -> TaskScores:
    played = {task: task_means(episodes, i) for i, task in enumerate(game.TASKS)}
    return {task: scores for task, scores in played.items() if scores}


def task_means(episodes: Sequence[dict[str, float]], task: int) -> dict[str, float]:
    """Means over the episodes of one task, of what their records hold; none of no episode."""
    mine = [e for e in episodes if e["task"] == task]
    names = {"score": "score", "survival": "seconds", "fall_rate": "fallen"}
    names |= {"success": "success", "touched": "touched", "cut": "cut"}
    told = mine[0] if mine else {}
    return {n: float(np.mean([e[key] for e in mine])) for n, key in names.items() if key in told}


def lost_metric(episodes: Sequence[dict[str, float]]) -> dict[str, float]:
    """``evaluation/lost``: the episodes whose physics was lost, where records tell."""
    told = [e["lost"] for e in episodes if "lost" in e]
    return {"evaluation/lost": float(sum(told))} if told else {}


def _over_tasks(scores: TaskScores) -> dict[str, float]:
    """``NAME/TASK`` of each task's means, and of ``score`` and ``success`` the mean over tasks."""
    told = {f"{name}/{task}": v for task, means in scores.items() for name, v in means.items()}
    for name in ("score", "success"):
        if all(name in means for means in scores.values()):
            told[name] = float(np.mean([means[name] for means in scores.values()]))
    return told


def flat_metrics(scores: TaskScores) -> dict[str, float]:
    """``score`` (mean over tasks, the competition's) and ``score/task``, ``survival/task``, …

    A task of which no episode left a record has no numbers, and then there is no ``score``.
    """
    metrics = {f"{name}/{task}": v for task, s in scores.items() for name, v in s.items()}
    if len(scores) == len(game.TASKS):
        metrics["score"] = float(np.mean([s["score"] for s in scores.values()]))
    return metrics
