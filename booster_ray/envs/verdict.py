"""What the rules say of recorded physics steps, as one compiled function.

The rules are array functions of a few hundred small operations. NumPy pays for each of them
again in every step; XLA compiles them into one. They run in float64 here, because parity with
the official game is a matter of 1e-6 at ten metres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from booster_ray.soccer import game
from booster_ray.soccer.frame import Array, Frame
from booster_ray.soccer.geometry import rotate
from booster_ray.soccer.observation import Clock, append, gait_phase, observe
from booster_ray.soccer.rewards import Moment, reward
from booster_ray.soccer.scoring import ball_in_goal, fallen, official_score, terminated

# A recorded row: robot qpos 19, robot qvel 18, ball qvel 6, keeper qvel 2, then sensordata.
QPOS, QVEL, BALL, KEEPER = slice(0, 19), slice(19, 37), slice(37, 43), slice(43, 45)
SENSORS = 45


class Episode(NamedTuple):
    """What the rules remember of each world's episode."""

    task: Array
    """int32 (n,): index into ``game.TASKS``."""
    target: Array
    """(n, 3) m."""
    steps: Array
    """int64 (n,): physics steps since the reset."""
    hits: Array
    """int32 (n,)."""
    touching: Array
    """bool (n,): the robot touched the ball in the last physics step."""
    air_time: Array
    """(n, 2) s for which each foot has been in the air."""
    action: Array
    """(n, 12): the last action, in [-1, 1]."""


class Verdict(NamedTuple):
    """The rules' answer for one control step, every array (n, ...)."""

    episode: Episode
    """What to remember."""
    observation: Array
    """float32 (n, obs), without noise; zeros where the world is lost."""
    reward: Array
    """float32 (n,)."""
    terminated: Array
    """bool (n,): the game ended the episode, or its state was lost."""
    truncated: Array
    """bool (n,)."""
    lost: Array
    """bool (n,): the physics is no longer finite."""
    score: Array
    """(n,): official, were the episode to end here."""
    fallen: Array
    """bool (n,)."""
    success: Array
    """bool (n,)."""


