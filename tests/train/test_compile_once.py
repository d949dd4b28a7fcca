"""What differs in number only compiles nothing: the next trial in a process, and a resumed run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import jax
import pytest
from train.trees import differing

from booster_ray.config import Config, load
from booster_ray.store.checkpoint import Tree
from booster_ray.train.runner import Runner

DEBUG = Path(__file__).parents[2] / "tune_configs/debug.yaml"
COMPILED = "/jax/core/compile/backend_compile_duration"
"""JAX tells of it whenever it compiles, also where it finds the program on the disk."""

COMMON = [
    "observation.features=[clock, egocentric]",
    "rewards.official=1.0",
    "rewards.goal=0.5",
    "rewards.torque=-0.1",
    "rewards.gait=2.0",
    "randomization.level=1",
    "curriculum=[{terms: [costs], factor: [[0, 0.2], [1, 1]]}]",
    "sac.max_grad_norm=1.0",
    "sac.lr_factor=[[0, 1], [1, 0.5]]",
    "sac.n_step=3",
    "sac.batch_size=16",
    "evaluation.episodes_per_task=1",
    "world.time_limit=terminates",
]
NATIVE = ["world.num_envs=6", "training.env_steps=120", "training.report_every=30"]
MJX = [
    "world={kind: mjx, impl: jax, num_envs: 3, steps_per_dispatch: 2}",
    "training.env_steps=48",
    "training.report_every=12",
    "sac.critic=c51",
    "sac.num_atoms=11",
    "sac.actor_every=2",
    "sac.learning_starts=16",
    "sac.replay_size=96",
]


def configured(*overrides: str) -> Config:
    return load(DEBUG, [*COMMON, *overrides]).base()


def moved(value: Any) -> Any:
    """Every float in it made a little smaller; what is 0 is left out, and stays so."""
    if isinstance(value, dict):
        return {name: moved(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [moved(part) for part in value]
    return 0.97 * value if isinstance(value, float) else value


def otherwise(config: Config) -> Config:
    """A trial of the same structure, in which every number that may be searched is another."""
    told = config.to_dict()
    for name in ("world", "control", "observation", "rewards", "sac", "curriculum"):
        told[name] = moved(told[name])
    told["sac"] |= {"target_entropy": -1.0, "task_shares": {"goalie": 3.0}}
    told["randomization"] = {"level": 3}
    told["world"]["time_limit"] = "truncates"
    told["seed"] = 1
    return Config.model_validate(told)


@contextmanager
def compilations() -> Iterator[list[str]]:
    """The names of what is compiled in here."""
    found: list[str] = []

    def listen(event: str, seconds: float, **about: Any) -> None:
        if event == COMPILED:
            found.append(str(about.get("fun_name", event)))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def run(config: Config, restored: Tree | None = None, stop: int | None = None) -> Tree:
    """Train to the end, or to a report of ``stop`` env steps; what was captured there."""
    training = Runner(config, restored)
    try:
        for report in training:
            if report.metrics["env_steps"] == stop:
                break
        return deepcopy(report.capture())  # a replay is read from where it lies
    finally:
        training.close()


@pytest.mark.parametrize("kind", ["native", pytest.param("mjx", marks=pytest.mark.slow)])
def test_numbers_compile_nothing(kind: str) -> None:
    """The test of the game's rules and of evaluation is in it: nothing at all is compiled anew."""
    config = configured(*(NATIVE if kind == "native" else MJX))
    other = otherwise(config)
    assert other.sac.discount != config.sac.discount and other.control.kp != config.control.kp
    with compilations() as first:
        middle = run(config, stop=60 if kind == "native" else 24)
        whole = run(config)
    assert first
    with compilations() as second:
        end = run(other)
    assert end["env_steps"] == config.training.env_steps
    assert second == []
    with compilations() as resumed:
        continued = run(config, middle)
    # Transitions are put back into the memory of the replay, which a run from the begin never does.
    assert set(resumed) <= {"jit(_put)"}
    # The learning rates' schedule goes on where it was.
    assert differing(whole, continued) == []
