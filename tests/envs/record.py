"""Plays the official game in many ways; as a script, records states of it for the tests.

    python tests/envs/record.py

writes ``tests/envs/recorded/<task>.npz`` anew, in half a minute. Run it again when sai_mujoco or
MuJoCo changes, or when a behaviour is added here, and commit the files. Array ``i`` of a file is
one official step: the seed of its episode, the state before it (``qpos``, ``qvel``,
``qacc_warmstart``, ``step`` number, ``hits`` and ``touching`` so far), the ``torque`` (N·m), and
what the environment then told: ``observation``, ``info:…``, ``term:…``, ``terminated``.
``behaviour`` says how it was played; ``rotation`` is the angle (rad) about each axis, turned in the
order x, y, z, by which a ``turned`` robot was put in the air just before.

The walking policy is not part of the project. Where ``../shared/baselines`` has none, the files
come out without walking states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import mujoco
import numpy as np

from booster_ray.envs.official import make_official, observe_official
from booster_ray.soccer import game
from booster_ray.soccer.control import leg_gains, pd_target, pd_torque
from booster_ray.soccer.geometry import yaw

RECORDED = Path(__file__).with_name("recorded")
WALKER = Path(__file__).parents[3] / "shared" / "baselines" / "booster_gym_t1_walk.npz"
LIMITS = np.array(game.TORQUE_LIMITS)
GAINS = leg_gains(
    (-0.2, 0.0, 0.0, 0.4, -0.25, 0.0), 1.0, (200.0,) * 4 + (50.0,) * 2, (5.0,) * 4 + (1.0,) * 2
)
"""The walking policy's; every PD behaviour uses them."""


class Seen(NamedTuple):
    """What a behaviour may look at before a step."""

    step: int
    data: mujoco.MjData
    observation: np.ndarray
    """(89,) float32."""
    quat: np.ndarray
    """(4,) float32, w x y z."""


Act = Callable[[Seen], np.ndarray]
"""To torques (12,) as fractions of their limits, in [-1, 1]."""
Behaviour = Callable[[mujoco.MjData, str, np.random.Generator], Act]
"""Puts the state of a reset episode of a task as it likes, and says how to act in it."""


class Step(NamedTuple):
    """One official step."""

    before: dict[str, np.ndarray]
    """State before it."""
    action: np.ndarray
    """(12,) fractions of the torque limits."""
    observation: np.ndarray
    """The official one."""
    info: dict[str, Any]
    terminated: bool
    truncated: bool


def mjdata(env: Any) -> mujoco.MjData:
    return env.unwrapped.sim.data._data


def episode(env: Any, task: str, behaviour: Behaviour, seed: int) -> Iterator[Step]:
    """Play one official episode to its end."""
    observation, info = env.reset(seed=seed)
    data, game_state = mjdata(env), env.unwrapped
    act = behaviour(data, task, np.random.default_rng(seed))
    for step in range(game.EPISODE_STEPS):
        quat = info["robot_quat"][[3, 0, 1, 2]]
        action = act(Seen(step, data, observe_official(observation, info, task), quat))
        before = {name: getattr(data, name).copy() for name in ("qpos", "qvel", "qacc_warmstart")}
        before["step"] = np.array(step)
        before["hits"] = np.array(getattr(game_state, "ball_hits_by_robot", 0))
        before["touching"] = np.array(getattr(game_state, "_ball_contact_active", False))
        observation, _, terminated, truncated, info = env.step(action * LIMITS)
        yield Step(before, action, observation, info, terminated, truncated)
        if terminated or truncated:
            return


# -- behaviours --------------------------------------------------------------------------------


