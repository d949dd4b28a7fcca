"""The official game in C MuJoCo, batched over the machine's cores.

Each world owns a model and a persistent ``MjData`` (its warm start is part of the trajectory).
A control step walks world by world through its physics steps (:mod:`stepping`, outside the
GIL, so that threads scale). What happened in them is recorded and then judged by the rules in
one compiled call (:mod:`compiled_rules`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import mujoco
import numpy as np

from booster_ray.config import Config
from booster_ray.envs import stepping
from booster_ray.envs.compiled import log_warnings
from booster_ray.envs.compiled_rules import SENSORS, compiled_rules
from booster_ray.envs.contract import StepResult, check_arguments
from booster_ray.envs.model import SoccerModel, soccer_model
from booster_ray.envs.options import gains as gains_of
from booster_ray.envs.options import training_options
from booster_ray.soccer import game, randomization, spawn
from booster_ray.soccer.control import Gains, pd_target
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.judge import Conditions, Episode, Judgement
from booster_ray.soccer.observation import Clock, gait_phase, noise, remaining, size

_CHUNKS_PER_THREAD = 4
_PANEL_HOME = np.array([0.0, 0.0, 0.4])
"""Metres: a defender in its body, before it is moved along y."""


class _SharedData(NamedTuple):
    """A ``MjData`` that the worlds of one task take turns on, with views of what changes hands."""

    parts: SoccerModel
    model: mujoco.MjModel
    data: mujoco.MjData
    torque: np.ndarray
    keepers: tuple[np.ndarray, np.ndarray] | None
    """Keeper positions and velocities (2,), in the goalie task."""
    sources: tuple[np.ndarray | None, ...]
    """Views of qpos, qvel and sensordata in the order of a recorded row; None: stays zero."""


def _make_shared(task: str) -> _SharedData:
    parts = soccer_model(task)
    # Defenders are placed in the model, so data with them need their own.
    model = parts.model.__copy__() if len(parts.defender_geoms) else parts.model
    data = mujoco.MjData(model)
    moving = parts.root_qpos > 7  # ball 7, then two keepers, then the robot
    robot = data.qpos[parts.root_qpos :], data.qvel[parts.root_qvel :]
    keepers = (data.qpos[7:9], data.qvel[6:8]) if moving else None
    return _SharedData(
        parts=parts,
        model=model,
        data=data,
        torque=data.ctrl[-game.ACTION_SIZE :],
        keepers=keepers,
        sources=(*robot, data.qvel[0:6], keepers[1] if keepers else None, data.sensordata),
    )


def _addresses(shared: dict[int, _SharedData]) -> stepping.DataAddresses:
    """Of one thread's shared data, by index of the task."""
    width = [19, 18, 6, 2, next(iter(shared.values())).model.nsensordata]
    at = stepping.DataAddresses(
        data=np.zeros(len(game.TASKS), np.int64),
        torque=np.zeros(len(game.TASKS), np.int64),
        keepers=np.zeros((len(game.TASKS), 2), np.int64),
        sources=np.zeros((len(game.TASKS), len(width)), np.int64),
        counts=np.array(width, np.int64),
    )
    for task, data in shared.items():
        at.data[task], at.torque[task] = data.data._address, data.torque.ctypes.data
        at.sources[task] = [0 if a is None else a.ctypes.data for a in data.sources]
        at.keepers[task] = [a.ctypes.data for a in data.keepers] if data.keepers else 0
    return at


class _Slot(NamedTuple):
    """One world: its model, and its state with views into it."""

    parts: SoccerModel
    model: mujoco.MjModel
    state: np.ndarray
    """``stepping.STATE``: time, qpos, qvel, and so on."""
    qpos: np.ndarray
    qvel: np.ndarray
    qacc_warmstart: np.ndarray


def _make_slot(data: _SharedData, row: np.ndarray, own_model: bool) -> _Slot:
    model = data.model.__copy__() if own_model else data.model
    state = row[: mujoco.mj_stateSize(model, stepping.STATE)]
    qpos, qvel = state[1 : 1 + model.nq], state[1 + model.nq :][: model.nv]
    # A state's parts lie in the order of their bits.
    warm = mujoco.mj_stateSize(model, int(mujoco.mjtState.mjSTATE_WARMSTART) - 1)
    return _Slot(data.parts, model, state, qpos, qvel, state[warm:][: model.nv])


