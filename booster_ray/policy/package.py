"""A submission package on disk: written whole or not at all, and loaded as sai_rl loads it.

``policy.pt`` the TorchScript module, ``preprocessor.py`` and ``action_function.py`` the text
that sai_rl runs, ``policy.onnx`` the same module for other players, ``joint_targets.onnx`` the
policy for players with a PD law of their own, ``package.json`` where it comes from, how it is
played (its contract) and what the gates said.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from booster_ray.policy import contract, sai
from booster_ray.policy.preprocessor import render, render_action
from booster_ray.policy.settings import Settings
from booster_ray.soccer import game

if TYPE_CHECKING:
    from torch import nn

MANIFEST, POLICY, ONNX = "package.json", "policy.pt", "policy.onnx"
JOINT_TARGETS = "joint_targets.onnx"
"""Of a policy under a PD law."""
PREPROCESSOR, ACTION = "preprocessor.py", "action_function.py"
FORMAT = "booster_ray-package/1"


class Package(NamedTuple):
    """A package, loaded."""

    directory: Path
    about: dict[str, Any]
    """Of ``package.json``."""
    make_player: Callable[..., sai.Player]
    """A new player for each batch of episodes; of another module than policy.pt if given one."""


def write(
    directory: Path,
    actor: nn.Module,
    settings: Settings,
    about: dict[str, Any] | None = None,
    check: Callable[[Path], dict[str, Any]] | None = None,
) -> Package:
    """Make the package of a policy; it appears under its name only when it is whole and plays.

    Args:
        directory: must not exist.
        actor: observations (n, obs) float32 to actions (n, 12) in [-1, 1]; can be scripted.
        settings: how it is played.
        about: JSON that is kept in ``package.json``.
        check: looks at the whole package before it gets its name; what it gives is kept too.

    Raises:
        sai.Rejected: the directory exists, or sai_rl would refuse the package or fail on it.
        OSError: it cannot be written.
    """
    from booster_ray.policy.played import make_played, script

    with _appearing(directory) as temp:
        played = make_played(actor, settings)
        script(played).save(str(temp / POLICY))
        (temp / PREPROCESSOR).write_text(render(settings), encoding="utf-8")
        (temp / ACTION).write_text(render_action(), encoding="utf-8")
        onnx = _write_networks(temp, actor, settings)
        manifest = {
            "format": FORMAT,
            "settings": settings.to_dict(),
            "contract": contract.contract_of(settings),
            "onnx_is_submittable": not settings.remembers,
            **(about or {}),
            "sha256": _checksums(temp, (POLICY, PREPROCESSOR, ACTION, *onnx)),
        }
        _write_manifest(temp, manifest)
        rehearse(load(temp))
        if check is not None:
            _write_manifest(temp, manifest | check(temp))
    return load(directory)


def renew(source: Path, directory: Path) -> Package:
    """A package of an older release with the ONNX files and the contract that this one writes.

    What sai_rl plays stays as it is, byte for byte, and so does what the gates said of it.

    Args:
        source: the package.
        directory: must not exist.

    Raises:
        sai.Rejected: the directory exists, or the network in ``policy.pt`` is not the one that
            ``package.json`` describes.
        ConfigError: ``package.json`` does not tell how it is played.
        OSError: it cannot be written.
    """
    loaded = load(source)
    settings = settings_of_package(loaded)
    actor = _actor_of(loaded, settings)
    with _appearing(directory) as temp:
        for name in (POLICY, PREPROCESSOR, ACTION):
            shutil.copy(source / name, temp / name)
        onnx = _write_networks(temp, actor, settings)
        sums = _checksums(temp, (POLICY, PREPROCESSOR, ACTION, *onnx))
        about = loaded.about | {"contract": contract.contract_of(settings), "sha256": sums}
        _write_manifest(temp, about)
    return load(directory)


@contextmanager
def _appearing(directory: Path) -> Iterator[Path]:
    """A folder to write in, which gets its name when all is written; raises as :func:`write`."""
    if os.path.lexists(directory):
        raise sai.Rejected(f"{directory}: exists, choose another folder with --output")
    directory.parent.mkdir(parents=True, exist_ok=True)
    temp = directory.with_name(f".{directory.name}.tmp-{os.getpid()}")
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    try:
        yield temp
        temp.rename(directory)
    finally:
        shutil.rmtree(temp, ignore_errors=True)


def _write_networks(folder: Path, actor: nn.Module, settings: Settings) -> list[str]:
    """The ONNX files; their names."""
    from booster_ray.policy.onnx_file import write_joint_targets, write_onnx

    write_onnx(folder / ONNX, actor, settings)
    targets = write_joint_targets(folder / JOINT_TARGETS, actor, settings)
    return [ONNX, JOINT_TARGETS] if targets else [ONNX]


def _checksums(folder: Path, names: Iterable[str]) -> dict[str, str]:
    return {name: sha256(folder / name) for name in names}


def _actor_of(loaded: Package, settings: Settings) -> nn.Module:
    """The network in ``policy.pt``, rebuilt: its numbers there, its shape by ``package.json``.

    Raises:
        sai.Rejected: they do not fit each other.
    """
    from booster_ray.policy.convert import CLIP
    from booster_ray.rl.torch_actor import TorchActor

    state = loaded.make_player().model.state_dict()
    leaves = {k.removeprefix("actor."): v for k, v in state.items() if k.startswith("actor.")}
    try:
        sac = loaded.about["config"]["sac"]
        actor = TorchActor(
            settings.observation_size,
            game.ACTION_SIZE,
            sac["actor_hidden"],
            sac["activation"],
            sac["layer_norm"],
            CLIP if sac["normalize_observations"] else None,
        )
        actor.load_state_dict({name: value.float() for name, value in leaves.items()})
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        text = f"{loaded.directory / POLICY}: is not the network of {MANIFEST}: {why}"
        raise sai.Rejected(text) from None
    _check_same(loaded, actor.eval(), settings)
    return actor


def _check_same(loaded: Package, actor: nn.Module, settings: Settings) -> None:
    """Refuse an actor that gives other torques than ``policy.pt``."""
    import torch

    from booster_ray.policy.played import make_played

    width = settings.observation_size + 24 + 2 * settings.remembers
    told = torch.from_numpy(np.random.default_rng(0).standard_normal((7, width))).float()
    with torch.no_grad():
        gap = loaded.make_player().model(told) - make_played(actor, settings)(told)
    if not float(gap.abs().max()) < 1e-3:
        text = f"{loaded.directory / POLICY}: gives other torques than the network of {MANIFEST}"
        raise sai.Rejected(text)


def _write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    text = json.dumps(manifest, indent=2) + "\n"
    (directory / MANIFEST).write_text(text, encoding="utf-8")


def load(directory: Path) -> Package:
    """A package whose parts sai_rl would load.

    Raises:
        sai.Rejected: a part is missing, damaged, or would be refused.
        ConfigError: its contract is not that of the game, or not that of its own settings.
    """
    about = _read_manifest(directory / MANIFEST)
    texts = {name: _read(directory / name) for name in (PREPROCESSOR, ACTION)}
    module = sai.load_model(directory / POLICY)

    def player(model: Any = None) -> sai.Player:
        return sai.Player(
            copy.deepcopy(module) if model is None else model,
            sai.load_code(texts[PREPROCESSOR], "class", str(directory / PREPROCESSOR)),
            sai.load_code(texts[ACTION], "function", str(directory / ACTION)),
        )

    player()  # what would be refused is refused here
    loaded = Package(directory, about, player)
    if "contract" in about:
        # It brings its own observation: what the game lays down is what must be alike.
        keys = (*contract.WORLD, *contract.CONTROL)
        place = f"{directory / MANIFEST}: contract"
        contract.check(about["contract"], settings_of_package(loaded), place, keys)
    return loaded


def settings_of_package(loaded: Package) -> Settings:
    """How a package is played.

    Raises:
        ConfigError: ``package.json`` does not tell it as the export writes it.
    """
    place = str(loaded.directory / MANIFEST)
    return contract.read_settings(loaded.about.get("settings"), place)


def rehearse(package: Package) -> None:
    """Ask for an action in the first instants of each task, alone and in a batch.

    Raises:
        sai.Rejected: its code fails, or gives something that is no action.
    """
    from booster_ray.envs.native import NativeWorld
    from booster_ray.envs.official_view import official_view
    from booster_ray.policy.player import BadAction, checked

    gains = Settings().gains()
    for task in game.TASKS:
        world = NativeWorld([task], 3, gains, mode="newton_metres", decimation=1)
        world.reset(0)
        player = package.make_player()
        try:
            for _ in range(2):
                view = official_view(world.frame(), task)
                world.step(checked(player(*view), np.ones(3, bool)))
            # sai_rl also shows a single state, without a leading dimension in its infos.
            observation, info = official_view(world.frame(), task)
            single = {name: values[0] for name, values in info.items()}
            alone = package.make_player()
            checked(alone(np.zeros_like(observation[:1]), single), np.ones(1, bool))
        except (sai.Rejected, BadAction) as error:
            raise sai.Rejected(f"{package.directory}: {task}: {error}") from None
        finally:
            world.close()


def _read_manifest(path: Path) -> dict[str, Any]:
    text = _read(path)
    try:
        about = json.loads(text)
    except ValueError:
        raise sai.Rejected(f"{path}: not JSON, or cut short") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        raise sai.Rejected(f"{path}: format is {found!r}, expected {FORMAT!r}")
    return about


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise sai.Rejected(f"{path}: missing") from None
    except OSError as error:
        raise sai.Rejected(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise sai.Rejected(f"{path}: not text") from None


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
