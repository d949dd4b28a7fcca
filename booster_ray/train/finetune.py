"""DDPG finetuning: the loop of pretraining, around a learner in torch."""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from booster_ray.config import Config
from booster_ray.config.finetune import value_at
from booster_ray.envs.contract import StepResult, World
from booster_ray.envs.make import make_world
from booster_ray.evaluate.scores import make_evaluator
from booster_ray.rl import guards
from booster_ray.rl.ddpg.learner import Ddpg
from booster_ray.rl.ddpg.replay import AnnealedReplay, stacked, with_discount
from booster_ray.rl.ddpg.team import Team, current_team, own_device
from booster_ray.rl.sac.losses import Batch
from booster_ray.runtime.memory import check_run
from booster_ray.soccer.observation import places
from booster_ray.train.collect import (
    EPISODES_AVERAGED,
    check_step,
    restore_world,
    scale_rewards,
)
from booster_ray.train.demonstrations import Demonstrations
from booster_ray.train.finetune_start import Start, begin, from_nothing
from booster_ray.train.learner import task_shares
from booster_ray.train.pretrain import Pretraining, owed
from booster_ray.train.report import TrainingDiverged, Tree, check_given

_START = places()["velocimeter"].start
VELOCIMETER = slice(_START, _START + 2)
"""Where an observation has the trunk's velocity along its x and y axes, m/s."""

RATES = "ddpg.critic_lr and the lr of ddpg.thawing"
"""What to lower when a loss explodes."""

_log = logging.getLogger(__name__)


