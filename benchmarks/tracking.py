"""What trackers cost a sweep: by default, and when nobody answers them.

    python benchmarks/tracking.py [--env-steps 500000] [--rounds 1]

A sweep of one trial at the default sizes, with the default trackers (W&B offline, MLflow on SQLite)
or with both pointed at a server that takes connections and never answers, runs at the same time as
the same sweep without trackers, a core each; then once more on the other's core. What else the
machine does meets both alike. Compared are whole commands, from start to exit, so that what
trackers take to load and to close counts; the core has nothing else to do, so that all of their
processor time does. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
SWEEP = [
    "tune.trials=1", "tune.max_concurrent=1", "tune.scheduler=none", "tune.sampler=random",
    "tune.gate_trials=0", "models.registry=none", "trainer.cpus=1",
    "evaluation.episodes_per_task=2",  # the official episodes at the end are not tracked
]  # fmt: skip
TRACKING = ("booster_ray.track ", "wandb-core")
"""What stands in the command lines of the processes that track."""
EVERY_SECONDS = 2.0
"""Between two looks at them, which the sweeps feel too."""


class Clock(threading.Thread):
    """Adds up the processor time of those below a process that track."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._ended, self._found = threading.Event(), dict[int, float]()

    def run(self) -> None:
        while not self._ended.wait(EVERY_SECONDS):
            for process in self._below():
                try:
                    line = f"{' '.join(process.cmdline())} "
                    if any(text in line for text in TRACKING):
                        used = process.cpu_times()
                        self._found[process.pid] = used.user + used.system
                except psutil.Error:
                    continue

    def _below(self) -> list[psutil.Process]:
        try:
            return self._process.children(recursive=True)
        except psutil.Error:
            return []

    def end(self) -> float:
        """Seconds."""
        self._ended.set()
        self.join()
        return sum(self._found.values())


@contextmanager
def silent_server() -> Iterator[str]:
    """The address of a server that lets connections wait for ever."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


class Sweeps:
    """Runs the same sweep with different trackers, below one folder."""

    def __init__(self, storage: Path, config: str, nobody: str) -> None:
        self._storage, self._config = storage, config
        cut = ["tracking.wandb.mode=online", f"tracking.mlflow.uri={nobody}"]
        self._trackers: dict[str, tuple[list[str], dict[str, str]]] = {
            "off": (["tracking.listeners=[]"], {}),
            "default": ([], {}),
            "cut": (cut, {"WANDB_BASE_URL": nobody, "WANDB_API_KEY": "0" * 40}),
        }

    def run(self, trackers: str, name: str, env_steps: int, core: int) -> tuple[float, float]:
        """Wall time of a sweep from start to exit, and processor time of what tracks it, s."""
        settings, environment = self._trackers[trackers]
        budget = [f"training.env_steps={env_steps}", f"storage={self._storage}", f"name={name}"]
        began = time.monotonic()
        with subprocess.Popen(
            ["taskset", "-c", str(core), sys.executable, "-m", "booster_ray.tune", self._config,
             *SWEEP, *budget, *settings],
            cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            clock = Clock(process.pid)
            clock.start()
        if process.returncode:
            raise SystemExit(f"the sweep {name} ended with {process.returncode}")
        return time.monotonic() - began, clock.end()

    def pair(self, trackers: str, number: int, env_steps: int) -> list[tuple[float, float]]:
        """:meth:`run` without trackers and with these, side by side; their cores take turns."""
        with ThreadPoolExecutor(2) as beside:
            both = [
                beside.submit(self.run, which, f"{trackers}{number}-{which}", env_steps, core)
                for which, core in (("off", number % 2), (trackers, 1 - number % 2))
            ]
        return [each.result() for each in both]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--config", default="default")
    parser.add_argument("--env-steps", type=int, default=500_000, help="of each trial")
    parser.add_argument("--rounds", type=int, default=1, help="of two pairs for each")
    args = parser.parse_args()
    ratios: dict[str, list[float]] = {"default": [], "cut": []}
    processor: dict[str, list[float]] = {name: [] for name in ratios}
    alone: list[float] = []
    with tempfile.TemporaryDirectory() as folder, silent_server() as nobody:
        sweeps = Sweeps(Path(folder), args.config, nobody)
        # Compiles, and makes MLflow's database, which is done once a storage folder.
        sweeps.run("default", "warm-up", 2000, 0)
        for number in range(2 * args.rounds):
            for name in ratios:
                (off, _), (wall, used) = sweeps.pair(name, number, args.env_steps)
                ratios[name].append(wall / off)
                processor[name].append(used)
                alone.append(off)
                print(f"pair {number + 1}, {name}: {wall:.1f} s ({used:.1f} CPU s of trackers), "
                      f"off: {off:.1f} s", flush=True)  # fmt: skip
    found = {"seconds": statistics.median(alone)}
    for name, each in ratios.items():
        # A mean: of two, one on either core.
        found[f"{name}_overhead"] = statistics.mean(each) - 1
        found[f"{name}_tracking_cpu_seconds"] = statistics.mean(processor[name])
    print(json.dumps({key: round(value, 4) for key, value in found.items()}))


if __name__ == "__main__":
    main()
