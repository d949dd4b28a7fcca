"""One control step judged: NumPy and JAX, one world and a batch, and what ends an episode when."""

from typing import Any

import jax
import numpy as np
import pytest
from reward_inputs import POSE, random_input

from booster_ray.soccer import game
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.judge import Conditions, Episode, Judgement, judge, seen
from booster_ray.soccer.rewards import TERMS

N, K = 16, 4
CONDITIONS = Conditions(POSE, gait_frequency=1.5, episode_steps=1000)
WEIGHTS = dict.fromkeys(TERMS, 0.1)


def recorded(seed: int = 0) -> tuple[Episode, Frame, np.ndarray, np.ndarray]:
    """Episodes (N,), frames and losses (N, K), actions (N, 12); float32."""
    given, rng = random_input(seed, 1.0), np.random.default_rng(seed)
    frames = Frame(*(part.reshape(N, K, *part.shape[1:]) for part in given.frame))
    task = frames.task[:, 0]
    frames = frames._replace(task=np.repeat(task[:, None], K, axis=1))
    lost = np.zeros((N, K), bool)
    lost[3, 0] = lost[5, 2] = True
    episode = Episode(
        task=task,
        target=frames.target_pos[:, 0],
        steps=rng.integers(900, 1000, N).astype(np.int32),
        hits=rng.integers(0, 3, N).astype(np.int32),
        touching=rng.random(N) < 0.5,
        air_time=given.air_time[:N],
        action=given.previous_action[:N],
        score=rng.random(N).astype(np.float32),
        returns=rng.random(N).astype(np.float32),
        term_sums={name: rng.random(N).astype(np.float32) for name in TERMS},
    )
    return episode, frames, lost, given.action[:N]


def judged(episode: Episode, frames: Frame, lost: Any, action: Any) -> tuple[Judgement, Any]:
    judgement, frame = judge(episode, frames, lost, action, WEIGHTS, CONDITIONS)
    return judgement, seen(frame, judgement.episode, ("clock", "previous_action"), CONDITIONS)


def assert_alike(ours: Any, theirs: Any) -> None:
    def alike(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)

    jax.tree.map(alike, ours, theirs)


def test_numpy_equals_jax_and_a_batch_its_worlds() -> None:
    given = recorded()
    whole = judged(*given)
    assert_alike(whole, jax.jit(judged)(*given))
    assert_alike(whole, jax.jit(jax.vmap(judged))(*given))
    for i in (0, 3, 5, 7):
        one = judged(*jax.tree.map(lambda part, i=i: part[i], given))
        assert_alike(one, jax.tree.map(lambda part, i=i: part[i], whole))


def calm(steps: int) -> tuple[Episode, Frame, np.ndarray, np.ndarray]:
    """Worlds in which nothing ends: upright robots, balls at rest in the field."""
    episode, frames, lost, action = recorded()
    kick = np.full((N, K), game.KICK_TO_TARGET, np.int32)
    still = np.zeros((N, K, 3), np.float32)
    frames = frames._replace(
        task=kick,
        imu_pos=still + np.float32([0, 0, 0.6]),
        ball_pos=still,
        target_pos=still + np.float32([3, 0, 0]),
        ball_contact=np.zeros((N, K), bool),
    )
    episode = episode._replace(
        task=kick[:, 0], steps=np.full(N, steps, np.int32), touching=np.zeros(N, bool)
    )
    return episode, frames, lost & False, action


