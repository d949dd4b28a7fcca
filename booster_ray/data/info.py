"""What a dataset holds, as lines of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from booster_ray.data.dataset import TRAIN, VALIDATION, Dataset

Say = Callable[[str], object]


def show(folder: Path, say: Say) -> None:
    """Say what a dataset holds, and that its shards are as they were written.

    Raises:
        ConfigError: there is none, it is unfinished, or a shard is damaged.
    """
    dataset = Dataset(folder)
    dataset.check()
    view, abouts = dataset.opened(), dataset.abouts()
    shards = dataset.shards
    files = f"{len(shards)} shards, SHA-256 as written" if shards else "no checksums"
    size = sum(one["total_steps"] for one in abouts)
    say(f"{folder}: {view.id}, Minari {view.minari_version}; {files}")
    say(f"{len(abouts):,} episodes, {size:,} steps")
    say(f"observation {_space(view.observation_space)}, action {_space(view.action_space)}")
    if settings := dataset.about.get("settings"):
        told = ("features", "gait_frequency", "mode", "decimation", "action_scale")
        say("recorded with " + ", ".join(f"{name} {settings[name]}" for name in told))
    if policy := dataset.about.get("policy"):
        noise = dataset.about.get("noise", 0.0)
        say(f"policy {policy} ({dataset.about['kind']}), noise {noise}")
    if dataset.about and not dataset.about.get("rewards"):
        say("no rewards: for cloning alone")
    for line in table(abouts):
        say(line)


def _space(space: Any) -> str:
    return f"{type(space).__name__}{list(space.shape or ())}"


def table(abouts: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each task: episodes of each part, steps, and means of what is known."""
    lines = []
    for task in sorted({str(one.get("task", "-")) for one in abouts}):
        mine = [one for one in abouts if str(one.get("task", "-")) == task]
        parts = [sum(one["split"] == part for one in mine) for part in (TRAIN, VALIDATION)]
        steps = sum(one["total_steps"] for one in mine)
        text = f"  {task}: {parts[0]:,} + {parts[1]:,} episodes (train + validation)"
        text += f", {steps:,} steps"
        for name in ("score", "return", "success", "fallen", "lost"):
            known = [float(one[name]) for one in mine if name in one]
            text += f", {name} {np.mean(known):.2f}" if known else ""
        lines.append(text)
    return lines
