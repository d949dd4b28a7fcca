"""Policies with the interface of Stable-Baselines3, which SBX and sb3-contrib share.

They have an ``observation_space``, an ``action_space`` and ``predict(observation, state,
episode_start, deterministic)``, which gives ``(actions, state)``. One that was trained in
``booster_ray/Soccer-v0`` or its kin plays here what it played there.

What such a zip tells is pickled: to read it is to run whatever its author put there. So it is
read only where the user vouches for it, and of its parts only those that the policy needs.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from booster_ray.config import Config, ConfigError
from booster_ray.config.errors import blame
from booster_ray.evaluate.acting import JOINTS, Acting, fitting
from booster_ray.evaluate.target import Target
from booster_ray.policy.settings import Settings, settings_of
from booster_ray.soccer import game

PACKAGES = {
    "stable_baselines3": "stable-baselines3",
    "sb3_contrib": "sb3-contrib",
    "sbx": "sbx-rl",
}
"""Libraries that write such zips, and what pip calls them."""

NEEDED = ("policy_class", "policy_kwargs", "observation_space", "action_space")
READ = (*NEEDED, "policy", "use_sde")
"""What is unpickled; SBX keeps the whole ``policy``."""


def is_policy(found: Any) -> bool:
    """Whether an object has the interface."""
    named = ("predict", "observation_space", "action_space")
    return all(hasattr(found, name) for name in named) and callable(found.predict)


def predicting_target(
    name: str, kind: str, policy: Any, settings: Settings | None, path: Path | None = None
) -> Target:
    """A policy with the interface.

    Actions between ±1 are played as ``settings`` say (None: the default config's, joint targets
    at 50 Hz); those between the torque limits as N·m, for 2 ms where no settings say longer.

    Raises:
        ConfigError: it has not the interface, or its spaces are not those of our worlds.
    """
    if not is_policy(policy):
        what = f"holds a {type(policy).__name__}, expected a policy with predict() and its spaces"
        raise ConfigError(name, what)
    seen, acted = policy.observation_space, policy.action_space
    settings = _settings(name, acted, settings)
    shape: tuple[int, ...] = getattr(seen, "shape", None) or ()
    fit = fitting(shape[0], settings) if len(shape) == 1 else None
    if fit is None:
        size = settings.observation_size
        text = f"observes {_told(seen)}, expected a Box of ({size},), as booster_ray/Soccer-v0 has"
        raise ConfigError(name, f"{text}; more with the features of --config")

    def player() -> Acting:
        return Acting(Predicting(policy), settings, fit)

    return Target(name, kind, player, path)


class Predicting:
    """One batch of episodes of such a policy, with the state that it keeps."""

    def __init__(self, policy: Any) -> None:
        self._policy, self._state = policy, None

    def __call__(self, seen: np.ndarray, first: np.ndarray) -> Any:
        """Observations (n, obs), and which worlds begin (n,) bool, to actions (n, 12)."""
        actions, self._state = self._policy.predict(
            seen, state=self._state, episode_start=first, deterministic=True
        )
        return actions


def _settings(name: str, space: Any, settings: Settings | None) -> Settings:
    low, high = (np.asarray(getattr(space, side, np.nan), float) for side in ("low", "high"))
    limits = np.array(game.TORQUE_LIMITS)
    if high.shape == (JOINTS,) == low.shape:
        if (high == 1).all() and (low == -1).all():
            return settings or settings_of(Config())
        if np.allclose(high, limits) and np.allclose(low, -limits):
            torques = settings or Settings(decimation=1)
            return torques._replace(mode="newton_metres")
    text = f"acts in {_told(space)}, expected a Box of ({JOINTS},) between ±1 or the torque limits"
    raise ConfigError(name, text)


def _told(space: Any) -> str:
    lines = str(space).splitlines()
    return f"{lines[0][:150]}…" if len(lines) > 1 else lines[0][:150]


# -- zips ------------------------------------------------------------------------------------------


def zip_target(path: Path, settings: Settings | None, trust: bool) -> Target:
    """What ``model.save()`` of Stable-Baselines3, SBX or sb3-contrib wrote.

    Raises:
        ConfigError: it is something else, is not trusted, or its library is missing or fails.
    """
    about = _about(path)
    told = about.get("policy_class")
    module = str(told.get("__module__", "")) if isinstance(told, dict) else ""
    library = module.partition(".")[0]
    if not trust:
        raise ConfigError(
            str(path),
            "its parts are pickled, and what is pickled runs code when it is read: give --trust "
            "too if you know who wrote it",
        )
    for name in ("stable_baselines3", library):
        if name in PACKAGES and importlib.util.find_spec(name) is None:
            text = f"was written by {name}, which is not here: pip install {PACKAGES[name]}"
            raise ConfigError(str(path), text)
    try:
        with warnings.catch_warnings():
            # On parts that cannot be read, which below is an error, and on gymnasium's spaces.
            warnings.simplefilter("ignore")
            policy = _policy(path, about)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:  # the file's own code, and that of three libraries
        raise ConfigError(str(path), f"cannot be read: {blame(error)}") from None
    return predicting_target(str(path), library or "zip", policy, settings, path)


def _about(path: Path) -> dict[str, Any]:
    """What the zip tells of itself, with what is pickled still in text."""
    expected = "expected what Stable-Baselines3 or SBX saves (data, policy.pth)"
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("data"))
    except KeyError:
        raise ConfigError(str(path), f"has no data in it, {expected}") from None
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, zlib.error):
        raise ConfigError(str(path), f"is not a whole zip, {expected}") from None
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None
    if not isinstance(about, dict) or not set(NEEDED) <= about.keys():
        raise ConfigError(str(path), f"its data lacks a policy, {expected}")
    return about


def _policy(path: Path, about: dict[str, Any]) -> Any:
    from stable_baselines3.common.policies import ActorCriticPolicy
    from stable_baselines3.common.save_util import load_from_zip_file

    left = dict.fromkeys(about.keys() - set(READ))
    found, parameters, _ = load_from_zip_file(path, device="cpu", custom_objects=left)
    data = found or {}
    missing = [name for name in NEEDED if name not in data]
    if missing:
        text = f"its {missing[0]} cannot be unpickled here, expected the library that wrote it"
        raise ConfigError(str(path), text)
    if "policy" in data:  # SBX: parameters and all
        return data["policy"]
    options = {k: v for k, v in (data["policy_kwargs"] or {}).items() if k != "device"}
    if issubclass(data["policy_class"], ActorCriticPolicy):
        options["use_sde"] = bool(data.get("use_sde"))
    spaces = data["observation_space"], data["action_space"]
    policy = data["policy_class"](*spaces, lambda _: 0.0, **options)
    policy.load_state_dict(parameters["policy"])
    policy.set_training_mode(False)
    return policy
