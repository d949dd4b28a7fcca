"""On the device a batch is the replay's part and the demonstrations', in the tasks' shares."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from booster_ray.rl.demonstrations import Demonstrations
from booster_ray.rl.sac.device_demonstrations import ShownReplay
from booster_ray.rl.sac.device_replay import DeviceReplay, Step
from booster_ray.rl.sac.losses import Batch

STEPS, TASK = np.array([3, 5, 2]), np.array([0, 2, 0])
ROWS = int((STEPS + 1).sum())
SHARES = [1.0, 1.0, 3.0]


@pytest.mark.parametrize("n_step", [1, 2])
def test_both_parts(n_step: int) -> None:
    options = {"n_step": n_step, "discount": 0.9, "shares": SHARES}
    row = np.arange(ROWS, dtype=np.float32)
    shown = Demonstrations(
        100 + row[:, None], -row[:, None], row, STEPS, np.array([True, False, True]), TASK,
        **options,  # type: ignore[arg-type]
    )  # fmt: skip
    replay = DeviceReplay(64, [0, 1, 2], 4, 1, 1, **options)  # type: ignore[arg-type]
    both = ShownReplay(replay, shown, 0.25)
    rings = both.init()
    task = jnp.array([0, 1, 2, 2])
    for step in range(5):
        seen = jnp.full((4, 1), float(step))
        batch = Batch(seen, seen, seen[:, 0], seen + 1, jnp.zeros(4))
        rings = both.insert(rings, Step(batch, jnp.zeros(4, bool), task))
    numbers = both.numbers(64)

    @jax.jit
    def sample(numbers: object, key: jax.Array) -> Batch:
        return both.bound(numbers).sample(rings, key, (3, 64))  # type: ignore[arg-type]

    batch = sample(numbers, jax.random.key(0))
    seen = np.asarray(batch.observation[..., 0])
    assert seen.shape == (3, 64)
    assert (seen[:, :48] < 100).all() and (seen[:, 48:] >= 100).all()
    second = (seen[:, 48:] >= 104) & (seen[:, 48:] < 110)  # of the task that weighs three of four
    assert second.sum(axis=1).tolist() == [12, 12, 12]
    np.testing.assert_array_equal(batch.action[:, 48:, 0], 100 - seen[:, 48:])
    groups, _, every = shown.whole()
    known = {
        (float(o), float(r), float(n))
        for o, r, n in zip(
            every.observation[:, 0], every.reward, every.next_observation[:, 0], strict=True
        )
    }
    drawn = zip(
        seen[:, 48:].ravel(),
        np.asarray(batch.reward[:, 48:]).ravel(),
        np.asarray(batch.next_observation[:, 48:, 0]).ravel(),
        strict=True,
    )
    assert {tuple(map(float, one)) for one in drawn} <= known
    assert sum(map(len, groups)) == 10 and (batch.discount is None) == (n_step == 1)
