"""ONNX files that play: a package's, a converted actor's, and any that keeps to one contract.

A file that tells its contract (:mod:`booster_ray.policy.contract`) is played by it, and refused
where what plays it is something else. A package's ``policy.onnx`` is played with the package's
preprocessor and action function. One that a converted actor or a registered model holds acts as
that was trained. Any other must have one input of rows (n, obs), (1, obs) or (obs,), of floats, for
obs see :func:`fitting`, and one output (n, 12): actions in [-1, 1] for the control of a config, or
N·m for 2 ms if it is named ``torque``. Among several outputs (n, 12) the one named ``action``
counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from booster_ray.config import Config, ConfigError, load
from booster_ray.evaluate.acting import JOINTS, Acting, fitting
from booster_ray.evaluate.target import Target, checkpoint_actor
from booster_ray.policy import package, sai
from booster_ray.policy.actor_files import ONNX
from booster_ray.policy.contract import check, from_metadata, settings_from
from booster_ray.policy.player import BadAction, shaped
from booster_ray.policy.settings import Settings, settings_of
from booster_ray.store.files import ACTOR

if TYPE_CHECKING:
    from torch import Tensor

FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
TORQUE, ACTION = ("torque", "torques"), ("action", "actions")
"""Names that outputs may have."""

MODEL, CONFIG = "model.json", "config.yaml"
"""What a registered model's folder holds besides ``policy.onnx``."""


def onnx_target(path: Path, settings: Settings | None) -> Target:
    """An ONNX file; ``settings`` say how it acts where nothing beside it does.

    Raises:
        ConfigError: it cannot be loaded, or does not keep to the contract; both are told.
        CheckpointError: the converted actor that it is of is damaged.
    """
    network = Network(path)
    told = from_metadata(network.metadata, str(path))
    if (path.parent / package.MANIFEST).is_file():
        if settings is not None:
            raise _not_for(path)
        loaded = package.load(path.parent)
        known = package.settings_of_package(loaded)
        if told is not None:
            check(told, known, str(path), by=package.MANIFEST)
        if told is None or not _takes_observations(network, known):
            return _packaged(path, network, loaded, known)
    else:
        known = _known(path, told, settings)
    settings = known
    name = network.torque or network.action
    fit = fitting(network.size, settings)
    if fit is None or name is None:
        raise ConfigError(str(path), f"{network.told}, {_expected(network, settings)}")
    if network.torque is not None:
        settings = settings._replace(mode="newton_metres", decimation=1)

    def act(seen: np.ndarray, first: np.ndarray) -> np.ndarray:
        return network.run(seen, [name])[0]

    return Target(str(path), "onnx", lambda: Acting(act, settings, fit), path)


def _known(path: Path, told: dict[str, Any] | None, wanted: Settings | None) -> Settings:
    """How a file without a package acts: by what it tells, by what lies beside it, as asked."""
    beside = _settings_beside(path)
    if beside is not None and wanted is not None:
        raise _not_for(path)
    if told is None:
        return beside or wanted or settings_of(Config())
    own = settings_from(told, str(path))
    if beside is not None:
        check(told, beside, str(path), by="the config beside it")
    if wanted is not None:
        check(told, wanted, str(path), by="--config")
    return own


def _not_for(path: Path) -> ConfigError:
    text = f"is not for {path}, which lies beside what tells how it acts"
    return ConfigError("command line", "--config", text)


def _takes_observations(network: Network, settings: Settings) -> bool:
    """Whether a file in a package is its ``joint_targets.onnx``, whatever its name."""
    return network.size == settings.observation_size and network.action is not None


def _expected(network: Network, settings: Settings) -> str:
    sizes = f"[n, {settings.observation_size}]"
    if not settings.features:
        sizes += " (86 or 87 without the tasks, more with the features of --config)"
    text = f"expected one input {sizes} and an output [n, {JOINTS}]"
    if {"torque", "action"} <= set(network.fits):
        text += "; a package's file is played beside its package.json"
    elif len(network.fits) > 1:
        text += ", of several the one named action"
    return text


def _settings_beside(path: Path) -> Settings | None:
    """How a converted actor or a registered model acts, if the file is part of one."""
    if path.name == ONNX and (path.parent / ACTOR).is_file():
        return settings_of(checkpoint_actor(path.parent).config)
    if (path.parent / MODEL).is_file() and (path.parent / CONFIG).is_file():
        return settings_of(load(path.parent / CONFIG).base())
    return None


