"""Settings of tracking: who is told of a run's reports, and where they are kept."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from booster_ray.config.paths import SECRET_QUERY, secrets_of
from booster_ray.config.section import Listed, Positive, Section, Text, distinct

Listener = Literal["wandb", "mlflow", "tensorboard"]


def no_password(url: str) -> str:
    """The URL, if no password stands in it: configs are kept, logged and uploaded."""
    if any(not secret.startswith("$") for secret in secrets_of(url)):
        text = "has a password, expected ${NAME} in its place, read from the environment"
        raise PydanticCustomError("kind", "{text}", {"text": text})
    return url


def without_passwords(text: str) -> str:
    """The text, with ``…`` in place of the passwords of URLs."""
    text = re.sub(r"(://[^/\s:@]*):[^@/\s]+@", r"\1:…@", text)
    return SECRET_QUERY.sub(r"\g<name>…", text)


class Wandb(Section):
    """Weights & Biases; its key comes from WANDB_API_KEY or ~/.netrc."""

    mode: Literal["online", "offline", "disabled"] = "offline"
    """`online`: to the server, `offline` when it cannot be reached; `offline`: files to send with
    `wandb sync`; `disabled`: nothing."""
    project: Annotated[Text, Field(min_length=1)] = "booster_ray"
    """Project of the runs."""
    entity: Annotated[Text, Field(min_length=1)] | None = None
    """User or team that the project belongs to; null: the key's own."""


class MLflow(Section):
    """MLflow; a server's login comes from its own environment variables."""

    uri: Annotated[Text, Field(min_length=1), AfterValidator(no_password)] | None = None
    """Tracking server, database or `databricks`; null: MLFLOW_TRACKING_URI, else an SQLite file
    beside the runs."""
    experiment: Annotated[Text, Field(min_length=1)] = "booster_ray"
    """Experiment of the runs; on Databricks a workspace path, e.g. `/Shared/booster_ray`."""


class Tracking(Section):
    """Who is told of the reports; training waits for none of them."""

    listeners: Annotated[tuple[Listener, ...], Listed, AfterValidator(distinct)] = (
        "wandb",
        "mlflow",
    )
    """Any of `wandb`, `mlflow` and `tensorboard`; none: reports are only kept in the runs."""
    wandb: Wandb = Wandb()
    """Weights & Biases."""
    mlflow: MLflow = MLflow()
    """MLflow."""
    close_seconds: Positive = 20.0
    """Longest wait at the end for what is not sent yet; it stays and can be sent later."""
    video_every_minutes: Positive | None = None
    """Minutes between films of the best policy so far; null: none."""
