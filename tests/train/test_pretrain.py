"""The pretraining loop: reproducible, restorable bit for bit, and honest when it diverges."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from train.trees import differing, leaves, numbers

from booster_ray.config import SAC, Config, load
from booster_ray.rl.sac.learner import Sac
from booster_ray.rl.tree import from_tree
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint import Tree
from booster_ray.train import pretrain, runner
from booster_ray.train.host_collector import HostCollector
from booster_ray.train.report import Report, TrainingDiverged, check_given
from booster_ray.train.runner import Runner

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"


def configured(*overrides: str) -> Config:
    return load(
        DEBUG,
        [
            "training.env_steps=300",
            "training.report_every=30",
            "evaluation.every=150",
            "checkpoint.every_env_steps=60",
            # The ring wraps, episodes end and are randomized within the budget.
            "sac.replay_size=128",
            "world.episode_seconds=0.3",
            "randomization.level=3",
            *overrides,
        ],
    ).base()


CONFIG = configured()


@cache
def compiled(sac: SAC) -> Sac:
    return Sac(sac, 89, 12)


@pytest.fixture(autouse=True)
def _compile_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A learner holds no state, so one serves every loop of its config."""
    monkeypatch.setattr(pretrain, "make_learner", lambda config, *sizes: compiled(config.sac))


def loop(
    config: Config = CONFIG, restored: Tree | None = None, interrupt: threading.Event | None = None
) -> Iterator[tuple[Runner, Report]]:
    training = Runner(config, restored, interrupt)
    try:
        for report in training:
            yield training, report
    finally:
        training.close()


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[dict[str, float]], Tree, np.ndarray]:
    """Reports, final state and the action that would follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "make_learner", lambda config, *sizes: compiled(config.sac))
        return to_the_end()


def test_each_term_of_the_reward_is_a_metric(undisturbed: Any) -> None:
    told = [r for r in undisturbed[0] if "episode_return" in r]
    assert told
    terms = [name for name, weight in CONFIG.rewards.model_dump().items() if weight]
    for report in told:
        total = sum(report[f"reward/{term}"] for term in terms)
        assert total == pytest.approx(report["episode_return"], rel=1e-4)
    names = {name for name in told[-1] if name.startswith("reward/")}
    tasks = {f"reward/{term}/{task}" for term in terms for task in CONFIG.tasks}
    assert names == {f"reward/{term}" for term in terms} | tasks


def to_the_end(
    restored: Tree | None = None, interrupt: threading.Event | None = None
) -> tuple[list[dict[str, float]], Tree, np.ndarray]:
    reports = []
    for training, report in loop(restored=restored, interrupt=interrupt):
        reports.append(numbers(report))
        last = training
    collector, tree = last.collector, last._capture()
    assert isinstance(collector, HostCollector)
    return reports, tree, collector._explore(int(tree["env_steps"]))


def test_reports_and_their_cadence(undisturbed: Any) -> None:
    reports, tree, _ = undisturbed
    assert [r["env_steps"] for r in reports] == list(range(0, 301, 30))
    assert [r["env_steps"] for r in reports if "score" in r] == [0, 150, 300]
    for name in ("score/goalie", "survival/obstacle", "fall_rate/kick_to_target"):
        assert name in reports[0]
    # The 12th step of 6 worlds is the first with 64 transitions to learn from.
    assert [r["env_steps"] for r in reports if "critic_loss" in r] == list(range(90, 301, 30))
    assert tree["learner"]["updates"] == 300 // 6 - 11
    assert tree["replay"]["filled"] == 128 // 6
    assert reports[-1]["episode_seconds"] <= 0.3
    due = [r.metrics["env_steps"] for _, r in loop() if r.checkpoint_due]
    assert due == list(range(60, 301, 60))


def test_the_same_seed_and_budget_give_the_same_run(undisturbed: Any) -> None:
    reports, tree, action = to_the_end()
    assert reports == undisturbed[0]
    assert differing(tree, undisturbed[1]) == []
    np.testing.assert_array_equal(action, undisturbed[2])


def test_another_seed_gives_another_run(undisturbed: Any) -> None:
    for _, report in loop(configured("seed=1", "training.env_steps=30")):
        tree = report.capture()
    assert any(name.startswith("learner/") for name in differing(tree, undisturbed[1]))
    assert not np.array_equal(tree["observation"], undisturbed[1]["observation"])


# 0 untouched, 60 before the first update, 120 the ring just full, 270 wrapped, 300 at the end.
@pytest.mark.parametrize("env_steps", [0, 60, 120, 150, 270, 300])
def test_resume_from_disk_is_bit_exact(undisturbed: Any, env_steps: int, tmp_path: Path) -> None:
    path = tmp_path / f"step_{env_steps}"
    for _, report in loop():
        if report.metrics["env_steps"] == env_steps:
            checkpoint.save(path, report.capture())
            break
    tree, _ = checkpoint.load(path)
    assert tree["env_steps"] == env_steps
    if env_steps == 300:
        training = Runner(CONFIG, tree)
        assert training.finished
        assert list(training) == []
        assert differing(training._capture(), undisturbed[1]) == []
        training.close()
        return
    reports, end, action = to_the_end(tree)
    assert reports == [r for r in undisturbed[0] if r["env_steps"] > env_steps]
    assert differing(end, undisturbed[1]) == []
    np.testing.assert_array_equal(action, undisturbed[2])


class Scores:
    """An evaluation that costs nothing."""

    def metrics(self, policy: Any, interrupt: Any) -> dict[str, float]:
        return {"score": 1.0}

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("report_every", "every", "evaluated"),
    [
        (240, 300, [0, 480, 720, 960, 1200]),
        (240, 500, [0, 720, 1200]),
        (240, 720, [0, 720, 1200]),
        (300, 120, [0, 300, 600, 900, 1200]),
        (100, 150, [0, 204, 300, 504, 600, 804, 900, 1104, 1200]),  # a step is of six worlds
    ],
)
def test_evaluations_have_a_counter_of_their_own(
    monkeypatch: pytest.MonkeyPatch, report_every: int, every: int, evaluated: list[int]
) -> None:
    """Whatever the reports' cadence, and in a run that was interrupted off both cadences too."""
    monkeypatch.setattr(runner, "make_evaluator", lambda *_: Scores())
    config = configured(
        "training.env_steps=1200", f"training.report_every={report_every}",
        f"evaluation.every={every}",
    )  # fmt: skip

    def scored(restored: Tree | None = None) -> list[float]:
        reports = [r.metrics for _, r in loop(config, restored)]
        return [r["env_steps"] for r in reports if "score" in r]

    assert scored() == evaluated
    for wanted in (366, 498, 606):
        interrupt, found = threading.Event(), []
        for training, report in loop(config, None, interrupt):
            found += [report.metrics["env_steps"]] if "score" in report.metrics else []
            if training._env_steps + report_every > wanted:
                interrupt.set()  # from here each step is reported
            if training._env_steps == wanted:
                tree = report.capture()
                break
        assert found + scored(tree) == evaluated


