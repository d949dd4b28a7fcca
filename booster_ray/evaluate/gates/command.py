"""``python -m booster_ray.gates CHECKPOINT``: the three verification gates."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from booster_ray.cli import positive
from booster_ray.config import ConfigError
from booster_ray.evaluate.command import bar, prepare
from booster_ray.evaluate.gates.rounds import EPISODES, MINIMUM

DESCRIPTION = """Gate 1: our observation is the official one. Gate 2: the torch actor acts as the
JAX actor. Gate 3: in the official game the policy behaves as in MJX. Exit code 0 when all pass,
1 when one fails or is not known yet, 2 for bad input. CHECKPOINT is a checkpoint, or a run, trial
or sweep (its best); the verdict is written beside it as gates.json."""


def main(argv: list[str]) -> int:
    """Run the gates; see ``DESCRIPTION`` for exit codes."""
    p = argparse.ArgumentParser(prog="python -m booster_ray.gates", description=DESCRIPTION)
    p.add_argument("checkpoint", metavar="CHECKPOINT", type=Path)
    p.add_argument("--gate", type=int, nargs="+", choices=(1, 2, 3), default=[1, 2, 3], metavar="N")
    text = (
        f"gate 3, a task, at most; it stops when it knows ({EPISODES}); {MINIMUM} or more to pass"
    )
    p.add_argument("--episodes", type=positive, default=EPISODES, metavar="N", help=text)
    p.add_argument("--world", choices=("native", "official"), default="native", help="gate 3")
    p.add_argument("--impl", choices=("auto", "jax", "warp"), default="auto", help="gate 3: MJX's")
    p.add_argument("--output", type=Path, metavar="DIR", help="write gates.json there instead")
    args = p.parse_args(argv)
    if not args.checkpoint.is_dir():
        text = f"{args.checkpoint} is not there, expected a checkpoint, run, trial or sweep"
        raise ConfigError("command line", "CHECKPOINT", text)
    prepare(cpus=os.cpu_count() or 1, jax_on_cpu=False)
    # JAX loads here, after its environment is set.
    from rich.console import Console

    from booster_ray.evaluate.gates.run import run_gates, show
    from booster_ray.evaluate.target import find_checkpoint
    from booster_ray.store.files import GATES
    from booster_ray.store.gate_results import store

    console = Console()
    checkpoint = find_checkpoint(args.checkpoint)
    beside = args.output or checkpoint.parent
    if 3 in args.gate and args.episodes < MINIMUM:
        console.print(f"--episodes {args.episodes}: gate 3 can fail but not pass below {MINIMUM}")
    with bar(console, "gates") as progress:
        verdicts = run_gates(
            checkpoint,
            sorted(set(args.gate)),
            episodes=args.episodes,
            world=args.world,
            impl=args.impl,
            threads=os.cpu_count() or 1,
            progress=progress,
        )
    for verdict in verdicts:
        show(verdict, console)
    try:
        beside.mkdir(parents=True, exist_ok=True)
        store(beside, checkpoint, verdicts)
    except OSError as error:
        text = f"cannot write {beside / GATES}: {error.strerror}"
        raise ConfigError("command line", "--output", text) from None
    console.print(f"Written: {beside / GATES}", soft_wrap=True)
    return 0 if all(verdict.passed for verdict in verdicts) else 1
