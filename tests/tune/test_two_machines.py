"""Two machines that share nothing but the storage drive one sweep in turn."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import driving
import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console
from store.s3_server import BUCKET, serving

from booster_ray.config import load
from booster_ray.store import folder
from booster_ray.store.database import sqlite_url
from booster_ray.store.files import PROGRESS, STUDY, SWEEP, trial_directory
from booster_ray.tune.leaderboard import leaderboard_json
from booster_ray.tune.ledger import verdict_of
from booster_ray.tune.sweep import SweepRunner


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


class Machine:
    """A driver on a machine of its own, in this process; trials are played by the test."""

    def __init__(self, disk: Path, storage: str, patch: pytest.MonkeyPatch, *more: str) -> None:
        disk.mkdir(exist_ok=True)
        patch.setenv("TMPDIR", str(disk))
        self.sweep = load("debug", [f"storage={storage}", "name=s", "tune.trials=9", *more])
        self.root = folder.storage_path(storage) / "s"
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / SWEEP).write_text(self.sweep.complete().to_yaml())
        self.runner = SweepRunner(self.sweep, self.root, Console(file=io.StringIO()))
        self.study = self.runner.study

    def play(self, score: float, ends: bool = True) -> int:
        number = self.study.ask()
        directory = trial_directory(self.root, number)
        directory.mkdir(parents=True, exist_ok=True)
        report = {"env_steps": 600, "score": score}
        (directory / PROGRESS).write_text(json.dumps(report) + "\n")
        folder.publish(self.sweep.base(), directory / PROGRESS)
        if ends:
            record = self.runner.record(self.study.trial(number))
            self.study.tell(number, verdict_of(record, ["score"], "COMPLETE"))
        return number

    @property
    def scores(self) -> list[float | None]:
        return [record.best_score for record in self.runner.records()]

    @property
    def board(self) -> list[Any]:
        return leaderboard_json(self.runner.records())


def shown(root: Path) -> list[tuple[int, str, list[float] | None]]:
    study = optuna.load_study(study_name=root.name, storage=sqlite_url(root / STUDY))
    return [(t.number, t.state.name, t.values) for t in study.get_trials()]


def test_neither_machine_forgets_what_the_other_has_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path}/runs"
    one = Machine(tmp_path / "a", url, monkeypatch)
    one.play(7.0), one.play(1.0)
    one.play(3.0, ends=False)
    one.study.flush()
    other = Machine(tmp_path / "b", url, monkeypatch)
    assert other.root != one.root and other.board == one.board
    other.play(0.1)
    assert other.board[0]["score"] == 7.0 and other.scores == [7.0, 1.0, 3.0, 0.1]
    # Back on the first, whose own study.db knows nothing of it.
    back = Machine(tmp_path / "a", url, monkeypatch)
    assert back.board == other.board
    assert [t.params for t in back.study.trials()] == [t.params for t in other.study.trials()]
    told = [*zip(range(4), ["COMPLETE"] * 2 + ["RUNNING", "COMPLETE"], strict=True)]
    assert [row[:2] for row in shown(back.root)] == told
    assert back.study.ask() == 4
    # A disk that was lost, and records that were lost with their trial's machine.
    shutil.rmtree(tmp_path / "b")
    (trial_directory(back.root, 0) / PROGRESS).unlink()
    (
        folder.mirror_of(back.sweep.base(), trial_directory(back.root, 0)) or pytest.fail()
    ).folder.remove(PROGRESS)
    assert Machine(tmp_path / "b", url, monkeypatch).board[0]["score"] == 7.0


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("remote", [False, True])
def test_a_sweep_that_an_earlier_release_wrote_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: bool, fresh: bool
) -> None:
    """It has a study and no ledger; on remote storage a copy of the study."""
    url = f"memory://{tmp_path}/runs" if remote else str(tmp_path)
    old = Machine(tmp_path / "a", url, monkeypatch)
    for score in (7.0, 1.0):
        old.play(score)
    running = old.play(2.0, ends=False)
    params = [old.study.params(n) for n in range(3)]
    old.study.flush()
    for made in old.root.glob("trials/*/[sv]*.json"):  # spec.json, verdict.json
        made.unlink()
        if remote:
            (folder.mirror_of(old.sweep.base(), made.parent) or pytest.fail()).folder.remove(
                made.name
            )
    if remote:
        folder.publish(old.sweep.base(), old.root / STUDY)
    disk = tmp_path / ("b" if fresh else "a")
    for _ in range(2):
        new = Machine(disk, url, monkeypatch)
        assert [t.number for t in new.study.trials(TrialState.RUNNING)] == [running]
        assert [new.study.params(n) for n in range(3)] == params
        assert new.scores == [7.0, 1.0, 2.0] and new.study.trial(0).value == 7.0
    assert new.play(0.5) == 3
    assert len(list(new.root.glob("trials/*/spec.json"))) == 4


QUICK = ("debug", *driving.QUICK, "tune.max_concurrent=2", "name=x", "tune.scheduler=none")


@pytest.fixture(params=["s3", "volume"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Its URL, and the environment in which it leads somewhere."""
    if request.param == "s3":
        with serving() as environment:
            yield f"s3://{BUCKET}/runs", environment
        return
    register = "import fsspec; fsspec.register_implementation('volume', 'volume.Volume')"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(register + "\n")
    path = f"{tmp_path / 'site'}:{driving.ROOT / 'tests' / 'store'}"
    yield f"volume://{tmp_path / 'shared'}", {"PYTHONPATH": path}


@pytest.mark.slow
def test_a_fresh_machine_ends_a_sweep_that_another_began(
    tmp_path: Path, storage: tuple[str, dict[str, str]]
) -> None:
    url, environment = storage

    def on(machine: str, *args: str) -> tuple[list[Any], list[Any]]:
        """The leaderboard and the study that the command leaves on that machine."""
        root = driving.on(tmp_path / machine, "x", *args, **environment)
        return json.loads((root / "leaderboard.json").read_text()), shown(root)

    def known(board: list[Any]) -> dict[int, Any]:
        return {row["number"]: (row["status"], row["score"], row["params"]) for row in board}

    first, told = on("a", *QUICK, f"storage={url}", "tune.trials=2")
    resume = ("--resume", "x", "--storage", url)
    again, shown_there = on("b", *resume)  # complete: nothing is run
    assert known(again) == known(first) and shown_there == told
    more, told = on("b", *resume, "tune.trials=3")
    assert len(more) == 3 and {n: known(more)[n] for n in range(2)} == known(first)
    back, shown_back = on("a", *resume)
    assert known(back) == known(more) and shown_back == told
