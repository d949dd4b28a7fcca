"""What a sweep is expected to take; reads a few files, starts and writes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from booster_ray.config import Config, ConfigError, Sweep, load
from booster_ray.config.experiments import EXPERIMENT
from booster_ray.config.trees import leaves
from booster_ray.store.files import CONFIG, TRIALS, further_runs, last_report
from booster_ray.store.folder import storage_path
from booster_ray.tune.budget import read_spent
from booster_ray.tune.live import duration

LISTED = 40
"""Lines of trials that a plan shows at most."""
NEWEST = 30
"""Earlier runs looked at for their rate."""
ASSUMED_PER_CPU = 800.0
"""Env steps/s of one CPU, where nothing better is known: half of what two CPUs were measured to
do with 64 native worlds (benchmarks/README.md)."""


@dataclass(frozen=True)
class Plan:
    """Expectations of what is left of a sweep."""

    config: Config
    what: str
    """What the trials are: drawn by a sampler, or a list of experiments."""
    listed: tuple[str, ...]
    """A line for each trial, where they are listed."""
    trials: int
    """In the whole sweep."""
    seeds: int
    """Runs of each."""
    steps_left: int
    """Env steps of all trials that are not done."""
    longest: int
    """Env steps of the longest run."""
    at_once: int
    """Trials at a time."""
    rate: float
    """Env steps/s of one trial, evaluations included."""
    rate_from: str
    """Where the rate comes from."""
    hours_spent: float
    trial_hours_spent: float

    @property
    def trial_hours(self) -> float:
        """Of the trials that are left, summed."""
        return self.steps_left / self.rate / 3600

    @property
    def hours(self) -> float:
        """Until the sweep is complete."""
        # The last round of trials is not shorter for being incomplete.
        per_trial = self.seeds * self.longest / self.rate / 3600
        return max(self.trial_hours / self.at_once, min(per_trial, self.trial_hours))

    @property
    def cost(self) -> float | None:
        """Of the trials that are left; None without a price."""
        price = self.config.tune.price_per_hour
        return None if price is None else price * self.trial_hours


def plan(sweep: Sweep, root: Path | None) -> Plan:
    """Look at the config, the machine and earlier runs.

    Args:
        sweep: a checked config.
        root: the sweep's folder, if it has begun.
    """
    config = sweep.base()
    trials, seeds = config.tune.trials, config.tune.seeds
    budgets = [sweep.env_steps(point) for point in sweep.points]
    budgets = budgets or [config.training.env_steps] * trials
    rate, source = _rate(config, root)
    hours, trial_hours = read_spent(root) if root else (0.0, 0.0)
    return Plan(
        config=config,
        what=_what(sweep),
        listed=tuple(_line(sweep, number, point) for number, point in enumerate(sweep.points)),
        trials=trials,
        seeds=seeds,
        steps_left=max(0, seeds * sum(budgets) - sum(_done(root, max(budgets)))),
        longest=max(budgets),
        at_once=at_once(config),
        rate=rate,
        rate_from=source,
        hours_spent=hours,
        trial_hours_spent=trial_hours,
    )


def at_once(config: Config) -> int:
    """Trials of a sweep that this machine runs at a time."""
    return max(1, min(config.tune.trials, config.tune.max_concurrent or _fitting(config)))


def print_plan(planned: Plan, console: Console) -> None:
    """A line for each of trials, resources, time, cost and limits."""
    for line in lines(planned):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def lines(planned: Plan) -> Iterator[str]:
    """The plan as text."""
    config, tune, steps = planned.config, planned.config.tune, planned.longest
    yield f"Sweep {config.name}: a dry run, nothing is started or written"
    seeds = f"{planned.seeds} seeds of " if planned.seeds > 1 else ""
    yield (
        f"trials     {planned.trials} of {seeds}{steps:,} env steps, {planned.what}, "
        f"scheduler {tune.scheduler}"
    )
    shown = planned.listed if len(planned.listed) <= LISTED else planned.listed[: LISTED - 1]
    yield from (f"           {line}" for line in shown)
    if rest := len(planned.listed) - len(shown):
        yield f"           and {rest:,} more"
    yield f"resources  {_resources(config)}; {planned.at_once} trials at a time"
    yield f"rate       {planned.rate:,.0f} env steps/s a trial, {planned.rate_from}"
    early = "at most " if tune.scheduler == "asha" else ""
    yield (
        f"time       {early}{duration(planned.hours * 3600)}, {early}{planned.trial_hours:.3g} "
        f"trial-hours, start-up not counted" + _already(planned)
    )
    cost = planned.cost
    price = f"at {tune.price_per_hour:g} a trial-hour" if cost is not None else ""
    yield (
        f"cost       {early}{cost:.4g} {price}"
        if cost is not None
        else ("cost       unknown, set tune.price_per_hour")
    )
    yield f"limits     {_limits(planned)}"


def _what(sweep: Sweep) -> str:
    """How a sweep comes by the settings of its trials."""
    searched = len(sweep.space)
    if sweep.experiments:
        grid = f", settings on grids: {searched - 1}" if searched > 1 else ""
        return f"{len(sweep.experiments)} experiments{grid}"
    if sweep.points:
        return f"{searched} settings on a grid"
    return f"{searched} settings searched ({sweep.base().tune.sampler})"


def _line(sweep: Sweep, number: int, point: Mapping[str, Any]) -> str:
    """One listed trial: its number, its experiment, and what is its own."""
    name = point.get(EXPERIMENT)
    own: dict[str, Any] = {}
    if isinstance(name, str):
        overrides = sweep.experiments[name].overrides
        own = {".".join(key): value for key, value in leaves(overrides)}
    own |= {key: value for key, value in point.items() if key != EXPERIMENT}
    told = " ".join(f"{key}={_short(value)}" for key, value in own.items())
    return " ".join(filter(None, (f"{number:04d}", name, told)))


def _short(value: Any) -> str:
    """As an override on the command line has it."""
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value


def _already(planned: Plan) -> str:
    if not planned.hours_spent:
        return ""
    return f" ({planned.hours_spent:.3g} h and {planned.trial_hours_spent:.3g} trial-hours so far)"


def _resources(config: Config) -> str:
    trainer = config.trainer
    where = "a Ray Train worker" if trainer.workers else "the trial's own process"
    gpu = f" and {config.gpus():g} GPU" if trainer.use_gpu else ""
    return f"{trainer.cpus} CPU{gpu} in {where}"


def _limits(planned: Plan) -> str:
    tune, price = planned.config.tune, planned.config.tune.price_per_hour or 0.0
    found = []
    if tune.max_hours is not None:
        total = planned.hours_spent + planned.hours
        found.append(_limit("max_hours", total, tune.max_hours))
    if tune.max_cost is not None:
        total = price * (planned.trial_hours_spent + planned.trial_hours)
        found.append(_limit("max_cost", total, tune.max_cost))
    return ", ".join(found) or "none (tune.max_hours, tune.max_cost)"


def _limit(name: str, expected: float, limit: float) -> str:
    verdict = "stops the sweep before its end" if expected > limit else "is not reached"
    return f"tune.{name} {limit:g} {verdict}"


def _fitting(config: Config) -> int:
    """Trials that this machine's CPUs hold; what a cluster holds, only the cluster knows."""
    return len(os.sched_getaffinity(0)) // config.trainer.cpus


