"""``python -m booster_ray.data record | convert | info``: demonstrations as Minari datasets."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from booster_ray.cli import natural, positive
from booster_ray.config import ConfigError
from booster_ray.soccer import game

if TYPE_CHECKING:
    from booster_ray.data.job import Make, Unit

DESCRIPTION = """Demonstrations as Minari datasets, for `replay.demonstrations` and `stage: clone`.
An interrupted command goes on when it is typed again. docs/data.md has the formats."""

RECORD = """Play a policy and write what it saw and did. TARGET is a checkpoint, a run or sweep (its
best), an exported package, or module:class of an expert (booster_ray.policy.experts)."""
CONVERT = """Make a dataset of raw episodes: .npz files of an episode each, robomimic's .hdf5 files,
or the competition's teleoperation recordings (.npz)."""
INFO = "Say what a dataset holds, and check every shard."
FORMATS = ("auto", "npz", "robomimic", "teleoperation")


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="python -m booster_ray.data", description=DESCRIPTION)
    commands = p.add_subparsers(dest="command", required=True, metavar="COMMAND")
    record = commands.add_parser("record", help="play a policy", description=RECORD)
    record.add_argument("target", metavar="TARGET")
    text = "of each task; without noise, one of Goalie, all of which are equal"
    record.add_argument("--episodes", type=positive, required=True, metavar="N", help=text)
    text = "native (default): fast, the same episodes; official: sai_mujoco itself"
    record.add_argument("--world", choices=("native", "official"), default="native", help=text)
    text = "to play (all three)"
    record.add_argument("--tasks", nargs="+", choices=game.TASKS, default=game.TASKS, help=text)
    text = "mean deviation of noise on the played actions (0); the policy's own are kept beside"
    record.add_argument("--noise", type=_deviation, default=0.0, metavar="X", help=text)
    text = "episodes are played on seeds S, S+1, … (10000)"
    record.add_argument("--seed", type=natural, default=10_000, metavar="S", help=text)
    text = "control and observation of an expert: a YAML file or preset"
    record.add_argument("--config", metavar="CONFIG", help=text)
    convert = commands.add_parser("convert", help="raw episodes", description=CONVERT)
    convert.add_argument("source", metavar="FOLDER", type=Path)
    text = "what the files are (auto: by what they hold)"
    convert.add_argument("--format", choices=FORMATS, default="auto", help=text)
    text = "the run whose observations and actions they are: a YAML file or preset"
    convert.add_argument("--config", metavar="CONFIG", help=text)
    for command in (record, convert):
        command.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="new")
        text = "part of the seeds that is held out (0.1)"
        command.add_argument("--validation", type=_share, default=0.1, metavar="X", help=text)
        text = "at a time (one for each core)"
        command.add_argument("--processes", type=positive, metavar="N", help=text)
    info = commands.add_parser("info", help="what a dataset holds", description=INFO)
    info.add_argument("folder", metavar="FOLDER", type=Path)
    return p


def _deviation(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text}, expected 0 to 1")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 0 and below 1")
    return value


def main(argv: list[str]) -> int:
    """Run one command; exit code 0, 2 for bad input, 130 when stopped."""
    args = parser().parse_args(argv)
    from booster_ray.data.dataset import need_minari

    need_minari()
    if args.command == "info":
        return _info(args.folder)
    from booster_ray.data.job import Stopped, stopped

    try:
        return (_record if args.command == "record" else _convert)(args)
    except Stopped:
        return stopped(argv)


def _record(args: argparse.Namespace) -> int:
    from booster_ray.evaluate.command import prepare

    prepare()
    from booster_ray.data import record
    from booster_ray.data.job import Unit

    tasks = tuple(task for task in game.TASKS if task in args.tasks)
    plan = record.Plan(
        _absolute(args.target), args.config, args.world, tasks, args.noise, args.validation
    )
    policy = record.policy_of(plan.target, plan.config)  # refused here, before a folder is made
    job = {
        "command": "record",
        "policy": args.target,
        "policy_sha256": policy.digest,
        "config": args.config,
        "world": args.world,
        "tasks": list(tasks),
        "noise": args.noise,
        "first_seed": args.seed,
        "episodes": args.episodes,
        "validation": args.validation,
    }
    about = {
        "kind": policy.kind,
        "settings": policy.settings.to_dict(),
        "trained_with": policy.config,
        "terms": record.term_names(),
        "rewards": True,
        "versions": _versions(),
    }
    every = record.batches(plan, args.seed, args.episodes)
    units = [Unit(i, len(batch.episodes), batch) for i, batch in enumerate(every)]
    return _make(args, job, about, units, record.make, "episodes")


def _absolute(target: str) -> str:
    path = Path(target).expanduser()
    return str(path.absolute()) if path.exists() else target


def _versions() -> dict[str, str]:
    from importlib import metadata

    from booster_ray import __version__

    names = ("minari", "mujoco", "numpy", "sai-mujoco")
    return {"booster_ray": __version__, **{name: metadata.version(name) for name in names}}


def _convert(args: argparse.Namespace) -> int:
    from booster_ray.data import convert

    source = convert.Source.at(args.source, args.format, args.config)
    job = {
        "command": "convert",
        "source": str(args.source),
        "files": source.names(),
        "format": source.format,
        "config": args.config,
        "validation": args.validation,
    }
    about = {**source.about(), "versions": _versions()}
    units = source.units(args.validation)
    return _make(args, job, about, units, convert.make, source.noun)


def _make(
    args: argparse.Namespace,
    job: dict[str, Any],
    about: dict[str, Any],
    units: Sequence[Unit],
    make: Make,
    noun: str,
) -> int:
    """Make what is missing of a dataset, then the dataset."""
    from booster_ray.data.dataset import finish
    from booster_ray.data.job import begun, make_shards

    folder: Path = args.output.expanduser()
    processes = args.processes or len(os.sched_getaffinity(0))
    with begun(folder, job) as whole:
        if whole:
            print(f"Finished before: {folder}")
            return 0
        make_shards(folder, units, make, processes, noun)
        try:
            finish(folder, folder.absolute().name, {**job, **about})
        except OSError as error:
            raise ConfigError(str(folder), f"cannot be written: {error.strerror}") from None
    return _info(folder)


def _info(folder: Path) -> int:
    from booster_ray.data.info import show

    show(folder.expanduser(), partial(print, flush=True))
    return 0
