"""One finetuning run on several workers: the leader's calls are made by all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from booster_ray.config import Config
from booster_ray.rl.ddpg.team import Team
from booster_ray.train.finetune import DdpgEngine, make_engine
from booster_ray.train.report import Tree


class Leader:
    """An engine whose calls the other workers make with it.

    Implements :class:`booster_ray.train.collect.Engine`; runs on rank 0, while :func:`follow`
    runs on the others.
    """

    def __init__(self, engine: DdpgEngine) -> None:
        self._engine, self._team = engine, engine.team
        self.stride, self.action_size = engine.stride, engine.action_size

    def policy(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions. Shape: (n, obs) → (n, act)."""
        return self._engine.policy(observation)

    def advance(self, env_steps: int) -> None:
        """See :class:`DdpgEngine`."""
        self._team.share(("advance", env_steps))
        self._engine.advance(env_steps)

    def numbers(self) -> dict[str, float]:
        """The leader's own."""
        return self._engine.numbers()

    def state(self) -> Tree:
        """The whole team's."""
        self._team.share(("state",))
        return self._engine.state()

    def restore(self, tree: Tree, env_steps: int) -> None:
        """See :class:`DdpgEngine`."""
        self._team.share(("restore", tree, env_steps))
        self._engine.restore(tree, env_steps)

    def close(self) -> None:
        """Let the others go, and stop."""
        self._team.share(("close",))
        self._engine.close()


def follow(config: Config, team: Team, report: Callable[[], object]) -> None:
    """Do as the leader does, until it closes.

    Args:
        config: the leader's.
        team: this worker is not its leader.
        report: called when the leader makes a report that it had announced.
    """
    engine = make_engine(config, None, team)
    while True:
        command, *arguments = team.share(None)
        if command == "report":
            report()
            continue
        getattr(engine, command)(*arguments)
        if command == "close":
            return


def announce(team: Team, report: Callable[[dict[str, Any]], object]) -> Callable[..., object]:
    """A leader's report that the followers make at the same time, as Ray Train wants it."""

    def reported(metrics: dict[str, Any]) -> object:
        team.share(("report",))
        return report(metrics)

    return reported
