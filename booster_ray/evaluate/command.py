"""``python -m booster_ray.evaluate TARGET``: official scores, all three tasks."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from booster_ray.cli import natural, positive
from booster_ray.config import ConfigError, load

if TYPE_CHECKING:
    from rich.console import Console

    from booster_ray.evaluate.play import Episode, Progress
    from booster_ray.evaluate.target import Target
    from booster_ray.policy.settings import Settings

DESCRIPTION = """Play the three official tasks and print the official score of each, its terms,
survival, falls, touches and ball speed, with intervals over seeds. TARGET is a checkpoint, a run,
trial or sweep (its best checkpoint), an exported package, a .onnx file, a .zip of
Stable-Baselines3, sb3-contrib or SBX, or module:object."""

EPILOG = """module:object is called with official observations (n, D) and infos (n, ...) every 2 ms
and gives torques (n, 12) in N.m, or (torques, state). A .onnx file beside a package.json is played
as that package; any other has one input [n, 89] (the observation of booster_ray/Soccer-v0; 86 or 87
without the tasks, more with features) and an output [n, 12]: actions in [-1, 1], or N.m every 2 ms
if it is named torque. A .zip must observe that too, and act between -1 and 1 or the torque limits.
Actions in [-1, 1] are played under control.* of the default config (joint targets at 50 Hz) or of
--config. What normalizes observations outside of the file, as VecNormalize does, is not known
here: use module:object."""

SECONDS_A_LINE = 10.0
"""Between two lines of progress where there is no terminal to draw a bar in."""

FIRST_SEED = 1000
"""Beyond the seeds on which training evaluates, and chooses its best checkpoint."""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(
        prog="python -m booster_ray.evaluate", description=DESCRIPTION, epilog=EPILOG
    )
    p.add_argument("target", metavar="TARGET")
    text = "of each task (10); a checkpoint or package plays one of Goalie, all of which are equal"
    p.add_argument("--episodes", type=positive, default=10, metavar="N", help=text)
    p.add_argument(
        "--world", choices=("native", "official"), default="native",
        help="native (default): fast, the same episodes; official: sai_mujoco itself",
    )  # fmt: skip
    text = f"episodes are played on seeds S, S+1, … ({FIRST_SEED})"
    p.add_argument("--seed", type=natural, default=FIRST_SEED, metavar="S", help=text)
    text = "control and observation of a .onnx or .zip that tells neither: a YAML file or preset"
    p.add_argument("--config", metavar="CONFIG", help=text)
    text = "read the pickled parts of a .zip, which runs code of whoever wrote it"
    p.add_argument("--trust", action="store_true", help=text)
    p.add_argument("--output", type=Path, metavar="DIR", help="write JSON, plots and videos there")
    p.add_argument("--video", action="store_true", help="film median and worst episodes")
    return p


def main(argv: list[str]) -> int:
    """Evaluate; exit code 0, or 2 for bad input."""
    args = parser().parse_args(argv)
    if args.video and args.output is None:
        raise ConfigError("command line", "--video", "has nowhere to go, expected --output DIR too")
    check_output(args.output)
    prepare(video=args.video)
    from rich.console import Console

    from booster_ray.evaluate.output import table, told, write
    from booster_ray.evaluate.summary import summarize
    from booster_ray.evaluate.target import load_target

    console = Console()
    target = load_target(args.target, policy_settings(args.config), trust=args.trust)
    seeds = range(args.seed, args.seed + args.episodes)
    episodes = play(target, args.world, list(seeds), args.video, console)
    summary = summarize(episodes)
    console.print(table(f"{target.name} ({target.kind})", summary))
    if summary["score"] is not None:
        console.print(f"Official score, mean of the tasks: {told(summary['score'], '.2f')}")
    if summary["lost"]:
        text = "their physics was no longer finite; they count as the worst outcome"
        console.print(f"{summary['lost']} episodes were lost: {text}")
    if args.output is not None:
        about = {"target": target.name, "kind": target.kind, "world": args.world}
        write(args.output, about, summary, episodes)
        console.print(f"Written: {args.output}/evaluation.json, {args.output}/evaluation.html")
    if args.video:
        _films(args.output, episodes, console)
    return 0


def policy_settings(config: str | None) -> Settings | None:
    """How a policy acts, by a config; None where there is none.

    Raises:
        ConfigError: it cannot be used.
    """
    from booster_ray.policy.settings import settings_of

    return None if config is None else settings_of(load(config).base())


def prepare(*, cpus: int = 1, jax_on_cpu: bool = True, video: bool = False) -> None:
    """This process's environment, before JAX and torch load; what the user has set stays.

    Args:
        cpus: for JAX; the rules of native worlds are too small to share.
        jax_on_cpu: whether JAX has nothing to do that is worth a GPU.
        video: whether something will be drawn.

    Raises:
        VersionError: the game cannot be played with what is installed.
        ConfigError: JAX cannot compute where the environment tells it to.
    """
    from booster_ray.config import Config
    from booster_ray.runtime.environment import check_platforms, process_environment, settle
    from booster_ray.runtime.versions import check_versions

    check_versions()
    wanted = process_environment(Config(), cpus)
    wanted |= {"JAX_PLATFORMS": "cpu"} if jax_on_cpu else {}
    wanted |= {"MUJOCO_GL": "egl"} if video and "DISPLAY" not in os.environ else {}
    settle(wanted)
    check_platforms(Config(), "")


def play(
    target: Target, world: str, seeds: list[int], keep_torques: bool, console: Console
) -> list[Episode]:
    """Play one episode of each task a seed, with a progress bar.

    Raises:
        ConfigError: the target fails, or gives something that is no action.
    """
    from booster_ray.evaluate.play import play_native, play_official
    from booster_ray.policy.player import BadAction
    from booster_ray.policy.sai import Rejected, one_thread

    threads = os.cpu_count() or 1
    try:
        with one_thread(), bar(console, f"playing in {world} worlds") as progress:
            options: dict[str, Any] = {"keep_torques": keep_torques, "progress": progress}
            # What others made may draw random numbers of its own.
            options["stochastic"] = target.kind not in ("checkpoint", "package")
            if world == "official":
                return play_official(seeds, target.make_player, **options)
            return play_native(seeds, target.make_player, threads=threads, **options)
    except (BadAction, Rejected) as error:
        raise ConfigError(target.name, str(error)) from None


@contextmanager
def bar(console: Console, text: str) -> Iterator[Progress]:
    """Progress that is told (done, of): a bar in a terminal, elsewhere a line now and then.

    The lines go to standard error: results may be read from standard output.
    """
    if not console.is_terminal:
        yield _lines(text)
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(text, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)


def _lines(text: str) -> Progress:
    """What prints how far something is, how fast it goes and when it will be done."""
    last = time.monotonic()
    begun: tuple[float, int] | None = None

    def tell(done: int, of: int) -> None:
        nonlocal last, begun
        now = time.monotonic()
        # What came before the first word is preparation: it says nothing of what is left.
        begun = begun or (now, done)
        if now - last < SECONDS_A_LINE:
            return
        last = now
        rate = (done - begun[1]) / (now - begun[0]) if now > begun[0] else 0.0
        ahead = f", {rate:,.1f} a second, {(of - done) / rate:,.0f} s left" if rate else ""
        print(f"{text}: {done:,} of {of:,}{ahead}", file=sys.stderr, flush=True)

    return tell


def _films(directory: Path, episodes: list[Episode], console: Console) -> None:
    from booster_ray.evaluate.output import extremes
    from booster_ray.evaluate.video import NoRenderer, check_renderer, film

    try:
        check_renderer()
        with bar(console, "filming") as progress:
            chosen = extremes(episodes)
            for done, (name, episode) in enumerate(chosen.items()):
                progress(done, len(chosen))
                film(episode, directory / f"{name}.mp4")
    except NoRenderer as reason:
        console.print(f"No video: {reason}")
    else:
        console.print(f"Filmed: {', '.join(chosen)} in {directory}")


def check_output(directory: Path | None) -> None:
    """Make the folder of ``--output``, if one is wanted.

    Raises:
        ConfigError: it cannot be made.
    """
    if directory is None:
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        text = f"cannot write {directory}: {error.strerror}"
        raise ConfigError("command line", "--output", text) from None
