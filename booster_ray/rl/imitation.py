"""DAgger: an expert is asked what it would do in the states that the learner visits, and imitated.

Ross, Gordon & Bagnell 2011, "A Reduction of Imitation Learning and Structured Prediction to
No-Regret Online Learning".
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from booster_ray.rl.sac.host import HostSac
from booster_ray.rl.sac.losses import Batch

GOLDEN = 0.5 * (5**0.5 - 1)
"""Its multiples fill [0, 1) evenly however many there are (Weyl)."""

Scheduled = Callable[[int], float]
"""What a schedule says after so many env steps."""


def mixed(own: np.ndarray, expert: np.ndarray, own_share: float) -> np.ndarray:
    """The learner's actions (n, act) in its share of the worlds, the expert's in the others."""
    rank = np.arange(1, len(own) + 1) * GOLDEN % 1.0
    return np.where((rank < own_share)[:, None], own, expert)


def noise_spread(worlds: int) -> np.ndarray:
    """Factors (worlds, 1) of mean 1, evenly from 0 to 2, by which worlds explore.

    Some worlds stay close to the policy, and some show what it never does (Seo et al. 2025,
    "FastTD3": mixed noise).
    """
    return (2.0 * (np.arange(worlds) + 0.5) / worlds)[:, None]


class Imitation:
    """A learner of :mod:`booster_ray.train.host_collector` that needs an expert.

    In some worlds the expert acts, in the others the learner, with noise in both; the actor's
    mean is regressed on what the expert would do in all of them. Transitions in the replay have
    that action in place of the one that was played: nothing but the actor learns from them.

    Args:
        sac: whose actor learns.
        own_share: share of the worlds in which the learner acts.
        noise: standard deviation of the noise, mean over the worlds.
        lr: learning rate.
    """

    def __init__(
        self, sac: HostSac, *, own_share: Scheduled, noise: Scheduled, lr: Scheduled
    ) -> None:
        self._sac, self._own_share, self._noise, self._lr = sac, own_share, noise, lr
        self.replay, self.starts = sac.replay, sac.starts
        self.act, self.metrics, self.state, self.restore = (
            sac.act, sac.metrics, sac.state, sac.restore
        )  # fmt: skip

    def explore(
        self,
        observation: np.ndarray,
        expert: np.ndarray | None,
        env_steps: int,
        rng: np.random.Generator,
    ) -> np.ndarray:
        """The learner's mean action or the expert's, with noise."""
        assert expert is not None
        # The samples are not played, but the normalization takes the observations in.
        self._sac.explore(observation, expert, env_steps, rng)
        mean = self.act(observation)
        noise = rng.standard_normal(mean.shape) * noise_spread(len(mean))
        played = mixed(mean, expert, self._own_share(env_steps))
        return np.clip(played + self._noise(env_steps) * noise, -1.0, 1.0)

    def relabel(self, batch: Batch) -> Batch:
        """Transitions are stored with the expert's action."""
        return batch._replace(action=batch.demonstrated)

    def update(self, env_steps: int, rng: np.random.Generator) -> None:
        """Begin ``updates_per_step`` updates of the actor."""
        self._sac.imitate(self._lr(env_steps), rng)
