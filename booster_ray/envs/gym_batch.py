"""A batch of gymnasium environments on the calling thread, as a world."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from booster_ray.config.errors import blame, show
from booster_ray.envs import gym_state
from booster_ray.envs.contract import StepResult, WorldError

_log = logging.getLogger(__name__)

_WHOLE = 2.0**53
"""Up to here float64 holds every integer."""
_UNBOUNDED = float(np.finfo(np.float32).max)
"""A bound from here on stands for none."""
_PICTURE = 16
"""Numbers along two axes from which an observation is taken for an image."""
_STEP = "(observation, reward, terminated, truncated, info)"

Kept = dict[str, np.ndarray]
"""What a batch knows of episodes under way, arrays (n,)."""


class GymBatch:
    """Environments with same-step autoreset, stepped one after another.

    Observations are flattened to float32 and copied, so that an environment may use one buffer
    again and again. Actions in [-1, 1] span the environment's own bounds; those of an integer Box
    are divided into equal parts, one for each value. Rewards are the environment's.

    Args:
        name: what errors call it.
        make: an environment by its place in the batch.
        places: the environments' places; those of one batch may be in several, of which each is
            in a process of its own (:mod:`booster_ray.envs.processes`).
        max_steps: control steps after which an episode is truncated, besides the environment's
            own limit; its record then has ``cut`` 1, and 0 otherwise. None: no limit, no ``cut``.

    Raises:
        ValueError: making an environment raises, they differ, or their observations or actions
            are not what a Gaussian policy can serve: numbers that are no image, and a Box of at
            least one bounded number.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[int], gymnasium.Env],
        places: Sequence[int],
        max_steps: int | None = None,
    ) -> None:
        self._name, self._max_steps = name, max_steps
        self._envs: list[gymnasium.Env] = []
        try:
            for place in places:
                self._envs.append(make(place))
            self._observed, actions = _spaces(name, self._envs)
            self._span = _spanning(name, actions)
        except ValueError:
            self.close()
            raise
        self._shape = len(places), *actions.shape
        self.num_envs = len(places)
        self.observation_size = int(np.prod(self._observed))
        self.action_size = int(np.prod(actions.shape))
        self.task = np.zeros(self.num_envs, np.int32)
        self._seconds = _step_seconds(self._envs[0])
        self._returns = np.zeros(self.num_envs)
        self._steps = np.zeros(self.num_envs, np.int64)

    def reset(self, seed: int, *, env_seeds: Sequence[int] | None = None) -> np.ndarray:
        """Start every episode anew, each copy with its own stream; float32 (num_envs, obs).

        ``env_seeds``: of each environment, in place of those that are made of ``seed``.

        Raises:
            WorldError: the environment raises, or gives no observation of its space.
        """
        seeds = seeds_of(seed, self.num_envs) if env_seeds is None else env_seeds
        for array in self._kept().values():
            array[:] = 0
        return np.stack(
            [self._reset(env, int(s)) for env, s in zip(self._envs, seeds, strict=True)]
        )

    def step(self, action: np.ndarray) -> StepResult:
        """Advance one control step; see :class:`booster_ray.envs.contract.World`.

        Raises:
            WorldError: the environment raises, or gives something else than a finite reward and
                an observation of its space.
        """
        if np.shape(action) != (self.num_envs, self.action_size):
            expected = self.num_envs, self.action_size
            raise ValueError(f"action has shape {np.shape(action)}; expected {expected}")
        if not np.isfinite(action).all():
            raise ValueError("action is not finite; expected numbers in [-1, 1]")
        played = self._span(np.clip(action, -1.0, 1.0).reshape(self._shape))
        first = np.empty((self.num_envs, self.observation_size), np.float32)
        final, reward = np.empty_like(first), np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        self._steps += 1
        cut = np.zeros(self.num_envs, bool)
        if self._max_steps is not None:
            cut = self._steps >= self._max_steps
        for i, env in enumerate(self._envs):
            final[i], reward[i], terminated[i], truncated[i] = self._step(i, env, played[i])
            cut[i] &= not (terminated[i] or truncated[i])
            # An episode that ends in both ways has no value beyond.
            truncated[i] = (truncated[i] or cut[i]) and not terminated[i]
            over = terminated[i] or truncated[i]
            first[i] = self._reset(env) if over else final[i]
        self._returns += reward
        ended = terminated | truncated
        episodes = self._records(ended, cut)
        for array in self._kept().values():
            array[ended] = 0
        return StepResult(first, final, reward.astype(np.float32), terminated, truncated, episodes)

    def _step(
        self, i: int, env: gymnasium.Env, action: np.ndarray
    ) -> tuple[np.ndarray, float, bool, bool]:
        """One step of the ``i``-th environment, its observation (obs,) copied."""
        with self._blamed("step"):
            told: Any = env.step(np.asarray(action))
            if not isinstance(told, tuple) or len(told) != 5:
                raise WorldError(f"{self._name}: step gives {show(told)}, expected {_STEP}")
            observation, reward, terminated, truncated, info = told
            self._heed(i, info)
            number = float(np.asarray(reward, np.float64).reshape(()))
            if not abs(number) < _UNBOUNDED:
                text = f"reward {number:g} after {self._steps.max()} steps of an episode"
                raise WorldError(f"{self._name}: step gives a {text}, expected a finite one")
            return self._row("step", observation), number, bool(terminated), bool(truncated)

    def _heed(self, i: int, info: Any) -> None:
        """Take in what the ``i``-th environment says beside a step's reward."""

    def _reset(self, env: gymnasium.Env, seed: int | None = None) -> np.ndarray:
        """The first observation (obs,) of a new episode of one copy."""
        with self._blamed("reset"):
            told: Any = env.reset() if seed is None else env.reset(seed=seed)
            if not isinstance(told, tuple) or len(told) != 2:
                text = f"reset gives {show(told)}, expected (observation, info)"
                raise WorldError(f"{self._name}: {text}")
            return self._row("reset", told[0])

    def _row(self, what: str, observation: Any) -> np.ndarray:
        """An observation of the environment's as float32 (obs,), in memory of its own."""
        seen = np.asarray(observation)
        if seen.shape != self._observed:
            text = f"an observation of shape {seen.shape}, its space says {self._observed}"
            raise WorldError(f"{self._name}: {what} gives {text}")
        with np.errstate(over="ignore"):  # beyond float32 is not finite, and refused
            row: np.ndarray = seen.astype(np.float32).reshape(-1)
        if not np.isfinite(row).all():
            text = "an observation that is not finite, which nothing can be learnt from"
            raise WorldError(f"{self._name}: {what} gives {text}")
        return row

    @contextmanager
    def _blamed(self, what: str) -> Iterator[None]:
        """Whatever the environment raises, sys.exit() included, as one line that names it."""
        try:
            yield
        except WorldError:
            raise
        except (Exception, SystemExit) as error:
            raise WorldError(f"{self._name}: {what} raises {blame(error)}") from error

    def _records(self, over: np.ndarray, cut: np.ndarray) -> list[dict[str, float]]:
        return [
            {
                "env": int(i),
                "task": int(self.task[i]),
                "return": float(self._returns[i]),
                "seconds": float(self._steps[i] * self._seconds),
                **self._outcome(int(i)),
                **({} if self._max_steps is None else {"cut": float(cut[i])}),
            }
            for i in np.flatnonzero(over)
        ]

    def _outcome(self, i: int) -> dict[str, float]:
        """What an episode of the ``i``-th environment that ends was worth: ``score``, and more."""
        return {"score": float(self._returns[i])}

    # -- state ---------------------------------------------------------------------------------

    def captured(self) -> tuple[list[gym_state.Tree] | None, Kept]:
        """Every environment's state, generators included, and what is kept of the episodes.

        None in place of the states: some of it cannot be read.
        """
        kept = {name: array.copy() for name, array in self._kept().items()}
        try:
            return [gym_state.read(env) for env in self._envs], kept
        except gym_state.Unreadable:
            return None, kept

    def _kept(self) -> Kept:
        """What is known of the episodes under way; 0 where one begins."""
        return {"returns": self._returns, "steps": self._steps}

    def put_back(self, envs: Sequence[gym_state.Tree], kept: Kept) -> None:
        """Go on where :meth:`captured` was called; raises ValueError where it does not fit."""
        self.reset(0)  # so that everything that a reset creates is there to be written
        for env, saved in zip(self._envs, envs, strict=True):
            gym_state.write(env, saved)
        for name, array in self._kept().items():
            array[:] = kept[name]

    def state(self) -> dict[str, Any]:
        """Every copy's state; empty where some of it cannot be read."""
        return joined(*self.captured())

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken.

        Raises:
            ValueError: it is of another number of copies or another environment.
        """
        self.put_back(*parted(state, self.num_envs))

    def close(self) -> None:
        """Close the copies; what that raises is logged, for nothing depends on it any more."""
        for env in self._envs:
            try:
                env.close()
            except (Exception, SystemExit) as error:
                _log.warning("%s: close raises %s", self._name, blame(error))
        self._envs = []


# -- what an environment is ------------------------------------------------------------------------


def seeds_of(seed: int, count: int) -> list[int]:
    """A seed for each of ``count`` environments."""
    return [int(s) for s in np.random.SeedSequence(seed).generate_state(count)]


def joined(envs: list[gym_state.Tree] | None, kept: Kept) -> dict[str, Any]:
    """A world's state of what :meth:`GymBatch.captured` gives."""
    return {} if envs is None else {"envs": gym_state.together(envs), **kept}


