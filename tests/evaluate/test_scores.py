from pathlib import Path

import numpy as np
import pytest

from booster_ray.config import Config
from booster_ray.evaluate import scores
from booster_ray.evaluate.scores import (
    Behaviour,
    Evaluator,
    ReturnEvaluator,
    flat_metrics,
    gains,
    task_means,
)
from booster_ray.soccer import game


def zero(observations: np.ndarray) -> np.ndarray:
    return np.zeros((len(observations), game.ACTION_SIZE))


def random_linear(observations: np.ndarray) -> np.ndarray:
    weights = np.random.default_rng(0).standard_normal((game.OBSERVATION_SIZE, game.ACTION_SIZE))
    return np.tanh(0.3 * observations @ weights)


def test_gains_are_the_configs_on_both_legs() -> None:
    built = gains(Config())
    assert all(part.shape == (12,) for part in built)
    for part in built:
        np.testing.assert_array_equal(part[:6], part[6:])
    assert built.kp[3] == 200 and built.kp[4] == 50 and built.kd[0] == 5 and built.kd[5] == 1
    assert tuple(built.torque_limit) == game.TORQUE_LIMITS


def test_doing_nothing_falls() -> None:
    evaluator = Evaluator(Config(), episodes=2, threads=1)
    scores = evaluator(zero)
    assert list(scores) == list(game.TASKS)
    for mean in scores.values():
        assert mean["fall_rate"] == 1 and mean["success"] == 0
        # 1.15 s, as the official environment has it; see tests/envs/test_official.py.
        assert 1.1 < mean["survival"] < 1.2
        assert 0 <= mean["touched"] <= 1
    # Falling over untouched is worth -2.49 in the official penalty tasks; forwards, a bit more.
    assert scores["goalie"]["score"] == pytest.approx(-2.48, abs=0.02)
    assert scores["obstacle"]["score"] == pytest.approx(-2.48, abs=0.02)
    assert -0.3 <= scores["kick_to_target"]["score"] < -0.2
    metrics = flat_metrics(scores)
    assert metrics["score"] == pytest.approx(np.mean([s["score"] for s in scores.values()]))
    assert metrics["survival/goalie"] == scores["goalie"]["survival"]
    assert len(metrics) == 1 + 3 * 5
    assert evaluator(zero) == scores
    evaluator.close()


def test_the_reward_terms_of_its_episodes_are_metrics() -> None:
    evaluator = Evaluator(Config(), episodes=1, threads=1)
    metrics = evaluator.metrics(zero)
    evaluator.close()
    terms = [name for name, weight in Config().rewards.model_dump().items() if weight]
    told = {name for name in metrics if name.startswith("evaluation/reward/")}
    of = [f"evaluation/reward/{term}" for term in terms]
    assert told == {*of, *(f"{name}/{task}" for name in of for task in game.TASKS)}
    assert metrics["evaluation/reward/fall"] == metrics["evaluation/reward/fall/goalie"] == -5


def test_a_policy_has_one_score() -> None:
    evaluators = [Evaluator(Config(), episodes=2, threads=n) for n in (1, 2)]
    one, two = (evaluator(random_linear) for evaluator in evaluators)
    assert one == two == evaluators[0](random_linear)
    assert flat_metrics(one) != flat_metrics(evaluators[0](zero))
    for evaluator in evaluators:
        evaluator.close()


def test_tasks_other_than_the_trained_are_played() -> None:
    config = Config.model_validate({"tasks": ["goalie"]})
    evaluator = Evaluator(config, episodes=1, threads=1)
    assert set(evaluator(zero)) == set(game.TASKS)
    evaluator.close()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_lost_episode_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs a warning to the working directory
    evaluator = Evaluator(Config(), episodes=2, threads=1)
    slot = evaluator._world._slots[0]

    def poison(observations: np.ndarray) -> np.ndarray:
        slot.qvel[-1] = np.nan
        return zero(observations)

    scores = evaluator(poison)
    # Half of the mean is the other episode, which falls over after 1.15 s.
    assert scores["goalie"]["score"] == pytest.approx((-2.48 - 6.0) / 2, abs=0.02)
    assert scores["goalie"]["fall_rate"] == 1 and scores["goalie"]["survival"] < 0.7
    told = evaluator.metrics(poison)
    assert told["evaluation/lost"] == 1 and told["score/goalie"] == scores["goalie"]["score"]
    assert Evaluator(Config(), episodes=1, threads=1).metrics(zero)["evaluation/lost"] == 0
    evaluator.close()


def test_a_lost_return_is_the_worst_of_its_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.model_validate({"world": "brax:fast", "rewards": {}})
    evaluator = ReturnEvaluator(config, episodes=3, threads=1)
    played = [{"task": 0, "score": s, "seconds": 1.0, "lost": lost} for s, lost in GIVEN]
    monkeypatch.setattr(scores, "_play", lambda *_: (played, Behaviour()))
    told = evaluator.metrics(zero)
    assert told["score"] == pytest.approx((5 + 2 + 2) / 3) and told["evaluation/lost"] == 1
    evaluator.close()


GIVEN = ((5.0, 0.0), (9.0, 1.0), (2.0, 0.0))
"""Returns, and whether physics was lost."""


def test_summaries_are_means_of_one_task() -> None:
    records = [
        {"task": 0, "score": 1.0, "seconds": 2.0, "fallen": 1.0, "success": 0.0, "touched": 1.0},
        {"task": 0, "score": 3.0, "seconds": 4.0, "fallen": 0.0, "success": 1.0, "touched": 1.0},
        {"task": 1, "score": 9.0, "seconds": 9.0, "fallen": 9.0, "success": 9.0, "touched": 9.0},
    ]
    assert task_means(records, 0) == {
        "score": 2.0, "survival": 3.0, "fall_rate": 0.5, "success": 0.5, "touched": 1.0,
    }  # fmt: skip


def test_a_task_without_a_record_has_no_numbers() -> None:
    assert task_means([], 0) == {}
    assert flat_metrics({"goalie": {"score": 1.0}}) == {"score/goalie": 1.0}  # and no mean of some


@pytest.mark.parametrize(
    ("actions", "idle", "saturated"),
    [([0.2, 0.2, 0.2], 1, 0), ([1.0, -1.0, 1.0], 0, 1), ([0.1, -0.1, 0.1], 0, 0)],
)
def test_behaviour_tells_idle_and_saturated(
    actions: list[float], idle: int, saturated: int
) -> None:
    behaviour = Behaviour()
    assert behaviour.metrics() == {}
    for action in actions:
        # The second episode is over, and what is done in it does not count.
        played = np.array([[action] * 4, np.random.default_rng(0).uniform(-1, 1, 4)])
        behaviour = behaviour.after(played, np.array([True, False]))
    told = behaviour.metrics()
    assert (told["idle"], told["saturated"]) == (idle, saturated)
    assert told["action_change"] == pytest.approx(abs(actions[1] - actions[0]))