class Rules:
    """Compiled rules of a batch of native worlds.

    Args:
        sensors: place of each sensor in ``sensordata``.
        default_pose: (12,) rad.
        terms: names of the dense reward terms that count.
        features: appended to the observation.
        gait_frequency: of the gait clock, Hz.
        episode_steps: physics steps until truncation.
    """

    def __init__(
        self,
        sensors: dict[str, slice],
        default_pose: np.ndarray,
        terms: Sequence[str],
        features: Sequence[str],
        gait_frequency: float,
        episode_steps: int,
    ) -> None:
        self._sensors, self._default_pose = sensors, default_pose
        self._terms, self._features = tuple(terms), tuple(features)
        self._gait_frequency, self._episode_steps = gait_frequency, episode_steps
        self.judge = _in_float64(jax.jit(self._judge))
        self.frame = _in_float64(jax.jit(self._frame))
        self.first = _in_float64(jax.jit(self._first))

    def _first(self, episode: Episode, record: Array) -> Array:
        """Observation of a reset, from recorded rows (n, width): float32 (n, obs)."""
        torque = jnp.zeros((*record.shape[:-1], game.ACTION_SIZE))
        return self._observe(self._frame(episode, record, torque), episode.steps, episode.action)

    def _judge(
        self, episode: Episode, record: Array, torque: Array, action: Array, weights: Array
    ) -> Verdict:
        """Judge one control step.

        Args:
            episode: as it was before.
            record: (n, k, width) rows of the k physics steps.
            torque: (n, k, 12) N·m.
            action: (n, 12) in [-1, 1].
            weights: (terms,) of the reward terms.
        """
        frames = self._frame(episode, record, torque)
        touching = frames.ball_contact
        before = jnp.concatenate([episode.touching[:, None], touching[:, :-1]], axis=1)
        hits = episode.hits[:, None] + jnp.cumsum(touching & ~before, axis=1, dtype=jnp.int32)
        frames = frames._replace(ball_hits=hits)
        ended, lost, last = self._first_end(episode, frames, record)

        frame = jax.tree.map(lambda part: jax.vmap(lambda a, i: a[i])(part, last), frames)
        steps = episode.steps + last + 1
        truncated = (steps >= self._episode_steps) & ~ended
        over = (ended & ~lost) | truncated
        phase = gait_phase(steps, self._gait_frequency)
        moment = Moment(
            frame, action, episode.action, self._default_pose, over, phase, episode.air_time
        )
        dense = reward(moment, dict(zip(self._terms, weights, strict=True)))
        observation = self._observe(frame, steps, action)
        airborne = episode.air_time + game.TIMESTEP * (last + 1)[:, None]
        return Verdict(
            episode=episode._replace(
                steps=steps,
                hits=frame.ball_hits,
                touching=frame.ball_contact,
                air_time=jnp.where(frame.foot_contact, 0.0, airborne),
                action=action,
            ),
            observation=jnp.where(lost[:, None], jnp.float32(0), observation),
            reward=jnp.where(lost, 0.0, dense).astype(jnp.float32),
            terminated=ended,
            truncated=truncated,
            lost=lost,
            score=official_score(frame),
            fallen=fallen(frame),
            success=ball_in_goal(frame),
        )

    def _first_end(
        self, episode: Episode, frames: Frame, record: Array
    ) -> tuple[Array, Array, Array]:
        """Whether the game ended, whether by a lost state, and the last physics step that counts.

        Shapes: bool (n,), bool (n,), int (n,).
        """
        # The bound is MuJoCo's own for a state that is bad; NaN is not below it either.
        lost = ~(jnp.abs(record[..., :SENSORS]) < mujoco.mjMAXVAL).all(axis=-1)
        over = terminated(frames) | lost
        k = record.shape[1]
        clock = episode.steps[:, None] + jnp.arange(1, k + 1)
        stop = over | (clock >= self._episode_steps)
        last = jnp.where(stop.any(axis=1), stop.argmax(axis=1), k - 1)
        rows = jnp.arange(len(last)), last
        return over[rows], lost[rows], last

    def _observe(self, frame: Frame, steps: Array, action: Array) -> Array:
        kept = Clock(gait_phase(steps, self._gait_frequency), action)
        return append(observe(frame), frame, kept, self._features)

    def _frame(self, episode: Episode, record: Array, torque: Array) -> Frame:
        """Read recorded rows (n, ..., width) as a frame; hits are filled in later."""
        sensors = record[..., SENSORS:]
        middle = [1] * (record.ndim - 2)

        def sensor(name: str) -> Array:
            return sensors[..., self._sensors[name]]

        def stack(names: list[str]) -> Array:
            return jnp.stack([sensor(name) for name in names], axis=-2)

        imu, quat = sensor("frame:imu_pos"), sensor("frame:imu_quat")
        root_vel = record[..., 19:22]
        task = jnp.broadcast_to(episode.task.reshape(-1, *middle), record.shape[:-1])
        goalie = (task == game.GOALIE)[..., None]
        keeper_vel = jnp.repeat(root_vel[..., None, :], 2, axis=-2)
        along_y = jnp.zeros_like(keeper_vel).at[..., 1].set(record[..., KEEPER])
        return Frame(
            task=task,
            joint_pos=record[..., 7:19],
            joint_vel=record[..., 25:37],
            imu_pos=imu,
            imu_quat=quat,
            gyro=sensor("torso_gyro"),
            accelerometer=sensor("accelerometer"),
            velocimeter=sensor("torso_vel"),
            root_vel=root_vel,
            # MuJoCo's free joint turns in the body frame; orientations lag like the sites.
            root_angvel=rotate(quat, record[..., 22:25]),
            ball_pos=sensor("frame:ball_pos"),
            ball_vel=record[..., 37:40],
            ball_angvel=rotate(sensor("frame:ball_quat"), record[..., 40:43]),
            keeper_pos=stack(["frame:keeper0_pos", "frame:keeper1_pos"]),
            keeper_vel=jnp.where(goalie[..., None], along_y, keeper_vel),
            target_pos=jnp.where(goalie, imu, episode.target.reshape(-1, *middle, 3)),
            target_vel=jnp.where(goalie, root_vel, 0.0),
            defender_pos=stack([f"frame:defender{i}_pos" for i in range(3)]),
            foot_pos=stack(["frame:foot0_pos", "frame:foot1_pos"]),
            foot_vel=stack(["frame:foot0_vel", "frame:foot1_vel"]),
            foot_contact=jnp.concatenate([sensor("contact:foot0"), sensor("contact:foot1")], -1)
            > 0,
            ball_contact=sensor("contact:robot_ball")[..., 0] > 0,
            ball_blocked=sensor("contact:blocker_ball")[..., 0] > 0,
            ball_hits=jnp.zeros(record.shape[:-1], jnp.int32),
            torque=torque,
        )


@cache
def compiled_rules(
    sensors: tuple[tuple[str, int, int], ...],
    default_pose: tuple[float, ...],
    terms: tuple[str, ...],
    features: tuple[str, ...],
    gait_frequency: float,
    episode_steps: int,
) -> Rules:
    """The :class:`Rules` that equal worlds share, and with them the compiled code."""
    pose = np.array(default_pose)
    places = {name: slice(start, stop) for name, start, stop in sensors}
    return Rules(places, pose, terms, features, gait_frequency, episode_steps)


def _in_float64(function: Callable[..., Array]) -> Callable[..., Array]:
    """Call a jitted function with float64 on, on the CPU, and bring its result to NumPy."""
    cpu = jax.local_devices(backend="cpu")[0]

    def call(*args: Array) -> Array:
        with jax.enable_x64(True), jax.default_device(cpu):
            return jax.tree.map(np.asarray, function(*args))

    return call
