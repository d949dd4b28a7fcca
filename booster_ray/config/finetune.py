"""Settings of finetuning, and what its schedules say at a given moment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from booster_ray.config.section import (
    REPLAY_RULES,
    Count,
    Fraction,
    Listed,
    Natural,
    Positive,
    Rule,
    Section,
    Widths,
)

Point = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=2, max_length=2), Listed
]
"""(when, value); when: a fraction of the budget up to 1, env steps above."""
Schedule = Annotated[tuple[Point, ...], Field(min_length=1), Listed]
"""Points joined by straight lines, level before the first and after the last."""
Share = Annotated[float, Field(ge=0, lt=1)]


def moment(when: float, budget: int) -> float:
    """Env steps at which a point of a schedule lies, in a run of ``budget`` env steps."""
    return when * budget if when <= 1 else when


def value_at(schedule: Sequence[Sequence[float]], env_steps: int, budget: int) -> float:
    """What a schedule says after ``env_steps`` of ``budget`` env steps."""
    points = [(moment(when, budget), value) for when, value in schedule]
    if env_steps <= points[0][0]:
        return points[0][1]
    for (start, before), (end, after) in pairwise(points):
        if env_steps < end:
            return before + (after - before) * (env_steps - start) / (end - start)
    return points[-1][1]


def _ascending(schedule: Sequence[Sequence[float]], budget: int) -> bool:
    moments = [moment(when, budget) for when, _ in schedule]
    return all(a < b for a, b in pairwise(moments))


class ThawingStage(Section):
    """From when on how much of the actor learns."""

    start: Natural = 0
    """Env steps after the critic's warm-up."""
    layers: Count | None = None
    """Layers that learn, counted from the head; null: all."""
    lr: Fraction = 1e-4
    """Their learning rate."""


class DDPG(Section):
    """DDPG finetuning. The actor's network and the task shares are those of `sac`."""

    critic_hidden: Widths = (256, 256)
    """Widths of each critic's hidden layers."""
    critics: Annotated[int, Field(ge=1, le=2)] = 1
    """2: the lower of two critics makes the targets (clipped double Q, as in TD3)."""
    critic_lr: Fraction = 3e-4
    """Critics' learning rate."""
    critic_warmup: Natural = 10_000
    """Env steps in which the critics learn alone."""
    thawing: Annotated[tuple[ThawingStage, ...], Field(min_length=1), Listed] = (
        ThawingStage(start=0, layers=1, lr=1e-4),
        ThawingStage(start=20_000, layers=2, lr=1e-4),
        ThawingStage(start=50_000, layers=None, lr=1e-4),
    )
    """Stages in which the actor learns, one after the other."""
    dense: Schedule = ((0.0, 1.0), (1.0, 0.1))
    """Factor of the dense reward, as points [when, value] joined by lines; when is a fraction of
    training.env_steps up to 1, env steps above."""
    official: Schedule = ((0.0, 0.1), (1.0, 1.0))
    """Factor of the official score, likewise; rewards.official is the score's own weight."""
    noise: Schedule = ((0.0, 0.1), (1.0, 0.05))
    """Standard deviation of the Gaussian noise on actions, likewise: the mean over the worlds,
    whose own deviations spread evenly from 0 to twice as much."""
    anchor: Schedule = ((0.0, 0.0),)
    """Weight that holds the actor at the policy it began with, or near imitation.demonstrator,
    likewise: of the squared distance of their actions, over the mean |Q|, in the actor's loss
    (from scratch without a demonstrator: none)."""
    target_noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the noise on the targets' actions, cut at ±0.5 (TD3: 0.2)."""
    idle_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Cost of a step in which the trunk stands still."""
    idle_speed: Positive = 0.2
    """Speed over the ground from which a step costs nothing, m/s."""
    smoothness_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the actor's mean squared change from one step to the next, in its loss (CAPS)."""
    discount: Fraction = 0.97
    """Discount per control step."""
    n_step: Count = 1
    """Control steps whose rewards are summed before a critic's value takes over."""
    tau: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Target networks' step towards the networks, per update."""
    batch_size: Count = 512
    """Transitions per gradient update, over all workers."""
    updates_per_step: Count = 2
    """Gradient updates per control step of all worlds."""
    actor_every: Count = 1
    """Critic updates per update of the actor (TD3: 2)."""
    max_grad_norm: Positive | None = 10.0
    """Actor's and critics' gradients are scaled down to this norm; null: never."""
    replay_size: Count = 262_144
    """Replay capacity, transitions, over all workers."""
    learning_starts: Natural = 4096
    """Transitions collected before the first update."""
    pretrain_share: Share = 0.0
    """Part of each batch that is transitions of start_from's own replay, where it kept one and
    was rewarded alike."""
    matmul: Literal["float32", "bfloat16"] = "float32"
    """Precision of matrix products; parameters and optimizers stay in float32."""
    compile: bool = False
    """Compile the update with torch.compile; needs a C++ compiler on a CPU."""

    rules: ClassVar[tuple[Rule, ...]] = (
        *REPLAY_RULES,
        Rule(
            ("thawing",),
            lambda stages: all(a.start < b.start for a, b in pairwise(stages)),
            "thawing has stages out of order, expected each start above the one before",
        ),
    )

    def stage_at(self, env_steps: int) -> ThawingStage | None:
        """The stage that holds after ``env_steps``; None: the actor does not learn."""
        begun = [s for s in self.thawing if env_steps >= self.critic_warmup + s.start]
        return begun[-1] if begun else None


SCHEDULES = (
    "ddpg.dense", "ddpg.official", "ddpg.noise", "ddpg.anchor",
    "imitation.own_share", "imitation.noise", "imitation.lr", "sac.lr_factor",
)  # fmt: skip
"""Every schedule of a config, but those of ``curriculum``."""

SCHEDULE_RULES = tuple(
    Rule(
        (name, "training.env_steps"),
        _ascending,
        f"{name.partition('.')[2]} has points out of order in a run of {{1}} env steps, expected "
        "each later",
    )
    for name in SCHEDULES
)
"""What the schedules owe the budget."""
