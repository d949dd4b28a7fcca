"""What the commands share: arguments, one line for bad input, the environment before JAX loads."""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from booster_ray.config import Config, ConfigError, Sweep, load
from booster_ray.store.files import SWEEP


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
    p = argparse.ArgumentParser(prog=f"python -m booster_ray.{command}", description=description)
    p.add_argument("config", nargs="?", help="YAML file or preset name, for example demo")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="replace a setting")
    p.add_argument("--resume", metavar="NAME", help="go on where the run NAME stopped")
    p.add_argument("--storage", help="folder of the runs, the same as storage=… (results)")
    return p


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
        from booster_ray.store.resuming import with_storage

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
