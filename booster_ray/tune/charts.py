"""The charts of report.html, as data for Plotly that the page's script draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape, unescape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from booster_ray.tune.leaderboard import short_names, tasks_of, value
from booster_ray.tune.records import TrialRecord, finite

Chart = dict[str, Any]
"""`title`, axis titles `x` and `y`, Plotly `traces` with a colour `slot`, and options of
the page's script: `legend`, `zero`, `percent`, `rows`, `xtype`, and `axes`: (name, lowest,
highest) of each."""
Section = dict[str, Any]
"""`heading`, `size` of its charts (wide, half, third) and `charts`."""

MAX_POINTS = 300
"""Points kept of one curve; more would be pixels upon pixels."""

MAX_CURVES = 30
"""So many trials have a curve each; of more, all but the best are drawn as bands of quantiles."""
BANDS = ((5, 95, 0.2), (25, 75, 0.35))
"""Percentiles between which a band lies, and its opacity."""
BAND_POINTS = 100

MAX_LINES = 500
"""So many trials, the best, are lines of the parallel coordinates."""

STEPS = "control steps"
COLOURS = 6
"""Colours of the page's palette: so many trials stand out."""
MUTED = -1
"""Colour slot of the others."""

TERM = "reward/"
"""What a metric's name begins with that is a reward term's sum, in the mean episode."""

NOT_LOSSES = {
    "env_steps",
    "wall_seconds",
    "env_steps_per_second",
    "updates_per_second",
    "compile_seconds",
    "episode_return",
    "episode_seconds",
    "score",
}


def sections(
    ranked: Sequence[TrialRecord],
    importances: Mapping[str, float],
    interrupted: Mapping[str, Sequence[int]],
) -> list[Section]:
    """Headings with their charts; what has no data is left out.

    Args:
        ranked: the trials, best first.
        importances: of each swept parameter.
        interrupted: label of a trial -> env steps at which attempts at it ended early.
    """
    losses = sorted({key for record in ranked for key in record.history.keys} - NOT_LOSSES)
    terms = [key for key in losses if key.startswith(TERM) and key.count("/") == 1]
    score = _trials("Mean of the tasks", "score", ranked, legend=True)
    score["traces"] += _marks(score["traces"], interrupted)
    sections = [
        ("Official score", "wide", [score]),
        (
            "Learning",
            "half",
            [
                _of_best("Official score", "score", "", ranked),
                _of_best("Survival", "survival", "seconds", ranked, zero=True),
                _trials("Episode return (shaped reward)", "episode_return", ranked),
            ],
        ),
        (
            "Reward terms: what each pays in an episode, best trials",
            "third",
            [_trials(key.removeprefix(TERM), key, ranked[:COLOURS]) for key in terms],
        ),
        ("Losses", "third", [_trials(key, key, ranked) for key in losses if "/" not in key]),
        ("Parameter importance", "wide", [_importance(importances)]),
        ("Parameters and best score", "third", _slices(ranked)),
        ("Parameters together", "wide", [_parallel(ranked)]),
    ]
    filled = [(head, size, [c for c in charts if c["traces"]]) for head, size, charts in sections]
    return [{"heading": h, "size": s, "charts": charts} for h, s, charts in filled if charts]


def _chart(title: str, x: str, y: str, traces: list[dict[str, Any]], **more: Any) -> Chart:
    return {"title": title, "x": x, "y": y, "traces": traces, **more}


def _trials(title: str, key: str, ranked: Sequence[TrialRecord], legend: bool = False) -> Chart:
    """A curve a trial, the best six in colour, drawn last so that they lie on top.

    Of very many trials the others are no curves, but bands that most of them lie in.
    """
    known = [(r.label, curve) for r in ranked if len(curve := r.curve(key))]
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


def _marks(
    curves: Sequence[dict[str, Any]], interrupted: Mapping[str, Sequence[int]]
) -> list[dict[str, Any]]:
    """Crosses on the coloured curves where an attempt at the trial ended early."""
    marks = []
    for curve in curves:
        steps = [at for at in interrupted.get(unescape(curve["name"]), ()) if at > 0]
        if steps and curve["slot"] != MUTED:
            marks.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "symbol": "x",
                    "slot": curve["slot"],
                    "name": f"interrupted: {curve['name']}",
                    "showlegend": False,
                    "x": steps,
                    "y": _rounded(np.interp(steps, curve["x"], curve["y"]).tolist()),
                }
            )
    return marks


