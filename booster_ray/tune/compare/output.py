"""A comparison in the terminal, as JSON, and as a page that stands alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from booster_ray.evaluate.intervals import CONFIDENCE, interquartile_mean
from booster_ray.evaluate.output import BLANK, told
from booster_ray.evaluate.paired import MEAN, Difference, differences, holm
from booster_ray.evaluate.summary import summarize
from booster_ray.soccer import game
from booster_ray.store.durable import replace_text
from booster_ray.tune.compare.entrant import Entrant, config_differences
from booster_ray.tune.leaderboard import count, value
from booster_ray.tune.records import finite, json_ready

COLUMNS = (*game.TASKS, MEAN)
CURVES = {
    "score": "Official score, mean of the tasks, in training's evaluations",
    **{f"score/{task}": f"Official score, {task}" for task in game.TASKS},
    "episode_return": "Episode return (shaped reward)",
    "env_steps_per_second": "Control steps per second",
}
"""Metrics of reports that are drawn, and their titles."""
JSON, PAGE = "comparison.json", "comparison.html"
SHOWN = 40
"""Settings that the terminal shows; files have all."""


class Comparison:
    """What the tables, the file and the page say, all of it against the first entrant."""

    def __init__(self, entrants: Sequence[Entrant]) -> None:
        self.entrants = list(entrants)

    @cached_property
    def scores(self) -> list[dict[str, dict[str, float | None] | None]]:
        """Of each entrant, by task and ``mean``: mean and interval of the official score.

        Without episodes those of the best report, which have no interval.
        """
        return [_scores(entrant) for entrant in self.entrants]

    @cached_property
    def differences(self) -> list[dict[str, Difference]]:
        """Of each entrant but the first, from the first; empty where episodes are missing."""
        first, *others = self.entrants
        found = [differences(first.episodes, other.episodes) for other in others]
        for key in COLUMNS:
            adjusted = holm({str(i): one[key].p for i, one in enumerate(found) if key in one})
            for i, p in adjusted.items():
                found[int(i)][key] = found[int(i)][key]._replace(p=p)
        return found

    @cached_property
    def settings(self) -> dict[str, list[Any]]:
        """See :func:`~booster_ray.tune.compare.entrant.config_differences`."""
        return config_differences(self.entrants)

    def verdicts(self) -> list[str]:
        """A sentence for each entrant but the first."""
        return [
            _verdict(self.entrants[0].name, other.name, found)
            for other, found in zip(self.entrants[1:], self.differences, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON: all that is told, and every episode."""
        return {
            "confidence": CONFIDENCE,
            "entrants": [_about(*both) for both in zip(self.entrants, self.scores, strict=True)],
            "differences": [
                {key: {**d._asdict(), "estimate": d.estimate._asdict()} for key, d in one.items()}
                for one in self.differences
            ],
            "verdicts": self.verdicts(),
            "settings": json_ready(self.settings),
        }


def _about(entrant: Entrant, scores: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": entrant.name,
        "target": entrant.target,
        "kind": entrant.kind,
        "world": entrant.world,
        "played": entrant.played,
        "scores": scores,
        "learning": learning(entrant),
        "each": [e.to_dict() for e in entrant.episodes],
    }


def _scores(entrant: Entrant) -> dict[str, dict[str, float | None] | None]:
    if entrant.episodes:
        summary = summarize(entrant.episodes)
        by_task = {task: told["score"] for task, told in summary["tasks"].items()}
        return {key: by_task.get(key) for key in game.TASKS} | {MEAN: summary["score"]}
    best = entrant.history.best

    def one(key: str) -> dict[str, float | None] | None:
        known = finite(best.get(key))
        return None if known is None else {"mean": known, "low": None, "high": None}

    return {task: one(f"score/{task}") for task in game.TASKS} | {MEAN: one("score")}


def learning(entrant: Entrant) -> dict[str, Any] | None:
    """JSON of how a run has come along; None without reports."""
    history = entrant.history
    if not history:
        return None
    curve = history.curve("score")
    scores = entrant.repeat_scores
    seeds = interquartile_mean([scores])._asdict() if len(scores) > 2 else None
    told: dict[str, Any] = {
        "env_steps": history.latest("env_steps"),
        "hours": None if (s := history.latest("wall_seconds")) is None else s / 3600,
        "steps_per_second": history.latest("env_steps_per_second"),
        "best_score": history.best_score,
        "best_at": finite(history.best.get("env_steps")),
        "last_score": float(curve[-1, 1]) if len(curve) else None,
        "seed_scores": scores,
        "seeds_iqm": seeds,
    }
    return told