def hold(seen: Seen, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """PD torques about the default pose plus ``offset`` (rad)."""
    q, v = seen.data.qpos[-12:], seen.data.qvel[-12:]
    return pd_torque(pd_target(offset, GAINS), q, v, GAINS) / LIMITS


def balance(seen: Seen) -> np.ndarray:
    """The default pose, and ankles that push against the fall: stands for the whole 10 s."""
    lean, rate = seen.observation[24], seen.observation[28]
    offset = np.zeros(12)
    offset[[4, 10]] = 1.5 * lean + 0.3 * rate + 0.1
    return hold(seen, offset)


def noise(scale: float, held: int = 1) -> Behaviour:
    """Uniform random torques, each held for some steps."""

    def start(data: mujoco.MjData, task: str, rng: np.random.Generator) -> Act:
        run = rng.uniform(-scale, scale, (game.EPISODE_STEPS // held + 1, 12))
        return lambda seen: run[seen.step // held]

    return start


def plainly(act: Act) -> Behaviour:
    return lambda data, task, rng: act


def stepping(data: mujoco.MjData, task: str, rng: np.random.Generator) -> Act:
    """Legs lift in turn, at random speed and size."""
    frequency, size = rng.uniform(1, 3), rng.uniform(0.1, 0.4)
    lift = np.array([-1, 0, 0, 2, -1, 0])

    def act(seen: Seen) -> np.ndarray:
        wave = size * np.sin(2 * np.pi * frequency * seen.step * game.TIMESTEP)
        return hold(seen, np.concatenate([lift * max(wave, 0), lift * max(-wave, 0)]))

    return act


def leaning(data: mujoco.MjData, task: str, rng: np.random.Generator) -> Act:
    """Tips over its feet, any way."""
    offset = np.zeros(12)
    offset[[4, 10]], offset[[5, 11]] = rng.uniform(-0.4, 0.4, 2)
    return lambda seen: hold(seen, offset)


def pushed(data: mujoco.MjData, task: str, rng: np.random.Generator) -> Act:
    """Balances, but starts with a shove."""
    data.qvel[-18:-16] = rng.uniform(-0.6, 0.6, 2)
    return balance


def thrown(data: mujoco.MjData, task: str, rng: np.random.Generator) -> Act:
    """Tumbles through the air, ball spinning."""
    data.qpos[-17] = 1.5
    data.qvel[-18:-12] = rng.uniform(-3, 3, 6)
    data.qvel[3:6] = rng.uniform(-30, 30, 3)
    return hold


def rolled(data: mujoco.MjData, task: str, rng: np.random.Generator) -> Act:
    """The ball rolls against the feet, and away."""
    to_robot = data.qpos[-19:-17] - data.qpos[:2]
    data.qvel[:2] = rng.uniform(3, 8) * to_robot / np.linalg.norm(to_robot)
    return balance


def turned(data: mujoco.MjData, task: str, rng: np.random.Generator) -> Act:
    """In the air, by known angles; see :func:`rotation`."""
    data.qpos[-17] = 1.5
    data.qpos[-16:-12] = quaternion(rotation(rng))
    return hold


def rotation(rng: np.random.Generator) -> np.ndarray:
    """Angles (3,) rad about x, y and z; the first draw of a ``turned`` episode's generator."""
    return rng.uniform(-np.pi, np.pi, 3)


def quaternion(angles: np.ndarray) -> np.ndarray:
    """w x y z of turns by ``angles`` about the world's x, then y, then z."""
    quat = np.zeros(4)
    mujoco.mju_euler2Quat(quat, angles, "XYZ")
    return quat


# The official environment moves its panels after the model is compiled, but MuJoCo looks for
# their collisions where they were (the body's bounding volumes are static): a panel stops the
# ball only near its compiled y, and is a ghost elsewhere. The native world shares that.
COMPILED_PANELS = (-0.48, 0.48, 1.44)


def kicked(event: str) -> Behaviour:
    """The ball flies to ``event``: goal, offside, block or ghost (a panel that is not there)."""

    def start(data: mujoco.MjData, task: str, rng: np.random.Generator) -> Act:
        ball = data.qpos[:3] + np.array([0, 0, 0.5])  # clear of the ground, whose contact is soft
        seconds = rng.uniform(0.15, 0.25)
        if task == "kick_to_target":
            aim = data.site("target0").xpos + np.array([0, 0, 0.1])
            ball[:2] = aim[:2] - [np.sign(aim[0]), 0]  # 1 m from it, towards the centre
            if event == "offside":
                ball[:2], aim = (0.0, 6.5), np.array([0.0, 8.0, 0.5])
        elif event == "offside":
            aim = np.array([-11.0, 2.5, 1.0])
        elif task == "goalie":
            aim = np.array([-11.0, {"goal": -1.2, "block": 0.3}[event], 0.4])
        elif event == "goal":
            aim = data.site("goalarea_site").xpos
        else:
            panels = [data.geom(f"defender_geom{i}").xpos for i in range(3)]
            solid = [
                abs(panel[1] - y) < 0.3 for panel, y in zip(panels, COMPILED_PANELS, strict=True)
            ]
            aim = panels[solid.index(event == "block")]
        data.qpos[:3] = ball
        data.qvel[:3] = (aim - ball) / seconds + [0, 0, 0.5 * 9.81 * seconds]
        return hold

    return start


BEHAVIOURS: dict[str, Behaviour] = {
    "faint": noise(0.05),
    "noise": noise(0.3, held=10),
    "flail": noise(1.0),
    "limp": plainly(lambda seen: np.zeros(12)),
    "stand": plainly(hold),
    "balance": plainly(balance),
    "stepping": stepping,
    "leaning": leaning,
    "pushed": pushed,
    "thrown": thrown,
    "rolled": rolled,
    "turned": turned,
    "goal": kicked("goal"),
    "offside": kicked("offside"),
    "block": kicked("block"),
    "ghost": kicked("ghost"),
}
"""Every way to play that needs no policy."""

MISSING: dict[str, set[str]] = {
    "goalie": {"ghost"},
    "obstacle": set(),
    "kick_to_target": {"block", "ghost"},
}
"""Tasks and what cannot happen in them."""

GHOST_SEED = 0
"""One of the seeds that put some panel where it stops no ball."""


# -- the walking policy ------------------------------------------------------------------------


class Walker:
    """booster_gym's walking policy for one robot, steered at the ball.

    Turning is proportional to the ball's bearing. Called every 20 ms.
    """

    def __init__(self, speed: float = 1.5, frequency: float = 2.0, turning: float = 0.5) -> None:
        self._speed, self._frequency, self._turning = speed, frequency, turning
        with np.load(WALKER) as weights:
            self._layers = [
                (weights[f"layer{i}.weight"].astype(float), weights[f"layer{i}.bias"])
                for i in range(4)
            ]
        self._action, self._phase = np.zeros(12), 0.0

    def __call__(self, observation: np.ndarray, quat: np.ndarray) -> np.ndarray:
        """Observation (89,) and orientation (4,) w x y z to joint offsets (12,) rad in [-1, 1]."""
        bearing = np.arctan2(observation[49], observation[48]) - yaw(quat)
        bearing = (bearing + np.pi) % (2 * np.pi) - np.pi
        command = (self._speed, 0.0, np.clip(self._turning * bearing, -1, 1))
        clock = 2 * np.pi * self._phase
        joints, velocities = observation[:12] - GAINS.default_pose, 0.1 * observation[12:24]
        x = np.concatenate(
            [observation[24:30], command, [np.cos(clock), np.sin(clock)], joints, velocities]
        )
        x = np.concatenate([x, self._action])
        for i, (weight, bias) in enumerate(self._layers):
            x = weight @ x + bias
            x = np.where(x > 0, x, np.expm1(np.minimum(x, 0))) if i < 3 else x
        self._phase = (self._phase + 0.02 * self._frequency) % 1.0
        self._action = np.clip(x, -1, 1)
        return self._action


def walking(data: mujoco.MjData, task: str, rng: np.random.Generator) -> Act:
    """Walks at the ball, somehow."""
    walker = Walker(rng.uniform(0.5, 1.5), rng.uniform(1.6, 2.4))
    offset = np.zeros(12)

    def act(seen: Seen) -> np.ndarray:
        if seen.step % 10 == 0:
            offset[:] = walker(seen.observation, seen.quat)
        return hold(seen, offset)

    return act


class Play(NamedTuple):
    """A way to play an episode, and its seed."""

    name: str
    behaviour: Behaviour
    seed: int


def plays(task: str) -> list[Play]:
    """What can be played in ``task`` here: walking needs the policy's weights."""
    walk = {"walking": walking} if WALKER.exists() else {}
    known = {k: v for k, v in (BEHAVIOURS | walk).items() if k not in MISSING[task]}
    return [
        Play(name, behaviour, GHOST_SEED if name in ("block", "ghost") else seed)
        for seed, (name, behaviour) in enumerate(known.items())
    ]


# -- recording ---------------------------------------------------------------------------------

STATES = 9
"""Recorded states of each behaviour's episode: spread over it, with its last two."""
STRIDE = 10
"""Only every so many steps of an episode are candidates, besides its last two."""


def main() -> None:
    """Record every task; the same files on the same machine and versions."""
    RECORDED.mkdir(exist_ok=True)
    for task in game.TASKS:
        env = make_official(task)
        rotations = [Play("turned", turned, 100 + seed) for seed in range(9)]
        rows = [row for play in plays(task) + rotations for row in _rows(env, task, play)]
        env.close()
        path = RECORDED / f"{task}.npz"
        np.savez_compressed(path, **{k: np.stack([row[k] for row in rows]) for k in rows[0]})
        print(f"{path.name}: {len(rows)} states, {path.stat().st_size / 1e3:.0f} kB")


def _rows(env: Any, task: str, play: Play) -> list[dict[str, Any]]:
    name, behaviour, seed = play
    kept: list[Step] = []
    last: list[Step] = []
    for step in episode(env, task, behaviour, seed):
        if step.before["step"] % STRIDE == 0:
            kept.append(step)
        last = [*last[-1:], step]
        if name == "turned":  # only its first state has known angles
            break
    spread = kept
    if name != "turned":
        candidates = [s for s in kept if s.before["step"] < last[0].before["step"]]
        spread = [candidates[i] for i in np.linspace(0, len(candidates) - 1, STATES - 2, dtype=int)]
        spread += last
    angles = rotation(np.random.default_rng(seed)) if name == "turned" else np.full(3, np.nan)
    return [_row(step) | {"behaviour": name, "seed": seed, "rotation": angles} for step in spread]


def _row(step: Step) -> dict[str, Any]:
    told = {f"info:{k}": v for k, v in step.info.items() if k != "reward_terms"}
    terms = {f"term:{k}": float(v) for k, v in step.info["reward_terms"].items()}
    after = {"observation": step.observation, "terminated": step.terminated}
    return {**step.before, "torque": step.action * LIMITS, **after, **told, **terms}


if __name__ == "__main__":
    main()
