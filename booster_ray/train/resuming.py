"""What may change when a run or sweep goes on: where it runs and what it may cost."""

from __future__ import annotations

import argparse
from pathlib import Path

from booster_ray.config import ConfigError, Sweep, load
from booster_ray.config.errors import choices
from booster_ray.train.run import replace_text

CHANGEABLE = (
    "tune.trials", "tune.max_", "tune.price_per_hour",
    "trainer.", "tracking.", "models.", "monitor.", "runtime.",
)  # fmt: skip
"""Beginnings of the settings that leave what is trained as it is."""


def changes(args: argparse.Namespace) -> list[str]:
    """The ``key=value`` arguments after ``--resume NAME``, taken out of the parsed arguments."""
    if not args.resume or args.config is None or "=" not in args.config:
        return []
    found = [args.config, *args.overrides]
    args.config, args.overrides = None, []
    return found


def changed(sweep: Sweep, marker: Path, overrides: list[str]) -> Sweep:
    """A resumed sweep with settings changed, written back to ``marker``, its config.

    Raises:
        ConfigError: a setting is wrong, or must stay as it is.
    """
    if not overrides:
        return sweep
    for override in overrides:
        key = override.partition("=")[0].strip()
        if not key.startswith(CHANGEABLE):
            names = (f"{begin}*" if begin[-1] in "._" else begin for begin in CHANGEABLE)
            text = f"cannot change with --resume, expected {choices(names)}"
            raise ConfigError("command line", key, text)
    after = load(marker, overrides)
    if (
        before := sweep.base().tune
    ).scheduler == "pbt" and after.base().tune.trials != before.trials:
        text = f"is the size of the population, expected {before.trials}"
        raise ConfigError("command line", "tune.trials", text)
    replace_text(marker, after.to_yaml())
    return after
