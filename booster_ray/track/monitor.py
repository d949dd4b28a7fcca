"""GPUs, watched from a thread of its own; where there is none, CPU and memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from booster_ray.config.models import Monitor as Settings
from booster_ray.runtime.nvml import GIB, NoGpu, Nvml

MEMORY_MARGIN, TEMPERATURE_MARGIN = 0.05, 5.0
"""How far a value must fall below its limit (°C the latter) before it alarms again."""
CLOSING_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Source(Protocol):
    """What is read."""

    def usage(self) -> dict[str, float]:
        """Memory and utilization."""
        ...

    def heat(self) -> dict[str, float]:
        """Temperature and power."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class HostReadings:
    """CPU and memory of this machine, and what of it this process takes."""

    def __init__(self) -> None:
        import psutil

        self._psutil, self._process = psutil, psutil.Process()
        psutil.cpu_percent()  # it tells the mean since it was last asked

    def usage(self) -> dict[str, float]:
        """``cpu/utilization`` (0 to 1), ``memory/used`` and ``process`` (GiB), ``share``."""
        memory = self._psutil.virtual_memory()
        return {
            "cpu/utilization": self._psutil.cpu_percent() / 100,
            "memory/used": memory.used / GIB,
            "memory/share": memory.percent / 100,
            "memory/process": self._process.memory_info().rss / GIB,
        }

    def heat(self) -> dict[str, float]:
        """Nothing that machines agree on."""
        return {}

    def close(self) -> None:
        """There is nothing to let go of."""


class Alarm:
    """Says when a value rises above ``limit``: once, until it has fallen by ``margin``."""

    def __init__(self, limit: float, margin: float) -> None:
        self._limit, self._margin, self._raised = limit, margin, False

    def rises(self, value: float) -> bool:
        """Whether this value is the first above the limit."""
        if self._raised:
            self._raised = value > self._limit - self._margin
            return False
        self._raised = value > self._limit
        return self._raised


class Monitor:
    """Reads on its own thread what :meth:`observe` finds due; never blocks, never raises.

    Args:
        settings: how often, and from which values on it alarms.
        record: is given each reading, in the monitor's thread: ``env_steps`` and numbers by names
            such as ``gpu/0/memory_used``, or ``env_steps`` and a line ``alert`` when a limit is
            crossed.
        tell: is given one line when there is no GPU.
        open_gpus: NVML's readings; raises NoGpu where there are none.
    """

    def __init__(
        self,
        settings: Settings,
        record: Callable[[Mapping[str, Any]], object],
        tell: Callable[[str], object] = _log.info,
        open_gpus: Callable[[], Source] = Nvml.of_this_process,
    ) -> None:
        self._settings, self._record, self._tell, self._open = settings, record, tell, open_gpus
        self._lock, self._wake = threading.Lock(), threading.Event()
        self._seen: int | None = None
        self._due: set[str] = {"usage", "heat"}
        self._alarms: dict[str, Alarm] = {}
        self._ended = False
        # NVML can hang with its driver, so that even opening it is the thread's.
        self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)
        self._thread.start()

    def observe(self, env_steps: int) -> None:
        """So many env steps are done; returns at once."""
        settings = self._settings
        cadences = {"usage": settings.usage_every, "heat": settings.heat_every}
        with self._lock:
            before, self._seen = self._seen, env_steps
            if before is not None:
                self._due |= {k for k, n in cadences.items() if env_steps // n != before // n}
            due = bool(self._due)
        if due:
            self._wake.set()

    def close(self) -> None:
        """End the thread; one that hangs is left behind."""
        self._ended = True
        self._wake.set()
        self._thread.join(CLOSING_SECONDS)

    # -- in the thread -----------------------------------------------------------------------

    def _watch(self) -> None:
        try:
            source = self._source()
            while self._wake.wait() and not self._ended:
                self._wake.clear()
                self._read(source)
            source.close()
        except Exception:  # whatever a driver does, training goes on
            _log.warning("the monitor has stopped", exc_info=True)

    def _source(self) -> Source:
        try:
            return self._open()
        except NoGpu as why:
            self._tell(f"No GPU is watched ({why}), but CPU and memory are.")
            return HostReadings()

    def _read(self, source: Source) -> None:
        with self._lock:
            due, self._due = self._due, set()
            steps = self._seen
        numbers: dict[str, float] = {}
        if "usage" in due:
            numbers |= source.usage()
        if "heat" in due:
            numbers |= source.heat()
        if numbers:
            self._record({"env_steps": steps, **numbers})
        for name, value in numbers.items():
            if line := self._crossing(name, value):
                _log.warning(line)
                self._record({"env_steps": steps, "alert": line})

    def _crossing(self, name: str, value: float) -> str | None:
        """What to say of a GPU's value that has just risen above its limit."""
        place, _, what = name.rpartition("/")
        limits = self._settings.memory_alert, self._settings.temperature_alert
        if not place.startswith("gpu/"):
            return None
        gpu = place.removeprefix("gpu/")
        if what == "memory_share":
            alarm = self._alarms.setdefault(name, Alarm(limits[0], MEMORY_MARGIN))
            text = f"GPU {gpu}: {value:.1%} of its memory is in use, above {limits[0]:.0%}"
        elif what == "temperature":
            alarm = self._alarms.setdefault(name, Alarm(limits[1], TEMPERATURE_MARGIN))
            text = f"GPU {gpu}: {value:.0f} °C, above {limits[1]:g} °C"
        else:
            return None
        return text if alarm.rises(value) else None
