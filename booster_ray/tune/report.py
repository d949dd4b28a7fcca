"""report.html: the whole sweep on one page that opens without a network."""

from __future__ import annotations

import base64
import gzip
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from booster_ray.soccer.game import TASKS
from booster_ray.tune.leaderboard import (
    METRICS,
    Scores,
    best_scores,
    comparison_rows,
    iqm_text,
    number,
    seeded,
    seeds_text,
    short_names,
    tasks_of,
    value,
)
from booster_ray.tune.records import TrialRecord, finite, rank

if TYPE_CHECKING:
    import optuna

Chart = dict[str, Any]
"""`title`, axis titles `x` and `y`, Plotly `traces` with a colour `slot`, and options that
the page's script reads: `legend`, `zero`, `percent`, `rows`, `xtype`."""
Section = dict[str, Any]
"""`heading`, `size` of its charts (wide, half, third) and `charts`."""

TEMPLATE = Path(__file__).with_name("report.html.j2")
MAX_POINTS = 300
"""Points kept of one curve; more would be pixels upon pixels."""

MAX_CURVES = 30
"""So many trials have a curve each; of more, all but the best are drawn as bands of quantiles."""
BANDS = ((5, 95, 0.2), (25, 75, 0.35))
"""Percentiles between which a band lies, and its opacity."""
BAND_POINTS = 100

STEPS = "control steps"
COLOURS = 6
"""Colours of the page's palette: so many trials stand out."""
MUTED = -1
"""Colour slot of the others."""

NOT_LOSSES = {
    "env_steps",
    "wall_seconds",
    "env_steps_per_second",
    "episode_return",
    "episode_seconds",
    "score",
}


def write_report(
    path: Path,
    title: str,
    records: Iterable[TrialRecord],
    importances: Mapping[str, float],
    comparison: Mapping[str, Scores] | None,
    facts: Mapping[str, str],
) -> None:
    """Write the page at `path`, whole or not at all; its folder is made when missing.

    `comparison` holds the `Scores` under `untrained` and `trained`. `facts` are the lines of
    the header: config digest, seed, versions, machine, wall time, env steps, cost.
    Raises OSError when the page cannot be written; the page that stood there is then intact.
    """
    ranked = rank(records)
    page = _render(
        title=title,
        facts=facts,
        ranked=ranked,
        gated=any(record.gates for record in ranked),
        several=seeded(ranked),
        names=short_names(key for record in ranked for key in record.params),
        tasks=tasks_of(ranked),
        comparison=comparison and comparison_rows(comparison["untrained"], comparison["trained"]),
        metrics=METRICS,
        sections=_sections(ranked, importances),
        failed=[record for record in ranked if record.status == "ERROR" or record.error],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def importances(study: optuna.Study) -> dict[str, float]:
    """Share of each swept parameter in reaching the best quarter of trials (PED-ANOVA), sum 1.

    `{}` with fewer than four completed trials of finite value, when no parameter took two
    values, or when all trials scored the same.
    """
    import optuna

    with _without("sklearn"):
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    trials = [t for t in complete if all(finite(v) is not None for v in t.values)]
    tried = Counter(key for key, _ in {(k, repr(v)) for t in trials for k, v in t.params.items()})
    swept = sorted(key for key, values in tried.items() if values > 1)
    if len(trials) < 4 or not swept or len({tuple(t.values) for t in trials}) < 2:
        return {}
    with warnings.catch_warnings():
        # Experimental, and says so; and small sweeps are our normal case.
        warnings.simplefilter("ignore")
        # A tenth, the default, would be a single trial of a small sweep.
        evaluator = PedAnovaImportanceEvaluator(target_quantile=0.25)
        # Of several objectives the first counts; with a target, PED-ANOVA takes low for good.
        target = (lambda trial: -trial.values[0]) if len(study.directions) > 1 else None
        return get_param_importances(study, evaluator=evaluator, params=swept, target=target)


@contextmanager
def _without(package: str) -> Iterator[None]:
    """Imports inside do not find a package that is not loaded yet.

    Optuna loads scikit-learn for evaluators that are not used here: seconds, and 80 MB.
    """
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]


