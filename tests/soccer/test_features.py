"""What is appended to the official observation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from moments import moment, random_moment

from booster_ray.soccer import features, game
from booster_ray.soccer.features import FEATURES, Clock
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.geometry import rotate
from booster_ray.soccer.observation import observe


def kept(phase: float = 0.0) -> Clock:
    return Clock(np.array(phase), np.arange(12) / 12)


def turned(frame: Frame, angle: float) -> Frame:
    """The whole scene of a task with a target, turned about the vertical."""
    half = np.array([np.cos(angle / 2), 0.0, 0.0, np.sin(angle / 2)])
    names = ("imu_pos", "ball_pos", "ball_vel", "target_pos")
    w, z = frame.imu_quat[0], frame.imu_quat[3]
    quat = np.array([w * half[0] - z * half[3], 0.0, 0.0, w * half[3] + z * half[0]])
    moved = {name: rotate(half, getattr(frame, name)) for name in names}
    return frame._replace(imu_quat=quat, **moved)


@pytest.mark.parametrize("angle", [0.4, 1.7, -2.9])
def test_egocentric_does_not_turn_with_the_scene(angle: float) -> None:
    frame = moment("kick_to_target", ball_vel=[0.3, -0.2, 0.0]).frame
    before = features.egocentric(frame, kept())
    after = features.egocentric(turned(frame, angle), kept())
    np.testing.assert_allclose(after, before, atol=1e-12)


def test_egocentric_by_hand() -> None:
    # Facing +y, ball 1 m ahead and 0.5 m to the left, rolling away at 2 m/s, target to the right.
    frame = moment(
        "kick_to_target",
        imu_quat=[np.sqrt(0.5), 0, 0, np.sqrt(0.5)],
        imu_pos=[1.0, 1.0, 0.66],
        ball_pos=[0.5, 2.0, 0.0],
        ball_vel=[0.0, 2.0, 0.0],
        target_pos=[3.0, 2.0, 0.0],
    ).frame
    expected = [1, 0.5, 2, 0, 0, -1, 0.5, 0, 0]
    np.testing.assert_allclose(features.egocentric(frame, kept()), expected, atol=1e-12)


def test_the_keeper_is_seen_from_the_ball_in_goalie_only() -> None:
    keepers = np.array([[-10.97, 0.4, 0.5], [10.97, 0.4, 0.5]])
    seen = features.egocentric(moment("goalie", keeper_pos=keepers).frame, kept())
    np.testing.assert_allclose(seen[-2:], [-2.2, 0.4], atol=1e-12)
    unseen = features.egocentric(moment("obstacle", keeper_pos=keepers).frame, kept())
    np.testing.assert_array_equal(unseen[-2:], 0)


def test_the_clock_turns_with_the_steps() -> None:
    steps = np.arange(0, 1001, 125)  # eighths of a cycle of 0.5 Hz
    phase = features.gait_phase(steps, 0.5)
    np.testing.assert_allclose(phase, [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 0])
    sine, cosine = features.clock(moment().frame, Clock(phase, np.zeros((9, 12)))).T
    np.testing.assert_allclose(sine[[0, 2, 4, 6]], [0, 1, 0, -1], atol=1e-12)
    np.testing.assert_allclose(cosine[[0, 2, 4, 6]], [1, 0, -1, 0], atol=1e-12)


def test_sizes_and_order() -> None:
    names = list(FEATURES)
    frame = moment().frame
    seen = features.append(observe(frame), frame, kept(), names)
    assert seen.shape == (features.size(names),) and seen.dtype == np.float32
    assert len(features.measured(names)) == features.size(names)
    np.testing.assert_array_equal(seen[: game.OBSERVATION_SIZE], observe(frame))
    at = game.OBSERVATION_SIZE
    for name in names:
        part = FEATURES[name].compute(frame, kept())
        np.testing.assert_allclose(seen[at : at + FEATURES[name].size], part, rtol=1e-6)
        at += FEATURES[name].size
    assert not any(features.measured(())[-len(game.TASKS) :])
    with pytest.raises(KeyError):
        features.size(["hat"])


@pytest.mark.parametrize("scale", [0.5, 12.0])
def test_numpy_equals_jax_and_all_is_finite(scale: float) -> None:
    m = random_moment(0, scale)
    clock = Clock(m.phase, m.previous_action)
    for name, feature in FEATURES.items():
        ours = feature.compute(m.frame, clock)
        theirs = feature.compute(*jax.tree.map(jnp.asarray, (m.frame, clock)))
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5, err_msg=name)
        assert np.isfinite(ours).all() and ours.shape[-1] == feature.size
