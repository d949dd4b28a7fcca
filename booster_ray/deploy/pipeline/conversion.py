"""A version of a model as a torch actor, by way of gate 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from booster_ray.evaluate.gates.conversion import gate2
from booster_ray.evaluate.target import checkpoint_actor
from booster_ray.policy.actor_files import save_actor
from booster_ray.store.gate_results import read, store, stored
from booster_ray.store.model_folder import CHECKPOINT


def convert(files: Path, folder: Path, say: Callable[[str], object]) -> bool:
    """Write ``gates.json`` and, where the gate is passed, ``actor/``; what is there is kept.

    Args:
        files: of the version, verified.
        folder: of what is written.
        say: is given the gate's numbers.

    Returns:
        Whether gate 2 was passed.

    Raises:
        CheckpointError: the policy cannot be converted, or a file of it acts differently.
    """
    source = files / CHECKPOINT
    folder.mkdir(parents=True, exist_ok=True)
    if stored(folder, source, 2) is None:
        store(folder, source, [gate2(source)])
    gate = (read(folder) or {})["gates"]["2"]
    numbers = gate["numbers"]
    found = ", ".join(f"{name} {gap:.1e}" for name, gap in numbers["max_difference"].items())
    verdict = "passed" if gate["passed"] else "FAILED"
    say(f"Gate 2 {verdict}: max |Δ action| over {numbers['states']} states: {found}")
    if gate["passed"] and not (folder / "actor").exists():
        actor = checkpoint_actor(source)
        save_actor(actor.module, folder / "actor", {"config": actor.config.to_dict()})
    return bool(gate["passed"])