class DdpgEngine:
    """Worlds on the host, beside the update in a thread of its own.

    Implements :class:`booster_ray.train.collect.Engine`. In a team each worker has its share of
    the worlds, of the replay and of every batch; what the leader does, the others follow.

    Args:
        config: a resolved config.
        start: the policy to begin with, and transitions to keep in mind.
        world: this worker's worlds, closed with this.
        team: workers that train together.

    Raises:
        ConfigError: the demonstrator cannot be made.
        ValueError: worlds that cannot tell what a demonstrator must see.
    """

    def __init__(self, config: Config, start: Start, world: World, team: Team) -> None:
        self._config, self._world, self.team = config, world, team
        self.stride, self.action_size = world.num_envs * team.size, world.action_size
        ddpg, sizes = config.ddpg, (world.observation_size, world.action_size)
        demonstrated = config.imitation.demonstrator is not None
        self.learner = Ddpg(
            ddpg,
            start.actor,
            config.seed,
            adapt=start.adapt,
            demonstrated=demonstrated,
            team=team,
            device=own_device(),
        )
        options: dict[str, Any] = {"discount": ddpg.discount, "shares": task_shares(config)}
        options |= {"n_step": ddpg.n_step, "demonstrated": demonstrated}
        check_run(config, *sizes)
        self._replay = AnnealedReplay(ddpg.replay_size // team.size, world.task, *sizes, **options)
        self._kept = start.kept
        self._starts = max(ddpg.learning_starts, ddpg.batch_size) // team.size
        self._episodes: deque[dict[str, float]] = deque(maxlen=EPISODES_AVERAGED)
        self._rng = np.random.default_rng([config.seed, 1, team.rank])
        self._learning = ThreadPoolExecutor(1, "ddpg", torch.set_num_threads, (_cores(config),))
        # Some worlds stay close to the policy, and some show the critics what it never does
        # (Seo et al. 2025, "FastTD3": mixed noise).
        self._spread = (2.0 * (np.arange(world.num_envs) + 0.5) / world.num_envs)[:, None]
        self._spread = self._spread.astype(np.float32)
        self._factors: dict[str, float] = {}
        self._env_steps = 0
        self._observation = world.reset(self._seed(0))
        check_given(config.world.kind, 0, observation=self._observation)
        self._demonstrations = Demonstrations(config, world) if demonstrated else None

    def _seed(self, env_steps: int) -> int:
        seeds = np.random.SeedSequence([self._config.seed, env_steps, self.team.rank])
        return int(seeds.generate_state(1)[0])

    def policy(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions. Shape: (n, obs) → (n, act)."""
        return self.learner.act(observation)

    # -- one control step --------------------------------------------------------------------

    def advance(self, env_steps: int) -> None:
        """One control step of all worlds, beside ``updates_per_step`` updates."""
        self._env_steps = env_steps
        scale_rewards(self._world, self._config, env_steps)
        factors = self._scheduled(env_steps)
        stage = self._config.ddpg.stage_at(env_steps)
        self.learner.observe(self._observation)
        action = self._explore(env_steps, factors["noise"])
        if len(self._replay) < self._starts:
            self._collect(action)
            return
        # Drawn before the worlds step: the update does not see what they are about to add.
        self._replay.weights = factors["dense_factor"], factors["official_factor"], 1.0
        batches = self._sample(factors["dense_factor"])
        update = self._learning.submit(self.learner.learn, batches, stage, factors["anchor"])
        try:
            self._collect(action)
        finally:
            update.result()

    def _scheduled(self, env_steps: int) -> dict[str, float]:
        ddpg, budget = self._config.ddpg, self._config.training.env_steps
        self._factors = {
            "dense_factor": value_at(ddpg.dense, env_steps, budget),
            "official_factor": value_at(ddpg.official, env_steps, budget),
            "noise": value_at(ddpg.noise, env_steps, budget),
            "anchor": value_at(ddpg.anchor, env_steps, budget),
        }
        return self._factors

    def _explore(self, env_steps: int, deviation: float) -> np.ndarray:
        greedy = self.learner.act(self._observation)
        if not np.isfinite(greedy).all():
            # Reports are rare: parameters that a loss has spoilt show here first.
            raise TrainingDiverged("the policy's action is not finite", env_steps, RATES)
        noise = self._rng.standard_normal(greedy.shape, np.float32)
        if self._demonstrations is not None:
            greedy = self._demonstrations.played(greedy, env_steps).astype(np.float32)
        return np.clip(greedy + np.float32(deviation) * self._spread * noise, -1.0, 1.0)

    def _sample(self, dense_factor: float) -> Batch:
        ddpg = self._config.ddpg
        size = ddpg.batch_size // self.team.size
        kept = 0 if self._kept is None else round(ddpg.pretrain_share * size)
        new = self._replay.sample((ddpg.updates_per_step, size - kept), self._rng)
        new = with_discount(new, ddpg.discount)
        if not kept or self._kept is None:
            return new
        old = self._kept.sample((ddpg.updates_per_step, kept), self._rng)
        old = old._replace(reward=np.float32(dense_factor) * old.reward)
        return stacked(new, with_discount(old, ddpg.discount))

    def _collect(self, action: np.ndarray) -> None:
        result = self._world.step(action)
        check_step(self._config, self._env_steps, result)
        transitions = Batch(
            self._observation,
            action,
            result.reward,
            result.final_observation,
            result.terminated.astype(np.float32),
        )
        if self._demonstrations is not None:
            transitions = transitions._replace(demonstrated=self._demonstrations.wanted)
            self._demonstrations.ask()
        parts = result.reward, self._official(result), self._penalty(result)
        self._replay.insert(transitions, parts, result.truncated)
        self._observation = result.observation
        self._episodes.extend(result.episodes)

    def _official(self, result: StepResult) -> np.ndarray:
        """The weighted official score, where it is paid: in the step that ends an episode."""
        paid = np.zeros(len(result.reward), np.float32)
        if self._config.world.is_soccer:
            for episode in result.episodes:
                paid[int(episode["env"])] = self._config.rewards.official * episode["score"]
        return paid

    def _penalty(self, result: StepResult) -> np.ndarray:
        """Cost of standing still: all of it at rest, none from ``idle_speed`` on."""
        ddpg = self._config.ddpg
        if not (ddpg.idle_penalty and self._config.world.is_soccer):
            return np.zeros(len(result.reward), np.float32)
        speed = np.linalg.norm(result.final_observation[:, VELOCIMETER], axis=1)
        return -ddpg.idle_penalty * np.maximum(1.0 - speed / ddpg.idle_speed, 0.0)

    def numbers(self) -> dict[str, float]:
        """Metrics of the newest update, the schedules, and means over the newest episodes."""
        numbers = self.learner.numbers() | self._factors
        for name in ("return", "seconds", "score"):
            if self._episodes:
                mean = float(np.mean([e[name] for e in self._episodes]))
                numbers[f"episode_{name}"] = mean
        return numbers

    # -- checkpoint --------------------------------------------------------------------------

    def state(self) -> Tree:
        """Everything that changes; a team's replays and worlds lie below ``team``, by rank."""
        mine = {
            "replay": self._replay.state(),
            "world": self._world.state(),
            "observation": self._observation.copy(),
            "generator": self._rng.bit_generator.state,
            "episodes": {str(i): dict(e) for i, e in enumerate(self._episodes)},
        }
        if self._demonstrations is not None:
            mine["wanted"] = self._demonstrations.wanted.copy()
        every = self.team.gather(mine) or []
        kept = {} if self._kept is None else self._kept.state()
        return {
            "learner": self.learner.state(),
            "kept": kept,
            "team": {str(rank): part for rank, part in enumerate(every)},
        }

    def restore(self, tree: Tree, env_steps: int) -> None:
        """Go on where :meth:`state` was taken.

        With another number of workers the learner goes on, and replays and worlds begin anew.
        """
        self.learner.restore(tree["learner"])
        if len(tree["team"]) != self.team.size:
            _log.warning(
                "the checkpoint at %d env steps is of %d workers, here are %d: "
                "replay and worlds begin anew",
                env_steps,
                len(tree["team"]),
                self.team.size,
            )
            self._observation = self._world.reset(self._seed(env_steps))
            if self._demonstrations is not None:
                self._demonstrations.ask()
            return
        mine = tree["team"][str(self.team.rank)]
        self._replay.restore(mine["replay"])
        self._rng.bit_generator.state = mine["generator"]
        episodes = mine["episodes"]
        self._episodes.extend(episodes[str(i)] for i in range(len(episodes)))
        seed = self._seed(env_steps)
        self._observation = restore_world(self._world, mine, self._config, env_steps, seed)
        if self._demonstrations is not None:
            self._demonstrations.wanted = np.array(mine["wanted"])

    def close(self) -> None:
        """Stop the threads of the worlds and of the update."""
        self._learning.shutdown()
        self._world.close()


def make_engine(config: Config, restored: Tree | None, team: Team) -> DdpgEngine:
    """A worker's engine as at the run's start.

    Args:
        config: a resolved config.
        restored: what the leader will fill in next, if anything; else None.
        team: workers that train together.

    Raises:
        ConfigError: see :func:`finetune_start.begin`.
    """
    start = None
    if team.rank == 0:
        start = begin(config) if restored is None else from_nothing(config, restored["kept"])
    start = team.share(start)
    threads = config.world.threads or _cores(config)
    world = make_world(_without_official(config), threads, config.world.num_envs // team.size)
    return DdpgEngine(config, start, world, team)


def _led(engine: DdpgEngine) -> Any:
    if engine.team.size == 1:
        return engine
    from booster_ray.train.finetune_team import Leader

    return Leader(engine)


def _without_official(config: Config) -> Config:
    """The worlds' config: the engine weighs the official score itself."""
    rewards = config.rewards.model_copy(update={"official": 0.0})
    return config.model_copy(update={"rewards": rewards})


def _cores(config: Config) -> int:
    return config.trainer.cpus


class Finetuning(Pretraining):
    """Everything one finetuning run owns; iterate it to train.

    Args:
        config: a resolved config of stage ``finetune``.
        restored: a tree from an earlier :attr:`Report.capture` of the same config.
        interrupt: see :class:`Pretraining`.
        team: workers that train together, of which this one leads; None: those of torch's process
            group, if there is one.

    Raises:
        ConfigError: the environment cannot be made, or ``start_from`` is no policy of this config.
        CheckpointError: ``start_from`` is damaged.
        ValueError: ``restored`` does not fit the config.
        TrainingDiverged: while iterating, when a loss explodes or stops being finite.
    """

    def __init__(
        self,
        config: Config,
        restored: Tree | None = None,
        interrupt: threading.Event | None = None,
        team: Team | None = None,
    ) -> None:
        self._config = config
        self._interrupt = interrupt or threading.Event()
        self._engine: Any = _led(make_engine(config, restored, team or current_team()))
        if restored is not None:
            self._engine.restore(restored, restored["env_steps"])
        self._evaluator = make_evaluator(config, config.world.threads or config.trainer.cpus)
        self._watch = guards.EntropyWatch()
        self._env_steps = 0 if restored is None else restored["env_steps"]
        self._owed = {} if restored is None else owed(restored)

    def _checked(self, numbers: dict[str, float], on_time: bool) -> dict[str, float]:
        if what := guards.divergence(numbers):
            raise TrainingDiverged(what, self._env_steps, RATES)
        return numbers

    def _evaluate(self) -> dict[str, float]:
        return self._evaluator.metrics(self._engine.policy, self._interrupt)
