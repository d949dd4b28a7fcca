"""The game on MJX, one world at a time, for ``jax.vmap``: a Brax environment.

Every Brax trainer runs on :class:`SoccerEnv` unmodified; pass it ``episode_length=
env.episode_length``, because in Brax time is the business of a wrapper: ``done`` is the game's
own verdict and ``info["truncation"]`` says that time is up. :class:`AutoReset` is our wrapper; it
respawns ended worlds with fresh draws, while Brax's puts them back to their first state. What a
training loop on the device reads of a step is its :func:`outcome`; what a checkpoint keeps is
:func:`state_tree`.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from flax import serialization

from booster_ray.envs.brax_mjx import Env, State, Wrapper, mjx
from booster_ray.envs.contract import check_arguments
from booster_ray.envs.mjx_model import (
    BALL,
    BLOCKER,
    FOOT0,
    FOOT1,
    PANELS,
    PARKED,
    ROBOT,
    MjxParts,
    mjx_parts,
)
from booster_ray.envs.mjx_randomization import draw_within, randomize, with_priorities
from booster_ray.soccer import game, randomization, spawn
from booster_ray.soccer.control import Gains, pd_target, pd_torque
from booster_ray.soccer.frame import Frame, make_frame
from booster_ray.soccer.geometry import rotate
from booster_ray.soccer.judge import Conditions, Episode, Judgement, judge, seen
from booster_ray.soccer.observation import noise, size
from booster_ray.soccer.randomization import Factors
from booster_ray.soccer.rewards import RECORDED, TERMS, counted

_ROOT_QPOS, _ROOT_QVEL = 7, 6
"""The ball comes first in qpos and qvel, then the robot's free joint, then its 12 joints."""

METRICS = ("return", "seconds", "score", "fallen", "success", "touched", "lost")
"""Paid once, in the control step in which the episode ends, so that Brax's sums are the values;
so is ``reward.TERM``, the sum of weight · term, of each reward term that counts. ``lost`` counts
worlds whose state was not finite; their episodes count as the worst."""
DROPPED = "dropped"
"""Metric of every step: contacts of the whole batch that found no room. See :func:`_dropped`."""


class World(NamedTuple):
    """One episode: all that a reset must replace."""

    data: mjx.Data
    episode: Episode
    factors: Factors | None
    """This episode's randomization; None at level 0."""


class Numbers(NamedTuple):
    """What may differ between environments of one structure; arrays, which may be traced."""

    gains: Gains
    conditions: Conditions
    """Reward weights are by the step here: :attr:`pay` says what a step's seconds make of them."""
    pay: jax.Array
    """float32 (terms,): what each term that counts pays in one control step for its magnitude."""
    near_ball: jax.Array
    """float32 (): share of episodes that begin nearer to the ball."""
    widths: dict[str, jax.Array]
    """Of ``randomization.widths_of``."""
    noise: jax.Array
    """float32 (): see :class:`~booster_ray.soccer.randomization.Level`, as the next two."""
    push_speed: jax.Array
    push_chance: jax.Array
    """float32 (): of a push in one control step."""


