"""``python -m booster_ray.tune CONFIG [key=value …]`` and ``--resume NAME``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from booster_ray.cli import guarded, prepare_process
from booster_ray.config import ConfigError, Sweep, load


def parser() -> argparse.ArgumentParser:
    """Arguments of the command."""
    p = argparse.ArgumentParser(
        prog="python -m booster_ray.tune",
        description="Sweep reward weights, randomization levels and learning settings. "
        "Trials are checkpointed; a killed sweep goes on with --resume.",
    )
    p.add_argument("config", nargs="?", help="YAML file or preset name, for example demo")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="replace a setting")
    p.add_argument("--resume", metavar="NAME", help="go on where the run NAME stopped")
    p.add_argument("--storage", default="results", help="folder of the runs, with --resume")
    return p


def main(argv: list[str]) -> int:
    """Run or resume a sweep; exit code 0 complete, 2 bad input, 130 stopped."""
    from booster_ray.train import folder
    from booster_ray.train.run import replace_text

    args = parser().parse_args(argv)
    if args.resume:
        if args.config:
            raise ConfigError("command line", "--resume", "takes no config, expected only a name")
        sweep, root = folder.reopen(args.resume, args.storage, folder.SWEEP)
    elif args.config:
        sweep = load(args.config, args.overrides)
        root = folder.begin(sweep)
        replace_text(root / folder.SWEEP, sweep.complete().to_yaml())
    else:
        raise ConfigError("command line", "", "expected a config, or --resume NAME")
    with folder.lock(root):
        return _drive(sweep, root)


def _drive(sweep: Sweep, root: Path) -> int:
    config = sweep.base()
    prepare_process(config, len(os.sched_getaffinity(0)))

    from rich.console import Console

    from booster_ray.tune.finish import finish
    from booster_ray.tune.sweep import SweepRunner

    console = Console()
    runner = SweepRunner(sweep, root, console)
    resume = f"python -m booster_ray.tune --resume {config.name}"
    if config.storage != "results":
        resume += f" --storage {config.storage}"
    console.print(f"Sweep {config.name}: {config.tune.trials} trials, in {root}")
    try:
        complete = runner.run()
    except KeyboardInterrupt:
        complete = False
    if not complete:
        console.print(f"Stopped. Go on with:\n  {resume}", highlight=False, soft_wrap=True)
        return 130
    finish(runner, console)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(lambda: main(sys.argv[1:])))
