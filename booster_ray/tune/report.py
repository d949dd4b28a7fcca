"""report.html: the whole sweep on one page that opens without a network."""

from __future__ import annotations

import base64
import gzip
import os
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from booster_ray.tune.charts import sections
from booster_ray.tune.details import Details
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

HOLDS = {True: "yes", False: "no", None: "not known"}
TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_report(
    path: Path,
    title: str,
    records: Iterable[TrialRecord],
    importances: Mapping[str, float],
    comparison: Mapping[str, Scores] | None,
    facts: Mapping[str, str],
    details: Details | None = None,
) -> None:
    """Write the page at `path`, whole or not at all; its folder is made when missing.

    `comparison` holds the `Scores` under `untrained` and `trained`. `facts` are the lines of
    the header: config digest, seed, versions, machine, wall time, env steps, cost. `details` are
    of the sweep's folder.
    Raises OSError when the page cannot be written; the page that stood there is then intact.
    """
    ranked, details = rank(records), details or Details()
    interrupted: dict[str, list[int]] = {}
    for one in details.interruptions:
        interrupted.setdefault(one.trial, []).append(one.env_steps)
    films = {t: base64.b64encode(film).decode("ascii") for t, film in details.films.items()}
    page = _render(
        title=title,
        facts=facts,
        ranked=ranked,
        gated=any(record.gates for record in ranked),
        several=seeded(ranked),
        named=any(record.experiment for record in ranked),
        names=short_names(key for record in ranked for key in record.settings),
        tasks=tasks_of(ranked),
        comparison=comparison and comparison_rows(comparison["untrained"], comparison["trained"]),
        metrics=METRICS,
        sections=sections(ranked, importances, interrupted),
        details=details,
        gates=[(*row[:-1], HOLDS[row.holds]) for row in details.gates],
        interruptions=[_cells(one, "", "", "", ",.0f", ".1f", "") for one in details.interruptions],
        use=[_cells(one, "", ".0%", ".2f", ".0%", ".2f") for one in details.use],
        films=films,
        failed=[record for record in ranked if record.status == "ERROR" or record.error],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _cells(row: tuple[Any, ...], *forms: str) -> list[str]:
    """A table's row as text; a form is a number's, or empty for what is text."""
    pairs = zip(row, forms, strict=True)
    return [number(cell, form) if form else str(cell) for cell, form in pairs]


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
