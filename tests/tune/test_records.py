import math
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from booster_ray.store.progress import History
from booster_ray.tune.records import TrialRecord, finite, json_ready, pareto_front, rank

NAN = math.nan


def trial(number: int = 0, **changes: object) -> TrialRecord:
    plain = TrialRecord(
        trial_id=f"t{number}",
        number=number,
        status="RUNNING",
        params={"sac.actor_lr": 3e-4},
        history=History(),
        target_env_steps=1000,
        checkpoint=None,
        error=None,
        started=True,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def scores(*values: float) -> History:
    return History({"env_steps": 10.0 * i, "score": v} for i, v in enumerate(values, start=1))


def test_without_reports_everything_is_unknown() -> None:
    record = trial()
    assert record.best_score is record.last_score is record.steps_per_second is None
    assert record.env_steps == 0
    assert record.eta_seconds is None
    assert record.best_report == {}


def test_best_and_last_score_skip_what_is_not_finite() -> None:
    record = trial(history=scores(-2, -1, NAN, -1, -3, math.inf))
    assert (record.best_score, record.last_score) == (-1, -3)
    assert record.best_report["env_steps"] == 20
    assert record.env_steps == 60


def test_eta_is_the_rest_of_the_budget_at_the_newest_rate() -> None:
    history = History([{"env_steps": 400.0, "env_steps_per_second": 50.0}])
    assert trial(history=history).eta_seconds == 12
    assert trial(history=history, target_env_steps=100).eta_seconds == 0
    assert trial(history=history, status="STOPPED").eta_seconds is None
    for rate in (0.0, -1.0, NAN):
        stalled = History([{"env_steps": 400.0, "env_steps_per_second": rate}])
        assert trial(history=stalled).eta_seconds is None


def test_rank_puts_best_first_unscored_last_and_breaks_ties_by_number() -> None:
    unsorted = [
        trial(4, history=scores(NAN)),
        trial(3, history=scores(-1)),
        trial(2),
        trial(1, history=scores(-1)),
        trial(0, history=scores(-2)),
    ]
    assert [record.number for record in rank(unsorted)] == [1, 3, 0, 2, 4]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3) | st.none()), max_size=12))
def test_the_front_is_what_no_other_beats(points: list[tuple[int, int | None]]) -> None:
    records = [
        trial(number, history=scores(score), robustness=robust)
        for number, (score, robust) in enumerate(points)
    ]
    known = [(n, s, r) for n, (s, r) in enumerate(points) if r is not None]
    unbeaten = {
        number
        for number, score, robust in known
        if not any(s >= score and r >= robust and (s, r) != (score, robust) for _, s, r in known)
    }
    assert pareto_front(records) == unbeaten


def test_finite_and_json_ready_take_anything() -> None:
    assert [finite(v) for v in (None, "x", NAN, math.inf, [1], 10**400)] == [None] * 6
    assert finite(np.float32(2)) == 2
    assert json_ready({1: object}) == {"1": "<class 'object'>"}
