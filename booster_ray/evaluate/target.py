"""What can be evaluated: a checkpoint, a run, a package, an ONNX file, a zip, a Python object."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from booster_ray.config import Config, ConfigError
from booster_ray.evaluate.called import import_object, makes_players
from booster_ray.policy import package, sai
from booster_ray.policy.player import Player
from booster_ray.policy.preprocessor import render, render_action
from booster_ray.policy.settings import Settings, settings_of
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint import CheckpointError, find
from booster_ray.store.checkpoint.store import MANIFEST
from booster_ray.store.files import ACTOR

if TYPE_CHECKING:
    from torch import nn

    from booster_ray.rl.torch_actor import TorchActor


class Target(NamedTuple):
    """Something that plays."""

    name: str
    kind: str
    """``checkpoint``, ``package``, ``onnx``, ``object``, or the library that wrote a zip."""
    make_player: Callable[[], Player]
    """A new one for each batch of episodes."""
    path: Path | None = None
    """Of a file or folder."""


class Actor(NamedTuple):
    """A checkpoint's policy, converted to torch."""

    config: Config
    module: TorchActor
    learner: dict[str, Any]
    """The checkpoint's leaves that it was read from; none of a converted actor."""


def load_target(text: str, settings: Settings | None = None, *, trust: bool = False) -> Target:
    """What the command line's TARGET means.

    Args:
        text: the TARGET.
        settings: how a policy acts that does not tell; None: as the default config.
        trust: whether a zip's pickled parts may be read.

    Raises:
        ConfigError: there is nothing of that name, or it cannot play.
        CheckpointError: a checkpoint that is damaged or of another game.
    """
    path = Path(text).expanduser()
    if path.is_dir():
        _tells_its_own(text, settings)
        if (path / package.MANIFEST).is_file():
            return package_target(path)
        return checkpoint_target(find_checkpoint(path))
    if path.is_file() and path.suffix == ".onnx":
        from booster_ray.evaluate.onnx_target import onnx_target

        return onnx_target(path, settings)
    if path.is_file() and path.suffix == ".zip":
        from booster_ray.evaluate.predicting import zip_target

        return zip_target(path, settings, trust)
    if ":" in text and not path.exists():
        return object_target(text, settings)
    what = "another file" if path.exists() else "not there"
    raise ConfigError(
        "command line", "TARGET",
        f"{text} is {what}, expected a checkpoint, a run, an exported package, a .onnx or .zip "
        "file, or module:object",
    )  # fmt: skip


def find_checkpoint(path: Path) -> Path:
    """The checkpoint or converted actor that a directory is, or the best of a run or sweep.

    Raises:
        ConfigError: it is none of these.
    """
    if (found := find.find_checkpoint(path)) is not None:
        return found
    raise ConfigError(
        str(path),
        "holds no checkpoint, expected manifest.json, best_*/, step_*/ or best/checkpoint/ in it",
    )


def checkpoint_actor(path: Path) -> Actor:
    """The policy of a checkpoint, whichever stage wrote it.

    Raises:
        CheckpointError: it is damaged, of another release or game, or its parts do not fit.
    """
    from booster_ray.policy.actor_files import load_actor as load_converted
    from booster_ray.policy.convert import check_observation, to_torch

    if (path / ACTOR).is_file():
        module, metadata = load_converted(path)
        learner: dict[str, Any] = {}
        config = _config(path / ACTOR, metadata)
    else:
        tree, metadata = checkpoint.load(path, keys=["learner"])
        learner, config = tree["learner"], _config(path / MANIFEST, metadata)
    if not config.world.is_soccer:
        kind = config.world.kind
        raise CheckpointError(f"{path}: was trained in {kind}, expected a policy of the game")
    try:
        if learner:
            module = to_torch(config, learner)
        else:
            check_observation(module.observation_size, config)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return Actor(config, module, learner)


def checkpoint_config(path: Path) -> Config:
    """The config of a checkpoint or converted actor, without its networks.

    Raises:
        CheckpointError: it is damaged, or of another release.
    """
    if (path / ACTOR).is_file():
        from booster_ray.policy.actor_files import load_actor as load_converted

        return _config(path / ACTOR, load_converted(path)[1])
    return _config(path / MANIFEST, checkpoint.load(path, keys=())[1])


def _config(file: Path, metadata: dict[str, Any]) -> Config:
    if "config" not in metadata:
        raise CheckpointError(f"{file}: tells no config: not of a run")
    try:
        return Config.model_validate(metadata["config"])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise CheckpointError(
            f"{file}: config.{key}: {first['msg']}: written by another release?"
        ) from None


def checkpoint_target(path: Path) -> Target:
    """A checkpoint, played as the package that would be made of it."""
    actor = checkpoint_actor(path)
    return actor_target(str(path), actor.module, settings_of(actor.config), path)


def actor_target(name: str, actor: nn.Module, settings: Settings, path: Path | None) -> Target:
    """A torch policy, played as the package that would be made of it."""
    from booster_ray.policy.played import make_played, script

    # Scripted once; each player takes a copy, because a module may remember.
    module = script(make_played(actor, settings))
    text = render(settings)

    def player() -> Player:
        return sai.Player(
            copy.deepcopy(module),
            sai.load_code(text, "class", "preprocessor"),
            sai.load_code(render_action(), "function", "action_function"),
        )

    return Target(name, "checkpoint", player, path)


def package_target(path: Path) -> Target:
    """An exported package.

    Raises:
        ConfigError: a part is missing, changed since the export, or would be refused by sai_rl.
    """
    loaded = package.load(path)
    return Target(str(path), "package", loaded.make_player, path)


def object_target(text: str, settings: Settings | None = None) -> Target:
    """``module:object``: a callable of official observations and infos, or a class of such.

    It is called with observations (n, D) and infos (n, …) every 2 ms and gives torques (n, 12) in
    N·m, or ``(torques, state)``. A class is made anew for each batch of episodes; a function is
    shared. An object with ``predict()`` is played as Stable-Baselines3's are.

    Raises:
        ConfigError: it cannot be imported, called or made, or ``settings`` are not for it.
    """
    from booster_ray.evaluate.predicting import is_policy, predicting_target

    found = import_object(text)
    if not inspect.isclass(found) and is_policy(found):  # a torch module can be called, too
        return predicting_target(text, "object", found, settings)
    _tells_its_own(text, settings)
    return Target(text, "object", makes_players(text, found))


def _tells_its_own(text: str, settings: Settings | None) -> None:
    """Refuse settings for what has its own."""
    if settings is not None:
        what = f"is not for {text}, expected a .onnx or .zip file, or an object with predict()"
        raise ConfigError("command line", "--config", what)
