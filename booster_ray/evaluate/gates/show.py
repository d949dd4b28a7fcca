"""Verdicts for people."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from booster_ray.store.gate_results import GateResult


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
