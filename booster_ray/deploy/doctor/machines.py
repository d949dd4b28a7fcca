"""Machines: this one, and those of the price table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from booster_ray.config import ConfigError, yaml12
from booster_ray.config.errors import choices, hint
from booster_ray.config.section import Count, Natural, Positive, Section, Text
from booster_ray.runtime.memory import limit_bytes

PRICES = Path(__file__).with_name("prices.yaml")
Price = Annotated[float, Field(ge=0)]


class Machine(Section):
    """One machine, and what an hour of it costs."""

    vendor: Text = ""
    """Who lets it."""
    cpus: Count
    """Virtual cores."""
    memory_gb: Positive
    """Host memory, 10^9 bytes."""
    gpus: Natural = 0
    """GPUs, all alike."""
    gpu: Text = ""
    """Their name."""
    gpu_memory_gb: Positive | None = None
    """Memory of one GPU, 10^9 bytes."""
    on_demand: Price | None = None
    """Price per hour; null: unknown."""
    preemptible: Price | None = None
    """Price per hour while it may be taken away; null: there is none."""
    mjx_rate: Positive | None = None
    """Env steps/s of one trial in MJX worlds, where no run was measured."""
    source: Text = ""
    """Where the prices are from."""
    checked: Text = ""
    """When they were looked up."""


class Prices(Section):
    """A price table."""

    currency: Text = "USD"
    """Of all prices."""
    preemptions_per_hour: Annotated[float, Field(ge=0, le=60)] = 0.05
    """How often a preemptible machine is taken away."""
    minutes_per_preemption: Annotated[float, Field(ge=0)] = 5.0
    """Minutes until its trial runs again elsewhere."""
    machines: dict[str, Machine]
    """By name."""


def read_prices(path: Path = PRICES) -> Prices:
    """A price table.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong.
    """
    try:
        tree = yaml12.read(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(str(path), f"{why}, expected a price table") from None
    except yaml12.YamlError as error:
        raise ConfigError(f"{path}:{error.line}", f"{error.text}, expected YAML") from None
    try:
        return Prices.model_validate(tree)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(str(path), place, _plain(first["msg"])) from None


def _plain(message: str) -> str:
    """Pydantic's sentence in our style."""
    return f"{message[:1].lower()}{message[1:]}"


def find(prices: Prices, name: str) -> Machine:
    """A machine of the table. Raises ConfigError."""
    if machine := prices.machines.get(name):
        return machine
    known = choices(prices.machines)
    text = f"no machine '{name}' in the price table, expected {known}{hint(name, prices.machines)}"
    raise ConfigError("command line", "--machine", text)


def this_machine(gpus: list[float]) -> Machine:
    """The machine that this runs on; the limit of a container or job counts as its memory.

    Args:
        gpus: GB of each GPU that JAX sees.
    """
    return Machine(
        cpus=len(os.sched_getaffinity(0)),
        memory_gb=limit_bytes() / 1e9,
        gpus=len(gpus),
        gpu_memory_gb=min(gpus, default=None) or None,
    )