def _done(root: Path | None, budget: int) -> Iterator[int]:
    """Env steps of each run that has begun."""
    for directory in _runs(root):
        if report := last_report(directory):
            yield min(int(report["env_steps"]), budget)


def _runs(root: Path | None) -> list[Path]:
    """The folders of a sweep's runs, those of trials' further seeds among them."""
    trials = sorted(root.glob(f"{TRIALS}/*")) if root else []
    return [run for trial in trials for run in (trial, *further_runs(trial))]


def _rate(config: Config, root: Path | None) -> tuple[float, str]:
    """Env steps/s of one trial, and how we know."""
    own = [rate for run in _runs(root) if (rate := _measured(run))]
    if own:
        return median(own), "measured in this sweep's trials"
    storage = storage_path(config.storage)
    configs = [*storage.glob(f"*/{CONFIG}"), *storage.glob(f"*/trials/*/{CONFIG}")]
    newest = sorted(configs, key=lambda path: path.stat().st_mtime, reverse=True)[:NEWEST]
    alike = [r for p in newest if _alike(p, config) and (r := _measured(p.parent))]
    if alike:
        return median(alike), f"measured in {len(alike)} earlier runs in {storage}"
    assumed = ASSUMED_PER_CPU * config.trainer.cpus
    return assumed, f"assumed: {ASSUMED_PER_CPU:g} a CPU, as no run in {storage} is alike"


def _measured(directory: Path) -> float | None:
    report = last_report(directory)
    if not report or not report.get("wall_seconds") or not report["env_steps"]:
        return None
    return report["env_steps"] / report["wall_seconds"]


def _alike(path: Path, config: Config) -> bool:
    """Whether a run's config costs as much per env step as this one."""
    try:
        other = load(path).base()
    except ConfigError:
        return False
    names = ("world", "tasks", "sac", "control", "observation", "evaluation")
    same = all(getattr(other, name) == getattr(config, name) for name in names)
    return same and other.trainer.cpus == config.trainer.cpus
