"""One attempt at a run, in whichever process of whichever machine does the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from booster_ray.config import Config
from booster_ray.store.address import Address, publish_failure, recorded_there
from booster_ray.store.durable import replace_text
from booster_ray.store.failure import last_env_steps
from booster_ray.store.files import CONFIG, STOP_FILE
from booster_ray.train.notices import Source
from booster_ray.train.preemption import train_preemptibly


@dataclass(frozen=True)
class Attempt:
    """What a process must know to make it."""

    config: Config
    """Resolved."""
    address: Address
    """Of the run."""
    id: str
    """In the ledger of attempts."""
    avoid: tuple[str, ...] = ()
    """Machines that cannot work for it, by Ray's ids."""
    anew: bool = False
    """Whether the config takes the place of the one that the run has had."""


After = Callable[[Attempt], object]
"""What is done where a run has come to its end, for example a last measurement."""


def train_here(
    attempt: Attempt,
    report: Callable[[dict[str, Any]], object],
    more_sources: Sequence[Source] = (),
    after: After | None = None,
) -> None:
    """Train in this process, in the folder that the run has on this machine.

    Args:
        attempt: at the run.
        report: gets each report.
        more_sources: of notices, beside those of this machine.
        after: called when the run is finished.

    Raises:
        Preempted: it saved and made way; from its checkpoint it goes on elsewhere.
    """
    config, directory = attempt.config, attempt.address.directory
    with recorded_there(config, directory):
        attempt.address.open_here()
        if attempt.anew:
            replace_text(directory / CONFIG, config.to_yaml())
    stop_file = attempt.address.root / STOP_FILE
    try:
        train_preemptibly(config, directory, stop_file, report, attempt.id, more_sources)
    except Exception:
        publish_failure(config, directory)
        raise
    if after and last_env_steps(directory) >= config.training.env_steps:
        with recorded_there(config, directory):
            after(attempt)
