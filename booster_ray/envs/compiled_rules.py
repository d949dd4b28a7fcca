"""The rules of native worlds, compiled: recorded rows of physics steps go in, judgements come out.

The rules are array functions of a few hundred small operations. NumPy pays for each of them
again in every step; XLA compiles them into one. They run in float64 here, because parity with
the official game is a matter of 1e-6 at ten metres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array, Frame, make_frame
from booster_ray.soccer.judge import Conditions, Episode, Judgement, judge, seen

# A recorded row: robot qpos 19, robot qvel 18, ball qvel 6, keeper qvel 2, then sensordata.
KEEPER = slice(43, 45)
SENSORS = 45


class Rules:
    """Compiled rules of a batch of native worlds.

    Args:
        sensors: place of each sensor in ``sensordata``.
        terms: names of the dense reward terms that count.
        features: appended to the observation.
        reward_seconds: see :class:`~booster_ray.soccer.judge.Conditions`; follows from what is
            structure anyway, how many physics steps a control step has.
    """

    def __init__(
        self,
        sensors: dict[str, slice],
        terms: Sequence[str],
        features: Sequence[str],
        reward_seconds: float,
    ) -> None:
        self._sensors, self._reward_seconds = sensors, reward_seconds
        self._terms, self._features = tuple(terms), tuple(features)
        self.judge = _in_float64(jax.jit(self._judge))
        self.frame = _in_float64(jax.jit(self._frame))
        self.first = _in_float64(jax.jit(self._first))

    def _first(self, episode: Episode, record: Array, conditions: Conditions) -> Array:
        """Observation of a reset, from recorded rows (n, width): float32 (n, obs)."""
        torque = jnp.zeros((*record.shape[:-1], game.ACTION_SIZE))
        frame = self._frame(episode, record, torque)
        return seen(frame, episode, self._features, conditions)

    def _judge(
        self,
        episode: Episode,
        record: Array,
        torque: Array,
        action: Array,
        weights: Array,
        conditions: Conditions,
    ) -> tuple[Judgement, Array]:
        """Judge one control step.

        Args:
            episode: as it was before.
            record: (n, k, width) rows of the k physics steps.
            torque: (n, k, 12) N·m.
            action: (n, 12) in [-1, 1].
            weights: (terms,) of the reward terms.
            conditions: of all their episodes, but for ``reward_seconds``.

        Returns:
            What came of it, and the observation without noise, float32 (n, obs): zeros where the
            world is lost.
        """
        # The bound is MuJoCo's own for a state that is bad; NaN is not below it either.
        lost = ~(jnp.abs(record[..., :SENSORS]) < mujoco.mjMAXVAL).all(axis=-1)
        conditions = conditions._replace(reward_seconds=self._reward_seconds)
        weighted = dict(zip(self._terms, weights, strict=True))
        frames = self._frame(episode, record, torque)
        judged, frame = judge(episode, frames, lost, action, weighted, conditions)
        observation = seen(frame, judged.episode, self._features, conditions)
        return judged, jnp.where(judged.lost[:, None], jnp.float32(0), observation)

    def _frame(self, episode: Episode, record: Array, torque: Array) -> Frame:
        """Read recorded rows (n, ..., width) as a frame without ``ball_hits``."""
        sensors = record[..., SENSORS:]
        middle = [1] * (record.ndim - 2)

        def sensor(name: str) -> Array:
            return sensors[..., self._sensors[name]]

        def stack(names: list[str]) -> Array:
            return jnp.stack([sensor(name) for name in names], axis=-2)

        return make_frame(
            task=jnp.broadcast_to(episode.task.reshape(-1, *middle), record.shape[:-1]),
            target=episode.target.reshape(-1, *middle, 3),
            keeper_speed=record[..., KEEPER],
            ball_quat=sensor("frame:ball_quat"),
            ball_turn=record[..., 40:43],
            root_turn=record[..., 22:25],
            joint_pos=record[..., 7:19],
            joint_vel=record[..., 25:37],
            imu_pos=sensor("frame:imu_pos"),
            imu_quat=sensor("frame:imu_quat"),
            gyro=sensor("torso_gyro"),
            accelerometer=sensor("accelerometer"),
            velocimeter=sensor("torso_vel"),
            root_vel=record[..., 19:22],
            ball_pos=sensor("frame:ball_pos"),
            ball_vel=record[..., 37:40],
            keeper_pos=stack(["frame:keeper0_pos", "frame:keeper1_pos"]),
            defender_pos=stack([f"frame:defender{i}_pos" for i in range(3)]),
            foot_pos=stack(["frame:foot0_pos", "frame:foot1_pos"]),
            foot_vel=stack(["frame:foot0_vel", "frame:foot1_vel"]),
            foot_contact=jnp.concatenate([sensor("contact:foot0"), sensor("contact:foot1")], -1)
            > 0,
            ball_contact=sensor("contact:robot_ball")[..., 0] > 0,
            ball_blocked=sensor("contact:blocker_ball")[..., 0] > 0,
            torque=torque,
        )


@lru_cache(maxsize=8)
def compiled_rules(
    sensors: tuple[tuple[str, int, int], ...],
    terms: tuple[str, ...],
    features: tuple[str, ...],
    reward_seconds: float,
) -> Rules:
    """The :class:`Rules` of worlds that differ in number alone, which share compiled code."""
    places = {name: slice(start, stop) for name, start, stop in sensors}
    return Rules(places, terms, features, reward_seconds)


def _in_float64(function: Callable[..., Array]) -> Callable[..., Array]:
    """Call a jitted function with float64 on, on the CPU, and bring its result to NumPy."""
    cpu = jax.local_devices(backend="cpu")[0]

    def call(*args: Array) -> Array:
        with jax.enable_x64(True), jax.default_device(cpu):
            return jax.tree.map(np.asarray, function(*args))

    return call
