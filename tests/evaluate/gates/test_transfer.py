"""Gate 3: what it compares, what it says, and that MJX and the official game can be compared."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest
from evaluate.gates.tf32 import tf32

from booster_ray.config import Config
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.options import gains, soccer_options
from booster_ray.evaluate.gates import transfer
from booster_ray.evaluate.gates.conversion import jax_policy
from booster_ray.evaluate.gates.mjx import MjxGame
from booster_ray.evaluate.gates.rounds import LEVEL, MINIMUM
from booster_ray.evaluate.gates.transfer import compare, gate3
from booster_ray.evaluate.play import Episode, Measures, lost, wanted
from booster_ray.evaluate.target import checkpoint_actor, find_checkpoint
from booster_ray.rl.sac import networks
from booster_ray.soccer import game
from policies import save_checkpoint, tiny_config

SAMPLED = ("obstacle", "kick_to_target")
N = 128


def episodes(n: int = N, **values: float) -> list[Episode]:
    """``n`` of each task that is a sample, all alike but for a little noise; one of Goalie."""
    rng = np.random.default_rng(0)
    told = {"score": 1.0, "seconds": 8.0, "fallen": 0.0, "height": 0.62, "contact": 0.8}
    told |= {"torque": 0.2, **values}
    return [
        Episode(
            task, i, told["score"] + 0.01 * rng.standard_normal(), {}, told["seconds"],
            told["fallen"], 0.0, 1.0, None, 0.0, told["height"], told["contact"], told["torque"],
        )
        for task in game.TASKS
        for i in range(n if task in SAMPLED else 1)
    ]  # fmt: skip


def test_the_same_behaviour_passes() -> None:
    verdict = compare(episodes(), episodes(seconds=7.5, score=0.8, fallen=0.0), level=1)
    assert verdict.passed and not verdict.advice and len(verdict.rows) == 9
    told = verdict.numbers["tasks"]["obstacle"]["survival"]
    assert (told["mjx"], told["official"], told["loss"], told["pairs"]) == (8.0, 7.5, 0.5, N)
    assert told["bound"] == pytest.approx(1.6) and told["p_within"] < LEVEL and told["holds"]
    assert verdict.numbers["tasks"]["goalie"]["survival"]["pairs"] == 1
    assert verdict.numbers["alpha"] == verdict.numbers["level"] == LEVEL


@pytest.mark.parametrize(
    ("worse", "name"),
    [({"seconds": 5.0}, "survival"), ({"fallen": 1.0}, "fall rate"), ({"score": -0.5}, "score")],
)
def test_what_is_lost_beyond_the_bound_fails(worse: dict[str, float], name: str) -> None:
    verdict = compare(episodes(), episodes(**worse), level=1)
    assert verdict.passed is False
    failed = [what for what, *_, holds in verdict.rows if holds is False]
    assert failed == [f"{task}: {name}" for task in game.TASKS]


@pytest.mark.parametrize("task", game.TASKS)
def test_one_bad_task_fails(task: str) -> None:
    """In Goalie by its only pair of episodes: another would be the same."""
    played = [dataclasses.replace(e, seconds=2.0) if e.task == task else e for e in episodes()]
    verdict = compare(episodes(), played, level=0)
    assert verdict.passed is False
    assert [what for what, *_, holds in verdict.rows if holds is False] == [f"{task}: survival"]


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


def test_too_few_episodes_are_no_verdict_and_say_how_many_would_be() -> None:
    verdict = compare(episodes(10), episodes(10), level=0)
    assert verdict.passed is None and verdict.numbers["needed"] >= 32
    assert f"fewer than {MINIMUM} episodes cannot pass" in verdict.advice[1]
    assert verdict.advice[-1].startswith(f"next: --episodes {verdict.numbers['needed']},")
    rows = {what: (found, holds) for what, found, _, holds in verdict.rows}
    assert rows["obstacle: fall rate"] == ("0.00, not known yet", None)
    assert rows["goalie: fall rate"] == ("0.00", True)  # deterministic: one tells all


def test_a_loss_at_its_bound_is_not_known_and_hardly_will_be() -> None:
    rng = np.random.default_rng(0)
    noisy = [dataclasses.replace(e, score=1 + rng.normal()) for e in episodes()]
    sampled = {t: [e.score for e in noisy if e.task == t] for t in SAMPLED}
    goalie = noisy[0].score
    at_bound = [
        dataclasses.replace(
            e, score=goalie if e.task == "goalie" else 2 * np.mean(sampled[e.task]) - e.score - 0.5
        )
        for e in noisy
    ]
    verdict = compare(noisy, at_bound, level=0)
    assert verdict.passed is None
    assert verdict.numbers["needed"] is None
    assert "not known yet after 128" in verdict.advice[0] and "obstacle: score" in verdict.advice[0]


def test_lost_physics_is_a_fall_and_is_counted() -> None:
    """Left out, a policy that breaks the simulation would be judged by the episodes that stay."""
    played = [
        lost(e.task, e.seed, Measures(1).of(0)) if e.seed % 2 and e.task == "obstacle" else e
        for e in episodes()
    ]
    verdict = compare(episodes(), played, level=0)
    assert verdict.passed is False and verdict.numbers["lost"] == {"mjx": 0, "official": N // 2}
    found = verdict.numbers["tasks"]["obstacle"]
    assert found["fall rate"]["official"] == 0.5 and found["score"]["official"] < -2


def test_episodes_of_other_seeds_are_no_pairs() -> None:
    shifted = [dataclasses.replace(e, seed=e.seed + 1) for e in episodes()]
    with pytest.raises(ValueError, match="not of the same tasks and seeds"):
        compare(episodes(), shifted, level=0)


# -- rounds, of episodes that nobody simulates -----------------------------------------------------


def told(wanted: Sequence[tuple[str, int]], loss: float = 0.0) -> list[Episode]:
    """Episodes by their seed alone, so that pairs are alike but for a loss of score."""
    return [
        Episode(
            task, seed, 2 + seed % 7 / 7 - loss, {}, 8.0, 0.0, 0.0, 1.0, None, 0.0, 1.0, 1.0, 1.0
        )
        for task, seed in wanted
    ]


class Table:
    """Stands for :class:`MjxGame`."""

    chunks: ClassVar[list[int]]

    def __init__(self, config: Config, policy: Any, worlds: int, impl: str) -> None:
        Table.chunks = [worlds]

    def play(self, wanted: Sequence[tuple[str, int]], progress: Any) -> list[Episode]:
        Table.chunks.append(len(wanted))
        progress(1, 2)
        return told(wanted)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "c", tiny_config(("clock",)))


def officially(monkeypatch: pytest.MonkeyPatch, loss: float) -> None:
    def play(seeds: Sequence[int], _: Any, *, tasks: Sequence[str], **__: Any) -> list[Episode]:
        return told(wanted(seeds, tasks), loss)

    monkeypatch.setattr(transfer, "MjxGame", Table)
    monkeypatch.setattr(transfer, "play_native", play)


def test_rounds_go_on_until_it_is_known(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    officially(monkeypatch, 0.3)
    seen: list[tuple[int, int]] = []
    verdict = gate3(checkpoint, progress=lambda *at: seen.append(at))
    assert verdict.passed and verdict.numbers["episodes"] == 128
    # The first round is one chunk, with one episode of Goalie; later rounds play new seeds alone.
    assert Table.chunks == [65, 65, 64, 128]
    found = verdict.numbers["tasks"]
    assert [found[task]["fall rate"]["pairs"] for task in game.TASKS] == [1, 128, 128]
    assert seen == sorted(seen) and seen[-1] == (128_000, 512_000)


def test_it_stops_as_soon_as_it_fails(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By Goalie, which one pair decides."""
    officially(monkeypatch, 4.0)
    verdict = gate3(checkpoint)
    assert verdict.passed is False and Table.chunks == [65, 65]
    assert "goalie: score" in [what for what, *_, holds in verdict.rows if holds is False]


