"""What a population may search; Ray is not imported, so that a wrong config is refused at once."""

from __future__ import annotations

from booster_ray.config import ConfigError, Sweep
from booster_ray.config.errors import choices
from booster_ray.store.remote import is_remote

SEARCHABLE = (
    "rewards.", "sac.actor_lr", "sac.critic_lr", "sac.alpha_lr", "sac.weight_decay",
    "sac.discount", "sac.tau", "sac.target_entropy",
)  # fmt: skip
"""Beginnings of the settings under which another run's checkpoint can go on."""


def check_space(sweep: Sweep) -> None:
    """Refuse settings that a checkpoint cannot go on with when they change, and remote storage.

    Raises:
        ConfigError: one is searched, or checkpoints cannot be copied.
    """
    if sweep.base().tune.scheduler != "pbt":
        return
    if is_remote(sweep.base().storage):
        text = "is remote with tune.scheduler pbt, expected a folder that all machines share"
        raise ConfigError(sweep.source, "storage", text)
    for key in sweep.space:
        if not key.startswith(SEARCHABLE):
            names = (f"{begin}*" if begin.endswith(".") else begin for begin in SEARCHABLE)
            text = f"is searched with tune.scheduler pbt, expected only {choices(names)}"
            raise ConfigError(sweep.source, key, text)
