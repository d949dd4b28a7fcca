"""``python -m booster_ray.tune CONFIG [key=value …]`` and ``--resume NAME``."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from booster_ray.cli import (
    config_or_resumed,
    prepare_process,
    resume_command,
    run_parser,
)
from booster_ray.config import Config, Sweep
from booster_ray.store.files import SWEEP
from booster_ray.store.lease import Lease

if TYPE_CHECKING:
    from rich.console import Console

    from booster_ray.tune.sweep import SweepRunner

DESCRIPTION = (
    "Sweep reward weights, randomization levels and learning settings. Trials are checkpointed; "
    "a killed sweep goes on with --resume."
)


def main(argv: list[str]) -> int:
    """Run or resume a sweep; exit code 0 complete, 1 failed, 2 bad input, 130 stopped."""
    from booster_ray.cli import changed, changes
    from booster_ray.store import folder
    from booster_ray.store.durable import replace_text

    parser = run_parser("tune", DESCRIPTION)
    parser.add_argument(
        "--dry-run", action="store_true", help="say what it would take, and start nothing"
    )
    args = parser.parse_intermixed_args(argv)
    overrides = changes(args)
    sweep, root = config_or_resumed(args, SWEEP)
    if root is None:
        from booster_ray.track.fetch import pinned

        sweep = pinned(sweep)
    if args.dry_run:
        return _plan(sweep, root)
    new = root is None
    if root is None:
        root = _begin(sweep)
    with folder.driven(sweep.base(), root, over=args.take_over) as lease:
        if new:
            folder.check_free(sweep, root)  # another machine may have begun it meanwhile
            replace_text(root / SWEEP, sweep.complete().to_yaml())
        sweep = changed(sweep, root / SWEEP, overrides)
        _prepare(sweep.base(), root, new)
        folder.publish(sweep.base(), root / SWEEP)
        return _drive(sweep, root, lease)


def _begin(sweep: Sweep) -> Path:
    from booster_ray.train import preflight
    from booster_ray.train.ray_cluster import check_cluster
    from booster_ray.tune.searchable import check_space

    config = sweep.base()
    check_space(sweep)
    check_cluster()
    if config.tune.study_url is not None:
        from booster_ray.tune.study import refuse_taken

        refuse_taken(config, sweep.source)
    root = preflight.begin(sweep)
    if crowd := _crowd(sweep):
        print(f"warning: {crowd}", file=sys.stderr)
    return root


def _plan(sweep: Sweep, root: Path | None) -> int:
    from rich.console import Console

    from booster_ray.tune.plan import plan, print_plan

    crowd = _crowd(sweep)  # refuses what a run would be refused for
    print_plan(plan(sweep, root), Console())
    if crowd:
        print(f"memory     {crowd}")
    return 0


def _crowd(sweep: Sweep) -> str:
    """What trials beside one another lack of this machine's memory; empty: nothing is known."""
    from booster_ray.runtime.memory import check_sweep, crowded, elsewhere
    from booster_ray.train.preflight import check_worlds
    from booster_ray.tune.plan import at_once

    if elsewhere():
        return ""
    sizes = check_worlds(sweep)
    check_sweep(sweep, sizes)
    return crowded(sweep, sizes, at_once(sweep.base()))


def _prepare(config: Config, root: Path, new: bool) -> None:
    """Set this process's environment; of a new sweep, join or start Ray, or give up its name."""
    from booster_ray.train.ray_cluster import cluster_address, given_back

    with given_back(root) if new else nullcontext():
        prepare_process(config, len(os.sched_getaffinity(0)), under_ray=True)
        if new:
            from booster_ray.train.nodes import check_nodes
            from booster_ray.train.ray_train import connect
            from booster_ray.tune.sweep import ENVIRONMENT

            os.environ |= ENVIRONMENT
            connect(config, cluster_address())
            check_nodes(config, root, lambda _: None)


def _drive(sweep: Sweep, root: Path, lease: Lease) -> int:
    config = sweep.base()

    from rich.console import Console

    from booster_ray.track.tracker import Tracker
    from booster_ray.tune.sweep import SweepRunner

    console = Console()
    runner = SweepRunner(sweep, root, console, lease)
    console.print(f"Sweep {config.name}: {config.tune.trials} trials, in {root}")

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    with Tracker(config, root, say) as tracker:
        try:
            complete = runner.run()
        except KeyboardInterrupt:
            complete = False
        code = _finish(runner, console) if complete else 130
        tracker.hurried = not complete
    if not complete:
        command = resume_command("tune", config)
        if runner.budget.over():
            command += " tune.max_hours=… or tune.max_cost=…, raised"
        say(f"Stopped. Go on with:\n  {command}")
    return code


def _finish(runner: SweepRunner, console: Console) -> int:
    # What plays a policy takes 200 MB, which a driver shall not hold while trials run.
    from booster_ray.tune.finish import finish

    return finish(runner, console)
