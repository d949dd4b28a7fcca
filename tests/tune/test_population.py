"""Population based training: who copies whom, what is copied, and that it survives."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import driving
import numpy as np
import pytest
from optuna.trial import TrialState

from booster_ray.config import Choice, ConfigError, FloatRange, IntRange, load
from booster_ray.store.files import POPULATION, SWEEP, read_progress
from booster_ray.store.progress import History
from booster_ray.store.sweep_mirror import SweepMirror
from booster_ray.tune.ledger import Ledger
from booster_ray.tune.population import (
    PopulationSearch,
    copy_run,
    exploit,
    explore,
    mend_generations,
    read_generations,
)
from booster_ray.tune.records import TrialRecord
from booster_ray.tune.searchable import check_space
from booster_ray.tune.stop import Stop
from booster_ray.tune.study import SweepStudy

SPACE = {
    "a": FloatRange(0.1, 1.0),
    "b": FloatRange(1e-4, 1e-2, log=True),
    "c": IntRange(1, 9),
    "d": Choice((1, True, "x")),
}


def test_the_weakest_quarter_copies_the_strongest() -> None:
    scores = {number: float(number) for number in range(8)} | {8: float("-inf")}
    copied = exploit(scores, np.random.default_rng(0))
    assert set(copied) == {8, 0} and set(copied.values()) <= {6, 7}


@pytest.mark.parametrize(("members", "copies"), [(1, 0), (2, 1), (3, 1), (4, 1), (8, 2)])
def test_nobody_copies_itself(members: int, copies: int) -> None:
    copied = exploit(dict.fromkeys(range(members), 0.0), np.random.default_rng(0))
    assert len(copied) == copies and not set(copied) & set(copied.values())


def test_settings_stay_in_their_space_and_change() -> None:
    params = {"a": 0.9, "b": 2e-4, "c": 9, "d": True}
    rng = np.random.default_rng(0)
    drawn = [explore(SPACE, params, rng) for _ in range(200)]
    for new in drawn:
        assert 0.1 <= new["a"] <= 1 and 1e-4 <= new["b"] <= 1e-2
        assert 1 <= new["c"] <= 9 and isinstance(new["c"], int)
        assert any(new["d"] is value for value in (1, True, "x"))
    for key in SPACE:
        assert len({repr(new[key]) for new in drawn}) > 2
    assert explore(SPACE, params, np.random.default_rng(5)) == explore(
        SPACE, params, np.random.default_rng(5)
    )


def test_a_copy_brings_checkpoints_and_keeps_what_is_the_members_own(tmp_path: Path) -> None:
    for name, step in (("strong", 20), ("weak", 10)):
        run = tmp_path / name
        (run / f"step_{step}").mkdir(parents=True)
        (run / f"step_{step}" / "x").write_text(name)
        (run / f"best_{step}").mkdir()
        for own in ("progress.jsonl", "config.yaml", ".lock"):
            (run / own).write_text(name)
    for _ in range(2):  # again, as after a kill
        copy_run(tmp_path / "strong", tmp_path / "weak")
    weak = {str(p.relative_to(tmp_path / "weak")) for p in (tmp_path / "weak").rglob("*")}
    own = {"best_10", "progress.jsonl", "config.yaml", ".lock"}
    assert weak == {"step_20", "step_20/x"} | own
    assert (tmp_path / "weak" / "step_20" / "x").read_text() == "strong"
    assert (tmp_path / "weak" / "progress.jsonl").read_text() == "weak"


def test_what_a_checkpoint_cannot_go_on_with_is_refused() -> None:
    pbt = ("tune.scheduler=pbt", "tune.perturb_env_steps=300")
    with pytest.raises(ConfigError, match=r"randomization\.level: is searched with .* pbt"):
        check_space(load("debug", pbt))
    check_space(load("debug", [*pbt, "randomization.level=0"]))
    check_space(load("debug"))


THREE = (
    "debug", "randomization.level=0", "tune.scheduler=pbt", "tune.sampler=random",
    "tune.trials=3", "tune.max_concurrent=2", "tune.perturb_env_steps=300",
    "training.env_steps=900",
)  # fmt: skip


@pytest.mark.slow
def test_a_population_ends_the_same_whether_or_not_it_is_killed(tmp_path: Path) -> None:
    code, output = driving.run(*THREE, f"storage={tmp_path}", "name=calm")
    assert code == 0, output
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    generations = read_generations(calm)
    assert [g["until"] for g in generations] == [300, 600, 900]
    assert all(len(g["copied"]) == 1 for g in generations[1:])
    for before, after in itertools.pairwise(generations):
        for number, params in after["params"].items():
            changed = params != before["params"][number]
            assert changed == (number in after["copied"])

    process = driving.start(*THREE, f"storage={tmp_path}", "name=killed")
    driving.wait_for(lambda: len(read_generations(killed)) >= 2 and driving.progress(killed, 0))
    driving.kill_all(process.pid)
    process.communicate()
    code, output = driving.run("--resume", "killed", "--storage", str(tmp_path))
    assert code == 0, output
    assert read_generations(killed) == generations
    scores = [
        [m["score"] for m in driving.progress(sweep, n) if "score" in m]
        for sweep in (calm, killed)
        for n in range(3)
    ]
    assert scores[:3] == scores[3:] and all(len(s) == 4 for s in scores)
    assert [t.state for t in driving.study(killed)] == [TrialState.COMPLETE] * 3
    board = json.loads((calm / "leaderboard.json").read_text())
    last = generations[-1]["params"]
    assert {row["number"]: row["params"] for row in board} == {int(n): last[n] for n in last}


# -- a damaged record ------------------------------------------------------------------------

FOUR = (
    "randomization.level=0", "tune.scheduler=pbt", "tune.trials=4", "tune.perturb_env_steps=300",
    "training.env_steps=900",
)  # fmt: skip


class Population:
    """A sweep's folder whose members are played by the test."""

    def __init__(self, root: Path) -> None:
        (root / "pbt").mkdir(parents=True)
        self.sweep = load("debug", [*FOUR, "name=pbt", f"storage={root}"])
        self.sharing = SweepMirror(self.sweep.base(), root / "pbt")
        self.root = root / "pbt"
        (self.root / SWEEP).write_text(self.sweep.complete().to_yaml())
        self.driver()

    def driver(self) -> None:
        """A new one."""
        ledger = Ledger(self.root)
        ledger.read()
        self.study = SweepStudy(self.sweep, self.root, ledger)
        mend_generations(self.sweep, self.study, self.sharing)
        self.search = PopulationSearch(
            self.study, self.read, self.sharing, self.sweep, lambda: 9, Stop(self.root, print)
        )

    def read(self, number: int) -> TrialRecord:
        history = History(read_progress(self.root / "trials" / f"{number:04d}"))
        return TrialRecord(f"{number}", number, "RUNNING", {}, history, 900, None, None, True)

    def generation(self) -> None:
        """Everyone alive trains to its end; number 3 fails on the way to the second."""
        begun: dict[int, str] = {}
        while isinstance(config := self.search.suggest(f"ray-{len(begun)}"), dict):
            number, until = config["number"], config["until"]
            begun[number] = f"ray-{len(begun)}"
            directory = self.root / "trials" / f"{number:04d}"
            (directory / f"step_{until:012d}").mkdir(parents=True)
            failing = number == 3 and until > 300
            with (directory / "progress.jsonl").open("a") as stream:
                for env_steps in (until - 150, *([] if failing else [until])):
                    score = (number * 7 + env_steps // 150 * 3) % 5
                    stream.write(json.dumps({"env_steps": env_steps, "score": score}) + "\n")
            if failing:
                self.search.ended(number, "FAIL")
                del self.search._numbers[begun.pop(number)]
        for trial_id in begun.values():
            self.search.on_trial_complete(trial_id, {"finished": True})


@pytest.mark.parametrize("ended", [0, 1, 2])
@pytest.mark.parametrize("text", ["", "[]", '[{"until": 300, "par'])
def test_a_damaged_record_is_made_anew_from_what_the_members_reported(
    tmp_path: Path, ended: int, text: str
) -> None:
    population = Population(tmp_path)
    for _ in range(ended):
        population.generation()
    record = population.root / POPULATION
    before = read_generations(population.root)
    assert len(before) == ended + 1
    record.write_text(text)
    with pytest.warns(UserWarning, match=r"population\.json was damaged: made anew"):
        population.driver()
    assert read_generations(population.root) == before
    population.generation()
    assert len(read_generations(population.root)) == min(ended + 2, 3)
