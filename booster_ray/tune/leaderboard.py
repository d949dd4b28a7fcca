"""The sweep's result as a terminal table, JSON and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from booster_ray.soccer.game import TASKS
from booster_ray.tune.records import TrialRecord, finite, json_ready, pareto_front, rank

if TYPE_CHECKING:
    from booster_ray.evaluate.intervals import Estimate

Scores = Mapping[str, Mapping[str, float]]
"""Task -> `score` (official), `survival` (mean seconds) and `fall_rate` (0 to 1)."""

BLANK = "–"
ENOUGH = 3
"""Seeds of which an interquartile mean tells more than the mean."""
STYLES = {
    "PENDING": "dim",
    "RUNNING": "cyan",
    "TERMINATED": "green",
    "STOPPED": "yellow",
    "ERROR": "bold red",
    "PAUSED": "magenta",
}
"""rich style of each trial status."""

COLUMNS = 4
"""Tasks that a table on a terminal, or the survival in a file, has room for."""

METRICS = {
    "score": ("score", ".2f"),
    "survival": ("survival s", ".1f"),
    "fall_rate": ("falls", ".0%"),
}
"""Metric of `Scores` -> its heading and number format."""


def leaderboard_table(records: Iterable[TrialRecord]) -> Table:
    """Ranked trials in 80 columns; a task's cell is the official score over the survival in s."""
    ranked = rank(records)
    front = pareto_front(ranked)
    names = short_names(key for record in ranked for key in record.settings)
    table = Table(
        title="Leaderboard",
        caption=_caption(ranked, bool(front)),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("trial\nstatus", overflow="fold")
    tasks = tasks_of(ranked)
    shown = tasks if len(tasks) <= COLUMNS else ()
    for heading in ("score", *(task.replace("_to_", " to\n") for task in shown), "env steps"):
        table.add_column(heading.replace("env ", "env\n"), justify="right", no_wrap=True)
    table.add_column("params", overflow="fold")
    for place, record in enumerate(ranked, start=1):
        table.add_row(
            f"{place}*" if record.number in front else str(place),
            _trial(record),
            Text(_objectives(record, bool(front)), style="bold"),
            *(
                f"{number(scores['score'], '.2f')}\n{number(scores['survival'], '.1f')}"
                for scores in best_scores(record, shown).values()
            ),
            count(record.env_steps),
            Text("\n".join(f"{names[key]} {value(v)}" for key, v in record.settings.items())),
        )
    return table


def _caption(records: Sequence[TrialRecord], both: bool) -> str:
    lines = ["per task: official score, below it the mean survival in seconds"]
    if both:
        lines.append("below the score: robustness; *: on the Pareto front of both")
    if seeded(records):
        lines.append("means over seeds; each seed's score stands below the trial")
    if any(iqm(record) for record in records):
        lines.append("IQM: mean of the middle half of the seeds, with its bootstrap interval")
    return "\n".join(lines)


def seeded(records: Iterable[TrialRecord]) -> bool:
    """Whether trials have several runs, which differ in the seed alone."""
    return any(record.seeds > 1 for record in records)


def iqm(record: TrialRecord) -> Estimate | None:
    """Interquartile mean of the scores of a trial's seeds, with its interval; None of too few.

    The seeds are one group: a policy plays all tasks, so its scores in them are not drawn apart.
    """
    scores = tuple(record.seed_scores)
    return _iqm(scores) if len(scores) >= ENOUGH else None


@lru_cache(maxsize=1024)
def _iqm(scores: tuple[float, ...]) -> Estimate:
    """Drawing anew takes milliseconds, and tables ask several times."""
    # SciPy takes half a second and 50 MB, which a driver shall not hold while trials run.
    from booster_ray.evaluate.intervals import interquartile_mean

    return interquartile_mean([scores])


def _trial(record: TrialRecord) -> Text:
    status = (record.status, STYLES[record.status])
    named = (f"\n{record.experiment}", "bold") if record.experiment else ""
    seeds = f"\n{seeds_text(record)}" if record.seeds > 1 else ""
    gates = f"\ngates: {record.gates}" if record.gates else ""
    return Text.assemble(record.trial_id, named, "\n", status, seeds, gates)


def seeds_text(record: TrialRecord) -> str:
    """How many of a trial's seeds have a score, and each seed's: ``2 of 3 seeds: 1.25 0.50``."""
    scores = " ".join(number(score, ".2f") for score in record.seed_scores)
    return f"{len(record.seed_scores)} of {record.seeds} seeds: {scores}".rstrip(": ")


def iqm_text(record: TrialRecord, join: str = " ") -> str:
    """``1.20 [0.90, 1.45]``; a dash of too few seeds."""
    if (found := iqm(record)) is None:
        return BLANK
    interval = "" if found.low is None else f"{join}[{found.low:.2f},{join}{found.high:.2f}]"
    return f"{found.mean:.2f}{interval}"


def _objectives(record: TrialRecord, both: bool) -> str:
    lines = [number(record.best_score, ".3f")]
    lines += [number(record.objective("robustness"), ".3f")] if both else []
    lines += [f"IQM {iqm_text(record, chr(10))}"] if iqm(record) else []
    return "\n".join(lines)


def leaderboard_json(records: Iterable[TrialRecord]) -> list[dict[str, Any]]:
    """Ranked trials as strict JSON data; what is unknown is None."""
    ranked = rank(records)
    front, tasks = pareto_front(ranked), tasks_of(ranked)
    return [
        {
            "rank": place,
            "trial": record.trial_id,
            "number": record.number,
            **({"experiment": record.experiment} if record.experiment else {}),
            "status": record.status,
            "score": record.best_score,
            **(_seeds(record) if record.seeds > 1 else {}),
            "robustness": record.objective("robustness"),
            "pareto": record.number in front,
            "gates": record.gates,
            "best_env_steps": json_ready(record.best_report.get("env_steps")),
            "env_steps": record.env_steps,
            "target_env_steps": record.target_env_steps,
            "tasks": best_scores(record, tasks),
            "params": json_ready(record.params),
            "checkpoint": record.checkpoint,
            "error": record.error,
        }
        for place, record in enumerate(ranked, start=1)
    ]


def _seeds(record: TrialRecord) -> dict[str, Any]:
    found = iqm(record)
    return {
        "seeds": len(record.seed_scores),
        "target_seeds": record.seeds,
        "seed_scores": [run.history.best_score for run in record.runs],
        "best_seed": record.best_run,
        "iqm": found and {"mean": found.mean, "low": found.low, "high": found.high},
    }


def leaderboard_markdown(records: Iterable[TrialRecord]) -> str:
    """Ranked trials as a Markdown table that ends with a newline."""
    ranked = rank(records)
    front = pareto_front(ranked)
    names = short_names(key for record in ranked for key in record.settings)
    named = any(record.experiment for record in ranked)
    header = ["rank", "trial", *(["experiment"] if named else []), "status", "score"]
    header += ["robustness", "front"] if front else []
    several = seeded(ranked)
    header += ["seeds", "IQM of seeds"] if several else []
    tasks = tasks_of(ranked)
    metrics = ("score", "survival") if len(tasks) <= COLUMNS else ("score",)
    header += [f"{task} {METRICS[metric][0]}" for task in tasks for metric in metrics]
    gated = any(record.gates for record in ranked)
    header += [*(["gates"] if gated else []), "env steps", *names.values()]
    rows = [
        [
            str(place),
            record.trial_id,
            *([record.experiment or BLANK] if named else []),
            record.status,
            number(record.best_score, ".3f"),
            *(_second(record, front) if front else []),
            *([seeds_text(record), iqm_text(record)] if several else []),
            *(
                number(scores[metric], METRICS[metric][1])
                for scores in best_scores(record, tasks).values()
                for metric in metrics
            ),
            *([record.gates or BLANK] if gated else []),
            f"{record.env_steps:,}",
            *(value(record.params[key]) if key in record.params else BLANK for key in names),
        ]
        for place, record in enumerate(ranked, start=1)
    ]
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(map(_markdown_cell, line))} |\n" for line in lines)