def test_a_state_of_an_earlier_release_is_settled_up_to_where_it_was() -> None:
    tree = next(r.capture() for _, r in loop() if r.metrics["env_steps"] == 150)
    del tree["reported"]
    assert [r.metrics["env_steps"] for _, r in loop(restored=tree) if "score" in r.metrics] == [300]


def test_resume_between_reports_and_twice(undisturbed: Any) -> None:
    """Interrupted off the cadence, at 102, and again at 108."""
    interrupt = threading.Event()
    tree: Tree | None = None
    for stop in (102, 108):
        for _, report in loop(restored=tree, interrupt=interrupt):
            if report.metrics["env_steps"] >= 90:
                interrupt.set()
            if report.metrics["env_steps"] == stop:
                tree = report.capture()
                break
    reports, end, _ = to_the_end(tree)
    assert reports == [r for r in undisturbed[0] if r["env_steps"] > 108]
    assert differing(end, undisturbed[1]) == []


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_lost_worlds_are_counted_and_stay_so(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo logs a warning to the working directory
    monkeypatch.setattr(runner, "make_evaluator", lambda *_: Scores())
    told = []
    for training, report in loop():
        told.append(report.metrics.get("episodes_lost"))
        collector = training.collector
        assert isinstance(collector, HostCollector)
        if report.metrics["env_steps"] in (30, 90):
            collector._world._slots[0].qvel[-1] = np.nan  # type: ignore[attr-defined]
        if report.metrics["env_steps"] == 150:
            tree = report.capture()
            break
    assert told == [None, 0, 1, 1, 2, 2]
    resumed = [r.metrics["episodes_lost"] for _, r in loop(restored=tree)]
    assert resumed == [2] * 5
    del tree["episodes_lost"]  # as in an earlier release
    assert next(loop(restored=tree))[1].metrics["episodes_lost"] == 0


def test_a_capture_stays_as_it_was_taken() -> None:
    """Updates take over the learner's buffers, the world goes on in place.

    Only the replay is read when it is saved: see test_replay.
    """
    captured: list[tuple[Tree, dict[str, Any]]] = []
    for _, report in loop(configured("training.env_steps=180")):
        tree = {k: v for k, v in report.capture().items() if k != "replay"}
        captured.append((tree, leaves(tree)))
    for tree, before in captured:
        assert leaves(tree) == before


def test_a_restored_tree_stays_as_it_was_given() -> None:
    config = configured("training.env_steps=150")
    tree = next(r.capture() for _, r in loop(config) if r.metrics["env_steps"] == 90)
    before = leaves(tree)
    for _ in loop(config, tree):
        pass
    assert leaves(tree) == before


def test_a_state_of_another_network_is_refused() -> None:
    tree = next(r.capture() for _, r in loop())
    wider = CONFIG.model_copy(update={"sac": CONFIG.sac.model_copy(update={"actor_hidden": (48,)})})
    with pytest.raises(
        ValueError, match=r"leaf actor\.params\.\S+ is of shape .*32.*expected .*48"
    ):
        Runner(wider, tree)
    learner = dict(tree["learner"])
    del learner["log_alpha"]
    with pytest.raises(ValueError, match="leaf log_alpha is missing"):
        from_tree(compiled(CONFIG.sac).init(0), learner)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize(
    ("weight", "report_every", "found"),
    [
        ("1.0e+30", 300, "critic_loss is inf after 300 env steps"),  # only its square overflows
        ("3.0e+38", 6, r"critic_loss is (inf|nan) after 72 env steps"),
    ],
)
def test_a_loss_that_overflows_stops_the_run(weight: str, report_every: int, found: str) -> None:
    overrides = f"rewards.height={weight}", f"training.report_every={report_every}"
    with pytest.raises(TrainingDiverged, match=found) as caught:
        list(loop(configured(*overrides)))
    for part in ("sac.critic_lr", "sac.actor_lr", "reward weights"):
        assert part in str(caught.value)


def test_spoilt_parameters_stop_the_run_long_before_the_next_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learner = compiled(CONFIG.sac)
    update = learner.update

    def poisoned(*args: Any) -> Any:
        state, metrics = update(*args)
        return state._replace(actor=jax.tree.map(lambda leaf: leaf * np.nan, state.actor)), metrics

    monkeypatch.setattr(learner, "update", poisoned)
    with pytest.raises(TrainingDiverged, match="action is not finite after 72 env steps; lower"):
        list(loop(configured("training.report_every=300")))


def test_a_reward_that_overflows_is_not_blamed_on_learning_rates() -> None:
    with pytest.raises(TrainingDiverged) as caught:
        list(loop(configured("rewards.height=1.0e+41")))
    assert re.fullmatch(
        r"world\.kind native gives a reward of inf in world \d of 6 after 0 env steps; "
        "check the reward weights",
        str(caught.value),
    )


def test_pretraining_loads_no_torch() -> None:
    """Whatever learns: a process of a sweep would pay for it in memory and seconds."""
    program = (
        "import sys\n"
        "import booster_ray.train.runner, booster_ray.train.pretrain\n"
        "import booster_ray.train.device_collector, booster_ray.rl.imitation\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


def test_what_a_world_gives_is_named_with_its_place() -> None:
    observation = np.zeros((3, 4), np.float32)
    check_given("gym:X", 90, observation=observation, reward=np.zeros(3))
    observation[1, 2] = np.nan
    with pytest.raises(TrainingDiverged) as caught:
        check_given("gym:X", 90, observation=observation)
    assert str(caught.value) == (
        "world.kind gym:X gives an observation of nan in place 2 in world 1 of 3 "
        "after 90 env steps; mend the environment"
    )


@pytest.mark.parametrize("name", ["critic_loss", "actor_loss"])
def test_the_message_names_the_loss_and_the_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = compiled(CONFIG.sac)
    update = learner.update

    def poisoned(*args: Any) -> Any:
        state, metrics = update(*args)
        return state, metrics | {name: np.nan}

    monkeypatch.setattr(learner, "update", poisoned)
    with pytest.raises(TrainingDiverged, match=f"{name} is nan after 90 env steps"):
        list(loop())


def test_an_interrupt_is_answered_at_the_next_control_step() -> None:
    interrupt = threading.Event()
    seen = []
    for _, report in loop(configured("training.env_steps=90"), interrupt=interrupt):
        seen.append(report.metrics["env_steps"])
        if seen[-1] == 30:
            interrupt.set()
        if seen[-1] == 42:
            interrupt.clear()
    assert seen == [0, 30, 36, 42, 60, 90]


def test_a_curriculum_weighs_the_rewards_and_resumes_bit_exactly(
    undisturbed: Any, tmp_path: Path
) -> None:
    lesson = "curriculum=[{terms: [alive, costs], factor: [[0, 0.1], [0.8, 1.0]]}]"
    config, reports = configured(lesson), []
    for training, report in loop(config):
        reports.append(numbers(report))
        last = training
        if report.metrics["env_steps"] == 150:
            checkpoint.save(tmp_path / "step_150", report.capture())
    learner = last._capture()["learner"]
    # Alive and the costs count little in the first episodes, whose actions are the same.
    first, plain = (
        next(r["episode_return"] for r in told if "episode_return" in r)
        for told in (reports, undisturbed[0])
    )
    assert abs(first) < abs(plain)
    middle, _ = checkpoint.load(tmp_path / "step_150")
    again = []
    for training, report in loop(config, middle):
        again.append(numbers(report))
        last = training
    assert again == reports[len(reports) - len(again) :]
    assert len(again) == 5
    assert differing(last._capture()["learner"], learner) == []
