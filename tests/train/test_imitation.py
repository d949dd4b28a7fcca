"""DAgger: it learns what is shown, asks in every state, and goes on bit for bit."""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from train.trees import differing, numbers

from booster_ray.config import Config, ConfigError, load
from booster_ray.policy.experts import DemonstratorError, actions, load_demonstrator
from booster_ray.policy.experts.stander import POSE, Stander
from booster_ray.rl.imitation import Imitation
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import Clock
from booster_ray.train import preflight
from booster_ray.train.host_collector import HostCollector
from booster_ray.train.runner import Runner

pytestmark = pytest.mark.usefixtures("compiled_once")

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"
STANDER = "booster_ray.policy.experts.stander:Stander"


def configured(*overrides: str) -> Config:
    return load(
        DEBUG,
        [
            f"imitation.demonstrator={STANDER}",
            "control.action_scale=1.0",
            "training.env_steps=1200",
            "training.report_every=120",
            "evaluation.every=1_000_000",
            "checkpoint.every_env_steps=480",
            "sac.learning_starts=60",
            "sac.replay_size=4800",
            "world.episode_seconds=0.4",
            *overrides,
        ],
    ).base()


def collector_of(training: Runner) -> HostCollector:
    collector = training.collector
    assert isinstance(collector, HostCollector) and isinstance(collector.learner, Imitation)
    return collector


def wanted_now(collector: HostCollector) -> np.ndarray:
    assert collector._expert is not None
    return collector._expert.action


def test_the_actor_learns_what_is_shown() -> None:
    training = Runner(configured("training.env_steps=3600"))
    errors = [r.metrics["action_error"] for r in training if "action_error" in r.metrics]
    training.close()
    assert errors[-1] < 0.35 * errors[0]


def test_the_critics_and_the_temperature_stay() -> None:
    training = Runner(configured())
    before = training.collector.state()["learner"]
    for _ in training:
        pass
    after = training.collector.state()["learner"]
    training.close()
    changed = {key for key in before if not np.array_equal(before[key], after[key])}
    assert any(key.startswith("actor.") for key in changed)
    assert not any(key.startswith(("critic", "target", "log_alpha")) for key in changed)


def test_what_is_learned_is_asked_for_where_the_learner_went() -> None:
    """The replay holds the demonstrator's answers to the states that were visited."""
    training = Runner(configured("imitation.own_share=[[0, 1.0]]", "imitation.noise=[[0, 0]]"))
    collector = collector_of(training)
    asked: list[np.ndarray] = []
    played: list[np.ndarray] = []
    step = collector._world.step

    def watched(action: np.ndarray) -> Any:
        asked.append(wanted_now(collector).astype(np.float32))
        played.append(collector.act(collector._observation))
        np.testing.assert_array_equal(action, np.clip(played[-1], -1, 1))
        return step(action)

    collector._world.step = watched  # type: ignore[method-assign]
    for _ in range(8):
        collector.advance(0)
    stored = collector.learner.replay.sample((1, 512), np.random.default_rng(0)).action[0]
    training.close()
    known = {row.tobytes() for rows in asked for row in rows}
    assert all(row.tobytes() in known for row in stored)
    assert not np.allclose(asked[-1], played[-1], atol=1e-3)


