"""Gates of a checkpoint, run and shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from booster_ray.evaluate.gates.keys import verdict_key
from booster_ray.evaluate.gates.rounds import EPISODES
from booster_ray.evaluate.play import Progress, silent
from booster_ray.evaluate.target import checkpoint_config, find_checkpoint
from booster_ray.store.gate_results import GateResult, recorded, store

ALL = (1, 2, 3)


def run_gates(
    checkpoint: Path,
    gates: Sequence[int] = ALL,
    *,
    episodes: int = EPISODES,
    world: str = "native",
    impl: str = "auto",
    threads: int = 1,
    progress: Progress = silent,
) -> list[GateResult]:
    """Run some of the gates on a checkpoint; see each of them for what it raises."""
    played: dict[str, Any] = {"episodes": episodes, "world": world, "impl": impl}
    verdicts = []
    for number in gates:
        if number == 1:
            from booster_ray.evaluate.gates.observation import gate1

            verdict = gate1()
        elif number == 2:
            from booster_ray.evaluate.gates.conversion import gate2

            verdict = gate2(checkpoint, progress=progress)
        else:
            from booster_ray.evaluate.gates.transfer import gate3

            verdict = gate3(checkpoint, **played, threads=threads, progress=progress)
        verdicts.append(verdict._replace(key=gate_key(checkpoint, number, **played)))
    return verdicts


def gate_key(
    checkpoint: Path,
    gate: int,
    *,
    episodes: int = EPISODES,
    world: str = "native",
    impl: str = "auto",
) -> Mapping[str, Any]:
    """What a gate's verdict on a checkpoint would be kept under, were it run now and here."""
    settings = {"episodes": episodes, "world": world, "impl": impl} if gate == 3 else {}
    return verdict_key(checkpoint_config(checkpoint), **settings)


def gate(
    trial_dir: Path,
    gates: Sequence[int] = (2, 3),
    *,
    episodes: int = EPISODES,
    threads: int = 1,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run gates on a trial's best checkpoint and write ``gates.json`` beside it.

    What was run on just this checkpoint before, by the same code and in the same way, is not run
    again. Gate 1 is left out by default: it looks at the rules, which all trials share.

    Returns:
        What :func:`booster_ray.store.gate_results.store` writes.
    """
    checkpoint = find_checkpoint(trial_dir)
    played: dict[str, Any] = {"episodes": episodes, "threads": threads, "progress": progress}
    return gate_once(trial_dir, checkpoint, gates, **played)


def gate_once(
    directory: Path,
    checkpoint: Path,
    gates: Sequence[int],
    *,
    episodes: int = EPISODES,
    threads: int = 1,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The same for a checkpoint anywhere, with ``gates.json`` in ``directory``."""

    def known(number: int) -> bool:
        # "Not known yet" too: the same episodes would be played, and tell as little again.
        key = gate_key(checkpoint, number, episodes=episodes)
        return recorded(directory, checkpoint, number, key) is not None

    missing = [number for number in gates if not known(number)]
    verdicts = run_gates(checkpoint, missing, episodes=episodes, threads=threads, progress=progress)
    return store(directory, checkpoint, verdicts)


def show(verdict: GateResult, console: Console) -> None:
    """One gate's table, verdict and advice."""
    table = Table(title=f"Gate {verdict.gate}: {verdict.name}", box=box.SIMPLE_HEAD)
    for heading in ("", "found", "expected", ""):
        table.add_column(heading, overflow="fold")
    for what, found, expected, holds in verdict.rows:
        mark = Text("holds", "green") if holds else Text("FAILS", "bold red")
        mark = Text("not known yet", "yellow") if holds is None else mark
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
    words = {True: "[green]passed[/]", False: "[bold red]FAILED[/]"}
    result = words.get(gate["passed"], "[yellow]not known yet[/]")
    console.print(f"Gate {number} ({gate['name']}) {result}")
    for line in gate["advice"]:
        console.print(f"  {line}", markup=False)
