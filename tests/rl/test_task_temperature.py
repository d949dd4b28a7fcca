"""A temperature for each task: what it does to the tasks of a batch, and to nothing else."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from booster_ray.config import SAC, Config, ConfigError, load
from booster_ray.rl.sac.learner import Sac, SacState
from booster_ray.rl.sac.losses import Batch
from booster_ray.rl.tree import from_tree, to_tree

TASKS, SIZE, ACTION = 3, 5, 2
BASE: dict[str, Any] = {
    "actor_hidden": (16,), "critic_hidden": (16,), "init_alpha": 0.5, "target_entropy": -2.0,
    "alpha_lr": 1e-2, "batch_size": 12, "learning_starts": 12, "replay_size": 64,
}  # fmt: skip


def made(**options: Any) -> Sac:
    return Sac(SAC(**{**BASE, **options}), SIZE, ACTION, tasks=TASKS)


def batches(*tasks: int) -> Batch:
    """One batch of 12 transitions, of these tasks in turn."""
    rng = np.random.default_rng(0)
    one_hot = np.eye(TASKS)[np.resize(tasks, 12)]
    seen, following = (np.hstack([rng.normal(size=(12, 2)), one_hot])[None] for _ in range(2))
    action, reward = np.tanh(rng.normal(size=(1, 12, ACTION))), rng.normal(size=(1, 12))
    arrays = seen, action, reward, following, np.zeros((1, 12))
    return Batch(*(array.astype(np.float32) for array in arrays))


def moved(state: SacState) -> np.ndarray:
    return np.atleast_1d(np.asarray(state.log_alpha) - np.float32(np.log(0.5)))


@pytest.mark.parametrize("normalize", [False, True])
def test_a_batch_of_one_task_moves_its_temperature_as_if_there_were_but_one(
    normalize: bool,
) -> None:
    options = {"normalize_observations": normalize}
    alone, each = made(**options), made(task_temperature=True, **options)
    one, _ = alone.act(alone.init(0), batches(0, 1, 2).observation[0])
    several, _ = each.act(each.init(0), batches(0, 1, 2).observation[0])
    one, told = alone.update(one, batches(1))
    several, same = each.update(several, batches(1))
    np.testing.assert_allclose(moved(several), [0.0, moved(one)[0], 0.0], rtol=1e-5)
    assert moved(one)[0] != 0.0
    assert {name: float(v) for name, v in same.items()} == pytest.approx(
        {name: float(v) for name, v in told.items()}, rel=1e-4
    )
    for name, leaf in to_tree(several.actor).items():
        np.testing.assert_allclose(leaf, to_tree(one.actor)[name], atol=1e-6)


def test_each_task_steers_to_the_target_from_its_own_entropy() -> None:
    """A task whose temperature is high is paid for its entropy, and its policy widens."""
    sac = made(task_temperature=True, actor_lr=3e-3)
    state = sac.init(0)
    state = state._replace(log_alpha=np.array([-12.0, -12.0, 3.0], np.float32))
    for _ in range(60):
        state, metrics = sac.update(state, batches(0, 1, 2))
    assert np.shape(metrics["alpha"]) == () and "task_entropy" not in metrics
    seen = batches(0, 1, 2).observation[0]
    output = sac._actor.apply(state.actor, sac._normalize(state, seen))
    deviation = np.asarray(output)[:, ACTION:].reshape(4, TASKS, ACTION).mean(axis=(0, 2))
    assert deviation[2] > deviation[:2].max()
    again = from_tree(sac.init(1), to_tree(state))
    for one, other in zip(*(jax.tree.leaves(s) for s in (again, state)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_needs_several_tasks() -> None:
    with pytest.raises(ValueError, match="each of 0 tasks; expected several"):
        Sac(SAC(task_temperature=True), SIZE, ACTION)
    for kind in ("native", "gym:Ant-v5", "metaworld:MT1:reach-v3"):
        with pytest.raises(ConfigError, match=r"sac\.task_temperature: task_temperature with"):
            load("default", [f"world={kind}", "sac.task_temperature=true"])
    config = {"world": {"kind": "metaworld:MT10"}, "sac": {"task_temperature": True}}
    assert Config.model_validate(config).sac.task_temperature