def reached(entrant: Entrant, score: float | None) -> float | None:
    """The control steps after which a run's evaluations first gave this score; None: never."""
    curve = entrant.history.curve("score")
    if score is None or not len(curve):
        return None
    there = curve[curve[:, 1] >= score]
    return float(there[0, 0]) if len(there) else None


def _verdict(first: str, other: str, found: dict[str, Difference]) -> str:
    if MEAN not in found:
        return f"{other} and {first}: no paired test, for episodes of the same seeds are missing"
    mean = found[MEAN]
    low, high, p = mean.estimate.low, mean.estimate.high, mean.p
    if mean.equal == mean.pairs:
        return f"{other} scores exactly as {first} in all {mean.pairs} episodes"
    amount = f"{abs(mean.estimate.mean):.2f} {'more' if mean.estimate.mean > 0 else 'less'}"
    if p is None or low is None or high is None:
        return f"{other} scores {amount} than {first}; the pairs do not show how sure that is"
    sure = f"[{low:+.2f}, {high:+.2f}], p {chance(p)}, {mean.pairs} pairs"
    if p > 1 - CONFIDENCE:
        return f"{other} and {first} cannot be told apart: {amount} {sure}"
    return f"{other} scores {amount} than {first} {sure}"


def chance(p: float | None) -> str:
    """A p-value as papers print it."""
    return BLANK if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _plain(**options: Any) -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, **options)


# -- the terminal ----------------------------------------------------------------------------------


def show(comparison: Comparison, console: Console) -> None:
    """Tables and sentences."""
    console.print(_score_table(comparison))
    if any(comparison.differences):
        console.print(_difference_table(comparison))
    for line in comparison.verdicts():
        console.print(Text(line), soft_wrap=True)
    if any(entrant.history for entrant in comparison.entrants):
        console.print(_learning_table(comparison))
    _show_settings(comparison, console)


def _score_table(comparison: Comparison) -> Table:
    table = _plain(title="Official scores", caption=_caption(comparison.entrants))
    table.add_column("", overflow="fold")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for entrant, scores in zip(comparison.entrants, comparison.scores, strict=True):
        note = "" if entrant.episodes else "\n(training's evaluations)"
        table.add_row(Text(entrant.name + note), *(_told(scores[key], ".2f") for key in COLUMNS))
    return table


def _caption(entrants: Sequence[Entrant]) -> str:
    played = {f"{e.world} worlds" for e in entrants if e.episodes}
    drawn = [
        {e.seed for e in one.episodes if e.task != "goalie"} for one in entrants if one.episodes
    ]
    if not drawn:
        return "of each run's best evaluation; training chose it, so it flatters"
    seeds = sorted(set.union(*drawn))
    text = f", seeds {seeds[0]} to {seeds[-1]}" if seeds else ""
    return f"means [{CONFIDENCE:.0%} interval], {' and '.join(sorted(played))}{text}"


def _difference_table(comparison: Comparison) -> Table:
    first = comparison.entrants[0].name
    table = _plain(title=f"Differences from {first}, seed by seed")
    table.add_column("", overflow="fold")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for other, found in zip(comparison.entrants[1:], comparison.differences, strict=True):
        table.add_row(Text(other.name), *(_cell(found.get(key)) for key in COLUMNS))
    return table


def _cell(found: Difference | None) -> str:
    if found is None:
        return BLANK
    if found.equal == found.pairs:
        return "equal"
    sure = "exact" if found.exact else f"p {chance(found.p)}"
    return f"{_told(found.estimate._asdict(), '+.2f')}\n{sure}"


def _told(estimate: dict[str, float | None] | None, form: str) -> str:
    """A mean above its interval: four of them fit into 80 columns."""
    return told(estimate, form).replace(" [", "\n[")


def _learning_table(comparison: Comparison) -> Table:
    best = comparison.entrants[0].history.best_score
    aim = "" if best is None else f"steps\nto {best:.2f}"
    table = _plain(title="Learning", caption="scores of training's own evaluations")
    for heading in ("", "env\nsteps", "hours", "steps/s", "best\nscore", "at\nstep", "last\nscore"):
        table.add_column(heading, justify="right" if heading else "left", overflow="fold")
    if aim:
        table.add_column(aim, justify="right")
    for entrant in comparison.entrants:
        if (about := learning(entrant)) is None:
            continue
        row = [_steps(about["env_steps"]), _number(about["hours"], ".2f")]
        row += [_number(about["steps_per_second"], ",.0f"), _number(about["best_score"], ".2f")]
        row += [_steps(about["best_at"]), _number(about["last_score"], ".2f")]
        row += [_steps(reached(entrant, best))] if aim else []
        table.add_row(Text(entrant.name + _seeds_note(about)), *row)
    return table


