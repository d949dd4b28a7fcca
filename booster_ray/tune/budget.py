"""Time and money that a sweep has taken, over all its drivers: ``spent.json`` in its folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from booster_ray.config import Tune
from booster_ray.store.durable import replace_text
from booster_ray.store.files import SPENT

SAVE_SECONDS = 5.0
"""What a killed driver may leave uncounted."""


class Budget:
    """Counts while a driver runs.

    Args:
        root: the sweep's folder.
        tune: the limits.
        clock: seconds, for tests.
    """

    def __init__(self, root: Path, tune: Tune, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._tune, self._clock = root / SPENT, tune, clock
        self.hours, self.trial_hours = read_spent(root)
        self._counted = self._saved = clock()

    def count(self, running: int) -> None:
        """Count the time since the last call, in which ``running`` trials ran."""
        now = self._clock()
        elapsed, self._counted = (now - self._counted) / 3600, now
        self.hours += elapsed
        self.trial_hours += elapsed * running
        if now - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write it down, when the storage lets us."""
        self._saved = self._clock()
        spent = {"hours": self.hours, "trial_hours": self.trial_hours}
        with suppress(OSError):
            replace_text(self._path, json.dumps(spent) + "\n")

    @property
    def cost(self) -> float | None:
        """Of the trials so far; None without a price."""
        price = self._tune.price_per_hour
        return None if price is None else self.trial_hours * price

    def over(self) -> str | None:
        """Which limit is reached, and how it is raised; None: none."""
        hours, cost = self._tune.max_hours, self._tune.max_cost
        if hours is not None and self.hours >= hours:
            return f"tune.max_hours: {self.hours:.3g} h of {hours:g} h are spent"
        if cost is not None and self.cost is not None and self.cost >= cost:
            return f"tune.max_cost: {self.cost:.4g} of {cost:g} are spent"
        return None


def read_spent(root: Path) -> tuple[float, float]:
    """Hours of a sweep, and hours of its trials summed; zeros for a new one."""
    try:
        spent = json.loads((root / SPENT).read_text(encoding="utf-8"))
        return float(spent["hours"]), float(spent["trial_hours"])
    except (FileNotFoundError, ValueError, KeyError):
        return 0.0, 0.0
