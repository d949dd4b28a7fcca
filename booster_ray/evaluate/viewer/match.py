"""One policy or two, each in a world of its own, of the same task and spawn.

Everything that a viewer does to a game is a method here; nothing here knows how it is drawn. A
match belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.official_view import official_view
from booster_ray.envs.options import gains, reward_options, soccer_options
from booster_ray.evaluate.play import weighted
from booster_ray.evaluate.viewer.policies import Policy
from booster_ray.policy.player import checked
from booster_ray.soccer import game
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.geometry import rotate, yaw
from booster_ray.soccer.scoring import WEIGHTS, raw_terms

STEP = 10 * game.TIMESTEP
"""Seconds that :meth:`Match.advance` plays."""

EPISODE = game.EPISODE_STEPS * game.TIMESTEP


class Outcome(NamedTuple):
    """How an episode ended."""

    score: float
    """Official."""
    seconds: float
    how: str
    """``scored``, ``fell``, ``time is up``, ``ended`` or ``lost``."""


class Side:
    """A policy in its world.

    Args:
        policy: what plays.
        task: of ``game.TASKS``.
    """

    def __init__(self, policy: Policy, task: str) -> None:
        self.policy, self.task = policy, task
        config = policy.config
        if policy.act is not None:
            self.world = NativeWorld(
                [task], 1, gains(config), auto_reset=False,
                **soccer_options(config), **reward_options(config),
            )  # fmt: skip
            self.step_seconds = config.control.decimation * game.TIMESTEP
        else:
            self.world = NativeWorld(
                [task], 1, gains(Config()), "newton_metres", decimation=1, auto_reset=False
            )
            self.step_seconds = game.TIMESTEP
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin the official episode of this seed."""
        self._observation = self.world.reset(0, env_seeds=[seed])
        make_player = self.policy.make_player
        self._player = make_player() if make_player is not None else None
        self._steps = 0
        self.outcome: Outcome | None = None
        self.rewards: dict[str, float] = {}
        """Reward terms: what each paid in the last control step."""
        self.frame: Frame = self.world.frame()

    @property
    def seconds(self) -> float:
        """Since the reset."""
        return self.outcome.seconds if self.outcome else self._steps * self.step_seconds

    @property
    def reward_sums(self) -> dict[str, float]:
        """Reward terms: what each has paid since the reset; empty where weights are unknown."""
        known = self.world.term_sums() if self.policy.weighted else {}
        return {name: float(sums[0]) for name, sums in known.items()}

    @property
    def terms(self) -> dict[str, float]:
        """What each raw term gives of the official score, were the episode to end now."""
        raw = raw_terms(self.frame)
        return weighted({n: float(raw[n][0]) for n in WEIGHTS[self.task]}, self.task)

    @property
    def score(self) -> float:
        """Official: the episode's, or were it to end now."""
        return self.outcome.score if self.outcome else sum(self.terms.values())

    def step(self) -> None:
        """One control step; an episode that is over stands still.

        Raises:
            BadAction: the policy fails, or gives something that is no action.
        """
        if self.outcome is not None:
            return
        before = self.reward_sums
        result = self.world.step(self._action())
        self._observation, self._steps = result.observation, self._steps + 1
        self.frame = self.world.frame()
        self.rewards = {n: total - before[n] for n, total in self.reward_sums.items()}
        for record in result.episodes:
            self.outcome = Outcome(record["score"], record["seconds"], _how(record))

    def _action(self) -> np.ndarray:
        if self.policy.act is not None:
            return checked(self.policy.act(self._observation), np.ones(1, bool))
        assert self._player is not None
        view = official_view(self.frame, self.task)
        return checked(self._player(*view), np.ones(1, bool))

    def robot(self) -> np.ndarray:
        """(3,) m: where its trunk is."""
        return self.world.positions(0)[-19:-16]

    def ball(self) -> np.ndarray:
        """(3,) m: the ball's centre, as far as the rules know it."""
        at = self.world.positions(0)[:7]
        return np.asarray(at[:3] + rotate(at[3:7], np.array(game.BALL_CENTER)))

    def close(self) -> None:
        """Free the world."""
        self.world.close()


