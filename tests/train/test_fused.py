"""Training on the device: one compiled step, restorable bit for bit, also on several devices."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from train import sharing
from train.sharing import share_programs
from train.trees import differing, leaves, numbers

from booster_ray.config import Config, load
from booster_ray.envs.mjx import Outcome
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint import Tree
from booster_ray.train import device_collector
from booster_ray.train.device_collector import DeviceCollector
from booster_ray.train.report import Report
from booster_ray.train.runner import Runner

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"


def configured(*overrides: str) -> Config:
    return load(
        DEBUG,
        [
            "world=brax:fast",  # no physics: it compiles at once
            "world.num_envs=4",
            "world.steps_per_dispatch=4",
            "training.env_steps=480",
            "training.report_every=48",
            "evaluation.every=240",
            "checkpoint.every_env_steps=96",
            "sac.replay_size=128",  # wraps
            "sac.n_step=3",
            *overrides,
        ],
    ).base()


CONFIG = configured()


@pytest.fixture(autouse=True)
def _compile_once(monkeypatch: pytest.MonkeyPatch) -> None:
    share_programs(monkeypatch)
    monkeypatch.setattr(Runner, "_evaluate", lambda self: {"score": 0.0})


def loop(
    config: Config = CONFIG, restored: Tree | None = None, interrupt: threading.Event | None = None
) -> Iterator[Report]:
    training = Runner(config, restored, interrupt)
    assert isinstance(training.collector, DeviceCollector)
    yield from training
    training.close()


def to_the_end(restored: Tree | None = None) -> tuple[list[dict[str, float]], Tree]:
    reports = []
    for report in loop(restored=restored):
        reports.append(numbers(report))
        tree = report.capture() if report.metrics["env_steps"] == 480 else {}
    return reports, tree


def test_reports_and_their_cadence() -> None:
    reports, tree = to_the_end()
    assert [r["env_steps"] for r in reports] == list(range(0, 481, 48))
    assert [r["env_steps"] for r in reports if "score" in r] == [0, 240, 480]
    # The first update is in the 18th step: 64 transitions of 3 steps each.
    assert tree["learner"]["updates"] == 480 // 4 - 17
    assert [r["env_steps"] for r in reports if "critic_loss" in r] == list(range(96, 481, 48))
    assert all(np.isfinite(list(r.values())).all() for r in reports)


@pytest.mark.parametrize("env_steps", [0, 48, 96, 288])
def test_resume_from_disk_is_bit_exact(env_steps: int, tmp_path: Path) -> None:
    for report in loop():
        if report.metrics["env_steps"] == env_steps:
            checkpoint.save(tmp_path / "saved", report.capture())
            break
    reports, end = to_the_end()
    tree, _ = checkpoint.load(tmp_path / "saved")
    again, same_end = to_the_end(tree)
    assert again == [r for r in reports if r["env_steps"] > env_steps]
    assert differing(end, same_end) == []


def test_a_checkpoint_without_tasks_of_its_episodes_goes_on() -> None:
    """As those of earlier releases are."""
    for report in loop():
        if report.metrics["env_steps"] == 288:
            tree = report.capture()
            break
    reports, _ = to_the_end()
    del tree["fused"]["recent.task"]
    assert to_the_end(tree)[0] == [r for r in reports if r["env_steps"] > 288]


def test_lost_worlds_and_dropped_contacts_are_counted() -> None:
    def outcome(lost: list[bool], dropped: float) -> Outcome:
        n = len(lost)
        record = {name: jnp.ones(n) for name in ("return", "seconds", "task", "score")}
        nothing = jnp.zeros((n, 1))
        return Outcome(
            nothing, nothing, jnp.zeros(n), jnp.ones(n, bool), jnp.zeros(n, bool),
            recorded=jnp.ones(n, bool), episodes=record | {"lost": jnp.asarray(lost, jnp.float32)},
            dropped=jnp.float32(dropped),
        )  # fmt: skip

    made = sharing.make_collector(CONFIG)
    assert {k: made.metrics()[k] for k in ("episodes_lost", "contacts_dropped")} == {
        "episodes_lost": 0, "contacts_dropped": 0,
    }  # fmt: skip
    recent = made._carry.recent
    for lost in ([True, False, True], [False] * 3):
        recent = device_collector._remember(recent, outcome(lost, 1.5))
    made._take(made._carry._replace(recent=recent))
    told = made.metrics()
    assert told["episodes_lost"] == 2 and told["contacts_dropped"] == 3
    tree, again = made.state(), sharing.make_collector(CONFIG)
    again.restore(tree, 0)
    assert again.metrics()["episodes_lost"] == 2
    for name in ("recent.lost", "recent.dropped"):  # as in an earlier release
        del tree["fused"][name]
    before = sharing.make_collector(CONFIG)
    before.restore(tree, 0)
    assert before.metrics()["episodes_lost"] == 0


def test_a_resumed_run_has_the_program_of_the_first() -> None:
    """It is compiled once and found in the cache: types must be equal to the last bit."""
    first, again = sharing.make_collector(CONFIG), sharing.make_collector(CONFIG)
    again.restore({**first.state(), "env_steps": 0}, 0)
    assert isinstance(first, DeviceCollector) and isinstance(again, DeviceCollector)
    programs = [c._dispatch.lower(c._numbers, c._carry).as_text() for c in (first, again)]
    assert programs[0] == programs[1]


def test_an_interrupt_is_answered_after_the_dispatch() -> None:
    interrupt = threading.Event()
    interrupt.set()
    reports = loop(interrupt=interrupt)
    assert [next(reports).metrics["env_steps"] for _ in range(3)] == [0, 16, 32]


def test_no_dispatch_begins_before_the_one_before_has_ended() -> None:
    """So an interrupt waits for one, however rarely the run reports.

    A CPU ends small programs before it returns from them, so what stands for a device counts.
    """
    collector: Any = sharing.make_collector(CONFIG)
    under_way: list[Any] = []

    class Metric:
        def block_until_ready(self) -> Any:
            under_way.remove(self)
            return self

    def dispatch(numbers: Any, carry: Any) -> tuple[Any, dict[str, Any]]:
        assert under_way == []
        under_way.append(Metric())
        return carry, {"critic_loss": under_way[-1]}

    collector._dispatch = dispatch
    for turn in range(3):
        collector.advance(turn * collector.stride)
        assert under_way == []


def test_a_capture_stays_as_it_was_taken() -> None:
    """The dispatch takes over its state's memory; the replay must be saved before."""
    captured: list[tuple[Tree, dict[str, Any]]] = []
    for report in loop():
        tree = {k: v for k, v in report.capture().items() if k != "replay"}
        captured.append((tree, leaves(tree)))
    for tree, before in captured:
        assert leaves(tree) == before


