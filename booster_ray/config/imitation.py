"""Settings of learning from demonstrations."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from booster_ray.config.finetune import Schedule
from booster_ray.config.section import Section, Text


def _import_path(text: str) -> str:
    module, colon, name = text.partition(":")
    if not (colon and name.isidentifier() and all(p.isidentifier() for p in module.split("."))):
        wrong = (
            f"is '{text}', expected module:class, e.g. booster_ray.policy.experts.striker:Striker"
        )
        raise PydanticCustomError("import_path", "{text}", {"text": wrong})
    return text


class Imitation(Section):
    """Pretraining on what a demonstrator would do, in place of SAC's updates (DAgger).

    Finetuning takes from here the demonstrator, towards which `ddpg.anchor` then pulls, and
    `own_share`.
    """

    demonstrator: Annotated[Text, AfterValidator(_import_path)] | None = None
    """Import path, `module:class`, of who is imitated; null: nobody, SAC or DDPG learns alone."""
    own_share: Schedule = ((0.0, 0.0), (0.3, 1.0))
    """Share of the worlds in which the learner acts by itself; in the others the demonstrator
    does, who says in all of them what is to be learned."""
    noise: Schedule = ((0.0, 0.1), (1.0, 0.1))
    """Deviation of the noise on actions, mean over worlds."""
    lr: Schedule = ((0.0, 1e-3), (0.5, 1e-3), (1.0, 3e-5))
    """Learning rate of the actor."""
