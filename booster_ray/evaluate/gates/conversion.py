"""Gate 2: the package acts in every step as the JAX policy would, in whole episodes.

Not the converted network alone is judged but what is shipped: see
:mod:`booster_ray.evaluate.gates.closed_loop`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from booster_ray.config import Config
from booster_ray.evaluate.gates import closed_loop
from booster_ray.evaluate.gates.closed_loop import Policy
from booster_ray.evaluate.play import Progress, silent
from booster_ray.evaluate.target import Actor, checkpoint_actor
from booster_ray.policy import package
from booster_ray.policy.sai import Rejected, one_thread
from booster_ray.policy.settings import settings_of
from booster_ray.soccer import game
from booster_ray.store.gate_results import GateResult

ACTION_BOUND = 1e-5
TORQUE_BOUND = 1e-3
"""N·m: what ``ACTION_BOUND`` becomes at the default scale (0.5 rad) and gain (200 N·m/rad)."""
OBSERVATION_BOUND = 1e-5
"""Of a number, over its magnitude where that is above 1."""

BOUNDS = {"torque": TORQUE_BOUND, "pd": TORQUE_BOUND, "action": ACTION_BOUND}
BOUNDS |= {"network": ACTION_BOUND, "memory": ACTION_BOUND}
"""By the names of :class:`closed_loop.Gaps`; all others are parts of the observation."""

ORDER = ("memory", "network", "pd", "action", "torque")
"""Causes before effects; parts of the observation come first."""


def gate2(
    checkpoint: Path,
    made: Path | None = None,
    *,
    steps: int = game.EPISODE_STEPS,
    progress: Progress = silent,
) -> GateResult:
    """Let the package of a checkpoint play beside its JAX policy; half a minute.

    Args:
        checkpoint: of a run of the game.
        made: a package of it; None: one is made for this.
        steps: physics steps of an episode, at most.
        progress: shown as it goes.

    Raises:
        CheckpointError: the checkpoint is damaged, or its parts do not fit.
        Rejected: sai_rl would refuse the package.
    """
    actor = checkpoint_actor(checkpoint)
    with tempfile.TemporaryDirectory() as scratch:
        if made is None:
            made = Path(scratch) / "package"
            package.write(made, actor.module, settings_of(actor.config))
        return judge(actor.config, jax_policy(actor), made, steps=steps, progress=progress)


def judge(
    config: Config,
    policy: Policy,
    made: Path,
    *,
    steps: int = game.EPISODE_STEPS,
    progress: Progress = silent,
) -> GateResult:
    """The verdict on one package; code of it that fails is a difference too.

    Args:
        config: of the policy.
        policy: the JAX policy, exact: see :func:`jax_policy`.
        made: the package.
        steps: physics steps of an episode, at most.
        progress: shown as it goes.
    """
    try:
        with one_thread():
            found = closed_loop.play(made, config, policy, steps=steps, progress=progress)
    except Rejected as error:
        row = ("package", "fails", "plays", False)
        return GateResult(2, "conversion", False, {"error": str(error)}, [row], [str(error)])
    gaps = dict(sorted(found["largest"].items(), key=lambda gap: _rank(gap[0])))
    rows = [
        (f"{name}: max |Δ|", f"{gap:.1e}", f"< {_bound(name):.0e}", gap < _bound(name))
        for name, gap in gaps.items()
    ]
    wrong = [name for name, gap in gaps.items() if not gap < _bound(name)]
    numbers = {
        "bounds": {"observation": OBSERVATION_BOUND, **BOUNDS},
        "max_difference": {name: min(gap, UNKNOWN) for name, gap in gaps.items()},
        "differs": wrong,
        **{name: found[name] for name in ("control_steps", "episodes", "resets")},
    }
    return GateResult(2, "conversion", not wrong, numbers, rows, _advice(wrong))


UNKNOWN = 1e9
"""In JSON, a difference that is not finite."""


def _bound(name: str) -> float:
    return BOUNDS.get(name, OBSERVATION_BOUND)


def _rank(name: str) -> int:
    return ORDER.index(name) if name in ORDER else -1


def _advice(wrong: list[str]) -> list[str]:
    if not wrong:
        return []
    first = wrong[0]
    where = {
        "memory": "the module remembers another previous action",
        "network": "the converted network gives other actions for equal observations",
        "pd": "equal actions become other torques: PD gains, pose, scale or limits",
    }
    what = where.get(first, f"the preprocessor tells another {first}")
    return [f"{what} (also off: {', '.join(wrong[1:]) or 'nothing'}): not what was trained"]


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
