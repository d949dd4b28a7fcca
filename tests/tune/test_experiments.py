"""One file of many experiments, on a real Ray cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import driving
import pytest
from optuna.trial import TrialState

from booster_ray.config import load
from booster_ray.store.files import CONFIG, SPEC, read_progress, trial_directory

EIGHT = f"""
base: {driving.ROOT}/tune_configs/debug.yaml
name: eight
world: gym:Pendulum-v1
randomization: {{level: 0}}
rewards: {{height: 50.0}}
sac: {{critic_lr: 3e-4, learning_starts: 20000, replay_size: 20000}}
training: {{env_steps: 1200}}
evaluation: {{max_steps: 20, every: 600}}
tune: {{scheduler: none, max_concurrent: 2}}
experiments:
  - name: baseline
  - name: other_seed
    seed: 1
  - name: tau
    sac: {{tau: 0.01}}
  - name: longer
    training: {{env_steps: 1500}}
  - name: wide
    sac: {{actor_hidden: [64], critic_hidden: [64]}}
  - name: grid
    sac: {{discount: {{search: grid, values: [0.9, 0.95]}}}}
    seed: 2
  - name: last
    seed: 3
"""
"""Seven experiments, one of them at two points of a grid: eight trials, in their order below."""
NAMES = ["baseline", "other_seed", "tau", "longer", "wide", "grid", "grid", "last"]


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    driving.clean_up()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "eight.yaml"
    path.write_text(EIGHT)
    return str(path)


def test_a_dry_run_says_what_would_be_run(file: str, tmp_path: Path) -> None:
    done = driving.inside(file, "--dry-run", f"storage={tmp_path / 'x'}")
    assert done.returncode == 0, done.stderr
    first = "trials     8 of 1,500 env steps, 7 experiments, settings on grids: 1, scheduler none"
    assert first in done.stdout
    assert "0000 baseline\n" in done.stdout
    assert "0004 wide sac.actor_hidden=[64] sac.critic_hidden=[64]\n" in done.stdout
    assert "0006 grid sac.discount=0.95 seed=2\n" in done.stdout
    assert not (tmp_path / "x").exists()


def test_what_is_wrong_is_one_line_with_its_place(file: str) -> None:
    done = driving.inside(file, "tune.trials=6")
    assert (done.returncode, done.stdout) == (2, "")
    text = "is 6, expected 8, which experiments give, or no such setting"
    assert done.stderr == f"error: command line: tune.trials: {text}\n"


def test_a_single_run_has_no_experiments(file: str) -> None:
    done = driving.inside(file, module="train")
    assert done.returncode == 2 and "experiments: are run by booster_ray.tune" in done.stderr


@pytest.mark.slow
def test_killed_in_the_middle_eight_trials_end_in_one_report(file: str, tmp_path: Path) -> None:
    sweep = tmp_path / "eight"
    process = driving.start(file, f"storage={tmp_path}")

    def ended() -> list[int]:
        return [n for n in range(8) if (trial_directory(sweep, n) / "verdict.json").exists()]

    def in_the_middle() -> bool:
        assert process.poll() is None, driving.finish(process)
        begun = [n for n in range(8) if driving.checkpoints(sweep, n) and n not in ended()]
        return len(ended()) >= 3 and bool(begun)

    driving.wait_for(in_the_middle)
    driving.kill_all(process.pid)
    process.communicate()
    done = ended()
    assert 3 <= len(done) < 8, "it was to be killed in the middle"
    kept = {n: (trial_directory(sweep, n) / "progress.jsonl").read_bytes() for n in done}
    begun = {
        n: read_progress(trial_directory(sweep, n)) for n in range(8)
        if n not in done and driving.checkpoints(sweep, n)
    }  # fmt: skip

    code, output = driving.run("--resume", "eight", "--storage", str(tmp_path))
    assert code == 0, output
    for number, before in kept.items():
        after = (trial_directory(sweep, number) / "progress.jsonl").read_bytes()
        assert after == before, "an experiment that had ended was run again"
    for number, reports in begun.items():
        saved = [r for r in reports if r["env_steps"] <= 150]
        assert read_progress(trial_directory(sweep, number))[: len(saved)] == saved
    assert [t.state for t in driving.study(sweep)] == [TrialState.COMPLETE] * 8
    specs = [json.loads((trial_directory(sweep, n) / SPEC).read_text()) for n in range(8)]
    assert [spec["params"] for spec in specs] == list(load(file).points)
    assert [spec["params"]["experiment"] for spec in specs] == NAMES
    own = [load(trial_directory(sweep, n) / CONFIG).base() for n in range(8)]
    assert [config.seed for config in own] == [0, 1, 0, 0, 0, 2, 2, 3]
    assert [config.sac.discount for config in own[4:7]] == [own[0].sac.discount, 0.9, 0.95]
    steps = [read_progress(trial_directory(sweep, n))[-1]["env_steps"] for n in range(8)]
    assert steps == [1200, 1200, 1200, 1500, 1200, 1200, 1200, 1200]

    board = json.loads((sweep / "leaderboard.json").read_text())
    assert {row["number"]: row["experiment"] for row in board} == dict(enumerate(NAMES))
    assert all(row["status"] == "TERMINATED" and row["score"] is not None for row in board)
    page, table = (sweep / "report.html").read_text(), (sweep / "leaderboard.md").read_text()
    assert "| trial | experiment | status |" in table.splitlines()[0]
    for number, name in enumerate(NAMES):
        assert f"| {number:04d} | {name} | TERMINATED |" in table
        assert f"{number:04d} {name}" in page, "a curve has no name"
