"""DDPG's update: what it computes, what it freezes, and that it goes on bit for bit."""

import copy
import functools
import multiprocessing
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from booster_ray.config.finetune import DDPG, ThawingStage
from booster_ray.rl.ddpg.host import HostDdpg
from booster_ray.rl.ddpg.learner import TARGET_NOISE_CUT, Ddpg, Leaves
from booster_ray.rl.ddpg.statistics import Statistics
from booster_ray.rl.ddpg.team import Alone, Distributed, Team, current_team
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.torch_actor import TorchActor
from booster_ray.runtime.seeding import stream_generator

OBS, ACT, SIZE = 5, 2, 16
SETTINGS: dict[str, Any] = {
    "critic_hidden": (16, 16),
    "batch_size": SIZE,
    "critic_lr": 1e-2,
    "tau": 0.1,
    "thawing": (ThawingStage(lr=1e-2),),
}
ALL = ThawingStage(lr=1e-2)
OPTIONS: list[dict[str, Any]] = [
    {},
    {"critics": 2},
    {"target_noise": 0.2},
    {"actor_every": 2},
    {"smoothness_penalty": 1.0},
    {"anchor": ((0.0, 1.0),)},
    {"matmul": "bfloat16"},
    {"max_grad_norm": None},
    {"max_grad_norm": 0.01},
]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small only lose by sharing their work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def learner(
    adapt: bool = False, team: Team | None = None, demonstrated: bool = False, **options: Any
) -> Ddpg:
    actor = TorchActor(OBS, ACT, (16, 8), "elu", True, 10.0)
    generator = torch.Generator().manual_seed(3)
    actor.mlp.initialize(generator)
    torch.nn.init.uniform_(actor.mlp.head.weight, -0.5, 0.5, generator=generator)
    actor.mean += 0.3
    actor.deviation *= 2.0
    config = DDPG(**SETTINGS | options)
    return Ddpg(config, actor, seed=1, adapt=adapt, demonstrated=demonstrated, team=team)


def batches(seed: int, updates: int = 3, size: int = SIZE) -> Batch:
    rng = np.random.default_rng(seed)
    seen, following = rng.normal(size=(2, updates, size, OBS)).astype(np.float32)
    action = rng.uniform(-1, 1, (updates, size, ACT)).astype(np.float32)
    reward, chance = rng.random((2, updates, size), np.float32)
    over = (chance < 0.2).astype(np.float32)
    return Batch(seen, action, reward, following, over, np.float32(0.9) * (1 - over))


def changed(before: Leaves, after: Leaves) -> set[str]:
    return {name for name in after if not np.array_equal(before.get(name), after[name])}


def part(leaves: Leaves, name: str) -> set[str]:
    return {key for key in leaves if key.startswith(f"{name}.")}


# -- one update ------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"critics": 2}, {"critics": 2, "target_noise": 0.4}])
def test_the_critics_loss_is_the_bellman_error(options: dict[str, Any]) -> None:
    """Against the equations, written with the networks as they are before the update."""
    ddpg = learner(**options)
    ddpg.learn(batches(0), ALL)  # so that networks and targets differ
    actor, critics = copy.deepcopy(ddpg._target_actor), copy.deepcopy(ddpg._target_critics)
    now, noise = copy.deepcopy(ddpg.critics), torch.Generator()
    noise.set_state(ddpg._generator.get_state())
    batch = batches(1, updates=1)
    ddpg.learn(batch, None)
    s, a, r, s2, _, discount = (torch.from_numpy(np.asarray(array[0])) for array in batch[:6])
    with torch.no_grad():
        a2 = actor(s2)
        if deviation := options.get("target_noise"):
            drawn = deviation * torch.randn(a2.shape, generator=noise)
            assert (drawn.abs() > TARGET_NOISE_CUT).any()
            a2 = (a2 + drawn.clamp(-0.5, 0.5)).clamp(-1, 1)
        q2 = [critic(torch.cat([actor.normalize(s2), a2], 1))[:, 0] for critic in critics.each]
        target = r + discount * functools.reduce(torch.minimum, q2)
        seen = torch.cat([actor.normalize(s), a], 1)
        q = [critic(seen)[:, 0] for critic in now.each]
        loss = sum(((one - target) ** 2).mean() for one in q)
    assert len(q) == options.get("critics", 1)
    assert ddpg.numbers()["critic_loss"] == pytest.approx(float(loss), rel=1e-5)
    assert ddpg.numbers()["q_max"] == pytest.approx(float(torch.stack(q).max()), rel=1e-5)


