"""Sweeps on a cluster whose machines vanish end as if they had not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import driving
import pytest
from chaos import KINDS, Chaos, Machines
from optuna.trial import TrialState
from remote_chaos import REMOTE_KINDS, Disks, RemoteChaos
from store import s3_server
from train.trees import CLOCKS

from booster_ray.store.attempts import read_attempts

TRIALS, STEPS = 6, 6000
WORK = (
    "debug", f"tune.trials={TRIALS}", "tune.max_concurrent=3", f"training.env_steps={STEPS}",
    "training.report_every=150", "evaluation.every=3000", "checkpoint.every_env_steps=150",
)  # fmt: skip
PLAIN = ("tune.scheduler=none", "tune.sampler=random")
CLEVER = ("tune.scheduler=asha", "tune.sampler=tpe", "tune.grace_env_steps=3000")
MINUTES = 60.0
TIMEOUT = 40 * MINUTES
"""Against hanging; on two idle cores it takes a fifth."""


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A link to the folder of the sweeps."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    return tmp_path / "link"


@pytest.fixture
def machines() -> Iterator[Machines]:
    cluster = Machines()
    yield cluster
    driving.clean_up()
    cluster.kill_everything()


def board(sweep: Path) -> list[dict[str, Any]]:
    """The leaderboard, but for where checkpoints lie."""
    rows = json.loads((sweep / "leaderboard.json").read_text())
    return [{key: value for key, value in row.items() if key != "checkpoint"} for row in rows]


def reports(sweep: Path) -> list[list[dict[str, Any]]]:
    """See :func:`untimed`."""
    return untimed(lambda number: driving.progress(sweep, number))


def untimed(reports_of: Callable[[int], list[dict[str, float]]]) -> list[list[dict[str, Any]]]:
    """All that the trials reported in turn, but for times; a stop reports once more between."""
    timing = {*CLOCKS, "preemption_save_seconds"}
    return [
        [
            {key: value for key, value in report.items() if key not in timing}
            for report in reports_of(number)
            if report["env_steps"] % 150 == 0
        ]
        for number in range(TRIALS)
    ]


def told_once(sweep: Path) -> None:
    """Every trial of the study has ended, with the value that its own records hold."""
    trials = driving.study(sweep)
    assert [t.number for t in trials] == list(range(TRIALS))
    assert [t.state for t in trials] == [TrialState.COMPLETE] * TRIALS
    for trial in trials:
        recorded = driving.progress(sweep, trial.number)
        steps = [report["env_steps"] for report in recorded]
        assert steps == sorted(set(steps)), "a report was recorded twice"
        assert trial.value == max(r["score"] for r in recorded if "score" in r)


def account(chaos: Chaos) -> None:
    made = sum(chaos.made.values())
    print(f"\n{sum(chaos.injected.values())} faults injected:")
    for kind, number in sorted(chaos.injected.items()):
        print(f"  {number:2d} × {kind}")
    print(f"work redone: {chaos.redone:,} of {made:,} env steps ({chaos.redone / made:.1%})")


@pytest.mark.slow
def test_thirty_faults_change_nothing(machines: Machines, storage: Path) -> None:
    kinds = list(Counter(KINDS).elements())
    assert len(kinds) == 30
    calm = Chaos(machines, storage, [*WORK, *PLAIN], "calm", seed=0)
    assert calm.finish(TIMEOUT) == 0, calm.output
    chaos = Chaos(machines, storage, [*WORK, *PLAIN], "chaos", seed=7)
    chaos.disturb(kinds, TIMEOUT)
    assert chaos.finish(TIMEOUT) == 0, chaos.output
    account(chaos)
    told_once(chaos.sweep)
    assert all(made >= STEPS for made in chaos.made.values())
    assert board(chaos.sweep) == board(calm.sweep)
    # Scores of so short a training say little: losses and entropies must agree to the last bit.
    assert reports(chaos.sweep) == reports(calm.sweep)


@pytest.mark.slow
def test_thirty_faults_change_nothing_on_remote_storage(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Machines with disks of their own, which share an S3 server on loopback."""
    kinds = list(Counter(REMOTE_KINDS).elements())
    assert len(kinds) == 30
    with s3_server.serving() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        machines = Disks()
        try:
            calm = Chaos(machines, storage, [*WORK, *PLAIN], "calm", seed=0)
            assert calm.finish(TIMEOUT) == 0, calm.output
            url = f"s3://{s3_server.BUCKET}/chaos"
            chaos = RemoteChaos(machines, url, [*WORK, *PLAIN], "chaos", seed=7)
            chaos.disturb(kinds, TIMEOUT)
            assert chaos.finish(TIMEOUT) == 0, chaos.output
        finally:
            driving.clean_up()
            machines.kill_everything()
        account(chaos)
        for number in range(TRIALS):
            made, told = chaos.reports(number), chaos.verdict(number)
            assert told and told["state"] == "COMPLETE", told
            assert told["values"] == [max(r["score"] for r in made if "score" in r)]
            steps = [report["env_steps"] for report in made]
            assert steps == sorted(set(steps)) and steps[-1] >= STEPS
        assert chaos.board() == board(calm.sweep)
        assert untimed(chaos.reports) == reports(calm.sweep)