def _render(**context: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(number=number, value=value, scores=best_scores)
    environment.filters.update(seeds=seeds_text, iqm=iqm_text)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(plotly=packed_plotly(), **context)


def packed_plotly() -> str:
    """Plotly's library, compressed, for the page to unpack: 2 MB of text in place of 4.8."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode("ascii")


def _sections(ranked: Sequence[TrialRecord], importances: Mapping[str, float]) -> list[Section]:
    """Headings with their charts; what has no data is left out."""
    losses = sorted({key for record in ranked for key in record.history.keys} - NOT_LOSSES)
    sections = [
        ("Official score", "wide", [_trials("Mean of the tasks", "score", ranked, legend=True)]),
        (
            "Learning",
            "half",
            [
                _survival(ranked),
                _trials("Episode return (shaped reward)", "episode_return", ranked),
            ],
        ),
        ("Losses", "third", [_trials(key, key, ranked) for key in losses if "/" not in key]),
        ("Parameter importance", "wide", [_importance(importances)]),
        ("Parameters and best score", "third", _slices(ranked)),
    ]
    filled = [(head, size, [c for c in charts if c["traces"]]) for head, size, charts in sections]
    return [{"heading": h, "size": s, "charts": charts} for h, s, charts in filled if charts]


def _chart(title: str, x: str, y: str, traces: list[dict[str, Any]], **more: Any) -> Chart:
    return {"title": title, "x": x, "y": y, "traces": traces, **more}


def _trials(title: str, key: str, ranked: Sequence[TrialRecord], legend: bool = False) -> Chart:
    """A curve a trial, the best six in colour, drawn last so that they lie on top.

    Of very many trials the others are no curves, but bands that most of them lie in.
    """
    known = [(r.trial_id, curve) for r in ranked if len(curve := r.curve(key))]
    single = known if len(known) <= MAX_CURVES else known[:COLOURS]
    traces = [
        _line(name, slot if slot < COLOURS else MUTED, _thinned(curve))
        for slot, (name, curve) in enumerate(single)
    ]
    rest = [curve for _, curve in known[len(single) :]]
    return _chart(title, STEPS, "", [*_bands(rest), *traces[::-1]], legend=legend)


def _bands(curves: Sequence[NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Quantiles over curves at the same control steps; each counts from its first to its last."""
    if not curves:
        return []
    steps = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
    chosen = np.linspace(0, len(steps) - 1, min(BAND_POINTS, len(steps))).round().astype(int)
    steps = steps[np.unique(chosen)]
    values = np.array(
        [np.interp(steps, curve[:, 0], curve[:, 1], np.nan, np.nan) for curve in curves]
    )
    percents = [5, 25, 50, 75, 95]
    known = ~np.isnan(values).all(0)
    steps, found = steps[known], np.nanpercentile(values[:, known], percents, axis=0)
    of = dict(zip(percents, found, strict=True))
    bands = [
        {
            **_line(
                f"{len(curves)} others: {low} to {high} %",
                MUTED,
                np.column_stack([np.r_[steps, steps[::-1]], np.r_[of[low], of[high][::-1]]]),
            ),
            "mode": "lines",
            "fill": "toself",
            "band": opacity,
            "hoverinfo": "skip",
        }
        for low, high, opacity in BANDS
    ]
    median = _line("others: median", MUTED, np.column_stack([steps, of[50]]))
    return [{**trace, "showlegend": True} for trace in (*bands, median)]


def _survival(ranked: Sequence[TrialRecord]) -> Chart:
    best = next((record for record in ranked if record.best_score is not None), None)
    if best is None:
        return _chart("", "", "", [])
    curves = {task: _thinned(best.curve(f"survival/{task}")) for task in TASKS}
    known = [
        _line(task, slot, curves[task]) for slot, task in enumerate(TASKS) if len(curves[task])
    ]
    title = f"Survival of the best trial, {best.trial_id}"
    return _chart(title, STEPS, "seconds", known[::-1], legend=True, zero=True)


def _importance(importances: Mapping[str, float]) -> Chart:
    # Plotly draws bars upwards: the most important comes last.
    names = sorted(importances, key=lambda key: importances[key])
    bars = {
        "type": "bar",
        "orientation": "h",
        "slot": 0,
        "x": [importances[key] for key in names],
        "y": [escape(key) for key in names],
        "hovertemplate": "%{y}: %{x:.0%}<extra></extra>",
    }
    title = "Share in reaching the best quarter of the trials (PED-ANOVA)"
    return _chart(title, "", "", [bars] if names else [], percent=True, rows=len(names))


def _slices(ranked: Sequence[TrialRecord]) -> list[Chart]:
    """Each parameter's values against the best score reached with them."""
    scored = [record for record in ranked if record.best_score is not None]
    keys = dict.fromkeys(key for record in scored for key in record.params)
    return [_slice(key, [record for record in scored if key in record.params]) for key in keys]


def _slice(key: str, records: Sequence[TrialRecord]) -> Chart:
    values = [record.params[key] for record in records]
    numeric = all(finite(v) is not None and not isinstance(v, bool | str) for v in values)
    points = [float(v) for v in values] if numeric else []  # type: ignore[arg-type]
    wide = bool(points) and min(points) > 0 and max(points) > 10 * min(points)
    dots = {
        "type": "scatter",
        "mode": "markers",
        "slot": 0,
        "x": _rounded(points) if numeric else [escape(value(v)) for v in values],
        "y": _rounded(record.best_score or 0.0 for record in records),
        "text": [escape(record.trial_id) for record in records],
        "hovertemplate": "%{text}<br>%{x}: %{y:.3f}<extra></extra>",
    }
    return _chart(
        key, "", "score", [dots], xtype=("log" if wide else "linear") if numeric else "category"
    )


def _line(name: str, slot: int, curve: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "type": "scatter",
        # A lone point has no line to be seen by.
        "mode": "lines+markers" if len(curve) < 30 else "lines",
        "slot": slot,
        # Plotly reads a few tags in its labels.
        "name": escape(name),
        "showlegend": slot != MUTED,
        "x": [int(x) if x.is_integer() else x for x in curve[:, 0].tolist()],
        "y": _rounded(curve[:, 1].tolist()),
    }


def _thinned(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    stride = -(-len(curve) // MAX_POINTS) or 1
    # Counted from the end, so that the newest point is always kept.
    return curve[::-1][::stride][::-1]


def _rounded(values: Iterable[float]) -> list[float]:
    """Six digits are more than a chart shows, and every one is a byte of the page."""
    return [float(f"{value:.6g}") for value in values]
