"""A run on Ray Train workers that goes on when one of them is lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from booster_ray.config import Config
from booster_ray.store.failure import forget_failure, read_failure
from booster_ray.store.last_words import forget_stderr, last_words
from booster_ray.train.ray_train import fit_in_worker


class WorkerDied(RuntimeError):
    """A worker's process or machine vanished, more often than it may; its last words, if any."""

    of_others = True


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
        ray.train.TrainingFailedError: the run failed; its folder says why.
        WorkerDied: workers were lost too often.
        Preempted: see :func:`fit_in_worker`.
    """
    from ray.train import TrainingFailedError

    for left in range(config.tune.max_failures, -1, -1):
        forget_failure(directory)
        forget_stderr(directory)
        try:
            return fit_in_worker(config, directory, stop_file, callbacks)
        except TrainingFailedError as error:
            if not worker_lost(error, directory):
                raise
            words = last_words(directory)
            if not left:
                text = f"a worker's process died{f': {words}' if words else ''}"
                forget_failure(directory)  # a severed connection is no cause
                raise WorkerDied(text) from error
            said = f" It said last: {words}" if words else ""
            say(f"A worker was lost: going on from the last checkpoint with new ones.{said}")


def worker_lost(error: Exception, directory: Path) -> bool:
    """Whether Ray Train failed because a worker's process or machine vanished.

    Either Ray says so, or a worker that is left, in the run's directory: not an error's text.
    """
    from ray.exceptions import RayActorError

    failure = read_failure(directory)
    if failure is not None:
        return failure.how == "died"
    failures = list(getattr(error, "worker_failures", {}).values())
    # Ray Train wraps what its polls of a worker raise.
    return any(isinstance(getattr(f, "health_check_failure", f), RayActorError) for f in failures)
