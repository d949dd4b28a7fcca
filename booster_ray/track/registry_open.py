"""The registry that a config, a reference or the environment means."""

from __future__ import annotations

import os

from booster_ray.config import Config
from booster_ray.config.paths import expanded
from booster_ray.track.registry import Reference, Registry

DATABRICKS = {"databricks": "databricks-uc"}
"""Registry of a tracking server, where it is not the server itself."""


def open_registry(config: Config, reference: Reference | None = None) -> Registry:
    """Where a reference's version is; without one, where the config's versions go.

    Nothing is asked of it yet.
    """
    kind = reference.kind if reference else config.models.registry
    if kind == "wandb":
        from booster_ray.track.registry_wandb import WandbRegistry

        name = reference.name if reference else model_name(config)
        return WandbRegistry(name.rpartition("/")[0])
    from booster_ray.track.registry_mlflow import MlflowRegistry
    from booster_ray.track.where import mlflow_uri

    tracking = mlflow_uri(config)
    return MlflowRegistry(
        tracking, registry_uri(config, tracking), config.tracking.mlflow.experiment
    )


def model_name(config: Config) -> str:
    """Name of the registered model, as the registry of the config has it."""
    if config.models.registry != "wandb":
        return config.models.name
    wandb = config.tracking.wandb
    return f"{wandb.entity or default_entity()}/{wandb.project}/{config.models.name}"


def registry_uri(config: Config, tracking: str) -> str:
    """Address of MLflow's registry of models, ``${NAME}`` replaced from the environment.

    Raises:
        ConfigError: a variable in it is not set.
    """
    if given := config.models.uri:
        return expanded(given, "models.uri")
    if given := os.environ.get("MLFLOW_REGISTRY_URI"):
        return expanded(given, "MLFLOW_REGISTRY_URI")
    return DATABRICKS.get(tracking, tracking)


def default_entity() -> str:
    """W&B's user or team of the key that is found.

    Raises:
        RegistryError: there is no key, or the server is out of reach.
    """
    from booster_ray.track.registry_wandb import WandbRegistry

    return WandbRegistry("").entity()
