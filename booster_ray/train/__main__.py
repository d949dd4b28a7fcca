"""``python -m booster_ray.train CONFIG [key=value …]``: one run of one stage, no sweep."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from booster_ray.cli import guarded, prepare_process
from booster_ray.config import Config, ConfigError, load


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="python -m booster_ray.train",
        description="Train one policy with one config. A killed run goes on with --resume.",
    )
    p.add_argument("config", nargs="?", help="YAML file or preset name, without search ranges")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="replace a setting")
    p.add_argument("--resume", metavar="NAME", help="go on where the run NAME stopped")
    p.add_argument("--storage", default="results", help="folder of the runs, with --resume")
    return p


def main(argv: list[str]) -> int:
    """Train or resume; exit code 0 finished, 2 bad input, 130 stopped."""
    from booster_ray.train import folder
    from booster_ray.train.run import CONFIG

    args = parser().parse_args(argv)
    if args.resume:
        if args.config:
            raise ConfigError("command line", "--resume", "takes no config, expected only a name")
        sweep, root = folder.reopen(args.resume, args.storage, CONFIG)
    elif args.config:
        sweep = load(args.config, args.overrides)
        if sweep.space:
            searched = next(iter(sweep.space))
            text = "is searched, expected one value; sweeps are run by booster_ray.tune"
            raise ConfigError(sweep.source, searched, text)
        root = folder.begin(sweep)
    else:
        raise ConfigError("command line", "", "expected a config, or --resume NAME")
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
    storage = "" if config.storage == "results" else f" --storage {config.storage}"
    print(f"Stopped. Go on with:\n  python -m booster_ray.train --resume {config.name}{storage}")
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
        parts.append(f"official score {metrics['score']:.3f}")
    return "  ".join(parts)


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