class Network:
    """An ONNX file of one input, for any number of rows.

    Raises:
        ConfigError: onnxruntime cannot load or run it, or its input is of another kind.
    """

    size: int
    """Numbers in a row of the input."""
    told: str
    """Inputs and outputs, for errors."""
    metadata: dict[str, str]
    """What the file tells of itself."""
    fits: list[str]
    """Outputs of twelve numbers a row."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        self._path = path
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is told once, below
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise ConfigError(str(path), f"onnxruntime cannot load it: {_first(error)}") from None
        taken, given = self._session.get_inputs(), self._session.get_outputs()
        inputs, outputs = (", ".join(_described(v) for v in values) for values in (taken, given))
        self.metadata = self._session.get_modelmeta().custom_metadata_map
        self.told = f"takes {inputs or 'nothing'}, gives {outputs}"
        shape = taken[0].shape if taken else []
        if len(taken) != 1 or taken[0].type not in FLOATS or not self._is_rows(shape):
            text = f"{self.told}, expected one input of floats [n, 89]"
            raise ConfigError(str(path), text)
        self._input, self._type, self.size = taken[0].name, FLOATS[taken[0].type], shape[-1]
        self._rank, self._batch = len(shape), shape[0] if len(shape) == 2 else None
        self.fits = self._probe([v.name for v in given])

    @staticmethod
    def _is_rows(shape: list[Any]) -> bool:
        return len(shape) in (1, 2) and isinstance(shape[-1], int)

    @property
    def torque(self) -> str | None:
        """The output that is torques, if nothing is an action."""
        named = [name for name in self.fits if name.lower() in TORQUE]
        return named[0] if named and len(self.fits) == 1 else None

    @property
    def action(self) -> str | None:
        """The output that is actions, if it is clear which."""
        named = [name for name in self.fits if name.lower() in ACTION]
        if {"torque", "action"} <= set(self.fits):
            return None  # of a package
        if len(named) == 1 or len(self.fits) == 1:
            return (named or self.fits)[0]
        return None

    def run(self, rows: np.ndarray, names: list[str]) -> list[np.ndarray]:
        """Some outputs (n, …) of rows (n, size), in blocks of the batch that the file is made for.

        Raises:
            BadAction: onnxruntime fails.
        """
        given = np.ascontiguousarray(rows, self._type)
        if self._rank == 1:
            parts = [[part[None] for part in self._once(row, names)] for row in given]
        elif not isinstance(self._batch, int):
            return self._once(given, names)
        else:
            size = self._batch
            missing = -len(given) % size
            padded = np.concatenate([given, np.repeat(given[-1:], missing, axis=0)])
            blocks = padded.reshape(-1, size, self.size)
            parts = [self._once(block, names) for block in blocks]
        return [np.concatenate(part)[: len(given)] for part in zip(*parts, strict=True)]

    def _once(self, array: np.ndarray, names: list[str]) -> list[np.ndarray]:
        try:
            outputs: list[np.ndarray] = self._session.run(names, {self._input: array})
        except Exception as error:  # see above
            raise BadAction(f"onnxruntime cannot run it: {_first(error)}") from None
        return outputs

    def _probe(self, names: list[str]) -> list[str]:
        """The outputs of twelve numbers a row; shapes that the file declares may not tell."""
        n = self._batch if isinstance(self._batch, int) else 3
        zeros = np.zeros((self.size,) if self._rank == 1 else (n, self.size), self._type)
        try:
            found = self._once(zeros, names)
        except BadAction as error:
            raise ConfigError(str(self._path), str(error)) from None
        wanted = (JOINTS,) if self._rank == 1 else (n, JOINTS)
        shapes = [np.shape(part) for part in found]
        return [name for name, shape in zip(names, shapes, strict=True) if shape == wanted]


def _described(value: Any) -> str:
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    return f"{value.name} {kind}[{', '.join('n' if d is None else str(d) for d in value.shape)}]"


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


# -- of packages -----------------------------------------------------------------------------------


def _packaged(path: Path, network: Network, loaded: package.Package, settings: Settings) -> Target:
    wanted = ["torque", "action"] if settings.remembers else ["torque"]
    size = settings.observation_size + 2 * JOINTS
    if network.size != size or not set(wanted) <= set(network.fits):
        outputs = " and ".join(f"{name} [n, {JOINTS}]" for name in wanted)
        text = f"expected one input [n, {size}] and {outputs}, by the package.json beside it"
        raise ConfigError(str(path), f"{network.told}, {text}")

    def player() -> sai.Player:
        return loaded.make_player(PackagedNetwork(network, settings))

    return Target(str(path), "onnx", player, path)


class PackagedNetwork:
    """A package's ONNX file in the place of its TorchScript module.

    The module keeps the previous action where the policy sees one; the file leaves that to its
    player, which is this.
    """

    def __init__(self, network: Network, settings: Settings) -> None:
        self._network, self._settings = network, settings
        self._previous = self._held = np.zeros((0, JOINTS), np.float32)

    def __call__(self, told: Tensor) -> Tensor:
        """Shape: (n, obs + 24), and two flags more if the policy remembers, → (n, 12) N·m."""
        import torch

        rows = told.numpy()
        if not self._settings.remembers:
            return torch.from_numpy(self._network.run(rows, ["torque"])[0])
        first, acts, rows = rows[:, -2:-1] > 0.5, rows[:, -1:] > 0.5, rows[:, :-2].copy()
        if len(self._held) != len(rows):  # another batch of episodes
            self._previous = self._held = np.zeros((len(rows), JOINTS), np.float32)
        before = np.where(acts, self._held, self._previous)
        self._previous = np.where(first, np.float32(0.0), before)
        start = self._settings.feature_start("previous_action")
        rows[:, start : start + JOINTS] = self._previous
        torque, self._held = self._network.run(rows, ["torque", "action"])
        return torch.from_numpy(shaped(torque, len(rows), "torques"))