def test_targets_step_towards_the_networks() -> None:
    ddpg = learner()
    before = ddpg.state()
    ddpg.learn(batches(0, updates=1), ALL)
    after = ddpg.state()
    for name in part(after, "actor") | part(after, "critics"):
        if name.endswith(("mean", "deviation")):
            continue
        wanted = before[f"target_{name}"] + 0.1 * (after[name] - before[f"target_{name}"])
        np.testing.assert_allclose(after[f"target_{name}"], wanted, atol=1e-7, err_msg=name)


def test_an_actor_learns_what_pays() -> None:
    """One-step episodes that pay for an action equal to a function of the observation."""
    ddpg = learner(critic_lr=3e-3, critic_hidden=(32, 32), thawing=(ThawingStage(lr=3e-3),))
    rng = np.random.default_rng(0)
    weight = 0.4 * rng.standard_normal((OBS, ACT)).astype(np.float32)

    def error() -> float:
        seen = np.random.default_rng(9).standard_normal((256, OBS)).astype(np.float32)
        return float(np.abs(ddpg.act(seen) - np.tanh(seen @ weight)).mean())

    before = error()
    for _ in range(60):
        seen = rng.standard_normal((10, 64, OBS)).astype(np.float32)
        action = rng.uniform(-1, 1, (10, 64, ACT)).astype(np.float32)
        pays = -np.square(action - np.tanh(seen @ weight)).sum(-1)
        over = np.ones((10, 64), np.float32)
        ddpg.learn(Batch(seen, action, pays, seen, over, 0 * over), ThawingStage(lr=3e-3))
    assert error() < 0.5 * before


def test_the_smoothness_penalty_makes_the_policy_smoother() -> None:
    """Where nothing pays, only the penalty moves the actor."""

    def change(ddpg: Ddpg) -> float:
        given = batches(7)
        seen, following = given.observation[0], given.next_observation[0]
        return float(np.square(ddpg.act(seen) - ddpg.act(following)).mean())

    ddpg = learner(smoothness_penalty=100.0)
    before = change(ddpg)
    for i in range(20):
        ddpg.learn(batches(i)._replace(reward=np.zeros((3, SIZE), np.float32)), ALL)
    assert change(ddpg) < 0.5 * before
    assert ddpg.numbers()["policy_change"] < 0.5 * before


def test_an_anchor_holds_the_actor_at_its_first_policy() -> None:
    def moved(weight: float) -> float:
        ddpg = learner(anchor=((0.0, 1.0),))
        seen = batches(7).observation[0]
        first = ddpg.act(seen)
        for i in range(20):
            ddpg.learn(batches(i)._replace(reward=10 * batches(i).action[..., 0]), ALL, weight)
        return float(np.abs(ddpg.act(seen) - first).mean())

    free, held, firm = moved(0.0), moved(1.0), moved(100.0)
    assert free > 1.3 * held > 1.3 * firm
    # From scratch there is nothing to hold on to.
    assert not part(learner(adapt=True, anchor=((0.0, 1.0),)).state(), "anchor")


def test_a_demonstrator_is_followed() -> None:
    """Far from the first policy, and against what the critics say."""
    ddpg = learner(demonstrated=True, anchor=((0.0, 1.0),))
    seen, wanted = batches(7).observation[0], np.array([0.5, -0.5], np.float32)
    before = float(np.abs(ddpg.act(seen) - wanted).mean())
    for i in range(60):
        batch = batches(i)
        shown = np.broadcast_to(wanted, batch.action.shape).copy()
        reward = -10 * batch.action[..., 0]
        ddpg.learn(batch._replace(reward=reward, demonstrated=shown), ALL, 100.0)
    assert float(np.abs(ddpg.act(seen) - wanted).mean()) < 0.2 * before
    assert not part(ddpg.state(), "anchor")


# -- thawing ---------------------------------------------------------------------------------

