"""The deterministic policy in torch: what is finetuned, exported and played.

It computes what the greedy SAC actor does (:meth:`booster_ray.rl.sac.learner.Sac.act_mean`),
from raw observations: the normalization is part of the module.
"""

# Annotations are evaluated here: TorchScript reads those of a module's attributes.
from collections.abc import Sequence
from typing import Any, Self, TypedDict

import torch
from torch import Tensor, nn

LAYER_NORM_EPSILON = 1e-6
"""Flax's; torch's own default is 1e-5."""

HEAD_SCALE = 0.01
"""Variance scale of a new head, as in :mod:`booster_ray.rl.sac.networks`."""

ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU, "elu": nn.ELU}


class Spec(TypedDict):
    """Everything about an actor but its numbers; JSON."""

    observation_size: int
    action_size: int
    hidden: list[int]
    activation: str
    layer_norm: bool
    clip: float | None
    """Normalized observations are clipped to ±clip; None: not at all."""


class Hidden(nn.Module):
    """A dense layer, optional LayerNorm, an activation."""

    def __init__(self, inputs: int, width: int, activation: str, layer_norm: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, width)
        norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.norm: nn.Module = norm if layer_norm else nn.Identity()
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (n, inputs) → (n, width)."""
        x = self.activation(self.norm(self.linear(x)))
        return x


class MLP(nn.Module):
    """Hidden layers and a linear head, initialized as their namesakes in flax are.

    Raises:
        ValueError: an unknown activation.
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, activation: str, layer_norm: bool
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"unknown activation {activation!r}; expected one of {known}")
        widths = [inputs, *hidden]
        self.hidden = nn.ModuleList(
            Hidden(before, after, activation, layer_norm)
            for before, after in zip(widths, hidden, strict=False)
        )
        self.head = nn.Linear(widths[-1], outputs)

    def features(self, x: Tensor) -> Tensor:
        """What the head gets. Shape: (n, inputs) → (n, last width)."""
        for layer in self.hidden:
            x = layer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (n, inputs) → (n, outputs)."""
        x = self.head(self.features(x))
        return x

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Draw new parameters: LeCun-normal kernels, a head near zero, no bias."""
        for layer in hidden_layers(self):
            kernel = layer.linear.weight
            # Cut at two deviations and widened to keep the variance, as flax's lecun_normal.
            std = kernel.shape[1] ** -0.5 / 0.87962566103423978
            nn.init.trunc_normal_(kernel, 0.0, std, -2 * std, 2 * std, generator=generator)
            nn.init.zeros_(layer.linear.bias)
        reach = (3.0 * HEAD_SCALE / self.head.weight.shape[1]) ** 0.5
        nn.init.uniform_(self.head.weight, -reach, reach, generator=generator)
        nn.init.zeros_(self.head.bias)


def hidden_layers(mlp: MLP) -> list[Hidden]:
    """The hidden layers, the first one first."""
    return [layer for layer in mlp.hidden if isinstance(layer, Hidden)]


class TorchActor(nn.Module):
    """Raw observations to actions: tanh(MLP(clip((observation - mean) / deviation))).

    A new one does not normalize: its mean is 0 and its deviation 1.

    Args:
        observation_size: numbers in an observation.
        action_size: numbers in an action.
        hidden: widths of the hidden layers.
        activation: ``silu``, ``relu`` or ``elu``.
        layer_norm: LayerNorm before each activation.
        clip: see :class:`Spec`.

    Raises:
        ValueError: an unknown activation.
    """

    mean: Tensor
    """(obs,) float32."""
    deviation: Tensor
    """(obs,) float32, above 0."""

    def __init__(
        self,
        observation_size: int,
        action_size: int,
        hidden: Sequence[int],
        activation: str = "silu",
        layer_norm: bool = True,
        clip: float | None = None,
    ) -> None:
        super().__init__()
        self.observation_size, self.action_size = observation_size, action_size
        self._style = activation, layer_norm, clip
        # Infinity, because TorchScript and ONNX want a number.
        self.clip = float("inf") if clip is None else float(clip)
        self.mlp = MLP(observation_size, hidden, action_size, activation, layer_norm)
        self.register_buffer("mean", torch.zeros(observation_size))
        self.register_buffer("deviation", torch.ones(observation_size))

    def normalize(self, observation: Tensor) -> Tensor:
        """What the network sees of raw observations. Shape: (n, obs) → (n, obs)."""
        x = (observation - self.mean) / self.deviation
        return torch.clamp(x, -self.clip, self.clip)

    def forward(self, observation: Tensor) -> Tensor:
        """Shape: (n, obs) float32 → (n, act) in [-1, 1]."""
        return torch.tanh(self.mlp(self.normalize(observation)))

    @torch.jit.unused
    def spec(self) -> Spec:
        """What :meth:`from_spec` builds an equal, untrained actor from."""
        activation, layer_norm, clip = self._style
        return {
            "observation_size": self.observation_size,
            "action_size": self.action_size,
            "hidden": [layer.linear.out_features for layer in hidden_layers(self.mlp)],
            "activation": activation,
            "layer_norm": layer_norm,
            "clip": clip,
        }

    @classmethod
    def from_spec(cls, spec: Spec | dict[str, Any]) -> Self:
        """An actor of these sizes and options; raises TypeError where some are missing."""
        return cls(**spec)
