"""What finetuning begins with: a trained policy found by its path, or an untrained one."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from booster_ray.config import Config, ConfigError
from booster_ray.envs.make import sizes
from booster_ray.envs.options import reward_options
from booster_ray.policy.actor_files import ConversionError, load_actor
from booster_ray.policy.convert import CLIP, describe_observation, to_torch
from booster_ray.rl.torch_actor import TorchActor, hidden_layers
from booster_ray.runtime.seeding import stream_seed
from booster_ray.soccer import observation
from booster_ray.soccer.rewards import TERMS
from booster_ray.store import checkpoint
from booster_ray.store.checkpoint.find import find_checkpoint
from booster_ray.store.files import ACTOR
from booster_ray.track.fetch import start_path

if TYPE_CHECKING:
    from booster_ray.rl.replay import Replay

# Nothing here loads JAX: a path is checked before the runtime's variables are set.

_log = logging.getLogger(__name__)


class Start(NamedTuple):
    """Where finetuning begins."""

    actor: TorchActor
    adapt: bool
    """Whether the normalization of observations is still to be learned."""
    kept: Replay | None = None
    """Transitions of the pretraining."""


class Origin(NamedTuple):
    """A trained policy and what it was trained with."""

    path: Path
    actor: TorchActor
    config: Config


def begin(config: Config) -> Start:
    """The start that a config asks for.

    Raises:
        ConfigError: ``start_from`` leads nowhere, or to a policy of other sizes or control.
        CheckpointError: what is there is damaged or no policy.
    """
    if config.start_from is None:
        return from_nothing(config)
    origin = find(config)
    actor = grown(origin.actor, origin.config.observation.features, config.observation.features)
    return Start(actor, adapt=False, kept=_kept(config, origin))


def from_nothing(config: Config, kept: dict[str, Any] | None = None) -> Start:
    """An untrained actor, and of a checkpoint that is about to be restored its ``kept``."""
    observation_size, action_size = sizes(config)
    sac = config.sac
    clip = CLIP if sac.normalize_observations else None
    style = sac.activation, sac.layer_norm, clip
    actor = TorchActor(observation_size, action_size, sac.actor_hidden, *style)
    actor.mlp.initialize(torch.Generator().manual_seed(stream_seed(config.seed, "actor")))
    adapt = config.start_from is None and sac.normalize_observations
    return Start(actor, adapt, _replay(config, kept) if kept else None)


# -- a trained policy ------------------------------------------------------------------------


def find(config: Config) -> Origin:
    """The policy at ``start_from``, if the config can go on with it; raises as :func:`begin`."""
    path = _locate(start_path(config))
    if (path / ACTOR).exists():
        actor, metadata = load_actor(path)
        learner = None
    else:
        tree, metadata = checkpoint.load(path, keys=["learner"])
        actor, learner = None, tree["learner"]
    if "config" not in metadata:
        raise ConversionError(f"{path}: does not say with which config it was trained")
    trained = Config.model_validate(metadata["config"])
    _check_alike(config, trained, path)
    try:
        actor = actor or to_torch(trained, learner or {})
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from None
    _check_network(config, actor, path)
    return Origin(path, actor, trained)


def _locate(path: Path) -> Path:
    """The checkpoint that a path names."""
    if (found := find_checkpoint(path)) is not None:
        return found
    text = "no checkpoint there" if path.exists() else "no such file or folder"
    raise ConfigError(
        "start_from", f"{path}: {text}, expected a checkpoint, or the folder of a run or sweep"
    )


def _check_alike(config: Config, trained: Config, path: Path) -> None:
    """What an action does, and what the first observations are, must not change."""
    if config.world.is_soccer != trained.world.is_soccer:
        raise ConfigError(
            "world.kind", f"is {config.world.kind}; {path} was trained in {trained.world.kind}"
        )
    if not config.world.is_soccer:
        return
    for name in type(config.control).model_fields:
        ours, theirs = getattr(config.control, name), getattr(trained.control, name)
        if ours != theirs:
            raise ConfigError(
                f"control.{name}", f"is {ours}; {path} was trained with {theirs}, expected the same"
            )
    ours, theirs = config.observation.features, trained.observation.features
    if lost := [name for name in theirs if name not in ours]:
        raise ConfigError(
            "observation.features",
            f"lacks {', '.join(lost)}: {path} sees "
            f"{describe_observation(observation.size(theirs))}, expected all of {list(theirs)}",
        )
    if "clock" in theirs and config.observation != trained.observation.model_copy(
        update={"features": ours}
    ):
        raise ConfigError(
            "observation.gait_frequency",
            f"is {config.observation.gait_frequency}; {path} was trained with "
            f"{trained.observation.gait_frequency}, expected the same",
        )


def _check_network(config: Config, actor: TorchActor, path: Path) -> None:
    spec, sac = actor.spec(), config.sac
    for name, theirs, ours in (
        ("actor_hidden", spec["hidden"], list(sac.actor_hidden)),
        ("activation", spec["activation"], sac.activation),
        ("layer_norm", spec["layer_norm"], sac.layer_norm),
        ("normalize_observations", spec["clip"] is not None, sac.normalize_observations),
    ):
        if theirs != ours:
            raise ConfigError(f"sac.{name}", f"is {ours}; the actor of {path} has {theirs}")


@torch.no_grad()
def grown(actor: TorchActor, had: Sequence[str], has: Sequence[str]) -> TorchActor:
    """The same policy for an observation with more features, to which it does not listen yet."""
    if list(had) == list(has):
        return actor
    size, places = observation.size(has), observation.places(has)
    old = np.concatenate([np.arange(size)[places[name]] for name in observation.places(had)])
    result = TorchActor.from_spec({**actor.spec(), "observation_size": size})
    state = {k: v for k, v in actor.state_dict().items() if not k.startswith("mlp.hidden.0.linear")}
    for name, fresh in (("mean", result.mean), ("deviation", result.deviation)):
        fresh[old] = state[name]
        state[name] = fresh
    result.load_state_dict(state, strict=False)
    before, after = hidden_layers(actor.mlp)[0].linear, hidden_layers(result.mlp)[0].linear
    after.weight.zero_()
    after.weight[:, old] = before.weight
    after.bias.copy_(before.bias)
    return result


# -- its transitions -------------------------------------------------------------------------


def _kept(config: Config, origin: Origin) -> Replay | None:
    """The newest transitions of the run that trained the policy, as many as may be sampled."""
    from booster_ray.rl.replay import newest

    share = config.ddpg.pretrain_share
    if not share:
        return None
    if reason := _rewarded_otherwise(config, origin.config):
        _log.warning("ddpg.pretrain_share: not used, because %s", reason)
        return None
    for path in (origin.path, *sorted(origin.path.parent.glob("step_*"), reverse=True)):
        try:
            tree, _ = checkpoint.load(path, keys=["replay"])
        except checkpoint.CheckpointError:
            continue
        # Worlds on a device keep a ring for each task, and an older release kept no log.
        if {"added", "rows"} <= tree["replay"].keys():
            most = int(share * config.ddpg.replay_size)
            return _replay(config, newest(tree["replay"], most))
    text = "ddpg.pretrain_share: not used, because no replay stands beside %s (a sweep keeps them "
    _log.warning(text + "with checkpoint.keep_replay=true)", origin.path)
    return None


def _paid_in_a_step(config: Config) -> dict[str, float]:
    """What each term pays in a control step, in the unit of its weight."""
    told = reward_options(config)
    return {
        name: weight * (1.0 if TERMS[name].event else told["reward_seconds"])
        for name, weight in told["weights"].items()
    }


def _rewarded_otherwise(config: Config, trained: Config) -> str | None:
    """Why the old transitions' rewards or observations do not hold here; None: they do."""
    ours, theirs = _paid_in_a_step(config), _paid_in_a_step(trained)
    if theirs["official"]:
        return "start_from was rewarded for the official score too"
    changed = [n for n in ours if n != "official" and not math.isclose(ours[n], theirs[n])]
    if changed:
        return f"start_from was rewarded otherwise (rewards.{changed[0]})"
    if config.observation.features != trained.observation.features:
        return "start_from saw fewer features"
    return None


def _replay(config: Config, state: dict[str, Any]) -> Replay:
    from booster_ray.rl.replay import Replay
    from booster_ray.train.learner import task_shares

    rows = np.asarray(state["rows"])
    task = np.zeros(rows.shape[1], int)
    if config.world.is_soccer:
        task = rows[0, :, observation.places()["task"]].argmax(axis=1)
    sizes = state["observation_size"], state["action_size"]
    replay = Replay(rows.shape[0] * rows.shape[1], task, *sizes, shares=task_shares(config))
    replay.restore(state)
    return replay