HEAD = {"actor.mlp.head.weight", "actor.mlp.head.bias"}
SECOND = {f"actor.mlp.hidden.1.{m}.{p}" for m in ("linear", "norm") for p in ("weight", "bias")}
FIRST = {name.replace(".1.", ".0.") for name in SECOND}


@pytest.mark.parametrize(
    ("layers", "moving"),
    [(1, HEAD), (2, HEAD | SECOND), (3, HEAD | SECOND | FIRST), (None, HEAD | SECOND | FIRST)],
)
def test_a_stage_moves_its_layers_and_no_others(layers: int | None, moving: set[str]) -> None:
    ddpg = learner()
    before = ddpg.state()
    ddpg.learn(batches(0), ThawingStage(layers=layers, lr=1e-3))
    after = ddpg.state()
    assert changed(before, after) & part(after, "actor") == moving
    assert part(after, "critics") <= changed(before, after)
    # And back: a layer that freezes again stays.
    ddpg.learn(batches(1), ThawingStage(layers=1, lr=1e-3))
    assert changed(after, ddpg.state()) & part(after, "actor") == HEAD


def test_critics_warm_up_alone() -> None:
    ddpg = learner()
    before = ddpg.state()
    ddpg.learn(batches(0), None)
    moved = changed(before, ddpg.state())
    assert not moved & part(before, "actor") and part(before, "critics") <= moved
    assert "actor_loss" not in ddpg.numbers()


def test_a_stage_has_its_learning_rate() -> None:
    ddpg = learner(max_grad_norm=None)
    for rate in (1e-3, 1e-5):
        before = ddpg.state()
        ddpg.learn(batches(0, updates=1), ThawingStage(lr=rate))
        step = np.abs(ddpg.state()["actor.mlp.head.bias"] - before["actor.mlp.head.bias"])
        # Adam's first step is the learning rate; the next one is close to it.
        np.testing.assert_allclose(step, rate, rtol=0.2)


def test_a_delayed_actor_learns_every_second_time() -> None:
    ddpg = learner(actor_every=2)
    moves = []
    for i in range(4):
        before = ddpg.state()
        ddpg.learn(batches(i, updates=1), ALL)
        moves.append(bool(changed(before, ddpg.state()) & HEAD))
    assert moves == [True, False, True, False]


def test_more_layers_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ddpg\.thawing: layers is 4; the actor has 3"):
        learner(thawing=(ThawingStage(layers=4),))


# -- state -----------------------------------------------------------------------------------


def trained(ddpg: Ddpg, first: int, last: int) -> Ddpg:
    """Some updates that pass through stages."""
    for i in range(first, last):
        ddpg.observe(batches(i).observation[0])
        ddpg.learn(batches(i), *stages(i))
    return ddpg


