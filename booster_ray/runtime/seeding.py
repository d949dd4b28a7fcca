"""One tree of random streams: whatever is drawn at random belongs to one of these names.

A run has one seed. Each of its generators is seeded by a child of that seed which has the stream's
name and, where there are several, their numbers: a worker's rank, the env steps at which episodes
begin anew. Children are NumPy's (``SeedSequence``'s ``spawn_key``; O'Neill 2015, "Developing a
seed_seq Alternative"), so no two streams are alike, in one run or in two, but by the chance with
which numbers of 30 bits coincide.

A child as a number is from [2³⁰, 2³¹): evaluations play episodes seeded 0, 1, 2, … or 2³¹
(:mod:`booster_ray.evaluate.scores`), and never one that was trained on.
"""

from __future__ import annotations

import zlib
from typing import Literal, get_args

import numpy as np

Stream = Literal[
    "learner",
    "actor",
    "critics",
    "collector",
    "worlds",
    "goals",
    "replay",
    "population",
    "seeds",
    "demonstrations",
]
"""``learner``: SAC's parameters and the noise of its actions. ``actor``, ``critics``: the first
parameters of a finetuning without a start. ``collector`` (rank): what a worker draws on the host:
noise of actions, samples of its replay, noise on targets. ``worlds`` (rank, env steps): spawns,
randomization, sensors and pushes. ``goals``: those that Meta-World's tasks have, in training and
in evaluation alike. ``replay``: samples of a replay on the device. ``population``
(generation): what becomes of a population's members. ``seeds`` (repeat): the seed of a trial's
further runs, so that a sweep seeded with 1 repeats nothing of one that is seeded with 0.
``demonstrations`` (task, seed of the episode): noise on actions that are recorded."""

STREAMS: tuple[Stream, ...] = get_args(Stream)

LEAST = 2**30
"""Of the numbers that :func:`stream_seed` gives, which are below twice as many."""


def stream(seed: int, name: Stream, *numbers: int) -> np.random.SeedSequence:
    """The child of a run's ``seed`` that seeds the stream ``name``."""
    # The name and not its place: a new stream leaves the others as they are.
    return np.random.SeedSequence(seed, spawn_key=(zlib.crc32(name.encode()), *numbers))


def stream_seed(seed: int, name: Stream, *numbers: int) -> int:
    """The same as a number for who takes numbers, as JAX, torch and environments do."""
    return LEAST + int(stream(seed, name, *numbers).generate_state(1)[0]) % LEAST


def stream_generator(seed: int, name: Stream, *numbers: int) -> np.random.Generator:
    """A NumPy generator at the beginning of the stream."""
    return np.random.default_rng(stream(seed, name, *numbers))
