"""DDPG with its schedules and its replay buffers, as worlds on the host drive it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from booster_ray.rl import guards
from booster_ray.rl.ddpg.learner import Ddpg
from booster_ray.rl.ddpg.replay import AnnealedReplay, stacked, with_discount
from booster_ray.rl.imitation import Scheduled, mixed, noise_spread
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.losses import Batch


class HostDdpg:
    """A learner of :mod:`booster_ray.train.host_collector`.

    Args:
        ddpg: networks and optimizers.
        replay: this worker's transitions, its rewards in the parts of ``ddpg.replay.PARTS``.
        starts: transitions in ``replay`` before the first update.
        schedules: ``dense_factor`` and ``official_factor`` of the parts of the reward, ``noise``,
            ``anchor``; each is a metric too.
        own_share: share of the worlds in which the learner acts, where there is an expert.
        kept: transitions of the pretraining, of which batches hold ``config.pretrain_share``.
        cores: that an update may take.
    """

    def __init__(
        self,
        ddpg: Ddpg,
        replay: AnnealedReplay,
        starts: int,
        schedules: Mapping[str, Scheduled],
        *,
        own_share: Scheduled,
        kept: Replay | None,
        cores: int,
    ) -> None:
        self.ddpg, self.replay, self.starts = ddpg, replay, starts
        self._schedules, self._own_share, self.kept = schedules, own_share, kept
        self._cores = cores
        self._scheduled: dict[str, float] = {}

    def act(self, observation: np.ndarray) -> np.ndarray:
        """Greedy actions. Shape: (n, obs) → (n, act)."""
        return self.ddpg.act(observation)

    def explore(
        self,
        observation: np.ndarray,
        expert: np.ndarray | None,
        env_steps: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Greedy actions or the expert's, with noise; the normalization takes the observations."""
        self._scheduled = {name: at(env_steps) for name, at in self._schedules.items()}
        self.ddpg.observe(observation)
        action = guards.check_action(self.act(observation))
        noise = rng.standard_normal(action.shape, np.float32)
        if expert is not None:
            action = mixed(action, expert, self._own_share(env_steps)).astype(np.float32)
        spread = np.float32(self._scheduled["noise"]) * noise_spread(len(action)).astype(np.float32)
        return np.clip(action + spread * noise, -1.0, 1.0)

    def relabel(self, batch: Batch) -> Batch:
        """Transitions are stored as they were played."""
        return batch

    def update(self, env_steps: int, rng: np.random.Generator) -> Callable[[], None]:
        """``updates_per_step`` updates of what is sampled now, for a thread of their own."""
        stage, anchor = self.ddpg.config.stage_at(env_steps), self._scheduled["anchor"]
        batches = self.sample(rng)
        if self.ddpg.config.target_noise:
            # Checkpoints hold one learner for all workers, and a generator of each.
            self.ddpg.seed_noise(int(rng.integers(2**63)))

        def learn() -> None:
            torch.set_num_threads(self._cores)
            self.ddpg.learn(batches, stage, anchor)

        return learn

    def sample(self, rng: np.random.Generator) -> Batch:
        """This worker's part of the next batches, new and kept, as the schedules weigh them."""
        config, dense = self.ddpg.config, self._scheduled["dense_factor"]
        self.replay.weights = dense, self._scheduled["official_factor"], 1.0
        size = config.batch_size // self.ddpg.team.size
        old = 0 if self.kept is None else round(config.pretrain_share * size)
        new = self.replay.sample((config.updates_per_step, size - old), rng)
        new = with_discount(new, config.discount)
        if not old or self.kept is None:
            return new
        kept = self.kept.sample((config.updates_per_step, old), rng)
        kept = kept._replace(reward=np.float32(dense) * kept.reward)
        return stacked(new, with_discount(kept, config.discount))

    def metrics(self) -> dict[str, float]:
        """Of the newest update, and what the schedules say."""
        return self.ddpg.numbers() | self._scheduled

    def state(self) -> dict[str, Any]:
        """``learner`` and ``kept``; every worker of a group has the same."""
        kept = {} if self.kept is None else self.kept.state()
        return {"learner": self.ddpg.state(), "kept": kept}

    def restore(self, tree: dict[str, Any]) -> None:
        """Go on where :meth:`state` was taken; raises ValueError where it does not fit.

        ``kept`` is left as it is: it never changes.
        """
        self.ddpg.restore(tree["learner"])
