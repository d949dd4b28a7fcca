"""What the end of a sweep does with its best policy."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from booster_ray.envs.native import NativeWorld
from booster_ray.evaluate.scores import Evaluator
from booster_ray.soccer import game, observation
from booster_ray.train.policy import load_policy
from booster_ray.tune.finish import SEED_OFFSET, play_officially
from policies import save_checkpoint, tiny_config


@pytest.mark.parametrize("untrained", [False, True])
def test_a_policy_that_sees_features_plays_the_official_game(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, untrained: bool
) -> None:
    path = save_checkpoint(tmp_path / "best_1", tiny_config(tuple(observation.FEATURES)))
    played = play_officially(path, 1, Console(file=io.StringIO()), untrained=untrained)
    config, policy = load_policy(path, untrained=untrained)
    evaluator = Evaluator(config, 1, threads=1)
    reset = NativeWorld.reset
    monkeypatch.setattr(
        NativeWorld,
        "reset",
        lambda world, seed, env_seeds: reset(world, seed, env_seeds=[SEED_OFFSET] * 3),
    )
    native = evaluator(policy)
    evaluator.close()
    assert set(played) == set(game.TASKS)
    for task in game.TASKS:
        assert played[task] == pytest.approx(native[task], abs=0.01), task