def _second(record: TrialRecord, front: set[int]) -> list[str]:
    mark = "*" if record.number in front else ""
    return [number(record.objective("robustness"), ".3f"), mark]


def comparison_table(untrained: Scores, trained: Scores) -> Table:
    """The untrained and the best policy side by side, a row for each task and their mean."""
    table = Table(title="Untrained and best policy", box=box.SIMPLE_HEAD)
    table.add_column("task", no_wrap=True)
    for heading, _ in METRICS.values():
        table.add_column(f"{heading}\nuntrained", justify="right", no_wrap=True)
        table.add_column("\nbest", justify="right", no_wrap=True, style="bold")
    for task, *cells in comparison_rows(untrained, trained):
        table.add_row(Text(task), *cells)
    return table


def comparison_rows(untrained: Scores, trained: Scores) -> list[list[str]]:
    """Rows of text: task, then each of METRICS untrained and best; the last row is the mean."""
    tasks = list(dict.fromkeys((*untrained, *trained)))
    columns = [
        (form, [finite(side.get(task, {}).get(metric)) for task in tasks])
        for metric, (_, form) in METRICS.items()
        for side in (untrained, trained)
    ]
    rows = [
        [task, *(number(values[row], form) for form, values in columns)]
        for row, task in enumerate(tasks)
    ]
    return [*rows, ["mean", *(number(_mean(values), form) for form, values in columns)]]


