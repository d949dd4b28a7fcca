"""``python -m booster_ray.compare A B …``: which is better, how sure that is, what differed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from booster_ray.cli import natural, positive
from booster_ray.config import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from booster_ray.tune.compare.entrant import Entrant

DESCRIPTION = """Put runs, sweeps, checkpoints, packages or policies beside each other: official
scores of each task with intervals, a paired test of each against A on the same seeds, learning
curves, and what differed in their configs. Each of A, B, … is what `evaluate` takes (of a run or
sweep its best policy), or a folder that `evaluate --output` wrote: episodes that stand on disk are
read and not played again."""

EPILOG = """Episodes are paired by their seeds; the test is a paired t test, and with more than two
policies its p-values are Holm's. With --no-play only what stands on disk is told: of runs and
sweeps the scores of training's own evaluations, which are no independent ones, for training chose
the best by them."""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    from booster_ray.evaluate.command import FIRST_SEED

    p = argparse.ArgumentParser(
        prog="python -m booster_ray.compare", description=DESCRIPTION, epilog=EPILOG
    )
    p.add_argument("targets", metavar="A B", nargs="+", help="two or more")
    text = "of each task (20); Goalie always starts the same way and is played once"
    p.add_argument("--episodes", type=positive, default=20, metavar="N", help=text)
    text = f"episodes are played on seeds S, S+1, … ({FIRST_SEED})"
    p.add_argument("--seed", type=natural, default=FIRST_SEED, metavar="S", help=text)
    p.add_argument(
        "--world", choices=("native", "official"), default="native",
        help="native (default): fast, the same episodes; official: sai_mujoco itself",
    )  # fmt: skip
    p.add_argument("--no-play", action="store_true", help="tell only what stands on disk")
    text = "read the pickled parts of a .zip, which runs code of whoever wrote it"
    p.add_argument("--trust", action="store_true", help=text)
    text = "write comparison.json and comparison.html there"
    p.add_argument("--output", type=Path, metavar="DIR", help=text)
    return p


def main(argv: list[str]) -> int:
    """Compare; exit code 0, or 2 for bad input."""
    from booster_ray.evaluate.command import check_output, prepare

    args = parser().parse_args(argv)
    _check(args)
    check_output(args.output)
    prepare()
    from rich.console import Console

    from booster_ray.tune.compare.entrant import read_entrants
    from booster_ray.tune.compare.output import Comparison, show, write

    console = Console()
    entrants = read_entrants(args.targets)
    _check_known(entrants, no_play=args.no_play)
    if not args.no_play:
        _play(entrants, args, console)
    comparison = Comparison(entrants)
    show(comparison, console)
    if args.output is not None:
        write(args.output, comparison)
        console.print(f"Written: {args.output}/comparison.json, {args.output}/comparison.html")
    return 0


def _check(args: argparse.Namespace) -> None:
    """What can be refused before anything heavy is loaded."""
    if len(args.targets) < 2:
        raise ConfigError("command line", "B", "is missing, expected two or more to compare")
    for target in args.targets:
        if not Path(target).expanduser().exists() and ":" not in target:
            text = "is not there, expected a run, sweep, checkpoint, package, policy or evaluation"
            raise ConfigError("command line", target, text)


def _check_known(entrants: list[Entrant], *, no_play: bool) -> None:
    """Each must have something to tell."""
    for entrant in entrants:
        if no_play and not entrant.episodes and not entrant.history and entrant.config is None:
            text = "has neither reports nor episodes on disk, expected no --no-play"
            raise ConfigError("command line", entrant.target, text)


def _play(entrants: list[Entrant], args: argparse.Namespace, console: Console) -> None:
    """Play the episodes that are missing, on the seeds that all shall have."""
    from booster_ray.evaluate import command
    from booster_ray.evaluate.target import load_target

    seeds = _seeds(entrants, args)
    for entrant in entrants:
        if not entrant.plays or _has(entrant, seeds, args.world):
            console.print(f"{entrant.name}: episodes read from disk", style="dim")
            continue
        if entrant.history and not _is_soccer(entrant):
            continue
        target = load_target(entrant.to_play, trust=args.trust)
        if entrant.kind == "policy":
            entrant.kind = target.kind
        console.print(f"{entrant.name}: playing {target.name}", style="dim", soft_wrap=True)
        entrant.episodes = command.play(target, args.world, seeds, False, console)
        entrant.world, entrant.played = args.world, True


def _seeds(entrants: list[Entrant], args: argparse.Namespace) -> list[int]:
    """The wanted ones; or those of the evaluations that have no policy to play others with.

    Raises:
        ConfigError: these have no seed in common, or were played elsewhere than ``--world``.
    """
    from booster_ray.soccer import spawn

    fixed = [entrant for entrant in entrants if not entrant.plays]
    if not fixed:
        return list(range(args.seed, args.seed + args.episodes))
    if worlds := {entrant.world for entrant in entrants if not entrant.plays} - {args.world}:
        text = f"was played in {worlds.pop()} worlds, expected --world of that name"
        raise ConfigError("command line", fixed[0].target, text)
    drawn = [{e.seed for e in one.episodes if e.task not in spawn.DETERMINISTIC} for one in fixed]
    if not (common := sorted(set.intersection(*drawn))):
        text = "has no seed in common with the other evaluations, expected some"
        raise ConfigError("command line", fixed[0].target, text)
    return common


def _has(entrant: Entrant, seeds: list[int], world: str) -> bool:
    """Whether all wanted episodes stand on disk."""
    from booster_ray.soccer import game, spawn

    drawn = [task for task in game.TASKS if task not in spawn.DETERMINISTIC]
    once = all(entrant.seeds(task) for task in game.TASKS)
    return entrant.world == world and once and all(set(seeds) <= entrant.seeds(t) for t in drawn)


def _is_soccer(entrant: Entrant) -> bool:
    """Whether a run is of the game: what it trained in other worlds plays no official episode."""
    from booster_ray.config.kinds import kind_of

    return kind_of((entrant.config or {}).get("world", {}).get("kind", "native"))[0].soccer