def test_at_the_last_round_it_may_not_know(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    officially(monkeypatch, 0.3)
    verdict = gate3(checkpoint, 32)
    assert verdict.passed is None and verdict.numbers["needed"] == 128
    assert gate3(checkpoint, verdict.numbers["needed"]).passed


# -- whole, with a reference that is quicker than MJX ----------------------------------------------


class NativeGame:
    """Plays the JAX policy as :class:`MjxGame` does, in native worlds with our own PD control."""

    def __init__(
        self, config: Config, policy: Callable[[np.ndarray], np.ndarray], worlds: int, impl: str
    ) -> None:
        self._config, self._policy = config, policy

    def play(self, wanted: Sequence[tuple[str, int]], progress: Any) -> list[Episode]:
        world = NativeWorld(
            [task for task, _ in wanted],
            len(wanted),
            gains(self._config),
            auto_reset=False,
            **soccer_options(self._config),
        )
        seen = world.reset(0, env_seeds=[seed for _, seed in wanted])
        ended: dict[int, dict[str, float]] = {}
        while len(ended) < len(wanted):
            result = world.step(self._policy(seen))
            seen = result.observation
            ended |= {int(e["env"]): e for e in result.episodes}
        world.close()
        names = ("score", "seconds", "fallen", "success", "touched")
        rest = {"first_touch": None, "ball_speed": 0, "height": 1, "contact": 1, "torque": 1}
        return [
            Episode(task, seed, terms={}, **{n: ended[i][n] for n in names}, **rest)
            for i, (task, seed) in enumerate(wanted)
        ]


def test_the_verdict_is_the_same_where_products_are_tf32(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "MjxGame", NativeGame)
    exact = gate3(checkpoint, 3)
    found = exact.numbers["tasks"]
    for task in game.TASKS:  # the pairs are of the same spawns, and of the same policy
        score = found[task]["score"]
        assert score["mjx"] == pytest.approx(score["official"], abs=0.2)
    monkeypatch.setitem(networks.MATMULS, "float32", tf32)
    rounded = gate3(checkpoint, 3)
    assert rounded.numbers == exact.numbers and rounded.rows == exact.rows


# -- in MJX ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_falling_policy_falls_in_mjx_as_in_the_official_game(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "c", tiny_config(("clock",)))
    seen: list[int] = []
    verdict = gate3(path, 2, impl="jax", progress=lambda done, of: seen.append(done))
    assert verdict.passed is None and verdict.numbers["needed"] <= 128
    for task in game.TASKS:
        told = verdict.numbers["tasks"][task]
        assert told["score"]["pairs"] == (2 if task in SAMPLED else 1)
        assert told["fall rate"]["mjx"] == told["fall rate"]["official"] == 1.0
        assert told["survival"]["mjx"] == pytest.approx(told["survival"]["official"], abs=0.5)
    assert verdict.numbers["differences"]["height"] < 0.1
    assert verdict.numbers["differences"]["torque"] < 0.5
    assert seen == sorted(seen)


@pytest.mark.slow
def test_the_reference_in_mjx_is_the_same_where_products_are_tf32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = checkpoint_actor(save_checkpoint(tmp_path / "c", tiny_config(("clock",))))
    wanted = [("goalie", 0), ("obstacle", 3), ("kick_to_target", 4)]
    # Five worlds: what the test above has compiled.
    exact = MjxGame(actor.config, jax_policy(actor), 5, "jax").play(wanted)
    monkeypatch.setitem(networks.MATMULS, "float32", tf32)
    assert MjxGame(actor.config, jax_policy(actor), 5, "jax").play(wanted) == exact
    monkeypatch.setattr(jax, "default_matmul_precision", lambda _: nullcontext())
    assert MjxGame(actor.config, jax_policy(actor), 5, "jax").play(wanted) != exact  # it would bite


@pytest.mark.slow
def test_lost_physics_in_mjx_counts_as_the_worst(tmp_path: Path) -> None:
    """A policy whose actions are not a number from 0.2 s on, in one of the worlds."""
    actor = checkpoint_actor(save_checkpoint(tmp_path / "c", tiny_config(("clock",))))
    calls: list[int] = []

    def breaking(observation: np.ndarray) -> np.ndarray:
        calls.append(1)
        action = np.zeros((len(observation), 12), np.float32)
        action[1] = np.nan if len(calls) > 10 else 0.0
        return action

    # Five worlds: what the test above has compiled.
    played = MjxGame(actor.config, breaking, 5, "jax").play([("obstacle", 3), ("obstacle", 4)])
    assert [e.lost for e in played] == [False, True]
    assert (played[1].score, played[1].fallen, played[1].seed) == (-6.0, 1.0, 4)
    assert 0.2 <= played[1].seconds < 0.3 < played[0].seconds


@pytest.mark.slow
@pytest.mark.skipif("BOOSTER_RAY_TRAINED_CHECKPOINT" not in os.environ, reason="no trained policy")
def test_a_standing_policy_that_loses_its_damping_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = transfer.settings_of
    monkeypatch.setattr(transfer, "settings_of", lambda c: right(c)._replace(kd=(0.0,) * 6))
    path = find_checkpoint(Path(os.environ["BOOSTER_RAY_TRAINED_CHECKPOINT"]))
    verdict = gate3(path, 16, impl="jax")
    assert verdict.passed is False and verdict.advice
    assert any("survival" in what for what, *_, holds in verdict.rows if holds is False)
