"""SAC pretraining: collect and learn; report, evaluate and save now and then."""

from __future__ import annotations

import json
import threading
import time

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.make import make_dynamics, make_world
from booster_ray.evaluate.scores import Interrupted, make_evaluator
from booster_ray.rl import guards
from booster_ray.rl.guards import EntropyWatch
from booster_ray.rl.sac.learner import Sac
from booster_ray.train.collect import Engine, HostEngine
from booster_ray.train.learner import make_learner
from booster_ray.train.report import Loop, Report, TrainingDiverged, Tree


def make_engine(config: Config, threads: int) -> tuple[Sac, Engine]:
    """The learner's functions, and what a config's worlds ask for: the host's loop or a fused one.

    Raises:
        ConfigError: the config's environment cannot be made.
    """
    if not config.world.on_device:
        world = make_world(config, threads)
        sac = make_learner(config, world.observation_size, world.action_size)
        if config.imitation.demonstrator is not None:
            from booster_ray.train.imitation import ImitationEngine

            return sac, ImitationEngine(config, sac, world)
        return sac, HostEngine(config, sac, world)
    from booster_ray.train.fused import DeviceEngine

    dynamics = make_dynamics(config)
    sac = make_learner(config, dynamics.observation_size, dynamics.action_size)
    return sac, DeviceEngine(config, sac, dynamics)


OWED = "owed"
"""In a state tree, as JSON: what the report at its env step says so far, if its evaluation is
due."""


def owed(tree: Tree) -> dict[str, float] | None:
    """The report that a restored run has to finish first; None: none."""
    return json.loads(tree[OWED]) if OWED in tree else None


class Pretraining:
    """Everything one run owns; iterate it to train.

    Args:
        config: a resolved config.
        restored: a tree from an earlier :attr:`Report.capture` of the same config.
        interrupt: while set, every advance of the engine is followed by a report, and evaluations
            are left to the run that goes on from there.

    Raises:
        ConfigError: the config's environment cannot be made.
        ValueError: ``restored`` does not fit the config.
        TrainingDiverged: while iterating, when a loss explodes or stops being finite.
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
        self._sac, self._engine = make_engine(config, threads)
        self._evaluator = make_evaluator(config, threads)
        self._watch = EntropyWatch()
        self._env_steps = 0
        self._owed: dict[str, float] | None = {}
        """What a report says that waits for its evaluation; None: none does. So begins a run."""
        if restored is not None:
            self._owed = owed(restored)
            self._restore(restored)

    def __iter__(self) -> Loop:
        config, engine = self._config, self._engine
        if self._owed is not None:
            yield self._report(self._evaluated(self._owed), saved=self._env_steps)
            if self._owed is not None:
                return
        saved, started, began = self._env_steps, time.monotonic(), self._env_steps
        while not self.finished:
            engine.advance(self._env_steps)
            self._env_steps += engine.stride
            on_time = self._crossed(config.training.report_every)
            if not (on_time or self._interrupt.is_set()):
                continue
            report = self._checked(engine.numbers(), on_time)
            elapsed = time.monotonic() - started
            report["env_steps_per_second"] = (self._env_steps - began) / max(elapsed, 1e-9)
            if self._crossed(config.evaluation.every):
                report = self._evaluated(report)
            due = self._report(report, saved)
            saved = self._env_steps if due.checkpoint_due else saved
            yield due
            if due.unfinished:
                return
            # Time spent by whoever listens (saving, drawing) is not training time.
            started, began = time.monotonic(), self._env_steps

    @property
    def finished(self) -> bool:
        """Whether the budget of env steps is spent, and no evaluation is due."""
        return self._env_steps >= self._config.training.env_steps and self._owed is None

    def _crossed(self, every: int) -> bool:
        """Whether the last advance crossed a multiple of ``every``, or was the last."""
        before = self._env_steps - self._engine.stride
        return self.finished or self._env_steps // every > before // every

    def _checked(self, numbers: dict[str, float], on_time: bool) -> dict[str, float]:
        """The engine's numbers, with a verdict on the entropy; raises TrainingDiverged."""
        if what := guards.divergence(numbers):
            raise TrainingDiverged(what, self._env_steps)
        sac = self._config.sac
        watch = guards.watch_entropy(
            self._watch, numbers, sac.target_entropy, self._engine.action_size
        )
        if on_time:  # a report out of turn, before a stop, must not change what follows
            self._watch = watch
        collapse = {"entropy_collapsed": float(guards.collapsed(watch))}
        return numbers | (collapse if "entropy" in numbers else {})

    def _evaluated(self, report: dict[str, float]) -> dict[str, float]:
        """A report with the scores of the policy as it is now, unless that was cut short."""
        self._owed = None
        try:
            return report | self._evaluate()
        except Interrupted:
            self._owed = report
            return report

    def _evaluate(self) -> dict[str, float]:
        learner = self._engine.learner

        def policy(observation: np.ndarray) -> np.ndarray:
            return np.asarray(self._sac.act_mean(learner, observation))

        return self._evaluator.metrics(policy, self._interrupt)

    def _report(self, metrics: dict[str, float], saved: int) -> Report:
        every = self._config.checkpoint.every_env_steps
        due = self.finished or self._env_steps - saved >= every
        told = {"env_steps": self._env_steps, **metrics}
        return Report(told, self._capture, due, unfinished=self._owed is not None)

    # -- checkpoint --------------------------------------------------------------------------

    def _capture(self) -> Tree:
        watched = {"low_entropy_reports": self._watch.reports}
        due = {} if self._owed is None else {OWED: json.dumps(self._owed)}
        return {**self._engine.state(), **watched, "env_steps": self._env_steps, **due}

    def _restore(self, tree: Tree) -> None:
        self._env_steps = tree["env_steps"]
        self._watch = EntropyWatch(tree["low_entropy_reports"])
        self._engine.restore(tree, self._env_steps)

    def close(self) -> None:
        """Stop the physics threads."""
        self._engine.close()
        self._evaluator.close()
