"""Hours and money, counted over all drivers of a sweep."""

from __future__ import annotations

from pathlib import Path

from booster_ray.config import Tune
from booster_ray.store.files import SPENT
from booster_ray.tune.budget import Budget


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_limits_count_over_resumes(tmp_path: Path) -> None:
    clock, tune = Clock(), Tune(max_hours=2, max_cost=9, price_per_hour=3)
    first = Budget(tmp_path, tune, clock)
    clock.now += 3600
    first.count(running=2)
    assert (first.hours, first.trial_hours, first.cost) == (1, 2, 6) and first.over() is None
    first.save()
    clock.now += 10_000  # between two drivers nothing runs
    second = Budget(tmp_path, tune, clock)
    clock.now += 3600
    second.count(running=0)
    assert second.over() == "tune.max_hours: 2 h of 2 h are spent"
    second.count(running=0)
    assert second.cost == 6


def test_the_price_is_of_trials(tmp_path: Path) -> None:
    clock, tune = Clock(), Tune(max_cost=5, price_per_hour=3)
    budget = Budget(tmp_path, tune, clock)
    clock.now += 3600
    budget.count(running=2)
    assert budget.over() == "tune.max_cost: 6 of 5 are spent"


def test_without_limits_and_with_a_torn_file_it_only_counts(tmp_path: Path) -> None:
    (tmp_path / SPENT).write_text('{"hours": 1')
    budget = Budget(tmp_path, Tune())
    budget.count(running=4)
    assert budget.over() is None and budget.cost is None and budget.hours < 1


def test_storage_that_is_away_does_not_stop_the_count(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "gone", Tune())
    budget.count(running=1)
    budget.save()
    assert budget.hours > 0
