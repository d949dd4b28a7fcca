"""Objects of a user's own code as players: what they raise is theirs, and told in one line."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from booster_ray.config import ConfigError
from booster_ray.config.errors import blame
from booster_ray.policy.player import BadAction, shaped
from booster_ray.soccer import game


def import_object(text: str) -> Any:
    """What ``module:object`` names; modules of the current folder are found.

    Raises:
        ConfigError: there is none, or its module fails as it is imported.
    """
    module_name, _, name = text.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        hint = f"; did you mean {module_name[:-3]}:{name}?" if module_name.endswith(".py") else ""
        raise ConfigError("command line", "TARGET", f"{text}: {blame(error)}{hint}") from None
    finally:
        if here in sys.path:
            sys.path.remove(here)
    return found


def makes_players(text: str, found: Any) -> Callable[[], Called]:
    """What makes a player of each batch of episodes: an object of a class, or the function again.

    Raises:
        ConfigError: it cannot be called.
    """
    if not callable(found):
        kind = type(found).__name__
        text = f"{text} is of type {kind}, expected something callable, or a policy with predict()"
        raise ConfigError("command line", "TARGET", text)
    if not inspect.isclass(found):
        return lambda: Called(found)

    def make() -> Called:
        try:
            made = found()
        except (Exception, SystemExit) as error:
            raise ConfigError("command line", "TARGET", f"{text}: {blame(error)}") from None
        if not callable(made):
            what = f"{text}: its objects cannot be called, expected __call__(observation, info)"
            raise ConfigError("command line", "TARGET", what)
        return Called(made)

    return make


class Called:
    """A player of one batch of episodes that asks a user's callable.

    It may give actions, or ``(actions, state)``; the state is given back to a callable that has
    a parameter ``state`` besides its first two, None at the begin.
    """

    def __init__(self, policy: Callable[..., Any]) -> None:
        self.policy = policy
        self._remembers, self._state, self._steps = _takes_state(policy), None, 0

    def __call__(self, observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        """Official observations (n, D) and infos (n, …) to torques (n, 12) N·m.

        Raises:
            BadAction: the callable fails, or gives something that is no action.
        """
        more = {"state": self._state} if self._remembers else {}
        n, seconds = len(observation), self._steps * game.TIMESTEP
        self._steps += 1
        try:
            given = self.policy(observation, info, **more)
            # A tuple of two rows is something else: the actions of two worlds.
            if isinstance(given, tuple) and len(given) == 2 and np.ndim(given[0]) == 2:
                given, self._state = given
            actions = _plain(given)
        except (Exception, SystemExit) as error:  # whatever a user's code does
            raise BadAction(f"{blame(error)}, at {seconds:.3f} s of the episodes") from None
        return shaped(actions, n, "torques")


def _takes_state(policy: Callable[..., Any]) -> bool:
    try:
        parameters = list(inspect.signature(policy).parameters.values())
    except (TypeError, ValueError):  # compiled code tells none
        return False
    return any(p.name == "state" for i, p in enumerate(parameters) if i > 1 or p.kind is _BY_NAME)


_BY_NAME = inspect.Parameter.KEYWORD_ONLY


def _plain(given: Any) -> np.ndarray:
    """A list, an array of JAX's or a tensor of torch's, with gradient or not, as NumPy's."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    return np.asarray(given)