def tasks_of(records: Iterable[TrialRecord]) -> tuple[str, ...]:
    """The tasks that best reports tell scores of; before there is one, the game's."""
    for record in records:
        for run in record.runs:
            told = [k.removeprefix("score/") for k in run.history.best if k.startswith("score/")]
            if told and not {*told} & {*TASKS}:
                return tuple(told)
    return TASKS


def best_scores(
    record: TrialRecord, tasks: Sequence[str] = TASKS
) -> dict[str, dict[str, float | None]]:
    """`Scores` of the trial's best report, with None for what it lacks; the mean over its seeds."""
    bests = [run.history.best for run in record.runs if run.history.best]
    return {
        task: {
            metric: _mean([finite(best.get(f"{metric}/{task}")) for best in bests])
            for metric in METRICS
        }
        for task in tasks
    }


def short_names(keys: Iterable[str]) -> dict[str, str]:
    """Dotted key -> its shortest trailing part that no other key ends with."""
    parts = {key: key.split(".") for key in keys}

    def tail(key: str) -> str:
        own = parts[key]
        for length in range(1, len(own)):
            if sum(other[-length:] == own[-length:] for other in parts.values()) == 1:
                return ".".join(own[-length:])
        return key

    return {key: tail(key) for key in parts}


def number(value: object, form: str) -> str:
    """The number in format `form`, or a dash when it is not finite."""
    known = finite(value)
    return BLANK if known is None else format(known, form)


def count(steps: float) -> str:
    """A step count in three significant digits: 950, 12.8k, 500k, 1.25M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # 0.9995: what would round up to 1000 belongs to the next suffix.
        if steps >= 0.9995 * size:
            return f"{float(f'{steps / size:.3g}'):g}{suffix}"
    return f"{steps:.0f}"


def value(param: object) -> str:
    """A swept value in three significant digits, or as it is when it is no float."""
    plain = json_ready(param)
    return f"{plain:.3g}" if isinstance(plain, float) else str(plain)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    # A mean over some of the tasks would look better or worse than the policy is.
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _markdown_cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
