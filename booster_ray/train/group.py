"""One run on a group of workers: the leader's calls are made by all."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from booster_ray.rl.ddpg.team import Team
from booster_ray.runtime.watchdog import allowing, progress
from booster_ray.store.checkpoint import Tree
from booster_ray.train.host_collector import HostCollector
from booster_ray.train.notices import POLL_SECONDS, Notice, Notify

_log = logging.getLogger(__name__)


class GroupCollector:
    """A collector of every worker; a runner drives the leader's, :func:`follow` the others.

    Implements :class:`booster_ray.train.collector.Collector`. Each worker has its share of the
    worlds, of the replay and of every batch; the learner is the same everywhere.

    Args:
        collector: this worker's.
        team: the workers.
    """

    def __init__(self, collector: HostCollector, team: Team) -> None:
        self.own, self.team = collector, team
        self.stride, self.action_size = collector.stride * team.size, collector.action_size

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions. Shape: (n, obs) → (n, act)."""
        return self.own.act(observation)

    def metrics(self) -> dict[str, float]:
        """This worker's."""
        return self.own.metrics()

    def advance(self, env_steps: int) -> None:
        """See :class:`HostCollector`."""
        self._all("advance", env_steps)

    def state(self) -> Tree:
        """Everything that changes; replays and worlds lie below ``team``, by rank."""
        return self._all("state")

    def restore(self, tree: Tree, env_steps: int) -> None:
        """Go on where :meth:`state` was taken.

        With another number of workers the learner goes on, and replays and worlds begin anew.
        """
        self._all("restore", tree, env_steps)

    def close(self) -> None:
        """Let the others go, and stop."""
        self._all("close")

    def _all(self, call: str, *arguments: Any) -> Any:
        """Make a call on every worker."""
        self.team.share((call, *arguments))
        return self.answer(call, *arguments)

    def answer(self, call: str, *arguments: Any) -> Any:
        """Make this worker's part of a call that all make."""
        parts: dict[str, Callable[..., Any]] = {
            "advance": self.own.advance,
            "state": self._state,
            "restore": self._restore,
            "close": self.own.close,
        }
        return parts[call](*arguments)

    def _state(self) -> Tree:
        every = self.team.gather(self.own.own_state()) or []
        return {
            **self.own.learner.state(),
            "team": {str(rank): part for rank, part in enumerate(every)},
        }

    def _restore(self, tree: Tree, env_steps: int) -> None:
        self.own.learner.restore(tree)
        before = len(tree["team"])
        if before == self.team.size:
            self.own.restore_own(tree["team"][str(self.team.rank)], env_steps)
            return
        _log.warning(
            "the checkpoint at %d env steps is of %d workers, here are %d: "
            "replay and worlds begin anew",
            env_steps,
            before,
            self.team.size,
        )
        self.own.begin_anew(env_steps)


def follow(collector: GroupCollector, report: Callable[[], object]) -> None:
    """Do as the leader does, until it closes.

    Args:
        collector: of a worker that does not lead.
        report: called when the leader makes a report that it had announced.
    """
    while True:
        with allowing(math.inf):  # the leader evaluates and saves alone, as long as that takes
            call, *arguments = collector.team.share(None)
        if call == "report":
            report()
            continue
        collector.answer(call, *arguments)
        progress()
        if call == "close":
            return


def announce(team: Team, report: Callable[[dict[str, Any]], object]) -> Callable[..., object]:
    """A leader's report that the followers make at the same time, as Ray Train wants it."""

    def reported(metrics: dict[str, Any]) -> object:
        team.share(("report",))
        return report(metrics)

    return reported


class TeamNotice:
    """A source of notices: those that other workers of the team have got."""

    def __init__(self, team: Team) -> None:
        self._team = team

    def __call__(self, notify: Notify, ended: threading.Event) -> None:
        """Look for one until there is."""
        while not ended.wait(POLL_SECONDS):
            try:
                found = self._team.noticed()
            except RuntimeError as error:  # torch's, of a connection that is gone
                _log.debug("cannot ask the team: %r", error)
                continue
            if found:
                notify(Notice("another worker of the team makes way"))
                return
