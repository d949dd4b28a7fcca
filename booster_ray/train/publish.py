"""A run's best policy becomes a version, if the rules let it; aliases and old versions follow."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from booster_ray.config import Config, ConfigError
from booster_ray.policy.model import pack
from booster_ray.store import checkpoint, gate_results
from booster_ray.store.checkpoint import CheckpointError
from booster_ray.store.database import SQLITE
from booster_ray.store.failure import last_env_steps
from booster_ray.store.files import best_checkpoint, sweep_root, trial_name
from booster_ray.store.folder import DRIVER, place_of
from booster_ray.store.lease import read_owner
from booster_ray.store.model_folder import scores
from booster_ray.store.remote import is_remote
from booster_ray.track import versions as best
from booster_ray.track.registry import Registry, RegistryError, model_name, open_registry
from booster_ray.track.where import mlflow_uri, tracked

LOG = "models.log"
"""In a run's folder: what was said of versions made while it trained."""
CLOSING_SECONDS = 60.0


def wanted(config: Config) -> bool:
    """Whether versions are made at all: a version belongs to a run that its tracker knows."""
    return config.models.registry in config.tracking.listeners


def publish_best(config: Config, run: Path, say: Callable[[str], object]) -> int | None:
    """Register the best checkpoint of a run that has ended; what cannot be done is said in a line.

    Args:
        config: a resolved config of the run, or of its sweep.
        run: its folder.
        say: is given each line.

    Returns:
        The version's number; None where none was made.
    """
    if not wanted(config):
        return None
    try:
        source = best_checkpoint(run)
        if source is None:
            return None
        config = located(config, run)
        return register(config, source, run, open_registry(config), say)
    except (ConfigError, CheckpointError, OSError) as error:
        say(f"No version of the model: {str(error).splitlines()[0]}")
        return None


def register(
    config: Config,
    source: Path,
    run: Path,
    registry: Registry,
    say: Callable[[str], object],
    about: Mapping[str, Any] | None = None,
) -> int | None:
    """Make a version of a checkpoint, as far as ``models`` in the config lets it.

    Args:
        config: says what is let in, and under which name.
        source: the checkpoint.
        run: the folder of its run, for curves, verdicts and the trackers' ids.
        registry: of the config.
        say: is given a line of what was done, or why not.
        about: what only the caller knows; comes before what the folder tells.

    Returns:
        The version's number, or None where it was refused.

    Raises:
        RegistryError: the registry is out of reach.
        CheckpointError: the checkpoint is damaged.
        OSError: nothing can be written here.
    """
    name = model_name(config)
    _, metadata = checkpoint.load(source, keys=())
    kept = [version.kept() for version in registry.versions(name)]
    why = best.refusal(config.models, scores(metadata), gate_results.digest(source), kept)
    if why is not None:
        say(f"No new version of {name}: {why}.")
        return None
    with tempfile.TemporaryDirectory(prefix="booster_ray-") as scratch:
        folder = Path(scratch) / "packed"
        facts = pack(source, run, folder, {**_trial(run), **tracked(run), **(about or {})})
        number = registry.add(name, folder, facts)
    aliases = arrange(config, registry, name)
    told = ", ".join(alias for alias, version in aliases.items() if version == number)
    say(f"Registered as {name} version {number} ({told}) in {registry.where}.")
    return number


def arrange(config: Config, registry: Registry, name: str) -> dict[str, int]:
    """Give the aliases to the versions that deserve them, then remove what need not stay."""
    versions = {version.number: version for version in registry.versions(name)}
    told = best.changes(config.models, [version.kept() for version in versions.values()])
    for alias, number in told.aliases.items():
        if alias not in versions[number].aliases:
            registry.set_alias(versions[number], alias)
    for number in told.remove:
        with suppress(RegistryError):  # another run was quicker
            registry.remove(versions[number])
    return told.aliases


def located(config: Config, run: Path) -> Config:
    """The same config with its storage where the run's folder lies, wherever this process stands.

    A relative one means another folder in the process of a trial.
    """
    if is_remote(config.storage):
        return config
    root = sweep_root(run) or run.absolute()
    return config.model_copy(update={"storage": str(root.parent)})


def _trial(run: Path) -> dict[str, str]:
    """Which of a sweep's runs it is, as its folder has it; nothing of a run by itself."""
    name = trial_name(run)
    return {"trial": name} if name else {}


def writes_here(config: Config, run: Path) -> bool:
    """Whether a run's machine may write to the registry.

    An SQLite file is written from the driver's machine alone: another has a file of its own where
    storage is remote, and on a shared disk several machines would damage it. The driver makes the
    version then, when the sweep ends.
    """
    own = config.models.registry == "mlflow" and mlflow_uri(config).startswith(SQLITE)
    if not own:
        return True
    root = sweep_root(run) or run.absolute()
    try:
        driver = read_owner(place_of(located(config, run), root), DRIVER)
    except OSError:
        return False
    return driver is None or driver.host == socket.gethostname()


class Publisher:
    """Makes versions while a run trains, each in a process of its own beside it.

    Args:
        config: a resolved config.
        run: its folder.
    """

    def __init__(self, config: Config, run: Path) -> None:
        self._config, self._run = config, run
        self._seen = last_env_steps(run)
        self._process: subprocess.Popen[bytes] | None = None

    def observe(self, env_steps: int) -> None:
        """So many env steps are done; returns at once."""
        before, self._seen = self._seen, env_steps
        cadence, every = self._config.checkpoint.every_env_steps, self._config.models.every
        running = self._process is not None and self._process.poll() is None
        if running or not (wanted(self._config) and best.due(before, env_steps, cadence, every)):
            return
        if not writes_here(self._config, self._run):
            return
        # Torch's exporter holds the interpreter for seconds: not beside the training loop.
        command = [sys.executable, "-m", "booster_ray.models", "register", str(self._run)]
        # Which may have come with a job, without being installed.
        path = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
        with suppress(OSError), (self._run / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                ["nice", *command],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "CUDA_VISIBLE_DEVICES": ""},
            )

    def close(self, *, wait: bool) -> None:
        """End the process under way; ``wait``: let it come to its end, but not for ever."""
        if self._process is None:
            return
        try:
            self._process.wait(CLOSING_SECONDS if wait else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
