"""The finetuning loop: reports, rewards in parts, resume bit for bit, with every option."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from train.trees import differing, leaves, numbers

from booster_ray.config import Config, load
from booster_ray.config.finetune import value_at
from booster_ray.envs.make import make_world
from booster_ray.policy.actor_files import torch_policy
from booster_ray.policy.convert import to_torch
from booster_ray.rl.ddpg.host import HostDdpg
from booster_ray.rl.ddpg.team import Alone
from booster_ray.rl.tree import from_tree
from booster_ray.soccer import game
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint import Tree
from booster_ray.store.files import best_checkpoint, read_progress
from booster_ray.train.finetune import (
    VELOCIMETER,
    make_collector,
    reward_parts,
)
from booster_ray.train.group import GroupCollector
from booster_ray.train.host_collector import HostCollector
from booster_ray.train.learner import make_learner
from booster_ray.train.policy import load_policy
from booster_ray.train.report import Report, TrainingDiverged
from booster_ray.train.run import Run
from booster_ray.train.runner import Runner

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"
SHORT = [
    "training.env_steps=300",
    "training.report_every=30",
    "evaluation.every=150",
    "checkpoint.every_env_steps=60",
    # The ring wraps, episodes end and are randomized within the budget.
    "world.episode_seconds=0.3",
    "randomization.level=3",
]
TINY = [
    *SHORT,
    "stage=finetune",
    "ddpg.critic_hidden=[16]",
    "ddpg.batch_size=32",
    "ddpg.replay_size=128",
    "ddpg.learning_starts=64",
    "ddpg.critic_warmup=90",
    "ddpg.thawing=[{start: 0, layers: 1, lr: 1e-3}, {start: 60, layers: null, lr: 1e-4}]",
    "rewards.official=2.0",
]
EVERYTHING = [
    "ddpg.critics=2",
    "ddpg.target_noise=0.2",
    "ddpg.n_step=3",
    "ddpg.actor_every=2",
    "ddpg.idle_penalty=0.5",
    "ddpg.smoothness_penalty=1.0",
    "ddpg.matmul=bfloat16",
    "ddpg.updates_per_step=3",
]

DEMONSTRATED = [
    "imitation.demonstrator=booster_ray.policy.experts.stander:Stander",
    "imitation.own_share=[[0, 0.0], [0.5, 1.0]]",
    "control.action_scale=1.0",
    "ddpg.anchor=[[0, 300]]",
    "ddpg.n_step=3",
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def configured(*overrides: str) -> Config:
    return load(DEBUG, [*TINY, *overrides]).base()


CONFIG = configured()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short SAC run in its folder, with its replay."""
    folder = tmp_path_factory.mktemp("runs") / "pretrained"
    for _ in Run(load(DEBUG, [*SHORT, "sac.replay_size=128"]).base(), folder):
        pass
    return folder


def made(config: Config) -> HostCollector:
    """The collector of a run on one worker."""
    return make_collector(config, None, Alone()).own


def learner_of(collector: HostCollector) -> HostDdpg:
    assert isinstance(collector.learner, HostDdpg)
    return collector.learner


def loop(
    config: Config, restored: Tree | None = None, interrupt: threading.Event | None = None
) -> Iterator[tuple[Runner, Report]]:
    training = Runner(config, restored, interrupt)
    try:
        for report in training:
            yield training, report
    finally:
        training.close()


