"""Who is recorded: a checkpoint, a package or an expert, as actions at the control rate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from booster_ray.config import Config, ConfigError, load
from booster_ray.policy.settings import Settings, settings_of

if TYPE_CHECKING:
    from torch import nn

    from booster_ray.envs.native import NativeWorld

Act = Callable[["NativeWorld", np.ndarray], np.ndarray]
"""(worlds, their observations (n, obs)) → actions (n, 12) in [-1, 1]."""


class Recorded(NamedTuple):
    """A policy and how it is played."""

    name: str
    kind: str
    """``checkpoint``, ``package`` or ``expert``."""
    settings: Settings
    config: dict[str, Any] | None
    """Of its training, where it is known."""
    act: Act
    digest: str | None = None
    """Of its files, where it has some: what two recordings of one dataset must share."""


def load_recorded(text: str, config: str | None) -> Recorded:
    """What the command line's TARGET means.

    Args:
        text: a checkpoint, run or sweep, a package, or ``module:class`` of a demonstrator.
        config: control and observation of an expert; None: the defaults.

    Raises:
        ConfigError: it is none of these, or cannot be made.
        CheckpointError: a damaged checkpoint.
    """
    from booster_ray.policy import package

    path = Path(text).expanduser()
    if not path.is_dir():
        if ":" in text and not path.exists():
            return _expert(text, load(config).base() if config else Config())
        expected = "expected a checkpoint, run, sweep or package, or module:class of an expert"
        what = "is a file" if path.exists() else "is not there"
        raise ConfigError("command line", "TARGET", f"{text} {what}, {expected}")
    if config is not None:
        text = f"is not for {text}, which tells how it acts, expected an expert"
        raise ConfigError("command line", "--config", text)
    return _package(path) if (path / package.MANIFEST).is_file() else _checkpoint(path)


def _checkpoint(path: Path) -> Recorded:
    from booster_ray.evaluate.target import checkpoint_actor, find_checkpoint
    from booster_ray.store.gate_results import digest

    found = find_checkpoint(path)
    actor = checkpoint_actor(found)
    settings, config = settings_of(actor.config), actor.config.to_dict()
    act = networked(actor.module.double().eval())
    return Recorded(str(path), "checkpoint", settings, config, act, digest(found))


def _package(path: Path) -> Recorded:
    from booster_ray.policy import package, sai

    about = package.load(path).about
    module = sai.load_model(path / package.POLICY)
    actor = getattr(module, "actor", None)
    if actor is None:
        raise ConfigError(str(path), "policy.pt has no actor in it, expected one of our packages")
    told: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in about["settings"].items()
    }
    digest = about["sha256"][package.POLICY]
    act = networked(actor)
    return Recorded(str(path), "package", Settings(**told), about.get("config"), act, digest)


def _expert(text: str, config: Config) -> Recorded:
    from booster_ray.envs.options import gains
    from booster_ray.policy.experts import actions, load_demonstrator

    if config.control.mode != "pd":
        raise ConfigError("control.mode", f"is {config.control.mode}, expected pd for an expert")
    try:
        targets = load_demonstrator(text).targets
    except ConfigError as error:
        told = str(error).removeprefix("imitation.demonstrator: ")
        raise ConfigError("command line", "TARGET", told) from None
    ask = partial(actions, targets)

    def act(world: NativeWorld, observation: np.ndarray) -> np.ndarray:
        return np.clip(ask(world, gains(config)), -1.0, 1.0)

    return Recorded(text, "expert", settings_of(config), config.to_dict(), act)


def networked(actor: nn.Module) -> Act:
    """A torch policy in float64: its action, rounded, is the same in any batch, and played's own.

    See :mod:`booster_ray.policy.played`.
    """
    import torch

    def act(world: NativeWorld, observation: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            given = actor(torch.tensor(observation, dtype=torch.float64))
            action: np.ndarray = torch.clamp(given, -1.0, 1.0).float().numpy()
        return action

    return act