def _of_best(
    title: str, metric: str, unit: str, ranked: Sequence[TrialRecord], **more: Any
) -> Chart:
    """A metric of the best trial, a curve a task."""
    best = next((record for record in ranked if record.best_score is not None), None)
    if best is None:
        return _chart("", "", "", [])
    curves = [(task, _thinned(best.curve(f"{metric}/{task}"))) for task in tasks_of(ranked)]
    known = [
        _line(task, slot if slot < COLOURS else MUTED, curve) | {"showlegend": True}
        for slot, (task, curve) in enumerate(curves)
        if len(curve)
    ]
    title = f"{title} of the best trial, {best.label}"
    return _chart(title, STEPS, unit, known[::-1], legend=True, **more)


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
        "text": [escape(record.label) for record in records],
        "hovertemplate": "%{text}<br>%{x}: %{y:.3f}<extra></extra>",
        **_spread(records),
    }
    return _chart(
        key, "", "score", [dots], xtype=("log" if wide else "linear") if numeric else "category"
    )


def _spread(records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Bars from each trial's lowest seed to its highest; nothing where trials have one."""
    if all(len(record.seed_scores) < 2 for record in records):
        return {}
    scores = [(record.best_score or 0.0, record.seed_scores) for record in records]
    return {
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": _rounded(max(seeds) - mean for mean, seeds in scores),
            "arrayminus": _rounded(mean - min(seeds) for mean, seeds in scores),
        }
    }


def _parallel(ranked: Sequence[TrialRecord]) -> Chart:
    """An axis a swept parameter, and the score; a line a trial, the best six in colour.

    Drawn from plain lines: Plotly's own parallel coordinates need WebGL, which browsers on
    machines without a GPU lack.
    """
    scored = [record for record in ranked if record.best_score is not None][:MAX_LINES]
    shared = [k for k in scored[0].params if all(k in r.params for r in scored)] if scored else []
    swept = [k for k in shared if len({repr(r.params[k]) for r in scored}) > 1]
    if len(scored) < 3 or len(swept) < 2:
        return _chart("", "", "", [])
    names = [*short_names(swept).values(), "score"]
    columns: list[list[object]] = [[r.params[k] for r in scored] for k in swept]
    columns.append([r.best_score for r in scored])
    placed = [_axis(column) for column in columns]
    lines = []
    for at, record in enumerate(scored):
        heights = [places[at] for places, _ in placed]
        values = zip(names, columns, strict=True)
        texts = [f"{record.label}, {name} {value(column[at])}" for name, column in values]
        lines.append(_across(record.label, at if at < COLOURS else MUTED, heights, texts))
    best, rest = lines[:COLOURS], lines[COLOURS:]
    axes = [
        [escape(text) for text in (name, low, high)]
        for name, (_, (low, high)) in zip(names, placed, strict=True)
    ]
    return _chart("A line a trial", "", "", [*_joined(rest), *best[::-1]], legend=True, axes=axes)


def _joined(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines of one colour as one trace with gaps: a page draws hundreds of traces slowly."""
    if not lines:
        return []
    every = {
        name: [item for line in lines for item in (*line[name], None)]
        for name in ("x", "y", "text")
    }
    return [lines[0] | every | {"mode": "lines", "connectgaps": False}]


def _across(
    label: str, slot: int, heights: Sequence[float], texts: Sequence[str]
) -> dict[str, Any]:
    line = _line(label, slot, np.array(list(enumerate(heights)), float))
    hover = "%{text}<extra></extra>"
    return line | {"text": [escape(text) for text in texts], "hovertemplate": hover}


def _axis(values: Sequence[object]) -> tuple[list[float], tuple[str, str]]:
    """Where values lie between an axis's ends (0 to 1), and what stands at these.

    By the logarithm where they span more than a decade; what is no number in its order by name.
    """
    if any(isinstance(v, bool | str) or finite(v) is None for v in values):
        known = sorted({value(v) for v in values})
        last = max(1, len(known) - 1)
        return [known.index(value(v)) / last for v in values], (known[0], known[-1])
    numbers = [float(v) for v in values]  # type: ignore[arg-type]
    low, high = min(numbers), max(numbers)
    if high == low:
        return [0.5] * len(numbers), (value(low), value(high))
    scale = math.log if low > 0 and high > 10 * low else float
    span = scale(high) - scale(low)
    return [(scale(v) - scale(low)) / span for v in numbers], (value(low), value(high))


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
