"""A stage that trains: its sweep or run is begun or gone on with, and its best registered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from booster_ray.config import Config, ConfigError, Sweep
from booster_ray.store import folder as runs
from booster_ray.store.files import CONFIG, SWEEP, best_checkpoint, read_progress, trial_directory
from booster_ray.store.remote import RemoteFolder, is_remote

Say = Callable[[str], object]


class Best(NamedTuple):
    """The best policy of a sweep or run that has ended."""

    run: Path
    """The folder of the run, or of the trial."""
    checkpoint: Path
    about: dict[str, Any]
    """What a registry is told of it, besides what the checkpoint tells."""


def train(file: Path, sweep: Sweep, changes: Sequence[str], own: Sequence[str] = ()) -> int:
    """Run a stage to its end; a sweep if its config searches anything.

    Args:
        file: its config.
        sweep: the same config.
        changes: ``key=value`` arguments of the user's.
        own: those of the pipeline's own.

    Returns:
        The exit code of the command: 0 finished, 130 stopped.

    Raises:
        ConfigError: as the command does.
    """
    if not changes and _ended(sweep):
        return 0
    config = sweep.base()
    if sweep.space:
        from booster_ray.tune.command import main
    else:
        from booster_ray.train.command import main
    if begun(sweep):
        return main(["--resume", config.name, "--storage", config.storage, *own, *changes])
    return main([str(file), *own, *changes])


def _ended(sweep: Sweep) -> bool:
    """Whether all that a sweep or run does is done and here; its command would play once more."""
    config = sweep.base()
    root = runs.storage_path(config.storage) / config.name
    if sweep.space:
        return (root / "report.html").is_file()  # the last that is written
    reports = read_progress(root)
    return bool(reports) and reports[-1]["env_steps"] >= config.training.env_steps


def begun(sweep: Sweep) -> bool:
    """Whether the sweep or run can be resumed; what a killed beginning left is cleared away."""
    config, marker = sweep.base(), SWEEP if sweep.space else CONFIG
    root = runs.storage_path(config.storage) / config.name
    there = RemoteFolder(config.storage) if is_remote(config.storage) else None
    if (root / marker).is_file() or (there and marker in there.names(config.name)):
        return True
    if root.is_dir() or (there and there.names(config.name)):
        root.mkdir(parents=True, exist_ok=True)
        with runs.driven(config, root):  # refused where it is being begun just now
            if there:
                there.remove(config.name)
            shutil.rmtree(root)
    return False


def best_of(sweep: Sweep) -> Best | None:
    """The best of a sweep or run that has ended; None: nothing in it was evaluated."""
    config = sweep.base()
    root = runs.storage_path(config.storage).absolute() / config.name
    about: dict[str, Any] = {}
    run = root
    if sweep.space:
        scores = root / "best" / "scores.json"
        if not scores.is_file():
            return None
        told = json.loads(scores.read_text(encoding="utf-8"))
        trial = told["trial"]
        run = trial_directory(root, int(trial), told.get("best_seed", 0))
        about = {"sweep": config.name, "trial": trial}
    checkpoint = best_checkpoint(run)
    if checkpoint is None:
        return None
    from booster_ray.track.where import tracked

    return Best(run, checkpoint, {**tracked(run), **about})


def judge(config: Config, run: Path, numbers: Sequence[int]) -> Mapping[str, Any]:
    """Put the best of a run through gates that it was not through; returns ``gates.json``."""
    from rich.console import Console

    from booster_ray.evaluate.command import bar, prepare

    prepare(jax_on_cpu=False)  # for a run that had ended before
    from booster_ray.evaluate.gates.run import gate
    from booster_ray.store.files import GATES
    from booster_ray.train.ray_train import available_cpus

    episodes, threads = config.tune.gate_episodes, available_cpus()
    with bar(Console(), "gates") as progress:
        told = gate(run, numbers, episodes=episodes, threads=threads, progress=progress)
    runs.publish(config, run / GATES)
    return told


def register(config: Config, best: Best, say: Say) -> Any:
    """The version of a policy in the registry, made if it is not there.

    Returns:
        A :class:`booster_ray.track.registry.Version`; None: the config's thresholds refuse it.

    Raises:
        RegistryError, CheckpointError, OSError: it cannot be made.
    """
    from booster_ray.store.gate_results import digest
    from booster_ray.track.registry import model_name, open_registry
    from booster_ray.train import publish

    registry, name = open_registry(config), model_name(config)
    wanted = digest(best.checkpoint)

    def known() -> Any:
        versions = registry.versions(name)
        return next((v for v in versions if v.tags.get("policy") == wanted), None)

    if (found := known()) is None:
        publish.register(config, best.checkpoint, best.run, registry, say, best.about)
        found = known()
    return found


def candidate(config: Config, stage: str, place: str) -> tuple[Any, Any]:
    """The registry, and the version that bears the alias of a stage that trains.

    Raises:
        ConfigError: none does, or the registry is out of reach.
    """
    from booster_ray.track.registry import Reference, RegistryError, find, model_name, open_registry
    from booster_ray.track.versions import CANDIDATES

    registry, name = open_registry(config), model_name(config)
    kind = "wandb" if config.models.registry == "wandb" else "models"
    reference = Reference(kind, name, alias=CANDIDATES[stage])
    try:
        return registry, find(registry, reference, place)
    except RegistryError as error:
        raise ConfigError(f"{error}; it is what the stage {stage} makes") from None


def reference_of(config: Config, version: Any) -> str:
    """A version as ``start_from`` names it for good, with its checksum."""
    from booster_ray.track.registry import SHA256, Reference

    kind = "wandb" if config.models.registry == "wandb" else "models"
    sha256 = version.tags[SHA256][:32]
    return str(Reference(kind, version.name, version.number, None, sha256))


def files_of(config: Config, registry: Any, version: Any, place: str) -> Path:
    """The folder of a version, fetched and verified."""
    from booster_ray.track.fetch import cache_of, fetch

    return fetch(registry, version, cache_of(config), place)
