import json
import math
from dataclasses import replace

import numpy as np
import pytest

from booster_ray.tune.records import TrialRecord, finite, json_ready, rank

NAN = math.nan


def trial(number: int = 0, **changes: object) -> TrialRecord:
    plain = TrialRecord(
        trial_id=f"t{number}",
        number=number,
        status="RUNNING",
        params={"sac.actor_lr": 3e-4},
        history=[],
        target_env_steps=1000,
        checkpoint=None,
        error=None,
        started=True,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def scores(*values: float) -> list[dict[str, float]]:
    return [{"env_steps": 10.0 * i, "score": v} for i, v in enumerate(values, start=1)]


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
    history = [{"env_steps": 400.0, "env_steps_per_second": 50.0}]
    assert trial(history=history).eta_seconds == 12
    assert trial(history=history, target_env_steps=100).eta_seconds == 0
    assert trial(history=history, status="STOPPED").eta_seconds is None
    for rate in (0.0, -1.0, NAN):
        stalled = [{"env_steps": 400.0, "env_steps_per_second": rate}]
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


def test_json_round_trip() -> None:
    record = trial(history=scores(-2, -1), checkpoint="a/b", error="x", status="ERROR")
    text = json.dumps(record.to_json(), allow_nan=False)
    assert TrialRecord.from_json(json.loads(text)) == record


def test_json_round_trip_of_nan_and_numpy() -> None:
    record = trial(
        history=[{"score": NAN, "alpha": np.float32(0.5), "env_steps": np.int64(7)}],
        params={"level": np.int64(2), "on": np.bool_(True), "sizes": (1, 2), "x": math.inf},
    )
    back = TrialRecord.from_json(json.loads(json.dumps(record.to_json(), allow_nan=False)))
    assert math.isnan(back.history[0]["score"])
    assert (back.history[0]["alpha"], back.env_steps) == (0.5, 7)
    assert back.params == {"level": 2, "on": True, "sizes": [1, 2], "x": None}


@pytest.mark.parametrize("drop", [True, False])
def test_from_json_names_the_odd_field(drop: bool) -> None:
    data = trial().to_json()
    if drop:
        del data["params"]
    else:
        data["extra"] = 1
    with pytest.raises(ValueError, match="params" if drop else "extra"):
        TrialRecord.from_json(data)


def test_from_json_refuses_an_unknown_status() -> None:
    with pytest.raises(ValueError, match="t0: unknown status 'DONE'"):
        TrialRecord.from_json(trial().to_json() | {"status": "DONE"})


def test_finite_and_json_ready_take_anything() -> None:
    assert [finite(v) for v in (None, "x", NAN, math.inf, [1], 10**400)] == [None] * 6
    assert finite(np.float32(2)) == 2
    assert json_ready({1: object}) == {"1": "<class 'object'>"}
