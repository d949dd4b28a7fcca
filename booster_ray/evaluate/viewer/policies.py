"""What can be watched, and which checkpoint of a running run is its newest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from booster_ray.config import Config
from booster_ray.evaluate.target import Target, checkpoint_config, load_target
from booster_ray.policy import package
from booster_ray.policy.player import Player
from booster_ray.policy.settings import Settings
from booster_ray.soccer import game
from booster_ray.store.checkpoint import find
from booster_ray.store.checkpoint.store import MANIFEST
from booster_ray.store.files import CONFIG, PROGRESS, SWEEP

Act = Callable[[np.ndarray], np.ndarray]
"""Our observations (n, obs) float32 to actions (n, 12) in [-1, 1]."""


class Policy(NamedTuple):
    """Something that can be watched; of ``act`` and ``make_player`` it has one."""

    name: str
    config: Config
    """How it observes and acts, and the weights of the reward terms that it was trained with."""
    weighted: bool
    """Whether these weights are known."""
    act: Act | None
    """A policy of ours, asked once a control step."""
    make_player: Callable[[], Player] | None
    """What others made, asked every 2 ms: see :class:`~booster_ray.policy.player.Player`."""


def load_policy(text: str, settings: Settings | None = None, *, trust: bool = False) -> Policy:
    """What ``python -m booster_ray.evaluate`` takes as its TARGET; of a run its best.

    Of a sweep that has not ended it is the newest checkpoint of all its trials.

    Raises:
        ConfigError: there is nothing of that name, or it cannot play.
        CheckpointError: a checkpoint that is damaged or of another game.
    """
    path = Path(text).expanduser()
    if (path / SWEEP).is_file() and find.find_checkpoint(path) is None:
        text = next(map(str, checkpoints(path)), text)
    target = load_target(text, settings, trust=trust)
    name = named(Path(text)) if Path(text).exists() else text
    if target.kind not in ("checkpoint", "package") or target.path is None:
        return Policy(name, Config(), False, None, target.make_player)
    if target.kind == "checkpoint":
        return Policy(named(target.path), checkpoint_config(target.path), True, _act(target), None)
    config, weighted = _of_package(package.load(target.path).about)
    return Policy(name, config, weighted, _act(target), None)


def named(path: Path) -> str:
    """Its own name and its folder's, of a checkpoint the run's: ``striker/best_000000700032``."""
    return "/".join(path.absolute().parts[-2:])


def _act(target: Target) -> Act:
    """The actor of a module of :mod:`booster_ray.policy.played`, without its PD law."""
    import torch

    module: Any = target.make_player().model  # type: ignore[attr-defined]

    def act(observation: np.ndarray) -> np.ndarray:
        joints = torch.zeros(len(observation), 2 * game.ACTION_SIZE)
        with torch.no_grad():
            action = module.torque(torch.tensor(observation), joints)[1]
        return np.asarray(action.numpy(), np.float32)

    return act


def _of_package(about: dict[str, Any]) -> tuple[Config, bool]:
    """Its config; of a package that keeps none its settings alone, with reward weights unknown."""
    try:
        return Config.model_validate(about["config"]), True
    except (KeyError, ValidationError):
        told = about["settings"]
    observed = ("features", "gait_frequency")
    return Config.model_validate({
        "observation": {name: told[name] for name in observed},
        "control": {name: value for name, value in told.items() if name not in observed},
    }), False  # fmt: skip


def watched_folder(text: str) -> Path | None:
    """The run or sweep whose checkpoints may come while somebody looks; None: there is none."""
    path = Path(text).expanduser()
    for folder in (path, path.parent):
        if any((folder / name).is_file() for name in (SWEEP, CONFIG, PROGRESS)):
            return None if find.is_policy(folder) else folder
    return None


def checkpoints(folder: Path) -> list[Path]:
    """All whole checkpoints of a run or sweep, the newest first."""
    places = {
        place
        for below in ("", "trials/*/", "trials/*/seed_*/")
        for kind in ("best_*", "step_*")
        for place in folder.glob(below + kind)
    }
    found: list[tuple[float, str, Path]] = []
    for place in places:
        try:
            found.append(((place / MANIFEST).stat().st_mtime, str(place), place))
        except OSError:
            continue  # not whole yet, or deleted by its run since
    return [place for *_, place in sorted(found, reverse=True)]
