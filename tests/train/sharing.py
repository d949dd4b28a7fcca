"""Runs of one config in one process that compile their programs once."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from booster_ray.config import Config
from booster_ray.store.checkpoint import Tree
from booster_ray.train import pretrain, runner
from booster_ray.train.device_collector import DeviceCollector

make_collector = runner.make_collector
"""As it is, before a test puts a cache before it."""

make_learner = cache(pretrain.make_learner)
"""A learner holds no state, so one serves every run of its config."""

first = cache(make_collector)
"""A collector, whose compiled step serves every collector of the same config."""


def collector(config: Config, restored: Tree | None = None) -> Any:
    fresh: Any = make_collector(config, restored)
    if isinstance(fresh, DeviceCollector):
        fresh._dispatch = first(config)._dispatch
    return fresh


def share_programs(patch: pytest.MonkeyPatch) -> None:
    """Until ``patch`` is undone."""
    patch.setattr(pretrain, "make_learner", make_learner)
    patch.setattr(runner, "make_collector", collector)