def to_the_end(config: Config, restored: Tree | None = None) -> tuple[list[Any], Tree]:
    reports = []
    for training, report in loop(config, restored):
        reports.append(numbers(report))
        last = training
    return reports, last._capture()


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[Any], Tree]:
    """Reports and final state."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return to_the_end(CONFIG)
    finally:
        torch.set_num_threads(threads)


def test_reports_and_their_cadence(undisturbed: Any) -> None:
    reports, tree = undisturbed
    assert [r["env_steps"] for r in reports] == list(range(0, 301, 30))
    assert [r["env_steps"] for r in reports if "score" in r] == [0, 150, 300]
    # The 12th step of 6 worlds is the first with 64 transitions to learn from.
    assert [r["env_steps"] for r in reports if "critic_loss" in r] == list(range(90, 301, 30))
    assert [r["env_steps"] for r in reports if "actor_loss" in r] == list(range(120, 301, 30))
    assert tree["learner"]["updates"] == 2 * (300 // 6 - 11)
    assert tree["team"]["0"]["replay"]["filled"] == 128 // 6
    assert tree["team"]["0"]["replay"]["added"] == 300 // 6
    for name in ("score/goalie", "survival/obstacle", "fall_rate/kick_to_target"):
        assert name in reports[0]
    last = reports[-1]
    assert last["episode_seconds"] <= 0.3
    assert last["dense_factor"] == pytest.approx(1 - 0.9 * 294 / 300)
    assert last["official_factor"] == pytest.approx(0.1 + 0.9 * 294 / 300)
    due = [r.metrics["env_steps"] for _, r in loop(CONFIG) if r.checkpoint_due]
    assert due == list(range(60, 301, 60))


def test_another_seed_gives_another_run() -> None:
    trees = [to_the_end(configured(f"seed={s}", "training.env_steps=30"))[1] for s in (0, 0, 1)]
    assert differing(trees[0], trees[1]) == []
    apart = differing(trees[0], trees[2])
    assert "team/0/observation" in apart and "learner/critics.each.0.head.weight" in apart


@pytest.mark.parametrize(
    "options",
    [[], EVERYTHING, DEMONSTRATED, ["start"]],
    ids=["plain", "all", "demonstrated", "start"],
)
def test_resume_from_disk_is_bit_exact(
    options: list[str], pretrained: Path, tmp_path: Path
) -> None:
    """0: untouched; 60: before the first update; 120: the last layer learns; 180: all do, the ring
    wrapped."""
    resumed = 0, 60, 120, 180
    if options == ["start"]:
        options = [f"start_from={pretrained}", "ddpg.pretrain_share=0.25"]
    config, whole = configured(*options), []
    for training, report in loop(config):
        whole.append(numbers(report))
        if (steps := int(report.metrics["env_steps"])) in (*resumed, 300):
            checkpoint.save(tmp_path / f"step_{steps}", report.capture())
        last = training
    end = last._capture()
    assert bool(end["kept"]) == ("ddpg.pretrain_share=0.25" in options)
    for steps in resumed:
        tree, _ = checkpoint.load(tmp_path / f"step_{steps}")
        before = leaves(tree)
        reports, again = to_the_end(config, tree)
        assert reports == [r for r in whole if r["env_steps"] > steps]
        assert differing(again, end) == []
        assert leaves(tree) == before
    training = Runner(config, checkpoint.load(tmp_path / "step_300")[0])
    assert training.finished and list(training) == []
    assert differing(training._capture(), end) == []
    training.close()


def test_an_interrupt_is_answered_at_the_next_control_step_and_changes_nothing(
    undisturbed: Any,
) -> None:
    interrupt, tree = threading.Event(), None
    for stop in (102, 108):
        for _, report in loop(CONFIG, tree, interrupt):
            if report.metrics["env_steps"] >= 90:
                interrupt.set()
            if report.metrics["env_steps"] == stop:
                tree = report.capture()
                break
    whole, end = undisturbed
    reports, again = to_the_end(CONFIG, tree)
    assert reports == [r for r in whole if r["env_steps"] > 108]
    assert differing(again, end) == []


def test_a_run_in_its_folder_is_interrupted_and_resumed(undisturbed: Any, tmp_path: Path) -> None:
    interrupt, run = threading.Event(), Run(CONFIG, tmp_path / "run")
    run._interrupt = interrupt
    for metrics in run:
        if metrics["env_steps"] >= 150:
            interrupt.set()
    assert run.interrupted
    for _ in Run(CONFIG, tmp_path / "run"):
        pass
    whole, end = undisturbed
    steps = [m["env_steps"] for m in read_progress(tmp_path / "run")]
    assert steps == sorted({r["env_steps"] for r in whole} | {156})
    tree, _ = checkpoint.load(tmp_path / "run/step_000000000300")
    assert differing(tree, end) == []
    best = best_checkpoint(tmp_path / "run")
    assert best is not None
    saved, policy = load_policy(best)
    assert saved == CONFIG
    again = to_torch(CONFIG, checkpoint.load(best)[0]["learner"])
    seen = tree["team"]["0"]["observation"]
    np.testing.assert_array_equal(policy(seen), torch_policy(again)(seen))
    _, untrained = load_policy(best, untrained=True)
    assert not np.array_equal(policy(seen), untrained(seen))


# -- rewards ---------------------------------------------------------------------------------


def test_dense_and_official_are_the_worlds_reward() -> None:
    """A world that is paid 2 for the official score, beside a collector that adds it itself."""
    # No noise on velocities, none of the schedules, actions that make everyone fall.
    config = configured("randomization.level=0", "world.episode_seconds=1.5")
    collector = made(config)
    world = make_world(config, threads=1)
    world.reset(collector._seed_at(0))
    rng, paid = np.random.default_rng(0), 0
    for _ in range(90):
        action = rng.uniform(-1, 1, (6, 12)).astype(np.float32)
        collector._step(action, 0)
        reward = world.step(action).reward
        replay: Any = collector.learner.replay
        dense, official, penalty = replay._parts[replay._next - 1].T
        np.testing.assert_allclose(dense + official, reward, rtol=1e-5, atol=1e-5)
        assert not penalty.any()
        paid += int((official != 0).sum())
    collector.close()
    world.close()
    assert paid >= 6


def test_standing_still_costs() -> None:
    config = configured("ddpg.idle_penalty=0.5", "ddpg.idle_speed=0.2")
    collector = made(config)
    speeds = np.array([0.0, 0.05, 0.1, 0.2, 1.0, 0.0])
    observation = np.zeros((6, game.OBSERVATION_SIZE), np.float32)
    observation[:, VELOCIMETER] = speeds[:, None] * np.array([0.6, -0.8])
    result = collector._world.step(np.zeros((6, 12)))._replace(final_observation=observation)
    wanted = [-0.5, -0.375, -0.25, 0.0, 0.0, -0.5]
    np.testing.assert_allclose(reward_parts(config, result)[:, 2], wanted, atol=1e-6)
    collector.close()


def test_the_velocimeter_is_where_the_penalty_looks() -> None:
    """Pushed along, a robot is measured there and nowhere around it."""
    collector = made(configured("randomization.level=0"))
    world: Any = collector._world
    for slot in world._slots:
        slot.qvel[slot.parts.root_qvel] = 2.0
    seen = world.step(np.zeros((6, 12))).final_observation
    speed = np.linalg.norm(seen[:, VELOCIMETER], axis=1)
    assert (np.abs(speed - 2.0) < 0.3).all()
    collector.close()


def test_worlds_explore_more_or_less() -> None:
    collector = made(configured("ddpg.noise=[[0.0, 0.12]]"))
    collector._observation[:] = 0.0
    explored = [collector._explore(0) for _ in range(300)]
    noise = np.stack(explored) - collector.act(collector._observation)
    wanted = 0.12 * np.array([1, 3, 5, 7, 9, 11]) / 6
    np.testing.assert_allclose(noise.std(axis=(0, 2)), wanted, rtol=0.1)
    collector.close()


# -- demonstrations --------------------------------------------------------------------------


def test_what_is_shown_is_kept_with_the_state_it_was_shown_in() -> None:
    collector = made(configured(*DEMONSTRATED, "ddpg.noise=[[0, 0]]"))
    assert collector._expert is not None
    shown: dict[bytes, bytes] = {}
    for _ in range(10):
        wanted = collector._expert.action.astype(np.float32)
        shown |= {
            o.tobytes(): w.tobytes() for o, w in zip(collector._observation, wanted, strict=True)
        }
        action = collector._explore(0)
        np.testing.assert_array_equal(action, wanted)
        collector._step(action, 0)
    batch = learner_of(collector).sample(np.random.default_rng(0))
    collector.close()
    assert batch.demonstrated is not None and batch.demonstrated.any()
    for seen, wanted in zip(
        batch.observation.reshape(-1, 89), batch.demonstrated.reshape(-1, 12), strict=True
    ):
        assert shown[seen.tobytes()] == wanted.tobytes()


def test_the_policy_comes_near_the_demonstrator() -> None:
    config = configured(
        *DEMONSTRATED, "training.env_steps=2400", "training.report_every=600",
        "evaluation.every=100_000", "ddpg.replay_size=2400",
        "ddpg.thawing=[{start: 0, layers: null, lr: 1e-3}]",
    )  # fmt: skip
    apart = []
    for training, _ in loop(config):
        assert isinstance(training.collector, GroupCollector)
        collector = training.collector.own
        assert collector._expert is not None
        away = collector.act(collector._observation) - collector._expert.action
        apart.append(float((away**2).mean()))
    # Which states the worlds are in moves a single report by a factor.
    assert np.mean(apart[-2:]) < 0.4 * apart[0], apart


def test_worlds_that_begin_anew_are_asked_anew() -> None:
    group = make_collector(configured(*DEMONSTRATED), None, Alone())
    collector, tree = group.own, group.state()
    assert collector._expert is not None
    tree["team"]["1"] = tree["team"]["0"]
    for action in np.random.default_rng(0).uniform(-1, 1, (5, 6, 12)):
        collector._step(action, 0)
    fallen = collector._expert.action
    group.restore(tree, 300)
    begun = collector._expert.action
    assert not np.array_equal(begun, fallen)
    collector._expert.ask()
    np.testing.assert_array_equal(collector._expert.action, begun)
    collector.close()


@pytest.mark.parametrize(
    ("env_steps", "value"), [(0, 1.0), (25, 1.0), (50, 1.0), (75, 0.6), (100, 0.2), (999, 0.2)]
)
def test_schedules_are_lines_between_points(env_steps: int, value: float) -> None:
    assert value_at(((0.25, 1.0), (50, 1.0), (1.0, 0.2)), env_steps, 100) == pytest.approx(value)


def test_a_loss_that_overflows_stops_the_run() -> None:
    with pytest.raises(TrainingDiverged, match=r"critic_loss is (inf|nan)") as caught:
        list(loop(configured("rewards.height=1.0e+30")))
    assert "lower ddpg.critic_lr" in str(caught.value)


# -- where it begins -------------------------------------------------------------------------


def test_finetuning_begins_as_the_pretrained_policy(pretrained: Path) -> None:
    best = best_checkpoint(pretrained)
    assert best is not None
    tree, metadata = checkpoint.load(best)
    trained = Config.model_validate(metadata["config"])
    sac = make_learner(trained, 89, 12)
    state = from_tree(sac.init(0), tree["learner"])
    collector = made(configured(f"start_from={pretrained}"))
    seen = collector._world.reset(5)
    ours = collector.act(seen)
    np.testing.assert_allclose(ours, np.asarray(sac.act_mean(state, seen)), atol=1e-5)
    for name in ("mean", "deviation"):  # pretraining's normalization stays
        ddpg = learner_of(collector).ddpg
        ddpg.observe(seen + 100.0)
        assert float(getattr(ddpg.actor, name).abs().max()) < 50
    collector.close()


def test_kept_transitions_are_sampled_and_weighed(pretrained: Path) -> None:
    config = configured(
        f"start_from={pretrained}", "ddpg.pretrain_share=0.25", "ddpg.dense=[[0, 0.5]]"
    )
    collector = made(config)
    learner = learner_of(collector)
    assert learner.kept is not None and 1 <= len(learner.kept) <= 32
    collector._step(collector._explore(0), 0)
    batch = learner.sample(np.random.default_rng(0))
    assert batch.observation.shape == (2, 32, 89)
    saved, _ = checkpoint.load(max(pretrained.glob("step_*")), keys=["replay"])
    rows = saved["replay"]["rows"].reshape(-1, saved["replay"]["rows"].shape[2])
    known = {row[:89].tobytes() for row in rows}
    old = [row.tobytes() in known for row in batch.observation[0]]
    assert old == [False] * 24 + [True] * 8
    paid = {float(np.float32(0.5) * r) for r in rows[:, -3]}
    assert {float(r) for r in batch.reward[0, 24:]} <= paid
    collector.close()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["rewards.height=7.0"], r"start_from was rewarded otherwise \(rewards\.height\)"),
        (["observation.features=[clock]"], "start_from saw fewer features"),
    ],
)
def test_kept_transitions_of_another_reward_are_not_used(
    pretrained: Path, overrides: list[str], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    start = f"start_from={pretrained}", "ddpg.pretrain_share=0.25"
    with caplog.at_level(logging.WARNING):
        collector = made(configured(*start, *overrides))
    assert learner_of(collector).kept is None
    assert any(said.replace("\\", "") in message for message in caplog.messages)
    collector.close()


def test_another_number_of_workers_keeps_the_learner(caplog: pytest.LogCaptureFixture) -> None:
    _, tree = to_the_end(configured("training.env_steps=150"))
    tree["team"]["1"] = tree["team"]["0"]
    collector = make_collector(CONFIG, tree, Alone())
    with caplog.at_level(logging.WARNING):
        collector.restore(tree, 150)
    assert "is of 2 workers, here are 1: replay and worlds begin anew" in caplog.text
    assert differing({"l": collector.state()["learner"]}, {"l": tree["learner"]}) == []
    assert len(collector.own.learner.replay) == 0
    collector.close()