@pytest.mark.slow
def test_with_tpe_and_asha_nothing_is_lost_or_told_twice(machines: Machines, storage: Path) -> None:
    kinds = ["worker killed"] * 3 + ["node lost", "SIGTERM", "sweep driver killed"]
    chaos = Chaos(machines, storage, [*WORK, *CLEVER], "clever", seed=3)
    chaos.disturb(kinds, TIMEOUT)
    assert chaos.finish(TIMEOUT) == 0, chaos.output
    account(chaos)
    told_once(chaos.sweep)
    # Who is stopped depends on timing; that it happens at a rung does not.
    assert all(made >= 3000 for made in chaos.made.values())


@pytest.mark.slow
def test_a_drained_node_is_left_in_time(machines: Machines, storage: Path) -> None:
    alone = ("tune.trials=1", "trainer.grace_seconds=10", "checkpoint.every_env_steps=6000")
    chaos = Chaos(machines, storage, [*WORK, *PLAIN, *alone], "drained", seed=0)
    driving.wait_for(lambda: chaos.running() and chaos.made[0] >= 300, TIMEOUT)
    (process,) = machines.trials()
    machines.drain(machines.node_of(process), seconds=12)
    assert chaos.finish(TIMEOUT) == 0, chaos.output
    (attempt,) = read_attempts(chaos.sweep / "trials" / "0000")
    assert (attempt["how"], attempt["text"]) == ("preempted", "Ray drains the node")
    assert chaos.redone == 0


@pytest.mark.slow
def test_a_new_cluster_finishes_what_a_killed_one_began(storage: Path) -> None:
    first = Machines()
    try:
        begun = Chaos(first, storage, [*WORK, *PLAIN], "reborn", seed=0)
        driving.wait_for(lambda: begun.running() and sum(begun.made.values()) >= 2 * STEPS, TIMEOUT)
        driving.kill_all(begun._process.pid)
    finally:
        first.kill_everything()
    begun._process.communicate()
    before = {n: driving.progress(begun.sweep, n) for n in range(TRIALS)}
    finished = [t.number for t in driving.study(begun.sweep) if t.state.is_finished()]
    second = Machines()
    try:
        process = driving.start(
            "--resume", "reborn", "--storage", str(storage), RAY_ADDRESS=second.address
        )
        code, output = driving.finish(process, TIMEOUT)
        assert code == 0, output
    finally:
        driving.clean_up()
        second.kill_everything()
    told_once(begun.sweep)
    for number in finished:
        assert driving.progress(begun.sweep, number) == before[number]
