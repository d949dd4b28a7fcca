"""A policy as one TorchScript module: from what the preprocessor tells to joint torques.

The competition asks for torques every 2 ms, the policy acts every ``decimation`` of these steps.
The preprocessor holds the observation of the last control step, so that the actor gives the same
action until the next one; the PD law that tracks it sees fresh joint positions and velocities.

The actor runs in float64 and its action is rounded to float32. Matrix products differ in their
last bits with the size of the batch; rounded, an action is the same in any batch, so that an
evaluation of thirty worlds and the competition's of two play the same episodes.
"""

# Annotations are evaluated here: TorchScript reads them.
import copy
import warnings

import numpy as np
import torch
from torch import Tensor, nn

from booster_ray.policy.settings import Settings
from booster_ray.soccer import game
from booster_ray.soccer.control import Gains

JOINTS = game.ACTION_SIZE


class Played(nn.Module):
    """Held observation, joint positions and velocities to torques; keeps nothing.

    Args:
        actor: observations (n, obs) to actions (n, 12) in [-1, 1]; copied.
        settings: how it is played.
        dtype: in which it computes.
    """

    default_pose: Tensor
    action_scale: Tensor
    kp: Tensor
    kd: Tensor
    limit: Tensor

    def __init__(
        self, actor: nn.Module, settings: Settings, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        gains: Gains = settings.gains()
        # Gradients would be computed, and a memory would keep their whole history.
        self.actor = copy.deepcopy(actor).to(dtype).eval().requires_grad_(False)
        self.size = settings.observation_size
        self.pd = settings.mode == "pd"
        names = ("default_pose", "action_scale", "kp", "kd", "limit")
        for name, values in zip(names, gains, strict=True):
            self.register_buffer(name, torch.tensor(np.asarray(values), dtype=dtype))

    def torque(self, observation: Tensor, joints: Tensor) -> tuple[Tensor, Tensor]:
        """Torques (n, 12) N·m float32, and the action (n, 12).

        Shapes: (n, obs), (n, 24) joint positions and velocities.
        """
        exact = self.limit.dtype
        action = torch.clamp(self.actor(observation.to(exact)), -1.0, 1.0).float().to(exact)
        if self.pd:
            q, v = joints[:, :12].to(exact), joints[:, 12:24].to(exact)
            target = self.default_pose + self.action_scale * action
            torque = self.kp * (target - q) - self.kd * v
        else:
            torque = self.limit * action
        return torch.maximum(torch.minimum(torque, self.limit), -self.limit).float(), action

    def forward(self, told: Tensor) -> Tensor:
        """Shape: (n, obs + 24) float32, as the preprocessor tells, → (n, 12) N·m float32."""
        return self.torque(told[:, : self.size], told[:, self.size :])[0]


class Remembering(Played):
    """A policy that sees its previous action, which no preprocessor can know: it is kept here.

    The preprocessor tells each world's first step, and in which steps the policy acts.
    """

    previous: Tensor
    """(n, 12): the action before the held one."""
    held: Tensor
    """(n, 12): the action of the last control step."""

    def __init__(self, actor: nn.Module, settings: Settings) -> None:
        super().__init__(actor, settings)
        start = settings.feature_start("previous_action")
        self.before, self.after = start, start + JOINTS
        self.register_buffer("previous", torch.zeros(0, JOINTS, dtype=torch.float64))
        self.register_buffer("held", torch.zeros(0, JOINTS, dtype=torch.float64))

    def forward(self, told: Tensor) -> Tensor:
        """Shape: (n, obs + 24 + 2) float32; the last two are 1 in a first and a control step."""
        first, acts = told[:, -2:-1] > 0.5, told[:, -1:] > 0.5
        if self.held.shape[0] != told.shape[0]:  # another batch of episodes
            self.held = torch.zeros(told.shape[0], 12, dtype=torch.float64)
            self.previous = torch.zeros(told.shape[0], 12, dtype=torch.float64)
        previous = torch.where(acts, self.held, self.previous)
        self.previous = torch.where(first, torch.zeros_like(previous), previous)
        seen = told[:, : self.size].double()
        seen = torch.cat([seen[:, : self.before], self.previous, seen[:, self.after :]], dim=1)
        torque, action = self.torque(seen, told[:, self.size :])
        self.held = action
        return torque


class WithAction(nn.Module):
    """What :class:`Played` does, with the action beside the torque, for players that remember."""

    def __init__(self, played: Played) -> None:
        super().__init__()
        self.played = played

    def forward(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """Shape: (n, obs + 24) float32 → torques (n, 12) N·m and actions (n, 12), float32."""
        size = self.played.size
        torque, action = self.played.torque(told[:, :size], told[:, size:])
        return torque, action.float()


class JointTargets(nn.Module):
    """The joint targets that :class:`Played` tracks, for players with a PD law of their own."""

    def __init__(self, played: Played) -> None:
        super().__init__()
        self.played = played

    def forward(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Shape: (n, obs) float32 → joint targets (n, 12) rad float64, actions (n, 12) float32."""
        exact = self.played.limit.dtype
        action = torch.clamp(self.played.actor(observation.to(exact)), -1.0, 1.0).float()
        return self.played.default_pose + self.played.action_scale * action.to(exact), action


def make_played(actor: nn.Module, settings: Settings) -> Played:
    """The module that plays ``actor``; it remembers where the settings ask for it."""
    return (Remembering if settings.remembers else Played)(actor, settings).eval()


def script(played: nn.Module) -> torch.jit.ScriptModule:
    """The module as TorchScript."""
    with warnings.catch_warnings():
        # torch announces another format; the competition loads this one.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        return torch.jit.script(played)
