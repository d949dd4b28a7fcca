"""Our DDPG finetuning beside the competition's own DDPG loop, and two workers beside one.

The competition's loop, built anew from its documentation: one sai_mujoco environment (Goalie), a
Python list as replay, 64 transitions drawn from it and learned every 4 steps, an actor and a
critic of 256-256. Ours has the same networks and learns as many transitions per 500 Hz step (16),
in larger and rarer batches. Everything runs on the cores this process is given; medians are
printed, and the last line is one JSON object.

    python benchmarks/finetune.py [--seconds 20] [--rounds 3] [--worlds 64] [--batch 2560]
"""

from __future__ import annotations

import argparse
import copy
import json
import multiprocessing
import os
import random
import socket
import statistics
import time
from collections.abc import Callable
from typing import Any

CORES = len(os.sched_getaffinity(0))
# What a run of ours sets for itself, here for all: JAX reads it when it loads.
os.environ.setdefault("NPROC", str(CORES))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np
import torch
from torch import Tensor, nn

from booster_ray.config import Config
from booster_ray.envs.official import make_official, observe_official
from booster_ray.rl.ddpg.team import Alone, current_team
from booster_ray.soccer import game
from booster_ray.train.finetune import make_collector

HIDDEN = (256, 256)
THEIR_BATCH, THEIR_EVERY = 64, 4
REPLAYED = THEIR_BATCH // THEIR_EVERY
"""Transitions learned from, per 500 Hz step."""
DECIMATION = 10


def config(worlds: int, batch: int, workers: int = 1, cpus: int = CORES, **ddpg: Any) -> Config:
    """Ours, with the sizes of this comparison."""
    updates, rest = divmod(worlds * DECIMATION * REPLAYED, batch)
    if rest:
        raise SystemExit(f"{worlds} worlds replay {updates * batch + rest}, no multiple of {batch}")
    settings: dict[str, Any] = {
        "critic_hidden": HIDDEN,
        "batch_size": batch,
        "updates_per_step": updates,
        "critic_warmup": 0,
        "thawing": [{"start": 0, "layers": None, "lr": 1e-4}],
        "learning_starts": 0,
        "replay_size": 100_000,
    }
    return Config.model_validate(
        {
            "stage": "finetune",
            "tasks": ["goalie"],
            "world": {"num_envs": worlds},
            "control": {"decimation": DECIMATION},
            "sac": {"actor_hidden": HIDDEN, "activation": "relu", "layer_norm": False},
            "ddpg": settings | ddpg,
            "trainer": {"cpus": cpus, "workers": workers},
        }
    )


