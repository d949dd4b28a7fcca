"""A run on Ray Train workers that goes on when one of them is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from booster_ray.config import Config
from booster_ray.train.ray_train import fit_in_worker

_SEVERED = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")
"""What the collectives of the workers that are left complain of."""


def fit_surviving(
    config: Config,
    directory: Path,
    stop_file: Path,
    callbacks: Sequence[Any] = (),
    say: Callable[[str], object] = print,
) -> None:
    """:func:`fit_in_worker`, begun again from the last checkpoint when a worker is lost.

    That may happen ``tune.max_failures`` times; what the run itself raises ends it at once.

    Raises:
        ray.train.TrainingFailedError: the run failed, or workers were lost too often.
        Preempted: see :func:`fit_in_worker`.
    """
    from ray.train import TrainingFailedError

    for left in range(config.tune.max_failures, -1, -1):
        try:
            return fit_in_worker(config, directory, stop_file, callbacks)
        except TrainingFailedError as error:
            if not left or not worker_lost(error):
                raise
            say("A worker was lost: going on from the last checkpoint with new ones.")


def worker_lost(error: Exception) -> bool:
    """Whether Ray Train failed because a worker's process or machine vanished."""
    from ray.exceptions import RayActorError

    failures = list(getattr(error, "worker_failures", {}).values())
    # Ray Train wraps what its polls of a worker raise.
    if any(isinstance(getattr(f, "health_check_failure", f), RayActorError) for f in failures):
        return True
    return any(word in str(one).lower() for one in failures for word in _SEVERED)
