"""What trackers cost a sweep: by default, and when nobody answers them.

    python benchmarks/tracking.py [--env-steps 400000] [--rounds 3]

The same sweep of two one-core trials at the default sizes runs with trackers off, with the default
ones (W&B offline, MLflow on SQLite), and with both pointed at a server that takes connections and
never answers, in turn. Compared are whole commands, from start to exit, so that what trackers take
to load and to close counts. The processor time of all that tracks is measured apart, for timings
on a shared machine are noisy. The last line is one JSON object.
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
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
SWEEP = [
    "tune.trials=2", "tune.max_concurrent=2", "tune.scheduler=none", "tune.sampler=random",
    "tune.gate_trials=0", "models.registry=none", "trainer.cpus=1",
    "evaluation.episodes_per_task=2",  # the official episodes at the end are not tracked
]  # fmt: skip
TRACKING = ("booster_ray.track ", "wandb-core")
"""What stands in the command lines of the processes that track."""


class Clock(threading.Thread):
    """Adds up the processor time of those below this process that track."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._ended, self._found = threading.Event(), dict[int, float]()

    def run(self) -> None:
        while not self._ended.wait(0.5):
            for process in psutil.Process().children(recursive=True):
                try:
                    line = f"{' '.join(process.cmdline())} "
                    if any(text in line for text in TRACKING):
                        used = process.cpu_times()
                        self._found[process.pid] = used.user + used.system
                except psutil.Error:
                    continue

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


def sweep(storage: Path, name: str, config: str, env_steps: int, *tracking: str,
          **environment: str) -> tuple[float, float]:  # fmt: skip
    """Wall time of a sweep from start to exit, and processor time of what tracks it, s."""
    budget = [f"training.env_steps={env_steps}", f"storage={storage}", f"name={name}"]
    clock, began = Clock(), time.monotonic()
    clock.start()
    subprocess.run(
        [sys.executable, "-m", "booster_ray.tune", config, *SWEEP, *budget, *tracking],
        cwd=ROOT, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return time.monotonic() - began, clock.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--config", default="default")
    parser.add_argument("--env-steps", type=int, default=400_000, help="of each trial")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {"off": [], "default": [], "cut": []}
    processor: dict[str, list[float]] = {name: [] for name in seconds}
    with tempfile.TemporaryDirectory() as folder, silent_server() as nobody:
        storage = Path(folder)
        cut = ["tracking.wandb.mode=online", f"tracking.mlflow.uri={nobody}"]
        variants: dict[str, tuple[list[str], dict[str, str]]] = {
            "off": (["tracking.listeners=[]"], {}),
            "default": ([], {}),
            "cut": (cut, {"WANDB_BASE_URL": nobody, "WANDB_API_KEY": "0" * 40}),
        }
        # Compiles, and makes MLflow's database, which is done once a storage folder.
        sweep(storage, "warm-up", args.config, 2000)
        for number in range(args.rounds):
            order = list(variants)
            for name in order[number % 3 :] + order[: number % 3]:  # who comes first differs
                tracking, environment = variants[name]
                wall, used = sweep(
                    storage, f"{name}{number}", args.config, args.env_steps, *tracking,
                    **environment,
                )  # fmt: skip
                seconds[name].append(wall)
                processor[name].append(used)
                print(f"round {number + 1}, {name}: {wall:.1f} s, tracking {used:.1f} CPU s",
                      flush=True)  # fmt: skip
    off = seconds["off"]
    found = {"seconds": statistics.median(off)}
    for name in ("default", "cut"):
        ratios = [one / other for one, other in zip(seconds[name], off, strict=True)]
        found[f"{name}_overhead"] = statistics.median(ratios) - 1
        found[f"{name}_tracking_cpu_seconds"] = statistics.median(processor[name])
    print(json.dumps({key: round(value, 4) for key, value in found.items()}))


if __name__ == "__main__":
    main()
