"""What a gate says, and where a trial keeps it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from booster_ray.store.durable import replace_text
from booster_ray.store.files import GATES


class GateResult(NamedTuple):
    """One gate's numbers and what they mean."""

    gate: int
    name: str
    passed: bool | None
    """None: not known yet, what was played tells too little."""
    numbers: dict[str, Any]
    """JSON."""
    rows: list[tuple[str, str, str, bool | None]]
    """For people: what, found, expected, and whether it holds (None: not known yet)."""
    advice: list[str]
    """What to do; empty where it passed."""
    key: Mapping[str, Any] = MappingProxyType({})
    """JSON: all that could have changed it but the checkpoint; see :func:`recorded`."""

    def to_dict(self) -> dict[str, Any]:
        """JSON."""
        return {
            "gate": self.gate,
            "name": self.name,
            "passed": self.passed,
            "numbers": self.numbers,
            "advice": self.advice,
            "key": dict(self.key),
        }


def digest(checkpoint: Path) -> str:
    """What tells one checkpoint, or converted actor, from another."""
    # A manifest has the checksum of every file of its checkpoint.
    names = ("manifest.json", "actor.json", "actor.safetensors")
    found = [checkpoint / name for name in names if (checkpoint / name).is_file()]
    return hashlib.sha256(b"".join(file.read_bytes() for file in found)).hexdigest()


def store(directory: Path, checkpoint: Path, verdicts: list[GateResult]) -> dict[str, Any]:
    """Write ``gates.json``; gates that were not run now but before, on the same checkpoint, stay.

    Returns:
        What was written: ``checkpoint`` (name), ``digest``, ``passed`` (every gate that was run)
        and ``gates`` by number.
    """
    before = read(directory)
    same = before is not None and before["digest"] == digest(checkpoint)
    gates = dict(before["gates"]) if before is not None and same else {}
    gates |= {str(v.gate): v.to_dict() for v in verdicts}
    told = {
        "checkpoint": checkpoint.name,
        "digest": digest(checkpoint),
        "passed": all(gate["passed"] is True for gate in gates.values()),
        "gates": dict(sorted(gates.items())),
    }
    replace_text(directory / GATES, json.dumps(told, indent=2, allow_nan=False) + "\n")
    return told


def read(directory: Path) -> dict[str, Any] | None:
    """What stands in ``gates.json``; None where there is none, or it is cut short."""
    try:
        told = json.loads((directory / GATES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(told, dict) and {"digest", "passed", "gates"} <= told.keys()
    return told if whole else None


def recorded(
    directory: Path, checkpoint: Path, gate: int, key: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """A gate's verdict on just this checkpoint, whatever it says; None where there is none.

    Args:
        directory: that holds ``gates.json``.
        checkpoint: the gate's.
        gate: its number.
        key: as the gate would be run now; a verdict under another key does not count. None: a
            verdict is taken as it stands, as of a machine that cannot run the gate again.
    """
    told = read(directory)
    if told is None or told["digest"] != digest(checkpoint):
        return None
    found: dict[str, Any] | None = told["gates"].get(str(gate))
    if found is None:
        return None
    if key is not None and found.get("key") != json.loads(json.dumps(dict(key))):
        return None
    return found


def stored(
    directory: Path, checkpoint: Path, gate: int, key: Mapping[str, Any] | None = None
) -> bool | None:
    """Whether a gate passed; None where it was not run, or told too little.

    See :func:`recorded`.
    """
    found = recorded(directory, checkpoint, gate, key)
    return None if found is None or found["passed"] is None else bool(found["passed"])


def label(directory: Path) -> str | None:
    """For a table: ``pass 2, 3``, ``fail 3``, ``unknown 3``, or None: none was run.

    Gates that failed come before those that are not known yet, and these before all that passed.
    """
    told = read(directory)
    if told is None:
        return None
    for word, answer in (("fail", False), ("unknown", None), ("pass", True)):
        which = [number for number, gate in told["gates"].items() if gate["passed"] is answer]
        if which:
            return f"{word} {', '.join(which)}"
    return None
