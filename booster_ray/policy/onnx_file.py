"""The played policy as ONNX, for players other than torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from booster_ray.policy.actor_files import quiet_exporters
from booster_ray.policy.onnx_export import export_onnx
from booster_ray.policy.played import Played, WithAction
from booster_ray.policy.sai import Rejected
from booster_ray.policy.settings import Settings

TOLERANCE = 1e-3
"""N·m: how far its torques may be from TorchScript's."""


def write_onnx(path: Path, actor: nn.Module, settings: Settings) -> None:
    """Input ``told`` (n, obs + 24), outputs ``torque`` N·m and ``action``, both (n, 12).

    It remembers nothing: who plays a policy that sees its previous action writes that into its
    place in the input.

    Raises:
        Rejected: the file, loaded again, gives other torques.
    """
    import onnxruntime

    # In float32: onnxruntime lacks some functions in float64.
    module = WithAction(Played(actor, settings, torch.float32)).eval()
    rng = np.random.default_rng(0)
    told = rng.standard_normal((7, settings.observation_size + 24)).astype(np.float32)
    with quiet_exporters():
        export_onnx(path, module, told.shape[1], "told", ["torque", "action"])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    torque = session.run(None, {"told": told})[0]
    with torch.no_grad():
        expected = Played(actor, settings)(torch.from_numpy(told)).numpy()
    gap = float(np.abs(torque - expected).max())
    if not gap < TOLERANCE:
        raise Rejected(f"{path.name}: gives torques that are off by {gap:.1e} N·m")
