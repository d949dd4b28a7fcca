"""``python -m booster_ray.view`` and ``python -m booster_ray.play``."""

from __future__ import annotations

import argparse
import getpass
import importlib.util
import signal
import socket
import sys
from pathlib import Path

from booster_ray.cli import natural, positive
from booster_ray.config import ConfigError
from booster_ray.soccer import game

DESCRIPTION = """Watch a policy play in the browser: the official scene, task and seed of choice,
terms of score and reward as bars; pause, step, push the robot, drag the ball. Of a run that is
running, checkpoints take over as they come. TARGET and SECOND are what `evaluate` takes; two play
beside each other, from the same spawns."""

EPILOG = """The server listens on this machine alone. From another one, say
`ssh -L PORT:127.0.0.1:PORT USER@HOST` there and open the URL; no display is needed here. Whoever
reaches --host sees and steers all. Ctrl-C ends it."""

SHIPPED = Path("policies/striker")
"""Below the checkout, or the current folder."""

LIBRARIES = ("viser", "mjviser")
INSTALL = "pip install 'booster_ray[view]'"

PORT = 8080


def parser() -> argparse.ArgumentParser:
    """Arguments of ``view``."""
    p = argparse.ArgumentParser(
        prog="python -m booster_ray.view", description=DESCRIPTION, epilog=EPILOG
    )
    p.add_argument("targets", metavar="TARGET", nargs="+", help="and SECOND, if two shall play")
    _add_page(p)
    text = "control and observation of a .onnx or .zip that tells neither: a YAML file or preset"
    p.add_argument("--config", metavar="CONFIG", help=text)
    text = "read the pickled parts of a .zip, which runs code of whoever wrote it"
    p.add_argument("--trust", action="store_true", help=text)
    return p


def _add_page(p: argparse.ArgumentParser) -> None:
    p.add_argument("--task", choices=game.TASKS, default=game.TASKS[0], help="(goalie)")
    p.add_argument("--seed", type=natural, default=0, metavar="S", help="of the first episode (0)")
    text = f"to listen at ({PORT}); another where it is taken"
    p.add_argument("--port", type=_port, default=PORT, metavar="N", help=text)
    text = "address to listen at (127.0.0.1: this machine alone)"
    p.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help=text)


def _port(text: str) -> int:
    value = positive(text)
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text}, expected at most 65535")
    return value


def main(argv: list[str]) -> int:
    """Open the page; exit code 0 once it is ended by Ctrl-C or SIGTERM, 2 for bad input."""
    args = parser().parse_args(argv)
    if len(args.targets) > 2:
        text = "is one too many, expected one policy, or two"
        raise ConfigError("command line", args.targets[2], text)
    for target in args.targets:
        _check_there(target)
    if lacking := lacks():
        raise ConfigError("view", f"needs {lacking}, which is not installed: {INSTALL}")
    _check_address(args.host)
    return _serve(args)


def _check_there(target: str) -> None:
    """Refuse early, before anything heavy is loaded."""
    if not Path(target).expanduser().exists() and ":" not in target:
        text = "is not there, expected a checkpoint, a run, a package or another policy"
        raise ConfigError("command line", target, text)


def lacks() -> str:
    """The first of the viewer's libraries that is not installed; empty: all are."""
    return next((name for name in LIBRARIES if importlib.util.find_spec(name) is None), "")


def _check_address(host: str) -> None:
    try:
        with socket.create_server((host, 0)):
            pass
    except OSError as error:
        text = f"cannot listen at {host}: {error.strerror or error}"
        raise ConfigError("command line", "--host", text) from None


def _serve(args: argparse.Namespace) -> int:
    """The page, until Ctrl-C or SIGTERM."""
    from booster_ray.evaluate.command import policy_settings, prepare

    prepare()
    from booster_ray.evaluate.viewer.match import Match
    from booster_ray.evaluate.viewer.panel import Page
    from booster_ray.evaluate.viewer.policies import load_policy, watched_folder
    from booster_ray.policy.sai import one_thread

    settings = policy_settings(args.config)
    print("loading …", file=sys.stderr, flush=True)
    policies = [load_policy(text, settings, trust=args.trust) for text in args.targets]
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    match = Match(policies, args.task, args.seed)
    page = Page(match, args.host, args.port, watched_folder(args.targets[0]))
    try:
        _announce(page.url, args.host, page.port)
        with one_thread():
            page.run()
    except KeyboardInterrupt:
        print("ended", flush=True)
    finally:
        page.stop()
        signal.signal(signal.SIGTERM, before)
    return 0


def _announce(url: str, host: str, port: int) -> None:
    """Where to look, here and from another machine."""
    print(f"Open {url}", flush=True)
    if host in ("127.0.0.1", "localhost", "::1"):
        try:
            user = f"{getpass.getuser()}@"
        except (KeyError, OSError):  # containers may run as a number without a name
            user = ""
        where = f"ssh -L {port}:127.0.0.1:{port} {user}{socket.gethostname()}"
        print(f"From another machine: {where}, then open the same URL there", flush=True)
    print("Ctrl-C ends it", flush=True)


# -- play ------------------------------------------------------------------------------------------


def play_parser() -> argparse.ArgumentParser:
    """Arguments of ``play``."""
    p = argparse.ArgumentParser(
        prog="python -m booster_ray.play",
        description="""Open a policy without any training: in the browser where viser is installed,
        else it plays the official environment, prints its scores and writes films.""",
    )
    p.add_argument(
        "policy", nargs="?", metavar="POLICY", help=f"({SHIPPED}) as `evaluate` takes it"
    )
    _add_page(p)
    p.add_argument("--films", action="store_true", help="write films also where viser is installed")
    p.add_argument(
        "--episodes", type=positive, default=3, metavar="N", help="of each task, filmed (3)"
    )
    text = "folder of scores and films (results/play)"
    p.add_argument("--output", type=Path, default=Path("results/play"), metavar="DIR", help=text)
    return p


def play(argv: list[str]) -> int:
    """Open a policy; exit code 0, or 2 for bad input."""
    args = play_parser().parse_args(argv)
    policy = args.policy or str(shipped())
    _check_there(policy)
    if not args.films and not lacks():
        page = [f"--task={args.task}", f"--seed={args.seed}", f"--port={args.port}"]
        return main([policy, *page, f"--host={args.host}"])
    if not args.films:
        print(f"For the viewer in the browser: {INSTALL}", flush=True)
    from booster_ray.evaluate import command

    filmed = ["--world", "official", "--video", "--episodes", str(args.episodes)]
    where = ["--seed", str(args.seed), "--output", str(args.output)]
    return command.main([policy, *filmed, *where])


def shipped() -> Path:
    """The striker: below the current folder, else in the checkout that this package is in.

    Raises:
        ConfigError: neither has it, as where the package was installed from a wheel.
    """
    for root in (Path(), Path(__file__).parents[3]):
        if (root / SHIPPED).is_dir():
            return root / SHIPPED
    text = f"{SHIPPED} is not here, expected the checkout as the current folder, or a policy"
    raise ConfigError("command line", "POLICY", text)
