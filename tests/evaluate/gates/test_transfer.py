"""Gate 3: what it compares, what it says, and that MJX and the official game can be compared."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from booster_ray.evaluate.gates.transfer import compare, gate3
from booster_ray.evaluate.play import Episode
from booster_ray.evaluate.target import find_checkpoint
from booster_ray.soccer import game
from policies import save_checkpoint, tiny_config


def episodes(n: int = 10, **values: float) -> list[Episode]:
    """``n`` a task, all alike but for a little noise."""
    rng = np.random.default_rng(0)
    told = {"score": 1.0, "seconds": 8.0, "fallen": 0.0, "height": 0.62, "contact": 0.8}
    told |= {"torque": 0.2, **values}
    return [
        Episode(
            task, i, told["score"] + 0.01 * rng.standard_normal(), {}, told["seconds"],
            told["fallen"], 0.0, 1.0, None, 0.0, told["height"], told["contact"], told["torque"],
        )
        for task in game.TASKS
        for i in range(n)
    ]  # fmt: skip


def test_the_same_behaviour_passes() -> None:
    verdict = compare(episodes(), episodes(seconds=7.5, score=0.8, fallen=0.0), level=1)
    assert verdict.passed and not verdict.advice and len(verdict.rows) == 9
    told = verdict.numbers["tasks"]["goalie"]["survival"]
    assert (told["mjx"], told["official"], told["loss"]) == (8.0, 7.5, 0.5)
    assert told["bound"] == pytest.approx(1.6)


@pytest.mark.parametrize(
    ("worse", "name"),
    [({"seconds": 6.0}, "survival"), ({"fallen": 1.0}, "fall rate"), ({"score": 0.3}, "score")],
)
def test_what_is_lost_beyond_the_bound_fails(worse: dict[str, float], name: str) -> None:
    verdict = compare(episodes(), episodes(**worse), level=1)
    assert not verdict.passed
    failed = [what for what, *_, holds in verdict.rows if not holds]
    assert failed == [f"{task}: {name}" for task in game.TASKS]


def test_one_bad_task_fails() -> None:
    played = [
        dataclasses.replace(e, seconds=2.0) if e.task == "obstacle" else e for e in episodes()
    ]
    verdict = compare(episodes(), played, level=0)
    assert not verdict.passed
    assert [what for what, *_, holds in verdict.rows if not holds] == ["obstacle: survival"]


def test_better_than_in_mjx_passes_and_is_told() -> None:
    verdict = compare(episodes(seconds=2.0), episodes(), level=0)
    assert verdict.passed
    assert verdict.numbers["better_than_mjx"] == [f"survival in {task}" for task in game.TASKS]


def test_the_advice_names_the_next_level_and_what_differed_most() -> None:
    for name, most, hint in (
        ("contact", 0.1, "friction"),
        ("height", 0.1, "lower"),
        ("torque", 0.9, "PD gains"),
        ("seconds", 1.0, "balance"),
    ):
        verdict = compare(episodes(), episodes(fallen=1.0, **{name: most}), level=1)
        named = {"seconds": "survival"}.get(name, name)
        assert verdict.advice[0].startswith(f"what differed most: {named} (")
        assert hint in verdict.advice[0]
        assert verdict.advice[1] == "next: train with randomization.level=2 (it was 1)"
    last = compare(episodes(), episodes(fallen=1.0), level=3)
    assert "3 already" in last.advice[1]


def test_noise_widens_the_bound() -> None:
    rng = np.random.default_rng(0)
    noisy = [dataclasses.replace(e, fallen=float(rng.random() < 0.5)) for e in episodes()]
    told = compare(noisy, noisy, level=0).numbers["tasks"]["goalie"]["fall rate"]
    assert told["bound"] > 0.3 and told["standard_error"] > 0.1


def test_a_task_without_episodes_fails() -> None:
    played = [e for e in episodes() if e.task != "goalie"]
    verdict = compare(episodes(), played, level=0)
    assert not verdict.passed
    assert ("goalie: episodes", "0", ">= 1", False) in verdict.rows


@pytest.mark.slow
def test_a_falling_policy_falls_in_mjx_as_in_the_official_game(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "c", tiny_config(("clock",)))
    seen: list[int] = []
    verdict = gate3(path, 2, impl="jax", progress=lambda done, of: seen.append(done))
    assert verdict.passed, verdict.rows
    for task in game.TASKS:
        told = verdict.numbers["tasks"][task]
        assert told["episodes"] == [2, 2]
        assert told["fall rate"]["mjx"] == told["fall rate"]["official"] == 1.0
        assert told["survival"]["mjx"] == pytest.approx(told["survival"]["official"], abs=0.5)
    assert verdict.numbers["differences"]["height"] < 0.1
    assert verdict.numbers["differences"]["torque"] < 0.5
    assert seen


@pytest.mark.slow
@pytest.mark.skipif("BOOSTER_RAY_TRAINED_CHECKPOINT" not in os.environ, reason="no trained policy")
def test_a_standing_policy_that_loses_its_damping_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from booster_ray.evaluate.gates import transfer

    right = transfer.settings_of
    monkeypatch.setattr(transfer, "settings_of", lambda c: right(c)._replace(kd=(0.0,) * 6))
    path = find_checkpoint(Path(os.environ["BOOSTER_RAY_TRAINED_CHECKPOINT"]))
    verdict = gate3(path, 2, impl="jax")
    assert not verdict.passed and verdict.advice
    assert any("survival" in what for what, *_, holds in verdict.rows if not holds)