def _keeper_tables(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Keeper position and velocity before each step, for MuJoCo's accumulated time."""
    time = np.concatenate([[0.0], np.cumsum(np.full(steps, game.TIMESTEP))])
    omega = 2 * np.pi * game.KEEPER_FREQUENCY
    position = game.KEEPER_AMPLITUDE * np.sin(omega * time)
    velocity = omega * game.KEEPER_AMPLITUDE * np.cos(omega * time)
    return position, velocity


def _check_counts(tasks: Sequence[str], num_envs: int, threads: int, gait_frequency: float) -> None:
    if threads < 1 or gait_frequency <= 0:
        raise ValueError(
            f"threads is {threads} and gait_frequency {gait_frequency}; expected at least 1, "
            "and above 0"
        )
    if num_envs < len(tasks):
        raise ValueError(f"num_envs is {num_envs}; expected at least one for each of {tasks}")


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
        features: names from ``observation.FEATURES``, appended to the observation.
        gait_frequency: of the gait clock, Hz.
        near_ball: share of episodes that begin nearer to the ball, see :func:`spawn.nearer`.
        reward_seconds, limit_terminates: see :class:`~booster_ray.soccer.judge.Conditions`.

    Raises:
        ValueError: an unknown task, level, mode, reward term or feature, a number out of range,
            or fewer worlds than tasks.
    """

    action_size = game.ACTION_SIZE

    @classmethod
    def from_config(cls, config: Config, num_envs: int, *, threads: int, **_: Any) -> NativeWorld:
        """The training worlds of a config."""
        options = training_options(config)
        return cls(config.tasks, num_envs, gains_of(config), threads=threads, **options)

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
        features: Sequence[str] = (),
        gait_frequency: float = 1.5,
        near_ball: float = 0.0,
        reward_seconds: float = 1.0,
        limit_terminates: bool = False,
    ) -> None:
        used = {name: weight for name, weight in (weights or {}).items() if weight}
        check_arguments(tasks, mode, level, decimation, episode_steps, weights or {}, features)
        _check_counts(tasks, num_envs, threads, gait_frequency)
        log_warnings()  # a lost state ends its world and is counted
        self.num_envs = num_envs
        self.task = np.array([game.TASKS.index(tasks[i % len(tasks)]) for i in range(num_envs)])
        self.task = self.task.astype(np.int32)
        self._gains, self._mode, self._decimation = gains, mode, decimation
        self._gait_frequency, self._near_ball = gait_frequency, near_ball
        self._level = randomization.LEVELS[level]
        self._auto_reset = auto_reset
        self._unit = np.asarray(gains.torque_limit)
        if mode != "newton_metres":
            self._unit = np.ones(game.ACTION_SIZE)
        self.observation_size = size(features)
        scales = np.array(noise(features), np.float32)
        self._measured, self._deviation = np.flatnonzero(scales), scales[scales > 0]
        self._terms = tuple(used)
        self._base_weights = np.array(list(used.values()), np.float64)
        self._weights = self._base_weights
        self._keeper_tables = _keeper_tables(game.EPISODE_STEPS + decimation)
        chunks = min(num_envs, threads * _CHUNKS_PER_THREAD) if threads > 1 else 1
        self._share_data(np.array_split(np.arange(num_envs), chunks))
        self._rules = compiled_rules(
            tuple((n, at.start, at.stop) for n, at in self._slots[0].parts.sensors.items()),
            tuple(used),
            tuple(features),
            reward_seconds,
        )
        # Arrays, and no Python numbers: those would be of another type, and compile anew.
        self._conditions = Conditions(
            np.asarray(gains.default_pose, np.float64),
            np.float64(gait_frequency),
            np.int64(episode_steps),
            limit_terminates=np.bool_(limit_terminates),
        )
        self._allocate()
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def _share_data(self, chunks: list[np.ndarray]) -> None:
        """Give each chunk of worlds its shared, and each world its state and model."""
        # Worlds of one task in a row keep its model in the cache.
        self._chunks = [chunk[np.argsort(self.task[chunk], kind="stable")] for chunk in chunks]
        tasks = [sorted({int(t) for t in self.task[chunk]}) for chunk in chunks]
        self._shared = [{t: _make_shared(game.TASKS[t]) for t in some} for some in tasks]
        self._shared_addresses = [_addresses(shared) for shared in self._shared]
        chunk_of = np.repeat(np.arange(len(chunks)), [len(chunk) for chunk in chunks])
        self._shared_of = [
            self._shared[c][int(t)] for c, t in zip(chunk_of, self.task, strict=True)
        ]
        width = max(mujoco.mj_stateSize(data.model, stepping.STATE) for data in self._shared_of)
        self._state = np.zeros((self.num_envs, width))
        # Randomized quantities live in the model, so such worlds own one.
        own = self._level != randomization.LEVELS[0]
        self._slots = [
            _make_slot(data, row, own)
            for data, row in zip(self._shared_of, self._state, strict=True)
        ]

    def _allocate(self) -> None:
        n, k = self.num_envs, self._decimation
        width = SENSORS + self._slots[0].model.nsensordata
        self._record = np.zeros((n, k, width))
        self._torque = np.zeros((n, k, game.ACTION_SIZE))
        self._rngs = [np.random.default_rng(0) for _ in range(n)]
        self._noise = np.random.default_rng(0)
        bodies = len(self._slots[0].parts.robot_bodies)
        ones = randomization.sample(randomization.LEVELS[0], bodies, self._noise)
        self._factors = randomization.Factors(
            *(np.repeat(np.asarray(f)[None], n, axis=0) for f in ones)
        )
        self._episode = Episode(
            task=self.task,
            target=np.zeros((n, 3)),
            steps=np.zeros(n, np.int64),
            hits=np.zeros(n, np.int32),
            touching=np.zeros(n, bool),
            air_time=np.zeros((n, 2)),
            action=np.zeros((n, game.ACTION_SIZE)),
            score=np.zeros(n),
            returns=np.zeros(n),
            term_sums={term: np.zeros(n) for term in self._terms},
        )
        # In the caller's unit: a division by it cannot be undone to the bit.
        self._action = np.zeros((n, game.ACTION_SIZE))
        self._defender_y = np.zeros((n, 3))
        self._worlds = self._world_table()
        self._ended = np.zeros(n, bool)
        self._latest = np.zeros(n, np.int64)
        self._ready = False

    def _world_table(self) -> stepping.Worlds:
        def panels(slot: _Slot) -> int:
            geoms = slot.parts.defender_geoms
            return slot.model.geom_pos[geoms[0] :].ctypes.data if len(geoms) else 0

        return stepping.Worlds(
            task=self.task,
            model=np.array([slot.model._address for slot in self._slots], np.int64),
            panels=np.array([panels(slot) for slot in self._slots], np.int64),
            panel_pos=np.tile(_PANEL_HOME, (self.num_envs, 3, 1)),
            state=self._state,
            steps=self._episode.steps,
        )

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
        self._ready = True
        return self._noisy(self._first())

    def seed_next(self, world: int, env_seed: int) -> None:
        """Let the episode after this one spawn as ``env.reset(seed=env_seed)`` does officially.

        At randomization level 0, where nothing but spawns is drawn.
        """
        self._rngs[world] = np.random.default_rng(env_seed)

    def _first(self) -> np.ndarray:
        """Observations of the record's step 0, where a reset leaves its frame."""
        return self._rules.first(self._episode, self._record[:, 0], self._conditions)

    def _reset_worlds(self, which: np.ndarray) -> None:
        """Respawn worlds ``which`` and leave their first record in physics step 0."""
        for i in which:
            rng, slot = self._rngs[i], self._slots[i]
            placed = spawn.place(int(self.task[i]), spawn.draw(int(self.task[i]), rng))
            factors = randomization.sample(self._level, len(slot.parts.robot_bodies), rng)
            if self._near_ball:  # after the official draws, which stay what they are
                placed = spawn.nearer(placed, self._near_ball, rng.random(2))
            self._episode.target[i] = slot.parts.target_origin + placed.target
            self._defender_y[i] = placed.defender_y
            for stored, drawn in zip(self._factors, factors, strict=True):
                stored[i] = drawn
            self._prepare_model(i)
            self._spawn(i, placed)
        episode = self._episode
        begun = (episode.steps, episode.hits, episode.touching, episode.air_time, episode.action)
        sums = (episode.score, episode.returns, *episode.term_sums.values())
        for array in (*begun, *sums):
            array[which] = 0
        self._action[which] = 0.0
        self._ended[which] = False
        self._latest[which] = 0
        self._torque[which, 0] = 0.0

    def _spawn(self, i: int, placed: spawn.Spawn) -> None:
        data, slot = self._shared_of[i], self._slots[i]
        mujoco.mj_resetData(slot.model, data.data)
        root = data.data.qpos[slot.parts.root_qpos :]
        data.data.qpos[0:2] = placed.ball_xy
        root[0:2] = placed.robot_xy
        half = 0.5 * placed.robot_yaw
        root[3:7] = (np.cos(half), 0.0, 0.0, np.sin(half))
        root[7:] = 0.0
        mujoco.mj_forward(slot.model, data.data)
        mujoco.mj_getState(slot.model, data.data, slot.state, stepping.STATE)
        parts = [np.zeros(2) if a is None else a for a in data.sources]
        self._record[i, 0] = np.concatenate(parts)

    def _prepare_model(self, i: int) -> None:
        """Write world ``i``'s defenders and randomized quantities into its model."""
        slot = self._slots[i]
        self._worlds.panel_pos[i, :, 1] = self._defender_y[i]
        if len(slot.parts.defender_geoms):
            slot.model.geom_pos[slot.parts.defender_geoms] = self._worlds.panel_pos[i]
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
        mujoco.mj_setConst(model, self._shared_of[i].data)

    # -- step --------------------------------------------------------------------------------

    def scale_rewards(self, factors: Mapping[str, float]) -> None:
        """Multiply weights of reward terms from now on; a term that is not named counts whole.

        Not a part of :meth:`state`: who schedules the factors knows them.
        """
        self._weights = self._base_weights * [factors.get(term, 1.0) for term in self._terms]

    def step(self, action: np.ndarray) -> StepResult:
        """Advance one control step; see :class:`booster_ray.envs.contract.World`."""
        action = self._checked(action)
        self._advance(np.where(self._factors.action_delay[:, None] > 0, self._action, action))
        judged, observation = self._rules.judge(
            self._episode,
            self._record,
            self._torque,
            action / self._unit,
            self._weights,
            self._conditions,
        )
        self._remember(judged.episode)
        self._latest[:] = self._decimation - 1
        self._action[:] = action
        observation = self._noisy(observation, quiet=judged.lost)
        over = (judged.terminated | judged.truncated) & ~self._ended
        episodes = self._episodes(judged, over)
        self._ended |= over
        first = self._after(observation, over)
        return StepResult(
            first, observation, judged.reward, judged.terminated, judged.truncated, episodes
        )

    def frame(self) -> Frame:
        """What the rules saw of the last physics step, or of the reset; arrays (num_envs, ...)."""
        rows = np.arange(self.num_envs), self._latest
        last = self._record[rows], self._torque[rows]
        return self._rules.frame(self._episode, *last)._replace(ball_hits=self._episode.hits.copy())

    def kept(self) -> Clock:
        """The gait clock (num_envs,) and the last actions (num_envs, 12), 0 after a reset."""
        phase = gait_phase(self._episode.steps, self._gait_frequency)
        return Clock(phase, self._episode.action.copy(), remaining(self._episode.steps))

    def term_sums(self) -> dict[str, np.ndarray]:
        """Sum of weight · term since the reset, of each reward term that counts; (num_envs,)."""
        return {name: sums.copy() for name, sums in self._episode.term_sums.items()}

    # -- by hand -----------------------------------------------------------------------------

    def positions(self, world: int) -> np.ndarray:
        """``qpos`` of a world as it stands: the ball's 7, the keepers' where there are, the
        robot's 19.
        """
        return self._slots[world].qpos.copy()

    def push(self, world: int, velocity: Sequence[float]) -> None:
        """Add (vx, vy) m/s, in the world's axes, to the robot's root, as a random push does."""
        slot = self._slots[world]
        slot.qvel[slot.parts.root_qvel :][:2] += velocity

    def place_ball(self, world: int, center: Sequence[float]) -> None:
        """Put the ball's centre at (x, y, z) m, at rest."""
        slot, lever = self._slots[world], np.zeros(3)
        mujoco.mju_rotVecQuat(lever, np.array(game.BALL_CENTER), slot.qpos[3:7])
        slot.qpos[0:3] = np.asarray(center) - lever
        slot.qvel[0:6] = 0.0

    def _remember(self, episode: Episode) -> None:
        # In place: the physics reads the clocks where they are.
        *ours, our_sums = self._episode
        *theirs, their_sums = episode
        for array, now in zip(ours, theirs, strict=True):
            array[:] = now
        for name, sums in our_sums.items():
            sums[:] = their_sums[name]

    def _checked(self, action: np.ndarray) -> np.ndarray:
        shape = (self.num_envs, self.action_size)
        if np.shape(action) != shape:
            raise ValueError(f"action has shape {np.shape(action)}; expected {shape}")
        if np.asarray(action).dtype.kind not in "fiu":
            raise ValueError(f"action has dtype {np.asarray(action).dtype}; expected float")
        if not self._ready:
            raise ValueError("step before reset; call reset(seed) first")
        action = np.asarray(action, np.float64)
        if not np.isfinite(action).all():
            raise ValueError("action is not finite; expected numbers in [-1, 1]")
        return np.clip(action, -self._unit, self._unit)

    def _advance(self, action: np.ndarray) -> None:
        """Run the physics of one control step in all worlds that have not ended."""
        pd = self._mode == "pd"
        # In newton_metres the factor is exactly 1: the physics gets the caller's bits.
        limit = np.asarray(self._gains.torque_limit)
        law = stepping.TorqueLaw(
            command=pd_target(action, self._gains) if pd else action * (limit / self._unit),
            kp=self._gains.kp * self._factors.kp[:, None],
            kd=self._gains.kd * self._factors.kd[:, None],
            limit=limit,
            pd=pd,
        )
        self._push()

        def walk(worlds: np.ndarray, shared: stepping.DataAddresses) -> None:
            stepping.advance(
                worlds[~self._ended[worlds]],
                self._worlds,
                shared,
                law,
                *self._keeper_tables,
                self._torque,
                self._record,
            )

        run = map if self._pool is None else self._pool.map
        list(run(walk, self._chunks, self._shared_addresses))

    def _push(self) -> None:
        if not self._level.push_speed:
            return
        chance = self._decimation * game.TIMESTEP / self._level.push_interval
        for slot, rng in zip(self._slots, self._rngs, strict=True):
            hit, angle, size = rng.random(3)
            if hit < chance:
                speed = size * self._level.push_speed
                direction = (np.cos(2 * np.pi * angle), np.sin(2 * np.pi * angle))
                slot.qvel[slot.parts.root_qvel :][:2] += speed * np.array(direction)

    def _episodes(self, judged: Judgement, over: np.ndarray) -> list[dict[str, float]]:
        which = np.flatnonzero(over)
        told = judged.record() if len(which) else {}
        return [
            {"env": int(i), "task": int(self.task[i])} | {k: float(v[i]) for k, v in told.items()}
            for i in which
        ]

    def _after(self, observation: np.ndarray, over: np.ndarray) -> np.ndarray:
        """Reset ended worlds; their first observation replaces the final one."""
        which = np.flatnonzero(over)
        if not self._auto_reset or not len(which):
            return observation
        self._reset_worlds(which)
        result = observation.copy()
        result[which] = self._noisy(self._first()[which])
        return result

    def _noisy(self, observation: np.ndarray, quiet: np.ndarray | None = None) -> np.ndarray:
        """Add sensor noise, but not to the rows that ``quiet`` marks."""
        sigma = self._level.observation_noise
        if not sigma:
            return observation
        observation = observation.copy()
        drawn = self._noise.standard_normal((len(observation), len(self._measured)), np.float32)
        if quiet is not None:
            drawn[quiet] = 0.0
        observation[:, self._measured] += sigma * self._deviation * drawn
        return observation

    # -- checkpoint --------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Physics (with warm starts), counters, spawns, factors and generators."""
        return {
            "task": self.task.copy(),
            "physics": self._state.copy(),
            "factors": {k: v.copy() for k, v in self._factors._asdict().items()},
            "counters": {name: array.copy() for name, array in self._counters().items()},
            "term_sums": {name: sums.copy() for name, sums in self._episode.term_sums.items()},
            "generators": {
                str(i): rng.bit_generator.state for i, rng in enumerate([*self._rngs, self._noise])
            },
        }

    def _counters(self) -> dict[str, np.ndarray]:
        episode = self._episode._asdict()
        del episode["task"], episode["term_sums"]
        own = {"defender_y": self._defender_y, "action": self._action, "ended": self._ended}
        return episode | own

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken.

        Raises:
            ValueError: the state is of a world of another size or other tasks, or of no world.
        """
        missing = {"physics", "task", "factors", "counters", "generators"} - set(state)
        if missing:
            raise ValueError(f"world state lacks {sorted(missing)}")
        shape = state["physics"].shape
        if shape != self._state.shape:
            raise ValueError(f"world state has shape {shape}; this world needs {self._state.shape}")
        if not np.array_equal(state["task"], self.task):
            raise ValueError(f"world state is of tasks {state['task']}; this world's: {self.task}")
        self._factors = randomization.Factors(
            **{k: np.array(v) for k, v in state["factors"].items()}
        )
        counters = {"score": 0.0} | state["counters"]  # not of every release
        for name, array in self._counters().items():
            array[:] = counters[name]
        self._episode.action[:] = self._action / self._unit
        # Not of every release, nor of a run that counted other terms.
        sums = state.get("term_sums", {})
        for name, array in self._episode.term_sums.items():
            array[:] = sums.get(name, 0.0)
        self._state[:] = state["physics"]
        for i, rng in enumerate([*self._rngs, self._noise]):
            rng.bit_generator.state = state["generators"][str(i)]
        for i in range(self.num_envs):
            self._prepare_model(i)
        self._ready = True

    def close(self) -> None:
        """Stop the physics threads."""
        if self._pool is not None:
            self._pool.shutdown()