def _seeds_note(about: dict[str, Any]) -> str:
    if len(about["seed_scores"]) < 2:
        return ""
    iqm = f", IQM {told(about['seeds_iqm'], '.2f')}" if about["seeds_iqm"] else ""
    return f"\n{len(about['seed_scores'])} seeds{iqm}"


def _number(known: float | None, form: str) -> str:
    return BLANK if known is None else format(known, form)


def _steps(known: float | None) -> str:
    return BLANK if known is None else count(known)


def _show_settings(comparison: Comparison, console: Console) -> None:
    configs = [entrant for entrant in comparison.entrants if entrant.config]
    if len(configs) < 2:
        return
    if not comparison.settings:
        console.print("Their configs are alike.")
        return
    table = _plain(title="What differs in their configs")
    table.add_column("setting", overflow="fold")
    for entrant in comparison.entrants:
        table.add_column(Text(entrant.name), overflow="fold")
    for key, values in list(comparison.settings.items())[:SHOWN]:
        table.add_row(Text(key), *(Text(BLANK if v is None else value(v)) for v in values))
    console.print(table)
    if (more := len(comparison.settings) - SHOWN) > 0:
        console.print(f"… and {more} more; --output DIR writes all")


# -- files -----------------------------------------------------------------------------------------


def write(directory: Path, comparison: Comparison) -> None:
    """``comparison.json`` and ``comparison.html``, each whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    text = json.dumps(json_ready(comparison.to_dict()), indent=2, allow_nan=False)
    replace_text(directory / JSON, text + "\n")
    replace_text(directory / PAGE, page(comparison))


def page(comparison: Comparison) -> str:
    """The whole comparison as one page, which opens without a network."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(
        Path(__file__).with_name("comparison.html.j2").read_text(encoding="utf-8")
    )
    return template.render(
        title=f"{' and '.join(entrant.name for entrant in comparison.entrants)} compared",
        names=[entrant.name for entrant in comparison.entrants],
        columns=COLUMNS,
        caption=_caption(comparison.entrants),
        scores=[[told(one[key], ".2f") for key in COLUMNS] for one in comparison.scores],
        differences=[[_cell(one.get(key)) for key in COLUMNS] for one in comparison.differences],
        verdicts=comparison.verdicts(),
        settings={
            key: [BLANK if v is None else value(v) for v in values]
            for key, values in comparison.settings.items()
        },
        charts=_charts(comparison),
    )


def _charts(comparison: Comparison) -> list[str]:
    """Divisions of HTML; the first holds Plotly's library."""
    figures = [] if (box_plot := _pairs_figure(comparison)) is None else [box_plot]
    figures += [f for key, title in CURVES.items() if (f := _curves(comparison, key, title))]
    return [
        figure.to_html(
            include_plotlyjs=place == 0,
            full_html=False,
            default_height="340px",
            config={"displaylogo": False, "responsive": True},
        )
        for place, figure in enumerate(figures)
    ]


def _layout(figure: Any, title: str, x: str, y: str) -> Any:
    figure.update_layout(
        title={"text": escape(title), "font": {"size": 14}},
        xaxis_title=x,
        yaxis_title=y,
        template="plotly_white",
        margin={"l": 8, "r": 8, "t": 48, "b": 8},
    )
    return figure


def _curves(comparison: Comparison, key: str, title: str) -> Any:
    """A line for each run; None where no run tells of it."""
    import plotly.graph_objects as go

    known = [
        (entrant.name, curve)
        for entrant in comparison.entrants
        if len(curve := entrant.history.curve(key))
    ]
    if not known:
        return None
    figure = go.Figure()
    for name, curve in known:
        mode = "lines+markers" if len(curve) < 30 else "lines"
        line = go.Scatter(x=curve[:, 0].tolist(), y=curve[:, 1].tolist(), name=escape(name))
        figure.add_trace(line.update(mode=mode))
    return _layout(figure, title, "control steps", "")


def _pairs_figure(comparison: Comparison) -> Any:
    """Scores of all episodes, a box for each entrant and task; None without episodes."""
    import plotly.graph_objects as go

    figure = go.Figure()
    for entrant in comparison.entrants:
        if entrant.episodes:
            figure.add_trace(
                go.Box(
                    x=[e.task for e in entrant.episodes],
                    y=[e.score if math.isfinite(e.score) else None for e in entrant.episodes],
                    text=[f"seed {e.seed}" for e in entrant.episodes],
                    name=escape(entrant.name),
                    boxpoints="all",
                    boxmean=True,
                )
            )
    if not figure.data:
        return None
    figure.update_layout(boxmode="group")
    return _layout(figure, "Official score of each episode", "", "")
