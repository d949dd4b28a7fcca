"""The played policy as ONNX, for players other than torch: in torques, and in joint targets.

Both files tell the policy's contract in their metadata (:mod:`booster_ray.policy.contract`).
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from booster_ray.policy.actor_files import quiet_exporters
from booster_ray.policy.contract import contract_of, to_metadata
from booster_ray.policy.onnx_export import export_onnx
from booster_ray.policy.played import JointTargets, Played, WithAction
from booster_ray.policy.sai import Rejected
from booster_ray.policy.settings import Settings

TOLERANCE = 1e-3
"""N·m: how far its torques may be from TorchScript's."""
TARGET_TOLERANCE = 1e-6
"""rad: the same of joint targets."""


def write_onnx(path: Path, actor: nn.Module, settings: Settings) -> None:
    """Input ``told`` (n, obs + 24), outputs ``torque`` N·m and ``action``, both (n, 12).

    It remembers nothing: who plays a policy that sees its previous action writes that into its
    place in the input.

    Raises:
        Rejected: the file, loaded again, gives other torques.
    """
    # In float32: onnxruntime lacks some functions in float64.
    module = WithAction(Played(actor, settings, torch.float32)).eval()
    rng = np.random.default_rng(0)
    told = rng.standard_normal((7, settings.observation_size + 24)).astype(np.float32)
    torque = _written(path, module, "told", told, ["torque", "action"], settings)
    with torch.no_grad():
        expected = Played(actor, settings)(torch.from_numpy(told)).numpy()
    gap = float(np.abs(torque - expected).max())
    if not gap < TOLERANCE:
        raise Rejected(f"{path.name}: gives torques that are off by {gap:.1e} N·m")


def _written(
    path: Path, module: nn.Module, name: str, seen: np.ndarray, outputs: list[str],
    settings: Settings,
) -> np.ndarray:  # fmt: skip
    """Write a module with its contract; what the file, loaded again, first gives for ``seen``."""
    import onnxruntime

    with quiet_exporters():
        metadata = to_metadata(contract_of(settings))
        export_onnx(path, module, seen.shape[1], name, outputs, metadata)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    first: np.ndarray = session.run(None, {name: seen})[0]
    return first


def write_joint_targets(path: Path, actor: nn.Module, settings: Settings) -> bool:
    """Input ``observation`` (n, obs), outputs ``joint_target`` rad and ``action``, both (n, 12).

    For who tracks joint targets with a PD law of their own, as a robot's SDK does; once a control
    step. It remembers nothing, as above. Inside it computes as TorchScript does, in float64, and
    rounds the action to float32: so it plays the same episodes. The targets are float64.

    Returns:
        Whether there is such a file: a policy that gives torques has no targets.

    Raises:
        Rejected: the file, loaded again, gives other targets.
    """
    if settings.mode != "pd":
        return False
    played = Played(actor, settings)
    module = JointTargets(_without_elu(played)).eval()
    seen = np.random.default_rng(0).standard_normal((7, settings.observation_size))
    seen = seen.astype(np.float32)
    target = _written(path, module, "observation", seen, ["joint_target", "action"], settings)
    with torch.no_grad():
        expected = JointTargets(played)(torch.from_numpy(seen))[0].numpy()
    gap = float(np.abs(target - expected).max())
    if not gap < TARGET_TOLERANCE:
        raise Rejected(f"{path.name}: gives joint targets that are off by {gap:.1e} rad")
    return True


class _Elu(nn.Module):
    """ELU of the functions that onnxruntime has in float64."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, torch.exp(torch.clamp(x, max=0.0)) - 1.0)


def _without_elu(played: Played) -> Played:
    """A copy with :class:`_Elu` in place of torch's."""
    played = copy.deepcopy(played)
    for parent in list(played.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.ELU):
                setattr(parent, name, _Elu())
    return played