def test_the_newest_episodes_are_averaged() -> None:
    """'fast' lasts 1000 steps of 1 s, and pays nothing."""
    config = configured("training.env_steps=4096", "training.report_every=1024")
    told = [numbers(report) for report in loop(config)]
    assert [r.get("episode_seconds") for r in told] == [None, None, None, None, 1000.0]


SHARDED = """
import sys
import jax
import jax.numpy as jnp
import numpy as np
from booster_ray.config import load
from booster_ray.train.runner import Runner

Runner._evaluate = lambda self: {"score": 0.0}
losses, weights = [], []
for devices in (1, 2):
    overrides = [*sys.argv[2:], f"sac.devices={devices}"]
    training = Runner(load(sys.argv[1], overrides).base())
    reports = [r.metrics for r in training]
    carry = training.collector._carry
    assert len(carry.worlds.key.sharding.device_set) == devices
    weights.append(jax.tree.leaves(jax.device_get(carry.learner.actor)))
    losses.append([r["critic_loss"] for r in reports if "critic_loss" in r])
again = Runner(load(sys.argv[1], overrides).base(), training._capture())
assert again.collector._carry.worlds.key.sharding == carry.worlds.key.sharding
np.testing.assert_allclose(*losses, rtol=1e-3)
for one, two in zip(*weights):
    np.testing.assert_allclose(one, two, rtol=1e-2, atol=1e-4)
"""


DIVIDED = """
import jax
import jax.numpy as jnp
from booster_ray.envs.brax_world import BraxDynamics
from booster_ray.envs.divided import DividedDynamics

whole, part = (BraxDynamics("inverted_pendulum/spring", n) for n in (6, 3))
divided = DividedDynamics(whole, part, 2)
state = jax.eval_shape(divided.start, 0)
assert state.now.pipeline_state.x.pos.shape == (6, 2, 3)
action = jax.ShapeDtypeStruct((6, 1), jnp.float32)
program = jax.jit(divided.advance).lower(state, action).as_text()
computed = ("multiply", "add", "subtract", "dot_general", "select", "broadcast_in_dim", "reduce")


def count(shape):
    lines = [line for line in program.splitlines() if f"tensor<{shape}xf32>" in line]
    return sum(any(f"stablehlo.{name}" in line for name in computed) for line in lines)


assert "sdy.manual_computation" in program
assert count("3x2x3") > 100 and count("6x2x3") == 0, (count("3x2x3"), count("6x2x3"))
"""


def with_two_devices(script: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        # Two devices on fewer than two threads would wait for each other for ever.
        env={
            **os.environ,
            "NPROC": "2",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_each_device_steps_its_share_of_the_worlds() -> None:
    """Positions of bodies (worlds, 2, 3) are computed for half the worlds, and never for all."""
    with_two_devices(DIVIDED)


@pytest.mark.slow
def test_two_devices_learn_what_one_learns() -> None:
    overrides = [
        "world=brax:fast", "world.num_envs=4", "world.steps_per_dispatch=4",
        "training.env_steps=144", "training.report_every=48", "sac.replay_size=128",
    ]  # fmt: skip
    with_two_devices(SHARDED, str(DEBUG), *overrides)


@pytest.mark.slow
def test_the_game_trains_on_mjx() -> None:
    config = configured("world=mjx", "world.num_envs=3", "world.steps_per_dispatch=2",
                        "training.env_steps=120", "training.report_every=60", "sac.n_step=1",
                        "sac.replay_size=96", "world.episode_seconds=0.2",
                        "curriculum=[{terms: [costs], factor: [[0, 0], [1, 1]]}]")  # fmt: skip
    reports, middle = [], None
    for report in loop(config):
        reports.append(numbers(report))
        if report.metrics["env_steps"] == 60:
            middle = deepcopy(report.capture())  # the replay of a capture goes on
    assert reports[-1]["episode_seconds"] == pytest.approx(0.2)
    again = [numbers(report) for report in loop(config, middle)]
    assert again == reports[2:]
