import base64
import gzip
import html
import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from plotly.offline import get_plotlyjs

from booster_ray.store.progress import History
from booster_ray.tune.charts import MAX_CURVES, MAX_POINTS
from booster_ray.tune.details import Details, GateNumber, Interruption, Use
from booster_ray.tune.records import SeedRecord, Status, TrialRecord
from booster_ray.tune.report import importances, write_report

optuna.logging.set_verbosity(optuna.logging.WARNING)


def trial(number: int, status: Status = "TERMINATED", error: str | None = None) -> TrialRecord:
    history = [
        {"env_steps": 100.0 * i, "episode_return": i, "critic_loss": 1 / i, "score": number - 1 / i}
        | {"survival/goalie": 0.1 * i, "score/goalie": math.nan}
        for i in range(1, 5)
    ]
    params: dict[str, object] = {
        "sac.actor_lr": 10.0 ** -(number + 2),
        "sac.kind": "<i>" if number else "b",
    }
    return TrialRecord(
        f"t{number}", number, status, params, History(history), 400, None, error, True
    )


def write(path: Path, records: list[TrialRecord], **changes: Any) -> str:
    context: dict[str, Any] = {
        "title": "demo",
        "importances": {},
        "comparison": None,
        "facts": {},
    }
    write_report(path, records=records, **(context | changes))
    return path.read_text(encoding="utf-8")


def charts(page: str) -> dict[str, dict[str, Any]]:
    found = (json.loads(html.unescape(raw)) for raw in re.findall(r'data-chart="([^"]*)"', page))
    return {chart["title"]: chart for chart in found}


def test_the_page_holds_every_part(tmp_path: Path) -> None:
    scores = {"goalie": {"score": -2.125, "survival": 1.0, "fall_rate": 1.0}}
    page = write(
        tmp_path / "new" / "report.html",
        [trial(0), trial(1), trial(2, "ERROR", "ValueError: NaN in critic_loss")],
        importances={"sac.actor_lr": 0.7, "sac.kind": 0.3},
        comparison={"untrained": scores, "trained": scores},
        facts={"seed": "7"},
    )
    body = page.replace("\n", "")
    for part in ("<dt>seed</dt><dd>7</dd>", "-2.12", "NaN in critic_loss", "<title>demo</title>"):
        assert part in body
    drawn = charts(page)
    assert list(drawn) == [
        "Mean of the tasks",
        "Survival of the best trial, t2",
        "Episode return (shaped reward)",
        "critic_loss",
        "Share in reaching the best quarter of the trials (PED-ANOVA)",
        "sac.actor_lr",
        "sac.kind",
        "A line a trial",
    ]
    assert drawn["Mean of the tasks"]["traces"][-1]["name"] == "t2"
    assert drawn["sac.actor_lr"]["xtype"] == "log"
    assert drawn["sac.kind"]["xtype"] == "category"


