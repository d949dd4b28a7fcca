"""What a world is, and nothing else is needed to write a new one.

**Shapes.** A world is a batch of ``num_envs`` independent episodes that step together. Every array
leads with that dimension.

**Reset.** ``reset`` starts every episode anew from a seed (native) or from one JAX key a world
(mjx). Equal seeds, or keys, give equal spawns, randomization and noise.

**Tasks.** Each world plays one task at a time; the observation ends in its one-hot. In native
worlds it is fixed, ``tasks[i % len(tasks)]`` in world ``i``; in mjx each reset draws it.

**Ends.** *Terminated* is the game's verdict (or a physics state that was lost): the value beyond is
zero. *Truncated* is time: the value beyond is not zero. Never both. Episodes that end are reset
within the same step: ``observation`` is then the new episode's first, while ``final_observation``
keeps the true last one, which is what a value target may bootstrap from when the episode was
truncated. An episode that ends leaves a record. Where its state was lost, reward and final
observation are zero, and the record says ``lost`` and the worst outcome: who takes means over
episodes must not be told better of a policy that breaks the physics.

**Randomization.** ``level`` says what varies, and how widely (``soccer.randomization.LEVELS``). At
each reset a world draws its own ``Factors`` after its spawn, from its own generator, and keeps them
to the end of the episode. Pushes and sensor noise are no factors: they are drawn in every step.

====================  ===================================  =====================================
where                 native                               mjx
====================  ===================================  =====================================
factors, per world    ``state()["factors"]``, by name;     ``pipeline_state.factors``; None at
                      1 (a delay: 0) at level 0            level 0
where they act        written into the world's own copy    multiplied into the shared model
                      of the model at reset                inside the step
generator             a NumPy one a world, for spawn,      ``info["rng"]``, a key a world, for
                      factors and pushes; one more for     all of them; split in each step and
                      the noise of all                     each reset
====================  ===================================  =====================================

**Randomness** comes from nothing else: no global generator is read or seeded.

**State.** ``state`` and ``restore`` (mjx: ``state_tree`` and ``restored``) carry all that changes,
generators and factors too, as nested dicts of arrays and JSON scalars, so that a restored world
goes on bit for bit. A state that does not fit is a ValueError.

**Bad input** is a ValueError that names the value and what was expected: an unknown task, control
mode, level or impl, a batch too small for its tasks, an action of a wrong shape, or not finite. On
a device a value cannot be refused: there an action that is not finite loses its own world only.

mjx is this contract for ``jax.jit``: pure functions of an explicit state instead of an object.
``mjx.outcome`` gives what ``StepResult`` does, with the records as arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from booster_ray.soccer import game, randomization
from booster_ray.soccer.observation import FEATURES
from booster_ray.soccer.rewards import TERMS

MODES = ("pd", "torque", "newton_metres")
"""What an action may be: joint offsets under PD, fractions of the torque limits, torques."""


def check_arguments(
    tasks: Sequence[str],
    mode: str,
    level: int,
    decimation: int = 1,
    episode_steps: int = game.EPISODE_STEPS,
    weights: Iterable[str] = (),
    features: Iterable[str] = (),
) -> None:
    """Refuse what no world of the game can play; ``weights`` are names of reward terms.

    Raises:
        ValueError: no task or an unknown one; an unknown control mode, randomization level, reward
            term or feature; or a decimation or an episode of no length, or beyond the official.
    """
    unknown = [task for task in tasks if task not in game.TASKS]
    if isinstance(tasks, str) or unknown or not tasks:
        raise ValueError(f"unknown task {unknown or tasks}; expected some of {list(game.TASKS)}")
    if mode not in MODES:
        raise ValueError(
            f"unknown control mode {mode!r}; expected 'pd', 'torque' or 'newton_metres'"
        )
    if level not in range(len(randomization.LEVELS)):
        raise ValueError(f"unknown randomization level {level!r}; expected 0-3")
    if decimation < 1 or not 1 <= episode_steps <= game.EPISODE_STEPS:
        raise ValueError(
            f"decimation is {decimation} and episode_steps {episode_steps}; expected at least 1, "
            f"and 1 to {game.EPISODE_STEPS}"
        )
    for kind, names, known in (
        ("reward term", weights, TERMS),
        ("feature", features, FEATURES),
    ):
        strange = [name for name in names if name not in known]
        if strange:
            raise ValueError(f"unknown {kind} {strange}; expected some of {sorted(known)}")


class WorldError(Exception):
    """A world raised, or broke this contract: one line that names it, and where in its code."""


class StepResult(NamedTuple):
    """Outcome of one control step."""

    observation: np.ndarray
    """float32 (num_envs, observation_size): what the next action answers."""
    final_observation: np.ndarray
    """float32 (num_envs, observation_size): before any reset."""
    reward: np.ndarray
    """float32 (num_envs,): weighted dense terms."""
    terminated: np.ndarray
    """bool (num_envs,): the game ended the episode; its value beyond is zero."""
    truncated: np.ndarray
    """bool (num_envs,): time ended it; its value beyond is not zero."""
    episodes: list[dict[str, float]]
    """One record for each episode that ended: env, task, return, seconds, score; lost (1 or 0),
    where physics can be; of the game also fallen, success, touched, and ``reward.TERM``, the sum
    of weight · term, of each reward term whose weight is not 0."""


class World(Protocol):
    """A batch of auto-resetting episodes."""

    num_envs: int
    observation_size: int
    action_size: int
    task: np.ndarray
    """int32 (num_envs,): index of each world's task."""

    def reset(self, seed: int) -> np.ndarray:
        """Start every episode anew; float32 (num_envs, observation_size)."""
        ...

    def step(self, action: np.ndarray) -> StepResult:
        """Advance one control step. ``action``: (num_envs, action_size) in [-1, 1].

        Raises:
            ValueError: wrong shape, or an action that is not finite.
        """
        ...

    def state(self) -> dict[str, Any]:
        """Everything that changes, as a tree of arrays and JSON scalars."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on exactly where ``state`` was taken; raises ValueError when it does not fit."""
        ...

    def close(self) -> None:
        """Free threads and memory."""
        ...


@runtime_checkable
class Scalable(Protocol):
    """A world whose rewards may weigh more or less in the course of training."""

    def scale_rewards(self, factors: Mapping[str, float]) -> None:
        """Multiply weights of reward terms from now on; a term that is not named counts whole.

        Not a part of :meth:`World.state`: who schedules the factors knows them.
        """
        ...
