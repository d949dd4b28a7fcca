"""The official scene as it is drawn: one model of all that is seen, posed by what is played.

It is compiled from the official environment's own model, visual meshes and all. What moves without
a joint there (panels, goals, targets) has mocap bodies here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import mujoco
import numpy as np

from booster_ray.envs.official import make_official
from booster_ray.evaluate.viewer.match import Match, Side
from booster_ray.soccer import game

APART = 5.0
"""Metres along y between two policies; a goal is 3.2 m wide."""

FOCUS = "focus"
"""The body that cameras follow."""

_TINTS = ((0.35, 0.55, 0.85), (0.9, 0.55, 0.25))
"""Of the robots where there are two: blue and orange."""
_SHARED = ("floor", "football_field", "boards")
"""Bodies that are there once."""
_PANELS = 3


@cache
def scene_model(task: str, sides: int) -> mujoco.MjModel:
    """All that is seen of a task, for so many policies; made once by each process.

    Raises:
        KeyError: unknown task.
    """
    env = make_official(task)
    official = env.unwrapped.mjcf_model.copy()
    env.close()
    whole = mujoco.MjSpec()
    # The first body: viewers follow the first that moves.
    whole.worldbody.add_body(name=FOCUS, mocap=True)
    for side in range(sides):
        part = _part(
            official.copy(), task, whole=side == 0, tint=_TINTS[side] if sides > 1 else None
        )
        for body in part.worldbody.bodies:
            # By hand: a frame that is attached to moves the first of them alone (MuJoCo 3.8).
            body.pos = [body.pos[0], body.pos[1] + APART * side, body.pos[2]]
        whole.attach(part, prefix=f"{side}:", frame=whole.worldbody.add_frame())
    return whole.compile()


def _part(spec: Any, task: str, *, whole: bool, tint: tuple[float, ...] | None) -> Any:
    """What is seen of one policy's world; without the field unless it is the ``whole``."""
    for made in (*spec.sensors, *spec.actuators, *spec.keys, *spec.excludes, *spec.pairs):
        spec.delete(made)
    for site in list(spec.sites):
        spec.delete(site)
    for geom in [g for g in spec.geoms if g.type == mujoco.mjtGeom.mjGEOM_PLANE]:
        _flatten(spec, geom)
    if task == "obstacle":
        _free_panels(spec)
    _add_aim(spec, task)
    if not whole:
        for body in [b for b in spec.bodies if b.name in _SHARED]:
            spec.delete(body)
    if tint is not None:
        for material in spec.materials:
            if material.name.endswith(("light_gray", "medium_gray")):
                shade = 1.0 if material.name.endswith("light_gray") else 0.75
                material.rgba = [*(shade * c for c in tint), 1.0]
    return spec


def _flatten(spec: Any, plane: Any) -> None:
    """Viewers draw planes as grids: the grass is a thin box, and the others are not there."""
    if plane.name != "field_base":
        spec.delete(plane)
        return
    plane.type = mujoco.mjtGeom.mjGEOM_BOX
    length, width = plane.size[:2]
    plane.size, plane.pos = [length, width, 0.01], [0.0, 0.0, -0.002]


def _free_panels(spec: Any) -> None:
    """Give each defender a body of its own, where the environment moves their geoms."""
    for i in range(_PANELS):
        old = next(geom for geom in spec.geoms if geom.name == f"defender_geom{i}")
        body = spec.worldbody.add_body(name=f"panel{i}", mocap=True)
        geom = body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_MESH, meshname=old.meshname, rgba=old.rgba, quat=old.quat
        )
        geom.alt.euler = old.alt.euler
        spec.delete(old)


def _add_aim(spec: Any, task: str) -> None:
    """What the ball shall reach: the goal's sphere, or the target's disc; Goalie has the goal."""
    body = spec.worldbody.add_body(name="aim", mocap=True)
    if task == "obstacle":
        size = [game.OBSTACLE_GOAL_RADIUS, 0.0, 0.0]
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_SPHERE, size=size, rgba=[0.1, 0.4, 1.0, 0.4])
    elif task == "kick_to_target":
        size = [game.TARGET_RADIUS, 0.005, 0.0]
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=size, rgba=[1.0, 0.1, 0.1, 0.5])


class Display:
    """The poses of all that is seen of a match.

    Args:
        match: is read, and nothing of it changed.
    """

    def __init__(self, match: Match) -> None:
        self.task = match.task
        self.model = scene_model(match.task, len(match.sides))
        self.data = mujoco.MjData(self.model)
        self._each = self.model.nq // len(match.sides)
        self._center = self._middle(match)

    def update(self, match: Match, *, follow: bool = True) -> None:
        """Pose everything as the match stands.

        Args:
            match: of the same task and number of policies.
            follow: whether the focus moves with the robots.
        """
        for place, side in enumerate(match.sides):
            self._pose(place, side)
        if follow:
            self._center = self._middle(match)
        self.data.mocap_pos[self._mocap(FOCUS)] = self._center
        mujoco.mj_kinematics(self.model, self.data)

    @property
    def center(self) -> np.ndarray:
        """(3,) m: the focus."""
        return self._center.copy()

    def shift(self, place: int) -> np.ndarray:
        """(3,) m from a policy's world to the place where it is drawn."""
        return np.array([0.0, APART * place, 0.0])

    def _middle(self, match: Match) -> np.ndarray:
        """Between the robots, or between robot and ball of one, at the height of the hips."""
        points = [side.robot() + self.shift(i) for i, side in enumerate(match.sides)]
        middle = np.mean(points, axis=0)
        return np.array([middle[0], middle[1], 0.5])

    def _pose(self, place: int, side: Side) -> None:
        shift, positions = self.shift(place), side.world.positions(0)
        positions[0:3] += shift
        positions[-19:-16] += shift
        self.data.qpos[place * self._each : (place + 1) * self._each] = positions
        if self.task == "obstacle":
            for i, at in enumerate(side.frame.defender_pos[0]):
                body = self.model.body(f"{place}:panel{i}")
                inside = self.model.geom_pos[body.geomadr[0]]
                self.data.mocap_pos[body.mocapid[0]] = at + shift - inside
        aim = np.array(side.frame.target_pos[0], float)
        if self.task == "kick_to_target":
            aim[2] = 0.03  # it lies on the ground
        self.data.mocap_pos[self._mocap(f"{place}:aim")] = aim + shift

    def _mocap(self, name: str) -> int:
        return int(self.model.body(name).mocapid[0])