def test_the_page_needs_no_network_and_inlines_plotly_once(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", [trial(0)])
    (packed,) = re.findall(r'<script type="text/plain" id="plotly">([^<]*)</script>', page)
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", page)
    assert "default-src 'none'" in page


def test_markup_is_text_wherever_it_comes_from(tmp_path: Path) -> None:
    evil = '</script><script>alert(1)</script><b onclick="x">\''
    record = TrialRecord(
        evil,
        0,
        "ERROR",
        {evil: evil},
        History([{"env_steps": 1.0, "score": 1.0, evil.replace("/", ""): 1.0}]),
        1,
        None,
        evil,
        True,
    )
    page = write(
        tmp_path / "report.html",
        [record],
        title=evil,
        importances={evil: 1.0},
        comparison={"untrained": {evil: {}}, "trained": {}},
        facts={evil: evil},
    )
    assert "<b onclick" not in page
    assert "<script>alert" not in page
    # Plotly reads tags in its own labels, so they are escaped once more for it.
    for chart in charts(page).values():
        for trace in chart["traces"]:
            assert "<b" not in json.dumps([trace.get(key) for key in ("name", "text", "x", "y")])


@pytest.mark.parametrize(
    "records", [[], [TrialRecord("a", 0, "PENDING", {}, History(), 1, None, None, False)]]
)
def test_a_sweep_without_reports_has_a_page(tmp_path: Path, records: list[TrialRecord]) -> None:
    page = write(tmp_path / "report.html", records)
    assert "No report yet" in page
    assert charts(page) == {}


def test_curves_are_thinned_keep_the_newest_point_and_heal_restores(tmp_path: Path) -> None:
    steps = [*range(1, 2001), *range(1990, 2011)]
    history = [{"env_steps": float(s), "score": float(i)} for i, s in enumerate(steps)]
    record = TrialRecord("a", 0, "RUNNING", {}, History(history), 1, None, None, True)
    trace = charts(write(tmp_path / "report.html", [record]))["Mean of the tasks"]["traces"][0]
    assert len(trace["x"]) <= MAX_POINTS
    assert trace["x"] == sorted(set(trace["x"]))
    assert (trace["x"][-1], trace["y"][-1]) == (2010, 2020)


def test_a_failed_write_leaves_the_old_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write(path, [trial(0)])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def study_of(points: list[tuple[dict[str, float], float]]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    for params, value in points:
        space = {key: optuna.distributions.FloatDistribution(0, 1) for key in params}
        study.add_trial(
            optuna.trial.create_trial(params=params, distributions=space, value=value)  # type: ignore[arg-type]
        )
    return study


def test_importances_find_the_parameter_that_matters() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = [({"x": i / 20, "y": i * 7 % 20 / 20}, i / 20) for i in range(20)]
        found = importances(study_of(points))
    assert sum(found.values()) == pytest.approx(1)
    assert found["x"] > found["y"]


@pytest.mark.parametrize(
    "points",
    [
        [],
        [({"x": 0.1 * i}, 0.1 * i) for i in range(3)],
        [({"x": 0.5}, 0.1 * i) for i in range(8)],
        [({"x": 0.1 * i}, 1.0) for i in range(8)],
        [({}, 0.1 * i) for i in range(8)],
        [({"x": 0.1 * i}, math.inf) for i in range(8)],
    ],
    ids=["empty", "three trials", "one value", "equal scores", "no parameter", "infinite"],
)
def test_degenerate_studies_have_no_importances(
    points: list[tuple[dict[str, float], float]],
) -> None:
    assert importances(study_of(points)) == {}


def test_importances_with_failed_categorical_and_conditional_parameters() -> None:
    def objective(t: optuna.Trial) -> float:
        kind = t.suggest_categorical("kind", ["a", "b"])
        fixed = t.suggest_int("fixed", 3, 3)
        if t.number % 3 == 0:
            raise optuna.TrialPruned
        return fixed + (t.suggest_float("only_a", 0, 1) if kind == "a" else -1.0)

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=15)
    found = importances(study)
    assert set(found) == {"kind", "only_a"}
    assert all(math.isfinite(v) for v in found.values())


def many(trials: int, reports: int, losses: int = 0) -> list[TrialRecord]:
    """Trial ``n`` reports ``n`` as its score, all the time."""
    extra = {f"loss_{i}": math.pi * i for i in range(losses)}
    return [
        TrialRecord(
            f"{n:04d}", n, "TERMINATED", {"sac.actor_lr": math.pi / (n + 1)},
            History(
                {"env_steps": 10 * i, "score": float(n)}
                | {k: v * i / (n + 1) for k, v in extra.items()}
                for i in range(1, reports + 1)
            ),
            10 * reports, None, None, True,
        )
        for n in range(trials)
    ]  # fmt: skip


def test_the_page_of_many_trials_is_small(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", many(300, 200, losses=14))
    assert len(page.encode()) < 3.5e6
    drawn = charts(page)
    assert len(drawn) == 16
    assert len(drawn["loss_3"]["traces"]) == 9
    assert len(drawn["sac.actor_lr"]["traces"][0]["x"]) == 300


def test_up_to_thirty_trials_have_a_curve_each(tmp_path: Path) -> None:
    few = charts(write(tmp_path / "few.html", many(MAX_CURVES, 3)))["Mean of the tasks"]
    assert [trace["name"] for trace in few["traces"]] == [f"{n:04d}" for n in range(MAX_CURVES)]
    assert not any("band" in trace for trace in few["traces"])


def test_of_more_the_best_have_a_curve_and_the_others_lie_in_bands(tmp_path: Path) -> None:
    page = write(tmp_path / "many.html", many(107, 3))
    bands, middle, median, *best = charts(page)["Mean of the tasks"]["traces"]
    assert [trace["name"] for trace in best] == [f"{n:04d}" for n in range(101, 107)]
    # The others score 0 to 100: a quantile is its percentage.
    assert bands["x"] == [10, 20, 30, 30, 20, 10] and bands["y"] == [5] * 3 + [95] * 3
    assert middle["y"] == [25] * 3 + [75] * 3 and median["y"] == [50] * 3
    assert bands["name"] == "101 others: 5 to 95 %" and bands["band"]


def test_a_band_counts_a_trial_as_far_as_it_got(tmp_path: Path) -> None:
    records = many(107, 3)
    for record in records[:101]:
        reports = list(record.history)
        record.history.clear()
        for report in reports[: 3 if record.number <= 60 else 2]:
            record.history.append(report)
    _, _, median, *_ = charts(write(tmp_path / "many.html", records))["Mean of the tasks"]["traces"]
    assert (median["x"], median["y"]) == ([10, 20, 30], [50, 50, 30])


def details(**changes: Any) -> Details:
    gate = GateNumber(
        "t1", "2 conversion", "largest difference: torque", "2e-4", "at most 0.001", True
    )
    notice = Interruption("t1", "2026-11-28 10:00:00", "preempted", 250, 1.24, "SIGTERM")
    given: dict[str, Any] = {
        "films": {"goalie": b"\x00film"}, "gates": [gate], "interruptions": [notice],
        "use": [Use("t1", 0.875, 1.5, None, None)],
        "config": "name: <demo>\n", "commands": [("Anew", "python -m booster_ray.tune x")],
    }  # fmt: skip
    return Details(**(given | changes))


def test_the_folder_s_details_are_on_the_page(tmp_path: Path) -> None:
    page = write(tmp_path / "report.html", [trial(0), trial(1)], details=details())
    film = base64.b64encode(b"\x00film").decode()
    assert f'src="data:video/mp4;base64,{film}"' in page and "media-src data:" in page
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    for row in (
        ["t1", "2 conversion", "largest difference: torque", "2e-4", "at most 0.001", "yes"],
        ["t1", "2026-11-28 10:00:00", "preempted", "250", "1.2", "SIGTERM"],
        ["t1", "88%", "1.50", "–", "–"],
    ):
        assert any(cells[at : at + len(row)] == row for at in range(len(cells))), row
    assert "<pre>name: &lt;demo&gt;" in page and "python -m booster_ray.tune x" in page
    *_, mark = charts(page)["Mean of the tasks"]["traces"]
    # Halfway between the reports at 200 and 300 steps, which score 1 - 1/2 and 1 - 1/3.
    assert mark["symbol"] == "x" and mark["x"] == [250]
    assert mark["y"] == pytest.approx([(0.5 + 2 / 3) / 2], rel=1e-5)


def test_each_reward_term_of_the_best_trials_has_a_curve(tmp_path: Path) -> None:
    record = trial(0)
    record.history.append({"env_steps": 500.0, "reward/alive": 3.0, "reward/alive/goalie": 1.0})
    drawn = charts(write(tmp_path / "report.html", [record]))
    assert drawn["alive"]["traces"][0]["y"] == [3.0]
    assert "reward/alive" not in drawn and "alive/goalie" not in drawn


def test_parameters_of_several_trials_are_drawn_together(tmp_path: Path) -> None:
    drawn = charts(write(tmp_path / "report.html", [trial(n) for n in range(3)]))
    chart = drawn["A line a trial"]
    assert chart["axes"] == [["actor_lr", "0.0001", "0.01"], ["kind", "&lt;i&gt;", "b"],
                             ["score", "-0.25", "1.75"]]  # fmt: skip
    best = chart["traces"][-1]
    assert best["name"] == "t2" and best["x"] == [0, 1, 2] and best["y"] == [0.0, 0.0, 1.0]
    middle = chart["traces"][-2]
    assert middle["y"] == [0.5, 0.0, 0.5] and middle["text"][0] == "t1, actor_lr 0.001"
    two = charts(write(tmp_path / "two.html", [trial(0), trial(1)]))
    assert "A line a trial" not in two


def test_seeds_are_bars_from_the_lowest_to_the_highest(tmp_path: Path) -> None:
    def run(score: float) -> History:
        return History([{"env_steps": 1.0, "score": score}])

    records = [
        TrialRecord(f"t{n}", n, "TERMINATED", {"x": n}, run(1.0), 1, None, None, True,
                    seeds=2, more=(SeedRecord(run(2.0 + n)),))
        for n in range(2)
    ]  # fmt: skip
    (dots,) = charts(write(tmp_path / "report.html", records))["x"]["traces"]
    assert dots["y"] == [2.0, 1.5]
    assert dots["error_y"]["array"] == dots["error_y"]["arrayminus"] == [1.0, 0.5]
