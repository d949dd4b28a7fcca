"""One trial: a run in its own directory, bound to Ray Tune or to a Ray Train worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.trainable import wrap_function

from booster_ray.config import Config
from booster_ray.runtime.environment import settle
from booster_ray.runtime.signals import forward_signals
from booster_ray.store.durable import replace_text
from booster_ray.store.failure import WAITING, last_env_steps, note_stderr, recorded
from booster_ray.store.files import CONFIG, FAILURE_FILES, STOP_FILE
from booster_ray.store.folder import publish, work_in
from booster_ray.train.preemption import train_preemptibly
from booster_ray.train.stall import ended_if_stalled


def trial_directory(root: Path, number: int) -> Path:
    """Where trial ``number`` of the sweep in ``root`` keeps its work."""
    return root / "trials" / f"{number:04d}"


def run_trial(config: dict[str, Any]) -> None:
    """One attempt at a trial, from its newest checkpoint on.

    ``config``: ``root`` (the sweep's folder on the driver's machine), its ``storage`` and ``name``,
    ``number`` and ``params`` (the suggestion), ``attempt`` (its id), ``typed_in`` (see
    :func:`booster_ray.store.folder.work_in`), and for a member of a population ``until``, the env
    steps at which its generation ends. ``claims`` is for :class:`TrialProcess`.

    Raises:
        Preempted: it saved and made way; like all that is raised here, for another attempt.
    """
    from booster_ray.store.sweep_mirror import sweep_on_this_machine

    work_in(config["typed_in"])
    settle()
    sweep, root = sweep_on_this_machine(config)
    directory = trial_directory(root, config["number"])
    note_stderr(sweep.base(), directory, WAITING)
    with _recorded(sweep.base(), directory):
        resolved = sweep.resolve(config["params"])
    if "until" in config:
        # The search has decided with what this member goes on; its last config is history.
        resolved = _until(resolved, config["until"])
        directory.mkdir(parents=True, exist_ok=True)
        replace_text(directory / CONFIG, resolved.to_yaml())
    attempt, stop_file = config["attempt"], root / STOP_FILE
    if resolved.trainer.workers:
        from ray.tune.integration.ray_train import TuneReportCallback

        from booster_ray.train.ray_train import fit_in_worker

        fit_in_worker(resolved, directory, stop_file, [TuneReportCallback()], attempt)
    else:
        train_preemptibly(resolved, directory, stop_file, tune.report, attempt)
    finished = last_env_steps(directory) >= resolved.training.env_steps
    if finished and "robustness" in resolved.tune.objectives:
        from booster_ray.store.files import ROBUSTNESS
        from booster_ray.tune.robustness import measure_robustness

        with _recorded(resolved, directory), ended_if_stalled(resolved, directory, attempt):
            measure_robustness(resolved, directory)
        publish(resolved, directory / ROBUSTNESS)


@contextmanager
def _recorded(config: Config, directory: Path) -> Iterator[None]:
    """What fails outside the run itself is written down like what fails in it."""
    try:
        with recorded(directory):
            yield
    except Exception:
        for name in FAILURE_FILES:
            with suppress(OSError):
                publish(config, directory / name)
        raise


def _until(config: Config, env_steps: int) -> Config:
    """A member's config up to the end of a generation; another may go on from its replay."""
    training = config.training.model_copy(update={"env_steps": env_steps})
    keep = config.checkpoint.keep_replay or env_steps < config.training.env_steps
    checkpoint = config.checkpoint.model_copy(update={"keep_replay": keep})
    return config.model_copy(update={"training": training, "checkpoint": checkpoint})


class TrialProcess(wrap_function(run_trial)):  # type: ignore[misc]
    """Ray Tune's trainable: :func:`run_trial` in a thread, beside which signals are heard."""

    def setup(self, config: dict[str, Any]) -> None:
        """Called in the process's main thread, the only one that may handle signals."""
        forward_signals()
        super().setup(config)

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """What the process claims of a node: ``claims``."""
        return tune.PlacementGroupFactory([config["claims"]])
