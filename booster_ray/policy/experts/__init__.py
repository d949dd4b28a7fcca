"""Who plays well already: a policy that is not a network of ours, and is imitated.

A demonstrator answers what it sees with joint targets. It remembers nothing, so that what it does
is a function of the state, which a network without memory can learn, and a resumed run needs
nothing of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from booster_ray.config import ConfigError
from booster_ray.config.errors import blame
from booster_ray.soccer import game
from booster_ray.soccer.control import Gains, pd_action, pd_target
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import Clock

if TYPE_CHECKING:
    from booster_ray.envs.native import NativeWorld


OLD_PLACE = "booster_ray.demonstrators"
"""Where the experts of this package were until release 0.1."""


class DemonstratorError(Exception):
    """A demonstrator raised, or gave no joint targets: one line that names it."""


class Demonstrator(Protocol):
    """Made once a run, without arguments."""

    def targets(self, frame: Frame, kept: Clock) -> np.ndarray:
        """Joint targets for the next control step, rad.

        Args:
            frame: what the rules saw, arrays (n, ...).
            kept: the gait clock (n,), and the last actions (n, 12) as joint targets, rad.

        Returns:
            (n, 12).
        """
        ...


def actions(
    targets: Callable[[Frame, Clock], np.ndarray], world: NativeWorld, gains: Gains
) -> np.ndarray:
    """What ``targets`` would do now, (n, 12), as actions of worlds with these gains; not clipped.

    Args:
        targets: :meth:`Demonstrator.targets`, or the like.
        world: of PD control; its robots are asked about.
        gains: the world's own.

    Raises:
        DemonstratorError: ``targets`` raises, or gives something else than (n, 12) finite numbers.
    """
    kept = world.kept()
    kept = kept._replace(previous_action=pd_target(kept.previous_action, gains))
    try:
        wanted = np.asarray(targets(world.frame(), kept))
    except (Exception, SystemExit) as error:
        raise DemonstratorError(f"{_named(targets)} raises {blame(error)}") from error
    expected = world.num_envs, game.ACTION_SIZE
    if wanted.shape != expected:
        text = f"gives targets of shape {wanted.shape}, expected {expected}"
        raise DemonstratorError(f"{_named(targets)} {text}")
    if wanted.dtype.kind not in "fiu" or not np.isfinite(wanted).all():
        raise DemonstratorError(f"{_named(targets)} gives targets that are no finite numbers")
    return np.asarray(pd_action(wanted, gains))


def _named(targets: Callable[..., Any]) -> str:
    module = getattr(targets, "__module__", "")
    return f"{module}:{getattr(targets, '__qualname__', type(targets).__name__)}"


def load_demonstrator(path: str) -> Demonstrator:
    """Make the demonstrator at ``module:class``.

    Raises:
        ConfigError: there is none, or it cannot be made.
    """
    module, _, name = path.partition(":")
    if module.startswith(OLD_PLACE):  # as configs of earlier releases, and their checkpoints, say
        module = __name__ + module.removeprefix(OLD_PLACE)
    try:
        made: Any = getattr(importlib.import_module(module), name)()
    except (Exception, SystemExit) as error:  # whatever its module or its constructor raises
        raise ConfigError(
            "imitation.demonstrator", f"{path} cannot be made: {blame(error)}"
        ) from None
    if not callable(getattr(made, "targets", None)):
        raise ConfigError("imitation.demonstrator", f"{path} has no method targets(frame, kept)")
    demonstrator: Demonstrator = made
    return demonstrator
