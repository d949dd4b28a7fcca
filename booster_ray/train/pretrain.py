"""SAC pretraining in native worlds: collect, insert, update; report now and then."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from booster_ray.agents.sac.learner import Sac, SacState
from booster_ray.agents.sac.losses import Batch
from booster_ray.agents.sac.replay import Replay
from booster_ray.config import Config
from booster_ray.soccer import game
from booster_ray.train.evaluation import Evaluator, flat_metrics, gains
from booster_ray.train.report import Loop, Report, TrainingDiverged, Tree
from booster_ray.worlds.native import NativeWorld

EPISODES_AVERAGED = 50
"""Ended episodes over which training returns and lengths are averaged."""


def make_world(config: Config, threads: int) -> NativeWorld:
    """The training world of a config."""
    return NativeWorld(
        config.tasks,
        config.world.num_envs,
        gains(config),
        mode=config.control.mode,
        decimation=config.control.decimation,
        weights=config.rewards.model_dump(),
        level=config.randomization.level,
        threads=threads,
        episode_steps=round(config.world.episode_seconds / game.TIMESTEP),
    )


def make_learner(config: Config) -> Sac:
    """The learner of a config, for the soccer observation and action."""
    return Sac(config.sac, game.OBSERVATION_SIZE, game.ACTION_SIZE)


class Pretraining:
    """Everything one run owns; iterate it to train.

    Args:
        config: a resolved config.
        restored: a tree from an earlier :attr:`Report.capture` of the same config.
        interrupt: while set, every control step is followed by a report.

    Raises:
        ValueError: ``restored`` does not fit the config.
        TrainingDiverged: while iterating, when a loss stops being finite.
    """

    def __init__(
        self,
        config: Config,
        restored: Tree | None = None,
        interrupt: threading.Event | None = None,
    ) -> None:
        self._config = config
        self._interrupt = interrupt or threading.Event()
        threads = config.world.threads or config.trainer.cpus
        self._world = make_world(config, threads)
        self._evaluator = Evaluator(config, config.evaluation.episodes_per_task, threads)
        self._learner = make_learner(config)
        sizes = self._world.observation_size, self._world.action_size
        self._replay = Replay(config.sac.replay_size, self._world.task, *sizes)
        self._episodes: deque[dict[str, float]] = deque(maxlen=EPISODES_AVERAGED)
        self._state: SacState = self._learner.init(config.seed)
        self._rng = np.random.default_rng([config.seed, 1])
        self._env_steps = 0
        self._observation = self._world.reset(config.seed)
        self._resumed = restored is not None
        if restored is not None:
            self._restore(restored)

    def __iter__(self) -> Loop:
        config = self._config
        metrics: dict[str, Any] = {}
        if not self._resumed:
            yield self._report(self._evaluate(), saved=0)
        saved, started, began = self._env_steps, time.monotonic(), self._env_steps
        while self._env_steps < config.training.env_steps:
            self._collect()
            if self._env_steps >= max(config.sac.learning_starts, config.sac.batch_size):
                metrics = self._learn()
            if not (self._crossed(config.training.report_every) or self._interrupt.is_set()):
                continue
            report = self._numbers(metrics)
            elapsed = time.monotonic() - started
            report["env_steps_per_second"] = (self._env_steps - began) / max(elapsed, 1e-9)
            if self._crossed(config.evaluation.every):
                report |= self._evaluate()
            due = self._report(report, saved)
            saved = self._env_steps if due.checkpoint_due else saved
            yield due
            # Time spent by whoever listens (saving, drawing) is not training time.
            started, began = time.monotonic(), self._env_steps

    @property
    def finished(self) -> bool:
        """Whether the budget of env steps is spent."""
        return self._env_steps >= self._config.training.env_steps

    def _crossed(self, every: int) -> bool:
        """Whether the last control step crossed a multiple of ``every``, or was the last."""
        before = self._env_steps - self._world.num_envs
        return self.finished or self._env_steps // every > before // every

    def _collect(self) -> None:
        observation = self._observation
        self._state, action = self._learner.act(self._state, observation)
        action = np.asarray(action)
        if not np.isfinite(action).all():
            # Reports are rare: parameters that a loss has spoilt show here first.
            raise self._diverged("the policy's action is not finite")
        result = self._world.step(action)
        self._replay.add(
            Batch(
                observation,
                action,
                result.reward,
                result.final_observation,
                result.terminated.astype(np.float32),
            )
        )
        self._observation = result.observation
        self._episodes.extend(result.episodes)
        self._env_steps += self._world.num_envs

    def _learn(self) -> dict[str, jax.Array]:
        sac = self._config.sac
        batches = self._replay.sample((sac.updates_per_step, sac.batch_size), self._rng)
        self._state, metrics = self._learner.update(self._state, batches)
        return metrics

    def _numbers(self, metrics: dict[str, jax.Array]) -> dict[str, float]:
        numbers = {name: float(value) for name, value in metrics.items()}
        for name in ("critic_loss", "actor_loss"):
            if not np.isfinite(numbers.get(name, 0.0)):
                raise self._diverged(f"{name} is {numbers[name]}")
        if self._episodes:
            numbers["episode_return"] = float(np.mean([e["return"] for e in self._episodes]))
            numbers["episode_seconds"] = float(np.mean([e["seconds"] for e in self._episodes]))
        return numbers

    def _diverged(self, what: str) -> TrainingDiverged:
        return TrainingDiverged(
            f"{what} after {self._env_steps} env steps; "
            "lower sac.critic_lr and sac.actor_lr or check the reward weights"
        )

    def _evaluate(self) -> dict[str, float]:
        def policy(observation: np.ndarray) -> np.ndarray:
            return np.asarray(self._learner.act_mean(self._state, observation))

        return flat_metrics(self._evaluator(policy))

    def _report(self, metrics: dict[str, float], saved: int) -> Report:
        every = self._config.checkpoint.every_env_steps
        due = self.finished or self._env_steps - saved >= every
        return Report({"env_steps": self._env_steps, **metrics}, self._capture, due)

    # -- checkpoint --------------------------------------------------------------------------

    def _capture(self) -> Tree:
        return {
            "learner": _to_tree(self._state),
            "replay": self._replay.state(),
            "world": self._world.state(),
            "observation": self._observation.copy(),
            "generator": self._rng.bit_generator.state,
            "episodes": {str(i): dict(e) for i, e in enumerate(self._episodes)},
            "env_steps": self._env_steps,
        }

    def _restore(self, tree: Tree) -> None:
        self._state = restore_learner(self._state, tree["learner"])
        self._replay.restore(tree["replay"])
        self._world.restore(tree["world"])
        self._observation = np.array(tree["observation"])
        self._rng.bit_generator.state = tree["generator"]
        episodes = tree["episodes"]
        self._episodes.extend(episodes[str(i)] for i in range(len(episodes)))
        self._env_steps = tree["env_steps"]

    def close(self) -> None:
        """Stop the physics threads."""
        self._world.close()
        self._evaluator.close()


def _to_tree(state: Any) -> Tree:
    """A pytree as a flat dict of NumPy arrays, keyed by path."""
    leaves, _ = jax.tree.flatten_with_path(state)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def restore_learner(template: SacState, tree: Tree) -> SacState:
    """Fill ``template`` with saved leaves.

    Raises:
        ValueError: a leaf is missing or has another shape, named with both.
    """
    leaves, structure = jax.tree.flatten_with_path(template)
    filled = []
    for path, leaf in leaves:
        name = _name(path)
        saved = tree.get(name)
        if saved is None or np.shape(saved) != np.shape(leaf):
            found = "missing" if saved is None else f"of shape {np.shape(saved)}"
            raise ValueError(f"checkpoint leaf {name} is {found}; expected {np.shape(leaf)}")
        filled.append(jnp.asarray(saved))
    return jax.tree.unflatten(structure, filled)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
