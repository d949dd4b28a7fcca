"""Collecting from worlds that step in the host's threads, beside the learner's update."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from booster_ray.config import Config
from booster_ray.config.curriculum import reward_factors
from booster_ray.envs.contract import Scalable, StepResult, World
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.losses import Batch
from booster_ray.runtime.seeding import stream_generator
from booster_ray.store.checkpoint import Tree
from booster_ray.train.collector import EPISODE_MEANS, episode_metrics, episodes_averaged
from booster_ray.train.expert import Expert
from booster_ray.train.report import RATES, TrainingDiverged, check_given

_log = logging.getLogger(__name__)


class Learner(Protocol):
    """An algorithm; it knows arrays, and nothing of worlds."""

    starts: int
    """Transitions in :attr:`replay` before the first update."""

    @property
    def replay(self) -> Replay:
        """Where transitions go."""

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions. Shape: (n, obs) → (n, act)."""

    def explore(
        self,
        observation: np.ndarray,
        expert: np.ndarray | None,
        env_steps: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Actions to play.

        Args:
            observation: float32 (n, obs), of all worlds.
            expert: (n, act), what an expert would do; None: there is none.
            env_steps: made before.
            rng: of the noise.

        Raises:
            FloatingPointError: the policy's own action is not finite.
        """

    def relabel(self, batch: Batch) -> Batch:
        """Transitions (n, ...) as the replay is to hold them."""

    def update(self, env_steps: int, rng: np.random.Generator) -> Callable[[], None] | None:
        """Sample from the replay and learn.

        Returns:
            What is left to do in a thread beside the worlds' step; None: the update is under way.
        """

    def metrics(self) -> dict[str, float]:
        """Of the newest updates."""

    def state(self) -> Tree:
        """Its part of the run's state, copied; the replay is not in it."""

    def restore(self, tree: Tree) -> None:
        """Go on from a run's state; raises ValueError when it does not fit."""


def own_reward(result: StepResult) -> np.ndarray:
    """The worlds' reward, float32 (n,)."""
    return result.reward


class HostCollector:
    """Implements :class:`booster_ray.train.collector.Collector`.

    Args:
        config: a resolved config.
        world: its worlds, closed with this.
        learner: the algorithm.
        seed_at: the seed of episodes that begin anew after so many env steps.
        expert: who is asked what it would do in every state.
        reward: what is stored as a step's reward, (n, ...).
        rank: this worker's number in its group; workers draw other noise.
    """

    def __init__(
        self,
        config: Config,
        world: World,
        learner: Learner,
        *,
        seed_at: Callable[[int], int],
        expert: Expert | None = None,
        reward: Callable[[StepResult], np.ndarray] = own_reward,
        rank: int = 0,
    ) -> None:
        self._config, self._world, self.learner = config, world, learner
        self.stride, self.action_size = world.num_envs, world.action_size
        self._seed_at, self._expert, self._reward = seed_at, expert, reward
        self._thread = ThreadPoolExecutor(1, "update")
        self._episodes: deque[dict[str, float]] = deque(
            maxlen=episodes_averaged(len(config.world.task_names))
        )
        self._lost = 0
        """Episodes whose physics was lost, since the run's begin."""
        self._rng = stream_generator(config.seed, "collector", rank)
        self.begin_anew(0)
        check_given(config.world.kind, 0, observation=self._observation)

    def begin_anew(self, env_steps: int) -> None:
        """Begin all episodes anew; the replay stays."""
        self._observation = self._world.reset(self._seed_at(env_steps))
        if self._expert is not None:
            self._expert.ask()

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions. Shape: (n, obs) → (n, act)."""
        return self.learner.act(observation)

    def advance(self, env_steps: int) -> None:
        """One control step of all worlds, beside ``updates_per_step`` updates."""
        if self._config.curriculum and isinstance(self._world, Scalable):
            self._world.scale_rewards(reward_factors(self._config, env_steps))
        action = self._explore(env_steps)
        update = None
        if self.learner.replay.inserted >= self.learner.starts:
            # What it learns from is sampled before the worlds step.
            update = self.learner.update(env_steps, self._rng)
        learning = self._thread.submit(update) if update else None
        try:
            self._step(action, env_steps)
        finally:
            if learning:
                learning.result()

    def _explore(self, env_steps: int) -> np.ndarray:
        wanted = None if self._expert is None else self._expert.action
        try:
            return self.learner.explore(self._observation, wanted, env_steps, self._rng)
        except FloatingPointError as error:
            rates = RATES[self._config.stage]
            raise TrainingDiverged(str(error), env_steps, rates) from None

    def _step(self, action: np.ndarray, env_steps: int) -> None:
        """Play ``action`` (n, act), and store what came of it.

        Raises:
            WorldDiverged: the worlds gave something that is not finite; nothing is stored.
        """
        result = self._world.step(action)
        seen = {"observation": result.observation, "final_observation": result.final_observation}
        check_given(self._config.world.kind, env_steps, reward=result.reward, **seen)
        transitions = Batch(
            self._observation,
            action,
            self._reward(result),
            result.final_observation,
            result.terminated.astype(np.float32),
            demonstrated=None if self._expert is None else self._expert.action,
        )
        self.learner.replay.add(self.learner.relabel(transitions), result.truncated)
        self._observation = result.observation
        self._episodes.extend(result.episodes)
        self._lost += sum(bool(e.get("lost")) for e in result.episodes)
        if self._expert is not None:
            self._expert.ask()

    def metrics(self) -> dict[str, float]:
        """See :class:`Collector`."""
        names, tasks = EPISODE_MEANS[self._config.stage], self._config.world.task_names
        lost = {"episodes_lost": float(self._lost)}
        return self.learner.metrics() | episode_metrics(self._episodes, names, tasks) | lost

    # -- checkpoint --------------------------------------------------------------------------

    def state(self) -> Tree:
        """See :class:`Collector`."""
        return {**self.learner.state(), **self.own_state()}

    def own_state(self) -> Tree:
        """All of :meth:`state` but the learner's part."""
        wanted = {} if self._expert is None else {"wanted": self._expert.action.copy()}
        return {
            "replay": self.learner.replay.state(),
            "world": self._world.state(),
            "observation": self._observation.copy(),
            "generator": self._rng.bit_generator.state,
            "episodes": {str(i): dict(e) for i, e in enumerate(self._episodes)},
            "episodes_lost": self._lost,
            **wanted,
        }

    def restore(self, tree: Tree, env_steps: int) -> None:
        """See :class:`Collector`."""
        self.learner.restore(tree)
        self.restore_own(tree, env_steps)

    def restore_own(self, tree: Tree, env_steps: int) -> None:
        """Go on where :meth:`own_state` was taken; raises ValueError when it does not fit."""
        self.learner.replay.restore(tree["replay"])
        self._rng.bit_generator.state = tree["generator"]
        episodes = tree["episodes"]
        self._episodes.extend(episodes[str(i)] for i in range(len(episodes)))
        self._lost = tree.get("episodes_lost", 0)  # not of every release
        if tree["world"]:
            self._world.restore(tree["world"])
            self._observation = np.array(tree["observation"])
            if self._expert is not None:
                # A restored world does not know the frame that the expert saw.
                self._expert.action = np.array(tree["wanted"])
            return
        _log.warning(
            "the state of %s cannot be saved: its episodes begin anew at %d env steps",
            self._config.world.kind,
            env_steps,
        )
        self.begin_anew(env_steps)

    def close(self) -> None:
        """Stop the threads of the update and of the worlds."""
        self._thread.shutdown()
        self._world.close()
