"""The official environment of each task, made once a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from booster_ray.envs.official import make_official
from booster_ray.soccer import game


@pytest.fixture(scope="module", params=game.TASKS)
def task(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def env(task: str) -> Iterator[Any]:
    made = make_official(task)
    yield made
    made.close()
