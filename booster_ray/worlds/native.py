"""The official game in C MuJoCo, batched over the machine's cores.

Each world owns a model and a persistent ``MjData`` (its warm start is part of the trajectory).
A control step walks world by world through its physics steps, which keeps one world's memory
in cache; ``mj_step`` releases the GIL, so threads scale. What happened in the physics steps is
recorded and then judged by the rules in one vectorized pass.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import mujoco
import numpy as np

from booster_ray.soccer import game, randomization, spawn
from booster_ray.soccer.control import Gains, pd_target
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.geometry import rotate
from booster_ray.soccer.observation import observe
from booster_ray.soccer.rewards import Moment, reward
from booster_ray.soccer.scoring import ball_in_goal, fallen, official_score, terminated
from booster_ray.worlds.contract import StepResult, check_arguments
from booster_ray.worlds.model import SoccerModel, soccer_model

# A recorded row: robot qpos 19, robot qvel 18, ball qvel 6, keeper qvel 2, then sensordata.
_QPOS, _QVEL, _BALL, _KEEPER = slice(0, 19), slice(19, 37), slice(37, 43), slice(43, 45)
_SENSORS = 45
_log = logging.getLogger(__name__)
_PHYSICS = int(mujoco.mjtState.mjSTATE_INTEGRATION)
_CHUNKS_PER_THREAD = 4


class _Slot(NamedTuple):
    """One world's model and data, with the views that the inner loop needs."""

    parts: SoccerModel
    model: mujoco.MjModel
    data: mujoco.MjData
    joint_pos: np.ndarray
    joint_vel: np.ndarray
    torque: np.ndarray
    keepers: tuple[np.ndarray, np.ndarray] | None
    """Keeper positions and velocities (2,), in the goalie task."""
    error: np.ndarray
    velocity: np.ndarray
    """Scratch (12,) of the PD law."""
    sources: tuple[np.ndarray, ...]
    """Views of qpos, qvel and sensordata in the order of a recorded row."""


def _make_slot(parts: SoccerModel, model: mujoco.MjModel) -> _Slot:
    data = mujoco.MjData(model)
    keepers = parts.root_qpos > 7  # ball 7, then two keepers, then the robot
    sources = [data.qpos[parts.root_qpos :], data.qvel[parts.root_qvel :], data.qvel[0:6]]
    return _Slot(
        parts=parts,
        model=model,
        data=data,
        joint_pos=data.qpos[-game.ACTION_SIZE :],
        joint_vel=data.qvel[-game.ACTION_SIZE :],
        torque=data.ctrl[-game.ACTION_SIZE :],
        keepers=(data.qpos[7:9], data.qvel[6:8]) if keepers else None,
        error=np.empty(game.ACTION_SIZE),
        velocity=np.empty(game.ACTION_SIZE),
        sources=(*sources, data.qvel[6:8] if keepers else np.zeros(2), data.sensordata),
    )


def _keeper_tables(steps: int) -> tuple[list[float], list[float]]:
    """Keeper position and velocity before each step, for MuJoCo's accumulated time."""
    time = np.concatenate([[0.0], np.cumsum(np.full(steps, game.TIMESTEP))])
    omega = 2 * np.pi * game.KEEPER_FREQUENCY
    position = game.KEEPER_AMPLITUDE * np.sin(omega * time)
    velocity = omega * game.KEEPER_AMPLITUDE * np.cos(omega * time)
    # Lists, because the hot loop reads one number at a time.
    return position.tolist(), velocity.tolist()


