"""The training loop of every algorithm: collect and learn; report, evaluate and save at times."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from booster_ray.config import Config
from booster_ray.evaluate.scores import Interrupted, make_evaluator
from booster_ray.rl import guards
from booster_ray.rl.guards import EntropyWatch
from booster_ray.runtime.compile_clock import CLOCK
from booster_ray.runtime.watchdog import progress
from booster_ray.store.checkpoint import Tree
from booster_ray.train.collector import Collector
from booster_ray.train.report import RATES, Loop, Report, TrainingDiverged

OWED = "owed"
"""In a state tree, as JSON: what the report at its env step says so far, if its evaluation is
due."""
REPORTED = "reported"
"""In a state tree: env steps at the last report on time, up to which evaluations are settled."""


def make_collector(config: Config, restored: Tree | None = None) -> Collector:
    """The worlds and the algorithm that a config asks for; JAX or torch load here.

    Args:
        config: a resolved config.
        restored: what the collector is about to be restored from, if anything.

    Raises:
        ConfigError: the config's environment cannot be made, or ``start_from`` is no policy of
            this config.
        CheckpointError: ``start_from`` is damaged.
    """
    if config.stage == "finetune":
        from booster_ray.rl.ddpg.team import current_team
        from booster_ray.train import finetune

        return finetune.make_collector(config, restored, current_team())
    if config.stage == "clone":
        from booster_ray.train import clone

        return clone.make_collector(config)
    from booster_ray.train import pretrain

    return pretrain.make_collector(config)


class Runner:
    """Everything one run owns; iterate it to train.

    Args:
        config: a resolved config.
        restored: a tree from an earlier :attr:`Report.capture` of the same config.
        interrupt: while set, every advance of the collector is followed by a report, and
            evaluations are left to the run that goes on from there.

    Raises:
        ConfigError, CheckpointError: see :func:`make_collector`.
        ValueError: ``restored`` does not fit the config.
        TrainingDiverged: while iterating, when a loss explodes or stops being finite.
    """

    def __init__(
        self,
        config: Config,
        restored: Tree | None = None,
        interrupt: threading.Event | None = None,
    ) -> None:
        CLOCK.start()
        self._config = config
        self._interrupt = interrupt or threading.Event()
        self.collector = make_collector(config, restored)
        self._evaluator = make_evaluator(config, config.world.threads or config.trainer.cpus)
        self._watch = EntropyWatch()
        self._env_steps = self._reported = 0
        self._owed: dict[str, float] | None = {}
        """What a report says that waits for its evaluation; None: none does. So begins a run."""
        if restored is not None:
            self._restore(restored)

    def __iter__(self) -> Loop:
        config, collector = self._config, self.collector
        if self._owed is not None:
            yield self._report(self._evaluated(self._owed), saved=self._env_steps)
            if self._owed is not None:
                return
        saved, started, began = self._env_steps, time.monotonic(), self._env_steps
        while not self.finished:
            collector.advance(self._env_steps)
            progress()
            self._env_steps += collector.stride
            on_time = self._crossed(config.training.report_every)
            if not (on_time or self._interrupt.is_set()):
                continue
            metrics = self._checked(collector.metrics(), on_time)
            metrics |= self._speed(started, began)
            # Never in a report out of turn, which a run that nobody interrupts does not make.
            if on_time and self._evaluation_due():
                metrics = self._evaluated(metrics)
            self._reported = self._env_steps if on_time else self._reported
            report = self._report(metrics, saved)
            saved = self._env_steps if report.checkpoint_due else saved
            yield report
            if report.unfinished:
                return
            # Time spent by whoever listens (saving, drawing) is not training time.
            started, began = time.monotonic(), self._env_steps

    def _speed(self, started: float, began: int) -> dict[str, float]:
        """Rates since ``started`` (seconds) at ``began`` (env steps), compilation apart."""
        elapsed = time.monotonic() - started
        compiling = min(CLOCK.seconds_since(started), elapsed)
        training = max(elapsed - compiling, 1e-9)
        rates = {
            "env_steps_per_second": (self._env_steps - began) / training,
            "compile_seconds": round(compiling, 3),
        }
        if self._config.stage == "clone" or self._config.imitation.demonstrator is not None:
            return rates  # their updates do not follow the control steps as below
        learner: Any = self._config.ddpg if self._config.stage == "finetune" else self._config.sac
        learned = max(0, self._env_steps - max(began, learner.learning_starts))
        updates = learned * learner.updates_per_step / self._config.world.num_envs
        return rates | {"updates_per_second": updates / training}

    @property
    def finished(self) -> bool:
        """Whether the budget of env steps is spent, and no evaluation is due."""
        return self._env_steps >= self._config.training.env_steps and self._owed is None

    def _crossed(self, every: int) -> bool:
        """Whether the last advance crossed a multiple of ``every``, or was the last."""
        before = self._env_steps - self.collector.stride
        return self.finished or self._env_steps // every > before // every

    def _evaluation_due(self) -> bool:
        """Whether a multiple of ``evaluation.every`` was reached since the last report on time.

        Evaluations are made in reports, so one whose step lies between two of them waits for the
        later. A run ends with one.
        """
        every = self._config.evaluation.every
        return self.finished or self._env_steps // every > self._reported // every

    def _checked(self, metrics: dict[str, float], on_time: bool) -> dict[str, float]:
        """The metrics, with a verdict on an entropy among them; raises TrainingDiverged."""
        if what := guards.divergence(metrics):
            raise TrainingDiverged(what, self._env_steps, RATES[self._config.stage])
        target = self._config.sac.target_entropy
        watch = guards.watch_entropy(self._watch, metrics, target, self.collector.action_size)
        if on_time:  # a report out of turn, before a stop, must not change what follows
            self._watch = watch
        collapse = {"entropy_collapsed": float(guards.collapsed(watch))}
        return metrics | (collapse if "entropy" in metrics else {})

    def _evaluated(self, metrics: dict[str, float]) -> dict[str, float]:
        """The metrics with the policy's scores as it is now, unless that was cut short."""
        self._owed = None
        try:
            return metrics | self._evaluate()
        except Interrupted:
            self._owed = metrics
            return metrics

    def _evaluate(self) -> dict[str, float]:
        return self._evaluator.metrics(self.collector.act, self._interrupt)

    def _report(self, metrics: dict[str, float], saved: int) -> Report:
        every = self._config.checkpoint.every_env_steps
        due = self.finished or self._env_steps - saved >= every
        metrics = {"env_steps": self._env_steps, **metrics}
        return Report(metrics, self._capture, due, unfinished=self._owed is not None)

    # -- checkpoint --------------------------------------------------------------------------

    def _capture(self) -> Tree:
        watched = {"low_entropy_reports": self._watch.reports, REPORTED: self._reported}
        due = {} if self._owed is None else {OWED: json.dumps(self._owed)}
        return {**self.collector.state(), **watched, "env_steps": self._env_steps, **due}

    def _restore(self, tree: Tree) -> None:
        self._env_steps = tree["env_steps"]
        self._watch = EntropyWatch(tree["low_entropy_reports"])
        self._owed = json.loads(tree[OWED]) if OWED in tree else None
        # An earlier release saved nothing of it: its evaluations are settled up to where it was.
        self._reported = tree.get(REPORTED, self._env_steps)
        self.collector.restore(tree, self._env_steps)

    def close(self) -> None:
        """Stop the threads of the collector and of the physics."""
        self.collector.close()
        self._evaluator.close()
