"""The evaluation as a table in the terminal, JSON, and a page of plots."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from booster_ray.evaluate.play import Episode
from booster_ray.soccer import game
from booster_ray.store.durable import replace_text

BLANK = "–"

ROWS = (
    ("score", "official score", ".2f"),
    ("seconds", "survival, s", ".2f"),
    ("fallen", "fall rate", ".0%"),
    ("success", "success rate", ".0%"),
    ("touched", "touches the ball", ".0%"),
    ("first_touch", "first touch, s", ".2f"),
    ("ball_speed", "ball speed, m/s", ".2f"),
    ("goal_speed", "… of its centre at the goal", ".2f"),
)
"""Metric, its name, its format."""

JSON, PLOTS = "evaluation.json", "evaluation.html"


def table(name: str, summary: dict[str, Any]) -> Table:
    """A column a task: the mean of each metric and, below a line, of each term of the score."""
    tasks = summary["tasks"]
    made = Table(
        title=name,
        caption=_caption(summary),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    made.add_column("")
    for task in tasks:
        made.add_column(_heading(task, tasks[task]), justify="right", no_wrap=True)
    for metric, text, form in ROWS:
        cells = [told(tasks[task][metric], form) for task in tasks]
        style = "bold" if metric == "score" else ""
        made.add_row(text, *cells, style=style, end_section=metric == ROWS[-1][0])
    for term in dict.fromkeys(t for task in tasks for t in tasks[task]["terms"]):
        made.add_row(f"  {term}", *(told(tasks[t]["terms"].get(term), "+.2f") for t in tasks))
    return made


def _heading(task: str, summary: dict[str, Any]) -> str:
    count = summary["episodes"]
    return f"{task}\n{'deterministic' if summary['deterministic'] else f'{count} episodes'}"


def _caption(summary: dict[str, Any]) -> str:
    text = f"means over episodes [{summary['confidence']:.0%} interval]"
    if any(task["deterministic"] for task in summary["tasks"].values()):
        text += "; deterministic: it always starts the same way, so one episode tells all"
    return text


def told(estimate: dict[str, float | None] | None, form: str) -> str:
    """``mean [low, high]``, or as much of it as is known; the mean alone has a plus sign."""
    if estimate is None or estimate["mean"] is None:
        return BLANK
    plain = form.lstrip("+")
    sign = form.removesuffix(plain)
    mean = f"{estimate['mean']:{sign}z{plain}}"  # z: no -0.00
    if estimate["low"] is None or estimate["high"] is None:
        return mean
    return f"{mean} [{estimate['low']:z{plain}}, {estimate['high']:z{plain}}]"


def write(
    directory: Path,
    about: dict[str, Any],
    summary: dict[str, Any],
    episodes: Sequence[Episode],
) -> None:
    """``evaluation.json``: what was played, the summary and every episode; and the plots."""
    directory.mkdir(parents=True, exist_ok=True)
    told_all = {**about, **summary, "each": [e.to_dict() for e in episodes]}
    replace_text(directory / JSON, json.dumps(told_all, indent=2, allow_nan=False) + "\n")
    replace_text(directory / PLOTS, plots(about, summary, episodes))


def plots(about: dict[str, Any], summary: dict[str, Any], episodes: Sequence[Episode]) -> str:
    """A page that stands alone: scores of all episodes, terms of the score, survival."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    tasks = list(summary["tasks"])
    figure = make_subplots(
        rows=1, cols=3, subplot_titles=("official score", "terms of the score", "survival, s")
    )
    for place, value in ((1, "score"), (3, "seconds")):
        for task in tasks:
            mine = [e for e in episodes if e.task == task]
            figure.add_trace(
                go.Box(
                    y=[getattr(e, value) for e in mine],
                    name=task,
                    text=[f"seed {e.seed}" for e in mine],
                    boxpoints="all",
                    boxmean=True,
                    showlegend=False,
                ),
                row=1,
                col=place,
            )
    for term in dict.fromkeys(t for task in tasks for t in summary["tasks"][task]["terms"]):
        heights = [summary["tasks"][task]["terms"].get(term) for task in tasks]
        bars = go.Bar(x=tasks, y=[h["mean"] if h else None for h in heights], name=term)
        figure.add_trace(bars, row=1, col=2)
    figure.update_layout(
        barmode="relative",
        template="plotly_white",
        title=f"{about['target']}, {summary['episodes']} episodes in {about['world']} worlds",
    )
    page: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return page


def extremes(episodes: Sequence[Episode]) -> dict[str, Episode]:
    """The median and the worst episode of each task, by ``task-median`` and ``task-worst``.

    Of a task that was played once ``task-median`` alone; lost episodes cannot be played again.
    """
    chosen = {}
    for task in game.TASKS:
        mine = [e for e in episodes if e.task == task and not e.lost]
        ranked = sorted(mine, key=lambda e: e.score)
        if len(ranked) > 1:
            chosen[f"{task}-worst"] = ranked[0]
        if ranked:
            chosen[f"{task}-median"] = ranked[len(ranked) // 2]
    return chosen
