"""The inner loop of native worlds: PD torque, ``mj_step``, record, without Python in between.

Compiled by Numba from the code below and run outside the GIL, it calls MuJoCo's own C library
(the one that the ``mujoco`` package loaded) on the addresses of models and data. A Python call
of ``mj_step`` with the copies around it costs half as much again as the physics itself.

Worlds keep only their state, warm start included. They take turns on one ``MjData``,
whose memory stays in the core's cache; a world with an ``MjData`` of its own would find it gone.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm
import mujoco
import numba
import numpy as np
from numba.types import (  # type: ignore[attr-defined]
    ExternalFunction,
    int32,
    int64,
    void,
)

from booster_ray.soccer import game

# MuJoCo's C library; the package has loaded it, so this opens no second copy.
llvm.load_library_permanently(str(sorted(Path(mujoco.__file__).parent.glob("libmujoco*"))[0]))

# By their names, and not by where they lie in this process, so that Numba's cache may keep what
# calls them: to compile it takes every process three seconds. Pointers are 64-bit numbers here.
_step = ExternalFunction("mj_step", void(int64, int64))
_set_state = ExternalFunction("mj_setState", void(int64, int64, int64, int32))
_get_state = ExternalFunction("mj_getState", void(int64, int64, int64, int32))
_memcpy = ExternalFunction("memcpy", int64(int64, int64, int64))

STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)
"""What a world keeps between steps: with it alone a step is exact to the bit."""

_NUMBER = 8
"""Bytes of MuJoCo's mjtNum."""
_SIZE = game.ACTION_SIZE


class DataAddresses(NamedTuple):
    """Where the arrays of each task's shared data lie, int64; the owner keeps them alive.

    Tasks are counted as in ``game.TASKS``; one that is not played has zeros.
    """

    data: np.ndarray
    """(tasks,) of mjData."""
    torque: np.ndarray
    """(tasks,) of the robot's 12 entries of ctrl."""
    keepers: np.ndarray
    """(tasks, 2) of the two keepers' qpos and qvel; 0 where there are none."""
    sources: np.ndarray
    """(tasks, parts) of the parts of a recorded row, in its order; 0: the part stays zero."""
    counts: np.ndarray
    """(parts,) numbers in each part."""


class Worlds(NamedTuple):
    """The batch, every array (worlds, ...)."""

    task: np.ndarray
    """int32: index into ``game.TASKS``."""
    model: np.ndarray
    """int64: address of mjModel."""
    panels: np.ndarray
    """int64: address of the three defenders' positions in that model; 0 where there are none."""
    panel_pos: np.ndarray
    """(worlds, 3, 3) m: what to write there."""
    state: np.ndarray
    """(worlds, size): each world's ``STATE``, read and written."""
    steps: np.ndarray
    """int64: physics steps that each episode has made."""


class TorqueLaw(NamedTuple):
    """What turns commands into torques, float64."""

    command: np.ndarray
    """(worlds, 12): joint targets in rad (pd) or torques in N·m."""
    kp: np.ndarray
    """(worlds, 12) N·m/rad."""
    kd: np.ndarray
    """(worlds, 12) N·m·s/rad."""
    limit: np.ndarray
    """(12,) N·m."""
    pd: bool


@numba.njit(nogil=True, cache=True)
def advance(
    which: np.ndarray,
    worlds: Worlds,
    shared: DataAddresses,
    law: TorqueLaw,
    keeper_pos: np.ndarray,
    keeper_vel: np.ndarray,
    torque: np.ndarray,
    record: np.ndarray,
    kind: int = STATE,
) -> None:
    """Walk each world of ``which`` through its physics steps; torques as ``control.pd_torque``.

    Args:
        which: int64 (m,).
        worlds: all of them.
        shared: this thread's.
        law: of all worlds.
        keeper_pos: (steps,) m, of the keepers before each physics step of an episode.
        keeper_vel: (steps,) m/s, the same.
        torque: (worlds, k, 12) N·m, written: applied in each step.
        record: (worlds, k, width), written: one row a step.
        kind: :data:`STATE`, an argument: a cached program must not keep one release's number.
    """
    joint_pos, joint_vel, ctrl = np.empty(_SIZE), np.empty(_SIZE), np.empty(_SIZE)
    keeper, robot_qpos, robot_qvel = np.empty(2), 0, 1  # these parts of a row end in the joints
    for i in which:
        t, model = worlds.task[i], worlds.model[i]
        data = shared.data[t]
        q = shared.sources[t, robot_qpos] + (shared.counts[robot_qpos] - _SIZE) * _NUMBER
        v = shared.sources[t, robot_qvel] + (shared.counts[robot_qvel] - _SIZE) * _NUMBER
        if worlds.panels[i]:
            _memcpy(worlds.panels[i], worlds.panel_pos[i].ctypes.data, 9 * _NUMBER)
        _set_state(model, data, worlds.state[i].ctypes.data, kind)
        for k in range(record.shape[1]):
            if shared.keepers[t, 0]:
                keeper[:] = keeper_pos[worlds.steps[i] + k]
                _memcpy(shared.keepers[t, 0], keeper.ctypes.data, 2 * _NUMBER)
                keeper[:] = keeper_vel[worlds.steps[i] + k]
                _memcpy(shared.keepers[t, 1], keeper.ctypes.data, 2 * _NUMBER)
            if law.pd:
                _memcpy(joint_pos.ctypes.data, q, _SIZE * _NUMBER)
                _memcpy(joint_vel.ctypes.data, v, _SIZE * _NUMBER)
            for j in range(_SIZE):
                wanted = law.command[i, j]
                if law.pd:
                    wanted = (wanted - joint_pos[j]) * law.kp[i, j] - joint_vel[j] * law.kd[i, j]
                    wanted = law.limit[j] if wanted > law.limit[j] else wanted  # NaN stays NaN
                    wanted = -law.limit[j] if wanted < -law.limit[j] else wanted
                ctrl[j] = wanted
                torque[i, k, j] = wanted
            _memcpy(shared.torque[t], ctrl.ctypes.data, _SIZE * _NUMBER)
            _step(model, data)
            column = 0
            for part in range(shared.counts.size):
                source, count = shared.sources[t, part], shared.counts[part]
                if source:
                    _memcpy(record[i, k, column:].ctypes.data, source, count * _NUMBER)
                column += count
        _get_state(model, data, worlds.state[i].ctypes.data, kind)
