"""``python -m booster_ray.train CONFIG [key=value …]``: one run of one stage, no sweep."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from booster_ray.cli import (
    config_or_resumed,
    prepare_process,
    resume_command,
    run_parser,
)
from booster_ray.config import Config, ConfigError
from booster_ray.config.experiments import KEY

if TYPE_CHECKING:
    from booster_ray.store.address import Address

DESCRIPTION = "Train one policy with one config. A killed run goes on with --resume."


def main(argv: list[str]) -> int:
    """Train or resume; exit code 0 finished, 1 failed, 2 bad input, 130 stopped."""
    from booster_ray.cli import changed, changes
    from booster_ray.runtime.environment import prepare
    from booster_ray.store import folder
    from booster_ray.store.files import CONFIG
    from booster_ray.train import preflight
    from booster_ray.train.ray_cluster import check_cluster, given_back

    args = run_parser("train", DESCRIPTION).parse_intermixed_args(argv)
    overrides = changes(args)
    sweep, root = config_or_resumed(args, CONFIG)
    if sweep.space:
        text = "is searched, expected one value; sweeps are run by booster_ray.tune"
        if sweep.experiments:
            raise ConfigError(sweep.source, KEY, "are run by booster_ray.tune, expected none")
        raise ConfigError(sweep.source, next(iter(sweep.space)), text)
    new, workers = root is None, sweep.base().trainer.workers > 0
    if root is None:
        from booster_ray.track.fetch import pinned

        sweep = pinned(sweep)
        if workers:
            check_cluster()
        # `start_from` is looked at with torch, which reads its number of threads when it loads.
        prepare(sweep.base(), _cpus(sweep.base()))
        root = preflight.begin(sweep, under_ray=workers)
    with folder.driven(sweep.base(), root, over=args.take_over):
        if new:
            folder.check_free(sweep, root)  # another machine may have begun it meanwhile
        config = changed(sweep, root / CONFIG, overrides).base()
        with given_back(root) if new else nullcontext():
            _prepare(config, root)
        return _train(config, root)


def _cpus(config: Config) -> int:
    """Cores of the process that trains."""
    return config.world.threads or config.trainer.cpus


def _prepare(config: Config, root: Path) -> None:
    """Set this process's environment; join or start Ray, where its workers train."""
    workers = config.trainer.workers > 0
    prepare_process(config, _cpus(config), under_ray=workers)
    if workers:
        from booster_ray.train.nodes import check_nodes
        from booster_ray.train.ray_cluster import cluster_address
        from booster_ray.train.ray_train import connect

        connect(config, cluster_address())
        check_nodes(config, root, print)


def _train(config: Config, root: Path) -> int:
    from booster_ray.runtime.signals import stop_signals
    from booster_ray.runtime.versions import VersionError
    from booster_ray.store.address import Address
    from booster_ray.store.attempts import new_attempt
    from booster_ray.store.checkpoint import CheckpointError
    from booster_ray.store.failure import forget_failure, text_of
    from booster_ray.store.files import read_progress
    from booster_ray.store.lease import LeaseLost
    from booster_ray.store.sweep_mirror import SweepMirror
    from booster_ray.track.tracker import Tracker
    from booster_ray.train.attempt import Attempt, train_here
    from booster_ray.train.preemption import Preempted
    from booster_ray.train.publish import publish_best, wanted

    forget_failure(root)
    address = Address.of(config, root)
    address.take_back_stop()

    def stop(name: str) -> None:
        address.ask_to_stop()
        print(f"{name}: saving a checkpoint, then stopping. Again: stop at once.", flush=True)

    def say(line: str) -> None:
        print(line, flush=True)

    failure: str | None = None
    with Tracker(config, root, say) as tracker:
        try:
            with suppress(Preempted):
                if config.trainer.workers:
                    _fit_under_ray(config, address, stop)
                else:
                    with stop_signals(stop):
                        attempt = Attempt(config, address, new_attempt(root))
                        train_here(attempt, lambda m: say(_line(config, m)))
        except (ConfigError, CheckpointError, LeaseLost, VersionError):
            raise
        except (Exception, SystemExit) as error:
            failure = text_of(root, error)
        reports = read_progress(root)
        finished = bool(reports) and reports[-1]["env_steps"] >= config.training.env_steps
        tracker.hurried = not finished and not failure
    if failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    if finished:
        if config.trainer.workers and wanted(config):
            SweepMirror(config, root).fetch_run(root)  # a worker elsewhere has made it
        publish_best(config, root, say)
        print(f"Finished; checkpoints and progress.jsonl are in {root}")
        return 0
    print(f"Stopped. Go on with:\n  {resume_command('train', config)}")
    return 130


def _fit_under_ray(config: Config, address: Address, stop: Callable[[str], None]) -> None:
    import ray
    from ray.train import UserCallback

    from booster_ray.runtime.signals import stop_signals
    from booster_ray.train.nodes import check_nodes
    from booster_ray.train.ray_train import fit_surviving

    class Progress(UserCallback):
        def after_report(self, run_context: Any, metrics: list[Any], checkpoint: Any) -> None:
            print(_line(config, metrics[0]), flush=True)

    try:
        avoid = check_nodes(config, address.root, lambda _: None)
        with stop_signals(stop):  # not before: Ray would put its own handler in the place of ours
            fit_surviving(config, address, [Progress()], avoid=avoid)
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
    if metrics.get("compile_seconds", 0.0) >= 1.0:
        parts.append(f"compiled {metrics['compile_seconds']:.0f} s")
    if "episode_return" in metrics:
        parts.append(f"return {metrics['episode_return']:.1f}")
        parts.append(f"episode {metrics['episode_seconds']:.1f} s")
    if "validation_loss" in metrics:
        parts.append(f"validation loss {metrics['validation_loss']:.2e}")
    if "score" in metrics:
        official = "official score" if config.world.is_soccer else "score"
        parts.append(f"{official} {metrics['score']:.3f}")
    if "preemption_save_seconds" in metrics:
        parts.append(f"saved {metrics['preemption_save_seconds']:.1f} s after the signal")
    return "  ".join(parts)