def parted(state: dict[str, Any], count: int) -> tuple[list[gym_state.Tree], Kept]:
    """What :func:`joined` was given; raises ValueError: it is of another number than ``count``."""
    saved = len(state["returns"])
    if saved != count:
        raise ValueError(f"world state is of {saved} copies; here are {count}")
    kept = {name: np.asarray(array) for name, array in state.items() if name != "envs"}
    return [gym_state.apart(state["envs"], i) for i in range(count)], kept


def _spaces(name: str, envs: list[gymnasium.Env]) -> tuple[tuple[int, ...], Box]:
    """The shape of an observation, and the space of actions; see :class:`GymBatch`."""
    try:
        pairs = [(env.observation_space, env.action_space) for env in envs]
    except (Exception, SystemExit) as error:
        raise ValueError(f"{name} names no spaces: {blame(error)}") from error
    seen, done = pairs[0]
    if not isinstance(seen, Box):
        what = "a Box of numbers, or a Dict or Tuple of spaces that can be flattened"
        raise ValueError(f"{name} is seen through a {type(seen).__name__}; expected {what}")
    if not (isinstance(done, Box) and _bounded(done)):
        kind = "an unbounded Box" if isinstance(done, Box) else f"a {type(done).__name__}"
        raise ValueError(f"{name} takes actions from {kind}; expected a bounded Box")
    for what, space in (("observations", seen), ("actions", done)):
        if 0 in space.shape:
            raise ValueError(f"{name} has {what} of shape {space.shape}; expected some numbers")
        if np.dtype(space.dtype).kind not in "fiu":
            raise ValueError(f"{name} has {what} of {space.dtype}; expected numbers")
    if image(seen):
        raise ValueError(f"{name} is seen through images of shape {seen.shape}; expected numbers")
    if any(pair != pairs[0] for pair in pairs[1:]):
        raise ValueError(f"{name} has other spaces each time it is made; expected the same")
    return seen.shape, done


