"""How a policy moves, from its actions alone: does it do anything, or only press the stops?"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

IDLE_CHANGE = 1e-3
"""Mean change of an action per step below which a policy counts as idle: 0.5 mrad of a joint's
target at the default scale, less than the robot's own sway makes of any policy that looks."""

AT_LIMIT = 0.99
"""|action| from which it counts as at its limit."""

SATURATED_SHARE = 0.9
"""Share of actions at their limit from which a policy counts as saturated."""


class Behaviour(NamedTuple):
    """Sums over the steps of greedy episodes; a policy that explores changes by its noise."""

    previous: np.ndarray | None = None
    """(n, act): the last actions."""
    change: float = 0.0
    """Sum of |action - the one before|."""
    changes: int = 0
    at_limit: int = 0
    actions: int = 0

    def after(self, action: np.ndarray, alive: np.ndarray) -> Behaviour:
        """With one more step. Shapes: (n, act), bool (n,): whose episodes still last."""
        mine = action[alive]
        change, changes = 0.0, 0
        if self.previous is not None:
            change = float(np.abs(mine - self.previous[alive]).sum())
            changes = mine.size
        return Behaviour(
            action,
            self.change + change,
            self.changes + changes,
            self.at_limit + int((np.abs(mine) > AT_LIMIT).sum()),
            self.actions + mine.size,
        )

    def metrics(self) -> dict[str, float]:
        """``action_change``, ``action_saturation``, and the verdicts ``idle``, ``saturated``."""
        if not self.changes:
            return {}
        change, share = self.change / self.changes, self.at_limit / self.actions
        return {
            "action_change": change,
            "action_saturation": share,
            "idle": float(change < IDLE_CHANGE),
            "saturated": float(share > SATURATED_SHARE),
        }
