"""What commands share: arguments, one line for bad input, the environment before JAX loads."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from booster_ray.config import Config, ConfigError, Sweep, load, yaml12
from booster_ray.config.errors import choices, show
from booster_ray.config.kinds import ADDED
from booster_ray.soccer.rewards import TERMS, AddedTerm
from booster_ray.store.durable import replace_text
from booster_ray.store.files import SWEEP
from booster_ray.store.folder import in_storage


def guarded(main: Callable[[], int], *, answers: bool = False) -> int:
    """Run a command; bad input becomes one line on stderr and exit code 2.

    Output that cannot be written ends nothing, see :mod:`booster_ray.runtime.streams`.

    Args:
        main: returns the exit code.
        answers: whether its output is all that it is run for: exit code 1 where some was lost.
    """
    from booster_ray.runtime.environment import keep_numerics
    from booster_ray.runtime.streams import forgive_streams, lost_output
    from booster_ray.runtime.versions import VersionError
    from booster_ray.store.checkpoint import CheckpointError
    from booster_ray.store.remote import StorageError

    forgive_streams(quiet=answers)
    for undone in keep_numerics():
        text = f"warning: {undone} is set aside: it would change what is computed"
        print(text, file=sys.stderr)
    try:
        code = main()
    except (ConfigError, CheckpointError, StorageError, VersionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except SystemExit as end:  # argparse's, after --help
        if not end.code and lost_output():
            return 1
        raise
    return 1 if answers and code == 0 and lost_output() else code


def run_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Arguments of a command that begins a run from a config or resumes one by name."""
    prog = f"python -m booster_ray.{command}"
    p = argparse.ArgumentParser(prog=prog, description=description, epilog=added_by_packages())
    p.add_argument("config", nargs="?", help="YAML file or preset name, for example demo")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="replace a setting")
    p.add_argument("--resume", metavar="NAME", help="go on where the run NAME stopped")
    p.add_argument(
        "--take-over", action="store_true", help="resume also what another machine still drives"
    )
    p.add_argument("--storage", help="folder of the runs, the same as storage=… (results)")
    return p


def added_by_packages() -> str:
    """The worlds and reward terms of other packages, for the help; empty: there are none."""
    terms = {name: term.source for name, term in TERMS.items() if isinstance(term, AddedTerm)}
    worlds = {f"world: {name}": source for name, source in ADDED.items()}
    rewards = {f"rewards.{name}": source for name, source in terms.items()}
    told = [f"{what} ({one.package} {one.version})" for what, one in (worlds | rewards).items()]
    return f"added by packages: {', '.join(told)}" if told else ""


def config_or_resumed(args: argparse.Namespace, marker: str) -> tuple[Sweep, Path | None]:
    """The config that the arguments name, and the folder if it is resumed.

    Raises:
        ConfigError: neither or both are given, the config is refused, or no such run exists.
        VersionError: the game cannot be played with what is installed.
    """
    from booster_ray.runtime.versions import check_versions
    from booster_ray.store import folder

    check_versions()
    if args.resume and args.config:
        raise ConfigError("command line", "--resume", "takes no config, expected only a name")
    if args.resume:
        return folder.reopen(args.resume, args.storage or "results", marker)
    if args.config:
        from booster_ray.runtime.environment import check_platforms, restart_for_libraries

        sweep = load(args.config, with_storage(args))
        config = sweep.base()
        restart_for_libraries(config)  # before anything is begun
        if not _on_a_cluster(marker == SWEEP or config.trainer.workers > 0):
            check_platforms(config, sweep.source)
        return sweep, None
    raise ConfigError("command line", "", "expected a config, or --resume NAME")


def resume_command(command: str, config: Config) -> str:
    """What to type to go on with a run."""
    storage = [] if config.storage == "results" else ["--storage", config.storage]
    return shlex.join(["python", "-m", f"booster_ray.{command}", "--resume", config.name, *storage])


