"""No two random streams are alike."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import numpy as np
import pytest

from booster_ray.config import Config, load
from booster_ray.evaluate.scores import RETURNS_SEED, Evaluator
from booster_ray.runtime.seeding import STREAMS, stream, stream_generator, stream_seed
from booster_ray.train.device_collector import DeviceCollector
from booster_ray.train.runner import make_collector

SEEDS, RANKS, BEGINNINGS = (0, 1, 2, 7), range(16), (0, 6, 600)


def distinct(things: list[Any]) -> None:
    known = [tuple(np.ravel(thing).tolist()) for thing in things]
    assert len(set(known)) == len(known)


def test_no_two_names_ranks_or_beginnings_have_a_seed_in_common() -> None:
    numbers = [(), *((rank,) for rank in RANKS), *itertools.product(RANKS, BEGINNINGS)]
    each = list(itertools.product(SEEDS, STREAMS, numbers))
    distinct([stream(seed, name, *some).generate_state(4) for seed, name, some in each])
    seeds = [stream_seed(seed, name, *some) for seed, name, some in each]
    distinct(seeds)
    assert min(seeds) >= 2**30 and max(seeds) < RETURNS_SEED
    drawn = [stream_generator(seed, name, *some).random(2) for seed, name, some in each]
    distinct(drawn)


def test_a_name_is_a_stream_whatever_stands_beside_it() -> None:
    assert stream_seed(0, "learner") == 1123695209


def configured(*overrides: str) -> Config:
    return load("debug", ["world.num_envs=24", "randomization.level=1", *overrides]).base()


@pytest.mark.parametrize("seed", [0, 1])
def test_no_key_of_a_run_on_the_device_is_used_twice(seed: int) -> None:
    made = make_collector(configured("world=brax:fast", f"seed={seed}", "sac.replay_size=2400"))
    assert isinstance(made, DeviceCollector)
    carry = made._carry
    # The learner's three keys: the one that it goes on with, and those of its first parameters.
    root = jax.random.key(stream_seed(seed, "learner"))
    learner = jax.random.key_data(jax.random.split(root, 3))
    np.testing.assert_array_equal(learner[0], carry.learner.key)
    worlds = jax.random.split(jax.random.PRNGKey(stream_seed(seed, "worlds", 0, 0)), 48)
    np.testing.assert_array_equal(worlds[24:], carry.worlds.key)
    distinct([*np.asarray(learner), *np.asarray(worlds), np.asarray(carry.key)])
    made.close()


@pytest.mark.parametrize("seed", [0, 1])
def test_no_generator_of_a_run_on_the_host_is_used_twice(seed: int) -> None:
    config = configured(f"seed={seed}")
    made, evaluator = make_collector(config), Evaluator(config, 8, threads=1, level=1)
    evaluator._world.reset(0, env_seeds=evaluator._seeds)
    world: Any = made._world  # type: ignore[attr-defined]
    other = [*evaluator._world._rngs[::3], evaluator._world._noise]  # one a seed, of three tasks
    rngs = [made._rng, *world._rngs, world._noise, *other]  # type: ignore[attr-defined]
    distinct([rng.bit_generator.seed_seq.generate_state(4) for rng in rngs])
    made.close()
    evaluator.close()
