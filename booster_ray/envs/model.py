"""The official model, compiled for many worlds: same physics, a sixtieth of the memory.

Everything the rules need comes out of MuJoCo as sensors, so that one copy of ``sensordata``
after a step gives the lagged sites and contacts of ``mj_step1`` with no Python per world.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np

from booster_ray.envs.compiled import compiled
from booster_ray.envs.official import make_official
from booster_ray.soccer import game

_IMU = "robot_0:imu"
_FEET = ("robot_0:left_foot", "robot_0:right_foot")
_FOOT_BODIES = ("robot_0:left_foot_link", "robot_0:right_foot_link")
_TARGETS = {"goalie": _IMU, "obstacle": "goalarea_site", "kick_to_target": "target0"}


class SoccerModel(NamedTuple):
    """A compiled task and where to find its parts."""

    model: mujoco.MjModel
    sensors: dict[str, slice]
    """Place of each named sensor in ``sensordata``; the same in every task."""
    robot_bodies: np.ndarray
    """int (bodies,): ids of the robot's bodies with mass."""
    ball_body: int
    ball_geom: int
    foot_geoms: np.ndarray
    """int (2,)."""
    target_site: int
    """-1 in the goalie task."""
    target_origin: np.ndarray
    """(3,) m: where a spawn's target of (0, 0, 0) lies."""
    defender_geoms: np.ndarray
    """int (3,), empty but in the obstacle task."""
    root_qpos: int
    """First of the robot's 19 qpos entries (free joint 7, joints 12), the last of qpos."""
    root_qvel: int
    """First of the robot's 18 qvel entries, the last of qvel."""


@cache
def soccer_model(task: str) -> SoccerModel:
    """``task`` of the official package, compiled by the first process that asks for it.

    Raises:
        KeyError: unknown task.
    """
    if task not in game.TASKS:
        raise KeyError(task)
    return _index(compiled(task, Path(__file__), lambda: _compile(task)), task)


def _compile(task: str) -> mujoco.MjModel:
    spec = official_spec(task)
    _add_sensors(spec, task)
    model = spec.compile()
    # MuJoCo would silently put a world whose state is lost back to qpos0; a world must see it.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    return model


def official_spec(task: str) -> mujoco.MjSpec:
    """The official environment's model, editable, without what nothing collides with.

    Raises:
        KeyError: unknown task.
    """
    env = make_official(task)
    spec = env.unwrapped.mjcf_model.copy()
    env.close()
    _strip_visuals(spec)
    return spec


def _strip_visuals(spec: mujoco.MjSpec) -> None:
    """Drop what nothing collides with: 58 MB a model become 0.9; trajectories stay equal."""
    for geom in list(spec.geoms):
        if not geom.contype and not geom.conaffinity:
            spec.delete(geom)
    used = {geom.meshname for geom in spec.geoms}
    for mesh in list(spec.meshes):
        if mesh.name not in used:
            spec.delete(mesh)
    for texture in spec.textures:
        # Deleting a texture would orphan its material; one pixel costs nothing.
        texture.file = ""
        for side in range(len(texture.cubefiles)):
            texture.cubefiles[side] = ""
        texture.builtin = mujoco.mjtBuiltin.mjBUILTIN_FLAT
        texture.width = 1
        texture.height = 1 if texture.type == mujoco.mjtTexture.mjTEXTURE_2D else 6


def _add_sensors(spec: mujoco.MjSpec, task: str) -> None:
    """Append the same sensors in every task; a part that a task lacks is read at the imu."""
    kinds, objects = mujoco.mjtSensor, mujoco.mjtObj

    def frame(name: str, kind: mujoco.mjtSensor, obj: mujoco.mjtObj, target: str) -> None:
        spec.add_sensor(name=f"frame:{name}", type=kind, objtype=obj, objname=target)

    site, geom = objects.mjOBJ_SITE, objects.mjOBJ_GEOM
    position = kinds.mjSENS_FRAMEPOS
    frame("imu_pos", position, site, _IMU)
    frame("imu_quat", kinds.mjSENS_FRAMEQUAT, site, _IMU)
    frame("ball_pos", position, site, "ball")
    frame("ball_quat", kinds.mjSENS_FRAMEQUAT, site, "ball")
    for team in (0, 1):
        keeper = f"goalkeeper_team_{team}_site" if task == "goalie" else _IMU
        frame(f"keeper{team}_pos", position, site, keeper)
    for i in range(3):
        if task == "obstacle":
            frame(f"defender{i}_pos", position, geom, f"defender_geom{i}")
        else:
            frame(f"defender{i}_pos", position, site, _IMU)
    for i, foot in enumerate(_FEET):
        frame(f"foot{i}_pos", position, site, foot)
        frame(f"foot{i}_vel", kinds.mjSENS_FRAMELINVEL, site, foot)

    def contact(name: str, obj: mujoco.mjtObj, body: str, ball: bool) -> None:
        other = {"reftype": geom, "refname": "ball"} if ball else {}
        # intprm: report only the count ("found"), no reduction, one slot.
        spec.add_sensor(
            name=f"contact:{name}",
            type=kinds.mjSENS_CONTACT,
            objtype=obj,
            objname=body,
            intprm=[1, 0, 1],
            **other,
        )

    contact("robot_ball", objects.mjOBJ_XBODY, "robot_0:Trunk", ball=True)
    blockers = {"goalie": "goalkeeper_team_0_body", "obstacle": "defender_body"}
    # Nothing blocks the ball in kick_to_target; the rules do not look at it there.
    contact("blocker_ball", objects.mjOBJ_BODY, blockers.get(task, "boards"), ball=True)
    for i, foot in enumerate(_FOOT_BODIES):
        contact(f"foot{i}", objects.mjOBJ_BODY, foot, ball=False)


def _target_origin(model: mujoco.MjModel, task: str, site: int) -> np.ndarray:
    """In the obstacle task the target's body; elsewhere the ground, at the site's height."""
    if site < 0:
        return np.zeros(3)
    height = 0.0 if task == "obstacle" else model.site_pos[site, 2]
    return model.body_pos[model.site_bodyid[site]] + (0.0, 0.0, height)


def _index(model: mujoco.MjModel, task: str) -> SoccerModel:
    names = [model.sensor(i).name for i in range(model.nsensor)]
    sensors = {
        name.removeprefix("robot_0:"): slice(adr, adr + dim)
        for name, adr, dim in zip(names, model.sensor_adr, model.sensor_dim, strict=True)
    }
    root = model.joint("robot_0:root")
    bodies = [
        i for i in range(model.nbody) if model.body(i).name.startswith("robot_0:")
    ]  # every robot body has mass
    defenders = [f"defender_geom{i}" for i in range(3)] if task == "obstacle" else []
    feet = [
        next(g for g in range(model.ngeom) if model.geom_bodyid[g] == model.body(name).id)
        for name in _FOOT_BODIES
    ]
    target = -1 if task == "goalie" else model.site(_TARGETS[task]).id
    joints = [model.joint(f"robot_0:{name}") for name in game.JOINTS]
    assert [j.qposadr[0] for j in joints] == list(range(model.nq - 12, model.nq))
    return SoccerModel(
        model=model,
        sensors=sensors,
        robot_bodies=np.array(bodies),
        ball_body=model.body("soccer_ball").id,
        ball_geom=model.geom("ball").id,
        foot_geoms=np.array(feet),
        target_site=target,
        target_origin=_target_origin(model, task, target),
        defender_geoms=np.array([model.geom(name).id for name in defenders], int),
        root_qpos=int(root.qposadr[0]),
        root_qvel=int(root.dofadr[0]),
    )