def steps_per_second(advance: Callable[[], int], seconds: float) -> float:
    """500 Hz steps per second of what makes some at each call."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        done += advance()
    return done / (time.perf_counter() - began)


# -- the competition's loop ------------------------------------------------------------------


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    first, second = HIDDEN
    return nn.Sequential(
        nn.Linear(inputs, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(),
        nn.Linear(second, outputs),
    )  # fmt: skip


class CompetitionLoop:
    """One environment, a list, 64 transitions every 4 steps."""

    def __init__(self) -> None:
        self._env = make_official("goalie")
        seen, self._info = self._env.reset(seed=0)
        self._state = observe_official(seen, self._info, "goalie")
        torch.manual_seed(0)
        size = len(self._state)
        self._actor = nn.Sequential(_mlp(size, game.ACTION_SIZE), nn.Tanh())
        self._critic = _mlp(size + game.ACTION_SIZE, 1)
        self._targets = copy.deepcopy(self._actor), copy.deepcopy(self._critic)
        self._actor_opt = torch.optim.Adam(self._actor.parameters(), lr=1e-4)
        self._critic_opt = torch.optim.Adam(self._critic.parameters(), lr=1e-3)
        self._replay: list[tuple[Any, ...]] = []
        self._limit = np.array(game.TORQUE_LIMITS)
        self._steps = 0

    def advance(self) -> int:
        """One environment step, and an update after every fourth."""
        with torch.no_grad():
            action = self._actor(torch.from_numpy(self._state)[None])[0].numpy()
        action = np.clip(action + np.random.normal(0.0, 0.1, action.shape), -1.0, 1.0)
        seen, reward, terminated, truncated, self._info = self._env.step(action * self._limit)
        following = observe_official(seen, self._info, "goalie")
        self._replay.append((self._state, action, reward, following, terminated))
        self._state = following
        if terminated or truncated:
            seen, self._info = self._env.reset()
            self._state = observe_official(seen, self._info, "goalie")
        self._steps += 1
        if self._steps % THEIR_EVERY == 0 and len(self._replay) >= THEIR_BATCH:
            self._update()
        return 1

    def _update(self) -> None:
        drawn = zip(*random.sample(self._replay, THEIR_BATCH), strict=True)
        state, action, reward, following, over = (
            torch.as_tensor(np.array(part), dtype=torch.float32) for part in drawn
        )
        actor, critic = self._targets
        with torch.no_grad():
            value = critic(torch.cat([following, actor(following)], 1))[:, 0]
            target = reward + 0.99 * (1 - over) * value
        q = self._critic(torch.cat([state, action], 1))[:, 0]
        self._descend(self._critic_opt, nn.functional.mse_loss(q, target))
        pays = self._critic(torch.cat([state, self._actor(state)], 1))
        self._descend(self._actor_opt, -pays.mean())
        with torch.no_grad():
            for slow, fast in zip(self._targets, (self._actor, self._critic), strict=True):
                for one, other in zip(slow.parameters(), fast.parameters(), strict=True):
                    one.mul_(0.995).add_(other, alpha=0.005)

    def _descend(self, optimizer: torch.optim.Adam, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# -- ours ------------------------------------------------------------------------------------


class Ours:
    """A collector that has warmed up."""

    def __init__(self, config: Config) -> None:
        self._collector = make_collector(config, None, Alone())
        self._done = 0
        # Until there is a batch, it does not learn; and the first updates compile and allocate.
        while self._done < 2 * config.ddpg.batch_size + 4 * self._collector.stride:
            self.advance()

    def advance(self) -> int:
        """One control step of all worlds; its 500 Hz steps."""
        self._collector.advance(self._done)
        self._done += self._collector.stride
        return self._collector.stride * DECIMATION


def _member(rank: int, size: int, port: int, arguments: tuple[int, int], answers: Any) -> None:
    worlds, batch = arguments
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size
    )
    settings = config(worlds, batch, workers=size, cpus=1, matmul="bfloat16")
    collector = make_collector(settings, None, current_team())
    done, rates = 0, []
    for part in range(4):
        began = time.perf_counter()
        for _ in range(20):
            collector.own.advance(done)
            done += collector.stride
        if part:  # the first warms up
            rates.append(20 * collector.stride * DECIMATION / (time.perf_counter() - began))
    if rank == 0:
        answers.put(statistics.median(rates))
    collector.own.close()
    torch.distributed.destroy_process_group()


def team_rate(size: int, worlds: int, batch: int) -> float:
    """500 Hz steps per second of ``size`` workers with a core each, together."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    work = size, port, (worlds, batch), answers
    members = [context.Process(target=_member, args=(rank, *work)) for rank in range(size)]
    for member in members:
        member.start()
    rate: float = answers.get(timeout=1800)
    for member in members:
        member.join()
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worlds", type=int, default=64)
    parser.add_argument("--batch", type=int, default=2560)
    args = parser.parse_args()
    torch.set_num_threads(CORES)
    print(f"{CORES} CPUs, torch {torch.__version__}, {REPLAYED} transitions replayed a step")
    loops: dict[str, CompetitionLoop | Ours] = {
        "the competition's loop": CompetitionLoop(),
        "ours, float32": Ours(config(args.worlds, args.batch)),
        "ours, bfloat16 products": Ours(config(args.worlds, args.batch, matmul="bfloat16")),
    }
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(args.rounds):
        for name, loop in loops.items():
            rates[name].append(steps_per_second(loop.advance, args.seconds))
    theirs, full, half = (statistics.median(values) for values in rates.values())
    for name, values in rates.items():
        print(f"  {name:26} {statistics.median(values):9,.0f} steps/s of 2 ms")
    one, two = (team_rate(size, args.worlds, args.batch) for size in (1, 2))
    print(f"  one worker, one core       {one:9,.0f}\n  two workers, a core each   {two:9,.0f}")
    summary = {
        "vs_competition_loop": half / theirs,
        "vs_competition_loop_float32": full / theirs,
        "two_workers_vs_one": two / one,
        "competition_steps_per_second": theirs,
    }
    print(json.dumps({name: round(value, 3) for name, value in summary.items()}))


if __name__ == "__main__":
    main()