def image(space: gymnasium.Space[Any]) -> bool:
    """Whether observations are pictures, which these networks cannot learn from."""
    if not isinstance(space, Box):
        return False
    sides = sorted(space.shape)
    wide = len(sides) > 1 and sides[-2] >= _PICTURE
    return wide and (np.dtype(space.dtype) == np.uint8 or len(sides) == 3)


def _bounded(space: Box) -> bool:
    """Whether every bound is a number to be reached: the largest of its type means none."""
    limit = _UNBOUNDED
    if (kind := np.dtype(space.dtype)).kind == "f":
        limit = min(limit, float(np.finfo(kind).max))
    bounds = np.abs(np.stack([space.low, space.high]).astype(np.float64))
    return bool(space.is_bounded() and (bounds < limit).all())


def _spanning(name: str, space: Box) -> Callable[[np.ndarray], np.ndarray]:
    """From [-1, 1] to the bounds of a Box; arrays (n, *shape), the result of the Box's type."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    kind = np.dtype(space.dtype)
    if kind.kind == "f":
        # Halved before they are added: the sum of two bounds need not fit their type.
        centre = (0.5 * high + 0.5 * low).astype(kind)
        reach = (0.5 * high - 0.5 * low).astype(kind)
        # In the type of both, so that the ends are reached; rounding may go a bit beyond.
        return lambda unit: np.clip(centre + reach * unit, space.low, space.high).astype(kind)
    if max(np.abs(low).max(), np.abs(high).max()) >= _WHOLE:
        raise ValueError(f"{name} takes integers beyond 2^53; expected a smaller Box")
    values = high - low + 1.0

    def choose(unit: np.ndarray) -> np.ndarray:
        chosen = low + np.floor(0.5 * (unit.astype(np.float64) + 1.0) * values)
        return np.minimum(chosen, high).astype(kind)

    return choose


def _step_seconds(env: gymnasium.Env) -> float:
    """Seconds that one step lasts, where the environment says so, else 1."""
    try:
        rate = (env.metadata or {}).get("render_fps")
        seconds = float(getattr(env.unwrapped, "dt", 1.0 / rate if rate else 1.0))
    except Exception:  # neither is promised by gymnasium: a dt may be anything
        return 1.0
    return seconds if 0.0 < seconds < float("inf") else 1.0
