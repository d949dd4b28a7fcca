"""Who plays well already: a policy that is not a network of ours, and is imitated.

A demonstrator answers what it sees with joint targets. It remembers nothing, so that what it does
is a function of the state, which a network without memory can learn, and a resumed run needs
nothing of it.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol

import numpy as np

from booster_ray.config import ConfigError
from booster_ray.soccer.features import Clock
from booster_ray.soccer.frame import Frame


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


def load_demonstrator(path: str) -> Demonstrator:
    """Make the demonstrator at ``module:class``.

    Raises:
        ConfigError: there is none, or it cannot be made.
    """
    module, _, name = path.partition(":")
    try:
        made: Any = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, OSError, ValueError, TypeError) as error:
        text = " ".join(str(error).split())
        raise ConfigError("imitation.demonstrator", f"{path} cannot be made: {text}") from None
    if not callable(getattr(made, "targets", None)):
        raise ConfigError("imitation.demonstrator", f"{path} has no method targets(frame, kept)")
    demonstrator: Demonstrator = made
    return demonstrator
