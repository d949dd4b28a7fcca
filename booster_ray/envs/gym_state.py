"""The state of a gymnasium environment as a tree of arrays and JSON scalars, and back.

gymnasium has no such thing. What changes in an environment is kept in attributes of it and of its
wrappers, so these are read: numbers, strings, arrays, NumPy generators, MuJoCo data, and tuples,
lists and dicts of them. Spaces, models and the like count as constant. An environment that holds
anything else (Box2D bodies, simulators of its own) cannot be read, rather than half of it be lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium.envs.registration import EnvSpec

_CONSTANT = (gymnasium.Space, EnvSpec, mujoco.MjModel, type)
_LINKS = frozenset({"env", "_saved_kwargs", "_cached_spec", "mujoco_renderer", "metadata", "spec"})
"""Attributes that are no state: the wrapped environment, how it was made, how it is drawn."""
_PHYSICS = int(mujoco.mjtState.mjSTATE_INTEGRATION)


_SCRATCH = ("iLD", "iM", "map_", "maxuse_", "solver_")
"""Beginnings of the names of MuJoCo's own scratch, which is partly left from steps long ago."""
_NUMBERS = "biufc"
"""Kinds of NumPy's types that a checkpoint holds: no dates, texts, records or objects."""
_UNSET = frozenset({"dof_island", "tree_island"})
"""Arrays that MuJoCo does not fill where it has nothing to say: they hold what memory held."""


Tree = dict[str, Any]
"""Of one environment."""


class Unreadable(Exception):
    """Something is neither data nor known to be constant."""


def read(env: gymnasium.Env) -> Tree:
    """The state of an environment and its wrappers, outermost first.

    Raises:
        Unreadable: there is an attribute that this module does not understand.
    """
    return {
        str(i): {name: _read(value) for name, value in _attributes(layer).items()}
        for i, layer in enumerate(_layers(env))
    }


def write(env: gymnasium.Env, state: Tree) -> None:
    """Put ``state`` back into an environment made in the same way, after a reset.

    Raises:
        ValueError: the layers or MuJoCo models differ.
    """
    layers = _layers(env)
    if len(layers) != len(state):
        raise ValueError(f"state of {len(state)} wrappers; this environment has {len(layers)}")
    for i, layer in enumerate(layers):
        for name, saved in state[str(i)].items():
            vars(layer)[name] = _write(vars(layer).get(name), saved)


def _layers(env: gymnasium.Env) -> list[gymnasium.Env]:
    layers = [env]
    while isinstance(env, gymnasium.Wrapper):
        env = env.env
        layers.append(env)
    return layers


def _attributes(layer: gymnasium.Env) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(layer).items()
        if not (name in _LINKS or isinstance(value, _CONSTANT) or callable(value))
    }


# Every value becomes {kind: content}: what JSON would blur (a tuple, an array scalar) is kept.


def _read(value: Any) -> dict[str, Any]:
    if value is None or type(value) in (bool, int, float, str):
        return {"plain": value}
    if isinstance(value, np.ndarray) and value.dtype.kind in _NUMBERS:
        return {"array": value.copy()}
    if isinstance(value, np.generic) and value.dtype.kind in _NUMBERS:
        return {"number": np.array(value)}
    if isinstance(value, np.random.Generator):
        return {"generator": value.bit_generator.state}
    if isinstance(value, mujoco.MjData):
        return {"mujoco": _physics(value)}
    if type(value) in (tuple, list):
        items = {str(i): _read(item) for i, item in enumerate(value)}
        return {type(value).__name__: items}
    if type(value) is dict and all(isinstance(key, str) and "/" not in key for key in value):
        return {"dict": {key: _read(item) for key, item in value.items()}}
    raise Unreadable(type(value).__name__)


def _write(now: Any, saved: dict[str, Any]) -> Any:
    """The value that ``saved`` tells of; written into ``now`` where others may hold on to it."""
    ((kind, content),) = saved.items()
    match kind:
        case "array":
            if isinstance(now, np.ndarray) and now.flags.writeable and _alike(now, content):
                now[...] = content
                return now
            return np.array(content)
        case "number":
            return content[()]
        case "generator":
            if not isinstance(now, np.random.Generator):  # of what makes one when it first draws
                now = np.random.Generator(getattr(np.random, content["bit_generator"])())
            now.bit_generator.state = content
            return now
        case "mujoco":
            _fill(now, content)
            return now
        case "tuple" | "list":
            items = [_write(None, content[str(i)]) for i in range(len(content))]
            return tuple(items) if kind == "tuple" else items
        case "dict":
            return {key: _write(None, item) for key, item in content.items()}
    return content


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


# -- MuJoCo --------------------------------------------------------------------------------------


def _physics(data: mujoco.MjData) -> np.ndarray:
    """The integration state, then every derived array of the model's size, as one vector.

    Environments read positions and contact forces between two steps, and these are those of the
    last substep: a ``mj_forward`` would give younger ones.
    """
    state = np.empty(mujoco.mj_stateSize(data.model, _PHYSICS))
    mujoco.mj_getState(data.model, data, state, _PHYSICS)
    arrays = {name: getattr(data, name).ravel() for name in _derived(data)}
    arrays |= {name: np.zeros_like(arrays[name]) for name in _UNSET & arrays.keys()}
    return np.concatenate([state, *arrays.values()])


def _fill(data: mujoco.MjData, saved: np.ndarray) -> None:
    names, size = _derived(data), mujoco.mj_stateSize(data.model, _PHYSICS)
    expected = size + sum(getattr(data, name).size for name in names)
    if saved.shape != (expected,):
        raise ValueError(f"MuJoCo data of {saved.shape} numbers; this model has {expected}")
    mujoco.mj_resetData(data.model, data)
    mujoco.mj_setState(data.model, data, saved[:size].copy(), _PHYSICS)
    for name in names:
        array = getattr(data, name)
        array[...] = saved[size : size + array.size].reshape(array.shape)
        size += array.size


def _derived(data: mujoco.MjData) -> list[str]:
    """Names of the arrays of the model's size.

    Those of contacts and constraints, as many as there happen to be, are empty in fresh data; the
    next step finds them anew.
    """
    fresh = mujoco.MjData(data.model)
    public = [name for name in dir(fresh) if not name.startswith("_")]
    arrays = {n: getattr(fresh, n) for n in public if not n.startswith(_SCRATCH)}
    return [n for n, a in arrays.items() if isinstance(a, np.ndarray) and a.size]


# -- many environments ---------------------------------------------------------------------------


def together(trees: Sequence[Any]) -> dict[str, Any]:
    """Trees of equal environments as one, their arrays stacked: few leaves, not many files."""
    first = trees[0]
    if all(isinstance(tree, dict) and tree.keys() == first.keys() for tree in trees):
        return {"tree": {key: together([tree[key] for tree in trees]) for key in first}}
    if all(isinstance(tree, np.ndarray) and _alike(tree, first) for tree in trees):
        return {"stack": np.stack(trees)}
    return {"each": {str(i): tree for i, tree in enumerate(trees)}}


def apart(tree: dict[str, Any], i: int) -> Any:
    """The ``i``-th of the trees that :func:`together` took."""
    ((kind, content),) = tree.items()
    if kind == "tree":
        return {key: apart(item, i) for key, item in content.items()}
    return content[i] if kind == "stack" else content[str(i)]
