"""The preprocessor class that goes into a package, as text: see :func:`render`.

The text stands alone. The competition's loader strips imports, gives it no other name than
``np``, makes the class without arguments and calls ``modify_state`` before every step of 2 ms, for
a batch of environments whose episodes began together or not, some of them over; and now and then
for a single state without a leading dimension.

What it computes is the policy's observation (:mod:`booster_ray.soccer.observation`), from official
infos instead of a ``Frame``. Infos that are a part are taken as they are; for other parts the
text has the source of their functions, and a frame made of what infos give.
"""

from __future__ import annotations

import ast
import dis
import inspect
import re
import sys
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from booster_ray.policy.settings import Settings
from booster_ray.soccer import game
from booster_ray.soccer.geometry import rotate
from booster_ray.soccer.observation import gait_phase, parts, remaining


class Preprocessor:
    """Official observation and infos to what the policy's module reads.

    Output (n, obs + 24), float32: the observation of the last control step (held in between),
    then joint positions and velocities now; and for a policy that sees its previous action two
    more numbers, 1 in an episode's first step and 1 in a control step.
    """

    FEATURES: tuple = ()
    PARTS: tuple = ()  # of the observation: names of infos, or functions of frame and clock
    GAIT_FREQUENCY = 1.5
    DECIMATION = 10

    def __init__(self):
        self.steps = np.zeros(0, np.int64)
        self.held = np.zeros((0, 0), np.float32)

    def modify_state(self, obs, info):
        """Called once before every step of 2 ms."""
        obs = np.atleast_2d(np.asarray(obs))
        # Joints spawn at exactly 0, at rest, and are never again at exactly 0.
        first = (obs[:, :24] == 0).all(axis=1)
        if len(self.steps) != len(obs):  # another batch of episodes
            first[:] = True
        self.steps = np.zeros_like(first, np.int64) if first.all() else self.steps + 1
        self.steps = np.where(first, 0, self.steps)
        acts = self.steps % self.DECIMATION == 0
        if acts.all():
            self.held = self.observe(obs, info)
        elif acts.any():
            self.held = np.where(acts[:, None], self.observe(obs, info), self.held)
        parts = [self.held, obs[:, :24]]
        if "previous_action" in self.FEATURES:
            parts += [first[:, None], acts[:, None]]
        return np.concatenate(parts, axis=1).astype(np.float32)

    def observe(self, obs, info):
        """The policy's observation, float32 (n, size)."""
        n = len(obs)

        def told(name):
            return np.asarray(info[name]).reshape(n, -1)

        tasks = told("task_index").shape[1]
        if tasks != 3:
            raise ValueError(
                f"task_index has {tasks} numbers, expected 3: this policy plays the three tasks "
                "of the competition (totalTaskCount=3)"
            )
        frame = self.frame(obs, told)
        # The policy's module fills in the previous action.
        clock = Given(
            phase=gait_phase(self.steps, self.GAIT_FREQUENCY),
            previous_action=np.zeros((n, 12)),
            time_left=remaining(self.steps),
        )
        parts = [told(part) if isinstance(part, str) else part(frame, clock) for part in self.PARTS]
        return np.concatenate([np.asarray(part, np.float32) for part in parts], axis=1)

    def frame(self, obs, told):
        """What infos give of the rules' frame, (n, ...) in the world's axes."""
        south = np.array([-game.FIELD_HALF_LENGTH, 0.0, 0.0])
        imu, ball = south - told("goal_team_0_rel_robot"), south - told("goal_team_0_rel_ball")
        root = self.root_velocity(told)
        seen = [f"goalkeeper_team_{team}_" + "{}_rel_robot" for team in (0, 1)]
        return Given(
            task=told("task_index").argmax(axis=1),
            joint_pos=obs[:, :12],
            joint_vel=obs[:, 12:24],
            imu_pos=imu,
            imu_quat=told("robot_quat")[:, [3, 0, 1, 2]].astype(np.float32).astype(np.float64),
            gyro=told("robot_gyro"),
            accelerometer=told("robot_accelerometer"),
            velocimeter=told("robot_velocimeter"),
            root_vel=root,
            ball_pos=ball,
            ball_vel=told("ball_velp_rel_robot") + root,
            keeper_pos=np.stack([imu + told(name.format("xpos")) for name in seen], axis=1),
            keeper_vel=np.stack([root + told(name.format("velp")) for name in seen], axis=1),
            target_pos=imu + told("target_xpos_rel_robot"),
            target_vel=root + told("target_velp_rel_robot"),
            defender_pos=told("defender_xpos").reshape(-1, 3, 3),
        )

    def root_velocity(self, told):
        """The robot's (n, 3) m/s, which infos tell of nothing but by what stands still."""
        quat = told("robot_quat")[:, [3, 0, 1, 2]].astype(np.float32)
        goalie = told("task_index")[:, :1] > 0.5
        older = rotate(quat, told("robot_velocimeter").astype(np.float32))
        return np.where(goalie, older, -told("target_velp_rel_robot"))


