"""The observations' running mean and deviation, where finetuning starts from nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from booster_ray.rl.ddpg.team import Team


class Statistics:
    """What :class:`booster_ray.rl.normalizer.Normalizer` holds, for a team; float64.

    Args:
        size: numbers in an observation.
    """

    def __init__(self, size: int) -> None:
        self._seen, self._mean, self._square = 0.0, np.zeros(size), np.zeros(size)

    @property
    def mean(self) -> np.ndarray:
        """float32 (obs,)."""
        return self._mean.astype(np.float32)

    def deviation(self) -> np.ndarray:
        """Standard deviation, 1 where nothing has varied yet. float32 (obs,)."""
        variance = self._square / max(self._seen, 1.0)
        spread = np.sqrt(np.maximum(variance, 0.0))
        return np.where(variance > 1e-6, spread, 1.0).astype(np.float32)

    def update(self, batch: np.ndarray, team: Team) -> None:
        """Merge every worker's batch (n, obs), of equal size (Chan et al. 1979)."""
        mean = batch.mean(axis=0, dtype=np.float64)
        power = (batch.astype(np.float64) ** 2).mean(axis=0)
        moments = [torch.from_numpy(mean), torch.from_numpy(power)]
        team.average(moments)
        mean, power = (moment.numpy() for moment in moments)
        n = float(len(batch) * team.size)
        count, delta = self._seen + n, mean - self._mean
        self._mean = self._mean + delta * n / count
        self._square = self._square + n * (power - mean**2) + delta**2 * self._seen * n / count
        self._seen = count

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"seen": self._seen, "mean": self._mean.copy(), "square": self._square.copy()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state` was taken; raises ValueError where it lacks something."""
        if missing := {"seen", "mean", "square"} - state.keys():
            raise ValueError(f"checkpoint leaf statistics.{min(missing)} is missing")
        self._seen = float(state["seen"])
        self._mean, self._square = np.array(state["mean"]), np.array(state["square"])
