"""What a policy asks of whoever plays it, as data that travels with its files.

A network is numbers in and numbers out. Which number is which joint, in what unit, how often it is
asked, which PD law tracks what it gives: a player that guesses one of these wrong has a robot that
falls, and no error. So exported files tell it (``package.json``, ONNX metadata, model cards), and
what loads them compares it by name with what will play (:func:`check`).

Keys, each a JSON value:

``format``
    ``booster_ray-policy/1``.
``booster_ray``
    The release that wrote it.
``robot``, ``physics_timestep``, ``decimation``, ``control_rate``
    s for a physics step, physics steps for an action, and so actions a second, Hz.
``observation``
    A list of parts in their order: ``name``, ``start``, ``size``, ``unit`` and ``scale`` (of all
    its numbers, or a list of one for each), and the official ``infos`` that are it, if any. Raw:
    the network normalizes by itself.
``joint_names``
    In the order of actions, gains, torques, and of ``joint_pos`` and ``joint_vel``.
``control_mode``
    ``pd``: τ = kp (default_pose + action_scale · action - q) - kd q̇, clipped to ±torque_limit, at
    each physics step; ``torque``: τ = torque_limit · action.
``default_pose`` rad, ``action_scale`` rad, ``kp`` N·m/rad, ``kd`` N·m·s/rad, ``torque_limit`` N·m
    A number for each joint.
``clock``
    ``{"frequency": Hz}`` of the gait clock that the observation shows; null: it shows none.
``memory``
    ``{"previous_action": {"start", "size"}}``: where the player writes the last action, zeros in
    an episode's first control step; null: nothing is remembered.
``settings``
    The same under the names of a config.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from booster_ray import __version__
from booster_ray.config import ConfigError
from booster_ray.policy.settings import Settings
from booster_ray.soccer import game, observation

FORMAT = "booster_ray-policy/1"
ROBOT = "Booster T1, lower body"

WORLD = ("robot", "joint_names", "physics_timestep", "torque_limit")
"""What the game itself lays down."""
CONTROL = ("control_mode", "decimation", "control_rate", "default_pose", "action_scale", "kp", "kd")
"""How actions become torques."""
SEEN = ("observation", "clock", "memory")
"""What the policy is shown."""

UNITS = {
    "physics_timestep": "s", "control_rate": "Hz", "default_pose": "rad", "action_scale": "rad",
    "kp": "N·m/rad", "kd": "N·m·s/rad", "torque_limit": "N·m",
}  # fmt: skip


def contract_of(settings: Settings) -> dict[str, Any]:
    """The contract of a policy that is played so; JSON, see above.

    Raises:
        KeyError: ``settings`` name a feature that there is not.
    """
    gains = settings.gains()
    places = observation.places(settings.features)
    remembered = places.get("previous_action")
    return {
        "format": FORMAT,
        "booster_ray": __version__,
        "robot": ROBOT,
        "physics_timestep": game.TIMESTEP,
        "decimation": settings.decimation,
        "control_rate": 1.0 / (game.TIMESTEP * settings.decimation),
        "observation": [
            _layout(name, place, part)
            for (name, place), part in zip(
                places.items(), observation.parts(settings.features), strict=True
            )
        ],
        "joint_names": list(game.JOINTS),
        "control_mode": settings.mode,
        **{name: np.asarray(values).tolist() for name, values in gains._asdict().items()},
        "clock": {"frequency": settings.gait_frequency} if "clock" in settings.features else None,
        "memory": {"previous_action": {"start": remembered.start, "size": game.ACTION_SIZE}}
        if remembered
        else None,
        "settings": settings.to_dict(),
    }


def _layout(name: str, place: slice, part: observation.Part) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "start": place.start, "size": part.size}
    for key, value in (("unit", part.unit), ("scale", part.scale)):
        told[key] = list(value) if isinstance(value, tuple) else value
    return told | ({"infos": list(part.infos)} if part.infos else {})


# -- in an ONNX file -------------------------------------------------------------------------------


def to_metadata(told: Mapping[str, Any]) -> dict[str, str]:
    """A contract as the metadata of an ONNX file: its keys, with JSON as text."""
    return {key: json.dumps(value, ensure_ascii=False) for key, value in told.items()}


def from_metadata(metadata: Mapping[str, str], place: str) -> dict[str, Any] | None:
    """The contract that an ONNX file tells; None: it tells none.

    Raises:
        ConfigError: it is of another format, or cannot be read.
    """
    if "format" not in metadata or "joint_names" not in metadata:
        return None  # of others, who use such words too
    try:
        told = {key: json.loads(text) for key, text in metadata.items()}
    except ValueError:
        bad = next(key for key, text in metadata.items() if not _is_json(text))
        raise ConfigError(place, f"metadata.{bad}", "is no JSON, expected a contract") from None
    if told["format"] != FORMAT:
        found = told["format"]
        raise ConfigError(place, "metadata.format", f"is {found!r}, expected {FORMAT!r}")
    return told


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def settings_from(told: Mapping[str, Any], place: str) -> Settings:
    """How a policy with this contract is played.

    Raises:
        ConfigError: not as this release writes it, or it says two things of one.
    """
    settings = read_settings(told.get("settings"), place)
    check(told, settings, place)
    return settings


def read_settings(told: Any, place: str) -> Settings:
    """Settings as :meth:`Settings.to_dict` writes them.

    Raises:
        ConfigError: they are not that.
    """
    try:
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in told.items()}
        settings = Settings(**plain)
        settings.observation_size  # noqa: B018  (unknown features show here)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(place, "settings", f"not as the export writes it: {error}") from None
    return settings


# -- the guard -------------------------------------------------------------------------------------


def check(
    told: Mapping[str, Any],
    settings: Settings,
    place: str,
    keys: Sequence[str] = (*WORLD, *CONTROL, *SEEN),
    by: str = "",
) -> None:
    """Refuse a policy that would be played otherwise than it was trained.

    Args:
        told: its contract.
        settings: how it would be played.
        place: of the policy, for the error.
        keys: what must be alike.
        by: what says how it would be played, for the error.

    Raises:
        ConfigError: the first difference, by name: which joint, which gain, which number.
    """
    ours = contract_of(settings)
    for key in keys:
        if key not in told:
            raise ConfigError(place, key, "is missing from the policy's contract")
        if text := _difference(key, told[key], ours[key], told):
            raise ConfigError(place, key, f"{text}{by and f' by {by}'}")


def _difference(key: str, theirs: Any, ours: Any, told: Mapping[str, Any]) -> str | None:
    """In which way two values of a key are not alike; None: they are."""
    if _alike(theirs, ours):
        return None
    unit = f" {UNITS[key]}" if key in UNITS else ""
    if key == "observation":
        return _observation_difference(theirs, ours)
    if key == "joint_names" or not isinstance(ours, list):
        return _item_difference(theirs, ours, unit)
    if not isinstance(theirs, list) or len(theirs) != len(ours):
        return f"is {theirs}, expected {len(ours)} numbers{unit}"
    names = told["joint_names"]
    i = next(i for i, pair in enumerate(zip(theirs, ours, strict=True)) if not _alike(*pair))
    return f"of {names[i]} is {theirs[i]}, expected {ours[i]}{unit}"


def _item_difference(theirs: Any, ours: Any, unit: str) -> str:
    if isinstance(theirs, list) and isinstance(ours, list):
        if len(theirs) != len(ours):
            return f"are {len(theirs)}, expected {len(ours)}"
        i = next(i for i, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
        return f"number {i} is {theirs[i]}, expected {ours[i]}"
    return f"is {json.dumps(theirs, ensure_ascii=False)}, expected {json.dumps(ours)}{unit}"


def _observation_difference(theirs: Any, ours: list[dict[str, Any]]) -> str:
    listed = theirs if isinstance(theirs, list) else []
    parts = [part for part in listed if isinstance(part, dict)]
    for mine, part in zip(ours, parts, strict=False):
        for key in ("name", "start", "size", "unit", "scale", "infos"):
            if not _alike(part.get(key), mine.get(key)):
                if key == "name":
                    return f"number {mine['start']} begins {part.get('name')}, expected {mine[key]}"
                told, wanted = part.get(key), mine.get(key)
                return f"{mine['name']}: {key} is {told}, expected {wanted}"
    if more := [str(part.get("name")) for part in parts[len(ours) :]]:
        return f"has {', '.join(more)} too, which is not seen here"
    missing = ", ".join(part["name"] for part in ours[len(parts) :])
    return f"lacks {missing}, expected it at the end"


def _alike(one: Any, other: Any) -> bool:
    """Equal, but for how numbers are rounded."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (one, other))
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) if numbers else bool(one == other)