def _how(record: dict[str, float]) -> str:
    if record["lost"]:
        return "lost"
    for name, text in (("success", "scored"), ("fallen", "fell")):
        if record[name]:
            return text
    return "time is up" if record["seconds"] >= EPISODE - game.TIMESTEP / 2 else "ended"


class Match:
    """What is watched.

    Args:
        policies: one or two.
        task: of ``game.TASKS``.
        seed: of the first episode, as ``env.reset(seed=…)`` takes it.
    """

    def __init__(
        self, policies: Sequence[Policy], task: str = game.TASKS[0], seed: int = 0
    ) -> None:
        self.policies, self.task, self.seed = list(policies), task, seed
        self.results: list[tuple[int, list[Outcome]]] = []
        """Seeds and outcomes of the episodes that were played to their end, of this task."""
        self.disturbed = False
        """Whether something was pushed or moved in this episode; then its score is no result."""
        self.sides: list[Side] = []
        self._played = 0
        self._restart()

    def _restart(self) -> None:
        """Worlds anew, for another task or policy."""
        self.close()
        self.sides = [Side(policy, self.task) for policy in self.policies]
        self.results = []
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Begin the episode of a seed, by default the same again."""
        self.seed = self.seed if seed is None else seed
        self.disturbed = False
        for side in self.sides:
            side.reset(self.seed)
        self._played = 0

    def choose(self, task: str) -> None:
        """Play another task.

        Raises:
            ValueError: it is none of ``game.TASKS``.
        """
        if task not in game.TASKS:
            raise ValueError(f"task {task!r}, expected one of {list(game.TASKS)}")
        self.task = task
        self._restart()

    def swap(self, which: int, policy: Policy) -> None:
        """Let another policy play, from the begin of the episode, both of the same spawn."""
        self.policies[which] = policy
        if _same_world(self.sides[which].policy, policy):
            self.sides[which].policy = policy
            self.results = []
            self.reset()
        else:
            self._restart()

    @property
    def over(self) -> bool:
        """Whether all have ended."""
        return all(side.outcome is not None for side in self.sides)

    @property
    def seconds(self) -> float:
        """Played of this episode."""
        return self._played * STEP

    def advance(self) -> None:
        """Play 20 ms: control steps of those that have not ended.

        Raises:
            BadAction: a policy fails, or gives something that is no action.
        """
        if self.over:
            return
        self._played += 1
        for side in self.sides:
            while side.outcome is None and side.seconds < self.seconds - game.TIMESTEP / 2:
                side.step()
        outcomes = [side.outcome for side in self.sides if side.outcome is not None]
        if len(outcomes) == len(self.sides) and not self.disturbed:
            self.results.append((self.seed, outcomes))

    def push(self, forward: float, left: float) -> None:
        """Push each robot by so many m/s, as it sees the directions."""
        for side in self.sides:
            turned = float(yaw(side.world.positions(0)[-16:-12]))
            cos, sin = np.cos(turned), np.sin(turned)
            side.world.push(0, (cos * forward - sin * left, sin * forward + cos * left))
        self.disturbed = True

    def place_ball(self, which: int, center: Sequence[float]) -> None:
        """Put a side's ball somewhere, at rest: (x, y, z) m of its centre, not below the ground."""
        x, y, z = center
        self.sides[which].world.place_ball(0, (x, y, max(z, game.BALL_CENTER[2])))
        self.disturbed = True

    def means(self) -> list[float]:
        """Of each side its mean score over ``results``; empty before the first."""
        scores = [[outcome.score for outcome in outcomes] for _, outcomes in self.results]
        return np.mean(scores, axis=0).tolist() if scores else []

    def close(self) -> None:
        """Free the worlds."""
        for side in self.sides:
            side.close()


def _same_world(one: Policy, other: Policy) -> bool:
    """Whether both play in a world of the same settings."""
    if one.act is None or other.act is None:
        return one.act is None and other.act is None

    def options(config: Config) -> tuple[object, ...]:
        return config.control, soccer_options(config), reward_options(config)

    return options(one.config) == options(other.config) and one.weighted == other.weighted