@pytest.mark.parametrize(("share", "own"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_shares(share: float, own: float) -> None:
    training = Runner(
        configured(f"imitation.own_share=[[0, {share}]]", "imitation.noise=[[0, 0]]",
                   "world.num_envs=30")
    )  # fmt: skip
    collector = collector_of(training)
    wanted = wanted_now(collector).copy()
    played = collector._explore(0)
    mean = collector.act(collector._observation)
    training.close()
    mine = np.isclose(played, np.clip(mean, -1, 1)).all(axis=1)
    theirs = np.isclose(played, wanted).all(axis=1)
    assert (mine ^ theirs).all()
    assert mine.mean() == pytest.approx(own, abs=0.05)


def test_a_restored_run_goes_on_bit_for_bit() -> None:
    config = configured("randomization.level=2")
    first, reports, middle = Runner(config), [], None
    for report in first:
        reports.append(numbers(report))
        if report.metrics["env_steps"] == 480:
            middle = report.capture()
    last = first._capture()
    first.close()
    assert middle is not None
    second = Runner(config, middle)
    again = [numbers(report) for report in second]
    assert again == reports[-len(again) :] and len(again) == 6
    assert differing(second._capture(), last) == []
    second.close()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("no.such.module:Thing", "No module named"),
        ("booster_ray.policy.experts.stander:Nobody", "has no attribute"),
        ("booster_ray.policy.experts.stander:Path", "has no attribute"),
        ("collections:OrderedDict", "no method targets"),
        ("booster_ray.policy.experts.striker:Striker", "BOOSTER_GYM_T1_WALK is not set"),
    ],
)
def test_who_cannot_be_asked(path: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOOSTER_GYM_T1_WALK", raising=False)
    with pytest.raises(ConfigError, match="imitation.demonstrator.*" + why):
        load_demonstrator(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise RuntimeError('no licence')", "RuntimeError: no licence (other_coach.py:1)"),
        ("class Coach(:", "SyntaxError: invalid syntax (other_coach.py:1)"),
        ("import sys\nsys.exit(1)", "SystemExit: 1 (other_coach.py:2)"),
        ("class Coach:\n def __init__(self):\n  {}['a']", "KeyError: 'a' (other_coach.py:3)"),
    ],
)
def test_a_demonstrator_that_fails_at_the_door_is_one_line(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other_coach.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "other_coach", raising=False)
    importlib.invalidate_caches()
    with pytest.raises(ConfigError) as caught:
        load_demonstrator("other_coach:Coach")
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        (lambda frame, kept: {}["ball"], r"raises KeyError: 'ball' \(test_imitation.py:"),
        (lambda frame, kept: np.zeros(12), r"of shape \(12,\), expected \(3, 12\)"),
        (lambda frame, kept: np.full((3, 12), np.nan), "no finite numbers"),
        (lambda frame, kept: None, "of shape"),
    ],
)
def test_what_is_no_answer_is_blamed_on_the_demonstrator(targets: Any, said: str) -> None:
    from booster_ray.envs.native import NativeWorld
    from booster_ray.envs.options import gains

    world = NativeWorld(("goalie",), 3, gains(configured()))
    world.reset(0)
    with pytest.raises(DemonstratorError, match=said):
        actions(targets, world, gains(configured()))
    world.close()


def test_nothing_is_begun_for_who_cannot_be_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BOOSTER_GYM_T1_WALK", raising=False)
    with pytest.raises(ConfigError, match="BOOSTER_GYM_T1_WALK is not set"):
        preflight.begin(load("striker", [f"storage={tmp_path / 'runs'}"]))
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    "overrides",
    [
        ["imitation.demonstrator=stander"],
        ["imitation.demonstrator=a-b:C"],
        ["world.kind=official"],
        ["control.mode=torque"],
        ["sac.n_step=2"],
    ],
)
def test_configs_that_cannot_be(overrides: list[str]) -> None:
    with pytest.raises(ConfigError):
        configured(*overrides)


def test_the_stander_stands() -> None:
    from booster_ray.envs.native import NativeWorld
    from booster_ray.envs.options import gains

    config = configured()
    world = NativeWorld(config.tasks, 3, gains(config), auto_reset=False)
    world.reset(0)
    for _ in range(250):
        targets = Stander().targets(world.frame(), world.kept())
        world.step(targets - POSE)
    frame: Frame = world.frame()
    kept: Clock = world.kept()
    world.close()
    assert (frame.imu_pos[:, 2] > 0.55).all()
    assert kept.previous_action.shape == (3, 12)
