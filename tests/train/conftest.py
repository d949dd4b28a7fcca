"""What tests of training share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from booster_ray.config import Config


@pytest.fixture(scope="module")
def compiled_once() -> Iterator[None]:
    """A learner holds no state, so one serves every run of its settings: JAX traces it once."""
    from booster_ray.train import pretrain

    made: dict[Any, Any] = {}
    make_learner = pretrain.make_learner

    def known(config: Config, *sizes: int) -> Any:
        settings = config.sac, config.observation, config.world.is_soccer, sizes
        if settings not in made:
            made[settings] = make_learner(config, *sizes)
        return made[settings]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "make_learner", known)
        yield