def stages(i: int) -> tuple[ThawingStage | None, float]:
    """What learns, and how firmly it is held, in the i-th call."""
    return [None, ThawingStage(layers=1, lr=1e-3), ThawingStage(lr=1e-4)][
        min(i // 2, 2)
    ], 1.0 - 0.1 * i


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("at", [1, 3, 6])
def test_a_restored_learner_goes_on_bit_for_bit(options: dict[str, Any], at: int) -> None:
    options = {"adapt": "anchor" not in options, **options}
    whole = trained(learner(**options), 0, 8)
    half = trained(learner(**options), 0, at).state()
    kept = copy.deepcopy(half)
    again = trained(learner(**options), 0, 2)  # something else stands in it
    again.restore(half)
    end = trained(again, at, 8).state()
    assert end.keys() == whole.state().keys()
    assert changed(whole.state(), end) == set()
    assert changed(kept, half) == set()  # what was given stays as it was
    assert again.numbers() == whole.numbers()
    assert current_team().size == 1


@pytest.mark.slow
def test_a_compiled_update_learns_the_same() -> None:
    plain, compiled = trained(learner(), 0, 5), trained(learner(compile=True), 0, 5)
    for name, leaf in plain.state().items():
        if name.startswith(("actor.", "critics.")):
            np.testing.assert_allclose(compiled.state()[name], leaf, atol=2e-3, err_msg=name)
    half = trained(learner(compile=True), 0, 3).state()
    again = learner(compile=True)
    again.restore(half)
    assert changed(compiled.state(), trained(again, 3, 5).state()) == set()


def test_a_state_of_another_shape_is_refused() -> None:
    state = learner().state()
    with pytest.raises(ValueError, match=r"critics\.each\.1\.\S+ is missing; expected"):
        learner(critics=2).restore(state)
    with pytest.raises(ValueError, match=r"critics\.each\.0\.\S+ is of shape .*; expected"):
        learner(critic_hidden=(8, 16)).restore(state)
    with pytest.raises(ValueError, match=r"statistics\.mean is missing"):
        learner(adapt=True).restore(state)


def test_normalization_is_learned_from_scratch_only() -> None:
    seen = np.random.default_rng(0).normal(4.0, 3.0, (500, OBS)).astype(np.float32)
    seen[:, 2] = 7.0
    fixed, adapting = learner(), learner(adapt=True)
    for ddpg in (fixed, adapting):
        for chunk in np.split(seen, 5):
            ddpg.observe(chunk)
    assert torch.equal(fixed.actor.mean, learner().actor.mean)
    np.testing.assert_allclose(adapting.actor.mean, seen.mean(0), rtol=1e-5)
    spread = seen.std(0)
    spread[2] = 1.0
    np.testing.assert_allclose(adapting.actor.deviation, spread, rtol=1e-5)
    assert torch.equal(adapting._target_actor.deviation, adapting.actor.deviation)


# -- a team ----------------------------------------------------------------------------------


def _member(rank: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=2),
    )
    team = current_team()
    assert isinstance(team, Distributed) and (team.rank, team.size) == (rank, 2)
    assert team.share({"of": rank}) == {"of": 0}
    assert team.gather(rank) == ([0, 1] if rank == 0 else None)
    ddpg = learner(adapt=True, team=team, critics=2)
    for i in range(4):
        whole = batches(i)
        mine = slice(rank * SIZE // 2, (rank + 1) * SIZE // 2)
        ddpg.observe(whole.observation[0][mine])
        ddpg.learn(Batch(*(np.asarray(array)[:, mine] for array in whole[:6])), ALL)
    np.savez(folder / f"{rank}.npz", **ddpg.state())
    torch.distributed.destroy_process_group()


def test_two_workers_learn_as_one_with_the_whole_batch(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=_member, args=(1, port, tmp_path))
    other.start()
    alone = learner(adapt=True, critics=2)
    for i in range(4):
        alone.observe(batches(i).observation[0])
        alone.learn(batches(i), ALL)
    _member(0, port, tmp_path)
    other.join(120)
    assert other.exitcode == 0
    first, second = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in (0, 1))
    assert changed(first, second) == set()
    for name in part(first, "actor") | part(first, "critics") | part(first, "statistics"):
        # Adam divides by the gradient's size: where that is tiny, its rounding is not.
        np.testing.assert_allclose(first[name], alone.state()[name], atol=2e-3, err_msg=name)


def test_workers_of_a_team_draw_noise_of_their_own_on_targets() -> None:
    """And the same again, from the generator that a checkpoint holds of each."""

    def drawn(rank: int, **options: Any) -> Tensor | None:
        ddpg = learner(**options)
        share: Any = None
        host = HostDdpg(ddpg, share, 0, {}, own_share=share, kept=None, cores=1)
        host._scheduled = {"anchor": 0.0}
        host.sample = lambda rng: batches(0)  # type: ignore[method-assign]
        host.update(0, stream_generator(0, "collector", rank))
        return ddpg._target_noise(torch.Size((4, ACT)))

    noise = [drawn(rank, target_noise=0.4) for rank in (0, 1, 2, 0)]
    assert torch.equal(noise[0], noise[3])  # type: ignore[arg-type]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (noise[one] != noise[other]).all()  # type: ignore[union-attr]
    assert drawn(0) is None


def test_a_team_of_one_changes_nothing() -> None:
    tensor = torch.arange(3.0)
    alone = Alone()
    alone.average([tensor])
    assert tensor.tolist() == [0, 1, 2] and alone.share(7) == 7 and alone.gather(7) == [7]
    statistics = Statistics(2)
    statistics.update(np.ones((4, 2), np.float32), alone)
    assert statistics.deviation().tolist() == [1, 1] and statistics.mean.tolist() == [1, 1]