def test_the_first_end_counts() -> None:
    episode, frames, lost, action = calm(steps=100)
    frames.imu_pos[0, 1:, 2] = 0.3  # falls in the second physics step
    lost[1, 2] = True
    frames.ball_contact[2, [0, 2]] = True
    judgement, frame = judge(episode, frames, lost, action, WEIGHTS, CONDITIONS)
    assert judgement.episode.steps[:4].tolist() == [102, 103, 104, 104]
    assert judgement.terminated.tolist() == [True, True] + [False] * (N - 2)
    assert judgement.lost.tolist() == [False, True] + [False] * (N - 2)
    assert judgement.reward[1] == 0 and (judgement.reward[[0, 2, 3]] != 0).all()
    assert judgement.fallen[:2].all() and not judgement.fallen[2:].any()
    assert (judgement.episode.hits - episode.hits)[:4].tolist() == [0, 0, 2, 0]
    np.testing.assert_array_equal(frame.joint_pos[0], frames.joint_pos[0, 1])
    np.testing.assert_array_equal(frame.joint_pos[2], frames.joint_pos[2, 3])
    np.testing.assert_allclose(
        judgement.episode.returns, episode.returns + judgement.reward, rtol=1e-6
    )
    sums = [sum(one.term_sums.values()) for one in (judgement.episode, episode)]
    np.testing.assert_allclose(sums[0] - sums[1], judgement.reward, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", [game.GOALIE, game.OBSTACLE, game.KICK_TO_TARGET])
def test_a_lost_world_is_the_worst_outcome(task: int) -> None:
    """Whatever its last frame looks like, here a ball in the goal and a robot that stands."""
    episode, frames, lost, action = calm(steps=100)
    lost[1, 0] = True
    goal = np.float32([-game.FIELD_HALF_LENGTH - 0.1, 0.0, 0.1])
    frames = frames._replace(ball_pos=frames.ball_pos + goal, target_pos=frames.ball_pos + goal)
    frames, episode = (
        frames._replace(task=0 * frames.task + task),
        episode._replace(task=0 * episode.task + task),
    )
    for one in (judged(episode, frames, lost, action)[0],
                jax.jit(judged)(episode, frames, lost, action)[0]):  # fmt: skip
        record = {name: np.asarray(v) for name, v in one.record().items()}
        assert record["lost"].tolist() == [False, True] + [False] * (N - 2)
        assert record["fallen"][1] and not record["success"][1] and np.asarray(one.over)[1]
        assert record["success"][[0, 2]].all() and not record["fallen"][[0, 2]].any()
        worst = -1.3 if task == game.KICK_TO_TARGET else -6.0
        assert record["score"][1] == pytest.approx(worst, abs=1e-6)
        assert (record["score"][[0, 2]] > worst).all()


def test_time_ends_what_nothing_else_ended() -> None:
    episode, frames, lost, action = calm(steps=998)
    frames.imu_pos[0, 1:, 2] = 0.3  # in the very last physics step
    lost[1, 3] = True  # after it
    judgement, _ = judge(episode, frames, lost, action, WEIGHTS, CONDITIONS)
    assert (judgement.episode.steps == 1000).all()
    assert judgement.terminated.tolist() == [True] + [False] * (N - 1)
    assert judgement.truncated.tolist() == [False] + [True] * (N - 1)
    assert not judgement.lost.any()


def test_time_that_is_up_ends_the_game_where_it_is_told_to() -> None:
    episode, *others = recorded()
    given = episode._replace(steps=np.full(N, 1000 - K, np.int32)), *others
    cut, _ = judge(*given, WEIGHTS, CONDITIONS)
    over, _ = judge(*given, WEIGHTS, CONDITIONS._replace(limit_terminates=True))
    assert cut.truncated.any() and not (cut.truncated & cut.terminated).any()
    assert not over.truncated.any()
    np.testing.assert_array_equal(over.terminated, cut.terminated | cut.truncated)
    np.testing.assert_array_equal(over.over, cut.over)
    np.testing.assert_array_equal(over.reward, cut.reward)


def test_what_is_paid_by_the_second_follows_the_step() -> None:
    given = recorded()
    weights = {n: np.array(0.1 * (not term.event)) for n, term in TERMS.items()}
    long, short = (
        judge(*given, weights, CONDITIONS._replace(reward_seconds=seconds))[0].reward
        for seconds in (0.02, 0.01)
    )
    assert np.abs(long).max() > 0
    np.testing.assert_allclose(long, 2 * short, rtol=1e-5)
