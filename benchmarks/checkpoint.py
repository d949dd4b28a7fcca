"""What checkpoints cost a training run, beside saving the whole state at once.

    python benchmarks/checkpoint.py [--env-steps 600000] [--override key=value …]

A run of the default config on native worlds saves at its default cadence; ``stall_fraction`` is
the share of its wall time that training stood still for it. Then its last state is saved whole and
synchronously, as a loop without any of this would do, and a full replay of the default size is
saved after few and after many new transitions. Everything is written to a temporary folder below
``--storage``. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from booster_ray.config import Config, load
from booster_ray.rl.replay import Replay
from booster_ray.rl.sac.losses import Batch
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint.leaves import flatten, unflatten
from booster_ray.store.writer import Writer
from booster_ray.train.run import Run

FEW = 10_000
"""New transitions of the small checkpoint."""
MEGA = 1e6


class Kept(Run):
    """A run whose loop can be looked at when it has ended."""

    loop: Any = None

    def _loop(self, tree: dict[str, Any] | None) -> Any:
        self.loop = super()._loop(tree)
        return self.loop


def measured_run(config: Config, directory: Path) -> tuple[dict[str, float], Any]:
    """Stalls and bytes of a run, and its state at the end."""
    run = Kept(config, directory)
    rates: list[tuple[float, float]] = []
    began = 0.0
    for metrics in run:
        if len(rates) == 1:
            began = time.monotonic()  # everything is compiled, and nothing was saved yet
        rates.append((metrics.get("env_steps_per_second", 0.0), metrics["env_steps"]))
        print(f"{metrics['env_steps']:,.0f} env steps, {rates[-1][0]:,.0f}/s", flush=True)
    wall, writer = time.monotonic() - began, run.checkpoints
    assert writer is not None
    every, between = config.checkpoint.every_env_steps, config.training.report_every
    after = {step for _, step in rates if 0 < step % every <= between and step > every}
    busy = [rate for rate, step in rates if rate and step in after]
    idle = [rate for rate, step in rates[2:] if step not in after]  # the first compiled
    found = {
        "stall_fraction": writer.stalled_seconds / wall,
        "stalled_seconds": writer.stalled_seconds,
        "wall_seconds": wall,
        "checkpoints": config.training.env_steps // every,
        "bytes_per_new_transition": writer.bytes_written / config.training.env_steps,
        "env_steps_per_second": statistics.median(idle),
    }
    if busy:
        found["rate_while_writing"] = statistics.median(busy) / statistics.median(idle)
    return found, run.loop._capture()


def whole(tree: Any, directory: Path) -> dict[str, float]:
    """The same state saved as one tree, while training would wait."""
    began = time.monotonic()
    everything = {
        name: np.asarray(leaf) if isinstance(leaf, checkpoint.Log) else leaf
        for name, leaf in flatten(tree)
    }
    checkpoint.save(directory / "step_1", unflatten(everything))
    seconds = time.monotonic() - began
    size = sum(file.stat().st_size for file in (directory / "step_1").iterdir())
    return {"whole_save_seconds": seconds, "whole_save_megabytes": size / MEGA}


def grown(config: Config, directory: Path, new: int) -> dict[str, float]:
    """A full replay of the default size, saved after ``new`` more transitions."""
    lanes = config.world.num_envs
    replay = Replay(config.sac.replay_size, np.arange(lanes) % 3, 89, 12)
    rng = np.random.default_rng(0)
    batch = Batch(
        rng.random((lanes, 89), np.float32),
        rng.random((lanes, 12), np.float32),
        rng.random(lanes, np.float32),
        rng.random((lanes, 89), np.float32),
        np.zeros(lanes, np.float32),
    )
    for _ in range(config.sac.replay_size // lanes):
        replay.add(batch)
    writer = Writer(directory, keep=2)
    writer.save("step_1", lambda: {"replay": replay.state()}, {})
    writer.finish()
    for _ in range(new // lanes):
        replay.add(batch)
    before, stalled = writer.bytes_written, writer.stalled_seconds
    writer.save("step_2", lambda: {"replay": replay.state()}, {})
    writer.finish()
    writer.close()
    return {
        "megabytes": (writer.bytes_written - before) / MEGA,
        "stall_seconds": writer.stalled_seconds - stalled,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--env-steps", type=int, default=600_000)
    parser.add_argument("--override", action="append", default=[], metavar="key=value")
    parser.add_argument("--storage", type=Path, default=None, help="default: the system's own")
    args = parser.parse_args()
    # Scores are no part of what is measured.
    overrides = [f"training.env_steps={args.env_steps}", "evaluation.every=1_000_000_000"]
    config = load("default", [*overrides, *args.override]).base()
    with tempfile.TemporaryDirectory(dir=args.storage) as folder:
        storage = Path(folder)
        found, tree = measured_run(config, storage / "run")
        found |= whole(tree, storage / "whole")
        found["raw_bytes_per_transition"] = 4.0 * (2 * 89 + 12 + 2)
        every = min(config.checkpoint.every_env_steps, config.sac.replay_size)
        for label, new in (("few", min(FEW, every)), ("default", every)):
            cost = grown(config, storage / label, new)
            found |= {f"{label}_new_{key}": value for key, value in cost.items()}
    print(json.dumps({key: round(value, 6) for key, value in found.items()}))


if __name__ == "__main__":
    main()
