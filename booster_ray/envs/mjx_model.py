"""The official model for MJX: one union of the three tasks, derived when it is asked for.

The base is the official kick_to_target model. Keepers and panels, taken from the other two
official models, hang on mocap bodies, so that where they stand is per-world data and one compiled
model plays all tasks; in a task that lacks them they are parked below the field.

``warp`` keeps every official geom as it is. ``jax`` cannot collide all of them, so it collides
only ``REDUCED``, the one place where that choice is made.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import mujoco
import numpy as np

from booster_ray.envs.model import official_spec, soccer_model
from booster_ray.soccer import game

IMPLS = ("jax", "warp")

GROUND = "sai_logo1"
"""An infinite plane at z = 0.010 with friction 1.0: the highest of the official grounds."""

KEEPERS = ("keeper0", "keeper1")
PANELS = ("panel0", "panel1", "panel2")
PARKED = np.array([0.0, 0.0, -20.0])
"""Where keepers and panels wait in a task without them, m."""

_ROBOT = ("trunk", "thigh0", "thigh1", "shank0", "shank1", "foot0", "foot1")
_BODIES = {
    "Trunk": "trunk",
    **{f"Hip_Yaw_{side}": f"thigh{i}" for i, side in enumerate(("Left", "Right"))},
    **{f"Shank_{side}": f"shank{i}" for i, side in enumerate(("Left", "Right"))},
    **{f"{side}_foot_link": f"foot{i}" for i, side in enumerate(("left", "right"))},
}
"""The robot's colliding geoms have no official names; each is called after its body."""

_FRAME = tuple(
    f"{part}_{end}"
    for end in ("north", "south")
    for part in ("left_post", "right_post", "crossbar")
)

CORNERS = tuple(f"foot{i}_corner{j}" for i in (0, 1) for j in range(4))
"""Points (spheres of 0.1 mm) in the lower corners of the feet. MJX-JAX's own box on a plane drops
corners that lie 1 mm higher than the deepest, and lands 7 mm too low; these equal MuJoCo's."""

REDUCED = (
    # Three official layers lie at z = 0.010. Planes give a foot four contacts each, the field's
    # mesh one; the ball touches each once.
    *((GROUND, corner, 2.25) for corner in CORNERS),
    (GROUND, "ball", 3.0),
    *((GROUND, shank, 2.25) for shank in ("shank0", "shank1")),
    *(("ball", part, 1.0) for part in _ROBOT),
    # Beyond the goal line the episode is over: the goal's back is out of reach, like the boards.
    *(("ball", part, 1.0) for part in _FRAME),
    ("ball", "keeper0", 1.0),
    *(("ball", panel, 1.0) for panel in PANELS),
    ("shank0", "shank1", 1.0),
    ("rail0", "rail1", 1.0),
)
"""What ``jax`` collides: (geom, geom, official contacts that one of ours stands for).

The trunk cannot touch the ground before the fall ends the episode. Cylinders are capsules of the
same radius and extent. Keepers and panels are boxes around the
official meshes and stop only the ball; that of team 1 stops nothing, 20 m behind the game. A rail
is a capsule of a foot's width along it, because two boxes cost four slow contacts."""

SOLVER = {"jax": (6, 8)}
"""Newton and line-search iterations; the official 100 and 50 where an impl is not named. MJX-JAX
makes every line-search iteration, needed or not."""


class MjxParts(NamedTuple):
    """The compiled union and where its parts are; ids into model and data."""

    model: mujoco.MjModel
    impl: str
    trunk: int
    ball_body: int
    imu_site: int
    ball_site: int
    foot_sites: np.ndarray
    """(2,)."""
    keepers: np.ndarray
    """(2,) mocap ids."""
    panels: np.ndarray
    """(3,) mocap ids."""
    keeper_home: np.ndarray
    """(2, 3) m: the keepers in the goal's middle."""
    panel_home: np.ndarray
    """(3, 3) m: the panels in the goal's middle."""
    target_origins: np.ndarray
    """(3, 3) m: by task, where a spawn's target of (0, 0, 0) lies."""
    robot_bodies: np.ndarray
    foot_geoms: np.ndarray
    """(2,), or (10,) with the corners."""
    ball_geom: int
    kinds: np.ndarray
    """int32 (ngeom): sum of ROBOT, BALL, BLOCKER, FOOT0 and FOOT1."""
    sensors: dict[str, slice]


