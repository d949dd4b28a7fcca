"""Gates of a checkpoint, run and shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from booster_ray.evaluate.play import Progress, silent
from booster_ray.evaluate.target import find_checkpoint
from booster_ray.store.gate_results import GateResult, store, stored

ALL = (1, 2, 3)


def run_gates(
    checkpoint: Path,
    gates: Sequence[int] = ALL,
    *,
    episodes: int = 10,
    world: str = "native",
    impl: str = "auto",
    threads: int = 1,
    progress: Progress = silent,
) -> list[GateResult]:
    """Run some of the gates on a checkpoint; see each of them for what it raises."""
    verdicts = []
    for number in gates:
        if number == 1:
            from booster_ray.evaluate.gates.observation import gate1

            verdicts.append(gate1())
        elif number == 2:
            from booster_ray.evaluate.gates.conversion import gate2

            verdicts.append(gate2(checkpoint))
        else:
            from booster_ray.evaluate.gates.transfer import gate3

            verdicts.append(
                gate3(
                    checkpoint, episodes, world=world, impl=impl, threads=threads,
                    progress=progress,
                )
            )  # fmt: skip
    return verdicts


def gate(
    trial_dir: Path, gates: Sequence[int] = (2, 3), *, episodes: int = 10, threads: int = 1
) -> dict[str, Any]:
    """Run gates on a trial's best checkpoint and write ``gates.json`` beside it.

    What was run on just this checkpoint before is not run again. Gate 1 is left out by default:
    it looks at the rules, which all trials share.

    Returns:
        What :func:`booster_ray.store.gate_results.store` writes.
    """
    checkpoint = find_checkpoint(trial_dir)
    missing = [number for number in gates if stored(trial_dir, checkpoint, number) is None]
    verdicts = run_gates(checkpoint, missing, episodes=episodes, threads=threads)
    return store(trial_dir, checkpoint, verdicts)


def show(verdict: GateResult, console: Console) -> None:
    """One gate's table, verdict and advice."""
    table = Table(title=f"Gate {verdict.gate}: {verdict.name}", box=box.SIMPLE_HEAD)
    for heading in ("", "found", "expected", ""):
        table.add_column(heading, overflow="fold")
    for what, found, expected, holds in verdict.rows:
        mark = Text("holds", "green") if holds else Text("FAILS", "bold red")
        table.add_row(what, found, expected, mark)
    console.print(table)
    for name in verdict.numbers.get("better_than_mjx", ()):
        console.print(f"  better than in MJX, beyond the bound: {name}")
    _result(str(verdict.gate), verdict.to_dict(), console)


def print_stored(told: dict[str, Any], console: Console) -> None:
    """Verdicts and advice of a ``gates.json``."""
    for number, gate in told["gates"].items():
        _result(number, gate, console)


def _result(number: str, gate: dict[str, Any], console: Console) -> None:
    result = "[green]passed[/]" if gate["passed"] else "[bold red]FAILED[/]"
    console.print(f"Gate {number} ({gate['name']}) {result}")
    for line in gate["advice"]:
        console.print(f"  {line}", markup=False)
