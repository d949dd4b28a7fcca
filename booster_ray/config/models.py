"""Settings of the model registry, and of watching the machine."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from booster_ray.config.section import Count, Natural, Section, Text
from booster_ray.config.tracking import no_password

Metric = Literal[
    "score", "score/goalie", "score/obstacle", "score/kick_to_target",
    "success", "success/goalie", "success/obstacle", "success/kick_to_target",
    "survival/goalie", "survival/obstacle", "survival/kick_to_target",
]  # fmt: skip
"""What an evaluation measures and more of is better; `success` is the mean over the tasks."""


def value(scores: Mapping[str, float], metric: str) -> float | None:
    """A metric of an evaluation; None where it was not measured or is not finite."""
    found = scores.get(metric)
    if found is None and metric == "success":
        rates = [rate for name, rate in scores.items() if name.startswith("success/")]
        found = sum(rates) / len(rates) if rates else None
    return found if found is not None and math.isfinite(found) else None


class Models(Section):
    """Versions of policies in a registry."""

    registry: Literal["mlflow", "wandb", "none"] = "mlflow"
    """Where the best policies are kept, if it is among tracking.listeners too: a version belongs to
    a tracked run."""
    uri: Annotated[Text, Field(min_length=1), AfterValidator(no_password)] | None = None
    """MLflow's registry; null: MLFLOW_REGISTRY_URI, else that of the tracked runs (`databricks-uc`
    on Databricks)."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}$")] = "booster_t1"
    """Of the registered model; runs that share it share versions and aliases."""
    metric: Metric = "score"
    """What the best checkpoint of a run, and the alias `best`, go by."""
    minimum_score: float | None = None
    """Official score below which no version is made; null: none is too low."""
    minimum_success_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of episodes won, mean over the tasks, below which no version is made."""
    every: Natural = 0
    """The best policy so far becomes a version at every Nth checkpoint; 0: only at the end."""
    keep: Count = 10
    """Newest versions kept, besides those with an alias and former champions."""
    cache: Annotated[Text, Field(min_length=1)] = "~/.cache/booster_ray/models"
    """Folder of fetched versions."""


class Monitor(Section):
    """What is read of GPUs (of CPU and memory where there is none), and when it alarms."""

    usage_every: Count = 1000
    """Env steps between readings of memory and utilization."""
    heat_every: Count = 5000
    """Env steps between readings of temperature and power."""
    memory_alert: Annotated[float, Field(gt=0, le=1)] = 0.95
    """Share of GPU memory above which an alert is given."""
    temperature_alert: Annotated[float, Field(gt=0)] = 85.0
    """GPU temperature above which an alert is given, °C."""
