"""States of the official game, recorded from sai_mujoco."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mujoco
import numpy as np

from booster_ray.envs.official import make_official
from booster_ray.soccer.control import Gains, leg_gains, pd_torque

EACH = 40
"""States of each way to play."""
STRIDE = 12
"""Steps between two of them."""
TURNED = 20
"""States in a known orientation."""

GAINS: Gains = leg_gains(
    (-0.2, 0.0, 0.0, 0.4, -0.25, 0.0), 0.5, (200.0,) * 4 + (50.0,) * 2, (5.0,) * 4 + (1.0,) * 2
)

Torques = Callable[[mujoco.MjData], np.ndarray]


def record(task: str) -> dict[str, np.ndarray]:
    """At least 120 official steps of ``task``, arrays (N, …), in a few seconds.

    Each is the seed of its episode, the state before it (``qpos``, ``qvel``, ``qacc_warmstart``,
    ``step``, ``hits``, ``touching``), the ``torque`` in N·m, what was told after it
    (``observation``, ``info:…``) and ``rotation``: the angles (rad) about x, y and z, turned in
    that order, where the robot was put in the air just before, else NaN.
    """
    env = make_official(task)
    try:
        rows = [
            row
            for seed, (start, stop) in enumerate(
                [(_holding, EACH), (_flailing, EACH), (_thrown, EACH)] + [(_turned, 1)] * TURNED
            )
            for row in _episode(env, seed, start, stop)
        ]
    finally:
        env.close()
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _episode(
    env: Any, seed: int, start: Callable[..., tuple[Torques, np.ndarray]], count: int
) -> Iterator[dict[str, np.ndarray]]:
    _, info = env.reset(seed=seed)
    data, played = env.unwrapped.sim.data._data, env.unwrapped
    torques, rotation = start(data, np.random.default_rng(seed))
    for step in range((count - 1) * STRIDE + 1):
        torque = torques(data)
        before = {n: getattr(data, n).copy() for n in ("qpos", "qvel", "qacc_warmstart")}
        before |= {
            "seed": np.array(seed),
            "step": np.array(step),
            "hits": np.array(getattr(played, "ball_hits_by_robot", 0)),
            "touching": np.array(getattr(played, "_ball_contact_active", False)),
            "torque": torque,
            "rotation": rotation,
        }
        observation, _, _, _, info = env.step(torque)
        if step % STRIDE == 0:
            infos = {k: np.asarray(v) for k, v in info.items() if k != "reward_terms"}
            told = {f"info:{name}": value.copy() for name, value in infos.items()}
            yield {**before, "observation": observation.copy(), **told}


_UNKNOWN = np.full(3, np.nan)


def _hold(data: mujoco.MjData) -> np.ndarray:
    return pd_torque(GAINS.default_pose, data.qpos[-12:].copy(), data.qvel[-12:].copy(), GAINS)


def _holding(data: mujoco.MjData, rng: np.random.Generator) -> tuple[Torques, np.ndarray]:
    """Holds the default pose, with a shove."""
    data.qvel[-18:-16] = rng.uniform(-0.3, 0.3, 2)
    return _hold, _UNKNOWN


def _flailing(data: mujoco.MjData, rng: np.random.Generator) -> tuple[Torques, np.ndarray]:
    """Random torques."""
    return lambda _: GAINS.torque_limit * rng.uniform(-0.5, 0.5, 12), _UNKNOWN


def _thrown(data: mujoco.MjData, rng: np.random.Generator) -> tuple[Torques, np.ndarray]:
    """Tumbles through the air, the ball spinning and rolling."""
    data.qpos[-17] = 2.0
    data.qvel[-18:-12] = rng.uniform(-3, 3, 6)
    data.qvel[:2] = rng.uniform(-2, 2, 2)
    data.qvel[3:6] = rng.uniform(-30, 30, 3)
    return _hold, _UNKNOWN


def _turned(data: mujoco.MjData, rng: np.random.Generator) -> tuple[Torques, np.ndarray]:
    """In the air, by known angles."""
    angles = rng.uniform(-np.pi, np.pi, 3)
    quat = np.zeros(4)
    mujoco.mju_euler2Quat(quat, angles, "XYZ")
    data.qpos[-17] = 1.5
    data.qpos[-16:-12] = quat
    return _hold, angles
