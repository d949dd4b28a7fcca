"""Any gymnasium environment with continuous observations and actions, as a world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from importlib.util import find_spec
from typing import Any

import gymnasium
from gymnasium.spaces import Dict, Space, Tuple
from gymnasium.wrappers import FlattenObservation

from booster_ray.config import Config, ConfigError
from booster_ray.config.errors import blame
from booster_ray.config.kinds import kind_of
from booster_ray.envs.gym_batch import GymBatch, image
from booster_ray.envs.processes import ProcessWorld

DM_CONTROL = "dm_control/"
"""What begins the ids of dm_control's environments, which shimmy registers."""


class GymWorld(GymBatch):
    """Copies of one environment; there is one task, 0, and an episode's score is its return.

    Observations that are a Dict or a Tuple become one array (``FlattenObservation``).

    Args:
        env_id: what ``gymnasium.make`` takes; ``module:id`` imports the module first.
        copies: how many, or their places in a batch that is divided.
        max_steps: see :class:`GymBatch`.
        kwargs: keyword arguments of the environment.

    Raises:
        BadArguments: making it raises a TypeError on keyword arguments.
        ValueError: there is no such environment; besides see :class:`GymBatch`.
    """

    @classmethod
    def from_config(
        cls, config: Config, num_envs: int, *, threads: int, max_steps: int | None, **_: Any
    ) -> GymWorld | ProcessWorld:
        """The environments that a config names. Raises ConfigError: they cannot be made."""
        world = config.world
        make = partial(cls, kind_of(world.kind)[1], max_steps=max_steps, kwargs=world.kwargs)
        try:
            if processes := world.process_count(threads):
                return ProcessWorld(world.kind, make, num_envs, processes)
            return make(num_envs)
        except BadArguments as error:
            raise ConfigError("world.kwargs", str(error)) from None
        except ValueError as error:
            raise ConfigError("world.kind", str(error)) from None

    def __init__(
        self,
        env_id: str,
        copies: int | Sequence[int],
        max_steps: int | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        places = range(copies) if isinstance(copies, int) else copies
        super().__init__(f"gym:{env_id}", lambda _: _make(env_id, kwargs or {}), places, max_steps)


class BadArguments(ValueError):
    """An environment does not take the keyword arguments that it was given."""


def _make(env_id: str, kwargs: Mapping[str, Any]) -> gymnasium.Env:
    if env_id.startswith(DM_CONTROL):
        _load_shimmy(env_id)
    try:
        env = gymnasium.make(env_id, **{"disable_env_checker": True, **deepcopy(dict(kwargs))})
    except (gymnasium.error.Error, ImportError) as error:
        raise ValueError(f"gymnasium cannot make {env_id!r}: {error}") from error
    except (Exception, SystemExit) as error:  # whatever its module or its constructor raises
        kind = BadArguments if kwargs and isinstance(error, TypeError) else ValueError
        raise kind(f"{env_id} cannot be made: {blame(error)}") from error
    return _flat(env_id, env)


def _load_shimmy(env_id: str) -> None:
    """Register dm_control's environments.

    Raises:
        ValueError: shimmy or dm_control is not installed, or cannot be loaded.
    """
    missing = [name for name in ("shimmy", "dm_control") if find_spec(name) is None]
    if missing:
        text = "pip install 'booster_ray[dm_control]'"
        raise ValueError(f"{env_id} needs {' and '.join(missing)}: {text}")
    try:
        import shimmy
    except Exception as error:
        raise ValueError(f"{env_id} cannot be made: shimmy: {blame(error)}") from error
    gymnasium.register_envs(shimmy)


def _flat(env_id: str, env: gymnasium.Env) -> gymnasium.Env:
    """The environment with one array in place of a Dict or Tuple of observations."""
    try:
        space = env.observation_space
    except (Exception, SystemExit):  # told where all spaces are looked at
        return env
    if not isinstance(space, (Dict, Tuple)):
        return env
    picture = next((name for name, part in _parts(space) if image(part)), None)
    if picture is not None:
        raise ValueError(f"{env_id} is seen through images ({picture}); expected numbers")
    strange = next((n for n, part in _parts(space) if not part.is_np_flattenable), None)
    if strange is not None:
        raise ValueError(f"{env_id} is seen through {strange}, which has no fixed size")
    return FlattenObservation(env)


def _parts(space: Space[Any], name: str = "") -> list[tuple[str, Space[Any]]]:
    """Every space within, by its keys."""
    if isinstance(space, (Dict, Tuple)):
        items = space.items() if isinstance(space, Dict) else enumerate(space.spaces)
        return [one for key, part in items for one in _parts(part, f"{name}/{key}".lstrip("/"))]
    return [(name, space)]
