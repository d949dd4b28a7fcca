"""From the SAC actor's arrays to a torch policy and back, and that policy on disk.

The mean head alone is kept: the greedy action is tanh of the mean. Parameters are moved, never
rounded: a round trip gives back the same bits.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from booster_ray.config import Config
from booster_ray.policy.actor_files import ConversionError, load_actor, save_actor
from booster_ray.rl.torch_actor import TorchActor, hidden_layers
from booster_ray.soccer import game, observation

__all__ = [
    "ConversionError",
    "check_observation",
    "describe_observation",
    "load_actor",
    "save_actor",
    "to_jax",
    "to_torch",
]

Leaves = dict[str, Any]
"""A checkpoint's ``learner``: flat, NumPy arrays by dotted path."""

CLIP = 10.0
"""``agents.normalizer.CLIP``, written again because that module loads JAX; a test compares."""

_SAC, _DDPG = "actor.params.Dense_0.kernel", "actor.mlp.head.weight"
"""A leaf that tells which learner wrote a checkpoint."""


def to_torch(config: Config, learner: Leaves) -> TorchActor:
    """The greedy policy of a checkpoint's ``learner``, of pretraining (SAC) or finetuning (DDPG).

    A SAC policy trained with ``matmul: bfloat16`` computes in float32 here.

    Args:
        config: that of the run which wrote it.
        learner: see :data:`Leaves`.

    Raises:
        ConversionError: the arrays are of no actor, or of another one than the config describes.
    """
    found = _actor_leaves(learner)
    _check_shapes(config, found)
    sac = config.sac
    actor = TorchActor(
        observation_size=found["mean"].size,
        action_size=found["mlp.head.bias"].size,
        hidden=sac.actor_hidden,
        activation=sac.activation,
        layer_norm=sac.layer_norm,
        clip=CLIP if sac.normalize_observations else None,
    )
    if not sac.normalize_observations:
        found |= {"mean": np.zeros_like(found["mean"])}
        found |= {"deviation": np.ones_like(found["deviation"])}
    for name, value in found.items():
        if not np.isfinite(value).all():
            raise ConversionError(f"the actor's {name} is not finite")
    actor.load_state_dict({name: torch.tensor(value) for name, value in found.items()})
    return actor.eval()


def to_jax(actor: TorchActor, learner: Leaves) -> Leaves:
    """A SAC ``learner`` whose greedy policy is the actor's; all else in it stays.

    The normalizer's statistics change only where the actor normalizes differently, and then keep
    their count. An actor that does not normalize leaves them alone.

    Raises:
        ConversionError: ``learner`` is not SAC's, or its actor is of other shapes.
    """
    if _SAC not in learner:
        raise ConversionError(f"no leaf {_SAC}: the learner to convert into is not SAC's")
    arrays = {k: v.detach().cpu().numpy() for k, v in actor.state_dict().items()}
    current = _actor_leaves(learner)
    if actor.clip == np.inf:
        arrays |= {name: current[name] for name in ("mean", "deviation")}
    for name in arrays.keys() | current.keys():
        shapes = [np.shape(side[name]) if name in side else None for side in (arrays, current)]
        if shapes[0] != shapes[1]:
            raise ConversionError(f"{name} is of shape {shapes[0]}; the learner's is {shapes[1]}")
    result, last = dict(learner), len(hidden_layers(actor.mlp))
    for torch_name, jax_name in _renamed(last, actor.spec()["layer_norm"]):
        result[jax_name] = np.ascontiguousarray(arrays[torch_name].T)
    for torch_name, part in (("mlp.head.weight", "kernel"), ("mlp.head.bias", "bias")):
        head = np.array(learner[f"actor.params.Dense_{last}.{part}"])
        head[..., : actor.action_size] = arrays[torch_name].T
        result[f"actor.params.Dense_{last}.{part}"] = head
    same = all(np.array_equal(arrays[name], current[name]) for name in ("mean", "deviation"))
    return result if same else result | _statistics(arrays, learner)


def _statistics(arrays: Leaves, learner: Leaves) -> Leaves:
    """Normalizer leaves of the actor's mean and deviation, for the count that the learner has."""
    seen = np.maximum(np.float32(learner["normalizer.seen"]), np.float32(1.0))
    square = arrays["deviation"].astype(np.float64) ** 2 * seen
    return {
        "normalizer.seen": seen,
        "normalizer.mean": arrays["mean"].copy(),
        "normalizer.square": square.astype(np.float32),
    }