class Given:
    """Values by name: a frame and a clock, as far as official infos give them."""

    def __init__(self, **values):
        vars(self).update(values)

    def __getattr__(self, name):
        raise AttributeError(f"official infos do not give {name}")


def action_function(policy):
    """Torques (n, 12) N·m within the limits; none where a world's state was lost."""
    limits = np.array([45.0, 45.0, 30.0, 65.0, 24.0, 15.0] * 2, dtype=np.float32)
    return np.nan_to_num(np.clip(policy, -limits, limits))


def render(settings: Settings) -> str:
    """The text of :class:`Preprocessor`, of what it calls, and its constants.

    Raises:
        ValueError: a part's function uses what a text cannot hold.
    """
    text, seen = _Text(), list[str]()
    text.add("Preprocessor", Preprocessor)
    for part in parts(settings.features):
        name = part.compute.__name__
        if not part.infos:
            text.add(name, part.compute)
        seen += map(repr, part.infos) if part.infos else [name]
    lines = [
        f"Preprocessor.FEATURES = {settings.features!r}",
        f"Preprocessor.GAIT_FREQUENCY = {settings.gait_frequency!r}",
        f"Preprocessor.DECIMATION = {settings.decimation!r}",
        "Preprocessor.PARTS = (",
        *(f"    {part}," for part in seen),
        ")\n",
    ]
    return text.render() + "\n".join(lines)


def render_action() -> str:
    """The text of :func:`action_function`."""
    return inspect.getsource(action_function)


class _Text:
    """Functions, classes and constants with all that they use, as text that stands alone."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {"np": np}
        self._sources: list[str] = []
        self._game: set[str] = set()

    def add(self, name: str, value: Any) -> None:
        """What code of the rules or of this module calls ``name``, and what that uses.

        Raises:
            ValueError: the text cannot hold it, or holds another thing of that name.
        """
        if name in self._known:
            if self._known[name] is not value:
                raise ValueError(f"a preprocessor's text would hold two things named {name}")
            return
        self._known[name] = value
        if isinstance(value, int | float | str | tuple):
            self._sources.append(f"{name} = {value!r}")
        elif isinstance(value, FunctionType | type) and name.isidentifier():
            self._add_source(value)
        else:
            kind = type(value).__name__
            raise ValueError(
                f"{name}, a {kind}, is nothing that a preprocessor's text can hold: expected "
                "the array namespace, game, constants and named functions"
            )

    def _add_source(self, value: Any) -> None:
        source = inspect.getsource(value)
        if isinstance(value, FunctionType):
            source = ast.unparse(_Bare().visit(ast.parse(source)))
        self._sources.append(source.strip())
        known = vars(sys.modules[value.__module__])
        for name in sorted(_globals(compile(source, value.__name__, "exec")) & known.keys()):
            if known[name] is game:
                self._game |= set(re.findall(r"\bgame\.(\w+)", source))
            else:
                self.add(name, known[name])

    def render(self) -> str:
        """The text; what was added first stands first."""
        constants = "\n    ".join(
            f"{name} = {getattr(game, name)!r}" for name in sorted(self._game)
        )
        first, *others = self._sources
        return "\n\n\n".join([first, f"class game:\n    {constants}", *others, ""])


def _globals(code: CodeType) -> set[str]:
    """Names from outside of it that code reads."""
    read = [
        i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    ]
    names = {name for name in read if not name.startswith("__")}
    inner = (_globals(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return names.union(*inner)


class _Bare(ast.NodeTransformer):
    """Takes annotations away, whose names a text does not know."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node
