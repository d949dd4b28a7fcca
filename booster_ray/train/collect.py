"""What a training loop drives: something that collects experience and learns from it.

:class:`HostEngine` steps worlds on the host's cores while JAX learns;
:class:`booster_ray.train.fused.DeviceEngine` does both on the device.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

import jax
import numpy as np

from booster_ray.config import Config
from booster_ray.config.curriculum import reward_factors
from booster_ray.envs.contract import Scalable, StepResult, World
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.learner import Sac, SacState
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.tree import from_tree, to_tree
from booster_ray.runtime.memory import check_run
from booster_ray.train.learner import learning_starts, task_shares
from booster_ray.train.report import TrainingDiverged, Tree, check_given

EPISODES_AVERAGED = 50
"""Ended episodes over which training returns and lengths are averaged."""

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """Worlds, replay and learner of one run."""

    stride: int
    """Env steps that one :meth:`advance` makes."""
    action_size: int

    @property
    def learner(self) -> SacState:
        """The learner's state as it is now."""
        ...

    def advance(self, env_steps: int) -> None:
        """Collect, and learn when there is enough to learn from.

        Args:
            env_steps: made before this.

        Raises:
            TrainingDiverged: the policy's action is not finite, or what the worlds give.
        """
        ...

    def numbers(self) -> dict[str, float]:
        """Metrics of the newest updates, and means over the newest ``EPISODES_AVERAGED``."""
        ...

    def state(self) -> Tree:
        """Everything that changes, as it is now; later steps leave it alone."""
        ...

    def restore(self, tree: Tree, env_steps: int) -> None:
        """Go on where :meth:`state` was taken; raises ValueError when it does not fit."""
        ...

    def close(self) -> None:
        """Free threads and memory."""
        ...


def scale_rewards(world: World, config: Config, env_steps: int) -> None:
    """Weigh a world's rewards as the config's curriculum wants them after ``env_steps``."""
    if config.curriculum and isinstance(world, Scalable):
        world.scale_rewards(reward_factors(config, env_steps))


def check_step(config: Config, env_steps: int, result: StepResult) -> None:
    """See that a step gave finite numbers, before anything is learnt from them.

    Raises:
        WorldDiverged: it did not.
    """
    given = {"observation": result.observation, "final_observation": result.final_observation}
    check_given(config.world.kind, env_steps, reward=result.reward, **given)


def restore_world(
    world: World, tree: Tree, config: Config, env_steps: int, seed: int
) -> np.ndarray:
    """The observation (n, obs) with which worlds go on.

    Args:
        world: to go on where ``tree`` was taken, or anew where it could not be.
        tree: ``world`` and ``observation``.
        config: its own.
        env_steps: made before.
        seed: of episodes that begin anew.
    """
    if tree["world"]:
        world.restore(tree["world"])
        return np.array(tree["observation"])
    _log.warning(
        "the state of %s cannot be saved: its episodes begin anew at %d env steps",
        config.world.kind,
        env_steps,
    )
    return world.reset(seed)


class HostEngine:
    """Worlds on the host; the update runs in JAX's threads while they step.

    Args:
        config: a resolved config.
        sac: the learner's functions.
        world: its worlds, closed with this.
    """

    def __init__(self, config: Config, sac: Sac, world: World) -> None:
        self._config, self._sac, self._world = config, sac, world
        self.stride, self.action_size = world.num_envs, world.action_size
        check_run(config, world.observation_size, world.action_size)
        self._replay = Replay(
            config.sac.replay_size,
            world.task,
            world.observation_size,
            world.action_size,
            n_step=config.sac.n_step,
            discount=config.sac.discount,
            shares=task_shares(config),
        )
        self._starts = learning_starts(config)
        self._episodes: deque[dict[str, float]] = deque(maxlen=EPISODES_AVERAGED)
        self.learner: SacState = sac.init(config.seed)
        self._metrics: dict[str, jax.Array] = {}
        self._rng = np.random.default_rng([config.seed, 1])
        self._env_steps = 0
        self._observation = world.reset(config.seed)
        check_given(config.world.kind, 0, observation=self._observation)

    def advance(self, env_steps: int) -> None:
        """One control step of all worlds, beside ``updates_per_step`` updates."""
        self._env_steps = env_steps
        scale_rewards(self._world, self._config, env_steps)
        action = self._act(env_steps)
        if env_steps >= self._starts:
            # JAX computes in threads of its own and is waited for in the next act: the update
            # runs while the worlds step. So it learns from transitions up to the step before.
            self._learn()
        self._collect(action)

    def _act(self, env_steps: int) -> np.ndarray:
        self.learner, sampled = self._sac.act(self.learner, self._observation)
        action = np.asarray(sampled)
        if not np.isfinite(action).all():
            # Reports are rare: parameters that a loss has spoilt show here first.
            raise TrainingDiverged("the policy's action is not finite", env_steps)
        return action

    def _learn(self) -> None:
        sac = self._config.sac
        batches = self._replay.sample((sac.updates_per_step, sac.batch_size), self._rng)
        self.learner, self._metrics = self._sac.update(self.learner, batches)

    def _collect(self, action: np.ndarray) -> None:
        self._store(action, self._world.step(action))

    def _store(self, action: np.ndarray, result: StepResult) -> None:
        """Remember a step as one of ``action``.

        Raises:
            WorldDiverged: the worlds gave something that is not finite.
        """
        check_step(self._config, self._env_steps, result)
        transitions = Batch(
            self._observation,
            action,
            result.reward,
            result.final_observation,
            result.terminated.astype(np.float32),
        )
        self._replay.add(transitions, result.truncated)
        self._observation = result.observation
        self._episodes.extend(result.episodes)

    def numbers(self) -> dict[str, float]:
        """See :class:`Engine`."""
        numbers = {name: float(value) for name, value in self._metrics.items()}
        for name in ("return", "seconds"):
            if self._episodes:
                numbers[f"episode_{name}"] = float(np.mean([e[name] for e in self._episodes]))
        return numbers

    # -- checkpoint --------------------------------------------------------------------------

    def state(self) -> Tree:
        """See :class:`Engine`."""
        return {
            "learner": to_tree(self.learner),
            "replay": self._replay.state(),
            "world": self._world.state(),
            "observation": self._observation.copy(),
            "generator": self._rng.bit_generator.state,
            "episodes": {str(i): dict(e) for i, e in enumerate(self._episodes)},
        }

    def restore(self, tree: Tree, env_steps: int) -> None:
        """See :class:`Engine`."""
        self.learner = from_tree(self.learner, tree["learner"])
        self._replay.restore(tree["replay"])
        self._rng.bit_generator.state = tree["generator"]
        episodes = tree["episodes"]
        self._episodes.extend(episodes[str(i)] for i in range(len(episodes)))
        seed = self._config.seed + env_steps
        self._observation = restore_world(self._world, tree, self._config, env_steps, seed)

    def close(self) -> None:
        """Stop the worlds' threads."""
        self._world.close()
