"""What may change when a run or sweep goes on: where it runs and what it may cost."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from booster_ray.config import ConfigError, Sweep, load, yaml12
from booster_ray.config.errors import choices, show
from booster_ray.store.durable import replace_text
from booster_ray.store.folder import in_storage

CHANGEABLE = (
    "tune.trials", "tune.max_", "tune.price_per_hour",
    "trainer.", "tracking.", "models.", "monitor.", "runtime.",
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
