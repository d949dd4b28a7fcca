import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from booster_ray.rl.shares import apportion, task_weights


def test_only_played_tasks_count() -> None:
    np.testing.assert_allclose(task_weights([0, 2], [3.0, 100.0, 1.0]), [0.75, 0.25])
    np.testing.assert_allclose(task_weights(np.array([0, 1, 2]), None), 1 / 3)


@pytest.mark.parametrize(
    ("weights", "size", "counts"),
    [
        ([1, 1, 1], 32, [11, 11, 10]),
        ([2, 1, 1], 512, [256, 128, 128]),
        ([0.1, 0.2, 0.7], 10, [1, 2, 7]),
        ([5, 1], 4, [3, 1]),
        ([1], 7, [7]),
    ],
)
def test_counts(weights: list[float], size: int, counts: list[int]) -> None:
    assert apportion(size, np.array(weights, float)) == counts


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6), st.integers(1, 5000))
def test_counts_add_up_and_are_near_their_shares(weights: list[float], size: int) -> None:
    array = np.array(weights)
    counts = apportion(size, array)
    assert sum(counts) == size
    assert np.all(np.abs(counts - size * array / array.sum()) < 1 + 1e-6)


@given(st.integers(1, 10), st.integers(1, 5000))
def test_equal_weights_split_as_numpy_does(tasks: int, size: int) -> None:
    expected = [len(part) for part in np.array_split(np.arange(size), tasks)]
    assert apportion(size, np.full(tasks, 1 / tasks)) == expected


@pytest.mark.parametrize(
    ("shares", "text"),
    [
        ([1.0, 1.0], "2 task shares; expected one for each task up to 2"),
        ([1.0, 1.0, 0.0], "expected finite numbers above 0"),
        ([1.0, 1.0, float("nan")], "expected finite numbers above 0"),
    ],
)
def test_shares_that_cannot_be(shares: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        task_weights([0, 2], shares)
