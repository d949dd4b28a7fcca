"""One trial: a run in its own directory, bound to Ray Tune or to a Ray Train worker."""

from __future__ import annotations

import gc
import math
import os
from typing import Any

from ray import tune
from ray.tune.trainable import wrap_function

from booster_ray.config import Config
from booster_ray.runtime.environment import settle
from booster_ray.runtime.seeding import stream_seed
from booster_ray.runtime.signals import forward_signals
from booster_ray.runtime.watchdog import allowing
from booster_ray.store.address import Address, recorded_there
from booster_ray.store.failure import WAITING, note_stderr
from booster_ray.store.files import ROBUSTNESS
from booster_ray.store.folder import publish, work_in
from booster_ray.store.sweep_mirror import sweep_here
from booster_ray.train.attempt import Attempt, train_here
from booster_ray.train.nodes import avoiding
from booster_ray.train.stall import ended_if_stalled

ENDING_SECONDS = 60
"""How long a process may take to end one trial before it begins another."""


def run_trial(config: dict[str, Any]) -> None:
    """One attempt at a trial, from its newest checkpoint on.

    ``config``: the sweep's ``storage`` and ``name`` (see :class:`Address`),
    ``number`` and ``params`` (the suggestion), ``attempt`` (its id), ``typed_in`` (see
    :func:`booster_ray.store.folder.work_in`), ``repeat`` (which of the trial's seeds), and for a
    member of a population ``until``, the env steps at which its generation ends. ``avoid``
    (machines that cannot work) and ``claims`` say where :class:`TrialProcess` is placed.

    Raises:
        Preempted: it saved and made way; like all that is raised here, for another attempt.
    """
    work_in(config["typed_in"])
    settle()
    repeat = config.get("repeat", 0)
    address = Address(config["storage"], config["name"], config["number"], repeat)
    sweep, directory = sweep_here(address), address.directory
    with recorded_there(sweep.base(), directory):
        address.begin_attempt()
        note_stderr(sweep.base(), directory, WAITING)
        resolved = _seeded(sweep.resolve(config["params"]), repeat)
    if "until" in config:
        resolved = _until(resolved, config["until"])
    # The search has decided with what a population's member goes on; its last config is history.
    avoid = tuple(config["avoid"])
    attempt = Attempt(resolved, address, config["attempt"], avoid, anew="until" in config)
    after = measure if "robustness" in resolved.tune.objectives else None
    if resolved.trainer.workers:
        from ray.tune.integration.ray_train import TuneReportCallback

        from booster_ray.train.ray_train import fit_in_worker

        fit_in_worker(attempt, [TuneReportCallback()], after)
    else:
        train_here(attempt, report, after=after)


def report(metrics: dict[str, Any]) -> None:
    """Tell Ray Tune, and wait for what it decides.

    Of a trial that the scheduler stops nothing more is heard here until its process is given
    another one, however long that takes; then it ends. So this is no stall.
    """
    with allowing(math.inf):
        tune.report(metrics)


def measure(attempt: Attempt) -> None:
    """Where the run has been finished: its robustness."""
    from booster_ray.tune.robustness import measure_robustness

    config, directory = attempt.config, attempt.address.directory
    with ended_if_stalled(config, directory, attempt.id):
        measure_robustness(config, directory)
    publish(config, directory / ROBUSTNESS)


def _seeded(config: Config, repeat: int) -> Config:
    """The config of a trial's further run, which has a seed of its own."""
    if not repeat:
        return config
    return config.model_copy(update={"seed": stream_seed(config.seed, "seeds", repeat)})


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

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Serve the next attempt in the process of one that has ended: all is compiled here.

        One that the scheduler stops may be saving yet, so it is given time to end. Where it does
        not, the attempt that was to begin here is made again in another process. What it held in
        circles of references, such as device memory, goes before the next begins.
        """
        os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = str(ENDING_SECONDS)
        ended: bool = super().reset_config(new_config)
        gc.collect()
        return ended

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """What the process claims of a node, ``claims``, and which it must not be."""
        chosen = [avoiding(avoid)] if (avoid := tuple(config["avoid"])) else None
        return tune.PlacementGroupFactory([config["claims"]], bundle_label_selector=chosen)
