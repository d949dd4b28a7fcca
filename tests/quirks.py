"""Environments with quirks, each told by plain data, so that workers can make them too.

``gym:quirks:Quirk-v0`` is the environment of the spec that the variable ``QUIRKS`` names first;
with several, ``Quirk1-v0``, ``Quirk2-v0`` … are the others.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

ERRORS = {
    "ValueError": ValueError("no such map\nand more"),
    "OSError": OSError(2, "No such file or directory", "assets/map.xml"),
    "KeyError": KeyError("level"),
    "RuntimeError": RuntimeError(""),
    "SystemExit": SystemExit(3),
    "StopIteration": StopIteration(),
    "AssertionError": AssertionError("torque > 0"),
    "MemoryError": MemoryError(),
    "RecursionError": RecursionError("maximum recursion depth exceeded"),
    "UnicodeDecodeError": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "ConnectionError": ConnectionResetError(104, "Connection reset by peer"),
    "ModuleNotFoundError": ModuleNotFoundError("No module named 'secret_sdk'"),
}
"""What other people's code raises, by a name."""

BROKEN = {
    "nan reward": lambda o, r: (o, float("nan")),
    "inf reward": lambda o, r: (o, float("inf")),
    "no reward": lambda o, r: (o, None),
    "word reward": lambda o, r: (o, "much"),
    "two rewards": lambda o, r: (o, [1.0, 2.0]),
    "nan seen": lambda o, r: (np.full(o.shape, np.nan), r),
    "inf seen": lambda o, r: (np.full(o.shape, np.inf), r),
    "shape seen": lambda o, r: (np.zeros((*o.shape, 2)), r),
    "none seen": lambda o, r: (None, r),
    "dict seen": lambda o, r: ({"seen": o}, r),
}
"""What is no observation or no reward, made of one that is."""

HELD = {
    "complex": lambda: np.array([1j]),
    "words": lambda: np.array(["left", "right"]),
    "dates": lambda: np.array(["2026-01-01"], "datetime64[D]"),
    "records": lambda: np.zeros(2, [("a", "f4"), ("b", "i4")]),
    "huge": lambda: 2**80,
    "nan": lambda: float("nan"),
    "surrogate": lambda: "\ud800",
    "slashes": lambda: {"a/b": 1},
    "numbered": lambda: {1: 2},
    "nested": lambda: {"a": [(), {}, None, True, np.float16(2)]},
    "bytes": lambda: b"\x00\xff",
    "set": lambda: {1, 2},
    "iterator": lambda: iter(range(3)),
    "old generator": lambda: np.random.RandomState(0),
}
"""What environments keep in their attributes, besides numbers and arrays."""


def box(spec: dict[str, Any]) -> Box:
    """The space that a spec's ``low``, ``high``, ``shape`` and ``dtype`` tell."""
    low, high = (float(spec[name]) if isinstance(spec[name], str) else spec[name]
                 for name in ("low", "high"))  # fmt: skip
    return Box(low, high, tuple(spec["shape"]), np.dtype(spec["dtype"]).type)


class Log(list[tuple[Any, ...]]):
    """What an environment was told and has shown; callable, so that it is no part of its state."""

    def __call__(self) -> None:
        """Nothing."""


class Quirk(gymnasium.Env[Any, Any]):
    """See ``spec``; without quirks it walks at random, and pays for actions near the middle.

    Attributes:
        log: every reset, ``("reset", seen)``, and step, ``("step", action, seen, reward, ended,
            cut)``, with copies.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.quirks, self.log = spec, Log()
        if spec["raises"][0] == "constructor":
            raise ERRORS[spec["raises"][1]]
        self.observation_space = {"Discrete": Discrete(3), "Dict": Dict({"a": Discrete(2)})}.get(
            spec["seen"]["dtype"]
        ) or box(spec["seen"])
        self.action_space = {"Discrete": Discrete(3)}.get(spec["taken"]["dtype"]) or box(
            spec["taken"]
        )
        self.metadata = {"render_fps": spec["fps"]}
        if spec["dt"] is not None:
            self.dt = spec["dt"]
        if spec["held"] is not None:
            self.held = HELD[spec["held"]]()
        self.count = self.age = 0
        self.buffer: Any = None

    def _fails(self, where: str) -> None:
        self.age += 1
        place, name, after = self.quirks["raises"]
        if place == where and self.age > after:
            raise ERRORS[name]

    def _look(self) -> Any:
        space = self.observation_space
        span = np.clip([space.low, space.high], -50, 50).astype(np.float64)
        drawn = self.np_random.uniform(span[0], span[1], space.shape)
        kind = space.dtype if self.quirks["returns"] != "float64" else np.float64
        seen = np.asarray(np.floor(drawn) if space.dtype.kind in "iu" else drawn).astype(kind)
        if not self.quirks["reuses"]:
            return seen.tolist() if self.quirks["returns"] == "list" else seen
        if self.buffer is None:
            self.buffer = seen.copy()
        self.buffer[...] = seen
        return self.buffer

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self._fails("reset")
        self.count = 0
        seen = self._look()
        self.log.append(("reset", np.array(seen)))
        return seen, {}

    def step(self, action: Any) -> Any:
        self._fails("step")
        self.count += 1
        seen, reward = self._look(), 1.0 - float(np.abs(np.float64(action)).mean() > 0.5)
        ended = cut = False
        if self.quirks["lasts"] is not None and self.count >= self.quirks["lasts"]:
            ended = self.quirks["ends"] in ("terminated", "both")
            cut = self.quirks["ends"] in ("truncated", "both")
        self.log.append(("step", np.array(action), np.array(seen), reward, ended, cut))
        if self.quirks["spoils"] and isinstance(action, np.ndarray):
            action *= 0
        told: Any = {"float": float, "float32": np.float32, "array": lambda x: np.array([x])}
        paid = told[self.quirks["pays"]](reward)
        if self.quirks["broken"] and self.age > self.quirks["broken"][1]:
            seen, paid = BROKEN[self.quirks["broken"][0]](np.asarray(seen), paid)
        if self.quirks["tuple"] == 4:
            return seen, paid, ended or cut, {}
        flags = (np.bool_(ended), int(cut)) if self.quirks["pays"] == "array" else (ended, cut)
        return seen, paid, *flags, {}

    def close(self) -> None:
        self._fails("close")


def register(specs: list[dict[str, Any]]) -> list[str]:
    """Ids of the environments of these specs, registered anew."""
    names = [f"Quirk{i or ''}-v0" for i in range(len(specs))]
    for name, spec in zip(names, specs, strict=True):
        gymnasium.registry.pop(name, None)
        gymnasium.register(name, Quirk, kwargs={"spec": spec}, max_episode_steps=spec["limit"])
    return names


if "QUIRKS" in os.environ:
    register(json.loads(Path(os.environ["QUIRKS"]).read_text()))