def prepare_process(config: Config, cpus: int, *, under_ray: bool) -> None:
    """Set this process's environment; must run before jax and ray are imported.

    Args:
        config: of the run.
        cpus: cores that this process may use.
        under_ray: whether Ray's workers train, and not this process.

    Raises:
        ConfigError: JAX cannot compute where it is told to.
    """
    from booster_ray.runtime import environment as runtime
    from booster_ray.runtime.memory import elsewhere

    runtime.restart_for_libraries(config)  # of a run that is resumed; a new one did so before
    runtime.prepare(config, cpus)
    try:
        runtime.check_platforms(config, config.name)
    except ConfigError:
        if not _on_a_cluster(under_ray):
            raise
        # The workers' machines may have what the driver's has not; its own share is small.
        runtime.prepare(config, cpus, JAX_PLATFORMS="cpu")
    if not elsewhere():
        # A token for the cluster that this process may start, and for no other. Ray would write
        # one to the user's home, and every `ray start` from then on would ask for it.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    # Anonymous usage reports are the user's to switch on.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def _on_a_cluster(under_ray: bool) -> bool:
    """Whether what trains is on machines of a cluster that runs already."""
    from booster_ray.runtime.memory import elsewhere

    return under_ray and elsewhere()


CHANGEABLE = (
    "tune.trials", "tune.max_", "tune.price_per_hour",
    "checkpoint.keep_replay", "trainer.", "tracking.", "models.", "monitor.", "runtime.",
)  # fmt: skip
"""Beginnings of the settings that leave what is trained as it is."""


def changes(args: argparse.Namespace) -> list[str]:
    """The ``key=value`` arguments after ``--resume NAME``, taken out of the parsed arguments.

    ``storage=…`` says where the run is, and goes to ``args.storage``.

    Raises:
        ConfigError: ``storage`` is no text, or says something else than ``--storage``.
    """
    if not args.resume or args.config is None or "=" not in args.config:
        return []
    found = [args.config, *args.overrides]
    args.config, args.overrides = None, []
    args.storage = _agreed(args.storage, found)
    return [text for text in found if not _is_storage(text)]


def with_storage(args: argparse.Namespace) -> list[str]:
    """The ``key=value`` arguments of a new run, ``--storage`` among them.

    Raises:
        ConfigError: as :func:`changes`.
    """
    if args.storage is None:
        return list(args.overrides)
    _agreed(args.storage, args.overrides)
    return [*args.overrides, f"storage={json.dumps(args.storage)}"]  # JSON is YAML


def _agreed(option: str | None, overrides: Sequence[str]) -> str | None:
    """The storage that ``--storage`` and ``storage=…`` name, one of which may be missing."""
    given = [text.partition("=")[2] for text in overrides if _is_storage(text)]
    if not given:
        return option
    try:
        named = yaml12.read(given[-1])  # the last override counts, as of every setting
    except yaml12.YamlError as error:
        raise ConfigError("command line", "storage", f"{error.text}, expected YAML") from None
    if not isinstance(named, str) or not named:
        raise ConfigError("command line", "storage", f"is {show(named)}, expected a string")
    if option is not None and option != named:
        text = f"is '{named}', and --storage is '{option}', expected one of the two"
        raise ConfigError("command line", "storage", text)
    return named


def _is_storage(override: str) -> bool:
    return override.partition("=")[0].strip() == "storage"


def changed(sweep: Sweep, marker: Path, overrides: list[str]) -> Sweep:
    """A resumed sweep with settings changed, written back to ``marker``, its config.

    Its storage is where it was found, and is written back too: workers read it there.

    Raises:
        ConfigError: a setting is wrong, or must stay as it is.
    """
    storage = sweep.base().storage
    moved = marker.is_file() and load(marker).base().storage != storage
    if not overrides and not moved:
        return sweep
    for override in overrides:
        key = override.partition("=")[0].strip()
        if not key.startswith(CHANGEABLE):
            names = (f"{begin}*" if begin[-1] in "._" else begin for begin in CHANGEABLE)
            text = f"cannot change with --resume, expected {choices(names)}"
            raise ConfigError("command line", key, text)
    after = in_storage(load(marker, overrides), storage)
    if (
        before := sweep.base().tune
    ).scheduler == "pbt" and after.base().tune.trials != before.trials:
        text = f"is the size of the population, expected {before.trials}"
        raise ConfigError("command line", "tune.trials", text)
    replace_text(marker, after.to_yaml())
    return after


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 1")
    return value


def natural(text: str) -> int:
    """A whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text}, expected at least 0")
    return value
