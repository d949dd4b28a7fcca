"""Beside one run while it trains: its machine, Ray's dashboard, and versions along the way."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from booster_ray.config import Config
from booster_ray.store.attempts import read_attempts
from booster_ray.store.files import SYSTEM, trial_name
from booster_ray.track.metrics import RayMetrics
from booster_ray.track.monitor import Monitor
from booster_ray.train.publish import Publisher

_log = logging.getLogger(__name__)


class Watching:
    """Context manager; :meth:`report` is given what the run reports. Neither raises.

    Args:
        config: a resolved config.
        directory: the run's folder; readings of the machine go to ``system.jsonl`` in it.
    """

    def __init__(self, config: Config, directory: Path) -> None:
        self._config, self._directory = config, directory
        self._monitor: Monitor | None = None
        self._publisher = Publisher(config, directory)
        self._metrics: RayMetrics | None = None
        self._preemptions = 0
        self._finished = self._failed = False

    def __enter__(self) -> Self:
        self._safely(self._begin)
        return self

    def _begin(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._monitor = Monitor(self._config.monitor, self._record, _log.info)
        self._metrics = RayMetrics(self._config, self._config.name, trial_name(self._directory))
        attempts = read_attempts(self._directory)
        self._preemptions = sum(attempt["how"] == "preempted" for attempt in attempts)

    def report(self, metrics: Mapping[str, Any], checkpoint_seconds: float) -> None:
        """A report of the run, and how long saving has held it up so far in this attempt."""
        self._safely(lambda: self._tell(metrics, checkpoint_seconds))

    def _tell(self, metrics: Mapping[str, Any], checkpoint_seconds: float) -> None:
        steps = int(metrics["env_steps"])
        self._finished = steps >= self._config.training.env_steps
        if self._monitor:
            self._monitor.observe(steps)
        if self._metrics:
            self._metrics.update(metrics, checkpoint_seconds, self._preemptions)
        self._publisher.observe(steps)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._monitor:
            self._safely(self._monitor.close)
        # Who makes way for a preemption cannot wait.
        self._safely(lambda: self._publisher.close(wait=self._finished))

    def _record(self, reading: Mapping[str, Any]) -> None:
        with (self._directory / SYSTEM).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(reading) + "\n")

    def _safely(self, do: Callable[[], object]) -> None:
        """Whatever goes wrong beside training, training goes on; it is said once."""
        try:
            do()
        except Exception:
            if not self._failed:
                self._failed = True
                _log.warning("the run is watched no more, or not wholly", exc_info=True)