class NativeWorld:
    """All three tasks on CPU cores; world ``i`` always plays ``tasks[i % len(tasks)]``.

    Args:
        tasks: names from ``game.TASKS``.
        num_envs: worlds in the batch, at least one a task.
        gains: PD gains, shapes (12,).
        mode: ``pd`` (actions offset the default pose), ``torque`` (fractions of the limits) or
            ``newton_metres`` (the official action: torques, clipped at the limits).
        decimation: physics steps of 2 ms for each action.
        weights: weights of the dense reward terms.
        level: domain randomization, 0-3.
        threads: physics threads.
        episode_steps: physics steps until truncation, at most the official 5000.
        auto_reset: reset ended episodes; otherwise they stand still until ``reset``.

    Raises:
        ValueError: an unknown task, level or mode, or fewer worlds than tasks.
    """

    observation_size = game.OBSERVATION_SIZE
    action_size = game.ACTION_SIZE

    def __init__(
        self,
        tasks: Sequence[str],
        num_envs: int,
        gains: Gains,
        mode: str = "pd",
        decimation: int = 10,
        weights: dict[str, float] | None = None,
        level: int = 0,
        threads: int = 1,
        episode_steps: int = game.EPISODE_STEPS,
        auto_reset: bool = True,
    ) -> None:
        check_arguments(tasks, mode, level)
        if num_envs < len(tasks):
            raise ValueError(f"num_envs is {num_envs}; expected at least one for each of {tasks}")
        if mujoco.get_mju_user_warning() is None:
            # A lost state ends its world and is counted; MuJoCo would also print it and write
            # MUJOCO_LOG.TXT into whatever folder is current.
            mujoco.set_mju_user_warning(_log.debug)
        self.num_envs = num_envs
        self.task = np.array([game.TASKS.index(tasks[i % len(tasks)]) for i in range(num_envs)])
        self.task = self.task.astype(np.int32)
        self._gains, self._mode, self._decimation = gains, mode, decimation
        self._weights = dict(weights or {})
        self._level = randomization.LEVELS[level]
        self._episode_steps, self._auto_reset = episode_steps, auto_reset
        self._default_pose = np.asarray(gains.default_pose)
        self._limit = np.asarray(gains.torque_limit)
        self._lower = -self._limit
        self._unit = self._limit if mode == "newton_metres" else np.ones(game.ACTION_SIZE)
        self._keeper_pos, self._keeper_vel = _keeper_tables(game.EPISODE_STEPS + decimation)
        self._slots = [self._slot(game.TASKS[t]) for t in self.task]
        self._sensors = self._slots[0].parts.sensors
        self._allocate()
        chunks = min(num_envs, threads * _CHUNKS_PER_THREAD) if threads > 1 else 1
        self._chunks = [c.tolist() for c in np.array_split(np.arange(num_envs), chunks)]
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def _slot(self, task: str) -> _Slot:
        parts = soccer_model(task)
        # Defenders and randomized quantities live in the model, so such worlds own one. The others
        # share theirs, and with it the cache.
        own = len(parts.defender_geoms) or self._level != randomization.LEVELS[0]
        return _make_slot(parts, parts.model.__copy__() if own else parts.model)

    def _allocate(self) -> None:
        n, k = self.num_envs, self._decimation
        width = _SENSORS + self._slots[0].model.nsensordata
        self._record = np.zeros((n, k, width))
        self._torque = np.zeros((n, k, game.ACTION_SIZE))
        cuts = [_QPOS, _QVEL, _BALL, _KEEPER, slice(_SENSORS, width)]
        self._rows = [[[self._record[i, j, c] for c in cuts] for j in range(k)] for i in range(n)]
        self._rngs = [np.random.default_rng(0) for _ in range(n)]
        self._noise = np.random.default_rng(0)
        bodies = len(self._slots[0].parts.robot_bodies)
        ones = randomization.sample(randomization.LEVELS[0], bodies, self._noise)
        self._factors = randomization.Factors(
            *(np.repeat(np.asarray(f)[None], n, axis=0) for f in ones)
        )
        self._target = np.zeros((n, 3))
        self._defender_y = np.zeros((n, 3))
        self._steps = np.zeros(n, np.int64)
        self._hits = np.zeros(n, np.int32)
        self._touching = np.zeros(n, bool)
        self._returns = np.zeros(n)
        self._action = np.zeros((n, game.ACTION_SIZE))
        self._ended = np.zeros(n, bool)

    # -- reset -------------------------------------------------------------------------------

    def reset(self, seed: int, *, env_seeds: Sequence[int] | None = None) -> np.ndarray:
        """Start every episode anew.

        Args:
            seed: seeds every world's generator, each with its own stream.
            env_seeds: (num_envs) instead, seed world ``i`` as ``env.reset(seed=env_seeds[i])``
                seeds the official environment, which gives the same spawn.

        Returns:
            float32 (num_envs, 89).
        """
        streams = np.random.SeedSequence(seed).spawn(self.num_envs + 1)
        seeds = streams[:-1] if env_seeds is None else env_seeds
        self._rngs = [np.random.default_rng(s) for s in seeds]
        self._noise = np.random.default_rng(streams[-1])
        self._reset_worlds(np.arange(self.num_envs))
        return self._noisy(observe(self._frame(self._record[:, 0], self._torque[:, 0])))

    def _reset_worlds(self, which: np.ndarray) -> None:
        """Respawn worlds ``which`` and leave their first record in physics step 0."""
        for i in which:
            rng, slot = self._rngs[i], self._slots[i]
            placed = spawn.place(int(self.task[i]), spawn.draw(int(self.task[i]), rng))
            factors = randomization.sample(self._level, len(slot.parts.robot_bodies), rng)
            self._target[i] = slot.parts.target_origin + placed.target
            self._defender_y[i] = placed.defender_y
            for stored, drawn in zip(self._factors, factors, strict=True):
                stored[i] = drawn
            self._prepare_model(i)
            self._spawn(slot, placed)
            for target, source in zip(self._rows[i][0], slot.sources, strict=True):
                target[:] = source
        self._torque[which, 0] = 0.0
        self._steps[which] = 0
        self._hits[which] = 0
        self._touching[which] = False
        self._returns[which] = 0.0
        self._action[which] = 0.0
        self._ended[which] = False

    def _spawn(self, slot: _Slot, placed: spawn.Spawn) -> None:
        mujoco.mj_resetData(slot.model, slot.data)
        root = slot.data.qpos[slot.parts.root_qpos :]
        slot.data.qpos[0:2] = placed.ball_xy
        root[0:2] = placed.robot_xy
        half = 0.5 * placed.robot_yaw
        root[3:7] = (np.cos(half), 0.0, 0.0, np.sin(half))
        root[7:] = 0.0
        mujoco.mj_forward(slot.model, slot.data)

    def _prepare_model(self, i: int) -> None:
        """Write world ``i``'s defenders and randomized quantities into its model."""
        slot = self._slots[i]
        for geom, y in zip(slot.parts.defender_geoms, self._defender_y[i], strict=False):
            slot.model.geom_pos[geom] = (0.0, y, 0.4)
        if self._level != randomization.LEVELS[0]:
            self._randomize_model(i)

    def _randomize_model(self, i: int) -> None:
        slot = self._slots[i]
        parts, model, base = slot.parts, slot.model, slot.parts.model
        f = randomization.Factors(*(values[i] for values in self._factors))
        for bodies, factor in ((parts.robot_bodies, f.body_mass), (parts.ball_body, f.ball_mass)):
            model.body_mass[bodies] = base.body_mass[bodies] * factor
            model.body_inertia[bodies] = base.body_inertia[bodies] * np.asarray(factor)[..., None]
        model.geom_friction[:, 0] = base.geom_friction[:, 0] * f.friction
        # A contact takes the larger friction of its geoms unless one has priority.
        for geoms, factor in (
            (parts.foot_geoms, f.foot_friction),
            (parts.ball_geom, f.ball_friction),
        ):
            model.geom_priority[geoms] = 1
            model.geom_friction[geoms, 0] = base.geom_friction[geoms, 0] * f.friction * factor
        joints = slice(-game.ACTION_SIZE, None)
        model.dof_damping[joints] = base.dof_damping[joints] * f.damping
        model.dof_frictionloss[joints] = base.dof_frictionloss[joints] * f.damping
        mujoco.mj_setConst(model, slot.data)

    # -- step --------------------------------------------------------------------------------

    def step(self, action: np.ndarray) -> StepResult:
        """Advance one control step; see :class:`booster_ray.worlds.contract.World`."""
        action = self._checked(action)
        applied = np.where(self._factors.action_delay[:, None] > 0, self._action, action)
        self._advance(applied)
        frames, touching = self._judge()
        ended, lost, last = self._first_end(frames)
        rows = np.arange(self.num_envs), last
        frame = Frame(*(None if part is None else part[rows] for part in frames))
        self._steps += last + 1
        self._hits = frame.ball_hits
        self._touching = touching[rows]
        done = ended & ~lost
        truncated = (self._steps >= self._episode_steps) & ~ended
        moment = Moment(
            frame,
            action / self._unit,
            self._action / self._unit,
            self._default_pose,
            done | truncated,
        )
        # A world whose state is lost ends without a verdict of the rules, and shows zeros.
        dense = np.where(lost, 0.0, reward(moment, self._weights)).astype(np.float32)
        observation = np.where(lost[:, None], np.float32(0), self._noisy(observe(frame)))
        self._returns += dense
        self._action = action
        over = (ended | truncated) & ~self._ended
        episodes = self._episodes(frame, over, lost)
        self._ended |= over
        first = self._after(observation, over)
        return StepResult(first, observation, dense, ended, truncated, episodes)

    def _checked(self, action: np.ndarray) -> np.ndarray:
        shape = (self.num_envs, self.action_size)
        if np.shape(action) != shape:
            raise ValueError(f"action has shape {np.shape(action)}; expected {shape}")
        action = np.asarray(action, np.float64)
        if not np.isfinite(action).all():
            raise ValueError("action is not finite; expected numbers in [-1, 1]")
        return np.clip(action, -self._unit, self._unit)

    def _advance(self, action: np.ndarray) -> None:
        """Run the physics of one control step in all worlds that have not ended."""
        pd = self._mode == "pd"
        # In newton_metres the factor is exactly 1: the physics gets the caller's bits.
        command = pd_target(action, self._gains) if pd else action * (self._limit / self._unit)
        kp = self._gains.kp * self._factors.kp[:, None]
        kd = self._gains.kd * self._factors.kd[:, None]
        self._push()

        ended = self._ended.tolist()

        def walk(worlds: list[int]) -> None:
            for i in worlds:
                if not ended[i]:
                    self._walk_one(i, command[i], kp[i] if pd else None, kd[i])

        if self._pool is None:
            walk(self._chunks[0])
        else:
            list(self._pool.map(walk, self._chunks))

    def _walk_one(self, i: int, command: np.ndarray, kp: np.ndarray | None, kd: np.ndarray) -> None:
        """World ``i``'s physics steps: keeper, torque, ``mj_step``, record.

        The torque is ``control.pd_torque`` written without temporaries; a test compares them.
        """
        slot, upper, lower, start = self._slots[i], self._limit, self._lower, int(self._steps[i])
        model, data, keepers, error, velocity = (
            slot.model, slot.data, slot.keepers, slot.error, slot.velocity,
        )  # fmt: skip
        q, v, ctrl, recorded = slot.joint_pos, slot.joint_vel, slot.torque, self._torque[i]
        for k, row in enumerate(self._rows[i]):
            if keepers is not None:
                keepers[0][:] = self._keeper_pos[start + k]
                keepers[1][:] = self._keeper_vel[start + k]
            if kp is None:
                ctrl[:] = command
            else:
                np.subtract(command, q, out=error)
                np.multiply(error, kp, out=error)
                np.multiply(v, kd, out=velocity)
                np.subtract(error, velocity, out=error)
                np.minimum(error, upper, out=error)
                np.maximum(error, lower, out=ctrl)
            recorded[k] = ctrl
            mujoco.mj_step(model, data)
            for target, source in zip(row, slot.sources):  # noqa: B905  (the hot loop)
                target[:] = source

    def _push(self) -> None:
        if not self._level.push_speed:
            return
        chance = self._decimation * game.TIMESTEP / self._level.push_interval
        for slot, rng in zip(self._slots, self._rngs, strict=True):
            hit, angle, size = rng.random(3)
            if hit < chance:
                speed = size * self._level.push_speed
                direction = (np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle))
                slot.data.qvel[slot.parts.root_qvel :][:2] += speed * np.array(direction)

    def _judge(self) -> tuple[Frame, np.ndarray]:
        """Frames of all recorded physics steps (num_envs, decimation, ...), and ball contact."""
        frames = self._frame(self._record, self._torque)
        touching = frames.ball_contact
        before = np.concatenate([self._touching[:, None], touching[:, :-1]], axis=1)
        hits = self._hits[:, None] + np.cumsum(touching & ~before, axis=1, dtype=np.int32)
        return frames._replace(ball_hits=hits), touching

    def _first_end(self, frames: Frame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whether the game ended, whether by a lost state, and the last physics step that counts.

        Shapes: bool (num_envs,), bool (num_envs,), int (num_envs,).
        """
        # The bound is MuJoCo's own for a state that is bad; NaN is not below it either.
        lost = np.asarray(~(np.abs(self._record[..., :_SENSORS]) < mujoco.mjMAXVAL).all(axis=-1))
        over = terminated(frames) | lost
        clock = self._steps[:, None] + np.arange(1, self._decimation + 1)
        stop = over | (clock >= self._episode_steps)
        last = np.where(stop.any(axis=1), stop.argmax(axis=1), self._decimation - 1)
        rows = np.arange(self.num_envs), last
        return over[rows], lost[rows], last

    def _frame(self, record: np.ndarray, torque: np.ndarray) -> Frame:
        """Read recorded rows (num_envs, ..., width) as a frame; hits are filled in later."""
        sensors = record[..., _SENSORS:]

        def sensor(name: str) -> np.ndarray:
            return sensors[..., self._sensors[name]]

        def stack(names: list[str]) -> np.ndarray:
            return np.stack([sensor(name) for name in names], axis=-2)

        imu, quat = sensor("frame:imu_pos"), sensor("frame:imu_quat")
        root_vel = record[..., 19:22]
        task = self.task.reshape(-1, *[1] * (record.ndim - 2))
        task = np.broadcast_to(task, record.shape[:-1])
        keeper_vel = np.repeat(root_vel[..., None, :], 2, axis=-2)
        goalie = (task == game.GOALIE)[..., None]
        in_y = np.zeros_like(keeper_vel)
        in_y[..., 1] = record[..., _KEEPER]
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
            keeper_vel=np.where(goalie[..., None], in_y, keeper_vel),
            target_pos=np.where(goalie, imu, self._target.reshape(-1, *[1] * (record.ndim - 2), 3)),
            target_vel=np.where(goalie, root_vel, 0.0),
            defender_pos=stack([f"frame:defender{i}_pos" for i in range(3)]),
            foot_pos=stack(["frame:foot0_pos", "frame:foot1_pos"]),
            foot_vel=stack(["frame:foot0_vel", "frame:foot1_vel"]),
            foot_contact=np.concatenate([sensor("contact:foot0"), sensor("contact:foot1")], -1) > 0,
            ball_contact=sensor("contact:robot_ball")[..., 0] > 0,
            ball_blocked=sensor("contact:blocker_ball")[..., 0] > 0,
            ball_hits=np.zeros(record.shape[:-1], np.int32),
            torque=torque,
        )

    def _episodes(self, frame: Frame, over: np.ndarray, lost: np.ndarray) -> list[dict[str, float]]:
        if not over.any():
            return []
        score, fell, success = official_score(frame), fallen(frame), ball_in_goal(frame)
        return [
            {
                "env": int(i),
                "task": int(self.task[i]),
                "return": float(self._returns[i]),
                "seconds": float(self._steps[i] * game.TIMESTEP),
                "score": float(score[i]),
                "fallen": float(fell[i]),
                "success": float(success[i]),
                "touched": float(self._hits[i] > 0),
            }
            for i in np.flatnonzero(over)
            if not lost[i]
        ]

    def _after(self, observation: np.ndarray, over: np.ndarray) -> np.ndarray:
        """Reset ended worlds; their first observation replaces the final one."""
        which = np.flatnonzero(over)
        if not self._auto_reset or not len(which):
            return observation
        self._reset_worlds(which)
        first = observe(self._frame(self._record[:, 0], self._torque[:, 0]))
        result = observation.copy()
        result[which] = self._noisy(first[which])
        return result

    def _noisy(self, observation: np.ndarray) -> np.ndarray:
        sigma = self._level.observation_noise
        if not sigma:
            return observation
        observation = observation.copy()
        measured = slice(0, game.OBSERVATION_SIZE - len(game.TASKS))
        noise = self._noise.standard_normal(observation[:, measured].shape, np.float32)
        observation[:, measured] += sigma * noise
        return observation

    # -- checkpoint --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Physics (with warm starts), counters, spawns, factors and generators."""
        physics = np.zeros((self.num_envs, max(self._state_sizes())))
        for i, (slot, size) in enumerate(zip(self._slots, self._state_sizes(), strict=True)):
            mujoco.mj_getState(slot.model, slot.data, physics[i, :size], _PHYSICS)
        return {
            "task": self.task.copy(),
            "physics": physics,
            "factors": {k: v.copy() for k, v in self._factors._asdict().items()},
            "counters": {name: getattr(self, f"_{name}").copy() for name in self._COUNTERS},
            "generators": {
                str(i): rng.bit_generator.state for i, rng in enumerate([*self._rngs, self._noise])
            },
        }

    _COUNTERS = (
        "target", "defender_y", "steps", "hits", "touching", "returns", "action", "ended",
    )  # fmt: skip

    def _state_sizes(self) -> list[int]:
        return [mujoco.mj_stateSize(slot.model, _PHYSICS) for slot in self._slots]

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken.

        Raises:
            ValueError: the state is of a world of another size or other tasks.
        """
        expected = (self.num_envs, max(self._state_sizes()))
        if state["physics"].shape != expected:
            raise ValueError(
                f"world state has shape {state['physics'].shape}; this world needs {expected}"
            )
        if not np.array_equal(state["task"], self.task):
            raise ValueError(f"world state is of tasks {state['task']}; this world's: {self.task}")
        self._factors = randomization.Factors(
            **{k: np.array(v) for k, v in state["factors"].items()}
        )
        for name in self._COUNTERS:
            setattr(self, f"_{name}", np.array(state["counters"][name]))
        for i, rng in enumerate([*self._rngs, self._noise]):
            rng.bit_generator.state = state["generators"][str(i)]
        for i, (slot, size) in enumerate(zip(self._slots, self._state_sizes(), strict=True)):
            self._prepare_model(i)
            mujoco.mj_resetData(slot.model, slot.data)
            mujoco.mj_setState(slot.model, slot.data, state["physics"][i, :size].copy(), _PHYSICS)

    def close(self) -> None:
        """Stop the physics threads."""
        if self._pool is not None:
            self._pool.shutdown()
