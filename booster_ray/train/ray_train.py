"""Ray for runs: the cluster they use, and the same run under a Ray Train worker, retried."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from booster_ray.config import Config
from booster_ray.runtime.environment import settle, worker_environment
from booster_ray.runtime.signals import shielded
from booster_ray.store.address import Address, recorded_there
from booster_ray.store.failure import (
    forget_failure,
    forget_stderr,
    last_words,
    note_stderr,
    read_failure,
)
from booster_ray.store.folder import work_in
from booster_ray.store.sweep_mirror import collect_run
from booster_ray.train.attempt import After, Attempt, train_here
from booster_ray.train.nodes import avoiding
from booster_ray.train.ray_cluster import begin_ray

if TYPE_CHECKING:
    from booster_ray.rl.ddpg.team import Team


def available_cpus() -> int:
    """Cores that this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0))


def connect(config: Config, address: str | None) -> None:
    """Join the cluster at ``address``, or start one on this machine that ends with this process.

    Workers get the runtime's environment before they import anything.

    Raises:
        ConfigError: the cluster is out of reach, or cannot be started.
    """
    # Workers stay where Ray begins them, see folder.work_in.
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    # Of a job that brings variables of its own; Ray would refuse to set one of them again.
    os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
    with shielded():
        begin_ray(
            address,
            available_cpus(),
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"env_vars": worker_environment(config, address)},
        )


def resources(config: Config) -> dict[str, float]:
    """What the process that trains claims of its node."""
    return {"CPU": config.trainer.cpus, **({"GPU": gpus} if (gpus := config.gpus()) else {})}


def slots(one: Mapping[str, float], claim: Mapping[str, float]) -> int:
    """How often a machine holds a claim; of a GPU's tenths there are ten."""
    return min(math.floor(one.get(key, 0.0) / n + 1e-6) for key, n in claim.items())


def fit_in_worker(
    attempt: Attempt, callbacks: Sequence[Any] = (), after: After | None = None
) -> None:
    """Run under Ray Train workers; ``callbacks`` are Ray Train's and hear every report.

    The checkpoint is the run's own, so a run may change its binding on resume. The workers find the
    run's folder on their own machines; what they leave of records is fetched when they have ended.
    While this waits, a signal or another notice that this process gets makes them save and end.
    ``after`` is called by the first of them when the run is finished.

    Raises:
        ray.train.TrainingFailedError: a worker failed.
        Preempted: the run was saved and ended because of a notice.
    """
    from ray import train

    from booster_ray.store.attempts import attempt_ended
    from booster_ray.train.preemption import Preempted, Watch

    config, address, directory = attempt.config, attempt.address, attempt.address.directory
    with tempfile.TemporaryDirectory(prefix="booster_ray-") as scratch:
        trainer = _trainer(
            config,
            train_loop_config={
                "attempt": attempt,
                "after": after,
                "typed_in": os.getcwd(),
            },
            scaling_config=train.ScalingConfig(
                num_workers=config.trainer.workers,
                use_gpu=config.trainer.use_gpu,
                resources_per_worker=resources(config),
                label_selector=avoiding(attempt.avoid) or None,
            ),
            # What Ray Train would keep of the run for itself, nobody reads.
            run_config=train.RunConfig(
                name="ray_train", storage_path=scratch, callbacks=list(callbacks)
            ),
        )
        # Ray's handler of Ctrl-C would end the workers; ours lets them save.
        trainer._register_sigint_handler = lambda controller: None
        with Watch(config.trainer, address.ask_to_make_way):
            try:
                trainer.fit()
            except train.TrainingFailedError as error:
                collect_run(config, directory)
                ended = attempt_ended(directory, attempt.id)
                if ended and ended["how"] == "preempted":
                    raise Preempted(ended["text"]) from error
                raise
    collect_run(config, directory)


def _trainer(config: Config, **settings: Any) -> Any:
    """Ray Train's trainer for a config's stage."""
    if config.stage == "finetune":
        from ray.train.torch import TorchTrainer

        from booster_ray.train.ray_torch import ListeningTorch

        return TorchTrainer(_work, torch_config=ListeningTorch(), **settings)
    from ray.train.v2.jax import JaxTrainer

    from booster_ray.train.ray_jax import ListeningJax

    # JaxTrainer would renumber CUDA_VISIBLE_DEVICES from 0, so that trials met on one GPU; left
    # off here, each worker keeps the GPU that Ray assigned to it.
    jax_config = ListeningJax(use_gpu=False, use_tpu=False)
    return JaxTrainer(_work, jax_config=jax_config, **settings)


def _work(loop_config: dict[str, Any]) -> None:
    """What a worker runs."""
    from ray import train

    work_in(loop_config["typed_in"])
    settle()
    attempt: Attempt = loop_config["attempt"]
    config, directory = attempt.config, attempt.address.directory
    if config.trainer.workers == 1:
        note_stderr(config, directory, "0")
        train_here(attempt, train.report, after=loop_config["after"])
        return

    from booster_ray.rl.ddpg.team import current_team
    from booster_ray.train.group import TeamNotice, announce

    team = current_team()
    note_stderr(config, directory, str(team.rank))
    if team.rank > 0:
        _follow(attempt, team)
        return
    train_here(attempt, announce(team, train.report), [TeamNotice(team)], loop_config["after"])


def _follow(attempt: Attempt, team: Team) -> None:
    """The leader alone saves: a notice that another worker gets is passed on to it."""
    from ray import train

    from booster_ray.train.finetune import make_collector
    from booster_ray.train.group import follow
    from booster_ray.train.preemption import Watch
    from booster_ray.train.stall import ended_if_stalled

    config, directory = attempt.config, attempt.address.directory
    with (
        recorded_there(config, directory),
        Watch(config.trainer, team.give_notice),
        ended_if_stalled(config, directory, attempt.id),
    ):
        follow(make_collector(config, None, team), lambda: train.report({}))


class WorkerDied(RuntimeError):
    """A worker's process or machine vanished, more often than it may; its last words, if any."""

    of_others = True


def fit_surviving(
    config: Config,
    address: Address,
    callbacks: Sequence[Any] = (),
    say: Callable[[str], object] = print,
    avoid: Callable[[], tuple[str, ...]] = tuple,
) -> None:
    """:func:`fit_in_worker`, begun again from the last checkpoint when a worker is lost.

    That may happen ``tune.max_failures`` times; what the run itself raises ends it at once.
    ``avoid``: the machines that cannot work now.

    Raises:
        ray.train.TrainingFailedError: the run failed; its folder says why.
        WorkerDied: workers were lost too often.
        Preempted: see :func:`fit_in_worker`.
    """
    from ray.train import TrainingFailedError

    from booster_ray.store.attempts import new_attempt

    directory = address.directory
    for left in range(config.tune.max_failures, -1, -1):
        forget_failure(directory)
        forget_stderr(directory)
        address.begin_attempt()
        try:
            attempt = Attempt(config, address, new_attempt(directory), avoid())
            return fit_in_worker(attempt, callbacks)
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
