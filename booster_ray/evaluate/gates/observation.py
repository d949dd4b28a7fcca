"""Gate 1: what a policy sees is what the competition's preprocessor tells.

That preprocessor (ArenaX-Labs/booster_soccer_showdown, training_scripts/main.py) is derived here
from recorded official infos alone, with rotation matrices. Against it stand the rules, on the
frame of a native world that is put into the state before the recorded step and takes the step
itself, so that the 2 ms lag is part of the gate; that world's own compiled observation; and the
exported preprocessor's text. JAX's float32 is a test's business.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import mujoco
import numpy as np

from booster_ray.envs import stepping
from booster_ray.envs.model import soccer_model
from booster_ray.envs.native import NativeWorld
from booster_ray.evaluate.gates.states import GAINS, record
from booster_ray.policy.preprocessor import render
from booster_ray.policy.sai import load_code
from booster_ray.policy.settings import Settings
from booster_ray.soccer import game
from booster_ray.soccer.frame import Frame
from booster_ray.soccer.observation import OFFICIAL, observe, places
from booster_ray.store.gate_results import GateResult

BOUND = 1e-6
STATES = 100
"""Recorded states of each task, at least."""
ROTATIONS = 10
"""Known orientations among them, at least."""


class Replayed(NamedTuple):
    """Recorded steps, taken again by a native world."""

    frame: Frame
    """(N, …)."""
    observation: np.ndarray
    """(N, 89) float32, as the world tells it."""


def gate1() -> GateResult:
    """Record official states of every task and compare; about half a minute."""
    numbers: dict[str, Any] = {"bound": BOUND, "tasks": {}}
    rows: list[tuple[str, str, str, bool | None]] = []
    passed = True
    for task in game.TASKS:
        data = record(task)
        found = measure(data, task)
        numbers["tasks"][task] = found
        checks = [
            (f"{task}: states", found["states"], f">= {STATES}", found["states"] >= STATES),
            *(
                (f"{task}: {name}", f"{found[name]:.1e}", f"< {BOUND:.0e}", found[name] < BOUND)
                for name in ("rules", "world", "package", "orientation")
            ),
            (f"{task}: known turns", found["turns"], f">= {ROTATIONS}",
             found["turns"] >= ROTATIONS),
        ]  # fmt: skip
        rows += [(what, str(value), expected, bool(ok)) for what, value, expected, ok in checks]
        passed &= all(ok for *_, ok in checks)
    advice = ["sai_mujoco or MuJoCo changed what it tells: run tests/envs and compare"]
    return GateResult(1, "observation", passed, numbers, rows, [] if passed else advice)


def measure(data: dict[str, np.ndarray], task: str) -> dict[str, float]:
    """Largest |Δ| of recorded states, by who computes the observation.

    ``rules`` and ``world``: see this module; ``package``: the exported preprocessor; and
    ``orientation``: of projected gravity where the robot's turn is known, which no other order of
    the quaternion's numbers gives. ``turns`` and ``states`` count.
    """
    official = preprocessed(data, task)
    replay = replayed(data, task)
    known = np.isfinite(data["rotation"][:, 0])
    down = np.stack([turn(a)[2] for a in data["rotation"][known]]) if known.any() else None
    seen = observe(replay.frame)[:, places()["gravity"]]
    return {
        "states": len(np.unique(data["qpos"], axis=0)),
        "turns": int(known.sum()),
        "rules": largest(observe(replay.frame), official),
        "world": largest(replay.observation, official),
        "package": largest(packaged(data, task), official),
        "orientation": largest(seen[known], -down) if down is not None else float("inf"),
    }


def replayed(data: dict[str, np.ndarray], task: str) -> Replayed:
    """Put a native world into each recorded state and let it take the step."""
    world = NativeWorld([task], 1, GAINS, mode="newton_metres", decimation=1, auto_reset=False)
    frames, seen = [], []
    try:
        for i in range(len(data["step"])):
            _place(world, task, {name: values[i] for name, values in data.items()})
            seen.append(world.step(data["torque"][i][None]).final_observation[0])
            frames.append(Frame(*(part[0] for part in world.frame())))
    finally:
        world.close()
    parts = (np.stack(part) for part in zip(*frames, strict=True))
    return Replayed(Frame(*parts), np.stack(seen))


def _place(world: NativeWorld, task: str, row: dict[str, np.ndarray]) -> None:
    """Put a world of one into a recorded state."""
    world.reset(0, env_seeds=[int(row["seed"])])
    tree = world.state()
    model = soccer_model(task).model
    data = mujoco.MjData(model)
    for name in ("qpos", "qvel", "qacc_warmstart"):
        getattr(data, name)[:] = row[name]
    data.time = row["step"] * game.TIMESTEP
    size = mujoco.mj_stateSize(model, stepping.STATE)
    state = np.empty(size)
    mujoco.mj_getState(model, data, state, stepping.STATE)
    tree["physics"][0, :size] = state
    for counter, name in (("steps", "step"), ("hits", "hits"), ("touching", "touching")):
        tree["counters"][counter][0] = row[name]
    world.restore(tree)


def preprocessed(data: dict[str, np.ndarray], task: str) -> np.ndarray:
    """The competition's definition. (N, 89) float64."""
    told = {key.removeprefix("info:"): values for key, values in data.items()} | {
        "joint_pos": data["observation"][:, :12],
        "joint_vel": data["observation"][:, 12:24],
        "gravity": -matrix(data["info:robot_quat"])[:, 2],
        "task_index": np.tile(np.array(game.TASKS) == task, (len(data["observation"]), 1)),
    }
    seen = [told[key] for name, part in OFFICIAL.items() for key in part.infos or (name,)]
    return np.concatenate(seen, axis=1)


def packaged(data: dict[str, np.ndarray], task: str) -> np.ndarray:
    """The exported preprocessor's observation of the recorded infos. (N, 89) float32."""
    made = load_code(render(Settings(decimation=1)), "class", "preprocessor")
    info = {k.removeprefix("info:"): v for k, v in data.items() if k.startswith("info:")}
    n = len(data["step"])
    info["task_index"] = np.tile((np.array(game.TASKS) == task).astype(np.float32), (n, 1))
    return np.asarray(made.modify_state(data["observation"], info)[:, : game.OBSERVATION_SIZE])


def largest(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest |Δ|, in float32: beyond 16, its last bit alone is more than 1e-6."""
    return float(np.max(np.abs(ours - theirs.astype(np.float32))))


def matrix(quat_xyzw: np.ndarray) -> np.ndarray:
    """Rotation matrices, body to world, of the official quaternions. (N, 4) → (N, 3, 3)."""
    x, y, z, w = np.moveaxis(quat_xyzw.astype(float), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, -1) for row in rows], -2)


def turn(angles: np.ndarray) -> np.ndarray:
    """Matrix (3, 3) of turns about the world's x, then y, then z by ``angles`` (3,) rad."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)