ROBOT, BALL, BLOCKER, FOOT0, FOOT1 = 1, 2, 4, 8, 16


@cache
def mjx_parts(impl: str) -> MjxParts:
    """Build and compile the union for ``impl`` (about three seconds, then cached).

    Raises:
        ValueError: unknown impl.
    """
    if impl not in IMPLS:
        raise ValueError(f"unknown MJX impl {impl!r}; expected one of {list(IMPLS)}")
    spec = official_spec("kick_to_target")
    for body in spec.bodies:
        name = _BODIES.get(body.name.removeprefix("robot_0:"))
        if name and body.name.startswith("robot_0:"):
            body.geoms[0].name = name
    blockers = _add_blockers(spec, meshes=impl == "warp")
    _add_sensors(spec, impl)
    if impl == "jax":
        _reduce(spec)
    model = spec.compile()
    for name, (pos, quat) in blockers.items():
        if name in {model.geom(i).name for i in range(model.ngeom)}:
            _pose(model, model.geom(name).id, pos, quat)
    if impl == "jax":
        _set_pairs(model)
    if impl in SOLVER:
        model.opt.iterations, model.opt.ls_iterations = SOLVER[impl]
    return _index(model, impl)


def _add_blockers(spec: mujoco.MjSpec, meshes: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Hang keepers and panels on mocap bodies; each geom's pose in its body."""
    poses = {}
    official = {
        **{name: ("goalie", f"goalkeeper_team_{i}_geom") for i, name in enumerate(KEEPERS)},
        **{name: ("obstacle", f"defender_geom{i}") for i, name in enumerate(PANELS)},
    }
    for name, (task, geom) in official.items():
        model = soccer_model(task).model
        g = model.geom(geom)
        body = spec.worldbody.add_body(name=name, mocap=True, pos=PARKED)
        # The official panels' geoms are moved to where their body frames would be.
        pos = np.zeros(3) if name in PANELS else g.pos
        if meshes:
            mesh = _add_mesh(spec, f"{name}_hull", model, int(g.dataid[0]))
            shape = {"type": mujoco.mjtGeom.mjGEOM_MESH, "meshname": mesh}
        else:
            center, size = model.geom_aabb[g.id][:3], model.geom_aabb[g.id][3:]
            offset = np.zeros(3)
            mujoco.mju_rotVecQuat(offset, center, g.quat)
            pos = pos + offset
            shape = {"type": mujoco.mjtGeom.mjGEOM_BOX, "size": size}
        body.add_geom(
            name=name, contype=1, conaffinity=1, friction=g.friction, solref=g.solref,
            solimp=g.solimp, **shape,
        )  # fmt: skip
        poses[name] = (pos, g.quat.copy())
    return poses


def _add_mesh(spec: mujoco.MjSpec, name: str, model: mujoco.MjModel, mesh: int) -> str:
    first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
    faces, number = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
    spec.add_mesh(
        name=name,
        uservert=model.mesh_vert[first : first + count].ravel(),
        userface=model.mesh_face[faces : faces + number].ravel(),
        # Thin sheets have no volume to speak of, and mocap bodies no mass.
        inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
    )
    return name


def _pose(model: mujoco.MjModel, geom: int, pos: np.ndarray, quat: np.ndarray) -> None:
    """Place a geom in its body, undoing how compiling re-centred and turned its mesh."""
    mesh = model.geom_dataid[geom]
    model.geom_pos[geom], model.geom_quat[geom] = pos, quat
    model.geom_sameframe[geom] = mujoco.mjtSameFrame.mjSAMEFRAME_NONE  # else the pose is ignored
    if mesh >= 0:
        shift = np.zeros(3)
        mujoco.mju_rotVecQuat(shift, model.mesh_pos[mesh], quat)
        model.geom_pos[geom] = pos + shift
        mujoco.mju_mulQuat(model.geom_quat[geom], quat, model.mesh_quat[mesh])


def _add_sensors(spec: mujoco.MjSpec, impl: str) -> None:
    """What the rules read besides sites: foot velocities, and contacts where MJX can sense them."""
    kinds, objects = mujoco.mjtSensor, mujoco.mjtObj
    needed = ("robot_0:torso_gyro", "robot_0:torso_vel", "robot_0:accelerometer")
    for sensor in list(spec.sensors):
        if sensor.name not in needed:
            spec.delete(sensor)
    for i, foot in enumerate(("robot_0:left_foot", "robot_0:right_foot")):
        spec.add_sensor(
            name=f"foot{i}_vel",
            type=kinds.mjSENS_FRAMELINVEL,
            objtype=objects.mjOBJ_SITE,
            objname=foot,
        )
    if impl != "warp":
        return

    def contact(name: str, obj: mujoco.mjtObj, body: str, ball: bool = True) -> None:
        other = {"reftype": objects.mjOBJ_GEOM, "refname": "ball"} if ball else {}
        # intprm: report only the count ("found"), no reduction, one slot.
        kind = {"type": kinds.mjSENS_CONTACT, "intprm": [1, 0, 1]}
        spec.add_sensor(name=name, objtype=obj, objname=body, **kind, **other)

    contact("robot_ball", objects.mjOBJ_XBODY, "robot_0:Trunk")
    for blocker in ("keeper0", *PANELS):
        contact(f"{blocker}_ball", objects.mjOBJ_BODY, blocker)
    for i, foot in enumerate(("robot_0:left_foot_link", "robot_0:right_foot_link")):
        contact(f"foot{i}_touch", objects.mjOBJ_BODY, foot, ball=False)


# -- the reduced set ---------------------------------------------------------------------------


def _reduce(spec: mujoco.MjSpec) -> None:
    """Keep the geoms of ``REDUCED``, which collide by explicit pairs and in no other way."""
    for i, body in enumerate(("robot_0:left_foot_link", "robot_0:right_foot_link")):
        _add_foot_shapes(spec.body(body), i)
    named = {name for a, b, _ in REDUCED for name in (a, b)}
    for geom in list(spec.geoms):
        if geom.name not in named:
            spec.delete(geom)
            continue
        geom.contype = geom.conaffinity = 0
        if geom.type == mujoco.mjtGeom.mjGEOM_CYLINDER:
            geom.type = mujoco.mjtGeom.mjGEOM_CAPSULE
            geom.size = [geom.size[0], geom.size[1] - geom.size[0], 0]
    for a, b, _ in REDUCED:
        spec.add_pair(name=f"{a}:{b}", geomname1=a, geomname2=b, condim=3)


def _add_foot_shapes(body: Any, i: int) -> None:
    """Add the rail and the corners of foot ``i``, whose box is the body's only geom."""
    foot = body.geoms[0]
    center, size = np.array(foot.pos), np.array(foot.size)
    # The default class names a material that attaching renamed.
    common: dict[str, Any] = {"mass": 0, "material": ""}
    body.add_geom(
        name=f"rail{i}",
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        size=[size[1], size[0] - size[1], 0],
        pos=center,
        quat=[np.sqrt(0.5), 0, np.sqrt(0.5), 0],  # a capsule's z along the foot's x
        **common,
    )
    radius = 1e-4
    for j, side in enumerate(((1, 1), (1, -1), (-1, 1), (-1, -1))):
        body.add_geom(
            name=f"foot{i}_corner{j}",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[radius, 0, 0],
            pos=center + np.array([*side, -1]) * (size - radius),
            **common,
        )


def _set_pairs(model: mujoco.MjModel) -> None:
    """Give each pair the parameters that the official contact of its geoms has."""
    for a, b, layers in REDUCED:
        pair, one, two = model.pair(f"{a}:{b}"), model.geom(a), model.geom(b)
        pair.friction = np.maximum(one.friction, two.friction)[[0, 0, 1, 2, 2]]
        pair.solref, pair.solimp = stacked(two.solref, two.solimp, layers)


def stacked(solref: np.ndarray, solimp: np.ndarray, layers: float) -> tuple[Any, Any]:
    """Parameters of one contact that is as stiff as ``layers`` equal ones upon each other.

    A contact's regularization is proportional to (1 - d) / d of its impedance d, and equal
    contacts in parallel divide it. The product of time constant and impedance stays, and with it
    the reference acceleration. Shapes: (2,), (5,) → (2,), (5,).
    """
    ref, imp = np.array(solref), np.array(solimp)
    odds = imp[:2] / (1 - imp[:2]) * layers
    imp[:2] = odds / (1 + odds)
    ref[0] *= solimp[1] / imp[1]
    return ref, imp


def _index(model: mujoco.MjModel, impl: str) -> MjxParts:
    def mocaps(names: tuple[str, ...]) -> np.ndarray:
        return np.array([model.body(name).mocapid[0] for name in names])

    goalie, obstacle = soccer_model("goalie").model, soccer_model("obstacle").model
    keepers = [goalie.body(f"goalkeeper_team_{i}_body").pos for i in (0, 1)]
    # The official spawn puts a panel at (0, y, 0.4) in its body.
    panel = obstacle.body("defender_body").pos + np.array([0.0, 0.0, 0.4])
    kinds = np.zeros(model.ngeom, np.int32)
    named = {model.geom(i).name for i in range(model.ngeom)}
    for name, bits in {
        **dict.fromkeys(_ROBOT, ROBOT),
        "foot0": ROBOT | FOOT0,
        "foot1": ROBOT | FOOT1,
        **{corner: FOOT1 if corner.startswith("foot1") else FOOT0 for corner in CORNERS},
        "ball": BALL,
        **dict.fromkeys(("keeper0", *PANELS), BLOCKER),
    }.items():
        if name in named:
            kinds[model.geom(name).id] = bits
    assert model.nq == 7 + 7 + game.ACTION_SIZE and model.nu == game.ACTION_SIZE
    assert [model.joint(f"robot_0:{n}").qposadr[0] for n in game.JOINTS] == list(range(14, 26))
    return MjxParts(
        model=model,
        impl=impl,
        trunk=model.body("robot_0:Trunk").id,
        ball_body=model.body("soccer_ball").id,
        imu_site=model.site("robot_0:imu").id,
        ball_site=model.site("ball").id,
        foot_sites=np.array([model.site(f"robot_0:{s}_foot").id for s in ("left", "right")]),
        keepers=mocaps(KEEPERS),
        panels=mocaps(PANELS),
        keeper_home=np.array(keepers),
        panel_home=np.repeat(panel[None], 3, axis=0),
        target_origins=np.array([soccer_model(task).target_origin for task in game.TASKS]),
        robot_bodies=np.array(
            [i for i in range(model.nbody) if model.body(i).name.startswith("robot_0:")]
        ),
        foot_geoms=np.array(
            [model.geom(name).id for name in ("foot0", "foot1", *CORNERS) if name in named]
        ),
        ball_geom=model.geom("ball").id,
        kinds=kinds,
        sensors={
            model.sensor(i).name.removeprefix("robot_0:"): slice(
                int(model.sensor_adr[i]), int(model.sensor_adr[i] + model.sensor_dim[i])
            )
            for i in range(model.nsensor)
        },
    )