def _actor_leaves(learner: Leaves) -> Leaves:
    """A learner's actor under the names of :class:`TorchActor`'s state."""
    if _DDPG in learner:
        prefix = "actor."
        found = {k.removeprefix(prefix): v for k, v in learner.items() if k.startswith(prefix)}
    elif _SAC in learner:
        found = _from_sac(learner)
    else:
        raise ConversionError(
            f"the checkpoint's learner has neither {_SAC} (SAC) nor {_DDPG} (DDPG): "
            "it is of another format"
        )
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def _from_sac(learner: Leaves) -> Leaves:
    layers = sum(name.startswith("actor.params.Dense_") for name in learner) // 2 - 1
    found: Leaves = {}
    try:
        norm = "actor.params.LayerNorm_0.scale" in learner
        for torch_name, jax_name in _renamed(layers, norm):
            found[torch_name] = np.asarray(learner[jax_name]).T
        head = np.asarray(learner[f"actor.params.Dense_{layers}.kernel"])
        bias = np.asarray(learner[f"actor.params.Dense_{layers}.bias"])
        found["mlp.head.weight"] = head[:, : len(bias) // 2].T
        found["mlp.head.bias"] = bias[: len(bias) // 2]
        found["mean"] = np.asarray(learner["normalizer.mean"])
        # As in agents.normalizer.deviation, in its float32.
        seen, square = learner["normalizer.seen"], np.asarray(learner["normalizer.square"])
    except KeyError as missing:
        raise ConversionError(f"the checkpoint's learner lacks {missing}") from None
    variance = square / np.maximum(np.float32(seen), np.float32(1.0))
    constant = ~(variance > 1e-6)
    found["deviation"] = np.where(constant, np.float32(1.0), np.sqrt(variance))
    return found


def _renamed(layers: int, layer_norm: bool) -> list[tuple[str, str]]:
    """(torch's, flax's) names of the hidden layers' arrays; each is the other's transpose."""
    names = []
    for i in range(layers):
        here, there = f"mlp.hidden.{i}", "actor.params"
        names += [
            (f"{here}.linear.weight", f"{there}.Dense_{i}.kernel"),
            (f"{here}.linear.bias", f"{there}.Dense_{i}.bias"),
        ]
        if layer_norm:
            names += [
                (f"{here}.norm.weight", f"{there}.LayerNorm_{i}.scale"),
                (f"{here}.norm.bias", f"{there}.LayerNorm_{i}.bias"),
            ]
    return names


def _check_shapes(config: Config, found: Leaves) -> None:
    """Refuse an actor that is not the one that the config describes."""
    sac, inputs = config.sac, found["mean"].size
    widths = [len(found[k]) for k in sorted(found, key=_layer) if k.endswith("linear.bias")]
    if tuple(widths) != tuple(sac.actor_hidden):
        raise ConversionError(
            f"the actor's hidden layers are {widths}; sac.actor_hidden is {list(sac.actor_hidden)}"
        )
    if (norm := any(".norm." in name for name in found)) != sac.layer_norm:
        has = "has" if norm else "has no"
        raise ConversionError(
            f"the actor {has} LayerNorm; sac.layer_norm is {str(sac.layer_norm).lower()}"
        )
    shapes = [("mlp.hidden.0.linear.weight", (widths[0], inputs)), ("deviation", (inputs,))]
    for name, shape in shapes:
        if np.shape(found[name]) != shape:
            raise ConversionError(
                f"the actor's {name} is of shape {np.shape(found[name])}; expected {shape}"
            )
    if not config.world.is_soccer:
        return
    check_observation(inputs, config)
    if (outputs := len(found["mlp.head.bias"])) != game.ACTION_SIZE:
        raise ConversionError(f"the actor has {outputs} outputs; expected {game.ACTION_SIZE}")


def _layer(name: str) -> int:
    """Number of the hidden layer that an array is of."""
    digits = [part for part in name.split(".") if part.isdigit()]
    return int(digits[0]) if digits else -1


# -- sizes of observations -------------------------------------------------------------------


def check_observation(inputs: int, config: Config) -> None:
    """Refuse an actor that sees another observation than a config of the game gives.

    Raises:
        ConversionError: both sizes, by what they are made of.
    """
    given = observation.size(config.observation.features)
    if inputs != given:
        raise ConversionError(
            f"the actor sees {describe_observation(inputs)}; "
            f"the config gives {describe_observation(given)}"
        )


def describe_observation(size: int) -> str:
    """What an observation of that many numbers is, in words."""
    official = game.OBSERVATION_SIZE - len(game.TASKS)
    known = {
        official: "official, without the task one-hot",
        official + 1: "official, with one task",
        game.OBSERVATION_SIZE: "official, with three tasks",
    }
    if size in known:
        return f"{size} numbers ({known[size]})"
    fitting = [
        ", ".join(names)
        for count in range(1, len(observation.FEATURES) + 1)
        for names in itertools.combinations(observation.FEATURES, count)
        if observation.size(names) == size
    ]
    if not fitting:
        return f"{size} numbers (not an observation of the game)"
    return f"{size} numbers (official, with three tasks, and {'; or '.join(fitting)})"
