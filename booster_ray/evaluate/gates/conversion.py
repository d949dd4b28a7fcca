"""Gate 2: the torch actor acts as the JAX actor does, on states that it meets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from booster_ray.config import Config
from booster_ray.envs.native import NativeWorld
from booster_ray.envs.options import gains, soccer_options
from booster_ray.evaluate.target import Actor, checkpoint_actor
from booster_ray.soccer import game
from booster_ray.store.gate_results import GateResult

BOUND = 1e-5
STATES = 1000
"""Compared states, at least; a third of each task."""
WORLDS = 24
NOISE = 0.3
"""Standard deviation of what is added to actions, so that the states differ."""

Policy = Callable[[np.ndarray], np.ndarray]


def gate2(checkpoint: Path) -> GateResult:
    """Compare on at least ``STATES`` recorded states; half a minute, most of it compiling.

    Raises:
        CheckpointError: the checkpoint is damaged, or its parts do not fit.
    """
    from booster_ray.policy.actor_files import torch_policy

    actor = checkpoint_actor(checkpoint)
    converted = torch_policy(actor.module)
    seen = record(actor.config, converted)
    reference = jax_policy(actor)(seen)
    found = {
        "torch": _gap(converted(seen), reference),
        "package": _gap(packaged_action(actor, seen), reference),
    }
    passed = all(gap < BOUND for gap in found.values())
    rows = [
        (f"{name}: max |Δ action| over {len(seen)} states", f"{gap:.1e}", f"< {BOUND:.0e}",
         gap < BOUND)
        for name, gap in found.items()
    ]  # fmt: skip
    numbers = {"bound": BOUND, "states": len(seen), "max_difference": found}
    advice = ["the conversion is wrong for this network: this is a bug, please report it"]
    return GateResult(2, "conversion", passed, numbers, rows, [] if passed else advice)


def record(config: Config, policy: Policy) -> np.ndarray:
    """Observations (N, obs) of a policy's noisy episodes in native worlds of all three tasks."""
    world = NativeWorld(game.TASKS, WORLDS, gains(config), **soccer_options(config))
    rng, kept = np.random.default_rng(0), []
    try:
        seen = world.reset(0)
        for _ in range(-(-STATES // WORLDS)):
            kept.append(np.array(seen))  # JAX's arrays cannot be written, which torch minds
            action = policy(kept[-1])
            noisy = action + NOISE * rng.standard_normal(action.shape)
            seen = world.step(np.clip(noisy, -1, 1)).observation
    finally:
        world.close()
    return np.concatenate(kept)


def jax_policy(actor: Actor) -> Policy:
    """The greedy JAX policy of a checkpoint; of a finetuned one, its way back into JAX.

    Always in true float32: a policy that learned with ``matmul: bfloat16``, or on a GPU whose
    default is TF32, is played without their rounding, so that a gate measures the conversion and
    not the rounding of its training.

    Raises:
        CheckpointError: the networks do not fit the config.
    """
    import jax

    from booster_ray.envs.make import sizes
    from booster_ray.policy.convert import to_jax
    from booster_ray.rl.sac.learner import Sac
    from booster_ray.rl.tree import from_tree, to_tree
    from booster_ray.store.checkpoint import CheckpointError

    # Its mirror is for updates alone, which are not made here.
    plain = {"matmul": "float32", "devices": 1, "symmetry": "none"}
    learner = Sac(actor.config.sac.model_copy(update=plain), *sizes(actor.config))
    state = learner.init(actor.config.seed)
    try:
        tree = to_tree(state)
        # Only what acts: other optimizers' states do not matter here.
        own = {k: v for k, v in actor.learner.items() if k.startswith(("actor.params", "norm"))}
        tree = tree | own if "actor.params.Dense_0.kernel" in own else to_jax(actor.module, tree)
        state = from_tree(state, tree)
    except ValueError as error:
        raise CheckpointError(str(error)) from None

    def policy(observation: np.ndarray) -> np.ndarray:
        with jax.default_matmul_precision("highest"):
            return np.asarray(learner.act_mean(state, observation))

    return policy


def packaged_action(actor: Actor, observation: np.ndarray) -> np.ndarray:
    """What the package's module, as TorchScript, acts. (N, obs) → (N, 12)."""
    import torch

    from booster_ray.policy.played import Played, WithAction, script
    from booster_ray.policy.settings import settings_of

    module = script(WithAction(Played(actor.module, settings_of(actor.config))).eval())
    told = np.concatenate([observation, np.zeros((len(observation), 24), np.float32)], axis=1)
    with torch.no_grad():
        action: np.ndarray = module(torch.from_numpy(told))[1].numpy()
    return action


def _gap(ours: np.ndarray, theirs: np.ndarray) -> float:
    difference = np.abs(ours - theirs)
    return float(difference.max()) if np.isfinite(difference).all() else float("inf")
