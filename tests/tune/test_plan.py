"""``--dry-run``: says what a sweep takes, and touches nothing."""

from __future__ import annotations

import json
from pathlib import Path

import driving
import pytest

from booster_ray.config import load
from booster_ray.store.files import CONFIG, PROGRESS, SPENT
from booster_ray.tune.plan import lines, plan

LIMITS = ("tune.price_per_hour=2", "tune.max_hours=1", "tune.max_cost=100", "tune.trials=4")


def record(directory: Path, config: str, env_steps: int, wall_seconds: float) -> None:
    directory.mkdir(parents=True)
    (directory / CONFIG).write_text(config)
    report = {"env_steps": env_steps, "wall_seconds": wall_seconds}
    (directory / PROGRESS).write_text(json.dumps(report) + "\n")


def test_the_rate_is_that_of_earlier_runs_alike(tmp_path: Path) -> None:
    sweep = load("debug", [f"storage={tmp_path}", "training.env_steps=36_000", *LIMITS])
    config = sweep.base()
    record(tmp_path / "one", config.to_yaml(), 100, 10.0)
    other = load("debug", ["world.num_envs=12"]).base()
    record(tmp_path / "other" / "trials" / "0000", other.to_yaml(), 100, 0.1)
    planned = plan(sweep, None)
    assert planned.rate == 10 and "1 earlier runs" in planned.rate_from
    assert planned.trial_hours == pytest.approx(4) and planned.cost == pytest.approx(8)
    text = "\n".join(lines(planned))
    assert "tune.max_hours 1 stops the sweep before its end" in text
    assert "tune.max_cost 100 is not reached" in text


def test_a_sweep_under_way_counts_what_is_left_and_what_is_spent(tmp_path: Path) -> None:
    sweep = load("debug", [f"storage={tmp_path}", "training.env_steps=3600", *LIMITS])
    root = tmp_path / "debug"
    record(root / "trials" / "0000", sweep.base().to_yaml(), 3600, 3600.0)
    (root / SPENT).write_text('{"hours": 0.9, "trial_hours": 1.8}')
    planned = plan(sweep, root)
    assert planned.rate == 1 and planned.steps_left == 3 * 3600
    assert planned.trial_hours == pytest.approx(3) and planned.hours_spent == 0.9


def test_the_command_starts_and_writes_nothing(tmp_path: Path) -> None:
    done = driving.inside("debug", "--dry-run", f"storage={tmp_path / 'x'}", *LIMITS)
    assert done.returncode == 0, done.stderr
    for part in ("4 of 600 env steps, 3 settings searched", "1 CPU", "assumed", "cost "):
        assert part in done.stdout
    assert list(tmp_path.iterdir()) == []
