"""Models and their versions as tables in the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from booster_ray.track.registry import Version
from booster_ray.track.versions import CHAMPION, LATEST

BLANK = "–"


def models_table(models: Mapping[str, Sequence[Version]]) -> Table:
    """A row a model: how many versions, the newest, and which is champion."""
    caption = "" if models else "no models yet"
    table = Table(caption=caption, box=box.SIMPLE_HEAD)
    for heading in ("model", "versions", LATEST, CHAMPION):
        table.add_column(heading, overflow="fold")
    for name, versions in models.items():
        newest = str(versions[0].number) if versions else BLANK
        champion = next((str(v.number) for v in versions if CHAMPION in v.aliases), BLANK)
        table.add_row(Text(name), str(len(versions)), newest, champion)
    return table


def versions_table(versions: Sequence[Version]) -> Table:
    """A row a version, the newest first."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("version", "aliases", "stage", "score", "gates", "run", "env steps", "created"):
        table.add_column(heading, overflow="fold")
    for version in versions:
        told = version.tags
        style = {CHAMPION: "bold green"}.get(CHAMPION if CHAMPION in version.aliases else "", "")
        steps = told.get("env_steps", "")
        table.add_row(
            str(version.number),
            Text("\n".join(version.aliases)),
            told.get("stage", BLANK),
            told.get("score", BLANK),
            gates(version),
            Text(" ".join(told[key] for key in ("run", "trial") if key in told) or BLANK),
            f"{int(steps):,}" if steps.isdigit() else BLANK,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(version.created)),
            style=style,
        )
    return table


def gates(version: Version) -> str:
    """``2 3`` (those that passed), ``fail 3``, or a dash."""
    told = {key.removeprefix("gate_"): text for key, text in sorted(version.tags.items())
            if key.startswith("gate_")}  # fmt: skip
    failed = [number for number, text in told.items() if text != "passed"]
    if failed:
        return f"fail {' '.join(failed)}"
    return " ".join(told) or BLANK
