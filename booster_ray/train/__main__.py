"""``python -m booster_ray.train CONFIG [key=value …]``: one run of one stage, no sweep."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from booster_ray.cli import (
    config_or_resumed,
    guarded,
    prepare_process,
    resume_command,
    run_parser,
)
from booster_ray.config import Config, ConfigError

DESCRIPTION = "Train one policy with one config. A killed run goes on with --resume."


def main(argv: list[str]) -> int:
    """Train or resume; exit code 0 finished, 2 bad input, 130 stopped."""
    from booster_ray.train import folder
    from booster_ray.train.run import CONFIG

    args = run_parser("train", DESCRIPTION).parse_args(argv)
    sweep, root = config_or_resumed(args, CONFIG)
    if sweep.space:
        text = "is searched, expected one value; sweeps are run by booster_ray.tune"
        raise ConfigError(sweep.source, next(iter(sweep.space)), text)
    root = root or folder.begin(sweep)
    with folder.lock(root):
        return _train(sweep.base(), root)


def _train(config: Config, root: Path) -> int:
    prepare_process(config, config.world.threads or config.trainer.cpus)

    from booster_ray.train.run import STOP_FILE, read_progress, train_reporting

    stop_file = root / STOP_FILE
    stop_file.unlink(missing_ok=True)

    def stop(signum: int, _frame: Any) -> None:
        if stop_file.exists():
            raise KeyboardInterrupt
        stop_file.touch()
        print("Stopping: saving a checkpoint. Again: stop at once.", flush=True)

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, stop)
    if config.trainer.workers:
        _fit_under_ray(config, root, stop_file)
    else:
        train_reporting(config, root, stop_file, lambda m: print(_line(config, m), flush=True))
    reports = read_progress(root)
    if reports and reports[-1]["env_steps"] >= config.training.env_steps:
        print(f"Finished; checkpoints and progress.jsonl are in {root}")
        return 0
    print(f"Stopped. Go on with:\n  {resume_command('train', config)}")
    return 130


def _fit_under_ray(config: Config, root: Path, stop_file: Path) -> None:
    import ray
    from ray.train import UserCallback

    from booster_ray.train.ray_train import connect, fit_in_worker

    class Progress(UserCallback):
        def after_report(self, run_context: Any, metrics: list[Any], checkpoint: Any) -> None:
            print(_line(config, metrics[0]), flush=True)

    connect(config, os.environ.get("RAY_ADDRESS"))
    try:
        fit_in_worker(config, root.resolve(), stop_file.resolve(), [Progress()])
    finally:
        ray.shutdown()


def _line(config: Config, metrics: dict[str, Any]) -> str:
    """One report: progress, rate, ETA, return and score."""
    steps, budget = int(metrics["env_steps"]), config.training.env_steps
    parts = [f"{steps:,}/{budget:,} env steps ({100 * steps // budget}%)"]
    rate = metrics.get("env_steps_per_second")
    if rate:
        left = max(0.0, (budget - steps) / rate)
        parts += [f"{rate:,.0f}/s", f"ETA {int(left // 60)}m{int(left % 60):02d}s"]
    if "episode_return" in metrics:
        parts.append(f"return {metrics['episode_return']:.1f}")
        parts.append(f"episode {metrics['episode_seconds']:.1f} s")
    if "score" in metrics:
        official = "official score" if config.world.is_soccer else "score"
        parts.append(f"{official} {metrics['score']:.3f}")
    return "  ".join(parts)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
