"""What a run or sweep needs, looked at before its name is taken and anything is begun."""

from __future__ import annotations

from pathlib import Path

from booster_ray.config import Config, ConfigError, Sweep
from booster_ray.config.experiments import FIXED
from booster_ray.envs.make import check_world
from booster_ray.runtime.memory import check_sweep, elsewhere
from booster_ray.store import folder


def begin(sweep: Sweep, under_ray: bool = True) -> Path:
    """The folder of a new sweep or run that can be trained; the caller writes what marks it.

    Args:
        sweep: its checked config.
        under_ray: whether Ray's workers train, perhaps on other machines, and not this process.

    Raises:
        ConfigError: the world or the expert cannot be made, the demonstrations do not fit the run,
            the replay does not fit this machine, the search space holds a setting that must be the
            same for all trials, or as :func:`booster_ray.store.folder.begin`.
    """
    for key in sweep.space:
        if key.startswith(FIXED):
            raise ConfigError(sweep.source, key, "is searched, expected one value for the sweep")
    sizes = check_worlds(sweep)
    if not (under_ray and elsewhere()):
        check_sweep(sweep, sizes)
    variants = sweep.variants()
    for demonstrator in dict.fromkeys(config.imitation.demonstrator for config in variants):
        if demonstrator is not None:
            from booster_ray.policy.experts import load_demonstrator

            load_demonstrator(demonstrator)
    for config in variants:
        if config.replay.demonstrations is not None:
            from booster_ray.data.reading import check_demonstrations

            check_demonstrations(config)
        if config.start_from is not None:
            from booster_ray.train.finetune_start import find

            find(config)
    _check_addresses(sweep.base())
    return folder.begin(sweep)


def check_worlds(sweep: Sweep) -> tuple[int, int] | None:
    """:func:`booster_ray.envs.make.check_world` of every world that experiments name.

    Returns:
        What it says of the first.
    """
    worlds = {config.world.model_dump_json(): config for config in sweep.variants()}
    first, *_ = [check_world(config) for config in worlds.values()]
    return first


def _check_addresses(config: Config) -> None:
    """Refuse a tracker's address with a variable that is not set, before a name is taken."""
    if "mlflow" in config.tracking.listeners:
        from booster_ray.track.registry import registry_uri
        from booster_ray.track.where import mlflow_uri

        registry_uri(config, mlflow_uri(config))