class SoccerEnv(Env):
    """All three tasks on MJX; the task is drawn at each reset.

    Args:
        tasks: names from ``game.TASKS``.
        gains: PD gains, shapes (12,).
        mode: ``pd`` (actions offset the default pose), ``torque`` (fractions of the limits) or
            ``newton_metres`` (the official action: torques, clipped at the limits).
        decimation: physics steps of 2 ms for each action.
        weights: weights of the dense reward terms.
        level: domain randomization, 0-3.
        episode_steps: physics steps until time is up, at most the official 5000.
        impl: ``jax`` (a reduced collision set, any device) or ``warp`` (all official geoms).
        worlds: the batch that will be stepped; ``warp`` allocates contacts for all of it at once.
        platform: ``gpu`` or ``cpu`` to insist on one; None takes what JAX has.
        features: names from ``observation.FEATURES``, appended to the observation.
        gait_frequency: of the gait clock, Hz.
        near_ball: share of episodes that begin nearer to the ball, see :func:`spawn.nearer`.
        scaled_terms: reward terms whose weights :func:`scale_rewards` may change.
        reward_seconds, limit_terminates: see :class:`~booster_ray.soccer.judge.Conditions`.

    Raises:
        ValueError: an unknown task, mode, level, weight, feature or impl, or a platform that is
            not there.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        gains: Gains,
        mode: str = "pd",
        decimation: int = 10,
        weights: Mapping[str, float] | None = None,
        level: int = 0,
        episode_steps: int = game.EPISODE_STEPS,
        impl: str = "jax",
        worlds: int = 1,
        platform: str | None = None,
        features: Sequence[str] = (),
        gait_frequency: float = 1.5,
        near_ball: float = 0.0,
        scaled_terms: Sequence[str] = (),
        reward_seconds: float = 1.0,
        limit_terminates: bool = False,
    ) -> None:
        check_arguments(tasks, mode, level, decimation, episode_steps, weights or (), features)
        _check_platform(impl, platform)
        self.parts = mjx_parts(impl)
        self._tasks = np.array([game.TASKS.index(task) for task in tasks], np.int32)
        self._mode, self._decimation, self._episode_steps = mode, decimation, episode_steps
        self.terms = tuple(counted(weights or {}))
        """Reward terms that count: those of a weight other than 0."""
        conditions = Conditions(
            jnp.asarray(gains.default_pose, jnp.float32), jnp.float32(gait_frequency),
            jnp.int32(episode_steps), jnp.float32(1.0), jnp.bool_(limit_terminates),
        )  # fmt: skip
        self.numbers = Numbers(
            gains=Gains(*(jnp.asarray(part, jnp.float32) for part in gains)),
            conditions=conditions,
            pay=_pay(weights or {}, self.terms, reward_seconds),
            near_ball=jnp.float32(near_ball),
            **_randomization(randomization.LEVELS[level], decimation),
        )
        self._near_ball = near_ball > 0
        limit = jnp.asarray(gains.torque_limit, jnp.float32)
        self._unit: Any = limit if mode == "newton_metres" else 1.0
        self._scaled = tuple(scaled_terms)
        self._features = tuple(features)
        self._deviation = jnp.asarray(noise(self._features), jnp.float32)
        self._randomized = level > 0
        model = self.parts.model
        if impl == "warp" and self._randomized:
            model = with_priorities(self.parts)
        self.sys = mjx.put_model(model, impl=impl)
        """The mjx.Model that all worlds share at level 0."""
        self._template = _template(self.parts, worlds)
        self._room = _CONTACTS * worlds
        self.structure: Hashable = (
            tuple(tasks), mode, decimation, self.terms, self._randomized, impl, worlds,
            self._features, self._scaled, self._near_ball,
            tuple(np.asarray(gains.torque_limit).tolist()),
        )  # fmt: skip
        """What environments share whose functions may be compiled once: all but numbers. Whether
        worlds are randomized is of it: those that are not share one model."""

    def bound(self, numbers: Numbers) -> Self:
        """This environment with other numbers, which may be traced."""
        other = copy.copy(self)
        other.numbers = numbers
        return other

    @property
    def observation_size(self) -> int:
        """89, the competition's, and the features."""
        return size(self._features)

    @property
    def action_size(self) -> int:
        """12 joints."""
        return game.ACTION_SIZE

    @property
    def backend(self) -> str:
        """Brax's name for the physics: ``mjx``."""
        return "mjx"

    @property
    def decimation(self) -> int:
        """Physics steps in a control step."""
        return self._decimation

    @property
    def episode_length(self) -> int:
        """Control steps until time is up: Brax's ``episode_length``."""
        return -(-self._episode_steps // self._decimation)

    # -- reset ---------------------------------------------------------------------------------

    def reset(self, rng: jax.Array) -> State:
        """Spawn an episode. No physics runs: in free fall the first frame is known in advance."""
        rng, for_task, for_spawn, for_factors, for_noise = jax.random.split(rng, 5)
        task = jax.random.choice(for_task, jnp.asarray(self._tasks))
        placed = self._place(task, for_spawn)
        factors = None
        if self._randomized:
            factors = draw_within(self.numbers.widths, len(self.parts.robot_bodies), for_factors)
        return self._begin(task, placed, factors, rng, for_noise)

    def reset_at(self, task: jax.Array, placed: spawn.Spawn) -> State:
        """Spawn an episode where another simulator did; nothing is drawn, then or later.

        Args:
            task: int (), index into ``game.TASKS``.
            placed: what :func:`booster_ray.soccer.spawn.place` made of that task's draws.

        Raises:
            ValueError: these worlds are randomized, so that no two episodes are comparable.
        """
        if self._randomized:
            raise ValueError("reset_at needs level 0; these worlds are randomized")
        placed = spawn.Spawn(*(jnp.asarray(part, jnp.float32) for part in placed))
        key = jax.random.PRNGKey(0)
        return self._begin(jnp.asarray(task, jnp.int32), placed, None, key, key)

    def _begin(
        self,
        task: jax.Array,
        placed: spawn.Spawn,
        factors: Factors | None,
        rng: jax.Array,
        for_noise: jax.Array,
    ) -> State:
        world = World(
            data=self._spawned(task, placed),
            episode=Episode(
                task=task,
                target=self._target(task, placed),
                steps=jnp.zeros((), jnp.int32),
                hits=jnp.zeros((), jnp.int32),
                touching=jnp.zeros((), bool),
                air_time=jnp.zeros(2),
                action=jnp.zeros(game.ACTION_SIZE),
                score=jnp.zeros(()),
                returns=jnp.zeros(()),
                term_sums=dict.fromkeys(self.terms, jnp.zeros(())),
            ),
            factors=factors,
        )
        frame = self._frame(world, world.data, jnp.zeros(game.ACTION_SIZE), jnp.zeros(()))
        first = seen(frame, world.episode, self._features, self.numbers.conditions)
        zero = jnp.zeros(())
        scaled = {"reward_factors": jnp.ones(len(self._scaled))} if self._scaled else {}
        return State(
            pipeline_state=world,
            obs=self._noisy(first, for_noise),
            reward=zero,
            done=zero,
            metrics=dict.fromkeys(
                (*METRICS, DROPPED, *(RECORDED + term for term in self.terms)), zero
            ),
            info={"rng": rng, "truncation": zero, **scaled},
        )

    def _place(self, task: jax.Array, rng: jax.Array) -> spawn.Spawn:
        for_uniform, for_lanes = jax.random.split(rng)
        draws = spawn.Draws(
            jax.random.uniform(for_uniform, (spawn.DRAWS,)),
            jax.random.permutation(for_lanes, jnp.asarray(spawn.LANES)),
        )
        places = [spawn.place(int(t), draws) for t in np.unique(self._tasks)]
        chosen = places[0]
        for t, other in zip(np.unique(self._tasks)[1:], places[1:], strict=True):
            chosen = jax.tree.map(lambda a, b, t=t: jnp.where(task == t, b, a), chosen, other)
        if self._near_ball:  # of a key that nothing official is drawn from
            uniform = jax.random.uniform(jax.random.fold_in(rng, 0), (2,))
            chosen = spawn.nearer(chosen, self.numbers.near_ball, uniform)
        return chosen

    def _target(self, task: jax.Array, placed: spawn.Spawn) -> jax.Array:
        target = jnp.asarray(self.parts.target_origins, jnp.float32)[task] + placed.target
        return jnp.where(task == game.GOALIE, 0.0, target)

    def _spawned(self, task: jax.Array, placed: spawn.Spawn) -> mjx.Data:
        """The template, turned and moved, with all that the first frame reads of it."""
        data, parts = self._template, self.parts
        half, zero = 0.5 * placed.robot_yaw, jnp.zeros(())
        quat = jnp.stack([jnp.cos(half), zero, zero, jnp.sin(half)])
        ball_xy, robot_xy = placed.ball_xy, placed.robot_xy
        qpos = data.qpos.at[0:2].set(ball_xy)
        qpos = qpos.at[_ROOT_QPOS : _ROOT_QPOS + 2].set(robot_xy)
        qpos = qpos.at[_ROOT_QPOS + 3 : _ROOT_QPOS + 7].set(quat)
        sites = np.array([parts.imu_site, *parts.foot_sites])
        turned = rotate(quat, data.site_xpos[sites]) + jnp.append(robot_xy, 0.0)
        site_xpos = data.site_xpos.at[sites].set(turned)
        site_xpos = site_xpos.at[parts.ball_site, :2].set(ball_xy)
        return data.replace(
            qpos=qpos,
            site_xpos=site_xpos,
            xquat=data.xquat.at[parts.trunk].set(quat),
            mocap_pos=self._blockers(task, placed.defender_y),
        )

    def _blockers(self, task: jax.Array, defender_y: jax.Array) -> jax.Array:
        parts, parked = self.parts, jnp.asarray(PARKED, jnp.float32)
        panels = jnp.asarray(parts.panel_home, jnp.float32).at[:, 1].add(defender_y)
        keepers = jnp.asarray(parts.keeper_home, jnp.float32)
        places = self._template.mocap_pos
        places = places.at[parts.panels].set(jnp.where(task == game.OBSTACLE, panels, parked))
        return places.at[parts.keepers].set(jnp.where(task == game.GOALIE, keepers, parked))

    # -- step ----------------------------------------------------------------------------------

    def step(self, state: State, action: jax.Array) -> State:
        """Advance one control step. ``action``: float (12,) in [-1, 1] (or N·m), clipped.

        Raises:
            ValueError: while tracing, an action of another shape or not floating.
        """
        _check_action(action)
        world: World = state.pipeline_state
        action = jnp.clip(action.astype(jnp.float32) / self._unit, -1.0, 1.0)
        rng, for_push, for_noise = jax.random.split(state.info["rng"], 3)
        with jax.default_matmul_precision("highest"):  # TF32 would lose the physics
            data, frames, lost, dropped = self._advance(world, action, for_push)
        weights = self._weights_now(state)
        conditions = self.numbers.conditions
        judged, frame = judge(world.episode, frames, lost, action, weights, conditions)
        observation = seen(frame, judged.episode, self._features, conditions)
        observation = self._noisy(observation, for_noise)
        info = state.info | {"rng": rng, "truncation": judged.truncated.astype(jnp.float32)}
        return state.replace(
            pipeline_state=world._replace(data=data, episode=judged.episode),
            obs=jnp.where(judged.lost, 0.0, observation),
            reward=judged.reward,
            done=judged.terminated.astype(jnp.float32),
            metrics=state.metrics | _metrics(judged) | {DROPPED: dropped},
            info=info,
        )

    def _weights_now(self, state: State) -> dict[str, Any]:
        weights = dict(zip(self.terms, self.numbers.pay, strict=True))
        if not self._scaled:
            return weights
        factors = dict(zip(self._scaled, state.info["reward_factors"], strict=True))
        return {n: w * factors[n] if n in factors else w for n, w in weights.items()}

    def _advance(
        self, world: World, action: jax.Array, rng: jax.Array
    ) -> tuple[mjx.Data, Frame, jax.Array, jax.Array]:
        """The physics steps: data, frames (decimation, ...), lost, bool (decimation,), dropped."""
        model, gains, applied = self.sys, self.numbers.gains, action
        if world.factors is not None:
            f = world.factors
            model = randomize(model, self.parts, f)
            gains = gains._replace(kp=gains.kp * f.kp, kd=gains.kd * f.kd)
            applied = jnp.where(f.action_delay > 0, world.episode.action, action)
        pd = self._mode == "pd"
        command = pd_target(applied, gains) if pd else applied * gains.torque_limit

        def physics(data: mjx.Data, clock: jax.Array) -> tuple[mjx.Data, tuple[Any, ...]]:
            data, keeper_speed = self._move_keepers(world, data, clock)
            torque = command
            if pd:
                q, v = data.qpos[-game.ACTION_SIZE :], data.qvel[-game.ACTION_SIZE :]
                torque = pd_torque(command, q, v, gains)
            data = mjx.step(model, data.replace(ctrl=torque))
            # The bound is MuJoCo's own for a state that is bad; NaN is not below it either.
            state = jnp.concatenate([data.qpos, data.qvel])
            lost = ~(jnp.abs(state) < mujoco.mjMAXVAL).all()
            frame = self._frame(world, data, torque, keeper_speed)
            return data, (frame, lost, _dropped(data, self.parts.impl, self._room))

        clocks = world.episode.steps + jnp.arange(self._decimation)
        begun = self._push(world.data, rng)
        data, (frames, lost, dropped) = jax.lax.scan(physics, begun, clocks)
        return data, frames, lost, jnp.sum(dropped)

    def _move_keepers(
        self, world: World, data: mjx.Data, clock: jax.Array
    ) -> tuple[mjx.Data, jax.Array]:
        """Put the keepers where they are before physics step ``clock``; and their speed, m/s."""
        if game.GOALIE not in self._tasks:
            return data, jnp.zeros(())
        omega = 2 * np.pi * game.KEEPER_FREQUENCY
        phase = omega * game.TIMESTEP * clock
        y = game.KEEPER_AMPLITUDE * jnp.sin(phase)
        places = data.mocap_pos.at[self.parts.keepers, 1].set(
            jnp.where(world.episode.task == game.GOALIE, y, 0.0)
        )
        return data.replace(mocap_pos=places), omega * game.KEEPER_AMPLITUDE * jnp.cos(phase)

    def _push(self, data: mjx.Data, rng: jax.Array) -> mjx.Data:
        if not self._randomized:
            return data
        hit, angle, size = jax.random.uniform(rng, (3,))
        pushed = hit < self.numbers.push_chance
        speed = jnp.where(pushed, size * self.numbers.push_speed, 0.0)
        direction = jnp.stack([jnp.cos(2 * jnp.pi * angle), jnp.sin(2 * jnp.pi * angle)])
        root = slice(_ROOT_QVEL, _ROOT_QVEL + 2)
        return data.replace(qvel=data.qvel.at[root].add(speed * direction))

    def _noisy(self, observation: jax.Array, rng: jax.Array) -> jax.Array:
        if not self._randomized:
            return observation
        sigma = self.numbers.noise
        return observation + sigma * self._deviation * jax.random.normal(rng, observation.shape)

    # -- what the rules see ----------------------------------------------------------------------

    def _frame(
        self, world: World, data: mjx.Data, torque: jax.Array, keeper_speed: jax.Array
    ) -> Frame:
        """The frame of a step; sites, orientations and sensors in ``data`` lag as they should."""
        parts, task = self.parts, world.episode.task
        imu = data.site_xpos[parts.imu_site]
        root = data.qvel[_ROOT_QVEL:]
        foot_contact, ball_contact, blocked = self._contacts(data)
        # Where a task has no keepers or defenders they are parked, which the rules must not see.
        nobody = jnp.stack([imu] * 3)
        return make_frame(
            task=task,
            target=world.episode.target,
            keeper_speed=jnp.stack([keeper_speed] * 2),
            ball_quat=data.xquat[parts.ball_body],
            ball_turn=data.qvel[3:6],
            root_turn=root[3:6],
            joint_pos=data.qpos[-game.ACTION_SIZE :],
            joint_vel=data.qvel[-game.ACTION_SIZE :],
            imu_pos=imu,
            imu_quat=data.xquat[parts.trunk],
            gyro=self._sensor(data, "torso_gyro"),
            accelerometer=self._sensor(data, "accelerometer"),
            velocimeter=self._sensor(data, "torso_vel"),
            root_vel=root[:3],
            ball_pos=data.site_xpos[parts.ball_site],
            ball_vel=data.qvel[0:3],
            keeper_pos=jnp.where(task == game.GOALIE, data.mocap_pos[parts.keepers], nobody[:2]),
            defender_pos=jnp.where(task == game.OBSTACLE, data.mocap_pos[parts.panels], nobody),
            foot_pos=data.site_xpos[parts.foot_sites],
            foot_vel=jnp.stack([self._sensor(data, f"foot{i}_vel") for i in (0, 1)]),
            foot_contact=foot_contact,
            ball_contact=ball_contact,
            ball_blocked=blocked,
            torque=torque,
        )

    def _sensor(self, data: mjx.Data, name: str) -> jax.Array:
        return data.sensordata[self.parts.sensors[name]]

    def _contacts(self, data: mjx.Data) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Feet, bool (2,); robot on ball; keeper or panel on ball."""
        if self.parts.impl == "warp":
            counts = [self._sensor(data, f"foot{i}_touch") for i in (0, 1)]
            blockers = [self._sensor(data, f"{name}_ball") for name in ("keeper0", *PANELS)]
            robot = self._sensor(data, "robot_ball")[0] > 0
            return jnp.concatenate(counts) > 0, robot, (jnp.concatenate(blockers) > 0).any()
        contact = data._impl.contact
        kinds = jnp.asarray(self.parts.kinds)[contact.geom]
        both = jnp.where(contact.dist < 0, kinds[:, 0] | kinds[:, 1], 0)

        def any_of(bits: int) -> jax.Array:
            return ((both & bits) == bits).any()

        feet = jnp.stack([any_of(FOOT0), any_of(FOOT1)])
        return feet, any_of(ROBOT | BALL), any_of(BLOCKER | BALL)


def _pay(weights: Mapping[str, float], terms: Sequence[str], reward_seconds: float) -> jax.Array:
    """(terms,): what each is worth in a control step; an event's weight knows no time."""
    paid = [weights[t] * (1.0 if TERMS[t].event else reward_seconds) for t in terms]
    return jnp.asarray(np.array(paid, np.float32))


def _randomization(level: randomization.Level, decimation: int) -> dict[str, Any]:
    """What :class:`Numbers` says of a level, for control steps of ``decimation`` physics steps."""
    chance = decimation * game.TIMESTEP / level.push_interval
    widths = randomization.widths_of(level)
    return {
        "widths": {
            name: jnp.asarray(width, jnp.int32 if isinstance(width, int) else jnp.float32)
            for name, width in widths.items()
        },
        "noise": jnp.float32(level.observation_noise),
        "push_speed": jnp.float32(level.push_speed),
        "push_chance": jnp.float32(chance),
    }


def _metrics(judged: Judgement) -> dict[str, jax.Array]:
    told = judged.record()
    return {n: jnp.where(judged.over, v.astype(jnp.float32), 0.0) for n, v in told.items()}


def _dropped(data: mjx.Data, impl: str, room: int) -> jax.Array:
    """Contacts of a physics step for which warp had no room, of the whole batch; float32 ().

    warp counts on where its buffer is full (``nacon`` of mujoco_warp's collision driver). MJX-JAX
    has a place for each contact of each pair, and drops none.
    """
    if impl != "warp":
        return jnp.zeros(())
    return jnp.maximum(jnp.max(data._impl.nacon) - room, 0).astype(jnp.float32)


# -- many worlds -----------------------------------------------------------------------------------


class AutoReset(Wrapper):
    """A batch of worlds that respawn, with fresh draws, in the step in which they end.

    ``done`` is 1 where an episode ended, ``info["truncation"]`` where time ended it;
    ``info["final_observation"]`` is what was seen, and ``info["task"]`` what was played, before
    any respawn. :func:`outcome` reads them.
    """

    def reset(self, rng: jax.Array) -> State:
        """Start ``n`` worlds from keys of shape (n, 2)."""
        state = jax.vmap(self.env.reset)(rng)
        state.info["final_observation"] = state.obs
        state.info["task"] = state.pipeline_state.episode.task
        return state

    def step(self, state: State, action: jax.Array) -> State:
        """Advance all worlds; ``action``: float (n, 12) in [-1, 1] (or N·m), clipped.

        An action that is not a number cannot be refused on a device: it loses its world, which
        ends, starts anew and counts in ``metrics["lost"]``.

        Raises:
            ValueError: while tracing, an action of another shape or not floating.
        """
        _check_action(action, len(state.done))
        stepped = jax.vmap(self.env.step)(state, action)
        over = (stepped.done + stepped.info["truncation"]) > 0
        fresh = jax.vmap(self.env.reset)(stepped.info["rng"])

        def where_over(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(over.reshape(-1, *[1] * (old.ndim - 1)), new, old)

        # Of the data only what the next step reads: all of it is a hundred times as much.
        born, played = fresh.pipeline_state, stepped.pipeline_state
        carried = {
            name: where_over(getattr(born.data, name), getattr(played.data, name))
            for name in _CARRIED
        }
        rest = jax.tree.map(where_over, born._replace(data=None), played._replace(data=None))
        world = rest._replace(data=played.data.replace(**carried))
        return stepped.replace(
            pipeline_state=world,
            obs=where_over(fresh.obs, stepped.obs),
            done=over.astype(jnp.float32),
            info=stepped.info
            | {
                "rng": where_over(fresh.info["rng"], stepped.info["rng"]),
                "final_observation": stepped.obs,
                "task": stepped.pipeline_state.episode.task,
            },
        )


def scale_rewards(state: State, factors: Sequence[float]) -> State:
    """A batch whose weights of ``SoccerEnv``'s ``scaled_terms`` are multiplied from now on."""
    worlds = len(state.done)
    rows = jnp.broadcast_to(jnp.asarray(factors, jnp.float32), (worlds, len(factors)))
    return state.replace(info=state.info | {"reward_factors": rows})


class Outcome(NamedTuple):
    """One control step of ``n`` worlds: ``contract.StepResult`` in arrays, also under ``jit``."""

    observation: jax.Array
    """float32 (n, observation_size): what the next action answers."""
    final_observation: jax.Array
    """float32 (n, observation_size): before any reset."""
    reward: jax.Array
    """float32 (n,)."""
    terminated: jax.Array
    """bool (n,): the game, or a lost state, ended the episode."""
    truncated: jax.Array
    """bool (n,): time ended it."""
    recorded: jax.Array
    """bool (n,): an episode ended and left a record."""
    episodes: dict[str, jax.Array]
    """(n,) each: ``task`` of the step in all worlds; the fields of ``Judgement.record`` where
    ``recorded``, else zero."""
    dropped: jax.Array
    """float32 (): contacts of this step that found no room, of all worlds."""


def outcome(state: State) -> Outcome:
    """What the step of :class:`AutoReset` that returned ``state`` did; its worlds lead."""
    truncated = state.info["truncation"] > 0
    over = state.done > 0
    record = {name: value for name, value in state.metrics.items() if name != DROPPED}
    return Outcome(
        observation=state.obs,
        final_observation=state.info["final_observation"],
        reward=state.reward,
        terminated=over & ~truncated,
        truncated=truncated,
        recorded=over,
        episodes={"task": state.info["task"], **record},
        dropped=jnp.max(state.metrics[DROPPED]),
    )


_CARRIED = ("time", "qpos", "qvel", "qacc_warmstart", "mocap_pos", "mocap_quat")
"""What a physics step reads of its data; it computes the rest, a hundred times as much, anew."""


def state_tree(state: State) -> dict[str, Any]:
    """All that changes in a batch of worlds, as nested dicts of arrays, for a checkpoint."""
    return _flat(serialization.to_state_dict(_carried(state)))


def restored(like: State, tree: dict[str, Any]) -> State:
    """The state that ``tree`` was taken of; ``like`` is any state of the same worlds.

    Raises:
        ValueError: the tree is of worlds of another number, level or kind.
    """
    blank = _carried(like)
    expected = state_tree(like)
    tree = _with_sums_of(expected, tree)
    if _paths(tree) != _paths(expected):
        raise ValueError("world state: its parts are not those of these worlds")
    carried = serialization.from_state_dict(blank, _nested(tree))

    def fit(path: Any, old: jax.Array, new: Any) -> jax.Array:
        if np.shape(new) != old.shape:
            place = jax.tree_util.keystr(path, simple=True, separator="/")
            raise ValueError(
                f"world state: {place} has shape {np.shape(new)}; these worlds need {old.shape}"
            )
        return jnp.asarray(new, old.dtype)

    carried = jax.tree_util.tree_map_with_path(fit, blank, carried)
    world: World = carried.pipeline_state
    data = like.pipeline_state.data.replace(**world.data)
    return carried.replace(pipeline_state=world._replace(data=data))


def _with_sums_of(expected: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """``tree`` with sums of the reward terms that ``expected`` has, and no others.

    They are zero where ``tree`` has none: it is of an earlier release, or of other weights. So
    are the contacts that a step dropped, and the running score.
    """

    def blank(like: jax.Array) -> np.ndarray:
        return np.zeros(like.shape, like.dtype)  # NumPy's: JAX would compile them

    world, metrics = tree.get("pipeline_state", {}), tree.get("metrics", {})
    like, earlier = expected["pipeline_state"]["term_sums"], world.get("term_sums", {})
    sums = {term: earlier.get(term, blank(sum_)) for term, sum_ in like.items()}
    others = {name: value for name, value in metrics.items() if not name.startswith(RECORDED)}
    paid = {name: metrics.get(name, blank(v)) for name, v in expected["metrics"].items()}
    paid = {name: v for name, v in paid.items() if name.startswith((RECORDED, DROPPED))}
    world = {"score": blank(expected["pipeline_state"]["score"])} | world
    return tree | {"pipeline_state": world | {"term_sums": sums}, "metrics": others | paid}


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """Checkpoints have what is remembered of an episode beside the physics, not below a name."""
    world = dict(tree["pipeline_state"])
    return tree | {"pipeline_state": world.pop("episode") | world}


def _nested(tree: dict[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`_flat`."""
    world = dict(tree["pipeline_state"])
    episode = {name: world.pop(name) for name in Episode._fields}
    return tree | {"pipeline_state": {"episode": episode, **world}}


def _paths(tree: dict[str, Any]) -> set[str]:
    return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


def _carried(state: State) -> State:
    world: World = state.pipeline_state
    data = {name: getattr(world.data, name) for name in _CARRIED}
    return state.replace(pipeline_state=world._replace(data=data))


# -- construction --------------------------------------------------------------------------------

_CONTACTS, _CONVEX, _CONSTRAINTS = 64, 16, 320
"""Contacts, convex collisions and constraint rows that warp holds for each world. Two feet on five
grounds make up to 36 contacts, each four rows. On average over 16,384 falling robots 10 pairs of
geoms are near each other, and 8 slots for the convex ones among them were enough; a slot is 8.8
kB. Where one is wanting, warp prints `CCD overflow`."""


def _template(parts: MjxParts, worlds: int) -> mjx.Data:
    """Data at rest with the robot over the origin and the ball 2 m away, in free fall."""
    model = parts.model
    data = mujoco.MjData(model)
    data.qpos[0] = 2.0
    data.qpos[_ROOT_QPOS : _ROOT_QPOS + 2] = 0.0
    data.qpos[_ROOT_QPOS + 3 : _ROOT_QPOS + 7] = (1.0, 0.0, 0.0, 0.0)
    data.qpos[-game.ACTION_SIZE :] = 0.0
    mujoco.mj_forward(model, data)
    size = {}
    if parts.impl == "warp":
        size = {
            "naconmax": _CONTACTS * worlds,
            "naccdmax": _CONVEX * worlds,
            "njmax": _CONSTRAINTS,
        }
    made = mjx.make_data(model, impl=parts.impl, **size)
    return made.replace(
        qpos=jnp.asarray(data.qpos, jnp.float32),
        site_xpos=jnp.asarray(data.site_xpos, jnp.float32),
        xquat=jnp.asarray(data.xquat, jnp.float32),
        sensordata=jnp.asarray(data.sensordata, jnp.float32),
    )


def _check_platform(impl: str, platform: str | None) -> None:
    have = jax.default_backend()
    if platform not in (None, "cpu", "gpu"):
        raise ValueError(f"unknown platform {platform!r}; expected 'cpu', 'gpu' or None")
    if platform == "gpu" and have != "gpu":
        raise ValueError(f"impl {impl!r} on a gpu needs a CUDA device; JAX has only {have!r}")
    if impl == "warp":
        try:
            import warp  # noqa: F401
        except ImportError:
            raise ValueError(
                "impl 'warp' needs the package warp-lang 1.12; install booster_ray[cuda12], or "
                "choose impl 'jax'"
            ) from None


def _check_action(action: Any, *worlds: int) -> None:
    shape, dtype = jnp.shape(action), jnp.result_type(action)
    expected = (*worlds, game.ACTION_SIZE)
    if shape != expected or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"action has shape {shape} and dtype {dtype}; expected floats of shape {expected}"
        )
